"""Fuse a verifier's P(same person) into the head of a ranking.

The verifier judges the first k candidates of each list. They are sorted by

    (1 - alpha) · d + alpha · 2 · (1 - P(same)),   d = 1 - cosine

and stay ahead of the others, whose order does not change (MUSE, arXiv 2606.16161, with its factor 2
that gives both terms the same range). At alpha = 1 a perfect verifier reaches the best ranking that
the first k allow. A wrong image that ties with a match goes first, as in `ranking`.

That formula compares judged images with each other only: an undecided verdict adds alpha to each of
their distances. Among images that were not judged, as in `kreciprocal`, `moved` takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Consistency:
    """Agreement of both orders of a pair, and correctness of their mean verdict.

    agreeing   share of pairs with the same verdict in both orders; None if only one was asked
    right      share of pairs whose mean P(same) is on the right side of 0.5
    ece        expected calibration error of P(same) over ten equal bins
    """

    pairs: int
    agreeing: float | None
    right: float
    ece: float


def fuse(scores: np.ndarray, p_same: np.ndarray, alpha: float) -> np.ndarray:
    """Return fused distances (k,) of cosine scores (k,) and probabilities (k,).

    >>> fuse(np.array([0.9, 0.8]), np.array([0.0, 1.0]), 0.5).round(3)
    array([1.05, 0.1 ])
    """
    return (1 - alpha) * (1 - scores) + alpha * 2 * (1 - p_same)


def moved(
    scores: np.ndarray, p_same: np.ndarray, alpha: float, lowest: float | np.ndarray
) -> np.ndarray:
    """Return similarities (k,) that a Yes moves towards 1 and a No towards the `lowest` of its row.

        a = alpha · (2 · P(same) - 1)
        s + a · (1 - s) if a > 0, else s + a · (s - lowest)

    An undecided verdict and alpha = 0 change no bit, and the range of the row stays.

    >>> moved(np.array([0.6, 0.6, 0.6]), np.array([1.0, 0.5, 0.0]), 0.5, lowest=0.2)
    array([0.8, 0.6, 0.4])
    """
    pull = alpha * (2 * p_same - 1)
    return scores + pull * np.where(pull > 0, 1 - scores, scores - lowest)


def reranked(ranks: np.ndarray, is_match: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return the ranks of one query's matches once its first k are sorted by `distances`.

    ranks      (m,) ascending ranks before
    is_match   (k,) bool of the first k in their order before
    distances  (k,) fused distances

    >>> reranked(np.array([2, 9]), np.array([False, True, False]), np.array([0.5, 0.1, 0.7]))
    array([1, 9])
    """
    order = np.lexsort((is_match, distances))
    places = np.flatnonzero(is_match[order]) + 1
    return np.concatenate([places, ranks[ranks > len(is_match)]])


def reliability(p_same: np.ndarray, is_same: np.ndarray, bins: int = 10) -> list[tuple[float, ...]]:
    """Return (mean P, share of same-person pairs, count) of each equal bin of P that holds pairs.

    >>> reliability(np.array([0.1, 0.9, 0.95]), np.array([False, True, False]), bins=2)
    [(0.1, 0.0, 1), (0.925, 0.5, 2)]
    """
    bin_of = np.minimum((p_same * bins).astype(int), bins - 1)
    members = [bin_of == b for b in np.unique(bin_of)]
    return [(float(p_same[m].mean()), float(is_same[m].mean()), int(m.sum())) for m in members]


def consistency(
    first: Sequence[float], second: Sequence[float | None], is_same: Sequence[bool]
) -> Consistency:
    """Compare P(same) asked in one order with the other order, where given, and with the truth.

    >>> consistency([0.9, 0.2], [0.8, 0.6], [True, False])
    Consistency(pairs=2, agreeing=0.5, right=1.0, ece=0.275)
    """
    forward, truth = np.asarray(first, float), np.asarray(is_same, bool)
    swapped = np.array([np.nan if p is None else p for p in second])
    asked = ~np.isnan(swapped)
    backward = np.where(asked, swapped, forward)
    mean = (forward + backward) / 2
    bins = reliability(mean, truth)
    error = sum(count * abs(p - share) for p, share, count in bins) / max(1, len(mean))
    agree = ((forward > 0.5) == (backward > 0.5))[asked]
    return Consistency(
        pairs=len(mean),
        agreeing=float(agree.mean()) if asked.any() else None,
        right=float(((mean > 0.5) == truth).mean()),
        ece=round(float(error), 6),
    )
