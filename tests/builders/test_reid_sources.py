"""`python -m builders.reid_hard` on every data set, alone and together, in every form."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml

from nontrivial.builders.reid.pairs import quotas
from nontrivial.builders.reid.sources import SOURCES
from nontrivial.builders.reid.vector_cache import CACHE
from nontrivial.builders.reid_hard import main
from nontrivial.manifests.media import decode_image
from nontrivial.manifests.parquet import read_about, read_samples
from nontrivial.models.encoders import load_encoder
from tests import tiny_clip
from tests.builders.reid import market

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DRESSED = ("prcc", "ltcc", "vc_clothes", "deepchange", "ccvid")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The same drawn people in the layout of every data set."""
    root = tmp_path_factory.mktemp("people") / "data"
    market.draw(root, identities=16, test_identities=8)
    for source in market.LAYOUTS:
        market.move(root, source)
    return root


def run(data: Path, out: Path, *words: str) -> int:
    """With one cache for all tests of this file: stripes need to see an image only once."""
    cache = out / CACHE
    if data.is_dir() and not cache.exists():
        (data.parent / "cache").mkdir(exist_ok=True)
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.symlink_to(data.parent / "cache")
    return main(["--encoder", "stripes", "--root", str(data), "--out", str(out), *words])


def rows_of(path: Path) -> list[dict]:
    return read_samples(path).to_pylist()


def test_every_published_data_set_has_a_layout_here():
    assert set(market.LAYOUTS) == set(SOURCES) - {"market1501", "table", "folder"}


TOLD = ("cuhk_pedes", "icfg_pedes", "rstpreid")  # descriptions stand for the queries


@pytest.mark.parametrize("source", market.LAYOUTS)
def test_each_data_set_gives_pairs_whose_answers_are_true(data, tmp_path, source):
    words = ("--source", source, "--keep_doubts", "--pairs")
    rows, least = [], {"hard": 6, "extreme": 20}
    for pairs, count in least.items():
        assert run(data, tmp_path, *words, pairs) == 0
        rows += rows_of(tmp_path / f"{source}_reid_{pairs}.parquet")
        assert len(rows) >= count
    for row in rows:
        reid = row["reid"]
        same = reid["query_pid"] == reid["candidate_pids"][0]
        assert row["options"]["AB".index(row["answer"][0])] == ("Yes" if same else "No")
        assert reid["query_pid"].startswith(f"{source}/train/")
        if source not in market.NO_CAMERAS:
            assert reid["query_camid"] != reid["candidate_camids"][0]
        if source in TOLD:
            assert (row["task"], len(row["images"])) == ("reid_text", 1)
            assert "Description: " in row["question"]
        else:
            assert row["images"][0] != row["images"][1]
        if source in DRESSED and same:
            assert None not in (reid["query_clothes"], reid["candidate_clothes"][0])
            assert reid["query_clothes"] != reid["candidate_clothes"][0]
    assert {row["answer"][0] for row in rows} == {"A", "B"}
    assert all((data / image["path"]).is_file() for row in rows for image in row["images"])


def test_several_sources_share_one_manifest_in_proportion(data, tmp_path):
    names = ["market1501", "msmt17", "cuhk03", "prcc"]
    assert run(data, tmp_path, "--source", *names, "--budget", "38") == 0
    path = tmp_path / f"{'+'.join(names)}_reid_hard.parquet"
    counts = Counter(row["source"] for row in rows_of(path))
    wanted = dict(zip(names, quotas(38, [96] * 4), strict=True))
    assert counts == wanted
    about = read_about(path)
    assert set(about["counts"]) == set(about["first_stage_auc"]) == set(names)
    assert len(about["differences"]) == 4
    alone = tmp_path / "alone"
    assert run(data, alone, "--source", "prcc", "--budget", str(wanted["prcc"])) == 0
    ids = {row["id"] for row in rows_of(alone / "prcc_reid_hard.parquet")}
    assert ids == {row["id"] for row in rows_of(path) if row["source"] == "prcc"}


