"""Media are decoded once; what was whole is remembered, what changed or went away is named."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
from PIL import Image

from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.guarded import guarded
from nontrivial.manifests.runs import JsonLines
from nontrivial.train import preflight
from nontrivial.train.data import Samples, Stock
from nontrivial.train.options import DataOptions
from nontrivial.train.preflight import check_media
from tests import rows
from tests.train.conftest import pairs, videos


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NONTRIVIAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "whole_media.sqlite"


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that are decoded."""
    names = []

    def watched(function, items, threads):
        for item in items:
            names.extend(str(media["path"]) for media in [*item["images"], *item["videos"]])
        return guarded(function, items, threads)

    monkeypatch.setattr(preflight, "guarded", watched)
    return names


@pytest.fixture
def world(with_root, media_root, tmp_path):
    """Samples in a folder of their own."""
    root = tmp_path / "media"
    shutil.copytree(media_root, root)
    rows = [row | {"media_root": str(root)} for row in with_root(pairs(3) + videos(2))]
    return rows, root


def test_a_second_start_decodes_only_what_changed(cache, decoded, world):
    samples, root = world
    check_media(Samples(samples), DataOptions())
    assert sorted(decoded) == [
        "0.jpg",
        "0.mp4",
        "1.jpg",
        "1.mp4",
        "2.jpg",
        "3.jpg",
        "4.jpg",
        "5.jpg",
    ]
    decoded.clear()
    check_media(Samples(samples), DataOptions())
    assert decoded == []
    os.utime(root / "3.jpg")
    check_media(Samples(samples), DataOptions())
    assert decoded == ["3.jpg"]
    decoded.clear()
    check_media(Samples(samples), DataOptions(nframes=4))  # others than those that decoded
    assert sorted(decoded) == ["0.mp4", "1.mp4"]


def test_what_went_away_is_named_although_it_was_whole(cache, world):
    samples, root = world
    check_media(Samples(samples), DataOptions())
    (root / "1.mp4").unlink()
    found = check_media(Samples(samples), DataOptions(max_bad=0.5))
    [(name, reason)] = found.damaged
    assert name == "video-1"
    assert "1.mp4" in reason


def test_damaged_files_are_not_remembered(cache, decoded, world):
    samples, root = world
    (root / "0.mp4").write_bytes(b"")
    for _ in range(2):
        decoded.clear()
        assert len(check_media(Samples(samples), DataOptions(max_bad=0.5)).damaged) == 1
    assert decoded == ["0.mp4"]


def test_embedded_media_are_remembered_by_their_bytes(cache, decoded, with_root, media_root):
    def embedded(number: int) -> dict:
        data = (media_root / f"{number}.jpg").read_bytes()
        return {"bytes": data, "path": "x.jpg"}

    def check(*numbers: int) -> int:
        pair = rows.reid_pair("p", images=[embedded(number) for number in numbers])
        decoded.clear()
        check_media(Samples(with_root([pair])), DataOptions())
        return len(decoded)

    assert [check(0, 1), check(0, 1), check(0, 2)] == [2, 0, 1]


def crashing(item, view):
    """End the process at one file, as a decoder might."""
    if item["videos"] and item["videos"][0]["path"] == "1.mp4":
        signal.raise_signal(signal.SIGSEGV)


def test_a_file_that_crashes_the_decoder_is_a_damaged_one(cache, world, monkeypatch):
    monkeypatch.setattr(preflight, "why_unreadable", crashing)
    checked = check_media(Samples(world[0]), DataOptions(max_bad=0.5))
    assert checked.damaged == [("video-1", "1.mp4: the decoder crashed (SIGSEGV)")]
    assert len(checked.rows) == 4


def test_less_can_be_checked(cache, decoded, world, monkeypatch):
    samples, root = world
    (root / "0.mp4").write_bytes(b"")
    assert check_media(Samples(samples), DataOptions(preflight="off")).damaged == []
    assert decoded == []
    monkeypatch.setattr(preflight, "SAMPLED", 3)
    check_media(Samples(samples), DataOptions(preflight="sample", max_bad=1.0))
    assert len(decoded) == 3


def test_a_broken_cache_is_no_obstacle(cache, decoded, world, caplog):
    cache.parent.mkdir()
    cache.write_bytes(b"no database" * 100)
    check_media(Samples(world[0]), DataOptions())
    assert len(decoded) == 8
    assert "checked again next time" in caplog.text


def test_a_sample_that_loses_its_media_gives_way_to_another(make_encoder, world, caplog):
    samples, root = world
    stock = Stock(make_encoder(media_cache_mb=0, max_bad=0.5), samples)
    (root / "1.mp4").unlink()
    asked = [samples[4]] * 2 + [samples[0]] * 2
    chosen, prompts = stock(asked)
    assert chosen[0] is chosen[1] is not samples[4]
    assert chosen[2:] == asked[2:]
    assert prompts[0] is prompts[1] is not prompts[2]
    assert list(stock.lost) == [4]
    assert "another sample takes its place" in caplog.text
    again = Stock(make_encoder(max_bad=0.5), samples)
    assert again(asked)[0] == chosen  # the draw depends on the sample alone


def test_a_prompt_that_is_too_long_gives_way_to_another(make_encoder, with_root, caplog):
    wordy = videos(1, question="Which of them? " * 200)
    samples = with_root(pairs(3) + wordy)
    stock = Stock(make_encoder(longest=400, max_bad=0.5), samples)
    chosen, _ = stock([samples[3], samples[0]])
    assert chosen[0] in samples[:3]
    assert "its prompt takes" in stock.lost[samples[3]["key"]]
    assert "another sample takes its place" in caplog.text


@pytest.mark.parametrize(("height", "damaged"), [(5, True), (6, False)])
def test_what_a_processor_would_refuse_is_found_before(cache, world, make_encoder, height, damaged):
    samples, root = world
    Image.new("RGB", (1200, height)).save(root / "0.jpg")
    options = DataOptions(max_bad=0.5)
    checked = check_media(Samples(samples), options)
    assert [name for name, _ in checked.damaged] == (["pair-0"] if damaged else [])
    if damaged:
        assert "1200 x 5 pixels" in checked.damaged[0][1]
    else:
        assert make_encoder()(checked.rows)


def test_too_many_lost_samples_end_the_run(make_encoder, world):
    samples, root = world
    for file in root.iterdir():
        file.unlink()
    with pytest.raises(BadInput, match="1 of 5 samples can't be shown"):
        Stock(make_encoder(), samples)(samples)
    with pytest.raises(BadInput, match="no sample is left that can be shown"):
        Stock(make_encoder(max_bad=1.0), samples)(samples)


def test_what_is_encoded_ahead_is_what_is_asked_for(make_encoder, world):
    samples, _ = world
    ahead, plain = make_encoder(), make_encoder()
    ahead.ahead(samples)
    for found, expected in zip(ahead(samples), plain(samples), strict=True):
        assert found.keys() == expected.keys()
        assert all(found[name].equal(expected[name]) for name in expected)
    assert ahead._coming == {}


def test_a_group_is_told_with_the_sample_that_it_answers(make_trainer, world, tmp_path):
    samples, root = world
    (root / "1.mp4").unlink()
    trainer = make_trainer(samples[4:] + samples[:3], max_bad=0.5, shuffle_dataset=False)
    trainer.train()
    [told] = JsonLines(tmp_path / "run" / "samples.jsonl")
    assert told["id"] == trainer._stock.present(trainer._samples[0])["id"] != "video-1"
    assert trainer.state.log_history[0]["data/lost"] == 1
