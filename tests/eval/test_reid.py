"""`python -m eval.reid` from an embeddings table to numbers, lists and judgements."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nontrivial.eval.ranking import Labels
from nontrivial.eval.reid import main
from nontrivial.manifests.parquet import write_table
from nontrivial.manifests.schema import VECTOR, embeddings_schema
from tests.media_files import write_image
from tests.reference import kreciprocal
from tests.reference import ranking as naive

ENCODERS = {"one": 8, "two": 4}


def write_embeddings(path: Path, rows: list[dict], media_root: Path) -> Path:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    content = pa.table(columns, schema=embeddings_schema(ENCODERS))
    write_table(content, path, {"media_root": str(media_root)})
    return path


def rows_of(count: int = 40, source: str = "market1501", **changes) -> list[dict]:
    """Images of five people seen by three cameras, one in eight junk or nobody."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        role = (
            "query"
            if i < 8
            else "junk"
            if i % 9 == 0
            else "distractor"
            if i % 7 == 0
            else "gallery"
        )
        vectors = {n: rng.standard_normal(w).astype(np.float32) for n, w in ENCODERS.items()}
        pid = "nobody" if role in ("junk", "distractor") else str(i % 5)
        row = {
            "path": f"{source}/{i:03d}.jpg",
            "source": source,
            "pid": pid,
            "camid": int(rng.integers(1, 4)),
            "clothes": None,
            "split": "test",
            "role": role,
        }
        row |= {VECTOR + n: (v / np.linalg.norm(v)).tolist() for n, v in vectors.items()}
        rows.append(row | changes)
    return rows


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = rows_of()
    for i, row in enumerate(rows):
        write_image(tmp_path / "data" / row["path"], seed=i % 3)
    return write_embeddings(tmp_path / "market.parquet", rows, tmp_path / "data")


@pytest.fixture
def evaluate(table: Path, tiny_policy_dir: Path, tmp_path: Path):
    """Run the command on the table; returns its status."""

    def run(*words: str, out: str = "out") -> int:
        fixed = ["--out", str(tmp_path / out), "--model_name_or_path", str(tiny_policy_dir)]
        return main([str(table), *fixed, "--max_new_tokens", "4", *words])

    return run


def labels(part: list[dict]) -> Labels:
    pids = [-1 if row["role"] == "distractor" else int(row["pid"]) for row in part]
    camids = [-1 if row["camid"] is None else row["camid"] for row in part]
    return Labels(np.array(pids), np.array(camids), np.zeros(len(part)))


def record(folder: Path) -> dict:
    return json.loads((folder / "reid.json").read_text())


def judged(folder: Path) -> dict[str, dict]:
    (store,) = folder.glob("*.judged.jsonl")
    lines = [json.loads(line) for line in store.read_text().splitlines()]
    assert len({line["id"] for line in lines}) == len(lines)
    return {line["id"]: line for line in lines}


@pytest.mark.parametrize("unknown", [(), (1,), (1, 2, 3)], ids=["none", "some", "all"])
def test_the_numbers_are_those_of_the_naive_ranking(unknown, evaluate, table, tmp_path):
    rows = [r | {"camid": None} if r["camid"] in unknown else r for r in rows_of()]
    write_embeddings(table, rows, tmp_path / "data")
    assert evaluate() == 0
    rows = [row for row in rows if row["role"] != "junk"]
    queries = [row for row in rows if row["role"] == "query"]
    gallery = [row for row in rows if row["role"] != "query"]
    for line in record(tmp_path / "out")["lines"]:
        column = VECTOR + line["encoder"]
        scores = np.array([r[column] for r in queries]) @ np.array([r[column] for r in gallery]).T
        mean_ap, mean_inp, cmc, counted = naive.metrics(scores, labels(queries), labels(gallery))
        found = line["scores"]
        assert found["queries"] == counted
        np.testing.assert_allclose(
            [found["mean_ap"], found["mean_inp"], *found["cmc"][:10]],
            [mean_ap, mean_inp, *cmc],
            atol=1e-6,
        )
        low, high = line["interval"]
        assert low <= mean_ap <= high


