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
    """Medians and deviations of M camera pairs, and of all pairs.

    cameras (M,) int64 ascending, numbered as by `Space.cameras`; known (M + 1, 2), of all last
    """

    cameras: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, cameras: np.ndarray) -> Usual:
        """Measure values (n,) of pairs with cameras (n,)."""
        numbers, counts = np.unique(cameras, return_counts=True)
        numbers = numbers[counts >= FEW]
        known = [spread(values[cameras == number]) for number in numbers.tolist()]
        return cls(numbers, np.array([*known, spread(values)]))

    def at(self, cameras: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the medians and the deviations for pairs with cameras (n,), (n,) each."""
        place = np.searchsorted(self.cameras, cameras)
        found = np.append(self.cameras, -1)[place] == cameras
        middle, width = self.known[np.where(found, place, len(self.cameras))].T
        return middle, width
