"""Score answers to questions with options, with intervals and blind rules.

strict      1 where the chosen letters equal the right ones, else 0
soft        |S| / |T| where the chosen letters S are a subset of the right ones T, else 0
per_option  share of options that were rightly chosen or rightly left, as CLEVRER reports it
format      1 for exactly one think block followed by one answer block, else 0

Sampled completions tell, besides, what a policy could answer: how often one of k is right (pass@k),
and how well the share of them that choose an option tells right options from wrong ones (AUC).

Intervals hold 95 %. They are taken over groups (a video, an identity), because the questions of one
group are not independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from nontrivial.manifests.answers import (
    LETTERS,
    NONE,
    exact_score,
    is_formatted,
    letters,
    per_option_score,
    read_answer,
    soft_score,
)
from nontrivial.manifests.intervals import wilson
from nontrivial.manifests.probes import auc
from nontrivial.manifests.runs import AnswerScores, ScoredAnswer
from nontrivial.manifests.schema import family_of
from nontrivial.manifests.text_only import best_blind

WITH_RIGHT = "those with a right option"


@dataclass(frozen=True)
class Answered:
    """A question, the completion that answers it, and its scores."""

    id: str
    task: str
    family: str
    group: str
    question: str
    options: tuple[str, ...]
    answer: frozenset[str]
    completion: str
    letters: frozenset[str]
    strict: float
    soft: float
    per_option: float
    format: float

    def record(self) -> ScoredAnswer:
        """Return the record that a run folder keeps."""
        values = {field.name: getattr(self, field.name) for field in fields(ScoredAnswer)}
        values |= {"letters": sorted(self.letters), "answer": sorted(self.answer)}
        return ScoredAnswer(**values)


def answered(sample: Mapping[str, Any], completion: str, *, need_block: bool = True) -> Answered:
    """Score one completion; `need_block=False` also reads answers outside of a block."""
    options, answer = tuple(sample["options"]), frozenset(sample["answer"])
    chosen = read_answer(completion, options, need_block=need_block)
    return Answered(
        id=sample["id"],
        task=sample["task"],
        family=family_of(sample),
        group=sample["group"],
        question=sample["question"],
        options=options,
        answer=answer,
        completion=completion,
        letters=chosen,
        strict=exact_score(chosen, answer),
        soft=soft_score(chosen, answer),
        per_option=per_option_score(chosen, answer, len(options)),
        format=float(is_formatted(completion)),
    )


@dataclass(frozen=True)
class Drawn:
    """What several sampled completions of each question tell; see `AnswerScores`."""

    letters: Mapping[str, Sequence[frozenset[str]]]  # by the id of a question

    def scores(self, rows: Sequence[Answered]) -> dict[str, Any]:
        """Return the fields of `AnswerScores` that samples fill, over `rows` that have some."""
        drawn = [(row, self.letters[row.id]) for row in rows if self.letters.get(row.id)]
        if not drawn:
            return {}
        strict = [[exact_score(chosen, row.answer) for chosen in sets] for row, sets in drawn]
        options = [
            (sum(letter in chosen for chosen in sets) / len(sets), letter in row.answer)
            for row, sets in drawn
            for letter in letters(len(row.options))
        ]
        shares, truths = map(np.array, zip(*options, strict=True))
        area = auc(shares, truths)
        return {
            "draws": max(len(sets) for _, sets in drawn),
            "sampled_strict": float(np.mean([np.mean(each) for each in strict])),
            "pass_at_draws": float(np.mean([max(each) for each in strict])),
            "option_auc": None if np.isnan(area) else area,
        }


def summarise(rows: Sequence[Answered], drawn: Drawn | None = None) -> list[AnswerScores]:
    """Average the scores of each task, and of each of its families where it has several.

    In some questions, such as CLEVRER's, only "none" may be right. Published figures leave these
    out, so a task that mixes both kinds gets another line for the questions with a right option.
    """
    lines = []
    for task in sorted({row.task for row in rows}):
        of_task = [row for row in rows if row.task == task]
        lines.append(mean_scores(of_task, task, drawn=drawn))
        with_right = [row for row in of_task if not has_none_right(row)]
        if 0 < len(with_right) < len(of_task):
            lines.append(mean_scores(with_right, task, WITH_RIGHT, drawn))
        families = sorted({row.family for row in of_task})
        for family in families if len(families) > 1 else ():
            of_family = [row for row in of_task if row.family == family]
            lines.append(mean_scores(of_family, task, family, drawn))
    return lines


def has_none_right(row: Answered) -> bool:
    """True if the right option says that no other option is right."""
    options = zip(LETTERS, row.options, strict=False)
    return {text for letter, text in options if letter in row.answer} == {NONE}


def mean_scores(
    rows: Sequence[Answered], task: str, family: str | None = None, drawn: Drawn | None = None
) -> AnswerScores:
    """Return means, intervals and the best blind rule of at least one answered question."""
    groups = [row.group for row in rows]
    names = ("soft", "strict", "per_option", "format")
    scores = {name: [getattr(row, name) for row in rows] for name in names}
    mean = {name: float(np.mean(values)) for name, values in scores.items()}
    blind = best_blind(
        [row.question for row in rows],
        [row.options for row in rows],
        [[letter in row.answer for letter in letters(len(row.options))] for row in rows],
        groups,
    )
    return AnswerScores(
        task=task,
        family=family,
        n=len(rows),
        right=round(sum(scores["strict"])),
        soft=mean["soft"],
        strict=mean["strict"],
        per_option=mean["per_option"],
        format=mean["format"],
        soft_interval=interval(scores["soft"], groups),
        strict_interval=interval(scores["strict"], groups),
        blind_strategy=blind["soft"].strategy,
        blind_soft=blind["soft"].score,
        blind_strict=blind["strict"].score,
        **(drawn.scores(rows) if drawn else {}),
    )


def interval(
    values: Sequence[float], groups: Sequence[str], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the mean of `values` in [0, 1] as (low, high).

    Percentiles of a bootstrap that draws whole groups. A bootstrap says nothing where all groups
    have the same mean; there it is Wilson's interval with as many trials as there are groups.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    sums, sizes = np.bincount(index, weights=values), np.bincount(index)
    if np.ptp(sums / sizes) == 0:
        return wilson(float(sums[0] / sizes[0]) * len(names), len(names))
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for i in range(draws):
        drawn = rng.integers(len(names), size=len(names))
        means[i] = sums[drawn].sum() / sizes[drawn].sum()
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
