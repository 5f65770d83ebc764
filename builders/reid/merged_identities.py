"""Two people under one identity, as annotators leave them who took one for the other.

A hard positive looks unlike the rest of its identity, too, so looking unlike is not enough. Connect
two images of an identity if either of them ranks the other before anybody else. Where an identity
falls into parts of two or more images, each part is somebody the first stage knows well; and where
two parts look as much alike as strangers do,

    mean s(a, p)  ≤  mean (m_a + 1.7 d_a)    over a in one part, p in the other,

m and d as in `builders.reid.space`, they are taken for two people.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from nontrivial.builders.reid.space import Pairs, Space, average, deviation

STRANGERS = 1.7  # standard deviations above the mean; most strangers stay below


def find_merged_identities(space: Space, positives: Pairs, best_negative: np.ndarray) -> np.ndarray:
    """Which positives (P,) connect two people; best_negative (N,) similarities by row."""
    recognised = positives.similarity > np.minimum(
        best_negative[positives.anchor], best_negative[positives.candidate]
    )
    part = _parts(positives.where(recognised), len(space.pids))
    size = np.bincount(part, minlength=len(part))[part]
    first, second = part[positives.anchor], part[positives.candidate]
    apart = (first != second) & (size[positives.anchor] > 1) & (size[positives.candidate] > 1)
    found = positives.where(apart)
    anchors = np.unique(found.anchor)
    limit = np.zeros(len(space.pids), np.float32)
    limit[anchors] = average(space, anchors) + STRANGERS * deviation(space, anchors)
    sides = pl.DataFrame({"low": first[apart], "high": second[apart]})
    excess = (
        sides.select(low=pl.min_horizontal("low", "high"), high=pl.max_horizontal("low", "high"))
        .with_columns(excess=pl.Series(found.similarity - limit[found.anchor]))
        .select(pl.col("excess").mean().over("low", "high"))
    )
    apart[apart] = excess["excess"].to_numpy() <= 0
    return apart


def _parts(edges: Pairs, rows: int) -> np.ndarray:
    """The lowest row each row is connected to, (rows,)."""
    part = np.arange(rows)
    while True:
        before = part.copy()
        for a, b in ((edges.anchor, edges.candidate), (edges.candidate, edges.anchor)):
            np.minimum.at(part, a, part[b])
        if (part == before).all():
            return part
