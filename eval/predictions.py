"""Read completions from disk: our JSON Lines and published logs.

Our lines hold `id` and `completion`. A line of a published log brings its question along:
`question` (`problem`, `options` as "A. text"), `ground_truth` ("<answer>A</answer>"),
`model_output` and, if the authors' code scored it, `accuracy_score`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nontrivial.manifests.answers import LETTERS, read_answer, unlabel
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.runs import read_lines


@dataclass(frozen=True)
class Published:
    """A line of a published log: the question as a sample, the output and its published score."""

    sample: dict[str, Any]
    completion: str
    score: float | None


def read_completions(path: Path, *, torn: bool = False) -> dict[str, str]:
    """Return the completion of each id; `torn` skips a last line that has no end."""
    completions = {}
    for number, line in read_lines(path, torn=torn):
        if not isinstance(line.get("id"), str) or not isinstance(line.get("completion"), str):
            raise BadInput(f"{path}, line {number}: needs 'id' and 'completion', has {list(line)}")
        completions[line["id"]] = line["completion"]
    return completions


def is_published(path: Path) -> bool:
    """True if the first line holds a question."""
    return "question" in next(read_lines(path), (0, {}))[1]


def read_published(path: Path) -> list[Published]:
    """Return the lines of a published log; raise `BadInput` that names one without an answer."""
    return [_published(line, f"{path}, line {number}", number) for number, line in read_lines(path)]


def _published(line: Mapping[str, Any], where: str, number: int) -> Published:
    try:
        question = line["question"]
        options = unlabel([str(option) for option in question["options"]])
        answer = read_answer(line["ground_truth"], options, need_block=False)
        completion = line["model_output"]
        video = question.get("video") or question.get("path") or number
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{where}: needs question.options, ground_truth and model_output ({error!r})"
        ) from error
    if len(options) > len(LETTERS):
        raise BadInput(f"{where}: {len(options)} options are more than can be lettered")
    if not answer <= set(LETTERS[: len(options)]) or not answer:
        raise BadInput(f"{where}: {line['ground_truth']!r} names none of {len(options)} options")
    family = question.get("type") or question.get("original_question_type") or ""
    sample = {
        "id": f"line{number:06d}",
        "task": "video_qa",
        "group": str(video),
        "question": str(question.get("problem") or ""),
        "options": options,
        "answer": sorted(answer),
        "qa": {"family": str(family)},
    }
    score = line.get("accuracy_score")
    score = float(score) if isinstance(score, (int, float)) else None
    return Published(sample, str(completion), score)
