"""Harnesses load what is exported for them, and their numbers are those of `eval.qa`."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas
import pytest
import yaml
from datasets import load_dataset

from nontrivial.eval.choices import answered
from nontrivial.eval.qa import main as answer
from nontrivial.manifests.__main__ import main
from nontrivial.manifests.exports import HARNESSES
from nontrivial.manifests.parquet import read_samples, write_samples
from nontrivial.manifests.prompts import question_text
from nontrivial.manifests.runs import ANSWERS, JsonLines
from nontrivial.manifests.schema import samples_table
from tests.media_files import write_media
from tests.rows import media, reid_pair, video_question

SCORES = ("strict", "soft", "per_option", "format")
FAMILIES = ("descriptive", "counterfactual", "", "what, if?")
OPTIONS = ["red", "A blue cube", "3", "None", "the ball stops"]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A manifest of pairs and of questions of several families, and recorded answers to it."""
    root = write_media(tmp_path / "media", 2, "clip.webm.mp4")
    rows = [reid_pair(f"pair-{i}", answer=["AB"[i % 2]], images=pictures()) for i in range(20)]
    rows += [question(number) for number in range(120)]
    rows[0]["reid"] |= {"kind": "hard_positive"}
    about = {"media_root": str(root), "builder": "tests"}
    write_samples(samples_table(rows), tmp_path / "some.parquet", about)
    drawn = completions(random.Random(0))
    recorded = ({"id": row["id"], "completion": next(drawn)} for row in rows)
    JsonLines(tmp_path / "answers.jsonl").write(recorded)
    return tmp_path


def pictures() -> list[dict[str, Any]]:
    return [media("0.jpg"), media("1.jpg")]


def question(number: int) -> dict[str, Any]:
    """One of several families, inverted or not, with one to three right options."""
    row = video_question(f"question-{number:03d}", videos=[media("clip.webm.mp4")], options=OPTIONS)
    row["answer"] = [["B"], ["A", "C"], ["B", "D", "E"], ["D"]][number % 4]
    row["group"] = f"clevrer:{number // 3}"
    row["qa"] |= {"family": FAMILIES[number % len(FAMILIES)], "inverted": number % 3 == 0}
    return row


def completions(drawn: random.Random) -> Iterator[str]:
    """Answers as models write them, and worse."""
    thoughts = ("<think>look</think>", "", "<think>no end", "so: ")
    answers = ("A", "b", "B,D,E", "A and C", "(a), C.", "BDE", "D", "none", "", *OPTIONS)
    ends = ("</answer>", "", "</answer> it is", "</answer><answer>B</answer>")
    while True:
        block = drawn.choice(("<answer>", "<ANSWER> ", "", "<answer>A</answer><answer>"))
        text = "; ".join(drawn.choices(answers, k=drawn.choice((1, 1, 1, 2))))
        yield drawn.choice(thoughts) + block + text + drawn.choice(ends)


def exported(world: Path, to: str) -> Path:
    out = world / to
    assert main(["export", str(world / "some.parquet"), "--to", to, "--out", str(out)]) == 0
    return out


@pytest.fixture
def kit(monkeypatch) -> SimpleNamespace:
    """What the module takes of VLMEvalKit, which no registry has; see `ms-swift`'s in exports."""
    known = SimpleNamespace(DATASET_CLASSES=[], SUPPORTED_DATASETS=[])
    videos: dict[str, partial] = {}

    class Base:
        def __init__(self, dataset: str, **settings: Any) -> None:
            self.dataset_name, self.settings = dataset, settings
            if hasattr(self, "prepare_dataset"):
                place = self.prepare_dataset(dataset)
                self.data_root, self.data = place["root"], load(place["data_file"])
            else:
                self.data = self.load_data(dataset)

    def load(file: str) -> Any:
        if file.endswith("json"):
            return json.loads(Path(file).read_text())
        return pandas.read_csv(file, sep="\t" if file.endswith("tsv") else ",")

    parts = {
        "vlmeval.dataset": known,
        "vlmeval.dataset.image_base": SimpleNamespace(ImageBaseDataset=type("I", (Base,), {})),
        "vlmeval.dataset.video_base": SimpleNamespace(VideoBaseDataset=type("V", (Base,), {})),
        "vlmeval.dataset.video_dataset_config": SimpleNamespace(supported_video_datasets=videos),
        "vlmeval.smp": SimpleNamespace(load=load, dump=lambda table, file: table.to_csv(file)),
        "vlmeval.smp.file": SimpleNamespace(
            get_intermediate_file_path=lambda file, suffix, form: f"{file}{suffix}.{form}"
        ),
        "vlmeval": SimpleNamespace(dataset=known),
    }
    for name, part in parts.items():
        monkeypatch.setitem(sys.modules, name, part)
    monkeypatch.setenv("PRED_FORMAT", "json")
    return SimpleNamespace(known=known, videos=videos)


