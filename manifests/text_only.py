"""Text-only baselines: the best score that answering without the media earns.

A strategy ranks the options of a question by their text and picks the first k. It ranks by the
letter (how often it is right), by length either way, or by the option's own text (how often it is
right); k is the one that paid most for that number of options. `likely texts` instead picks every
option whose text was right more often than not. Each comes twice: it may or may not read NOT in the
question. `bag of words` is a learned rule (`bag_of_words`), on a sample of many questions. All is
fitted on one half of the groups and scored on the other, both ways round; the best of these
held-out scores is returned, which is slightly too high for few questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nontrivial.manifests import bag_of_words
from nontrivial.manifests.probes import halves

# One text, or one list, for each question; or an Arrow array of them.
Texts = Any
Lists = Any

_NOT = r"(?i)\bnot\b|n['’]t\b"
# Each strategy, and what it ranks options by.
_STRATEGIES = {
    "longest": "length",
    "shortest": "brevity",
    "letter": "letter",
    "frequent text": "text",
    "likely texts": "text",
}
_LEARNED = ("letter", "text")


@dataclass(frozen=True)
class Best:
    """The best strategy for a score: its name and its mean score."""

    strategy: str
    score: float


@dataclass(frozen=True)
class Learned:
    """What a bag of words earns on the questions in `rows` (M,): `soft` and `strict`, (M,) each."""

    rows: np.ndarray
    soft: np.ndarray
    strict: np.ndarray


def best_blind(
    questions: Texts, options: Lists, right: Lists, groups: Sequence[str]
) -> dict[str, Best]:
    """Return the best strategy without media for the `soft` and for the `strict` score.

    Every argument has one entry for each question, of which there is at least one; `right` tells
    which options are right (bool). Arrow's lists are not unpacked.

    >>> asked, offered = ["Which?"] * 4, [["a", "b", "c"]] * 4
    >>> best_blind(asked, offered, [[True, False, False]] * 4, list("abcd"))["strict"].score
    1.0
    """
    flat = _Flat.of(options, right)
    half = halves(groups)
    fits = (half, ~half)
    says_not = _says_not(questions)
    flags = {"": np.zeros_like(says_not), ", reading NOT": says_not}

    @cache
    def ranked(by: str, reads: str = "", fold: int = 0) -> tuple[np.ndarray, _Scores]:
        value = _values(flat, by, flags[reads], fits[fold])
        return value, _scores(flat, value)

    results: dict[str, list[Best]] = {"soft": [], "strict": []}
    for reads, flag in flags.items():
        for strategy, by in _STRATEGIES.items():
            earned = []
            for fold, fit in enumerate(fits):
                value, scores = ranked(by, reads, fold) if by in _LEARNED else ranked(by)
                if strategy == "likely texts":
                    earned.append(_with_likely(scores, flat, value, ~fit))
                else:
                    earned.append(_with_best_k(scores, flat.counts * 2 + flag, fit, ~fit))
            for name, best in results.items():
                mean = np.concatenate([scores[name] for scores in earned]).mean(dtype=np.float64)
                best.append(Best(strategy + reads, float(mean)))
    learned = learn(questions, options, right, groups)
    if len(learned.rows):
        for name, best in results.items():
            best.append(Best("bag of words", float(getattr(learned, name).mean())))
    return {name: max(best, key=lambda best: best.score) for name, best in results.items()}


def learn(questions: Sequence[str], options: Lists, right: Lists, groups: Sequence[str]) -> Learned:
    """Score the learned rule on a sample of the questions; on none if they are few.

    It picks the best number of options, or all that are more likely right than not, whichever paid
    more in the half that it is fitted on.
    """
    if len(questions) < bag_of_words.FEWEST:
        return Learned(*(np.empty(0, kind) for kind in (np.int64, np.float64, np.float64)))
    half = halves(groups)
    offered, truth = (_as_lists(options, pa.string()), _as_lists(right, pa.bool_()))
    counts = offered.value_lengths().to_numpy().astype(np.int64)
    rows = bag_of_words.sample(groups, counts, half)
    offered, truth, half = offered.take(pa.array(rows)), truth.take(pa.array(rows)), half[rows]
    asked = _as_texts(questions).take(pa.array(rows)).to_pylist()
    says_not, flat = _says_not(asked), _Flat.of(offered, truth)
    values = bag_of_words.probabilities(
        asked, offered.to_pylist(), truth.to_pylist(), says_not, half
    )
    earned = {name: np.zeros(len(rows)) for name in ("soft", "strict")}
    for fit, value in zip((half, ~half), values, strict=True):
        scores = _scores(flat, value)
        everything = np.ones(len(rows), bool)
        ways = (
            _with_best_k(scores, flat.counts * 2 + says_not, fit, everything),
            _with_likely(scores, flat, value, everything),
        )
        for name, result in earned.items():
            best = max(ways, key=lambda way: way[name][fit].mean() if fit.any() else 0.0)
            result[~fit] = best[name][~fit]
    return Learned(rows, **earned)


def _as_texts(values: Texts) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, pa.string())


def _says_not(questions: Texts) -> np.ndarray:
    texts = _as_texts(questions)
    return pc.match_substring_regex(texts, _NOT).to_numpy(zero_copy_only=False).astype(bool)


def _as_lists(values: Lists, kind: pa.DataType) -> pa.ListArray:
    return values if isinstance(values, pa.Array) else pa.array(values, pa.list_(kind))


# For `soft` (float32) and `strict` (bool), (Q, k): what picking the first k options earns.
_Scores = dict[str, np.ndarray]


@dataclass(frozen=True)
class _Flat:
    """All N options of all Q questions, flat.

    row, place  (N,) int64, numbers of question and letter
    right       (N,) bool
    length      (N,) float64, characters
    text        (N,) int64, number of the distinct text
    counts      (Q,) int64, options of each question
    """

    row: np.ndarray
    place: np.ndarray
    right: np.ndarray
    length: np.ndarray
    text: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, options: Lists, right: Lists) -> _Flat:
        lists, truths = _as_lists(options, pa.string()), _as_lists(right, pa.bool_())
        counts = lists.value_lengths().to_numpy().astype(np.int64)
        coded = lists.flatten().dictionary_encode()
        code = coded.indices.to_numpy()
        texts = [text.strip().casefold() for text in coded.dictionary.to_pylist()]
        known: dict[str, int] = {}
        number = np.array([known.setdefault(text, len(known)) for text in texts], np.int64)
        return cls(
            row=np.repeat(np.arange(len(counts)), counts),
            place=np.arange(len(code)) - np.repeat(np.cumsum(counts) - counts, counts),
            right=truths.flatten().to_numpy(zero_copy_only=False).astype(bool),
            length=np.array([len(text) for text in texts], np.float64)[code],
            text=number[code],
            counts=counts,
        )


def _scores(flat: _Flat, value: np.ndarray) -> _Scores:
    """Score picking the first k options by falling `value`, equal ones by letter, (Q, k) each.

    The soft score is k / |T| if all k are right, the strict score 1 if they are all the right ones.
    """
    shape = len(flat.counts), flat.counts.max()
    values, right = np.full(shape, -np.inf), np.zeros(shape, bool)
    values[flat.row, flat.place], right[flat.row, flat.place] = value, flat.right
    ranked = np.take_along_axis(right, np.argsort(-values, axis=1, kind="stable"), axis=1)
    all_right = np.logical_and.accumulate(ranked, axis=1)
    k, size = np.arange(1, shape[1] + 1), right.sum(axis=1, keepdims=True)
    soft = np.where(all_right, k / size, 0.0).astype(np.float32)
    return {"soft": soft, "strict": all_right & (k == size)}


def _values(flat: _Flat, by: str, flag: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Return how promising each option looks, (N,)."""
    if by in ("length", "brevity"):
        return flat.length if by == "length" else -flat.length
    cell = flat.counts[flat.row] * 64 + flat.place if by == "letter" else flat.text
    return _rates(cell * 2 + flag[flat.row], flat.right, fit[flat.row])


