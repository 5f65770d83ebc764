"""From comparable images to the pairs worth training on: search, doubt, choose, compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nontrivial.builders.reid import search
from nontrivial.builders.reid.label_noise import (
    Doubts,
    best_by_row,
    changed,
    find_doubts,
    no_doubts,
)
from nontrivial.builders.reid.pairs import (
    POSITIVES,
    RANKED_NEGATIVE,
    RANKED_POSITIVE,
    choose,
    choose_sets,
    draw_alike,
    draw_sets,
    even_caps,
    first_stage_auc,
    negative_pairs,
    positive_pairs,
)
from nontrivial.builders.reid.space import Pairs, Space, similarity
from nontrivial.manifests.schema import NOBODY

# Pairs of each label that are looked at for each one wanted: first few, more where these run out.
LOOKED_AT = (4, 32, None)
RECALL_SAMPLE = 1000  # anchors that the recall of an approximate search is measured on


@dataclass(frozen=True)
class Rules:
    """How pairs are chosen; see `builders.reid.pairs` and `builders.reid.label_noise`.

    candidates  None chooses pairs, a number chooses sets of an anchor and so many candidates
    probes      None searches exactly, a number searches so many cells of an inverted file
    """

    budget: int
    top_k: int = 50
    per_image: int | None = None
    per_identity: int | None = None
    candidates: int | None = None
    wide: float = 1.0
    duplicate: float = 0.995
    trust_labels: bool = False
    any_clothes: bool = False
    probes: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Mined:
    """Pairs of one source, rows as in its space.

    hard    anchor, candidate, similarity, margin, kind: the chosen pairs
    random  the same columns: random pairs with the labels and cameras of the chosen ones
    doubts  what is in quarantine
    counts  pairs at each stage
    values  (A, k) similarities of the anchors' nearest negatives
    recall  of an approximate search; 1 for an exact one
    """

    hard: pl.DataFrame
    random: pl.DataFrame
    doubts: pl.DataFrame
    counts: dict[str, int]
    values: np.ndarray
    recall: float = 1.0

    def auc(self) -> dict[str, float]:
        """How well the first stage tells positives from negatives, on both kinds of pairs."""
        return {
            name: first_stage_auc(
                pairs["similarity"].to_numpy(), pairs["kind"].is_in(POSITIVES).to_numpy()
            )
            for name, pairs in (("chosen", self.hard), ("random", self.random))
        }

    def ranked(self, space: Space, pairs: pl.DataFrame) -> pl.DataFrame:
        """The pairs with a column `rank`: the candidate's among the anchor's negatives."""
        exact = self.values if self.recall == 1 else None
        return pairs.with_columns(rank=pl.Series(search.ranks(space, _as_pairs(pairs), exact)))


def mine(space: Space, rules: Rules, progress: Callable[[Any], Any] = iter) -> Mined:
    """The hardest pairs of a space within the budget, and random ones to compare them with.

    Positives are pairs in changed clothes where clothes are known. `progress` wraps the iterator
    over blocks of searched anchors.
    """
    nearest, values = search.nearest_negatives(space, rules.top_k, progress, rules.probes)
    recall = _recall(space, nearest, rules)
    found = search.all_positives(space)
    doubts = no_doubts(len(space.pids))
    if not rules.trust_labels:
        limits = {"wide": rules.wide, "duplicate": rules.duplicate}
        doubts = find_doubts(space, nearest, values, found, **limits)
    if not rules.any_clothes:
        found = changed(space, found)
    reference = _references(space, nearest, values, found, doubts)
    chosen = _choose(space, (nearest, values, found), reference, doubts, rules)
    alike = _random(space, chosen, doubts, reference, rules)
    counts = {
        "anchors": len(space.anchors),
        "anchors without a positive": int(np.isinf(reference.positive[space.anchors]).sum()),
        "candidate pairs": int((nearest != NOBODY).sum()) + len(found.anchor),
        "images in doubt": int(doubts.images.sum()),
        "budget": rules.budget,
        "chosen": chosen["anchor"].n_unique() if rules.candidates else len(chosen),
    }
    return Mined(chosen, alike, doubts.frame, counts, values, recall)


def first_ranked(space: Space, k: int) -> pl.DataFrame:
    """The first k of each anchor's ranking: anchor, candidate, similarity, margin, kind, rank.

    The kind says what the pair is, not how it was found; a ranking gives it no margin.
    """
    found = search.nearest_ranked(space, k)
    same = space.pids[found.anchor] == space.pids[found.candidate]
    first = np.searchsorted(found.anchor, found.anchor)  # where each anchor's own begin
    return pl.DataFrame(
        {
            "anchor": found.anchor,
            "candidate": found.candidate,
            "similarity": found.similarity,
            "margin": np.full(len(same), -np.inf),
            "kind": np.where(same, RANKED_POSITIVE, RANKED_NEGATIVE),
            "rank": (np.arange(len(same)) - first + 1).astype(np.int32),
        }
    )


@dataclass(frozen=True)
class _References:
    """What margins are measured against: similarities of each row's best undoubted positive and
    negative, (N,) float32, −inf where there is none."""

    positive: np.ndarray
    negative: np.ndarray


def _as_pairs(pairs: pl.DataFrame) -> Pairs:
    return Pairs(*(pairs[name].to_numpy() for name in ("anchor", "candidate", "similarity")))


def _recall(space: Space, nearest: np.ndarray, rules: Rules) -> float:
    if rules.probes is None:
        return 1.0
    return search.recall(space, nearest, RECALL_SAMPLE, np.random.default_rng(rules.seed))


def _references(
    space: Space, nearest: np.ndarray, values: np.ndarray, found: Pairs, doubts: Doubts
) -> _References:
    believed = found.where(~doubts.images[found.candidate])
    negative = np.full(len(space.pids), -np.inf, np.float32)
    usable = doubts.believed_negatives(space, nearest)
    negative[space.anchors] = np.where(usable, values, -np.inf).max(axis=1)
    return _References(best_by_row(believed, len(space.pids)), negative)


def _choose(
    space: Space,
    listed: tuple[np.ndarray, np.ndarray, Pairs],
    reference: _References,
    doubts: Doubts,
    rules: Rules,
) -> pl.DataFrame:
    """Choose among the hardest pairs, or among all where caps and doubts leave too few of them."""
    members = np.union1d(space.anchors, space.candidates)
    pairs = rules.budget * (rules.candidates or 1)
    image, identity = even_caps(pairs, len(members), len(np.unique(space.pids[members])))
    caps = rules.per_image or image, rules.per_identity or identity
    if rules.candidates:
        clear = doubts.clear(_candidates(space, *listed, reference))
        return choose_sets(clear, space.pids, rules.budget, rules.candidates, caps)
    for times in LOOKED_AT:
        least = _least_margins(space, *listed[1:], reference, times and times * rules.budget)
        clear = doubts.clear(_candidates(space, *listed, reference, least))
        chosen = choose(clear, space.pids, rules.budget, caps)
        if len(chosen) == rules.budget:
            break
    return chosen


def _candidates(
    space: Space,
    nearest: np.ndarray,
    values: np.ndarray,
    found: Pairs,
    reference: _References,
    least: tuple[float, float] = (-np.inf, -np.inf),
) -> pl.DataFrame:
    columns = (found.anchor, found.candidate, found.similarity)
    return pl.concat(
        [
            negative_pairs(space.anchors, nearest, values, reference.positive, least[0]),
            positive_pairs(*columns, reference.negative, least[1]),
        ]
    )


def _least_margins(
    space: Space, values: np.ndarray, found: Pairs, reference: _References, count: int | None
) -> tuple[float, float]:
    """The margin that `count` negatives, and that `count` positives, reach; −inf for all.

    Where the pairs above these fill the budget, the ones below could not have changed the choice:
    a label's quota is full before its first pair that was left out.
    """
    if count is None:
        return -np.inf, -np.inf
    known = np.isfinite(reference.positive[space.anchors])
    wrong = values[known] - reference.positive[space.anchors[known], None]
    right = reference.negative[found.anchor] - found.similarity
    return tuple(_nth_largest(margins[np.isfinite(margins)], count) for margins in (wrong, right))


def _nth_largest(values: np.ndarray, n: int) -> float:
    if len(values) <= n:
        return -np.inf
    return float(np.partition(values, len(values) - n)[len(values) - n])


def _random(
    space: Space, chosen: pl.DataFrame, doubts: Doubts, reference: _References, rules: Rules
) -> pl.DataFrame:
    """Random pairs like the chosen ones, with what the chosen ones have."""
    rng = np.random.default_rng([rules.seed, len(space.anchors)])
    # In the order of rows, whatever the order of the index.
    anchors, candidates = (
        np.sort(rows[~doubts.images[rows]]) for rows in (space.anchors, space.candidates)
    )
    avoided = set(doubts.apart().rows())
    if rules.candidates:
        drawn = draw_sets(chosen, candidates, space.pids, space.camids, rng, avoided)
    else:
        drawn = draw_alike(chosen, anchors, candidates, space.pids, space.camids, rng, avoided)
    anchor, candidate = drawn["anchor"].to_numpy(), drawn["candidate"].to_numpy()
    value = similarity(space, anchor, candidate)
    positive = drawn["kind"].is_in(POSITIVES).to_numpy()
    margin = np.where(
        positive, reference.negative[anchor] - value, value - reference.positive[anchor]
    )
    columns = [pl.Series("similarity", value), pl.Series("margin", margin)]
    return drawn.with_columns(columns).select(chosen.columns)
