"""From comparable images to the pairs worth training on: search, doubt, choose, compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from builders import neighbors
from builders.doubts import Doubts, best_by_row, find_doubts, no_doubts
from builders.neighbors import NOBODY, Pairs, Space
from builders.pairs import POSITIVES, choose, draw_alike, first_stage_auc, negatives, positives


@dataclass(frozen=True)
class Rules:
    """How pairs are chosen; see `builders.pairs` and `builders.doubts`."""

    budget: int
    top_k: int = 50
    per_image: int | None = None
    per_identity: int | None = None
    wide: float = 1.0
    duplicate: float = 0.995
    trust_labels: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Mined:
    """Pairs of one source, rows as in its space.

    hard    anchor, candidate, similarity, margin, kind, rank: the chosen pairs
    random  the same columns: random pairs with the labels and cameras of the chosen ones
    doubts  what is in quarantine
    counts  pairs at each stage
    """

    hard: pl.DataFrame
    random: pl.DataFrame
    doubts: pl.DataFrame
    counts: dict[str, int]

    def auc(self) -> dict[str, float]:
        """How well the first stage tells positives from negatives, on both kinds of pairs."""
        return {
            name: first_stage_auc(
                pairs["similarity"].to_numpy(), pairs["kind"].is_in(POSITIVES).to_numpy()
            )
            for name, pairs in (("chosen", self.hard), ("random", self.random))
        }


def mine(space: Space, rules: Rules, progress: Callable[[Any], Any] = iter) -> Mined:
    """The hardest pairs of a space within the budget, and random ones to compare them with.

    `progress` wraps the iterator over blocks of searched anchors.
    """
    nearest, values = neighbors.nearest_negatives(space, rules.top_k, progress)
    found = neighbors.positives(space)
    doubts = no_doubts(len(space.vectors))
    if not rules.trust_labels:
        limits = {"wide": rules.wide, "duplicate": rules.duplicate}
        doubts = find_doubts(space, nearest, values, found, **limits)
    reference = _references(space, nearest, values, found, doubts)
    candidates = _candidates(space, nearest, values, found, reference)
    clear = doubts.clear(candidates)
    chosen = choose(
        clear,
        space.pids,
        rules.budget,
        per_image=rules.per_image,
        per_identity=rules.per_identity,
    )
    alike = _random(space, chosen, doubts, reference, rules.seed)
    counts = {
        "anchors": len(space.anchors),
        "anchors without a positive in another camera": int(
            np.isinf(reference.positive[space.anchors]).sum()
        ),
        "candidate pairs": len(candidates),
        "candidate pairs in doubt": len(candidates) - len(clear),
        "images in doubt": int(doubts.images.sum()),
        "budget": rules.budget,
        "chosen": len(chosen),
    }
    return Mined(_ranked(space, chosen), _ranked(space, alike), doubts.frame, counts)


@dataclass(frozen=True)
class _References:
    """What margins are measured against: similarities of each row's best undoubted positive and
    negative, (N,) float32, −inf where there is none."""

    positive: np.ndarray
    negative: np.ndarray


def _references(
    space: Space, nearest: np.ndarray, values: np.ndarray, found: Pairs, doubts: Doubts
) -> _References:
    believed = ~doubts.images[found.candidate]
    columns = (found.anchor, found.candidate, found.similarity)
    positive = best_by_row(Pairs(*(column[believed] for column in columns)), len(space.vectors))
    negative = np.full(len(space.vectors), -np.inf, np.float32)
    usable = (nearest != NOBODY) & ~doubts.images[nearest]
    negative[space.anchors] = np.where(usable, values, -np.inf).max(axis=1)
    return _References(positive, negative)


def _candidates(
    space: Space, nearest: np.ndarray, values: np.ndarray, found: Pairs, reference: _References
) -> pl.DataFrame:
    return pl.concat(
        [
            negatives(space.anchors, nearest, values, reference.positive),
            positives(found.anchor, found.candidate, found.similarity, reference.negative),
        ]
    )


def _random(
    space: Space, chosen: pl.DataFrame, doubts: Doubts, reference: _References, seed: int
) -> pl.DataFrame:
    """Random pairs like the chosen ones, with what the chosen ones have."""
    rng = np.random.default_rng([seed, len(space.anchors)])
    believed = ~doubts.images
    drawn = draw_alike(
        chosen,
        space.anchors[believed[space.anchors]],
        space.candidates[believed[space.candidates]],
        space.pids,
        space.camids,
        rng,
    )
    anchor, candidate = drawn["anchor"].to_numpy(), drawn["candidate"].to_numpy()
    value = neighbors.similarity(space, anchor, candidate)
    positive = drawn["kind"].is_in(POSITIVES).to_numpy()
    margin = np.where(
        positive, reference.negative[anchor] - value, value - reference.positive[anchor]
    )
    columns = [pl.Series("similarity", value), pl.Series("margin", margin)]
    return drawn.with_columns(columns).select(chosen.columns)


def _ranked(space: Space, pairs: pl.DataFrame) -> pl.DataFrame:
    columns = [pairs[name].to_numpy() for name in ("anchor", "candidate", "similarity")]
    return pairs.with_columns(rank=pl.Series(neighbors.ranks(space, Pairs(*columns))))
