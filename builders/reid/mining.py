"""From comparable images to training pairs: search, doubt, choose, compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nontrivial.builders.reid import label_noise, search
from nontrivial.builders.reid.alike import draw_alike, draw_sets
from nontrivial.builders.reid.bursts import LENGTH, find_bursts
from nontrivial.builders.reid.extreme import choose_extreme
from nontrivial.builders.reid.label_noise import UNUSUAL, Doubts
from nontrivial.builders.reid.pairs import (
    HARD_NEGATIVE,
    HARD_POSITIVE,
    POSITIVES,
    RANKED_NEGATIVE,
    RANKED_POSITIVE,
    even_caps,
)
from nontrivial.builders.reid.space import Pairs, Space, Strangers, similarity
from nontrivial.builders.reid.twins import (
    choose_twin_sets,
    choose_twins,
    find_twins,
    hardest_first,
    popularity,
    uncertainty,
)
from nontrivial.manifests.probes import auc
from nontrivial.manifests.schema import NOBODY

RECALL_SAMPLE = 1000  # anchors used to measure the recall of an approximate search


@dataclass(frozen=True)
class Rules:
    """Rules for choosing pairs; see `twins`, `extreme` and `label_noise`.

    extreme     chooses the largest margins instead of twins
    candidates  None chooses pairs; a number chooses sets of an anchor and that many candidates
    probes      None searches exactly; a number searches that many cells of an inverted file
    """

    budget: int
    top_k: int = 50
    extreme: bool = False
    per_image: int | None = None
    per_identity: int | None = None
    candidates: int | None = None
    unusual: float = UNUSUAL
    duplicate: float = 0.995
    trust_labels: bool = False
    any_clothes: bool = False
    burst: int = LENGTH
    probes: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Mined:
    """Pairs of one source; rows are those of its space.

    hard     anchor, candidate, similarity, difficulty, kind, twin: the chosen pairs
    random   the same columns: random pairs with the labels and cameras of the chosen ones
    doubts   the label doubts
    counts   pairs at each stage
    bursts   (N,) the burst of each row
    nearest  (A, k) rows of the anchors' nearest negatives
    values   (A, k) their similarities
    recall   of an approximate search; 1 for an exact one
    """

    hard: pl.DataFrame
    random: pl.DataFrame
    doubts: pl.DataFrame
    counts: dict[str, int]
    bursts: np.ndarray
    nearest: np.ndarray
    values: np.ndarray
    recall: float = 1.0

    def auc(self) -> dict[str, float]:
        """Return the first stage's AUC, positives against negatives, on both kinds of pairs."""
        return {
            name: auc(pairs["similarity"].to_numpy(), pairs["kind"].is_in(POSITIVES).to_numpy())
            for name, pairs in (("chosen", self.hard), ("random", self.random))
        }

    def ranked(self, space: Space, pairs: pl.DataFrame) -> pl.DataFrame:
        """Add a column `rank`, the candidate's among the anchor's negatives."""
        columns = (pairs[name].to_numpy() for name in ("anchor", "candidate", "similarity"))
        exact = self.values if self.recall == 1 else None
        return pairs.with_columns(rank=pl.Series(search.ranks(space, Pairs(*columns), exact)))


def mine(
    space: Space,
    rules: Rules,
    progress: Callable[[Any], Any] = iter,
    sequences: np.ndarray | None = None,
    frames: np.ndarray | None = None,
    controls: Sequence[np.ndarray] = (),
) -> Mined:
    """Choose non-trivial pairs of a space within the budget, and random ones to compare them with.

    Positives wear changed clothes where clothes are known. `progress` wraps the iterator over
    blocks of searched anchors. sequences, frames (N,) int64 are numbers of the images' recordings
    and of their frames, −1 where unknown. `controls` are vectors (N, D) of encoders that are not
    mined with and shall not tell the answers either.
    """
    nearest, values = search.nearest_negatives(space, rules.top_k, progress, rules.probes)
    recall = 1.0
    if rules.probes is not None:
        rng = np.random.default_rng(rules.seed)
        recall = search.recall(space, nearest, RECALL_SAMPLE, rng)
    positives = search.all_positives(space)
    bursts = find_bursts(space, positives, sequences, frames, rules.burst)
    doubts = label_noise.no_doubts(space.pids)
    if not rules.trust_labels:
        limits = {"least": rules.unusual, "duplicate": rules.duplicate}
        doubts = label_noise.find_doubts(space, nearest, values, positives, **limits)
    if not rules.any_clothes:
        positives = label_noise.changed(space, positives)
    choosing = _Choosing(space, rules, nearest, values, positives, doubts)
    steps: dict[str, int] = {}
    if rules.extreme:
        chosen = choosing.extreme()
    else:
        chosen, steps = choosing.twins(bursts, controls)
    counts = {
        "anchors": len(space.anchors),
        "anchors without a positive": len(space.anchors) - len(np.unique(positives.anchor)),
        "positives": len(positives.anchor),
        "candidate pairs": int((nearest != NOBODY).sum()) + len(positives.anchor),
        "images in doubt": int(doubts.images.sum()),
        "budget": rules.budget,
        "chosen": chosen["anchor"].n_unique() if rules.candidates else len(chosen),
        **steps,
    }
    alike = choosing.random(chosen)
    return Mined(chosen, alike, doubts.frame, counts, bursts, nearest, values, recall)


