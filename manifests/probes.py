"""Small learners for measuring what can be answered without looking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def halves(groups: Sequence[str], seed: int = 0) -> np.ndarray:
    """Return the rows of every second group, (N,) bool, by name or in an order that `seed` draws.

    >>> halves(["b", "a", "c", "a"]).tolist()
    [False, True, True, True]
    """
    names = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(names)) if seed else np.arange(len(names))
    number = dict(zip(names, order.tolist(), strict=True))
    return np.array([number[group] % 2 == 0 for group in groups], bool)


def logistic(x: np.ndarray, y: np.ndarray, l2: float = 1e-3, rounds: int = 30) -> np.ndarray:
    """Fit P(y = 1) = 1 / (1 + exp(−(x · w + b))) by Newton's method; return w and b, (D + 1,).

    x is (N, D), y (N,) of 0 and 1. Minimises the mean log loss + l2 / 2 · |w|² of standardised x;
    columns that do not vary get weight 0.
    """
    middle, width = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    used = width > 1e-12
    width = np.where(used, width, 1.0)
    z = np.column_stack([(x - middle) / width * used, np.ones(len(x))])
    shrink = np.diag(np.append(np.full(x.shape[1], l2), 1e-9) + 1e-9)
    w = np.zeros(z.shape[1])
    for _ in range(rounds):
        p = _sigmoid(z @ w)
        slope = z.T @ (p - y) / len(y) + shrink @ w
        step = np.linalg.solve((z.T * (p * (1 - p) / len(y))) @ z + shrink, slope)
        w = w - step
        if np.abs(step).max() < 1e-9:
            break
    scaled = w[:-1] / width * used
    return np.append(scaled, w[-1] - scaled @ middle)


def probability(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return P(y = 1) for rows x (N, D) and the weights of `logistic`, (N,)."""
    return _sigmoid(x @ w[:-1] + w[-1])


def auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return P(score of a true one > score of a false one), ties counting half; NaN without both.

    >>> auc(np.array([0.9, 0.2, 0.5]), np.array([True, True, False]))
    0.5
    """
    positive, negative = scores[truth], np.sort(scores[~truth])
    if not len(positive) or not len(negative):
        return float("nan")
    below, not_above = (np.searchsorted(negative, positive, side) for side in ("left", "right"))
    return float((below + not_above).mean() / 2 / len(negative))


def balanced(right: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean over both truths of the mean of `right` (N,), .5 for a truth that is absent.

    >>> balanced(np.array([1.0, 1.0, 0.0]), np.array([True, True, False]))
    0.5
    """
    return float(np.mean([right[truth == t].mean() if (truth == t).any() else 0.5 for t in (0, 1)]))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))
