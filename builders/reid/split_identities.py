"""One person under two identities, as trackers leave them that lose somebody and find them again.

Look-alikes are what mining is after, so being alike is not enough. Two identities are taken for
halves of one only where most images of each name the other first, where the two look as much alike
as each looks like itself, and where nobody else comes as close:

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
) -> pl.DataFrame:
    """Pairs of images across two halves: anchor, candidate, similarity, margin.

    nearest, values (A, k) are the anchors' nearest negatives. The margin is against the mean
    similarity of the positives of both halves.
    """
    partner = _partners(space, nearest)
    asking, answering = (space.pids[rows] for rows in (space.anchors, space.candidates))
    between = _by_pair(space, joined(space, partner[asking], answering), partner)
    within = (
        _by_pair(space, positives, partner)
        .group_by("pair")
        .agg(
            mean=pl.col("similarity").mean(),
            spread=pl.col("similarity").cast(pl.Float64).std(ddof=0),
        )
    )
    level = between.group_by("pair").agg(level=pl.col("similarity").mean())
    others = _best_of_others(space, nearest, values, partner)
    split = (
        level.join(within, on="pair")
        .join(others, on="pair")
        .filter(
            pl.col("level") >= pl.col("mean") - SLACK * pl.col("spread"),
            pl.col("level") > pl.col("others"),
        )
    )
    return (
        between.join(split, on="pair")
        .with_columns(margin=pl.col("similarity") - pl.col("mean"))
        .select("anchor", "candidate", "similarity", "margin")
        .sort("anchor", "candidate")
    )


def _partners(space: Space, nearest: np.ndarray) -> np.ndarray:
    """For each identity the one that is most often its nearest negative, where that holds the other
    way round, too; else `NOBODY`. (P,) int64 by identity."""
    real = nearest[:, 0] != NOBODY
    asked = space.pids[space.anchors[real]]
    most = (
        pl.DataFrame({"pid": asked, "other": space.pids[nearest[real, 0]]})
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


def _by_pair(space: Space, found: Pairs, partner: np.ndarray) -> pl.DataFrame:
    """Pairs of images whose anchors' identities have partners; `pair` is the lower identity."""
    found = found.where(partner[space.pids[found.anchor]] != NOBODY)
    pid = space.pids[found.anchor]
    columns = {"anchor": found.anchor, "candidate": found.candidate, "similarity": found.similarity}
    return pl.DataFrame({"pair": np.minimum(pid, partner[pid]), **columns})


def _best_of_others(
    space: Space, nearest: np.ndarray, values: np.ndarray, partner: np.ndarray
) -> pl.DataFrame:
    """The best negative of each pair of identities that belongs to neither."""
    pid = space.pids[space.anchors]
    beyond = (nearest != NOBODY) & (space.pids[nearest] != partner[pid][:, None])
    best = np.where(beyond, values, -np.inf).max(axis=1)
    return (
        pl.DataFrame({"pair": np.minimum(pid, partner[pid]), "others": best})
        .filter(pl.col("pair") != NOBODY)
        .group_by("pair")
        .agg(pl.col("others").max())
    )