def test_every_encoder_and_ranking_gets_a_line(evaluate, tmp_path, capsys):
    assert evaluate("--k_reciprocal", "--judge", "direct") == 0
    lines = record(tmp_path / "out")["lines"]
    both = "k-reciprocal + policy, direct"
    rankings = ["first stage", "k-reciprocal", "policy, direct", both]
    assert [(x["encoder"], x["ranking"]) for x in lines] == [
        (name, ranking) for name in ENCODERS for ranking in rankings
    ]
    shown = capsys.readouterr().out
    assert "both orders agree on" in shown
    assert all(x["seconds"] > 0 for x in lines if x["ranking"].startswith("policy"))


def test_verdicts_enter_the_neighbourhoods(evaluate, tmp_path, monkeypatch):
    words = ("--judge", "direct", "--k_reciprocal", "--encoder", "one", "--top_k", "3")
    assert evaluate(*words) == 0
    (store,) = (tmp_path / "out").glob("*.judged.jsonl")
    chance = np.random.default_rng(0)
    changed = [
        line | {"p_same": chance.random(), "swapped": None}
        for line in judged(tmp_path / "out").values()
    ]
    store.write_text("".join(json.dumps(line) + "\n" for line in changed))
    monkeypatch.setattr("nontrivial.eval.generation.load_policy", None)
    found = {}
    for alpha in (0.0, 0.6):
        assert evaluate(*words, "--fusion_alpha", str(alpha)) == 0
        lines = record(tmp_path / "out")["lines"]
        found[alpha] = {line["ranking"]: line["scores"] for line in lines}
    assert found[0.0]["k-reciprocal + policy, direct"] == found[0.0]["k-reciprocal"]
    rows = {r["path"]: r for r in rows_of() if r["role"] != "junk"}
    queries = [r for r in rows.values() if r["role"] == "query"]
    gallery = [r for r in rows.values() if r["role"] != "query"]
    places = {r["path"]: i for part in (queries, gallery) for i, r in enumerate(part)}
    pairs = [(*line["id"].split("~"), line["p_same"]) for line in changed]
    triples = [(places[query], places[candidate], p) for query, candidate, p in pairs]
    vectors = [np.array([r[VECTOR + "one"] for r in part]) for part in (queries, gallery)]
    far = kreciprocal.distances(*vectors, verdicts=triples, alpha=0.6)
    wanted = naive.metrics(-far, labels(queries), labels(gallery))
    both = found[0.6]["k-reciprocal + policy, direct"]
    assert both["mean_ap"] == pytest.approx(wanted[0], abs=1e-6)
    assert both["mean_ap"] != found[0.6]["k-reciprocal"]["mean_ap"]


def test_lists_hold_what_a_report_shows(evaluate, tmp_path):
    assert evaluate("--judge", "direct", "--encoder", "one", "--top_k", "3") == 0
    lines = [json.loads(x) for x in (tmp_path / "out/market-one.lists.jsonl").open()]
    assert len(lines) == record(tmp_path / "out")["lines"][0]["scores"]["queries"]
    for line in lines:
        assert [item["p_same"] is not None for item in line["list"]] == [True] * 3 + [False] * 7
        scores = [item["score"] for item in line["list"]]
        assert scores == sorted(scores, reverse=True)
        assert all(item["pid"] == line["pid"] for item in line["list"] if item["right"])


@pytest.mark.parametrize("judge", ["direct", "reasoned", "votes"])
def test_a_judge_says_the_same_whatever_the_batch(judge, evaluate, tmp_path):
    words = ("--judge", judge, "--encoder", "one", "--limit", "2", "--top_k", "2", "--votes", "2")
    for size in ("1", "4"):
        assert evaluate(*words, "--batch_size", size, out=f"b{size}") == 0
    one, four = judged(tmp_path / "b1"), judged(tmp_path / "b4")
    assert one.keys() == four.keys()
    for id in one:
        assert 0 <= one[id]["p_same"] <= 1
        if judge != "votes":  # drawn completions depend on who shares the batch
            assert one[id]["p_same"] == pytest.approx(four[id]["p_same"], abs=1e-4)


