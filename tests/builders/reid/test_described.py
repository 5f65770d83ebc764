"""Data sets of described people keep the sentences about each image."""

from __future__ import annotations

import json

import pytest

from nontrivial.builders.reid.sources import read_source
from nontrivial.manifests.errors import BadInput
from tests.builders.reid.trees import listing, touch

# The folder and list of each data set, and the key of an image's file.
SETS = {
    "cuhk_pedes": ("CUHK-PEDES", "reid_raw.json", "file_path"),
    "icfg_pedes": ("ICFG-PEDES", "ICFG-PEDES.json", "file_path"),
    "rstpreid": ("RSTPReid", "data_captions.json", "img_path"),
}
# Split, identity, file and sentences.
ENTRIES = [
    ("train", 1, "cam_a/000_45.bmp", [" A man in red. ", "", "He walks."]),
    ("train", 2, "cam_b/000_45.bmp", ["A woman."]),
    ("train", 2, "cam_b/001_45.bmp", ["  "]),
    ("val", 3, "cam_b/002_45.bmp", ["A child."]),
    ("test", 4, "Market/0001_c1s1_1.jpg", ["A dog walker."]),
]


@pytest.fixture(params=SETS)
def described(request, tmp_path):
    """(source, root) of a few described images."""
    folder, file, key = SETS[request.param]
    for _, _, path, _ in ENTRIES:
        image = tmp_path / folder / "imgs" / path
        touch(image.parent, image.name)
    entries = [
        {"split": split, "id": pid, key: path, "captions": captions}
        for split, pid, path, captions in ENTRIES
    ]
    (tmp_path / folder / file).write_text(json.dumps(entries))
    return request.param, tmp_path


def test_described_images_keep_their_sentences(described):
    source, root = described
    columns = ("name", "pid", "camid", "role", "descriptions")
    assert listing(source, root, "train", columns) == [
        ("cam_a/000_45", f"{source}/train/1", None, "train", ["A man in red.", "He walks."]),
        ("cam_b/000_45", f"{source}/train/2", None, "train", ["A woman."]),
    ]
    assert listing(source, root, "test", columns) == [
        ("Market/0001_c1s1_1", f"{source}/test/4", None, "query", ["A dog walker."])
    ]


def test_an_image_that_nobody_described_is_left_out_and_counted(described):
    source, root = described
    assert read_source(source, root, "train").ignored == {"no description": 1}
    assert read_source(source, root, "test").ignored == {}


def test_the_published_counts_are_known(described):
    source, root = described
    for split in ("train", "test"):
        assert len(read_source(source, root, split).differences) == 1


@pytest.mark.parametrize("text", ["not JSON", '["a"]', '[{"split": "train", "id": 1}]', "7"])
def test_a_list_that_describes_nothing_is_refused(described, text):
    source, root = described
    folder, file, _ = SETS[source]
    (root / folder / file).write_text(text)
    with pytest.raises(BadInput, match="is not a list of described images"):
        read_source(source, root, "train")


def test_a_missing_list_is_said(described):
    source, root = described
    folder, file, _ = SETS[source]
    (root / folder / file).unlink()
    with pytest.raises(BadInput, match=f"{file}: not found; looked for"):
        read_source(source, root, "test")
