"""What is usual for an encoder: robust means and deviations of similarities by camera pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEW = 50  # a camera pair with fewer values is judged by those of all


def spread(values: np.ndarray) -> tuple[float, float]:
    """Return the median and a robust standard deviation, 1.48 × the median distance to it.

    >>> spread(np.array([1.0, 2.0, 3.0, 100.0, -50.0]))
    (2.0, 1.4826)
    """
    if not len(values):
        return 0.0, 1.0
    middle = float(np.median(values))
    return middle, max(1e-6, 1.4826 * float(np.median(np.abs(values - middle))))


@dataclass(frozen=True)
class Usual:
    """Medians and deviations by the two cameras of a pair; those of all pairs under None."""

    known: dict[tuple[int, int] | None, tuple[float, float]]

    @classmethod
    def of(cls, values: np.ndarray, asks: np.ndarray, answers: np.ndarray) -> Usual:
        """Measure values (n,) of pairs between the cameras `asks` and `answers`, (n,) each."""
        known: dict[tuple[int, int] | None, tuple[float, float]] = {None: spread(values)}
        for cameras, rows in _by_pair(asks, answers):
            if len(rows) >= FEW:
                known[cameras] = spread(values[rows])
        return cls(known)

    def at(self, asks: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the median and the deviation for cameras (n,), (n,) each."""
        result = np.empty((2, len(asks)))
        for cameras, rows in _by_pair(asks, answers):
            result[:, rows] = np.array(self.known.get(cameras, self.known[None]))[:, None]
        return result[0], result[1]


def _by_pair(asks: np.ndarray, answers: np.ndarray) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Return the places of each pair of cameras."""
    order = np.lexsort((answers, asks))
    a, b = asks[order], answers[order]
    starts = np.flatnonzero(np.append(True, (np.diff(a) != 0) | (np.diff(b) != 0))[: len(order)])
    parts = np.split(order, starts[1:])
    return [((int(asks[rows[0]]), int(answers[rows[0]])), rows) for rows in parts if len(rows)]
