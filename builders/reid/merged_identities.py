"""Two people under one identity, because annotators confused them.

A hard positive also looks unlike the rest of its identity, so looking unlike is not enough. Two
parts of an identity, of two or more images each, are taken for two people in either of two cases.

Connect two images of an identity if either ranks the other before anybody else. If parts remain,
the first stage recognises the person of each. They are two people if they look no more alike than
strangers do,

    mean s(a, p)  ≤  mean (m_a + 1.7 d_a)    over a in one part, p in the other,

with m and d as in `builders.reid.space`, and if that is also unusually low for one person: a front
and a back view are not alike either.

The images of two cameras are two people if the median of s(a, p) between them is unusually low for
the two cameras (`builders.reid.usual`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from nontrivial.builders.reid.space import Pairs, Space, average, deviation
from nontrivial.builders.reid.usual import Usual

STRANGERS = 1.7  # standard deviations above the mean; most strangers stay below


def find_merged_identities(
    space: Space, positives: Pairs, best_negative: np.ndarray, within: Usual, least: float
) -> np.ndarray:
    """Mask the positives (P,) that connect two people.

    best_negative (N,) are similarities by row; `within` tells what is usual among the positives,
    and `least` deviations below the median are unusual.
    """
    found = _strange_parts(space, positives, best_negative, within, least)
    found[~found] = _strange_cameras(space, positives.where(~found), least)
    return found


def _strange_cameras(space: Space, positives: Pairs, least: float) -> np.ndarray:
    """Mask the positives (P,) between two cameras that seem to show two people."""
    cameras, pid = space.cameras(positives), space.pids[positives.anchor]
    several = int(cameras.max(initial=0)) + 1
    numbers, group = np.unique(pid * several + cameras, return_inverse=True)
    middle = _medians(group, positives.similarity)
    asks, answers = (_images(group, rows) for rows in (positives.anchor, positives.candidate))
    large = np.minimum(asks, answers) > 1
    of_group = numbers % several
    usual, deviation = Usual.of(middle[large], of_group[large]).at(of_group)
    return (large & (middle < usual - least * deviation))[group]


def _medians(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the median of the values (n,) of each group.

    >>> _medians(np.array([0, 1, 0, 0]), np.array([5.0, 2.0, 1.0, 3.0])).tolist()
    [3.0, 2.0]
    """
    ordered = values[np.lexsort((values, group))]
    count = np.bincount(group)
    first = np.cumsum(count) - count
    return (ordered[first + (count - 1) // 2] + ordered[first + count // 2]) / 2


def _images(group: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Count the distinct rows of each group."""
    several = int(rows.max(initial=0)) + 1
    return np.bincount(np.unique(group * several + rows) // several)


def _strange_parts(
    space: Space, positives: Pairs, best_negative: np.ndarray, within: Usual, least: float
) -> np.ndarray:
    """Mask the positives (P,) between two parts that the first stage recognises."""
    recognised = positives.similarity > np.minimum(
        best_negative[positives.anchor], best_negative[positives.candidate]
    )
    part = _parts(positives.where(recognised), len(space.pids))
    size = np.bincount(part, minlength=len(part))[part]
    first, second = part[positives.anchor], part[positives.candidate]
    apart = (first != second) & (size[positives.anchor] > 1) & (size[positives.candidate] > 1)
    across = positives.where(apart)
    anchors = np.unique(across.anchor)
    strangers = np.zeros(len(space.pids), np.float32)
    strangers[anchors] = average(space, anchors) + STRANGERS * deviation(space, anchors)
    usual, width = within.at(space.cameras(across))
    limit = np.minimum(strangers[across.anchor], usual - least * width)
    low, high = np.minimum(first, second)[apart], np.maximum(first, second)[apart]
    excess = across.similarity - limit
    sides = pl.DataFrame({"low": low, "high": high, "excess": excess})
    mean = sides.select(pl.col("excess").mean().over("low", "high"))["excess"].to_numpy()
    apart[apart] = mean <= 0
    return apart


def _parts(edges: Pairs, rows: int) -> np.ndarray:
    """Return the lowest row each row is connected to, (rows,)."""
    part = np.arange(rows)
    while True:
        before = part.copy()
        for a, b in ((edges.anchor, edges.candidate), (edges.candidate, edges.anchor)):
            np.minimum.at(part, a, part[b])
        if (part == before).all():
            return part