def loaded(file: Path) -> ModuleType:
    """A module that was exported, imported as harnesses do, with nothing of ours."""
    text = file.read_text()
    assert "import nontrivial" not in text
    assert "from nontrivial" not in text
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Function(str):
    """The name behind `!function`."""


class Loader(yaml.SafeLoader):
    """YAML with lmms-eval's tag for functions."""


Loader.add_constructor("!function", lambda loader, node: Function(loader.construct_scalar(node)))


def configs(folder: Path) -> dict[str, dict]:
    return {f.stem: yaml.load(f.read_text(), Loader) for f in sorted(folder.glob("*.yaml"))}


def scored(module: ModuleType, row: dict[str, Any], text: str) -> dict[str, float]:
    if hasattr(module, "process_results"):
        return module.process_results(row, [text])
    return module.score(text, row["options"], row["answer"])


@pytest.mark.parametrize("to", HARNESSES)
def test_thousands_of_answers_are_scored_as_ours(world, kit, to):
    out, drawn, seen = exported(world, to), completions(random.Random(1)), set()
    [module] = [loaded(file) for file in out.glob("*.py")]
    rows = read_samples(world / "some.parquet").to_pylist()
    for number in range(6000):
        row, text = rows[number % len(rows)], next(drawn)
        ours = answered(row, text)
        expected = {name: getattr(ours, name) for name in SCORES}
        assert scored(module, row, text) == expected, text
        seen.add(tuple(expected.values()))
    assert len(seen) > 12
    assert {0.0, 1 / 3, 0.5, 1.0} <= {soft for _, soft, _, _ in seen}


@pytest.mark.parametrize("to", HARNESSES)
def test_real_rollouts_are_scored_as_ours(world, kit, shared_data, to):
    [module] = [loaded(file) for file in exported(world, to).glob("*.py")]
    row, seen = video_question(), set()
    for line in JsonLines(shared_data / "rollouts_2000.jsonl"):
        ours = answered(row, line["completion"])
        assert scored(module, row, line["completion"]) == {n: getattr(ours, n) for n in SCORES}
        seen.add(ours.soft)
    assert seen == {0.0, 0.5, 1.0}


def by_eval(world: Path) -> dict[tuple[str, str | None], dict[str, Any]]:
    """The lines that `eval.qa` writes of the recorded answers, by task and family."""
    words = ["--predictions", str(world / "answers.jsonl"), "--out", str(world / "run")]
    assert answer([str(world / "some.parquet"), *words]) == 0
    lines = json.loads((world / "run" / ANSWERS).read_text())["manifests"]["some"]
    return {(line["task"], line["family"]): line for line in lines}


def test_numbers_of_lmms_eval_are_those_of_eval_qa(world):
    out, lines = exported(world, "lmms-eval"), by_eval(world)
    module, told = loaded(out / "utils.py"), configs(out)
    recorded = {line["id"]: line["completion"] for line in JsonLines(world / "answers.jsonl")}
    counted, means = {}, {}
    for name, config in told.items():
        if "group" in config:
            continue
        docs = load_dataset(
            config["dataset_path"],
            **config["dataset_kwargs"],
            split=config["test_split"],
            cache_dir=str(world / "cache"),
        )
        results = [module.process_results(doc, [recorded[doc["id"]]]) for doc in docs]
        means[name] = {m: sum(r[m] for r in results) / len(docs) for m in SCORES}
        counted[name] = len(docs)
        [key] = {(doc["task"], doc["family"]) for doc in docs}
        assert lines[key]["n"] == len(docs)
        assert means[name] == pytest.approx({m: lines[key][m] for m in SCORES})
        assert {metric["metric"] for metric in config["metric_list"]} == set(SCORES)
    families = [key for key in lines if key[1] not in (None, "those with a right option")]
    assert len(means) == len(families) > 8
    for name, config in told.items():
        if "group" in config:
            sizes = {task: counted.pop(task) for task in config["task"]}
            total = sum(sizes.values())
            whole = {m: sum(n * means[t][m] for t, n in sizes.items()) / total for m in SCORES}
            line = lines[name.removeprefix("nontrivial_some_"), None]
            assert whole == pytest.approx({m: line[m] for m in SCORES})
    assert counted == {}


def test_tasks_of_lmms_eval_are_whole(world):
    out = exported(world, "lmms-eval")
    module, told = loaded(out / "utils.py"), configs(out)
    rows = {row["id"]: row for row in read_samples(world / "some.parquet").to_pylist()}
    asked = 0
    for name, config in told.items():
        if "group" in config:
            assert config["group"] == name
            assert set(config["task"]) <= told.keys()
            continue
        assert config["task"] == name
        assert config["tag"] == "nontrivial_some"
        assert config["reasoning_tags"] == "none"  # or reasons would be cut out before scoring
        assert config["generation_kwargs"]["until"] == []  # or reasons would end at a blank line
        functions = [value for value in config.values() if isinstance(value, Function)]
        assert all(callable(getattr(module, f.removeprefix("utils."))) for f in functions)
        for doc in load_dataset(
            "parquet", **config["dataset_kwargs"], split="test", cache_dir=str(world / "cache")
        ):
            row = rows[doc["id"]]
            text = question_text(row["question"], row["options"], row["task"])
            assert module.doc_to_text(doc) == text
            assert module.doc_to_target(doc) == ",".join(row["answer"])
            seen = module.doc_to_visual(doc)
            if row["images"]:
                assert [picture.mode for picture in seen] == ["RGB", "RGB"]
            else:
                assert [Path(clip).is_file() for clip in seen] == [True]
            asked += 1
    assert asked == len(rows)


