"""From comparable images to training pairs: search, doubt, choose, compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nontrivial.builders.reid import label_noise, search
from nontrivial.builders.reid.label_noise import Doubts
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

# Pairs of each label considered per pair of the budget: more if the first do not suffice.
LOOKED_AT = (4, 32, None)
RECALL_SAMPLE = 1000  # anchors used to measure the recall of an approximate search


@dataclass(frozen=True)
class Rules:
    """Rules for choosing pairs; see `builders.reid.pairs` and `builders.reid.label_noise`.

    candidates  None chooses pairs; a number chooses sets of an anchor and that many candidates
    probes      None searches exactly; a number searches that many cells of an inverted file
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
    """Pairs of one source; rows are those of its space.

    hard    anchor, candidate, similarity, margin, kind: the chosen pairs
    random  the same columns: random pairs with the labels and cameras of the chosen ones
    doubts  the label doubts
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
        """Return the first stage's AUC, positives against negatives, on both kinds of pairs."""
        return {
            name: first_stage_auc(
                pairs["similarity"].to_numpy(), pairs["kind"].is_in(POSITIVES).to_numpy()
            )
            for name, pairs in (("chosen", self.hard), ("random", self.random))
        }

    def ranked(self, space: Space, pairs: pl.DataFrame) -> pl.DataFrame:
        """Add a column `rank`, the candidate's among the anchor's negatives."""
        columns = (pairs[name].to_numpy() for name in ("anchor", "candidate", "similarity"))
        exact = self.values if self.recall == 1 else None
        return pairs.with_columns(rank=pl.Series(search.ranks(space, Pairs(*columns), exact)))


def mine(space: Space, rules: Rules, progress: Callable[[Any], Any] = iter) -> Mined:
    """Choose the hardest pairs of a space within the budget, and random ones to compare them with.

    Positives wear changed clothes where clothes are known. `progress` wraps the iterator over
    blocks of searched anchors.
    """
    nearest, values = search.nearest_negatives(space, rules.top_k, progress, rules.probes)
    recall = 1.0
    if rules.probes is not None:
        rng = np.random.default_rng(rules.seed)
        recall = search.recall(space, nearest, RECALL_SAMPLE, rng)
    positives = search.all_positives(space)
    doubts = label_noise.no_doubts(len(space.pids))
    if not rules.trust_labels:
        limits = {"wide": rules.wide, "duplicate": rules.duplicate}
        doubts = label_noise.find_doubts(space, nearest, values, positives, **limits)
    if not rules.any_clothes:
        positives = label_noise.changed(space, positives)
    lists = _Lists(space, nearest, values, positives, doubts)
    chosen = _choose(lists, rules)
    alike = _random(lists, chosen, rules)
    counts = {
        "anchors": len(space.anchors),
        "anchors without a positive": int(np.isinf(lists.best_positive[space.anchors]).sum()),
        "candidate pairs": int((nearest != NOBODY).sum()) + len(positives.anchor),
        "images in doubt": int(doubts.images.sum()),
        "budget": rules.budget,
        "chosen": chosen["anchor"].n_unique() if rules.candidates else len(chosen),
    }
    return Mined(chosen, alike, doubts.frame, counts, values, recall)


def first_ranked(space: Space, k: int) -> pl.DataFrame:
    """Return the first k of each anchor's ranking, best first.

    Columns: anchor, candidate, similarity, margin (always −inf: a ranking defines none), kind
    (whether the two are one person), rank.
    """
    ranked = search.nearest_ranked(space, k)
    same = space.pids[ranked.anchor] == space.pids[ranked.candidate]
    first = np.searchsorted(ranked.anchor, ranked.anchor)  # where the pairs of each anchor begin
    return pl.DataFrame(
        {
            **vars(ranked),
            "margin": np.full(len(same), -np.inf),
            "kind": np.where(same, RANKED_POSITIVE, RANKED_NEGATIVE),
            "rank": (np.arange(len(same)) - first + 1).astype(np.int32),
        }
    )


