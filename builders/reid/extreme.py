"""Extreme pairs: those that the first stage errs about most.

For an anchor a and images of other cameras, with similarity s of a first stage:

    negative n   another identity within the anchor's top k
    positive p   the same identity; extreme if ranked below at least one other identity
    margin       of a negative s(a, n) − max_p s(a, p): how much more it looks like a than the best
                 positive does; of a positive max_n s(a, n) − s(a, p): how much more somebody else
                 looks like a

The larger the margin, the harder the pair. Published recipes choose like this. It leaves a
shortcut: all negatives chosen look more alike than all positives, so "alike means different"
answers them. `builders.reid.twins` leaves none.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from nontrivial.builders.reid.pairs import EXTREME_NEGATIVE, EXTREME_POSITIVE, POSITIVE, POSITIVES
from nontrivial.builders.reid.room import Room
from nontrivial.builders.reid.space import Pairs, Space, Strangers, best_by_row

CHUNK = 4096  # pairs sifted at once
# Pairs of each label considered per pair of the budget: more if the first do not suffice.
LOOKED_AT = (4, 32, None)


def choose_extreme(
    space: Space,
    strangers: Strangers,
    positives: Pairs,
    budget: int,
    caps: tuple[int, int],
    size: int | None = None,
) -> pl.DataFrame:
    """Choose the pairs of the largest margins, or sets of an anchor and `size` candidates.

    Half of the pairs are positives. Returns columns anchor, candidate, similarity, difficulty (the
    margin), kind and twin (null).
    """
    margins = _Margins(space, strangers, positives)
    if size:
        chosen = take_sets(margins.pairs(), space.pids, budget, size, caps)
    else:
        for times in LOOKED_AT:
            least = margins.least(times and times * budget)
            chosen = take_hardest(margins.pairs(least), space.pids, budget, caps)
            if len(chosen) == budget:
                break
    return chosen.rename({"margin": "difficulty"}).with_columns(
        pl.col("difficulty").cast(pl.Float32), twin=pl.lit(None, pl.Int64)
    )


def negative_pairs(
    anchors: np.ndarray,
    index: np.ndarray,
    similarity: np.ndarray,
    best_positive: np.ndarray,
    least: float = -np.inf,
) -> pl.DataFrame:
    """Pair each anchor with its nearest negatives of a margin ≥ `least`, as extreme negatives.

    anchors (A,) rows; index (A, k) rows, −1 where there is none; similarity (A, k); best_positive
    (N,) by row, −inf for anchors without a positive in another camera. These have no margin, so
    none of their negatives is taken. Returns columns anchor, candidate, similarity, margin, kind.
    """
    best = best_positive[anchors, None]
    margin = np.full_like(similarity, -np.inf)
    np.subtract(similarity, best, out=margin, where=np.isfinite(best))
    kept = (index >= 0) & np.isfinite(margin) & (margin >= least)
    anchor = np.broadcast_to(anchors[:, None], index.shape)
    return _pairs(kept, anchor, index, similarity, margin, kind=pl.lit(EXTREME_NEGATIVE))


def positive_pairs(
    anchor: np.ndarray,
    candidate: np.ndarray,
    similarity: np.ndarray,
    best_negative: np.ndarray,
    least: float = -np.inf,
) -> pl.DataFrame:
    """Return the positives (P,) of a margin ≥ `least`; those of a margin > 0 are extreme.

    Margins refer to best_negative (N,) by row. Returns the columns of `negative_pairs`.
    """
    margin = best_negative[anchor] - similarity
    kept = np.isfinite(margin) & (margin >= least)
    kind = pl.when(pl.col("margin") > 0).then(pl.lit(EXTREME_POSITIVE)).otherwise(pl.lit(POSITIVE))
    return _pairs(kept, anchor, candidate, similarity, margin, kind=kind)


def take_hardest(
    pairs: pl.DataFrame, pids: np.ndarray, budget: int, caps: tuple[int, int]
) -> pl.DataFrame:
    """Choose the hardest pairs within a budget, half of them positives; pids (N,) by row.

    The choice is greedy by margin, ties by row. No pair is taken twice in either order. `caps`
    limits the pairs of an image and those of an identity. If one half comes short, the other is cut
    to its size.
    """
    ordered = _hardest_first(pairs)
    quota = {True: budget // 2, False: budget - budget // 2}
    chosen = _take(ordered, pids, quota, caps)
    right = int(chosen["kind"].is_in(POSITIVES).sum())
    if chosen.height < budget:
        half = min(right, chosen.height - right)
        chosen = _take(ordered, pids, {True: half, False: half}, caps)
    return chosen.select(pairs.columns)


def take_sets(
    pairs: pl.DataFrame, pids: np.ndarray, budget: int, size: int, caps: tuple[int, int]
) -> pl.DataFrame:
    """Choose the hardest anchors, each once, with `size` candidates; none to several are right.

    Anchors are ordered by their hardest pair. The number of right candidates cycles from 0 to
    `size` − 1, or to the anchor's positives if they are fewer. Of an anchor's candidates the
    hardest are taken. No pair is taken twice in either order. `caps` is that of `take_hardest`,
    where each candidate counts as a pair. Returns the columns of `pairs`, the rows of an anchor
    together.
    """
    ordered = pairs.sort(["margin", "anchor", "candidate"], descending=[True, False, False])
    room = Room(pids, *caps)
    right = ordered["kind"].is_in(POSITIVES).to_list()
    waiting: dict[int, tuple[list[int], list[int]]] = {}
    for place, (anchor, positive) in enumerate(zip(ordered["anchor"], right, strict=True)):
        waiting.setdefault(anchor, ([], []))[positive].append(place)
    images = list(zip(ordered["anchor"], ordered["candidate"], strict=True))
    kept: list[int] = []
    for wrong, positive in waiting.values():
        if len(kept) == budget * size:
            break
        wanted = (len(kept) // size) % size
        some = room.first(positive, images, wanted)
        others = room.first(wrong, images, size - len(some), beside=len(some))
        if len(some) + len(others) == size:
            room.take(images[place] for place in some + others)
            kept += some + others
    return ordered[kept].select(pairs.columns)


def _pairs(kept: np.ndarray, *columns: np.ndarray, kind: pl.Expr) -> pl.DataFrame:
    """Return a table of anchor, candidate, similarity and margin where `kept`, and of `kind`."""
    names = ("anchor", "candidate", "similarity", "margin")
    frame = pl.DataFrame({name: x[kept] for name, x in zip(names, columns, strict=True)})
    return frame.with_columns(pl.col("anchor", "candidate").cast(pl.Int64), kind=kind)


def _hardest_first(pairs: pl.DataFrame) -> pl.DataFrame:
    """Sort pairs by falling margin and keep the harder order of each, with `low` < `high` rows."""
    sided = pairs.with_columns(
        low=pl.min_horizontal("anchor", "candidate"), high=pl.max_horizontal("anchor", "candidate")
    )
    keys = ["margin", "low", "high", "anchor"]
    ordered = sided.sort(keys, descending=[True, False, False, False])
    return ordered.unique(["low", "high"], keep="first", maintain_order=True)


def _take(
    ordered: pl.DataFrame, pids: np.ndarray, quota: Mapping[bool, int], caps: tuple[int, int]
) -> pl.DataFrame:
    """Take pairs in order as far as quota and caps leave room."""
    room, left, kept = Room(pids, *caps), dict(quota), []
    low, high = ordered["low"].to_numpy(), ordered["high"].to_numpy()
    positive = ordered["kind"].is_in(POSITIVES).to_numpy()
    for start in range(0, len(ordered), CHUNK):
        part = slice(start, start + CHUNK)
        open_ = np.array([left[False] > 0, left[True] > 0])[positive[part].astype(int)]
        open_ &= room.open(low[part], high[part])
        for place in (start + np.flatnonzero(open_)).tolist():
            pair, label = (int(low[place]), int(high[place])), bool(positive[place])
            if left[label] > 0 and room.has(pair):
                left[label] -= 1
                room.take([pair])
                kept.append(place)
        if not any(left.values()):
            break
    return ordered[kept]


class _Margins:
    """Nearest strangers and positives of a space's anchors.

    best_positive, best_negative  (N,) float32: the highest similarity of each row's positives and
                                  negatives, −inf without one; margins refer to it
    """

    def __init__(self, space: Space, strangers: Strangers, positives: Pairs) -> None:
        self.space, self.strangers, self.positives = space, strangers, positives
        self.best_positive = best_by_row(positives, len(space.pids))
        self.best_negative = np.full(len(space.pids), -np.inf, np.float32)
        self.best_negative[space.anchors] = strangers.values.max(axis=1)

    def pairs(self, least: tuple[float, float] = (-np.inf, -np.inf)) -> pl.DataFrame:
        """Return the negatives, and positives, whose margins reach `least`."""
        near, right = self.strangers, self.positives
        negatives = (self.space.anchors, near.rows, near.values, self.best_positive, least[0])
        positives = (right.anchor, right.candidate, right.similarity, self.best_negative, least[1])
        return pl.concat([negative_pairs(*negatives), positive_pairs(*positives)])

    def least(self, count: int | None) -> tuple[float, float]:
        """Return the margins that `count` negatives, and `count` positives, reach; −inf for all.

        If the pairs above them fill the budget, the pairs below cannot change the choice: a label's
        quota is full before its first pair that was left out.
        """
        if count is None:
            return -np.inf, -np.inf
        anchors, positives = self.space.anchors, self.positives
        known = np.isfinite(self.best_positive[anchors])
        wrong = self.strangers.values[known] - self.best_positive[anchors[known], None]
        right = self.best_negative[positives.anchor] - positives.similarity
        negative, positive = (_nth_largest(x[np.isfinite(x)], count) for x in (wrong, right))
        return negative, positive


def _nth_largest(values: np.ndarray, n: int) -> float:
    place = len(values) - n
    return float(np.partition(values, place)[place]) if place > 0 else -np.inf
