"""Scores of answers to questions with options, their intervals, and the blind rules beside them.

strict      1 where the chosen letters are the right ones, exactly
soft        |S| / |T| where all chosen letters S are among the right ones T, else 0
per_option  share of options that were rightly chosen or rightly left, as CLEVRER reports it
format      1 for one think block followed by one answer block

Intervals hold 95 % and are taken over groups (a video, an identity), whose questions hang together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nontrivial.manifests.answers import (
    LETTERS,
    NONE,
    exact_score,
    is_formatted,
    letters,
    read_answer,
    soft_score,
)
from nontrivial.manifests.runs import AnswerScores, ScoredAnswer
from nontrivial.manifests.text_only import best_blind

WITH_RIGHT = "those with a right option"
Z = 1.959964  # of the normal distribution, two-sided 95 %


@dataclass(frozen=True)
class Answered:
    """A question, what was answered to it, and the scores of that."""

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
        """What a run folder keeps of it."""
        names = ("id", "task", "family", "soft", "strict", "per_option", "format", "completion")
        chosen, right = sorted(self.letters), sorted(self.answer)
        values = {name: getattr(self, name) for name in names}
        return ScoredAnswer(**values, letters=chosen, answer=right)


def answered(sample: Mapping[str, Any], completion: str, *, need_block: bool = True) -> Answered:
    """Score one completion; with `need_block=False` a bare answer counts, too (`read_answer`)."""
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


def per_option_score(chosen: Iterable[str], answer: Iterable[str], count: int) -> float:
    """Share of `count` options that were rightly chosen or rightly left; 0 without any choice.

    >>> per_option_score({"A", "B"}, {"B", "C"}, 4)
    0.5
    """
    chosen, answer = frozenset(chosen), frozenset(answer)
    return max(0.0, 1 - len(chosen ^ answer) / count) if chosen else 0.0


def family_of(sample: Mapping[str, Any]) -> str:
    """The kind of a pair, or the family of a question and whether it is inverted."""
    if sample.get("reid"):
        return sample["reid"]["kind"] or ""
    qa = sample.get("qa") or {}
    return (qa.get("family") or "") + (", inverted" if qa.get("inverted") else "")


def summarise(rows: Sequence[Answered]) -> list[AnswerScores]:
    """One line for each task, one for each of its families where it has several.

    Where some questions have no right option but "none", as CLEVRER's may, the others get a line of
    their own: published figures leave such questions out.
    """
    lines = []
    for task in sorted({row.task for row in rows}):
        of_task = [row for row in rows if row.task == task]
        lines.append(mean_scores(of_task, task))
        with_right = [row for row in of_task if not has_none_right(row)]
        if 0 < len(with_right) < len(of_task):
            lines.append(mean_scores(with_right, task, WITH_RIGHT))
        families = sorted({row.family for row in of_task})
        if len(families) > 1:
            for name in families:
                lines.append(
                    mean_scores([row for row in of_task if row.family == name], task, name)
                )
    return lines


def has_none_right(row: Answered) -> bool:
    """True where the right option says that no other is right."""
    right = {
        text for letter, text in zip(LETTERS, row.options, strict=False) if letter in row.answer
    }
    return right == {NONE}


def mean_scores(rows: Sequence[Answered], task: str, family: str | None = None) -> AnswerScores:
    """Means, intervals and the best blind rule of some answered questions (at least one)."""
    groups = [row.group for row in rows]
    soft, strict = ([getattr(row, score) for row in rows] for score in ("soft", "strict"))
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
        right=round(sum(strict)),
        soft=_mean(soft),
        soft_interval=interval(soft, groups),
        strict=_mean(strict),
        strict_interval=interval(strict, groups),
        per_option=_mean(row.per_option for row in rows),
        format=_mean(row.format for row in rows),
        blind_strategy=blind["soft"].strategy,
        blind_soft=blind["soft"].score,
        blind_strict=blind["strict"].score,
    )


def interval(
    values: Sequence[float], groups: Sequence[str], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean of `values` in [0, 1], as (low, high).

    Percentiles of a bootstrap that draws whole groups; where all groups have the same mean, about
    which a bootstrap can say nothing, Wilson's interval for as many trials as there are groups.
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


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion.

    >>> low, high = wilson(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    share, z2 = successes / trials, Z * Z
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = Z / (1 + z2 / trials) * (share * (1 - share) / trials + z2 / (4 * trials**2)) ** 0.5
    return max(0.0, centre - spread), min(1.0, centre + spread)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