def _rates(cell: np.ndarray, right: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Return the share of right options in each option's cell in `fit`; unseen ones are average."""
    size = int(cell.max(initial=0)) + 1
    seen = np.bincount(cell[fit], minlength=size)
    hits = np.bincount(cell[fit], weights=right[fit], minlength=size)
    average = right[fit].mean() if fit.any() else 0.0
    return ((hits + average) / (seen + 1))[cell]


def _with_best_k(scores: _Scores, cell: np.ndarray, fit: np.ndarray, use: np.ndarray) -> _Scores:
    """Return what each question in `use` earns with the best k of its cell in `fit`, (used,)."""
    learned, cells = cell[fit], int(cell.max(initial=0)) + 1
    chosen = {}
    for name, earned in scores.items():
        paid = [np.bincount(learned, column[fit], minlength=cells) for column in earned.T]
        chosen[name] = earned[use, np.argmax(paid, axis=0)[cell[use]]]
    return chosen


def _with_likely(scores: _Scores, flat: _Flat, value: np.ndarray, use: np.ndarray) -> _Scores:
    """Return what each question in `use` earns with all options more likely right than not."""
    k = np.maximum(np.bincount(flat.row, value > 0.5).astype(np.int64), 1)
    return {name: earned[use, k[use] - 1] for name, earned in scores.items()}