def first_ranked(space: Space, k: int) -> pl.DataFrame:
    """Return the first k of each anchor's ranking, best first.

    Columns: anchor, candidate, similarity, difficulty (null: a ranking defines none), kind (whether
    the two are one person), twin (null), rank.
    """
    ranked = search.nearest_ranked(space, k)
    same = space.pids[ranked.anchor] == space.pids[ranked.candidate]
    first = np.searchsorted(ranked.anchor, ranked.anchor)  # where the pairs of each anchor begin
    return pl.DataFrame(
        {
            **vars(ranked),
            "kind": np.where(same, RANKED_POSITIVE, RANKED_NEGATIVE),
            "rank": (np.arange(len(same)) - first + 1).astype(np.int32),
        }
    ).with_columns(difficulty=pl.lit(None, pl.Float32), twin=pl.lit(None, pl.Int64))


class _Choosing:
    """What pairs are chosen from: the strangers and positives beyond doubt."""

    def __init__(
        self,
        space: Space,
        rules: Rules,
        nearest: np.ndarray,
        values: np.ndarray,
        positives: Pairs,
        doubts: Doubts,
    ) -> None:
        self.space, self.rules, self.doubts = space, rules, doubts
        usable = doubts.believes(space.anchors[:, None], nearest)
        self.strangers = Strangers(nearest, np.where(usable, values, -np.inf), values[:, -1])
        self.positives = positives.where(doubts.believes(positives.anchor, positives.candidate))
        members = np.union1d(space.anchors, space.candidates)
        pairs, people = rules.budget * (rules.candidates or 1), len(np.unique(space.pids[members]))
        image, identity = even_caps(pairs, len(members), people)
        self.caps = rules.per_image or image, rules.per_identity or identity
        self.rng = np.random.default_rng([rules.seed, len(space.anchors)])
        self.entropy = uncertainty(space, self.positives, self.rng)

    def extreme(self) -> pl.DataFrame:
        """Choose the largest margins."""
        rules, common = self.rules, (self.space, self.strangers, self.positives)
        return choose_extreme(*common, rules.budget, self.caps, rules.candidates)

    def twins(
        self, bursts: np.ndarray, controls: Sequence[np.ndarray]
    ) -> tuple[pl.DataFrame, dict[str, int]]:
        """Choose the hardest twins."""
        space, rules = self.space, self.rules
        if len(space.vectors) > 1:
            controls = [*space.vectors, *controls]
        popular = popularity(self.strangers.rows, len(space.pids))

        def find(gap: float) -> pl.DataFrame:
            twins = find_twins(space, self.strangers, self.positives, popular, gap, controls)
            return hardest_first(twins, self.entropy, rules.top_k)

        if rules.candidates:
            return choose_twin_sets(find, space, rules.budget, rules.candidates, self.caps)
        return choose_twins(find, space, bursts, rules.budget, self.caps)

    def random(self, chosen: pl.DataFrame) -> pl.DataFrame:
        """Draw random pairs like the chosen ones; their difficulty is the uncertainty alone."""
        space = self.space
        anchors, candidates = (
            np.sort(rows[~self.doubts.images[rows]]) for rows in (space.anchors, space.candidates)
        )
        common = (candidates, self.rng, self.doubts.believes)
        if self.rules.candidates:
            drawn = draw_sets(self._filled_sets(chosen), space, *common)
        else:
            drawn = draw_alike(self._filled(chosen), space, anchors, *common)
        value = similarity(space, *(drawn[x].to_numpy() for x in ("anchor", "candidate")))
        return drawn.with_columns(
            similarity=pl.Series(value),
            difficulty=pl.Series(self.entropy(value), dtype=pl.Float32),
            twin=pl.lit(None, pl.Int64),
        ).select(chosen.columns)

    def _filled_sets(self, chosen: pl.DataFrame) -> pl.DataFrame:
        """Fill the budget with the extreme sets of other anchors."""
        if chosen["anchor"].n_unique() == self.rules.budget:
            return chosen
        others = self.extreme().filter(~pl.col("anchor").is_in(chosen["anchor"].implode()))
        return pl.concat([chosen, others]).head(self.rules.budget * (self.rules.candidates or 1))

    def _filled(self, chosen: pl.DataFrame) -> pl.DataFrame:
        """Fill the budget with random positives and as many negatives of their cameras."""
        pairs = chosen.select("anchor", "candidate", "kind")
        missing = self.rules.budget - len(pairs)
        if not (missing and len(self.positives.anchor)):
            return pairs
        at = self.rng.integers(0, len(self.positives.anchor), -(-missing // 2))
        rows = vars(self.positives.at(at))
        more = [
            pl.DataFrame({"anchor": rows["anchor"], "candidate": rows["candidate"], "kind": kind})
            for kind in (HARD_NEGATIVE, HARD_POSITIVE)
        ]
        return pl.concat([pairs, *(x.cast(pairs.schema) for x in more)]).head(self.rules.budget)
