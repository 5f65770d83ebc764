"""The extreme pairs chosen are the hardest that budget, balance and caps allow."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest

from nontrivial.builders.reid.extreme import negative_pairs, positive_pairs, take_hardest
from nontrivial.builders.reid.pairs import (
    EXTREME_NEGATIVE,
    EXTREME_POSITIVE,
    POSITIVE,
    POSITIVES,
)
from tests.reference import mining as reference

PIDS = np.arange(60) // 5
CAMIDS = np.arange(60) % 3

CAPS = (4, 9)  # pairs of an image and of an identity


def some_pairs(seed: int, count: int = 500) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    anchor, candidate = rng.integers(0, 60, (2, count))
    keep = anchor != candidate
    anchor, candidate = anchor[keep], candidate[keep]
    margin = rng.integers(-9, 10, len(anchor)) / 10  # many ties
    same = PIDS[anchor] == PIDS[candidate]
    kind = np.where(same, np.where(margin > 0, EXTREME_POSITIVE, POSITIVE), EXTREME_NEGATIVE)
    columns = {"anchor": anchor, "candidate": candidate, "similarity": margin, "margin": margin}
    return pl.DataFrame(columns | {"kind": kind})


def order(pairs: pl.DataFrame) -> list[tuple[int, int]]:
    return pairs.select("anchor", "candidate").rows()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("budget", "caps"), [(10, (4, 9)), (24, (2, 5)), (40, (60, 60))])
def test_the_choice_is_the_greedy_one(seed, budget, caps):
    pairs = some_pairs(seed)
    found = take_hardest(pairs, PIDS, budget, caps)
    rows = [
        (a, c, margin, kind in POSITIVES)
        for a, c, _, margin, kind in pairs.unique(maintain_order=True).rows()
    ]
    quota = {True: budget // 2, False: budget - budget // 2}
    expected = reference.choose(rows, PIDS, quota, *caps)
    if len(expected) == budget:
        assert order(found) == expected
    kinds = Counter(found["kind"].is_in(POSITIVES).to_list())
    assert kinds[True] == kinds[False]


def test_no_pair_comes_twice_and_no_cap_is_passed():
    found = take_hardest(some_pairs(1, 3000), PIDS, 30, (3, 8))
    assert len({frozenset(pair) for pair in order(found)}) == len(found) == 30
    images = Counter(row for pair in order(found) for row in pair)
    people = Counter(pid for pair in order(found) for pid in {PIDS[pair[0]], PIDS[pair[1]]})
    assert max(images.values()) <= 3
    assert max(people.values()) <= 8


def test_the_order_of_the_pairs_given_does_not_matter():
    pairs = some_pairs(2)
    again = take_hardest(pairs.sample(fraction=1, shuffle=True, seed=1), PIDS, 20, CAPS)
    assert order(take_hardest(pairs, PIDS, 20, CAPS)) == order(again)


def test_where_one_label_runs_out_the_other_is_cut_to_keep_the_balance():
    pairs = some_pairs(3)
    few = pl.concat(
        [
            pairs.filter(pl.col("kind") == EXTREME_NEGATIVE),
            pairs.filter(pl.col("kind") == EXTREME_POSITIVE).head(2),
        ]
    )
    found = take_hardest(few, PIDS, 20, CAPS)
    kinds = Counter(found["kind"])
    assert kinds[EXTREME_POSITIVE] == kinds[EXTREME_NEGATIVE] <= 2


def test_positives_that_rank_first_stand_in_only_when_the_hard_ones_run_out():
    anchor, candidate = np.arange(0, 40), np.arange(1, 41)
    best_negative = np.full(60, 0.45, np.float32)
    value = np.linspace(0.3, 0.7, 40, dtype=np.float32)
    right = positive_pairs(anchor, candidate, value, best_negative)
    hard = (right["kind"] == EXTREME_POSITIVE).sum()
    wrong = negative_pairs(
        np.arange(20), np.arange(20)[:, None] + 30, np.ones((20, 1)), np.zeros(60, np.float32)
    )
    found = take_hardest(pl.concat([right, wrong], how="vertical_relaxed"), PIDS, 40, (99, 99))
    kinds = Counter(found["kind"])
    assert (kinds[EXTREME_POSITIVE], kinds[POSITIVE]) == (hard, 20 - hard)
    assert hard < 20


def test_margins_compare_a_negative_with_the_best_positive_and_the_other_way_round():
    best = np.array([0.5, -np.inf, 0.2], np.float32)
    index, value = np.array([[2, -1], [2, 0]]), np.array([[0.75, 0.0], [0.9, 0.1]], np.float32)
    wrong = negative_pairs(np.array([0, 1]), index, value, best)
    assert wrong.rows() == [(0, 2, 0.75, 0.25, EXTREME_NEGATIVE)]  # row 1 has no positive

    right = positive_pairs(np.array([0, 0]), np.array([1, 2]), np.array([0.25, 0.5]), best)
    assert right.select("margin", "kind").rows() == [(0.25, EXTREME_POSITIVE), (0.0, POSITIVE)]
