"""Data sets on disk become tables of images, with nothing guessed and nothing lost silently."""

from __future__ import annotations

import pytest

from builders.sources import SOURCES, read_source
from manifests.errors import BadInput
from tests.builders import market


def touch(folder, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


@pytest.fixture
def market_tree(tmp_path):
    """Names of Market-1501, with what else lies in its folders."""
    folder = tmp_path / market.FOLDER
    touch(folder / "bounding_box_train", "0002_c1s1_000451_03.jpg", "0007_c3s3_077419_03.jpg")
    touch(folder / "bounding_box_train", "Thumbs.db", "0002_c1s1_000451_03.jpg.part")
    touch(folder / "query", "0001_c1s1_001051_00.jpg")
    gallery = ("-1_c1s1_000401_03.jpg", "0000_c1s1_000151_01.jpg", "0001_c2s1_000301_00.jpg")
    touch(folder / "bounding_box_test", *gallery)
    return tmp_path


def test_every_image_of_market1501_gets_its_identity_camera_and_role(market_tree):
    train = read_source("market1501", market_tree, "train").frame
    columns = ["name", "pid", "camid", "split", "role"]
    assert train.select(columns).rows() == [
        ("0002_c1s1_000451_03", "market1501/train/0002", 1, "train", "train"),
        ("0007_c3s3_077419_03", "market1501/train/0007", 3, "train", "train"),
    ]
    test = read_source("market1501", market_tree, "test").frame
    assert test.select("pid", "camid", "role").rows() == [
        ("market1501/test/-1", 1, "junk"),
        ("market1501/test/0000", 1, "distractor"),
        ("market1501/test/0001", 2, "gallery"),
        ("market1501/test/0001", 1, "query"),
    ]


def test_paths_lead_from_the_root_to_the_files(market_tree):
    for split in ("train", "test"):
        frame = read_source("market1501", market_tree, split).frame
        assert frame["path"].is_sorted()
        assert all((market_tree / path).is_file() for path in frame["path"])


def test_files_that_are_no_images_are_counted(market_tree):
    assert read_source("market1501", market_tree, "train").ignored == {"not an image name": 2}
    assert read_source("market1501", market_tree, "test").ignored == {}


def test_counts_other_than_the_published_ones_are_said(market_tree):
    assert read_source("market1501", market_tree, "train").differences == [
        "market1501 train: 2 images of 2 identities, published are 12,936 of 751 identities"
    ]


def test_the_published_counts_are_no_difference(tmp_path):
    folder = tmp_path / market.FOLDER / "bounding_box_train"
    names = [f"{i % 751 + 1:04d}_c{i % 6 + 1}s1_{i:06d}_00.jpg" for i in range(12_936)]
    touch(folder, *names)
    assert read_source("market1501", tmp_path, "train").differences == []


def test_a_missing_data_set_says_where_it_was_sought_and_how_to_get_it(tmp_path):
    with pytest.raises(BadInput) as caught:
        read_source("market1501", tmp_path, "train")
    text = str(caught.value)
    for place in ("Market-1501-v15.09.15", "Market-1501", "market1501"):
        assert str(tmp_path / place) in text
    for word in ("0002_c1s1_000451_03.jpg", "https://", "python -m builders.synthetic --out"):
        assert word in text


def test_a_folder_that_lacks_a_part_or_its_images_says_so(market_tree):
    (market_tree / market.FOLDER / "query" / "0001_c1s1_001051_00.jpg").unlink()
    (market_tree / market.FOLDER / "query").rmdir()
    with pytest.raises(BadInput, match=r"query: no such folder; looked for"):
        read_source("market1501", market_tree, "test")
    touch(market_tree / "other" / "Market-1501" / "bounding_box_train")
    with pytest.raises(BadInput, match="no images of split 'train'"):
        read_source("market1501", market_tree / "other", "train")


def test_two_images_of_one_name_are_refused(market_tree):
    touch(market_tree / market.FOLDER / "query", "0001_c2s1_000301_00.jpg")
    with pytest.raises(BadInput, match="two images of one name"):
        read_source("market1501", market_tree, "test")


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_listed_under_its_own_name_and_knows_only_its_splits(name, tmp_path):
    with pytest.raises(BadInput, match=f"{name} has no split 'holdout'"):
        read_source(name, tmp_path, "holdout")
