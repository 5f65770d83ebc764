"""Manifests become samples; what cannot be trained on is named, counted and left out."""

from __future__ import annotations

import shutil

import pytest
import torch

from nontrivial.manifests.errors import BadInput, ManifestError
from nontrivial.manifests.left_out import LeftOut
from nontrivial.models import inputs
from nontrivial.models.inputs import load_media
from nontrivial.train.data import (
    BYTES,
    PIXELS,
    Samples,
    StandIns,
    collate,
    read_manifests,
    with_pixels,
)
from nontrivial.train.options import DataOptions
from nontrivial.train.preflight import check_media
from tests import rows
from tests.train.conftest import pairs, videos


@pytest.fixture
def encode(make_encoder):
    return make_encoder(nframes=4)


def test_only_train_rows_are_used_and_the_others_counted(write_manifest):
    others = pairs(5, split="test", group="someone else")[3:]
    samples = read_manifests([write_manifest(pairs(3) + others), write_manifest(videos(2), "v")])
    assert [row["id"] for row in samples.rows] == [
        "pair-0", "pair-1", "pair-2", "video-0", "video-1",
    ]  # fmt: skip
    assert samples.other_splits == 2


def test_the_media_root_given_wins_over_the_recorded_one(write_manifest, media_root):
    path = write_manifest(pairs(1))
    assert read_manifests([path]).rows[0]["media_root"] == str(media_root)
    assert read_manifests([path], media_root="/elsewhere").rows[0]["media_root"] == "/elsewhere"


def test_an_id_in_two_manifests_is_refused(write_manifest):
    paths = [write_manifest(pairs(2), "a"), write_manifest(pairs(1), "b")]
    with pytest.raises(BadInput, match=r"b\.parquet: id 'pair-0' is already in .*a\.parquet"):
        read_manifests(paths)


def test_a_glob_without_match_and_a_file_that_is_no_manifest_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="matched nothing"):
        read_manifests([str(tmp_path / "*.parquet")])
    other = tmp_path / "other.parquet"
    other.write_bytes(b"no parquet")
    with pytest.raises(BadInput, match=r"other\.parquet"):
        read_manifests([str(other)])


def test_a_manifest_of_which_nothing_is_left_is_refused(write_manifest, tmp_path):
    (tmp_path / "ids.txt").write_text("pair-0\npair-1")
    excluded = LeftOut(str(tmp_path / "ids.txt"))
    with pytest.raises(
        BadInput, match=r"none of 2 rows has split 'train' and is left by --exclude .*ids"
    ):
        read_manifests([write_manifest(pairs(2))], excluded=excluded)


def test_a_manifest_without_train_rows_is_refused(write_manifest):
    with pytest.raises(BadInput, match="none of 2 rows has split 'train'"):
        read_manifests([write_manifest(pairs(2, split="test"))])


def test_an_answer_beyond_its_options_names_file_row_and_column(tmp_path, media_root):
    import pyarrow.parquet as pq

    from nontrivial.manifests.schema import METADATA_KEY, samples_table

    table = samples_table([*pairs(1), rows.reid_pair("bad", answer=["D"])])
    path = tmp_path / "bad.parquet"
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: b"{}"}), path)
    with pytest.raises(ManifestError, match=r"bad\.parquet: row 'bad': column 'answer'"):
        read_manifests([str(path)])


def test_damaged_media_are_listed_and_the_other_samples_stay(with_root, media_root, tmp_path):
    root = tmp_path / "media"
    shutil.copytree(media_root, root)
    (root / "1.jpg").unlink()
    (root / "2.jpg").write_bytes((root / "2.jpg").read_bytes()[:200])
    (root / "1.mp4").write_bytes(b"")
    escape = rows.reid_pair("escape", images=[rows.media("../../etc/passwd"), rows.media("0.jpg")])
    complete = [
        row | {"media_root": str(root)} for row in with_root([*pairs(4), *videos(2), escape])
    ]
    found = check_media(Samples(complete), DataOptions(max_bad=0.9))
    assert [row["id"] for row in found.rows] == ["pair-2", "pair-3", "video-0"]
    reasons = dict(found.damaged)
    assert sorted(reasons) == ["escape", "pair-0", "pair-1", "video-1"]
    assert "1.jpg" in reasons["pair-0"]
    assert "2.jpg" in reasons["pair-1"]
    assert "1.mp4" in reasons["video-1"]
    assert "outside its root" in reasons["escape"]
    with pytest.raises(BadInput, match="4 of 7 samples have damaged media"):
        check_media(Samples(complete), DataOptions())


