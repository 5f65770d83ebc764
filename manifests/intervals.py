"""Intervals of proportions."""

from __future__ import annotations

Z = 1.959964  # quantile of the normal distribution, two-sided 95 %


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a proportion as (low, high).

    >>> low, high = wilson(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    share, z2 = successes / trials, Z * Z
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = Z / (1 + z2 / trials) * (share * (1 - share) / trials + z2 / (4 * trials**2)) ** 0.5
    return max(0.0, centre - spread), min(1.0, centre + spread)
