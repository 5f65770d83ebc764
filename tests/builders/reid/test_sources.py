"""Data sets on disk become tables of images, with nothing guessed and nothing lost silently."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import polars as pl
import pytest
from PIL import Image

from nontrivial.builders.reid.sources import SOURCES, read_source
from nontrivial.manifests.errors import BadInput
from tests.builders.reid import market
from tests.builders.reid.trees import listing, touch


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
    for word in ("0002_c1s1_000451_03.jpg", "https://", "nontrivial synthetic --out"):
        assert word in text


def test_a_folder_that_lacks_a_part_or_its_images_says_so(market_tree):
    (market_tree / market.FOLDER / "query" / "0001_c1s1_001051_00.jpg").unlink()
    (market_tree / market.FOLDER / "query").rmdir()
    with pytest.raises(BadInput, match=r"query: not found; looked for"):
        read_source("market1501", market_tree, "test")
    touch(market_tree / "other" / "Market-1501" / "bounding_box_train")
    with pytest.raises(BadInput, match="no images of split 'train'"):
        read_source("market1501", market_tree / "other", "train")


def test_a_list_that_names_what_can_be_no_name_says_so(tmp_path):
    (tmp_path / "CCVID").mkdir()
    lines = f"session1/001_{'9' * 300}\t001\tu0_l0_s0_c0_a0\n"
    (tmp_path / "CCVID" / "train.txt").write_text(lines)
    with pytest.raises(BadInput, match=r"9: not found; looked for"):
        read_source("ccvid", tmp_path, "train")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg,7,\u00b2", None),  # a digit that is no number: cameras are numbered by name
        ("a.jpg,7,99999999999", "a number that is too large"),
        ("a.jpg,7," + "9" * 5000, "a number that is too large"),
    ],
)
def test_a_camera_of_any_digits_is_numbered_or_counted(tmp_path, line, message):
    (tmp_path / "a.csv").write_text(f"path,pid,camid\n{line}\nb.jpg,8,1\n", encoding="utf-8")
    found = read_source(f"table={tmp_path / 'a.csv'}", tmp_path, "train")
    assert found.ignored == ({message: 1} if message else {})
    assert len(found.frame) == 2 - bool(message)


def test_names_that_are_no_text_are_counted_and_lists_that_are_none_named(tmp_path):
    folder = tmp_path / "MSMT17_V1"
    touch(folder / "train")
    named = "0000/0000_000_01_0303morning_0015_0.jpg 0\n"
    (folder / "list_train.txt").write_text(named + named.replace("_01_", "_\u00b2_"), "utf-8")
    assert read_source("msmt17", tmp_path, "train").ignored == {"not an image name": 1}
    (folder / "list_train.txt").write_bytes(named.encode() + b"\xff\n")
    with pytest.raises(BadInput, match=r"list_train\.txt: is not a list in UTF-8"):
        read_source("msmt17", tmp_path, "train")
    folder = tmp_path / "CUHK-SYSU" / "cropped_images"
    touch(folder, "p1_s2_1.jpg", f"p1_s{'9' * 30}_1.jpg")
    assert read_source("cuhk_sysu", tmp_path, "train").ignored == {}
    touch(tmp_path / "LaST" / "train" / "x", "000001_1_01.jpg", "000001_\udcff_01.jpg")
    assert read_source("last", tmp_path, "train").ignored == {"a name that is no text": 1}


def test_two_images_of_one_name_are_refused(market_tree):
    touch(market_tree / market.FOLDER / "query", "0001_c2s1_000301_00.jpg")
    with pytest.raises(BadInput, match="two images share a name"):
        read_source("market1501", market_tree, "test")


OWN = {"table": "table=people.csv", "folder": r"folder=(?P<pid>.)(?P<camid>.)"}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_listed_under_its_own_name_and_knows_only_its_splits(name, tmp_path):
    with pytest.raises(BadInput, match=f"{name} has no split 'holdout'"):
        read_source(OWN.get(name, name), tmp_path, "holdout")


# The real names of some files of each data set, and what they mean.
REAL = {
    "dukemtmc": (
        "DukeMTMC-reID",
        [
            "bounding_box_train/0001_c2_f0046182.jpg",
            "query/0005_c2_f0046985.jpg",
            "bounding_box_test/0002_c1_f0044158.jpg",
        ],
        [("0001_c2_f0046182", "0001", 2, None, "train")],
        [
            ("0002_c1_f0044158", "0002", 1, None, "gallery"),
            ("0005_c2_f0046985", "0005", 2, None, "query"),
        ],
    ),
    "occluded_duke": (
        "Occluded_Duke",
        [
            "bounding_box_train/0001_c2_f0046182.jpg",
            "query/0027_c2_f0091961.jpg",
            "bounding_box_test/0027_c1_f0090457.jpg",
        ],
        [("0001_c2_f0046182", "0001", 2, None, "train")],
        [
            ("0027_c1_f0090457", "0027", 1, None, "gallery"),
            ("0027_c2_f0091961", "0027", 2, None, "query"),
        ],
    ),
    "ltcc": (
        "LTCC_ReID",
        ["train/094_1_c9_015833.png", "query/000_1_c12_000101.png", "test/000_2_c3_000201.png"],
        [("094_1_c9_015833", "094", 9, "094-1", "train")],
        [
            ("000_1_c12_000101", "000", 12, "000-1", "query"),
            ("000_2_c3_000201", "000", 3, "000-2", "gallery"),
        ],
    ),
    "vc_clothes": (
        "VC-Clothes",
        ["train/0005-03-02-11.jpg", "query/0001-01-01-02.jpg", "gallery/0001-04-03-07.jpg"],
        [("0005-03-02-11", "0005", 3, "0005-02", "train")],
        [
            ("0001-04-03-07", "0001", 4, "0001-03", "gallery"),
            ("0001-01-01-02", "0001", 1, "0001-01", "query"),
        ],
    ),
    "prcc": (
        "prcc/rgb",
        [
            "train/001/A_cropped_rgb001.jpg",
            "train/001/C_cropped_rgb001.jpg",
            "train/002/A_cropped_rgb001.jpg",
            "test/A/003/cropped_rgb001.jpg",
            "test/B/003/cropped_rgb001.jpg",
            "test/C/003/cropped_rgb001.jpg",
        ],
        [
            ("001_A_cropped_rgb001", "001", 1, "001-1", "train"),
            ("001_C_cropped_rgb001", "001", 3, "001-2", "train"),
            ("002_A_cropped_rgb001", "002", 1, "002-1", "train"),
        ],
        [
            ("A_003_cropped_rgb001", "003", 1, "003-1", "gallery"),
            ("B_003_cropped_rgb001", "003", 2, "003-1", "query"),
            ("C_003_cropped_rgb001", "003", 3, "003-2", "query"),
        ],
    ),
    "cuhk03": (
        "CUHK03-NP",
        [
            "detected/bounding_box_train/0003_c1_21.png",
            "detected/query/0001_c1_1.png",
            "detected/bounding_box_test/0001_c2_6.png",
            "labeled/bounding_box_train/0004_c2_99.png",
        ],
        [("0003_c1_21", "0003", 1, None, "train")],
        [("0001_c2_6", "0001", 2, None, "gallery"), ("0001_c1_1", "0001", 1, None, "query")],
    ),
    "last": (
        "last",
        [
            "train/000001/000001_0002_03.jpg",
            "test/query/005001_01.jpg",
            "test/gallery/005001/005001_01.jpg",
            "val/query/010000_01.jpg",
        ],
        [("train/000001/000001_0002_03", "000001", None, "000001-03", "train")],
        [
            ("test/gallery/005001/005001_01", "005001", None, None, "gallery"),
            ("test/query/005001_01", "005001", None, None, "query"),
        ],
    ),
    "cuhk_sysu": (
        "CUHK-SYSU",
        ["cropped_images/p11422_s16929_1.jpg"],
        [("p11422_s16929_1", "11422", None, None, "train")],
        None,
    ),
}


@pytest.fixture
def real_tree(request, tmp_path):
    """(source, root, rows of train, rows of test) of a few files, with a file that is none."""
    source = request.param
    folder, files, train, test = REAL[source]
    for file in files:
        touch((tmp_path / folder / file).parent, file.rsplit("/")[-1], "Thumbs.db")
    return source, tmp_path, train, test


@pytest.mark.parametrize("real_tree", REAL, indirect=True)
def test_real_names_are_read_as_their_authors_meant_them(real_tree):
    source, root, train, test = real_tree
    for split, expected in (("train", train), ("test", test)):
        if expected is not None:
            full = [(n, f"{source}/{split}/{p}", c, w, r) for n, p, c, w, r in expected]
            assert listing(source, root, split) == full
            assert read_source(source, root, split).ignored["not an image name"] >= 1
            assert read_source(source, root, split).differences


def test_the_frames_of_prcc_are_numbered_as_their_files(tmp_path):
    touch(tmp_path / "prcc/rgb/train/001", "A_cropped_rgb012.jpg", "B_cropped.jpg", "C_rgb7.jpg")
    assert listing("prcc", tmp_path, "train", ("camid", "frame")) == [(1, 12), (2, None), (3, 7)]


def msmt17(root, folder: str, images: str) -> None:
    name = "0000/0000_000_01_0303morning_0015_0.jpg"
    for part in (images, images.replace("train", "test")):
        touch(root / folder / part / "0000", name.rsplit("/")[-1])
    later = "0000/0000_001_15_0303noon_0015_0.jpg"
    touch(root / folder / images / "0000", later.rsplit("/")[-1])
    for part in ("train", "query", "gallery"):
        (root / folder / f"list_{part}.txt").write_text(f"{name} 0\n\n")
    (root / folder / "list_val.txt").write_text(f"{later} 0\nnonsense\n")


@pytest.mark.parametrize(
    ("folder", "images"), [("MSMT17_V1", "train"), ("MSMT17_V2", "mask_train_v2")]
)
def test_msmt17_is_what_its_lists_say_and_its_identity_0_is_a_person(tmp_path, folder, images):
    msmt17(tmp_path, folder, images)
    first = ("0000_000_01_0303morning_0015_0", "msmt17/train/0", 1, None, "train")
    assert listing("msmt17", tmp_path, "train") == [first]
    later = ("0000_001_15_0303noon_0015_0", "msmt17/train/0", 15, None, "train")
    assert listing("msmt17:val", tmp_path, "train") == [first, later]
    counted = read_source("msmt17:val", tmp_path, "train")
    assert counted.ignored == {"not an image name": 1}
    assert counted.differences == [
        "msmt17 train: 2 images of 1 identities, published are 32,621 of 1,041 identities"
    ]


def test_an_image_that_asks_may_not_be_in_the_gallery_too(tmp_path):
    msmt17(tmp_path, "MSMT17_V1", "train")
    with pytest.raises(BadInput, match="two images share a name"):
        read_source("msmt17", tmp_path, "test")


def test_cuhk03_has_boxes_of_two_kinds(tmp_path):
    for file in REAL["cuhk03"][1]:
        touch((tmp_path / "CUHK03-NP" / file).parent, file.rsplit("/")[-1])
    assert listing("cuhk03:labeled", tmp_path, "train") == [
        ("0004_c2_99", "cuhk03/train/0004", 2, None, "train")
    ]


def cuhk03_mat(folder, rng) -> dict[str, np.ndarray]:
    """A `cuhk-03.mat` of two pairs of cameras with two people each, and a protocol for it."""
    h5py = pytest.importorskip("h5py", reason="h5py reads CUHK03's .mat file: pip install h5py")
    from scipy.io import savemat

    folder.mkdir()
    images: dict[str, np.ndarray] = {}
    with h5py.File(folder / "cuhk-03.mat", "w") as file:
        pairs = file.create_dataset("detected", (1, 2), h5py.ref_dtype)
        for pair in range(2):
            cells = file.create_dataset(f"cells{pair}", (10, 2), h5py.ref_dtype)
            pairs[0, pair] = cells.ref
            for person, number in itertools.product(range(2), range(10)):
                crop = rng.integers(0, 256, (6, 4, 3), np.uint8)
                empty = number in (3, 9)
                stored = np.zeros((2,), np.uint64) if empty else crop.T
                made = file.create_dataset(f"crop{pair}{person}{number}", data=stored)
                cells[number, person] = made.ref
                if not empty:
                    view = 1 if number < 5 else 2
                    images[f"{pair + 1}_{person + 1:03d}_{view}_{number + 1:02d}.png"] = crop
    names = np.empty((len(images), 1), object)
    names[:, 0] = list(images)
    train = [i for i, name in enumerate(images, 1) if name.startswith("1_001")]
    query = [i for i, name in enumerate(images, 1) if name == "2_002_1_01.png"]
    gallery = [i for i, name in enumerate(images, 1) if name.startswith("2_002_2")]
    labels = [int(name[0]) * 10 + int(name[4]) for name in images]
    indices = {"train_idx": train, "query_idx": query, "gallery_idx": gallery}
    savemat(
        folder / "cuhk03_new_protocol_config_detected.mat",
        {"filelist": names, "labels": np.array(labels)[:, None]}
        | {key: np.array(value)[:, None] for key, value in indices.items()},
    )
    return images


def test_cuhk03_is_unpacked_from_its_mat_file_once_and_pixel_by_pixel(tmp_path):
    folder = tmp_path / "cuhk03_release"
    images = cuhk03_mat(folder, np.random.default_rng(0))
    train = read_source("cuhk03", tmp_path, "train").frame
    assert train["pid"].unique().to_list() == ["cuhk03/train/0011"]
    assert Counter(train["camid"].to_list()) == {1: 4, 2: 4}
    for path in (folder / "images_detected").iterdir():
        np.testing.assert_array_equal(np.asarray(Image.open(path)), images[path.name])
    (folder / "cuhk-03.mat").write_bytes(b"gone")
    rows = listing("cuhk03", tmp_path, "test")
    assert [row[0] for row in rows if row[4] == "query"] == ["2_002_1_01"]
    assert {row[1] for row in rows} == {"cuhk03/test/0022"}


def test_a_protocol_of_cuhk03_that_was_cut_short_is_refused(tmp_path):
    folder = tmp_path / "cuhk03_release"
    cuhk03_mat(folder, np.random.default_rng(0))
    (folder / "cuhk03_new_protocol_config_detected.mat").write_bytes(b"")
    with pytest.raises(BadInput, match="is not CUHK03's protocol"):
        read_source("cuhk03", tmp_path, "train")


def test_a_damaged_cuhk03_leaves_nothing_half_unpacked(tmp_path):
    folder = tmp_path / "cuhk03_release"
    cuhk03_mat(folder, np.random.default_rng(0))
    (folder / "cuhk-03.mat").write_bytes(b"not HDF5")
    with pytest.raises(BadInput, match=r"cuhk-03.mat: cannot be unpacked"):
        read_source("cuhk03", tmp_path, "train")
    assert sorted(path.name for path in folder.iterdir()) == [
        "cuhk-03.mat",
        "cuhk03_new_protocol_config_detected.mat",
    ]


def test_the_500k_distractors_are_ranked_and_match_nobody(market_tree):
    folder = market_tree / market.FOLDER / "images"
    touch(folder, "00000_c4s2_000003_01.jpg", "-1_c6s4_000004_02.jpg")
    plain = read_source("market1501", market_tree, "test")
    assert "distractor" in plain.frame["role"].to_list()
    rows = listing("market1501:500k", market_tree, "test")
    assert len(rows) == len(plain.frame) + 2
    roles = {row[0]: row[4] for row in rows}
    assert roles["00000_c4s2_000003_01"] == "distractor"
    assert roles["-1_c6s4_000004_02"] == "junk"


TABLE = """path,pid,camid,clothes,split,role
a/1.jpg,007,north,red,train,
a/2.jpg,007,south,,train,
b/1.jpg,9,north,,test,query
b/2.jpg,9,south,,test,gallery
"""


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_of_ones_own_is_a_data_set(tmp_path, kind):
    file = tmp_path / f"people.{kind}"
    (tmp_path / "people.csv").write_text(TABLE)
    if kind == "parquet":
        pl.read_csv(tmp_path / "people.csv", infer_schema=False).write_parquet(file)
    for path in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"):
        touch((tmp_path / path).parent, path[2:])
    assert listing(f"table={file}", tmp_path, "train") == [
        ("a/1", "table/train/007", 1, "007-red", "train"),
        ("a/2", "table/train/007", 2, None, "train"),
    ]
    assert [row[4] for row in listing(f"table={file}", tmp_path, "test")] == [
        "query",
        "gallery",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,pid\na.jpg,1\n", "has no column camid"),
        ("path,pid,camid\na.jpg,,1\n", "an image has no pid"),
        ("path,pid,camid,role\na.jpg,1,1,boss\n", "a.jpg has the role 'boss'"),
        ("path,pid,camid\na.jpg,1,1\na.jpg,1,2\n", "two images share a name"),
    ],
)
def test_a_table_that_says_too_little_is_refused(tmp_path, text, message):
    (tmp_path / "people.csv").write_text(text)
    with pytest.raises(BadInput, match=message):
        read_source(f"table={tmp_path / 'people.csv'}", tmp_path, "train")


def test_a_folder_of_ones_own_is_read_by_a_pattern(tmp_path):
    touch(tmp_path / "in", "p12-k3.jpg", "p12-k4.jpg", "notes.txt")
    pattern = r"in/p(?P<pid>\d+)-k(?P<camid>\d)\.jpg"
    assert listing(f"folder={pattern}", tmp_path, "train") == [
        ("in/p12-k3", "folder/train/12", 3, None, "train"),
        ("in/p12-k4", "folder/train/12", 4, None, "train"),
    ]
    found = read_source(f"folder={pattern}", tmp_path, "train")
    assert found.ignored == {"not an image name": 1}
    with pytest.raises(BadInput, match="needs the groups"):
        read_source(r"folder=(\d+)", tmp_path, "train")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("market", "unknown; give one of market1501, msmt17"),
        ("prcc:rgb", "prcc has no variants"),
        ("market1501:5k", "the variants of market1501 are 500k"),
        ("mars:0", "needs a whole number n above 0, as in mars:8"),
        ("ccvid:half", "needs a whole number n above 0, as in ccvid:8"),
    ],
)
def test_a_specification_that_names_nothing_says_what_there_is(spec, said, tmp_path):
    with pytest.raises(BadInput, match=said):
        read_source(spec, tmp_path, "train")