def test_encoded_prompts_are_kept_within_their_memory(with_root, make_encoder):
    first, second, third = with_root(pairs(3))
    roomy = make_encoder(media_cache_mb=64)
    assert roomy([first])[0] is roomy([second, first])[1]
    none = make_encoder(media_cache_mb=0)
    before = none([first, first])
    assert before[0] is before[1]
    assert none([first])[0] is not before[0]
    assert torch.equal(none([third])[0]["image_bytes"], roomy([third])[0]["image_bytes"])


def test_a_prompt_that_does_not_fit_is_refused_by_name(with_root, make_encoder):
    encode = make_encoder(longest=50)
    with pytest.raises(BadInput, match=r"video-0: its prompt takes \d+ tokens"):
        encode(with_root(videos(1)))


@pytest.mark.parametrize("sample", [pairs(1), videos(1)], ids=["image", "video"])
def test_max_pixels_makes_prompts_shorter(with_root, make_encoder, sample):
    lengths = []
    for pixels in (None, 4 * 28 * 28):
        encode = make_encoder(max_pixels=pixels)
        lengths.append(encode(with_root(sample))[0]["input_ids"].shape[1])
    assert lengths[1] < lengths[0]


@pytest.mark.parametrize("sample", [pairs(1), videos(1)], ids=["image", "video"])
def test_min_pixels_makes_prompts_longer(with_root, make_encoder, sample):
    lengths = []
    for pixels in (None, 16 * 28 * 28):
        encode = make_encoder(min_pixels=pixels)
        lengths.append(encode(with_root(sample))[0]["input_ids"].shape[1])
    assert lengths[1] > lengths[0]


def test_limits_that_contradict_each_other_are_refused():
    with pytest.raises(BadInput, match="--min_pixels 200 is more than --max_pixels 100"):
        _ = DataOptions(min_pixels=200, max_pixels=100).limits


def test_a_batch_holds_each_prompts_own_tokens_and_media(encode, with_root):
    prompts = encode(with_root(pairs(2) + videos(1)))
    batch = collate(prompts, pad_token_id=7)
    for row, prompt in enumerate(prompts):
        length = prompt["input_ids"].shape[1]
        assert torch.equal(batch["input_ids"][row, -length:], prompt["input_ids"][0])
        assert (batch["input_ids"][row, :-length] == 7).all()
        assert batch["attention_mask"][row].sum() == length
    *pairs_, clip = map(with_pixels, prompts)
    assert torch.equal(batch["pixel_values"], torch.cat([p["pixel_values"] for p in pairs_]))
    assert torch.equal(batch["pixel_values_videos"], clip["pixel_values_videos"])


@pytest.mark.parametrize("sample", [pairs(1), videos(1)], ids=["image", "video"])
@pytest.mark.parametrize("of_qwen", [False, True])
def test_bytes_give_back_the_very_pixels(with_root, make_encoder, real_processor, sample, of_qwen):
    """Of the tiny policy's processor, and of Qwen2.5-VL's own."""
    encoder = make_encoder(nframes=4, min_pixels=40 * 28 * 28)
    if of_qwen:
        encoder.processor = encoder._own = real_processor()
    [row] = with_root(sample)
    images, clips = load_media(row, row["media_root"], encoder.options)
    limits = encoder.options.limits
    plain = inputs.encode(encoder.processor, [row["prompt"]], [images], [clips], **limits)
    [prompt] = encoder([row])
    found = with_pixels(prompt)
    [kind] = [kind for kind, raw in BYTES.items() if raw in prompt]
    assert PIXELS[kind] not in prompt
    assert torch.equal(found[PIXELS[kind]], plain[PIXELS[kind]])


def test_a_clip_keeps_its_real_frame_rate(encode, with_root):
    """Twelve frames at 12 a second, four of them sampled: a grid of two frames covers 0.5 s."""
    [prompt] = encode(with_root(videos(1)))
    torch.testing.assert_close(prompt["second_per_grid_ts"], torch.tensor([0.5]), atol=0.01, rtol=0)


def test_stand_ins_are_for_what_a_batch_lacks_and_the_run_has(encode, with_root):
    pair, video = with_root(pairs(1) + videos(1))
    of_both = StandIns(encode, [pair, video])
    [blank] = of_both(encode([video]))
    assert blank["image_bytes"].unique().tolist() == [0]
    assert [sorted(prompt) for prompt in of_both(encode([pair]))] == [sorted(encode([video])[0])]
    assert of_both(encode([pair, video])) == []
    assert StandIns(encode, [pair])(encode([pair])) == []
    assert StandIns(encode, [])(encode([pair])) == []
