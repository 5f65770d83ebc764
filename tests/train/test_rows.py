"""The trainer takes what its users have: rows of the contract, and TRL's conversations."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.parquet import read_samples
from nontrivial.models.inputs import load_media
from nontrivial.train.data import with_pixels
from nontrivial.train.options import DataOptions
from nontrivial.train.rows import Made, Rows, as_sample, columns
from tests.train.conftest import pairs, videos
from tests.train.test_trainer import assert_update_is_naive

USER = [{"role": "user", "content": "Is the cat on the mat?"}]


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (56, 56, 3), dtype=np.uint8))


def text_rows(count: int) -> list[dict]:
    return [
        {"prompt": [{"role": "user", "content": "Count to " + "ten! " * n}], "answer": ["A"]}
        for n in range(1, count + 1)
    ]


def test_a_manifest_is_the_same_as_rows_and_as_a_data_set(write_manifest, media_root):
    path = write_manifest(pairs(2) + videos(1))
    table = read_samples(path)
    listed = Rows(table.to_pylist(), str(media_root))
    assert list(Rows(table, str(media_root))) == list(listed)
    loaded = datasets.load_dataset("parquet", data_files=path, split="train")
    assert isinstance(loaded.features["images"].feature, datasets.Image)
    for ours, theirs in zip(listed, Rows(loaded, str(media_root)), strict=True):
        assert ours["prompt"] == theirs["prompt"]
        images, clips = load_media(ours, ours["media_root"], DataOptions(nframes=4))
        others, more = load_media(theirs, theirs["media_root"], DataOptions(nframes=4))
        assert [i.tobytes() for i in images] == [i.tobytes() for i in others]
        assert [c.frames.tobytes() for c in clips] == [c.frames.tobytes() for c in more]


def test_a_conversation_keeps_its_images_to_the_pixel(media_root):
    rows = [
        {"prompt": USER, "images": [picture(0), picture(1)], "solution": "A"},
        {"prompt": USER, "image": picture(2)},
        {"prompt": USER, "videos": ["0.mp4"]},
    ]
    for dataset in (rows, datasets.Dataset.from_list([rows[0], rows[0]])):
        sample = Rows(dataset, str(media_root))[0]
        images, _ = load_media(sample, sample["media_root"], DataOptions())
        assert [i.tobytes() for i in images] == [picture(n).tobytes() for n in (0, 1)]
        assert [part["type"] for part in sample["prompt"][0]["content"]] == ["image"] * 2 + ["text"]
        assert columns([sample])[0]["solution"] == "A"
    assert len(as_sample(rows[1], 1)["images"]) == 1
    sample = as_sample(rows[2], 2, str(media_root))
    assert len(load_media(sample, sample["media_root"], DataOptions(nframes=4))[1]) == 1


def test_a_media_root_that_is_given_wins_over_that_of_the_row():
    row = {"prompt": USER, "media_root": "recorded"}
    assert as_sample(row, 0)["media_root"] == "recorded"
    assert as_sample(row, 0, "given")["media_root"] == "given"


def test_placeholders_stay_where_they_are_and_are_counted():
    parts = [
        {"type": "text", "text": "Is", "image": None},  # as Arrow fills in the keys of others
        {"type": "image", "text": None},
        {"type": "text", "text": "him?"},
    ]
    prompt = [{"role": "user", "content": parts}]
    sample = as_sample({"prompt": prompt, "images": [picture(0)]}, 0)
    assert [part["type"] for part in sample["prompt"][0]["content"]] == ["text", "image", "text"]
    assert "image" not in sample["prompt"][0]["content"][0]
    with pytest.raises(BadInput, match="row 7: 1 image placeholders for 2 images"):
        as_sample({"prompt": prompt, "images": [picture(0)] * 2}, 7)


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ([{"prompt": "Is it so"}], "row 0: prompt is 'Is it so'; needs chat messages"),
        ([{"text": "Is it?"}], "row 0: needs `prompt`, or the columns of a manifest"),
        (
            [{"prompt": [{"role": "system", "content": "x"}], "images": ["a.png"]}],
            "no user message",
        ),
        ([], "has no rows"),
        ({"train": []}, "needs rows that can be indexed, one split"),
        (iter([]), "needs rows that can be indexed"),
    ],
)
def test_rows_of_another_form_are_refused(dataset, said):
    with pytest.raises(BadInput, match=said):
        Rows(dataset, None)[0]


def test_few_rows_are_repeated_whole():
    rows = Rows(text_rows(2), None, least=5)
    assert [row["key"] for row in rows] == [0, 1, 0, 1, 0, 1]
    assert [row["key"] for row in rows[1:3]] == [1, 0]


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("kind", ["text", "text beside images and clips"])
def test_prompts_of_text_are_trained_on_as_they_should_be(make_trainer, with_root, kind, share):
    """Their update is the naive policy gradient, whatever batch was encoded before."""
    mixed = text_rows(2) + with_root(pairs(1) + videos(1))
    trainer = make_trainer(text_rows(4) if kind == "text" else mixed, share_prompt=share)
    with torch.no_grad():  # leaves the offsets of a clip behind
        trainer.model(**with_pixels(trainer._encode(with_root(videos(1)))[0]))
    assert_update_is_naive(trainer)


def test_a_policy_is_loaded_by_its_name_and_rewards_get_the_columns(make_trainer, tiny_policy_dir):
    asked = []

    def reward(completions, answer, solution, **others):
        asked.append((answer[0], solution[0], sorted(others)))
        return [len(set(each[0]["content"])) / 30 for each in completions]

    rows = [row | {"solution": "B"} for row in text_rows(4)]
    trainer = make_trainer(rows, reward, model=str(tiny_policy_dir), processor=None)
    trainer.train()
    assert asked[0][:2] == (["A"], "B")
    assert {"completion_ids", "id", "prompts", "sample"} <= set(asked[0][2])
    assert trainer.state.global_step == 1


def test_samples_that_were_made_before_are_taken_as_they_are(with_root):
    """Numbers alone change: rows are told apart by their place, also where some were left out."""
    made = Made(with_root(pairs(3) + videos(2))[1:])
    again, anew = Rows(made, None), Rows(list(made), None)
    assert list(again) == list(anew)
    assert [row["key"] for row in again] == [0, 1, 2, 3]
    assert [row["key"] for row in made] == [1, 2, 3, 4]


def test_a_row_that_cannot_be_converted_is_refused_before_anything_is_trained(with_root):
    with pytest.raises(BadInput, match="row 1: needs `prompt`"):
        Rows([{"prompt": [{"role": "user", "content": "Hello"}]}, {"text": "Hello"}], None)
