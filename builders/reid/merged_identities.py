"""Two people under one identity, because annotators confused them.

A hard positive also looks unlike the rest of its identity, so looking unlike is not enough. Connect
two images of an identity if either ranks the other before anybody else. If an identity falls into
parts of two or more images, the first stage recognises the person of each part. Two parts are taken
for two people if they look no more alike than strangers do,

    mean s(a, p)  ≤  mean (m_a + 1.7 d_a)    over a in one part, p in the other,

with m and d as in `builders.reid.space`.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from nontrivial.builders.reid.space import Pairs, Space, average, deviation

STRANGERS = 1.7  # standard deviations above the mean; most strangers stay below


def find_merged_identities(space: Space, positives: Pairs, best_negative: np.ndarray) -> np.ndarray:
    """Mask the positives (P,) that connect two people; best_negative (N,) similarities by row."""
    recognised = positives.similarity > np.minimum(
        best_negative[positives.anchor], best_negative[positives.candidate]
    )
    part = _parts(positives.where(recognised), len(space.pids))
    size = np.bincount(part, minlength=len(part))[part]
    first, second = part[positives.anchor], part[positives.candidate]
    apart = (first != second) & (size[positives.anchor] > 1) & (size[positives.candidate] > 1)
    across = positives.where(apart)
    anchors = np.unique(across.anchor)
    limit = np.zeros(len(space.pids), np.float32)
    limit[anchors] = average(space, anchors) + STRANGERS * deviation(space, anchors)
    low, high = np.minimum(first, second)[apart], np.maximum(first, second)[apart]
    excess = across.similarity - limit[across.anchor]
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
