"""Random pairs are like the chosen ones in all but the choice."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl

from nontrivial.builders.reid.alike import draw_alike
from nontrivial.builders.reid.pairs import (
    HARD_NEGATIVE,
    HARD_POSITIVE,
    POSITIVES,
    RANDOM_POSITIVE,
)
from nontrivial.builders.reid.space import build_space

ROWS = np.arange(60)
PIDS, CAMIDS = ROWS // 5, ROWS % 3


def drawn_like(pairs: pl.DataFrame, seed: int, camids=CAMIDS, believes=None) -> pl.DataFrame:
    vectors = np.eye(60, dtype=np.float32)
    space = build_space([vectors], PIDS, camids, ROWS, ROWS)
    all_ = believes or (lambda anchor, candidate: np.ones(len(anchor), bool))
    return draw_alike(pairs, space, ROWS, ROWS, np.random.default_rng(seed), all_)


def order(pairs: pl.DataFrame) -> list[tuple[int, int]]:
    return pairs.select("anchor", "candidate").rows()


def test_random_pairs_have_the_labels_and_cameras_of_the_pairs_they_stand_for():
    rng = np.random.default_rng(4)
    anchor, candidate = rng.integers(0, 60, (2, 60))
    kind = np.where(PIDS[anchor] == PIDS[candidate], HARD_POSITIVE, HARD_NEGATIVE)
    pairs = pl.DataFrame({"anchor": anchor, "candidate": candidate, "kind": kind})
    across = pairs.filter(pl.Series(CAMIDS[anchor] != CAMIDS[candidate]))
    drawn = drawn_like(across, seed=0)

    def composition(frame: pl.DataFrame) -> Counter:
        kinds = frame["kind"].is_in(POSITIVES)
        cameras = [(CAMIDS[a], CAMIDS[c]) for a, c in order(frame)]
        return Counter(zip(cameras, kinds, strict=True))

    assert composition(drawn) == composition(across)
    assert len({frozenset(pair) for pair in order(drawn)}) == len(drawn)
    for anchor, candidate, kind in drawn.rows():
        assert (PIDS[anchor] == PIDS[candidate]) == (kind == RANDOM_POSITIVE)


def test_random_pairs_are_drawn_evenly_and_by_the_generator_alone():
    one = pl.DataFrame({"anchor": [0], "candidate": [1], "kind": [HARD_POSITIVE]})
    drawn = [order(drawn_like(one, seed))[0] for seed in range(600)]
    possible = [(a, c) for a in ROWS[::3] for c in ROWS[1::3] if PIDS[a] == PIDS[c]]
    counts = Counter(drawn)
    assert set(counts) == set(possible)
    assert max(counts.values()) < 3 * 600 / len(possible)
    assert drawn[5] == order(drawn_like(one, 5))[0]


def test_no_doubted_pair_is_drawn_and_no_image_with_itself():
    kinds = [HARD_POSITIVE, HARD_NEGATIVE] * 30
    pairs = pl.DataFrame({"anchor": ROWS, "candidate": ROWS, "kind": kinds})
    unknown = np.full(60, -1)
    doubted = 7
    drawn = drawn_like(pairs, 0, unknown, lambda a, c: (a != doubted) & (c != doubted))
    assert len(drawn) == 60
    assert all(anchor != candidate for anchor, candidate in order(drawn))
    assert doubted not in drawn.select("anchor", "candidate").to_numpy()
