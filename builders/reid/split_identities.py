"""One person under two identities, because a tracker lost and refound them.

Mining looks for look-alikes, so being alike is not enough. Two identities are taken for halves of
one only if most images of each have the other as their nearest negative, if the two look as much
alike as each looks like itself, and if nobody else comes as close:

    mean s(A, B)  ≥  mean − 2 standard deviations of s(A, A) and s(B, B)
    mean s(A, B)  >  s of any image of A or B with its best negative beyond the two
"""

from __future__ import annotations

import numpy as np
import polars as pl

from nontrivial.builders.reid.search import joined
from nontrivial.builders.reid.space import Pairs, Space
from nontrivial.manifests.schema import NOBODY

SLACK = 2.0  # standard deviations


def find_split_identities(
    space: Space, nearest: np.ndarray, values: np.ndarray, positives: Pairs
) -> tuple[Pairs, np.ndarray]:
    """Find the pairs of images across two halves, by anchor and candidate, and their margins (P,).

    nearest, values (A, k) are the anchors' nearest negatives. A margin is measured against the mean
    similarity of the positives of both halves.
    """
    partner = _partners(space, nearest)
    asking, answering = (space.pids[rows] for rows in (space.anchors, space.candidates))
    between = _by_pair(space, joined(space, partner[asking], answering), partner)
    within = _by_pair(space, positives, partner)
    spread = pl.col("similarity").cast(pl.Float64).std(ddof=0)
    as_alike = pl.col("level") >= pl.col("mean") - SLACK * pl.col("spread")
    split = (
        between.group_by("pair")
        .agg(level=pl.col("similarity").mean())
        .join(within.group_by("pair").agg(mean=pl.col("similarity").mean(), spread=spread), "pair")
        .join(_best_of_others(space, nearest, values, partner), "pair")
        .filter(as_alike, pl.col("level") > pl.col("others"))
    )
    halves = between.join(split, "pair").sort("anchor", "candidate")
    columns = (halves[name].to_numpy() for name in ("anchor", "candidate", "similarity", "mean"))
    anchor, candidate, similarity, mean = columns
    return Pairs(anchor, candidate, similarity), similarity - mean


def _partners(space: Space, nearest: np.ndarray) -> np.ndarray:
    """Return each identity's most frequent nearest one, (P,) int64; `NOBODY` if not mutual."""
    real = nearest[:, 0] != NOBODY
    pid, other = space.pids[space.anchors[real]], space.pids[nearest[real, 0]]
    most = (
        pl.DataFrame({"pid": pid, "other": other})
        .group_by("pid", "other")
        .len()
        .sort("pid", "len", "other", descending=[False, True, False])
        .unique("pid", keep="first", maintain_order=True)
    )
    pid, other = most["pid"].to_numpy(), most["other"].to_numpy()
    named = np.full(int(space.pids.max(initial=0)) + 1, NOBODY)
    named[pid] = other
    mutual = named[other] == pid
    partner = np.full_like(named, NOBODY)
    partner[pid[mutual]] = other[mutual]
    return partner


def _by_pair(space: Space, pairs: Pairs, partner: np.ndarray) -> pl.DataFrame:
    """Return the pairs whose anchors' identities have partners; `pair` is the lower identity."""
    pairs = pairs.where(partner[space.pids[pairs.anchor]] != NOBODY)
    pid = space.pids[pairs.anchor]
    return pl.DataFrame({"pair": np.minimum(pid, partner[pid]), **vars(pairs)})


def _best_of_others(
    space: Space, nearest: np.ndarray, values: np.ndarray, partner: np.ndarray
) -> pl.DataFrame:
    """Return for each pair of identities the best negative that belongs to neither."""
    pid = space.pids[space.anchors]
    beyond = (nearest != NOBODY) & (space.pids[nearest] != partner[pid][:, None])
    best = np.where(beyond, values, -np.inf).max(axis=1)
    return (
        pl.DataFrame({"pair": np.minimum(pid, partner[pid]), "others": best})
        .filter(pl.col("pair") != NOBODY)
        .group_by("pair")
        .agg(pl.col("others").max())
    )
