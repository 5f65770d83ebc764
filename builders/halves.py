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

from builders.neighbors import NOBODY, Pairs, Space, similarity

SLACK = 2.0  # standard deviations


def find_halves(
    space: Space, nearest: np.ndarray, values: np.ndarray, positives: Pairs
) -> pl.DataFrame:
    """Pairs of images across two halves: anchor, candidate, similarity, margin.

    nearest, values (A, k) are the anchors' nearest negatives. The margin is against the mean
    similarity of the positives of both halves.
    """
    named = _name_each_other(space, nearest)
    between = _between(space, named)
    within = (
        _with_partner(pl.DataFrame({"pid": space.pids[positives.anchor]}), named)
        .with_columns(similarity=pl.Series(positives.similarity))
        .drop_nulls("pair")
        .group_by("pair")
        .agg(
            mean=pl.col("similarity").mean(),
            spread=pl.col("similarity").cast(pl.Float64).std(ddof=0),
        )
    )
    level = between.group_by("pair").agg(level=pl.col("similarity").mean())
    known = level.join(within, on="pair").join(
        _best_of_others(space, nearest, values, named), "pair"
    )
    split = known.filter(
        pl.col("level") >= pl.col("mean") - SLACK * pl.col("spread"),
        pl.col("level") > pl.col("others"),
    )
    return (
        between.join(split, on="pair")
        .with_columns(margin=pl.col("similarity") - pl.col("mean"))
        .select("anchor", "candidate", "similarity", "margin")
        .sort("anchor", "candidate")
    )


def _name_each_other(space: Space, nearest: np.ndarray) -> pl.DataFrame:
    """Identities `pid` and `other` each of which is most often the other's nearest negative."""
    real = nearest[:, 0] != NOBODY
    asked = space.pids[space.anchors[real]]
    most = (
        pl.DataFrame({"pid": asked, "other": space.pids[nearest[real, 0]]})
        .group_by("pid", "other")
        .len()
        .sort("pid", "len", "other", descending=[False, True, False])
        .unique("pid", keep="first", maintain_order=True)
    )
    back = most.select(other="pid", back="other")
    return (
        most.join(back, on="other")
        .filter(pl.col("back") == pl.col("pid"))
        .select("pid", "other", pair=pl.min_horizontal("pid", "other"))
    )


def _with_partner(frame: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    return frame.join(named, on="pid", how="left", maintain_order="left")


def _between(space: Space, named: pl.DataFrame) -> pl.DataFrame:
    """Every pair of images of two such identities across cameras, with its similarity."""
    asking = pl.DataFrame({"anchor": space.anchors, "pid": space.pids[space.anchors]})
    answering = pl.DataFrame({"candidate": space.candidates, "other": space.pids[space.candidates]})
    pairs = asking.join(named, on="pid").join(answering, on="other").sort("anchor", "candidate")
    anchor, candidate = pairs["anchor"].to_numpy(), pairs["candidate"].to_numpy()
    across = space.camids[anchor] != space.camids[candidate]
    value = similarity(space, anchor[across], candidate[across])
    return pairs.filter(pl.Series(across)).with_columns(similarity=pl.Series(value))


def _best_of_others(
    space: Space, nearest: np.ndarray, values: np.ndarray, named: pl.DataFrame
) -> pl.DataFrame:
    """The best negative of each pair of identities that belongs to neither."""
    asked = _with_partner(pl.DataFrame({"pid": space.pids[space.anchors]}), named)
    other = asked["other"].fill_null(NOBODY).to_numpy()
    beyond = (nearest != NOBODY) & (space.pids[nearest] != other[:, None])
    best = np.where(beyond, values, -np.inf).max(axis=1)
    return (
        asked.with_columns(others=pl.Series(best))
        .drop_nulls("pair")
        .group_by("pair")
        .agg(pl.col("others").max())
    )