class _Lists:
    """Nearest negatives (A, k), similarities `values` and positives of a space's anchors.

    best_positive, best_negative  (N,) float32: the highest similarity of each row's undoubted
                                  positives and negatives, −inf without one; margins refer to it
    """

    def __init__(
        self,
        space: Space,
        nearest: np.ndarray,
        values: np.ndarray,
        positives: Pairs,
        doubts: Doubts,
    ) -> None:
        self.space, self.nearest, self.values = space, nearest, values
        self.positives, self.doubts = positives, doubts
        believed = positives.where(~doubts.images[positives.candidate])
        self.best_positive = label_noise.best_by_row(believed, len(space.pids))
        self.best_negative = np.full(len(space.pids), -np.inf, np.float32)
        usable = doubts.believed_negatives(space, nearest)
        self.best_negative[space.anchors] = np.where(usable, values, -np.inf).max(axis=1)

    def pairs(self, least: tuple[float, float] = (-np.inf, -np.inf)) -> pl.DataFrame:
        """Return the undoubted negatives, and positives, whose margins reach `least`."""
        negatives = (self.space.anchors, self.nearest, self.values, self.best_positive, least[0])
        right = self.positives
        positives = (right.anchor, right.candidate, right.similarity, self.best_negative, least[1])
        return self.doubts.clear(
            pl.concat([negative_pairs(*negatives), positive_pairs(*positives)])
        )

    def least_margins(self, count: int | None) -> tuple[float, float]:
        """Return the margins that `count` negatives, and `count` positives, reach; −inf for all.

        If the pairs above them fill the budget, the pairs below cannot change the choice: a label's
        quota is full before its first pair that was left out.
        """
        if count is None:
            return -np.inf, -np.inf
        anchors, positives = self.space.anchors, self.positives
        known = np.isfinite(self.best_positive[anchors])
        wrong = self.values[known] - self.best_positive[anchors[known], None]
        right = self.best_negative[positives.anchor] - positives.similarity
        negative, positive = (_nth_largest(x[np.isfinite(x)], count) for x in (wrong, right))
        return negative, positive


def _nth_largest(values: np.ndarray, n: int) -> float:
    place = len(values) - n
    return float(np.partition(values, place)[place]) if place > 0 else -np.inf


def _choose(lists: _Lists, rules: Rules) -> pl.DataFrame:
    """Choose among the hardest pairs, or among all if caps and doubts leave too few of these."""
    space, budget = lists.space, rules.budget
    members = np.union1d(space.anchors, space.candidates)
    pairs, people = budget * (rules.candidates or 1), len(np.unique(space.pids[members]))
    image, identity = even_caps(pairs, len(members), people)
    caps = rules.per_image or image, rules.per_identity or identity
    if rules.candidates:
        return choose_sets(lists.pairs(), space.pids, budget, rules.candidates, caps)
    for times in LOOKED_AT:
        least = lists.least_margins(times and times * budget)
        chosen = choose(lists.pairs(least), space.pids, budget, caps)
        if len(chosen) == budget:
            break
    return chosen


def _random(lists: _Lists, chosen: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Draw random pairs like the chosen ones, with the same columns."""
    space, doubts = lists.space, lists.doubts
    rng = np.random.default_rng([rules.seed, len(space.anchors)])
    # In the order of rows, whatever the order of the index.
    anchors, candidates = (
        np.sort(rows[~doubts.images[rows]]) for rows in (space.anchors, space.candidates)
    )
    common = (candidates, space.pids, space.camids, rng, set(doubts.apart().rows()))
    drawn = draw_sets(chosen, *common) if rules.candidates else draw_alike(chosen, anchors, *common)
    anchor = drawn["anchor"].to_numpy()
    value = similarity(space, anchor, drawn["candidate"].to_numpy())
    positive = drawn["kind"].is_in(POSITIVES).to_numpy()
    margin = np.where(
        positive, lists.best_negative[anchor] - value, value - lists.best_positive[anchor]
    )
    columns = [pl.Series("similarity", value), pl.Series("margin", margin)]
    return drawn.with_columns(columns).select(chosen.columns)