def test_the_recipe_gives_the_published_number_of_pairs():
    recipe = yaml.safe_load((CONFIGS / "reid_r_pairs.yaml").read_text(encoding="utf-8"))
    published = {"market1501": 12_936, "msmt17": 30_248, "cuhk03": 7_365, "prcc": 17_896}
    sizes = [published[name] for name in recipe["source"]]
    assert sum(sizes) == 68_445
    assert sum(quotas(recipe["budget"], sizes)) == 14_305


def test_the_recipe_is_read_by_the_command(data, tmp_path):
    words = ["--config", str(CONFIGS / "reid_r_pairs.yaml"), "--keep_doubts"]
    assert run(data, tmp_path, *words) == 0
    rows = rows_of(tmp_path / "market1501+msmt17+cuhk03+prcc_reid_hard.parquet")
    assert len(rows) == 80


def test_the_recipe_that_leaves_one_out_is_read_by_the_command(data, tmp_path):
    recipe = CONFIGS / "reid_r_left_out.yaml"
    assert run(data, tmp_path, "--config", str(recipe), "--keep_doubts") == 0
    rows = rows_of(tmp_path / "msmt17+cuhk03+cuhk_sysu_reid_hard.parquet")
    assert {row["source"] for row in rows} == {"msmt17", "cuhk03", "cuhk_sysu"}
    given = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    assert not any("osnet" in name or name == "auto" for name in given["encoder"])


def test_a_shuffled_table_and_a_pattern_find_the_same_pairs(data, tmp_path):
    files = sorted((data / market.FOLDER / "bounding_box_train").iterdir())
    random.Random(0).shuffle(files)
    lines = [f"{p.relative_to(data)},{p.name[:4]},{p.name[6]}\n" for p in files]
    listed = tmp_path / "people.csv"
    listed.write_text("path,pid,camid\n" + "".join(lines), encoding="utf-8")
    pattern = rf"{market.FOLDER}/bounding_box_train/(?P<pid>\d{{4}})_c(?P<camid>\d).*\.jpg"
    assert run(data, tmp_path, "--source", f"table={listed}") == 0
    assert run(data, tmp_path, "--source", f"folder={pattern}") == 0
    pairs = [
        {tuple(image["path"] for image in row["images"]) for row in rows_of(tmp_path / name)}
        for name in ("table_reid_hard.parquet", "folder_reid_hard.parquet")
    ]
    assert pairs[0] == pairs[1] != set()


def test_hard_and_random_tables_can_be_trained_on_together(data, tmp_path):
    ids = []
    for words in ((), ("--pairs", "random"), ("--pairs", "random", "--form", "choice")):
        assert run(data, tmp_path, *words) == 0
    for path in sorted(tmp_path.glob("*.parquet")):
        ids += [row["id"] for row in rows_of(path)]
    assert len(list(tmp_path.glob("*.parquet"))) == 3
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("pairs", ["extreme", "random"])
def test_a_choice_asks_for_none_to_several_of_its_candidates(data, tmp_path, pairs):
    words = ("--form", "choice", "--candidates", "3", "--pairs", pairs)
    assert run(data, tmp_path, *words) == 0
    rows = rows_of(tmp_path / f"market1501_reid_{pairs}_choice.parquet")
    assert len(rows) == 20
    counts = Counter()
    for row in rows:
        reid = row["reid"]
        assert len(row["images"]) == len(row["options"]) == 4
        right = [
            c for c, p in zip("ABC", reid["candidate_pids"], strict=True) if p == reid["query_pid"]
        ]
        assert row["answer"] == (right or ["D"])
        assert row["task"] == "reid_choice"
        assert row["rationale"].count("; Yes;") == len(right)
        counts[len(right)] += 1
    assert set(counts) == {0, 1, 2}


def test_both_orders_are_the_same_pairs_turned_round(data, tmp_path):
    assert run(data, tmp_path / "plain") == 0
    assert run(data, tmp_path / "both", "--both_orders") == 0
    name = "market1501_reid_hard.parquet"
    plain, both = (
        {row["id"]: row for row in rows_of(tmp_path / x / name)} for x in ("plain", "both")
    )
    assert len(both) == 2 * len(plain)
    for name, row in plain.items():
        head, _, pair = name.rpartition("/")
        other = both[f"{head}/{'~'.join(reversed(pair.split('~')))}"]
        assert both[name] == row
        assert other["images"] == row["images"][::-1]
        assert other["answer"] == row["answer"]
        assert other["group"] == row["reid"]["candidate_pids"][0]


