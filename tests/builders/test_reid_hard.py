"""`python -m builders.reid_hard` on drawn people, as a user runs it."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections import Counter
from pathlib import Path
from statistics import median

import faiss
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nontrivial.builders.reid_hard import main
from nontrivial.manifests.media import decode_image
from nontrivial.manifests.parquet import read_about, read_samples, read_table
from tests.builders.reid import market

TRAIN, RANDOM = "market1501_reid_hard.parquet", "market1501_reid_random.parquet"
QUARANTINE = "quarantine/market1501_reid.parquet"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    market.draw(folder, identities=40, test_identities=20)
    return folder


@pytest.fixture(scope="module")
def out(data, tmp_path_factory) -> Path:
    """Training and test pairs, hard and random."""
    folder = tmp_path_factory.mktemp("manifests")
    for split in ("train", "test"):
        for pairs in ("hard", "random"):
            assert run(data, folder, "--split", split, "--pairs", pairs) == 0
    return folder


def run(data: Path, out: Path, *words: str) -> int:
    return main(["--encoder", "stripes", "--root", str(data), "--out", str(out), *words])


def test_without_faiss_the_extra_is_named_before_anything_is_embedded(
    data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert run(data, tmp_path) == 2
    assert "pip install 'nontrivial[cpu]'" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.parquet"))


def rows_of(path: Path) -> list[dict]:
    return read_samples(path).to_pylist()


def digest(path: Path) -> str:
    return read_about(path)["content_digest"]


def verdict(row: dict) -> str:
    return row["options"]["AB".index(row["answer"][0])]


def all_tables(out: Path) -> list[Path]:
    return [
        out / TRAIN,
        out / RANDOM,
        out / "eval" / "market1501_reid_hard_test.parquet",
        out / "eval" / "market1501_reid_random_test.parquet",
    ]


def test_training_pairs_alone_lie_where_training_looks(out):
    assert sorted(path.name for path in out.glob("*.parquet")) == [TRAIN, RANDOM]
    assert all(path.is_file() for path in all_tables(out))


def test_the_budget_is_a_share_of_the_training_images_and_half_of_it_positive(out):
    rows = rows_of(out / TRAIN)
    assert len(rows) == round(0.209 * 40 * 6)
    kinds = Counter(row["reid"]["kind"] for row in rows)
    assert kinds == {"hard_negative": 25, "hard_positive": 25}
    assert Counter(row["answer"][0] for row in rows) == {"A": 25, "B": 25}


def test_answers_are_true_and_pairs_cross_cameras(out):
    for path in all_tables(out):
        for row in rows_of(path):
            reid = row["reid"]
            same = [reid["query_pid"]] == reid["candidate_pids"]
            assert verdict(row) == ("Yes" if same else "No")
            assert [reid["query_camid"]] != reid["candidate_camids"]
            assert row["group"] == reid["query_pid"]


def test_rationales_come_from_the_truth_beside_the_data(data, out):
    truth = {
        f"{market.FOLDER}/{row.pop('path')}": list(row.values())
        for row in read_table(data / market.FOLDER / "truth.parquet").to_pylist()
    }
    for row in rows_of(out / TRAIN):
        query, candidate = (truth[image["path"]] for image in row["images"])
        assert row["rationale"].endswith(verdict(row))
        differing = sum(a != b for a, b in zip(query, candidate, strict=True))
        assert row["rationale"].count("differ;") == differing


def test_without_a_truth_there_is_no_rationale(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / market.FOLDER / "truth.parquet").unlink()
    assert run(tmp_path / "data", tmp_path) == 0
    assert {row["rationale"] for row in rows_of(tmp_path / TRAIN)} == {None}


def test_random_pairs_have_the_labels_and_cameras_of_the_hard_ones(out):
    def composition(rows: list[dict]) -> Counter:
        return Counter(
            (row["reid"]["query_camid"], *row["reid"]["candidate_camids"], verdict(row))
            for row in rows
        )

    assert composition(rows_of(out / TRAIN)) == composition(rows_of(out / RANDOM))
    kinds = {row["reid"]["kind"] for row in rows_of(out / RANDOM)}
    assert kinds == {"random_positive", "random_negative"}


def test_hard_pairs_defeat_the_first_stage_and_random_ones_do_not(out):
    for path in all_tables(out):
        auc = read_about(path)["first_stage_auc"]["market1501"]
        assert 0.3 < auc["chosen"] < 0.7  # of few pairs
        assert auc["random"] >= 0.9
    hard, random = (rows_of(out / name) for name in (TRAIN, RANDOM))
    assert median(row["difficulty"] for row in hard) > median(row["difficulty"] for row in random)


def test_test_pairs_ask_queries_about_the_gallery_and_never_about_nobody(out):
    for path in all_tables(out)[2:]:
        for row in rows_of(path):
            query, candidate = (Path(image["path"]) for image in row["images"])
            assert query.parent.name == "query"
            assert candidate.parent.name == "bounding_box_test"
            assert not candidate.name.startswith(("-1", "0000"))


def test_train_and_test_share_no_identity(out):
    def people(path: Path) -> set[str]:
        blocks = [row["reid"] for row in rows_of(path)]
        return {pid for reid in blocks for pid in (reid["query_pid"], *reid["candidate_pids"])}

    train, _, test, _ = map(people, all_tables(out))
    assert not train & test


@pytest.mark.parametrize("path", [0, 1, 2, 3])
def test_the_metadata_says_how_it_was_made(out, data, path):
    about = read_about(all_tables(out)[path])
    assert about["builder"] == "builders.reid_hard"
    assert about["media_root"] == str(data)
    assert about["options"]["encoder"] == ["stripes"]
    assert len(about["encoders"]["stripes"]) == 64
    counts = about["counts"]["market1501"]
    assert counts["chosen"] == counts["budget"] == len(read_samples(all_tables(out)[path]))


def test_the_same_inputs_give_the_same_digest_wherever_and_however_they_are_run(
    data, out, tmp_path, monkeypatch
):
    shutil.copytree(data, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if threads > 1 else 2)
    try:
        assert main(["--encoder", "stripes", "--workers", "3", "--batch_size", "11"]) == 0
    finally:
        faiss.omp_set_num_threads(threads)
    assert digest(Path("manifests", TRAIN)) == digest(out / TRAIN)


def test_the_seed_changes_the_draws_and_not_the_hard_pairs(data, out, tmp_path):
    assert run(data, tmp_path, "--seed", "1") == 0
    assert run(data, tmp_path, "--seed", "1", "--pairs", "random") == 0
    hard, again = rows_of(out / TRAIN), rows_of(tmp_path / TRAIN)
    assert [row["id"] for row in hard] == [row["id"] for row in again]
    assert [row["options"] for row in hard] != [row["options"] for row in again]
    assert digest(tmp_path / RANDOM) != digest(out / RANDOM)


def test_a_budget_above_one_is_a_number_of_pairs(data, tmp_path):
    assert run(data, tmp_path, "--budget", "12", "--split", "test") == 0
    assert len(rows_of(tmp_path / "eval" / "market1501_reid_hard_test.parquet")) == 12


def test_a_budget_beyond_the_data_is_filled_as_far_as_it_goes_and_said(data, tmp_path, capsys):
    assert run(data, tmp_path, "--budget", "5000", "--top_k", "3") == 0
    printed = capsys.readouterr().out
    count = len(rows_of(tmp_path / TRAIN))
    assert count < 5000
    assert f"market1501: {count} of a budget of 5000; raise --per_image" in printed
    assert "twins within 0.4 deviations, up to 3 of a burst" in printed


def test_extreme_positives_that_rank_first_are_said(data, tmp_path, capsys):
    words = ("--budget", "5000", "--top_k", "3", "--pairs", "extreme")
    assert run(data, tmp_path, *words) == 0
    assert "extreme positives ran out" in capsys.readouterr().out


def test_a_manifest_with_its_images_needs_no_media_root(data, out, tmp_path):
    assert run(data, tmp_path, "--embed_media") == 0
    row, plain = rows_of(tmp_path / TRAIN)[0], rows_of(out / TRAIN)[0]
    assert row["id"] == plain["id"]
    for image in row["images"]:
        assert image["bytes"] == (data / image["path"]).read_bytes()
        assert decode_image(image["bytes"]).size == (64, 128)


def test_several_encoders_are_fused(tmp_path):

    import torch
    from torchreid.reid.models.osnet import osnet_x0_25

    weights = tmp_path / "osnet.pth"
    torch.save(osnet_x0_25(num_classes=1, pretrained=False).state_dict(), weights)
    data = market.draw(tmp_path / "data", identities=6).parent
    words = ["--encoder", "stripes", f"osnet_x0_25={weights}", "--budget", "10"]
    assert main(["--root", str(data), "--out", str(tmp_path), *words]) == 0
    assert {row["reid"]["encoder"] for row in rows_of(tmp_path / TRAIN)} == {"stripes+osnet_x0_25"}
    assert set(read_about(tmp_path / TRAIN)["encoders"]) == {"stripes", "osnet_x0_25"}


@pytest.fixture
def mislabelled(tmp_path) -> tuple[Path, str]:
    """People with one image filed under somebody who looks nothing like them."""
    folder = market.draw(tmp_path / "data", identities=40, images=6)
    images = sorted((folder / "bounding_box_train").iterdir())
    truth = {row.pop("path"): row for row in read_table(folder / "truth.parquet").to_pylist()}
    for image, other in itertools.product(images, images):
        mine, theirs = (truth[f"bounding_box_train/{x.name}"] for x in (image, other))
        if all(mine[key] != theirs[key] for key in ("shirt", "trousers", "hair")):
            wrong = image.with_name(other.name[:4] + image.name[4:])
            shutil.move(image, wrong)
            return tmp_path / "data", wrong.name
    raise AssertionError("no two people differ in shirt, trousers and hair")


def test_a_mislabelled_image_goes_to_quarantine_unless_doubts_are_kept(mislabelled, tmp_path):
    data, wrong = mislabelled

    def used(out: Path) -> set[str]:
        rows = rows_of(out / "market1501_reid_extreme.parquet")
        return {Path(image["path"]).name for row in rows for image in row["images"]}

    assert run(data, tmp_path / "doubting", "--pairs", "extreme") == 0
    doubts = read_table(tmp_path / "doubting" / QUARANTINE).to_pylist()
    found = {Path(row["anchor_path"]).name: row for row in doubts}
    assert found[wrong]["reason"] == "same person"
    assert found[wrong]["anchor_pid"] != found[wrong]["candidate_pid"]
    assert wrong not in used(tmp_path / "doubting")
    assert run(data, tmp_path / "trusting", "--keep_doubts", "--pairs", "extreme") == 0
    assert wrong in used(tmp_path / "trusting")
    assert not (tmp_path / "trusting" / QUARANTINE).exists()


def test_the_quarantine_names_both_images_and_the_reason(out):
    columns = pq.read_schema(out / QUARANTINE).names
    for name in ("anchor_path", "anchor_pid", "candidate_path", "candidate_pid", "reason"):
        assert name in columns
    assert isinstance(pq.read_table(out / QUARANTINE), pa.Table)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--budget", "0"), "--budget 0.0: needs a share"),
        (("--top_k", "0"), "--top_k 0: needs at least 1"),
        (("--per_image", "0"), "--per_image 0: needs at least 1"),
        (("--batch_size", "0"), "--batch_size 0: needs at least 1"),
        (("--source", "market1501", "market1501"), "needs each data set once"),
        (("--encoder", "osnet_x1_0=/none.pth"), "no weights at /none.pth"),
        (("--root", "/none"), "market1501 was not found; looked for /none/Market-1501-v15.09.15"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(data, tmp_path, capsys, words, message):
    assert run(data, tmp_path, *words) == 2
    assert message in capsys.readouterr().err


def test_one_camera_gives_nothing_to_pair(tmp_path, capsys):
    folder = market.draw(tmp_path / "data") / "bounding_box_train"
    for image in folder.iterdir():
        if "_c1" not in image.name:
            image.unlink()
    assert run(tmp_path / "data", tmp_path) == 2
    assert "no identity was seen by two cameras" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [(), ("--both_orders",), ("--form", "choice", "--pairs", "random")],
    ids=["pair", "both orders", "choice"],
)
def test_excluded_samples_are_left_out_and_no_other_names_them(data, tmp_path, capsys, words):
    name = "random_choice" if "choice" in words else "hard"
    path = tmp_path / f"market1501_reid_{name}.parquet"
    assert run(data, tmp_path, *words) == 0
    before, counted = rows_of(path), read_about(path)["coverage"]
    gone = {row["id"] for row in before[:3]}
    (tmp_path / "ids.txt").write_text("\n".join([*gone, "nobody"]))
    assert run(data, tmp_path, *words, "--exclude", str(tmp_path / "ids.txt")) == 0
    assert "left out 3 samples; 1 of its 4 ids name no sample" in capsys.readouterr().out
    expected = [row for row in before if row["id"] not in gone]
    for row in expected:
        if row["reid"]["twin"] in gone:
            row["reid"]["twin"] = None
    assert rows_of(path) == expected
    if "--both_orders" not in words:  # there the other order keeps the pair
        assert read_about(path)["coverage"] != counted
