"""Fuse a verifier's P(same person) into the head of a ranking.

The verifier judges the first k of each list; they are sorted anew by

    (1 - alpha) · d + alpha · 2 · (1 - P(same)),   d = 1 - cosine

and stay ahead of the rest, whose order nothing has changed (MUSE, arXiv 2606.16161, with its factor
2 that gives both terms the same range). At alpha = 1 a perfect verifier reaches the best ranking
that the first k allow. Ties go to the wrong image, as everywhere in `ranking`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Consistency:
    """How often both orders of a pair get the same verdict, and how often their mean is right.

    `ece` is the expected calibration error of P(same) over ten equal bins.
    """

    pairs: int
    agreeing: float | None  # None where pairs were asked in one order only
    right: float
    ece: float


def fuse(scores: np.ndarray, p_same: np.ndarray, alpha: float) -> np.ndarray:
    """Fused distances (k,) of cosine scores (k,) and probabilities (k,).

    >>> fuse(np.array([0.9, 0.8]), np.array([0.0, 1.0]), 0.5).round(3)
    array([1.05, 0.1 ])
    """
    return (1 - alpha) * (1 - scores) + alpha * 2 * (1 - p_same)


def reranked(ranks: np.ndarray, is_match: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Ranks of one query's matches once its first k are sorted by `distances`.

    ranks      (m,) ascending ranks before
    is_match   (k,) bool, of the first k in their order before
    distances  (k,) fused

    >>> reranked(np.array([2, 9]), np.array([False, True, False]), np.array([0.5, 0.1, 0.7]))
    array([1, 9])
    """
    order = np.lexsort((is_match, distances))
    places = np.flatnonzero(is_match[order]) + 1
    return np.concatenate([places, ranks[ranks > len(is_match)]])


def reliability(p_same: np.ndarray, is_same: np.ndarray, bins: int = 10) -> list[tuple[float, ...]]:
    """(mean P, share that is the same person, count) of each equal bin of P that holds pairs.

    >>> reliability(np.array([0.1, 0.9, 0.95]), np.array([False, True, False]), bins=2)
    [(0.1, 0.0, 1), (0.925, 0.5, 2)]
    """
    which = np.minimum((p_same * bins).astype(int), bins - 1)
    return [
        (
            float(p_same[which == b].mean()),
            float(is_same[which == b].mean()),
            int((which == b).sum()),
        )
        for b in np.unique(which)
    ]


def consistency(
    first: Sequence[float], second: Sequence[float | None], is_same: Sequence[bool]
) -> Consistency:
    """Agreement and correctness of P(same) asked in one order and, where given, in the other.

    >>> consistency([0.9, 0.2], [0.8, 0.6], [True, False])
    Consistency(pairs=2, agreeing=0.5, right=1.0, ece=0.275)
    """
    one, truth = np.asarray(first, float), np.asarray(is_same, bool)
    both = [np.nan if value is None else value for value in second]
    asked = ~np.isnan(both)
    other = np.where(asked, both, one)
    mean = (one + other) / 2
    parts = reliability(mean, truth)
    error = sum(count * abs(p - share) for p, share, count in parts) / max(1, len(mean))
    agree = ((one > 0.5) == (other > 0.5))[asked]
    return Consistency(
        pairs=len(mean),
        agreeing=float(agree.mean()) if asked.any() else None,
        right=float(((mean > 0.5) == truth).mean()),
        ece=round(float(error), 6),
    )
