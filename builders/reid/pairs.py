"""Non-trivial pairs of images: margins, the hardest pairs, random ones like them.

For an anchor a and images of other cameras, with similarity s of a first stage:

    hard negative n   another identity within the anchor's top k
    hard positive p   the same identity, ranked below at least one other identity
    margin            of a negative s(a, n) − max_p s(a, p): how much more it looks like a than the
                      best positive does; of a positive max_n s(a, n) − s(a, p): how much more
                      somebody else looks like a

The larger the margin, the harder the pair. This follows ReID-R, whose exact rule is not public.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.random import Generator

from nontrivial.manifests.schema import NOBODY

HARD_NEGATIVE, HARD_POSITIVE = "hard_negative", "hard_positive"
POSITIVE = "positive"  # ranked first by the first stage
RANDOM_NEGATIVE, RANDOM_POSITIVE = "random_negative", "random_positive"
RANKED_NEGATIVE, RANKED_POSITIVE = "ranked_negative", "ranked_positive"
POSITIVES = (HARD_POSITIVE, POSITIVE, RANDOM_POSITIVE, RANKED_POSITIVE)

BUDGET = 0.209  # pairs per training image of a source, as in ReID-R
EVEN_SHARES = 4  # cap on the pairs of an image or identity, in multiples of its even share
REDRAWS = 100  # rounds of drawing negatives
CHUNK = 4096  # pairs sifted at once
DRAWN = {"anchor": pl.Int64, "candidate": pl.Int64, "kind": pl.String}


def negative_pairs(
    anchors: np.ndarray,
    index: np.ndarray,
    similarity: np.ndarray,
    best_positive: np.ndarray,
    least: float = -np.inf,
) -> pl.DataFrame:
    """Pair each anchor with its nearest negatives of a margin ≥ `least`, as hard negatives.

    anchors (A,) rows; index (A, k) rows, −1 where there is none; similarity (A, k); best_positive
    (N,) by row, −inf for anchors without a positive in another camera. These have no margin, so
    none of their negatives is taken. Returns columns anchor, candidate, similarity, margin, kind.
    """
    best = best_positive[anchors, None]
    margin = np.full_like(similarity, -np.inf)
    np.subtract(similarity, best, out=margin, where=np.isfinite(best))
    kept = (index >= 0) & np.isfinite(margin) & (margin >= least)
    anchor = np.broadcast_to(anchors[:, None], index.shape)
    return _pairs(kept, anchor, index, similarity, margin, kind=pl.lit(HARD_NEGATIVE))


def positive_pairs(
    anchor: np.ndarray,
    candidate: np.ndarray,
    similarity: np.ndarray,
    best_negative: np.ndarray,
    least: float = -np.inf,
) -> pl.DataFrame:
    """Return the positives (P,) of a margin ≥ `least`; those of a margin > 0 are hard.

    Margins refer to best_negative (N,) by row. Returns the columns of `negative_pairs`.
    """
    margin = best_negative[anchor] - similarity
    kept = np.isfinite(margin) & (margin >= least)
    kind = pl.when(pl.col("margin") > 0).then(pl.lit(HARD_POSITIVE)).otherwise(pl.lit(POSITIVE))
    return _pairs(kept, anchor, candidate, similarity, margin, kind=kind)


def choose(
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


def choose_sets(
    pairs: pl.DataFrame, pids: np.ndarray, budget: int, size: int, caps: tuple[int, int]
) -> pl.DataFrame:
    """Choose the hardest anchors, each once, with `size` candidates; none to several are right.

    Anchors are ordered by their hardest pair. The number of right candidates cycles from 0 to
    `size` − 1, or to the anchor's positives if they are fewer. Of an anchor's candidates the
    hardest are taken. No pair is taken twice in either order. `caps` is that of `choose`, where
    each candidate counts as a pair. Returns the columns of `pairs`, the rows of an anchor together.
    """
    ordered = pairs.sort(["margin", "anchor", "candidate"], descending=[True, False, False])
    room = _Room(pids, *caps)
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


def draw_sets(
    sets: pl.DataFrame,
    candidates: np.ndarray,
    pids: np.ndarray,
    camids: np.ndarray,
    rng: Generator,
    avoided: Collection[tuple[int, int]] = (),
) -> pl.DataFrame:
    """Draw for each set random candidates of the same anchor with the same labels.

    Positives are drawn from the anchor's positives in other cameras, negatives from all other
    images there, except for `avoided` pairs (listed in both orders). candidates (C,) are rows, pids
    and camids (N,) by row. Returns columns anchor, candidate, kind.
    """
    drawn: list[tuple[int, int, str]] = []
    for (anchor,), rows in sets.group_by("anchor", maintain_order=True):
        across = candidates[camids[candidates] != camids[anchor]]
        across = across[[(anchor, c) not in avoided for c in across.tolist()]]
        same = pids[across] == pids[anchor]
        right = int(rows["kind"].is_in(POSITIVES).sum())
        for pool, count, kind in (
            (across[same], right, RANDOM_POSITIVE),
            (across[~same], len(rows) - right, RANDOM_NEGATIVE),
        ):
            chosen = rng.choice(pool, min(count, len(pool)), replace=False)
            drawn += [(anchor, int(candidate), kind) for candidate in chosen]
    return pl.DataFrame(drawn, schema=DRAWN, orient="row")


def draw_alike(
    pairs: pl.DataFrame,
    anchors: np.ndarray,
    candidates: np.ndarray,
    pids: np.ndarray,
    camids: np.ndarray,
    rng: Generator,
    avoided: Collection[tuple[int, int]] = (),
) -> pl.DataFrame:
    """Draw a random pair for each of `pairs`, with the same label and the same two cameras.

    It is drawn uniformly from all such pairs except for `avoided` ones, and none is drawn twice in
    either order. anchors (A,) and candidates (C,) are rows, pids and camids (N,) by row. Returns
    columns anchor, candidate, kind.
    """
    wanted = pairs.select(
        pl.Series("asks", camids[pairs["anchor"].to_numpy()]),
        pl.Series("answers", camids[pairs["candidate"].to_numpy()]),
        pl.Series("positive", pairs["kind"].is_in(POSITIVES)),
    )
    counts = wanted.group_by(pl.all()).len().sort("asks", "answers", "positive")
    seen = {(min(pair), max(pair)) for pair in avoided}
    drawn: list[tuple[int, int, str]] = []
    for asks, answers, positive, count in counts.rows():
        asking = anchors[camids[anchors] == asks]
        answering = candidates[camids[candidates] == answers]
        draw = _all_positives if positive else _draws_of_negatives
        kind = RANDOM_POSITIVE if positive else RANDOM_NEGATIVE
        new = _first_new(draw(asking, answering, pids, count, rng), count, seen)
        drawn += [(*pair, kind) for pair in new]
    return pl.DataFrame(drawn, schema=DRAWN, orient="row")


def even_caps(budget: int, images: int, identities: int) -> tuple[int, int]:
    """Return the caps on pairs of an image and of an identity, `EVEN_SHARES` times an even share.

    Each pair has two members.

    >>> even_caps(2704, 12936, 751)
    (4, 29)
    """
    image, identity = (
        max(EVEN_SHARES, -(-EVEN_SHARES * 2 * budget // max(1, n))) for n in (images, identities)
    )
    return image, identity


def first_stage_auc(similarity: np.ndarray, same: np.ndarray) -> float:
    """Return P(s(positive) > s(negative)) over all positives and negatives, ties counting half.

    >>> float(first_stage_auc(np.array([0.9, 0.2, 0.5]), np.array([True, True, False])))
    0.5
    """
    positive, negative = similarity[same], np.sort(similarity[~same])
    if not len(positive) or not len(negative):
        return float("nan")
    below, not_above = (np.searchsorted(negative, positive, side) for side in ("left", "right"))
    return float((below + not_above).mean() / 2 / len(negative))


def quotas(budget: float, sizes: Sequence[int]) -> list[int]:
    """Return the pairs of each source: a share (≤ 1) of its images, or its part of a total (> 1).

    >>> quotas(0.209, [12936, 30248, 7365, 17896])
    [2704, 6322, 1539, 3740]
    >>> quotas(100, [1, 2])
    [33, 67]
    """
    if budget <= 1:
        return [round(budget * size) for size in sizes]
    total, parts = round(budget), [budget * size / sum(sizes) for size in sizes]
    counts = [int(part) for part in parts]
    by_remainder = sorted(range(len(sizes)), key=lambda i: counts[i] - parts[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


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
    room, left, kept = _Room(pids, *caps), dict(quota), []
    low, high = ordered["low"].to_numpy(), ordered["high"].to_numpy()
    positive = ordered["kind"].is_in(POSITIVES).to_numpy()
    for start in range(0, len(ordered), CHUNK):
        part = slice(start, start + CHUNK)
        open_ = np.array([left[False] > 0, left[True] > 0])[positive[part].astype(int)]
        open_ &= room.open(low[part], high[part])
        for place in (start + np.flatnonzero(open_)).tolist():
            pair, label = (int(low[place]), int(high[place])), bool(positive[place])
            if left[label] > 0 and room.has(*pair):
                left[label] -= 1
                room.take([pair])
                kept.append(place)
        if not any(left.values()):
            break
    return ordered[kept]


class _Room:
    """The room that caps leave: how often images and identities may still be paired."""

    def __init__(self, pids: np.ndarray, per_image: int, per_identity: int) -> None:
        self.per_image, self.per_identity = per_image, per_identity
        self.person = np.unique(pids, return_inverse=True)[1]
        self.images: Counter[int] = Counter()
        self.identities: Counter[int] = Counter()
        self.taken: set[tuple[int, int]] = set()
        self.full_images = np.zeros(len(pids), bool)
        self.full_people = np.zeros(len(pids), bool)

    def open(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Mask the pairs (n,) that no cap rules out so far; `has` checks one pair exactly."""
        full = self.full_images[low] | self.full_images[high]
        return ~(full | self.full_people[self.person[low]] | self.full_people[self.person[high]])

    def has(self, a: int, b: int) -> bool:
        """True if the two may be paired: within the caps, and not paired before in either order."""
        return (
            (min(a, b), max(a, b)) not in self.taken
            and max(self.images[a], self.images[b]) < self.per_image
            and max(self.identities[p] for p in self._people(a, b)) < self.per_identity
        )

    def take(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Count the pairs as taken."""
        for a, b in pairs:
            self.taken.add((min(a, b), max(a, b)))
            self.images.update((a, b))
            self.identities.update(self._people(a, b))
            for row in (a, b):
                person = int(self.person[row])
                self.full_images[row] = self.images[row] >= self.per_image
                self.full_people[person] = self.identities[person] >= self.per_identity

    def first(
        self, places: Sequence[int], pairs: Sequence[tuple[int, int]], count: int, beside: int = 0
    ) -> list[int]:
        """Return the first `count` places with room for their pairs, after `beside` other pairs."""
        anchor = self.person[pairs[places[0]][0]] if places else NOBODY
        free = self.per_identity - self.identities[int(anchor)] - beside
        kept = (place for place in places if self.has(*pairs[place]))
        return list(itertools.islice(kept, max(0, min(count, free))))

    def _people(self, a: int, b: int) -> set[int]:
        return {int(self.person[a]), int(self.person[b])}


def _all_positives(
    asking: np.ndarray, answering: np.ndarray, pids: np.ndarray, count: int, rng: Generator
) -> Iterable[tuple[int, int]]:
    """Yield every pair of one identity, in random order."""
    order = np.argsort(pids[answering], kind="stable")
    known = pids[answering[order]]
    low, high = (np.searchsorted(known, pids[asking], side) for side in ("left", "right"))
    ends = np.cumsum(high - low)
    drawn = rng.permutation(int(high.sum() - low.sum()))
    few = 2 * count + 1  # pairs at a time; mostly enough
    for start in range(0, len(drawn), few):
        numbers = drawn[start : start + few]
        place = np.searchsorted(ends, numbers, side="right")
        candidate = answering[order[numbers - ends[place] + high[place]]]
        yield from zip(asking[place].tolist(), candidate.tolist(), strict=True)


def _draws_of_negatives(
    asking: np.ndarray, answering: np.ndarray, pids: np.ndarray, count: int, rng: Generator
) -> Iterable[tuple[int, int]]:
    """Draw pairs of two identities, `count` at a time, until far more than needed were drawn."""
    for _ in range(REDRAWS):
        anchor, candidate = rng.choice(asking, count), rng.choice(answering, count)
        apart = pids[anchor] != pids[candidate]
        yield from zip(anchor[apart].tolist(), candidate[apart].tolist(), strict=True)


def _first_new(
    draws: Iterable[tuple[int, int]], count: int, seen: set[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return the first `count` draws not seen in either order, and add them to `seen`."""
    new: list[tuple[int, int]] = []
    for anchor, candidate in draws:
        key = (min(anchor, candidate), max(anchor, candidate))
        if key not in seen:
            seen.add(key)
            new.append((anchor, candidate))
        if len(new) == count:
            break
    return new
