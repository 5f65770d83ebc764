"""What someone who never sees the media earns: the best of some named text-only strategies.

A strategy ranks the options of a question by what their text shows and picks the first k. Ranks: by
the letter (how often it is right), by length either way, by the option's own text (how often it is
right). k is the one that paid most for that number of options; `likely texts` instead picks every
option whose text was right more often than not. Each strategy comes twice: it may or may not look
whether the question says NOT.

Everything is fitted on one half of the groups and scored on the other, both ways round. The best of
these held-out scores is given, which errs on the high side where there are few questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_NOT = r"(?i)\bnot\b|n['’]t\b"
# Each strategy and what it ranks options by; letters and texts are learned.
_STRATEGIES = {
    "longest": "length",
    "shortest": "brevity",
    "letter": "letter",
    "frequent text": "text",
    "likely texts": "text",
}


@dataclass(frozen=True)
class Best:
    """The best strategy for one score: its name and what it earns on average."""

    strategy: str
    score: float


def best_blind(
    questions: Sequence[str],
    options: Sequence[Sequence[str]] | pa.ListArray,
    right: Sequence[Sequence[bool]] | pa.ListArray,
    groups: Sequence[str],
) -> dict[str, Best]:
    """The best blind strategy for the `soft` and for the `strict` score of at least one question.

    Options and their truth values are given question by question; Arrow's lists are not unpacked.

    >>> asked, offered = ["Which?"] * 4, [["a", "b", "c"]] * 4
    >>> best_blind(asked, offered, [[True, False, False]] * 4, list("abcd"))["strict"].score
    1.0
    """
    flat = _Flat.of(options, right)
    half = _halves(groups)
    asked = pa.array(questions, pa.string())
    says_not = pc.match_substring_regex(asked, _NOT).to_numpy(zero_copy_only=False).astype(bool)
    flags = {"": np.zeros_like(says_not), ", reading NOT": says_not}
    fits = (half, ~half)

    @cache
    def ranked(by: str, reads: str = "", fold: int = 0) -> tuple[np.ndarray, _Scores]:
        value = _values(flat, by, flags[reads], fits[fold])
        return value, _scores(flat, value)

    found: dict[str, list[Best]] = {"soft": [], "strict": []}
    for reads, flag in flags.items():
        for strategy, by in _STRATEGIES.items():
            learned = by in ("letter", "text")
            earned = []
            for fold, fit in enumerate(fits):
                value, scores = ranked(by, reads, fold) if learned else ranked(by)
                if strategy == "likely texts":
                    earned.append(_with_likely(scores, flat, value, ~fit))
                else:
                    earned.append(_with_best_k(scores, flat.counts * 2 + flag, fit, ~fit))
            for name, best in found.items():
                mean = float(np.concatenate([one[name] for one in earned]).mean())
                best.append(Best(strategy + reads, mean))
    return {name: max(each, key=lambda one: one.score) for name, each in found.items()}


# (Q, k) of each score: what picking the first k earns
_Scores = dict[str, np.ndarray]


@dataclass(frozen=True)
class _Flat:
    """All N options of all Q questions in one row each.

    row, place  (N,) which question, which letter
    right       (N,) bool
    length      (N,) characters
    text        (N,) number of the distinct text
    counts      (Q,) options of each
    """

    row: np.ndarray
    place: np.ndarray
    right: np.ndarray
    length: np.ndarray
    text: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(
        cls,
        options: Sequence[Sequence[str]] | pa.ListArray,
        right: Sequence[Sequence[bool]] | pa.ListArray,
    ) -> _Flat:
        lists, truths = (
            values if isinstance(values, pa.Array) else pa.array(values, pa.list_(kind))
            for values, kind in ((options, pa.string()), (right, pa.bool_()))
        )
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


def _halves(groups: Sequence[str]) -> np.ndarray:
    """Every second group in the order of their names, (Q,) bool."""
    number = {group: place for place, group in enumerate(sorted(set(groups)))}
    return np.array([number[group] % 2 == 0 for group in groups], bool)


def _scores(flat: _Flat, value: np.ndarray) -> _Scores:
    lead, size = _leading(flat, value)
    return {"soft": _soft(lead, size, flat.counts), "strict": _strict(lead, size, flat.counts)}


def _values(flat: _Flat, by: str, flag: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """How promising each option looks, (N,)."""
    if by in ("length", "brevity"):
        return flat.length if by == "length" else -flat.length
    cell = flat.counts[flat.row] * 64 + flat.place if by == "letter" else flat.text
    return _rates(cell * 2 + flag[flat.row], flat.right, fit[flat.row])


def _rates(cell: np.ndarray, right: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """How often an option of its cell is right among the fitted; an unseen one is average."""
    size = int(cell.max(initial=0)) + 1
    seen = np.bincount(cell[fit], minlength=size)
    hits = np.bincount(cell[fit], weights=right[fit], minlength=size)
    average = right[fit].mean() if fit.any() else 0.0
    return ((hits + average) / (seen + 1))[cell]


def _leading(flat: _Flat, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each question: how many options are right before the first wrong one, and in all.

    Options are ranked by falling value, equal ones by letter.
    """
    shape = len(flat.counts), flat.counts.max()
    values, right = np.full(shape, -np.inf), np.zeros(shape, bool)
    values[flat.row, flat.place], right[flat.row, flat.place] = value, flat.right
    ranked = np.take_along_axis(right, np.argsort(-values, axis=1, kind="stable"), axis=1)
    return np.logical_and.accumulate(ranked, axis=1).sum(1), right.sum(1)


def _soft(lead: np.ndarray, size: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(Q, k) soft score of picking the first k: k / |T| while all of them are right."""
    k = np.arange(1, counts.max() + 1)
    return np.where(k <= lead[:, None], k / size[:, None], 0.0)


def _strict(lead: np.ndarray, size: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(Q, k) whether the first k are exactly the right ones."""
    k = np.arange(1, counts.max() + 1)
    return ((k == size[:, None]) & (k <= lead[:, None])).astype(np.float64)


def _with_best_k(scores: _Scores, cell: np.ndarray, fit: np.ndarray, use: np.ndarray) -> _Scores:
    """What each question in `use` earns by the k that paid most in its cell in `fit`, (used,)."""
    learned, cells = cell[fit], int(cell.max(initial=0)) + 1
    chosen = {}
    for name, earned in scores.items():
        paid = [np.bincount(learned, column[fit], minlength=cells) for column in earned.T]
        chosen[name] = earned[use, np.argmax(paid, axis=0)[cell[use]]]
    return chosen


def _with_likely(scores: _Scores, flat: _Flat, value: np.ndarray, use: np.ndarray) -> _Scores:
    """What each question in `use` earns by picking every option more likely right than not."""
    k = np.maximum(np.bincount(flat.row, value > 0.5).astype(np.int64), 1)
    return {name: earned[use, k[use] - 1] for name, earned in scores.items()}
