"""More options than letters: a record is refused by name in every benchmark's form."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nontrivial.builders import qa_invert
from nontrivial.builders.qa.benches import load
from nontrivial.eval.predictions import read_published
from nontrivial.manifests.answers import read_answer
from nontrivial.manifests.errors import BadInput
from tests.builders.qa.questions import clevrer_scene, write_json
from tests.builders.qa.test_benches import OPTIONS, RECORDS
from tests.builders.qa.test_published import FILES

MORE = [f"do thing {number}" for number in range(30)]
# Benchmarks whose form has a column for each of five options, so that others are not read.
FIVE_COLUMNS = {"intentqa", "minerva", "social_iq2", "tgif_qa"}


def crowded(value: Any) -> Any:
    """Add thirty options wherever there are some: to a list, a mapping, columns or lines."""
    if isinstance(value, str) and "\n" in value and OPTIONS[0] in value:
        return "\n".join([value, *MORE])
    if isinstance(value, list):
        if any(OPTIONS[0] in str(item) for item in value) and len(value) > 3:
            return [*value, *(_like(value[0], number, text) for number, text in enumerate(MORE))]
        return [crowded(item) for item in value]
    if isinstance(value, dict):
        keys = [key for key, text in value.items() if text in OPTIONS]
        if len(keys) > 3:
            added = {_next(keys[-2], number): text for number, text in enumerate(MORE)}
            return {"answer": 1} | value | added
        return {key: crowded(item) for key, item in value.items()}
    return value


def _like(option: Any, number: int, text: str) -> Any:
    return option | {"choice_id": 5 + number, "choice": text} if isinstance(option, dict) else text


def _next(key: str, number: int) -> str:
    numbered = re.sub(r"\d+$", str(6 + number), key)
    return numbered if numbered != key else f"{'FGHIJKLMNOPQRSTUVWXYZ'[number % 21]}{number // 21}"


def read(tmp_path: Path, name: str) -> Any:
    content, split = (RECORDS[name], "train") if name in RECORDS else FILES[name][1:]
    path = write_json(tmp_path / "annotations.json", crowded(content))
    return load(name, tmp_path, split, annotations=path)


@pytest.mark.parametrize("name", sorted({*RECORDS, *FILES} - FIVE_COLUMNS))
def test_a_record_with_too_many_options_is_refused(tmp_path, name):
    loaded = read(tmp_path, name)
    reasons = {record.reason for record in loaded.refused}
    assert loaded.frame.is_empty()
    named = ("more than can be lettered", "no lines of lettered options")
    assert any(reason.endswith(named) for reason in reasons), reasons


@pytest.mark.parametrize("name", sorted(FIVE_COLUMNS))
def test_options_beyond_a_benchmarks_columns_are_not_read(tmp_path, name):
    loaded = read(tmp_path, name)
    assert {*map(len, loaded.frame["options"])} <= {4, 5}
    assert len(loaded.frame) > 0


@pytest.mark.parametrize("form", ["invert", "statements"])
def test_the_builder_counts_them_and_goes_on(tmp_path, capsys, form):
    scenes = [clevrer_scene(number) for number in range(10)]
    choices = [{"choice_id": n, "choice": text, "answer": "wrong"} for n, text in enumerate(MORE)]
    scenes[3]["questions"][4]["choices"] = choices
    path = write_json(tmp_path / "train.json", scenes)
    words = ["--bench", "clevrer", "--annotations", str(path), "--out", str(tmp_path)]
    assert qa_invert.main([*words, "--max_bad", "0.02", "--form", form]) == 0
    assert "30 options are more than can be lettered" in capsys.readouterr().out
    assert qa_invert.main([*words, "--max_bad", "0"]) == 2
    assert "over --max_bad 0" in capsys.readouterr().err


def test_a_published_log_with_too_many_is_named(tmp_path):
    line = {"question": {"options": MORE}, "ground_truth": "<answer>A</answer>"}
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(line | {"model_output": "A"}), encoding="utf-8")
    with pytest.raises(BadInput, match=r"log.jsonl, line 1: 30 options are more"):
        read_published(path)


def test_answers_to_more_options_than_letters_are_read():
    assert read_answer("<answer>AC</answer>", MORE) == {"A", "C"}
