"""Random pairs with the labels and the cameras of chosen ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import polars as pl
from numpy.random import Generator

from nontrivial.builders.reid.pairs import POSITIVES, RANDOM_NEGATIVE, RANDOM_POSITIVE
from nontrivial.builders.reid.space import Space

# Tells of rows of anchors and candidates (n,) which pairs are beyond doubt, (n,) bool.
Believes = Callable[[np.ndarray, np.ndarray], np.ndarray]
REDRAWS = 100  # rounds of drawing negatives
DRAWN = {"anchor": pl.Int64, "candidate": pl.Int64, "kind": pl.String}


def draw_sets(
    sets: pl.DataFrame, space: Space, candidates: np.ndarray, rng: Generator, believes: Believes
) -> pl.DataFrame:
    """Draw for each set random candidates of the same anchor with the same labels.

    They are drawn from the cameras of the set's candidates, as far as `believes` has no doubt of
    the pair. candidates (C,) are rows. Returns columns anchor, candidate, kind.
    """
    drawn: list[tuple[int, int, str]] = []
    for (anchor,), rows in sets.group_by("anchor", maintain_order=True):
        across = candidates[space.camids[candidates] != space.camids[anchor]]
        seen_by = space.views[rows["candidate"].to_numpy()]
        across = across[np.isin(space.views[across], seen_by)]
        across = across[believes(np.array(anchor), across)]
        same = space.pids[across] == space.pids[anchor]
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
    space: Space,
    anchors: np.ndarray,
    candidates: np.ndarray,
    rng: Generator,
    believes: Believes,
) -> pl.DataFrame:
    """Draw a random pair for each of `pairs`, with the same label and the same two cameras.

    It is drawn uniformly from all such pairs that `believes` has no doubt of, and none is drawn
    twice in either order. anchors (A,) and candidates (C,) are rows. Returns columns anchor,
    candidate, kind.
    """
    views = space.views
    wanted = pairs.select(
        pl.Series("asks", views[pairs["anchor"].to_numpy()]),
        pl.Series("answers", views[pairs["candidate"].to_numpy()]),
        pl.Series("positive", pairs["kind"].is_in(POSITIVES)),
    )
    counts = wanted.group_by(pl.all()).len().sort("asks", "answers", "positive")
    seen: set[tuple[int, int]] = set()
    drawn: list[tuple[int, int, str]] = []
    for asks, answers, positive, count in counts.rows():
        asking, answering = (
            anchors[views[anchors] == asks],
            candidates[views[candidates] == answers],
        )
        draw = _all_positives if positive else _draws_of_negatives
        kind = RANDOM_POSITIVE if positive else RANDOM_NEGATIVE
        draws = (
            pair
            for some in draw(asking, answering, space.pids, count, rng)
            for pair in _usable(some, space, believes)
        )
        drawn += [(*pair, kind) for pair in _first_new(draws, count, seen)]
    return pl.DataFrame(drawn, schema=DRAWN, orient="row")


def _usable(
    pairs: tuple[np.ndarray, np.ndarray], space: Space, believes: Believes
) -> Iterator[tuple[int, int]]:
    """Yield the pairs of two images across cameras that nothing speaks against."""
    anchor, candidate = pairs
    kept = (space.camids[anchor] != space.camids[candidate]) & believes(anchor, candidate)
    return zip(anchor[kept].tolist(), candidate[kept].tolist(), strict=True)


def _all_positives(
    asking: np.ndarray, answering: np.ndarray, pids: np.ndarray, count: int, rng: Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield every pair of one identity, some at a time, in random order."""
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
        yield asking[place], candidate


def _draws_of_negatives(
    asking: np.ndarray, answering: np.ndarray, pids: np.ndarray, count: int, rng: Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw pairs of two identities, `count` at a time, until far more than needed were drawn."""
    for _ in range(REDRAWS):
        anchor, candidate = rng.choice(asking, count), rng.choice(answering, count)
        apart = pids[anchor] != pids[candidate]
        yield anchor[apart], candidate[apart]


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
