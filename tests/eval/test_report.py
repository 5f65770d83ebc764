"""`python -m eval.report` on what `eval.qa` and `eval.reid` wrote."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from nontrivial.eval.qa import main as answer
from nontrivial.eval.reid import main as rank
from nontrivial.eval.report import main
from nontrivial.manifests.parquet import write_samples
from nontrivial.manifests.schema import samples_table
from tests import browser
from tests.eval.test_reid import rows_of, write_embeddings
from tests.media_files import write_image
from tests.rows import media, reid_pair

HOSTILE = "</script><script>document.title='owned'</script>"
GOOD, BAD = "<think>red, red</think><answer>B</answer>", f"{HOSTILE}<answer>A</answer>"


@pytest.fixture
def runs(tmp_path: Path, tiny_policy_dir: Path) -> Path:
    """Two runs of answers, `first` all wrong and `second` half right, and one of rankings."""
    for i in range(4):
        write_image(tmp_path / f"data/{i}.jpg", seed=i)
    rows = [
        reid_pair(f"pair{i}", group=f"p{i}", images=[media("0.jpg"), media("1.jpg")])
        for i in range(4)
    ]
    manifest = tmp_path / "pairs.parquet"
    write_samples(samples_table(rows), manifest, {"media_root": str(tmp_path / "data")})
    for name, right in (("first", 0), ("second", 2)):
        made = tmp_path / f"{name}.jsonl"
        texts = [GOOD if i < right else BAD for i in range(4)]
        lines = [json.dumps({"id": f"pair{i}", "completion": t}) for i, t in enumerate(texts)]
        made.write_text("\n".join(lines) + "\n")
        words = ["--predictions", str(made), "--out", str(tmp_path / "runs" / name)]
        assert answer([str(manifest), *words]) == 0
    images = rows_of()
    for i, row in enumerate(images):
        write_image(tmp_path / "data" / row["path"], seed=i)
    table = write_embeddings(tmp_path / "market.parquet", images, tmp_path / "data")
    judged = ["--judge", "reasoned", "--max_new_tokens", "3", "--encoder", "one", "--top_k", "2"]
    model = ["--model_name_or_path", str(tiny_policy_dir), "--out", str(tmp_path / "runs/ranked")]
    assert rank([str(table), *judged, *model]) == 0
    return tmp_path / "runs"


def build(runs: Path, *names: str, words: tuple[str, ...] = ()) -> dict:
    """The data of the page that the command writes."""
    page = runs / "page.html"
    folders = [str(runs / name) for name in names]
    assert main([*folders, "--out", str(page), *words]) == 0
    text = page.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(data)


def test_the_worst_cases_come_first_and_runs_are_compared(runs):
    data = build(runs, "first", "second")
    cards = data["cards"]
    assert [card["numbers"]["soft"] for card in cards] == [0, 0, 0.5, 0.5]
    assert {card["title"] for card in cards[:2]} == {"pair2", "pair3"}
    assert cards[-1]["numbers"]["gain, last over first"] == 1
    assert (cards[-1]["facets"]["first is"], cards[-1]["facets"]["second is"]) == ("wrong", "right")
    first, second = cards[-1]["blocks"][-2:]
    assert (first["mark"], second["mark"]) == ("wrong", "right")
    assert second["text"] == GOOD
    (table,) = data["tables"]
    assert table["header"][-2:] == ["first", "second"]
    assert table["rows"][0][-1].startswith("0.500 (")
    assert len(data["images"]) == 2


def test_rank_lists_mark_right_and_wrong_and_say_what_the_policy_thought(runs):
    data = build(runs, "ranked")
    aps = [card["numbers"]["AP"] for card in data["cards"]]
    assert aps == sorted(aps)
    blocks = data["cards"][0]["blocks"]
    items = blocks[2]["items"]
    assert len(items) == 10
    assert {item["mark"] for item in items} <= {"right", "wrong"}
    assert ["P(same)" in item["caption"] for item in items] == [True] * 2 + [False] * 8
    assert all(item["image"] is not None for item in items)
    assert len(blocks) == 3 + 2, "the reasoning about two candidates"
    (chart,) = data["charts"]
    assert sum(count for _, _, count in chart["bins"]) == 2 * len(data["cards"])
    (table,) = data["tables"]
    assert [row[4] for row in table["rows"]] == ["first stage", "policy, reasoned"]


@pytest.fixture
def left_out(runs: Path, tiny_policy_dir: Path) -> list[str]:
    """The runs of two policies on each of two data sets; the second policy is a bit better."""
    policy = ["--model_name_or_path", str(tiny_policy_dir), "--judge", "direct", "--top_k", "2"]
    names = []
    for source, count in (("market1501", 40), ("msmt17", 30)):
        rows = rows_of(count, source)
        for i, row in enumerate(rows):
            write_image(runs.parent / "data" / row["path"], seed=i)
        table = write_embeddings(runs.parent / f"{source}.parquet", rows, runs.parent / "data")
        names += [f"reid/{source}/warmup", f"reid/{source}/grpo"]
        warmup, grpo = (runs / name for name in names[-2:])
        assert rank([str(table), "--encoder", "one", *policy, "--out", str(warmup)]) == 0
        shutil.copytree(warmup, grpo)
        made = json.loads((grpo / "reid.json").read_text())
        made["lines"][1]["scores"]["mean_ap"] += 0.01
        (grpo / "reid.json").write_text(json.dumps(made))
    return names


def test_one_table_has_a_row_for_each_data_set(runs, left_out, capsys):
    table = build(runs, *left_out)["tables"][0]
    columns = ["first stage", "warmup: policy, direct", "grpo: policy, direct"]
    assert table["header"] == ["data set", "encoder", "protocol", *columns]
    assert [row[0] for row in table["rows"]] == ["market1501", "msmt17", "mean"]
    found = {}
    for name in left_out:
        for line in json.loads((runs / name / "reid.json").read_text())["lines"]:
            policy = f"{Path(name).name}: " * line["ranking"].startswith("policy")
            rates = line["scores"]["mean_ap"], line["scores"]["cmc"][0]
            found[line["source"], policy + line["ranking"]] = rates
    for at, column in enumerate(columns, 3):
        pairs = [found[source, column] for source in ("market1501", "msmt17")]
        pairs.append(tuple(sum(values) / 2 for values in zip(*pairs, strict=True)))
        assert [row[at] for row in table["rows"]] == [f"{a:.3f} / {b:.3f}" for a, b in pairs]
    shown = capsys.readouterr().out
    assert all(cell in shown for row in table["rows"] for cell in row)


def test_runs_that_disagree_share_no_column(runs, left_out):
    (runs / left_out[0]).rename(runs / "grpo")
    table = build(runs, "grpo", *left_out[1:])["tables"][0]
    assert table["header"][4:] == [
        "grpo: policy, direct",
        f"{runs / left_out[1]}: policy, direct",
        "warmup: policy, direct",
    ]
    assert [cell == "" for cell in table["rows"][-1][4:]] == [False, True, True]


def test_a_camera_is_named_or_said_to_be_unknown(runs, tmp_path):
    rows = [row | {"camid": None if row["role"] == "query" else 2} for row in rows_of()]
    table = write_embeddings(tmp_path / "market.parquet", rows, tmp_path / "data")
    assert rank([str(table), "--encoder", "one", "--out", str(runs / "unknown")]) == 0
    for card in build(runs, "unknown")["cards"]:
        query, _, listed = card["blocks"]
        assert query["items"][0]["caption"].endswith("camera unknown")
        assert all("camera 2" in item["caption"] for item in listed["items"])


GROUP = {
    "step": 3,
    "id": "pair0",
    "task": "video_qa",
    "question": HOSTILE,
    "options": ["red", "blue"],
    "answer": ["B"],
    "token_weighting": "divergence",
    "completions": [
        {"tokens": ["B", "</answer>"], "weights": [1.7, 1], "rewards": {"soft": 1}, "advantage": 1},
        {"tokens": ["A"], "weights": [1.2], "rewards": {"soft": 0}, "advantage": -1},
    ],
}


def sampled(runs: Path, *groups: dict) -> None:
    (runs / "grpo").mkdir()
    lines = [json.dumps(group) + "\n" for group in groups]
    (runs / "grpo" / "samples.jsonl").write_text("".join(lines))


def test_groups_of_training_show_each_tokens_weight_latest_first(runs):
    sampled(runs, GROUP, GROUP | {"step": 13})
    cards = build(runs, "first", "grpo")["cards"]
    cards = [card for card in cards if card["facets"]["page"] == "sampled in training"]
    assert [card["title"] for card in cards] == ["step 13: pair0", "step 3: pair0"]
    asked, right, wrong = cards[0]["blocks"]
    assert asked["title"] == "right: B"
    assert asked["text"] == f"{HOSTILE}\nA red\nB blue"
    assert (right["tokens"], right["mark"]) == ([["B", 1.7], ["</answer>", 1.0]], "right")
    assert (wrong["tokens"], wrong["mark"]) == ([["A", 1.2]], "wrong")
    assert wrong["title"] == "advantage -1.00 (soft 0.00)"
    assert cards[0]["numbers"] == {"step": 13, "reward": 0.5}


@pytest.mark.parametrize(
    "change",
    [
        {"step": None},
        {"completions": []},
        {"completions": [GROUP["completions"][0] | {"weights": [1.0]}]},
        {"options": ["x"] * 27},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_line_that_training_did_not_write_is_refused(runs, change, capsys):
    sampled(runs, GROUP | change)
    assert main([str(runs / "grpo"), "--out", str(runs / "page.html")]) == 2
    assert "samples.jsonl, line 1: " in capsys.readouterr().err


def test_cards_are_bounded_and_a_moved_manifest_is_named(runs):
    (runs.parent / "pairs.parquet").unlink()
    data = build(runs, "first", words=("--rows", "1"))
    assert len(data["cards"]) == 1
    assert data["images"] == []
    assert "pairs.parquet is not where it was" in (runs / "page.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["."], "holds neither summary.json nor reid.json nor samples.jsonl"),
        (["broken"], "summary.json: is not JSON"),
    ],
)
def test_bad_input_is_named_without_a_traceback(words, message, runs, monkeypatch, capsys):
    monkeypatch.chdir(runs.parent)
    Path("broken").mkdir()
    Path("broken/summary.json").write_text("{")
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(browser.executable() is None, reason="Chromium is not installed")
def test_the_page_works_and_completions_stay_text(runs):
    build(runs, "first", "second", "ranked")
    with browser.opened(runs / "page.html") as tab:
        assert tab.run("document.title") == "report"
        assert tab.run("document.querySelectorAll('circle').length") >= 1
        tab.run("document.querySelector('[data-facet=page]').value = '\"answers\"'; search()")
        assert tab.run("document.getElementById('count').textContent") == "1–4 of 4"
        assert HOSTILE in tab.run("document.querySelector('main').textContent")
        assert tab.errors == []


@pytest.mark.slow
@pytest.mark.skipif(browser.executable() is None, reason="Chromium is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_are_readable_in_light_and_in_dark_on_shaded_tokens_too(runs, scheme):
    sampled(runs, GROUP)
    build(runs, "first", "second", "ranked", "grpo")
    with browser.opened(runs / "page.html") as tab:
        tab.prefer(scheme)
        shaded = "document.querySelectorAll('p.text span').length"
        assert tab.run(shaded) == 3
        least, where, texts = tab.least_contrast()
        assert least >= 4.5, where
        assert texts > 50
