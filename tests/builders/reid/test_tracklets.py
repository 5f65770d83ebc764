"""Data sets of tracklets are read whole or thinned, and their lists mean what their authors say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nontrivial.builders.reid.sources import read_source
from nontrivial.builders.reid.sources.data_set import Photo
from nontrivial.builders.reid.sources.tracklets import every
from nontrivial.manifests.errors import BadInput
from tests.builders.reid.trees import listing, touch

FRAMES = ("name", "sequence", "frame")


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_every_nth_frame_is_counted_within_each_tracklet(step):
    rng = np.random.default_rng(0)
    photos = [
        Photo(f"{a}{n}", a, 1, "train", sequence=a, frame=n) for a in "abc" for n in range(90, 110)
    ]
    shuffled = [photos[i] for i in rng.permutation(len(photos))]
    assert list(every(step, shuffled)) == [p for p in photos if (p.frame - 90) % step == 0]


@pytest.fixture
def ccvid(tmp_path):
    folder = tmp_path / "CCVID"
    for tracklet in ("session1/001_01", "session3/001_02", "session1/004_12", "session2/004_12"):
        touch(folder / tracklet, "00001.jpg", "00002.jpg", "00010.jpg", "Thumbs.db")
    for name, text in {
        "train": "session1/001_01\t001\tu0_l0_s0_c0_a0\nsession3/001_02\t001\tu1_l0_s0_c0_a0\n",
        "query": "session1/004_12 004 u0_l0_s0_c0_a0\nnonsense\n\n",
        "gallery": "session2/004_12 004 u0_l1_s0_c0_a0\n",
    }.items():
        (folder / f"{name}.txt").write_text(text)
    return tmp_path


def test_the_tracklets_of_ccvid_are_what_its_lists_say(ccvid):
    worn = "004-u0_l{}_s0_c0_a0"
    assert listing("ccvid:9", ccvid, "test") == [
        ("session1/004_12/00001", "ccvid/test/004", 12, worn.format(0), "query"),
        ("session2/004_12/00001", "ccvid/test/004", 12, worn.format(1), "gallery"),
    ]
    assert read_source("ccvid", ccvid, "test").ignored == {
        "not an image name": 2,
        "not a tracklet": 1,
    }


def test_the_third_session_of_ccvid_has_cameras_of_its_own(ccvid):
    cameras = listing("ccvid", ccvid, "train", ("sequence", "camid"))
    assert set(cameras) == {("session1/001_01", 1), ("session3/001_02", 14)}


def test_all_frames_of_ccvid_are_compared_with_the_published_ones_and_fewer_are_not(ccvid):
    whole, half = (read_source(spec, ccvid, "train") for spec in ("ccvid", "ccvid:2"))
    assert whole.differences == [
        "ccvid train: 6 images of 1 identities, published are 118,613 of 75 identities"
    ]
    assert half.differences == []
    assert half.frame["frame"].to_list() == [1, 10, 1, 10]


def test_a_tracklet_of_ccvid_that_is_not_there_is_said(ccvid):
    (ccvid / "CCVID/train.txt").write_text("session1/002_01 002 u0_l0_s0_c0_a0\n")
    with pytest.raises(BadInput, match="session1/002_01: not found"):
        read_source("ccvid", ccvid, "train")


MARS = {
    "bbox_train/0001": ["0001C1T0001F001.jpg", "0001C2T0002F999.jpg", "0001C2T0002F1000.jpg"],
    "bbox_test/00-1": ["00-1C1T0001F001.jpg"],
    "bbox_test/0000": ["0000C1T0001F001.jpg"],
    "bbox_test/0002": ["0002C1T0001F001.jpg", "0002C1T0001F002.jpg", "0002C3T0004F001.jpg"],
}


@pytest.fixture
def mars(tmp_path):
    return write_mars(tmp_path)


def write_mars(root: Path) -> Path:
    """A few frames of MARS; the lists count from 1, and the third tracklet is the query."""
    io = pytest.importorskip("scipy.io", reason="scipy reads MARS's lists: pip install scipy")
    folder = root / "MARS"
    for part, files in MARS.items():
        touch(folder / part, *files, "Thumbs.db")
    touch(folder / "info")
    names = [file for part, files in MARS.items() if "test" in part for file in files]
    (folder / "info/test_name.txt").write_text("\n".join(names))
    tracks = [[1, 1, -1, 1], [2, 2, 0, 1], [3, 4, 2, 1], [5, 5, 2, 3]]
    io.savemat(folder / "info/tracks_test_info.mat", {"track_test_info": np.array(tracks)})
    io.savemat(folder / "info/query_IDX.mat", {"query_IDX": np.array([[3]], np.uint16)})
    return root


def test_the_queries_of_mars_are_whole_tracklets_and_nobody_is_in_its_gallery(mars):
    assert listing("mars", mars, "test", ("pid", "camid", "role", "sequence")) == [
        ("mars/test/00-1", 1, "junk", "00-1C1T0001"),
        ("mars/test/0000", 1, "distractor", "0000C1T0001"),
        ("mars/test/0002", 1, "query", "0002C1T0001"),
        ("mars/test/0002", 1, "query", "0002C1T0001"),
        ("mars/test/0002", 3, "gallery", "0002C3T0004"),
    ]
    assert read_source("mars", mars, "test").ignored == {"not an image name": 3}


def test_frames_of_mars_are_ordered_by_number_before_they_are_thinned(mars):
    assert sorted(listing("mars:2", mars, "train", FRAMES)) == [
        ("0001C1T0001F001", "0001C1T0001", 1),
        ("0001C2T0002F999", "0001C2T0002", 999),
    ]
    assert len(listing("mars", mars, "train")) == 3


def test_the_training_split_of_mars_needs_no_lists(mars):
    for file in (mars / "MARS/info").iterdir():
        file.unlink()
    assert len(listing("mars", mars, "train")) == 3
    with pytest.raises(BadInput, match=r"test_name.txt: not found; looked for"):
        read_source("mars", mars, "test")


@pytest.mark.parametrize("file", ["tracks_test_info.mat", "query_IDX.mat", "test_name.txt"])
def test_a_damaged_list_of_mars_is_refused(mars, file):
    (mars / "MARS/info" / file).write_text("nothing")
    with pytest.raises(BadInput, match="info: does not tell the queries of MARS"):
        read_source("mars", mars, "test")


@pytest.fixture
def deepchange(tmp_path):
    folder = tmp_path / "DeepChangeDataset"
    for part, lines in {
        "train-set": ["P16_C04_d1_08_1_1.jpg,118", "P16_C05_d2_08_1_1.jpg,119"],
        "test-set-query": ["P20_C04_d1_08_1_1.jpg,7"],
        "test-set-gallery": ["P20_C04_d1_09_1_1.jpg, 8", "P20_C04_d1_09_1_1.jpg", ""],
    }.items():
        touch(folder / part, *(line.split(",")[0] for line in lines if line))
        (folder / f"{part}-bbox.txt").write_text("\n".join(lines))
    return tmp_path


def test_an_outfit_of_deepchange_is_a_day(deepchange):
    assert listing("deepchange", deepchange, "train") == [
        ("P16_C04_d1_08_1_1", "deepchange/train/16", 4, "16-d1", "train"),
        ("P16_C05_d2_08_1_1", "deepchange/train/16", 5, "16-d2", "train"),
    ]
    sequences = listing("deepchange", deepchange, "train", ("sequence",))
    assert sequences == [("118",), ("119",)]


def test_tracklets_of_deepchange_stand_in_for_cameras_when_it_is_ranked(deepchange):
    assert listing("deepchange", deepchange, "test", ("camid", "sequence", "role")) == [
        (8, "8", "gallery"),
        (7, "7", "query"),
    ]
    assert read_source("deepchange", deepchange, "test").ignored == {"not an image name": 1}
