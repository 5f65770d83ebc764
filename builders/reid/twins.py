"""Twins: two pairs that the first stage cannot tell apart, and a person can.

For an anchor a, with similarity s of a first stage and d_a as in `builders.reid.space`:

    positive p   the same identity, outranked by at least one stranger, within a's first k strangers
    stranger n   another identity, from p's camera, with |s(a, n) − s(a, p)| ≤ gap · d_a

The pairs (a, p) and (a, n) share anchor, cameras and similarity; one answer is Yes, one No. What is
left to give them away is popularity: strangers are hubs, images that are near to everybody. So n is
the stranger whose popularity is nearest to that of p,

    popularity of c = log(1 + number of anchors that have c among their first k strangers)

and at most `UNLIKE` away from it. What remains is evened out by turns: strangers above and below p
(for each two cameras), those more and less popular than p, those that a control (each encoder by
itself, where there are several, and a simple one that is not mined with) finds more and less
similar than p, and, for each image, its use as p and as n.

The hardest twins are chosen first, with the mean of two numbers from 0 to 1 as their difficulty:
the first stage's uncertainty about the pair, in bits, from P(same | s) as fitted on random pairs of
both labels, and log rank / log k of the positive.

This is our reading of "non-trivial" in ReID-R, whose exact rule is not public.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from nontrivial.builders.reid.pairs import HARD_NEGATIVE, HARD_POSITIVE
from nontrivial.builders.reid.room import Room
from nontrivial.builders.reid.space import (
    Pairs,
    Space,
    Strangers,
    blocks,
    deviation,
    similarity,
    to_steps,
)
from nontrivial.manifests.probes import logistic, probability

UNLIKE = 0.2  # most that the popularities of two twins differ
COMPARED = 2**12  # positives whose strangers are compared at once
SIFTED = 4096  # twins sifted at once
FITTED = 20_000  # random pairs of each label that P(same | s) is fitted on

COLUMNS = ("anchor", "candidate", "similarity", "difficulty", "kind", "twin")
TRIPLE = ("anchor", "candidate", "stranger")
FOUND = (*TRIPLE, "similarity", "of_stranger", "rank", "above", "fame", "control")
TWIN = (*TRIPLE, "similarity", "of_stranger", "difficulty", "above", "fame", "control")
Pair = tuple[int, int, float, float, str]  # the first five of COLUMNS


class Step(NamedTuple):
    """What a twin may be like; later steps are for want of twins.

    gap in deviations; twins of one identity, two cameras and one burst; whether more and less
    popular strangers, those of the control encoder, and the roles of an image come by turns
    """

    gap: float
    repeats: int
    turns: bool = True

    def __str__(self) -> str:
        text = f"twins within {self.gap:g} deviations, up to {self.repeats} of a burst"
        return text if self.turns else text + ", without turns"


STEPS = (
    Step(0.1, 1),
    Step(0.1, 2),
    Step(0.1, 3),
    Step(0.2, 3),
    Step(0.4, 3),
    Step(0.4, 3, turns=False),
)


class Twin(NamedTuple):
    """Rows of the three images, both similarities, and how the stranger compares."""

    anchor: int
    candidate: int
    stranger: int
    similarity: float
    of_stranger: float
    difficulty: float
    above: bool
    fame: int
    control: Sequence[int]

    def pairs(self) -> tuple[Pair, Pair]:
        """Return the pair of one person and that of two."""
        same = self.anchor, self.candidate, self.similarity, self.difficulty, HARD_POSITIVE
        other = self.anchor, self.stranger, self.of_stranger, self.difficulty, HARD_NEGATIVE
        return same, other


def popularity(rows: np.ndarray, images: int) -> np.ndarray:
    """Return the popularity of each image, (images,) float32; rows (A, k) strangers, −1 for none.

    >>> popularity(np.array([[1, 2], [1, -1]]), 3).round(2).tolist()
    [0.0, 1.1, 0.69]
    """
    return np.log1p(np.bincount(rows[rows >= 0], minlength=images)).astype(np.float32)


def find_twins(
    space: Space,
    strangers: Strangers,
    positives: Pairs,
    popular: np.ndarray,
    gap: float,
    controls: Sequence[np.ndarray] = (),
) -> pl.DataFrame:
    """Find for each positive the best stranger above it and the best one below it.

    popular (N,) is the popularity, controls are vectors (N, D). Returns columns anchor, candidate,
    stranger, similarity, of_stranger, rank (of the positive), above (whether the stranger is), fame
    (1 or −1 if the stranger is more or less popular, 0 if as popular) and control (the same of its
    similarity for each control, as an array), by anchor, candidate and side.
    """
    place = np.searchsorted(space.anchors, positives.anchor)
    best = strangers.values.max(axis=1)[place]
    within = (positives.similarity < best) & (positives.similarity > strangers.last[place])
    width = to_steps(gap * deviation(space, space.anchors))
    parts = [
        _compare(space, strangers, positives.at(part), popular, width, controls)
        for part in blocks(np.flatnonzero(within), COMPARED)
    ]
    if not parts:
        nothing = [np.empty(0, np.int64)] * (len(FOUND) - 1)
        return _table(*nothing, np.empty((0, len(controls))))
    return pl.concat(parts).sort("anchor", "candidate", "above")


def _compare(
    space: Space,
    strangers: Strangers,
    positive: Pairs,
    popular: np.ndarray,
    width: np.ndarray,
    controls: Sequence[np.ndarray],
) -> pl.DataFrame:
    """Find the twins of some positives; width (A,) float32 is the gap."""
    place = np.searchsorted(space.anchors, positive.anchor)
    rows, values = strangers.rows[place], strangers.values[place]  # (n, k)
    ahead = values - positive.similarity[:, None]
    unlike = np.abs(popular[rows] - popular[positive.candidate, None])
    fits = (np.abs(ahead) <= width[place, None]) & (unlike <= UNLIKE) & (ahead != 0)
    fits &= space.views[rows] == space.views[positive.candidate, None]
    rank = 1 + (ahead > 0).sum(axis=1)
    sides = []
    for above in (False, True):
        usable = fits & ((ahead > 0) == above)
        # The nearest in popularity, then in similarity, then the first.
        cost = np.where(usable, unlike + np.abs(ahead) / 1024, np.inf)
        best, at = cost.argmin(axis=1), np.flatnonzero(usable.any(axis=1))
        best = best[at]
        columns = (positive.anchor, positive.candidate, positive.similarity, rank)
        anchor, candidate, value, ranked = (column[at] for column in columns)
        chosen = rows[at, best], value, values[at, best], ranked
        fame = np.sign(popular[chosen[0]] - popular[candidate])
        seen = np.empty((len(at), len(controls)))
        for number, x in enumerate(controls):
            more = np.einsum("pd,pd->p", x[anchor], x[chosen[0]] - x[candidate])
            seen[:, number] = np.sign(more)
        sides.append(_table(anchor, candidate, *chosen, np.full(len(at), above), fame, seen))
    return pl.concat(sides)


def _table(*columns: np.ndarray) -> pl.DataFrame:
    *plain, control = columns
    signs = pl.Series("control", control.astype(np.int8).tolist(), pl.List(pl.Int8))
    return pl.DataFrame([*map(pl.Series, FOUND, plain), signs]).with_columns(
        pl.col("anchor", "candidate", "stranger").cast(pl.Int64),
        pl.col("similarity", "of_stranger").cast(pl.Float32),
        pl.col("rank").cast(pl.Int32),
        pl.col("above").cast(pl.Boolean),
        pl.col("fame").cast(pl.Int8),
    )


def uncertainty(
    space: Space, positives: Pairs, rng: np.random.Generator
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from similarities to the entropy of P(same | s), in bits.

    P is a logistic function of s, fitted on as many random pairs across cameras of each label.
    """
    if not len(positives.anchor):
        return np.ones_like
    drawn = rng.integers(0, len(positives.anchor), FITTED)
    a, b = (rng.choice(np.sort(rows), FITTED) for rows in (space.anchors, space.candidates))
    apart = (space.pids[a] != space.pids[b]) & (space.camids[a] != space.camids[b])
    other = similarity(space, a[apart], b[apart])
    same = positives.similarity[drawn[: len(other)]]
    values, labels = np.concatenate([same, other])[:, None], np.repeat([1.0, 0.0], len(other))
    weights = logistic(values, labels)

    def entropy(values: np.ndarray) -> np.ndarray:
        p = probability(values[:, None].astype(np.float64), weights)
        return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))

    return entropy


