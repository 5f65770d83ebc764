"""Completions on disk: our own JSON Lines, and the published logs that carry their questions along.

Our lines hold `id` and `completion`. A published line holds `question` (`problem`,
`options` as "A. text"), `ground_truth` ("<answer>A</answer>"), `model_output` and, where the
authors' code scored it, `accuracy_score`.
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
    """A line of a published log: the question as a sample, the output, the score it was given."""

    sample: dict[str, Any]
    completion: str
    score: float | None


def read_completions(path: Path, *, torn: bool = False) -> dict[str, str]:
    """The completion of each id; with `torn` a last line without its end is passed over."""
    found = {}
    for number, line in read_lines(path, torn=torn):
        if not isinstance(line.get("id"), str) or not isinstance(line.get("completion"), str):
            raise BadInput(f"{path}, line {number}: needs 'id' and 'completion', has {list(line)}")
        found[line["id"]] = line["completion"]
    return found


def is_published(path: Path) -> bool:
    """True where the first line brings its question along."""
    return "question" in next(read_lines(path), (0, {}))[1]


def read_published(path: Path) -> list[Published]:
    """Every line of a published log; one that lacks a field or an answer is named."""
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
    if not answer <= set(LETTERS[: len(options)]) or not answer:
        raise BadInput(f"{where}: {line['ground_truth']!r} names none of {len(options)} options")
    family = str(question.get("type") or question.get("original_question_type") or "")
    sample = {
        "id": f"line{number:06d}",
        "task": "video_qa",
        "group": str(video),
        "question": str(question.get("problem") or ""),
        "options": options,
        "answer": sorted(answer),
        "qa": {"family": family},
    }
    score = line.get("accuracy_score")
    known = isinstance(score, (int, float))
    return Published(sample, str(completion), float(score) if known else None)