def test_names_of_tasks_hold_no_separators(world):
    rows = [question(number) for number in range(4)]
    about = {"media_root": str(world / "media"), "builder": "tests"}
    write_samples(samples_table(rows), world / "a, b*.parquet", about)
    out = world / "odd"
    assert (
        main(["export", str(world / "a, b*.parquet"), "--to", "lmms-eval", "--out", str(out)]) == 0
    )
    assert set(configs(out)) == {
        "nontrivial_a_b_video_qa",
        "nontrivial_a_b_video_qa_counterfactual",
        "nontrivial_a_b_video_qa_descriptive_inverted",
        "nontrivial_a_b_video_qa_other",
        "nontrivial_a_b_video_qa_what_if_inverted",
    }


@pytest.mark.parametrize("form", ["tsv", "json"])
def test_numbers_of_vlmevalkit_are_those_of_eval_qa(world, kit, form):
    out, lines = exported(world, "vlmevalkit"), by_eval(world)
    loaded(out / "nontrivial_vlmevalkit.py")
    recorded = {line["id"]: line["completion"] for line in JsonLines(world / "answers.jsonl")}
    found = {}
    for cls in kit.known.DATASET_CLASSES:
        [name] = cls.supported_datasets()
        table = cls(dataset=name).data
        table["prediction"] = [recorded[row] for row in table["id"]]
        file = str(world / f"model_{name}.{form}")
        if form == "json":
            table.to_json(file, orient="records")
        else:
            table.to_csv(file, sep="\t", index=False)
        for line in cls.evaluate(file, nproc=1).to_dict("records"):
            task, _, family = line.pop("of").partition(": ")
            found[task, family or None] = line
    assert len(found) > 10
    for (task, family), line in found.items():
        ours = lines[task, "" if family == "all" else family]
        assert line == pytest.approx({name: ours[name] for name in ("n", *SCORES)})


def test_data_sets_of_vlmevalkit_show_media_and_question(world, kit):
    out = exported(world, "vlmevalkit")
    loaded(out / "nontrivial_vlmevalkit.py")
    rows = {row["id"]: row for row in read_samples(world / "some.parquet").to_pylist()}
    assert kit.known.SUPPORTED_DATASETS == ["nontrivial_some_images", "nontrivial_some_videos"]
    pairs = kit.known.NontrivialImages(dataset="nontrivial_some_images").data
    assert all(Path(path).is_file() for text in pairs["image_path"] for path in json.loads(text))
    asked = kit.videos["nontrivial_some_videos"]()
    assert asked.settings == {"nframe": 16, "pack": False, "fps": -1}
    for number, row in asked.data.iterrows():
        clip, told = asked.build_prompt(int(number), video_llm=True)
        assert clip["type"] == "video"
        assert Path(clip["value"]).samefile(world / "media" / "clip.webm.mp4")
        ours = rows[row["id"]]
        expected = question_text(ours["question"], ours["options"], ours["task"])
        assert told == {"type": "text", "value": expected}
        assert (json.loads(row["options"]), json.loads(row["answer"])) == (
            ours["options"],
            ours["answer"],
        )
    assert len(pairs) + len(asked.data) == len(rows)


def test_vlmevalkit_keeps_completions_whole_unless_told_otherwise(world, kit, monkeypatch):
    module = exported(world, "vlmevalkit") / "nontrivial_vlmevalkit.py"
    loaded(module)
    assert os.environ["PRED_FORMAT"] == "json"
    monkeypatch.delenv("PRED_FORMAT")
    loaded(module)
    assert os.environ["PRED_FORMAT"] == "tsv"  # its default, .xlsx, cuts long ones


def test_vlmevalkit_sums_up_a_run_by_the_strict_scores_of_tasks(world, kit):
    loaded(exported(world, "vlmevalkit") / "nontrivial_vlmevalkit.py")
    lines = ("reid_pair", "video_qa", "video_qa: descriptive, inverted")
    told = {f"of={line}|{name}": len(line) / 100 for line in lines for name in ("n", *SCORES)}
    for cls in kit.known.DATASET_CLASSES:
        wholes = {"of=reid_pair|strict": 0.09, "of=video_qa|strict": 0.08}
        assert cls.report_primary_metric(told) == wholes
        assert cls.report_primary_metric(None) == {}