def test_a_killed_run_goes_on_where_it_was(evaluate, tmp_path, monkeypatch):
    words = ("--judge", "direct", "--encoder", "one", "--top_k", "2")
    assert evaluate(*words, "--batch_size", "1") == 0
    (store,) = (tmp_path / "out").glob("*.judged.jsonl")
    whole, numbers = judged(tmp_path / "out"), record(tmp_path / "out")["lines"][1]["scores"]
    kept = store.read_text().splitlines(keepends=True)[:5]
    store.write_text("".join(kept)[:-9])  # the kill came in the middle of a line
    assert evaluate(*words, "--batch_size", "1") == 0
    again = judged(tmp_path / "out")
    assert {k: v["p_same"] for k, v in again.items()} == {k: v["p_same"] for k, v in whole.items()}
    assert record(tmp_path / "out")["lines"][1]["scores"] == numbers
    monkeypatch.setattr("nontrivial.eval.generation.load_policy", None)
    assert evaluate(*words) == 0, "nothing is left to judge"


@pytest.mark.parametrize("lines", [2, -2])
def test_a_kill_within_a_batch_changes_no_vote(evaluate, tmp_path, lines):
    """Votes are drawn batch by batch; both encoders have pairs of their own and in common."""
    words = ("--judge", "votes", "--votes", "2", "--temperature", "3", "--swap", "false")
    words += ("--limit", "3", "--top_k", "4", "--batch_size", "3")

    def verdicts() -> dict[str, float]:
        return {id: line["p_same"] for id, line in judged(tmp_path / "out").items()}

    assert evaluate(*words) == 0
    (store,) = (tmp_path / "out").glob("*.judged.jsonl")
    whole, numbers = verdicts(), record(tmp_path / "out")["lines"]
    store.write_bytes(b"".join(store.read_bytes().splitlines(keepends=True)[:lines]) + b"{")
    assert evaluate(*words) == 0
    assert verdicts() == whole
    again = record(tmp_path / "out")["lines"]
    assert [line["scores"] for line in again] == [line["scores"] for line in numbers]


def test_damaged_images_are_listed_and_bounded(evaluate, tmp_path, capsys):
    for photo in (tmp_path / "data/market1501").glob("01*.jpg"):
        photo.write_bytes(photo.read_bytes()[:200])
    words = ("--judge", "direct", "--encoder", "one")
    assert evaluate(*words) == 2
    assert "is not a readable image" in capsys.readouterr().err
    assert evaluate(*words, "--max_bad", "1") == 0
    assert "cannot be judged and count as undecided" in capsys.readouterr().err


def test_data_sets_of_one_table_are_ranked_apart(tmp_path, capsys):
    rows = rows_of() + rows_of(source="prcc", clothes="red")
    path = write_embeddings(tmp_path / "two.parquet", rows, tmp_path)
    # Nobody of "prcc" changes clothes here: its protocol finds no match, and says so.
    assert main([str(path), "--out", str(tmp_path / "out")]) == 2
    assert "none of 8 queries has a match" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.parquet"], "none.parquet: no such file"),
        (["market.parquet", "--encoder", "three"], "has no vectors of three; it has one, two"),
        (["market.parquet", "--fusion_alpha", "2"], "--fusion_alpha 2.0: needs a share"),
        (["market.parquet", "--top_k", "0"], "--top_k 0: needs at least 1"),
        (["train.parquet"], "0 queries and 40 gallery images"),
    ],
)
def test_bad_input_is_named_without_a_traceback(
    words, message, table, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_embeddings(tmp_path / "train.parquet", rows_of(role="gallery"), tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err