def test_people_are_searched_by_their_descriptions_with_clip(data, tmp_path):
    words = ("--source", "rstpreid", "--anchor", "text", "--pairs", "random")
    clip = f"openclip:tiny={tiny_clip.write(tmp_path)}"
    assert main(["--encoder", clip, "--root", str(data), "--out", str(tmp_path), *words]) == 0
    rows = rows_of(tmp_path / "rstpreid_reid_random.parquet")
    encoder = load_encoder(clip)
    for row in rows[:5]:
        text = row["question"].partition("Description: ")[2]
        image = decode_image(data / row["images"][0]["path"])
        seen = encoder.encode(encoder.preprocess(image)[None])[0]
        cosine = float(encoder.encode_texts([text])[0] @ seen)
        assert row["reid"]["similarity"] == pytest.approx([cosine], abs=2e-3)


def test_a_verifier_gets_the_first_of_each_ranking(data, tmp_path):
    words = ("--split", "test", "--pairs", "top", "--top_k", "5")
    assert run(data, tmp_path, *words) == 0
    rows = rows_of(tmp_path / "eval" / "market1501_reid_top_test.parquet")
    by_query: dict[str, list[dict]] = {}
    for row in rows:
        by_query.setdefault(row["images"][0]["path"], []).append(row)
    queries = sorted((data / market.FOLDER / "query").iterdir())
    assert len(by_query) == len(queries)
    for ranked in by_query.values():
        ranked.sort(key=lambda row: row["reid"]["rank"])
        assert [row["reid"]["rank"] for row in ranked] == [[n] for n in range(1, 6)]
        values = [row["reid"]["similarity"][0] for row in ranked]
        assert values == sorted(values, reverse=True)
        for row in ranked:
            reid = row["reid"]
            same = reid["query_pid"] == reid["candidate_pids"][0]
            assert not (same and reid["query_camid"] == reid["candidate_camids"][0])
            assert row["options"]["AB".index(row["answer"][0])] == ("Yes" if same else "No")
    shown = {row["images"][1]["path"].rpartition("/")[2] for row in rows}
    assert not any(name.startswith("-1") for name in shown)
    assert any(name.startswith("0000") for name in shown)


def test_an_approximate_search_reports_its_recall(data, tmp_path, capsys):
    assert run(data, tmp_path, "--ivf_probes", "1", "--top_k", "5") == 0
    about = read_about(tmp_path / "market1501_reid_hard.parquet")
    assert 0 < about["recall"]["market1501"] <= 1


def test_the_metadata_tells_what_the_pairs_cover(data, tmp_path):
    assert run(data, tmp_path) == 0
    path = tmp_path / "market1501_reid_hard.parquet"
    covered = read_about(path)["coverage"]["market1501"]
    assert sum(covered["rank"].values()) == len(rows_of(path))
    assert sum(covered["pairs of a camera"].values()) == 2 * len(rows_of(path))
    assert covered["pairs of an identity"]["of"] == 16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--candidates", "1"), "--candidates 1: needs 2 to 25"),
        (("--form", "choice", "--both_orders"), "only pairs have two orders"),
        (("--pairs", "top"), "--pairs top: is for --split test"),
        (("--source", "rstpreid", "--form", "choice"), "not for descriptions"),
        (("--source", "rstpreid", "--anchor", "text"), "stripes reads no text"),
        (("--anchor", "text"), "none of the data sets describes its people"),
        (("--source", "cuhk_sysu", "--split", "test"), "cuhk_sysu has no split 'test'"),
        (("--source", "table"), "needs table=FILE"),
        (("--source", "folder=(["), "is not a regular expression"),
    ],
)
def test_what_makes_no_sense_is_said(data, tmp_path, capsys, words, message):
    assert run(data, tmp_path, *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("source", market.LAYOUTS)
def test_without_the_data_a_source_says_what_it_looked_for(tmp_path, capsys, source):
    shutil.rmtree(tmp_path / "none", ignore_errors=True)
    assert run(tmp_path / "none", tmp_path, "--source", source) == 2
    message = capsys.readouterr().err
    for word in ("was not found; looked for", "layout:", "origin:", "nontrivial synthetic"):
        assert word in message