def hardest_first(
    twins: pl.DataFrame, entropy: Callable[[np.ndarray], np.ndarray], k: int
) -> pl.DataFrame:
    """Add a column `difficulty` and sort by it, ties by rows."""
    unsure = (
        entropy(twins["similarity"].to_numpy()) + entropy(twins["of_stranger"].to_numpy())
    ) / 2
    depth = np.log(twins["rank"].to_numpy()) / np.log(max(2, k))
    difficulty = pl.Series("difficulty", to_steps((unsure + depth) / 2))
    keys = ["difficulty", "anchor", "candidate", "above"]
    return twins.with_columns(difficulty).sort(keys, descending=[True, False, False, False])


def choose_twins(
    find: Callable[[float], pl.DataFrame],
    space: Space,
    bursts: np.ndarray,
    budget: int,
    caps: tuple[int, int],
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Choose the hardest twins within a budget of pairs; an odd one ends with a single stranger.

    `find` returns the twins of a gap, hardest first. bursts (N,) numbers the burst of each row. No
    pair is taken twice in either order, and a twin is taken whole or not at all. `caps` limits the
    pairs of an image and those of an identity. Returns the columns `COLUMNS`, where `twin` is null
    for a single pair, and the number of twins taken at each of `STEPS`.
    """
    choice, gaps, steps = _Choice(space, bursts, Room(space.pids, *caps)), {}, {}
    for step in STEPS:
        if step.gap not in gaps:
            gaps = {step.gap: find(step.gap)}
        steps[str(step)] = choice.take(gaps[step.gap], -(-budget // 2), step)
        if 2 * len(choice.kept) >= budget:
            break
    rows: list[tuple] = [(*pair, n) for n, twin in enumerate(choice.kept) for pair in twin.pairs()]
    if len(rows) > budget:
        rows[-2:] = [(*choice.kept[-1].pairs()[1], None)]
    return _table_of(rows), {name: count for name, count in steps.items() if count}


class _Choice:
    """The twins chosen so far, and what the next one has to fit."""

    def __init__(self, space: Space, bursts: np.ndarray, room: Room) -> None:
        self.views, self.bursts, self.room = space.views, bursts, room
        self.kept: list[Twin] = []
        self.of_burst: Counter[tuple[int, int, int]] = Counter()
        self.last_above: dict[tuple[int, int], bool] = {}
        self.last_fame = 0
        self.last_control: dict[int, int] = {}
        self.used_as: Counter[int] = Counter()  # 1 for an image last used as p, −1 as n

    def take(self, twins: pl.DataFrame, most: int, step: Step) -> int:
        """Take twins in order until there are `most`; return how many were taken now."""
        before, taken = len(self.kept), -1
        while taken != len(self.kept):  # one whose side was not wanted may fit later
            taken = len(self.kept)
            twins = self._sift(twins, most, step)
        return taken - before

    def _sift(self, twins: pl.DataFrame, most: int, step: Step) -> pl.DataFrame:
        """Go through the twins once; return those that the caps still allow."""
        later = [twins[:0]]
        for start in range(0, len(twins), SIFTED):
            part = twins[start : start + SIFTED]
            anchor, positive, stranger = (part[name].to_numpy() for name in TRIPLE)
            open_ = self.room.open(anchor, positive) & self.room.open(anchor, stranger)
            part = part.filter(pl.Series(open_))
            for row in part.select(TWIN).iter_rows():
                if len(self.kept) == most:
                    return twins[:0]
                self._take(Twin(*row), step)
            later.append(part)
        return pl.concat(later)

    def _take(self, twin: Twin, step: Step) -> None:
        a, p, n = twin.anchor, twin.candidate, twin.stranger
        cameras = int(self.views[a]), int(self.views[p])
        burst = (int(self.bursts[a]), *cameras)
        fits = self.of_burst[burst] < step.repeats and twin.above != self.last_above.get(cameras)
        fits &= self._in_turn(twin) or not step.turns
        if fits and self.room.has((a, p), (a, n)):
            self.room.take([(a, p), (a, n)])
            self.of_burst[burst] += 1
            self.last_above[cameras] = twin.above
            self.last_fame = twin.fame or self.last_fame
            self.last_control.update({i: sign for i, sign in enumerate(twin.control) if sign})
            self.used_as[p], self.used_as[n] = 1, -1
            self.kept.append(twin)

    def _in_turn(self, twin: Twin) -> bool:
        return (
            (twin.fame == 0 or twin.fame != self.last_fame)
            and all(not s or s != self.last_control.get(i) for i, s in enumerate(twin.control))
            and self.used_as[twin.candidate] < 1
            and self.used_as[twin.stranger] > -1
        )


def choose_twin_sets(
    find: Callable[[float], pl.DataFrame],
    space: Space,
    budget: int,
    size: int,
    caps: tuple[int, int],
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Choose the hardest anchors, each once, with `size` twins from one camera.

    Of r twins the positive is taken, of the others the stranger; r cycles from 0 to `size`. For the
    rest see `choose_twins`, where `twin` is always null here and the rows of an anchor together.
    """
    room, steps = Room(space.pids, *caps), {}
    sets: dict[int, list[Pair]] = {}
    for gap in sorted({step.gap for step in STEPS}):
        before, twins = len(sets), find(gap)
        view = pl.Series("view", space.views[twins["candidate"].to_numpy()])
        groups = twins.with_columns(view).group_by("anchor", "view", maintain_order=True)
        for (anchor, _), group in groups:
            if len(sets) == budget:
                break
            some = anchor not in sets and _set_of(group, size, len(sets), room)
            if some:
                sets[anchor] = some
                room.take((pair[0], pair[1]) for pair in some)
        steps[f"sets within {gap:g} deviations"] = len(sets) - before
        if len(sets) == budget:
            break
    rows = [(*pair, None) for some in sets.values() for pair in some]
    return _table_of(rows), {name: count for name, count in steps.items() if count}


def _set_of(group: pl.DataFrame, size: int, turn: int, room: Room) -> list[Pair]:
    """Return `size` pairs of one anchor and camera, as set number `turn`; none if they are few."""
    twins = [Twin(*row) for row in group.select(TWIN).iter_rows()]
    count = turn % (size + 1)
    used: set[int] = set()
    pairs: list[Pair] = []
    for slot in range(size):
        free = [twin for twin in twins if used.isdisjoint((twin.candidate, twin.stranger))]
        if not free:
            return []
        twin = min(free, key=lambda twin: twin.above == (slot + turn) % 2)  # sides by turns
        used.update((twin.candidate, twin.stranger))
        pairs.append(twin.pairs()[0 if (slot + turn) % size < count else 1])
    return pairs if room.has(*(pair[:2] for pair in pairs)) else []


def _table_of(rows: Sequence[tuple]) -> pl.DataFrame:
    """Return the pairs of `Twin.pairs` as a table, each with the number of its twin."""
    kinds = (pl.Int64, pl.Int64, pl.Float32, pl.Float32, pl.String, pl.Int64)
    return pl.DataFrame(rows, schema=dict(zip(COLUMNS, kinds, strict=True)), orient="row")
