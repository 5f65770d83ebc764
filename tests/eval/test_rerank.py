"""A verifier's verdicts in a ranking: the best it can do, and that chance does nothing."""

from __future__ import annotations

import numpy as np
import pytest

from nontrivial.eval.ranking import Labels, Protocol, average_precision, rank
from nontrivial.eval.rerank import consistency, fuse, reliability, reranked

TOP_K = 5


def first_stage(seed: int):
    """Rankings of 200 queries whose scores know something of who is who."""
    rng = np.random.default_rng(seed)
    query = Labels(rng.integers(0, 30, 200), np.zeros(200, int), np.full(200, -1))
    gallery = Labels(rng.integers(0, 30, 150), np.ones(150, int), np.full(150, -1))
    scores = 0.25 * (query.pids[:, None] == gallery.pids) + rng.normal(0.4, 0.15, (200, 150))
    found = rank([scores.astype(np.float32)], query, gallery, Protocol("p"), keep=TOP_K)[0]
    heads = gallery.pids[found.leaders] == query.pids[:, None]
    return found, heads


def mean_ap(ranks) -> float:
    return float(np.mean([average_precision(r) for r in ranks if len(r)]))


def rerank_all(found, heads, p_same, alpha) -> list[np.ndarray]:
    return [
        reranked(ranks, head, fuse(scores, p, alpha))
        for ranks, head, scores, p in zip(found.ranks, heads, found.scores, p_same, strict=True)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_a_perfect_verifier_reaches_the_oracle_within_the_top_k(seed):
    found, heads = first_stage(seed)
    ranks = rerank_all(found, heads, heads.astype(float), alpha=1.0)
    for before, after in zip(found.ranks, ranks, strict=True):
        inside = int((before <= TOP_K).sum())
        assert after.tolist() == [*range(1, inside + 1), *before[before > TOP_K].tolist()]
    assert mean_ap(ranks) > mean_ap(found.ranks) + 0.05


def test_a_coin_flip_gains_nothing():
    found, heads = first_stage(0)
    rng = np.random.default_rng(1)
    gains = [
        mean_ap(rerank_all(found, heads, rng.random(heads.shape), alpha)) - mean_ap(found.ranks)
        for alpha in (0.2, 1.0)
        for _ in range(20)
    ]
    assert max(gains) <= 0


def test_a_verifier_without_a_say_changes_nothing():
    found, heads = first_stage(0)
    chance = np.random.default_rng(1).random(heads.shape)
    undecided = np.full(heads.shape, 0.5)
    for p_same, alpha in ((chance, 0.0), (undecided, 0.2), (undecided, 0.9)):
        after = rerank_all(found, heads, p_same, alpha)
        assert all(a.tolist() == b.tolist() for a, b in zip(found.ranks, after, strict=True))


def test_the_better_the_verifier_the_better_the_ranking():
    found, heads = first_stage(0)
    rng = np.random.default_rng(2)
    reached = []
    for error in (0.5, 0.3, 0.1, 0.0):
        told = np.where(rng.random(heads.shape) < error, ~heads, heads).astype(float)
        reached.append(mean_ap(rerank_all(found, heads, told, 0.5)))
    assert reached == sorted(reached)


def test_undecided_orders_go_to_the_wrong_image():
    is_match = np.array([True, False])
    assert reranked(np.array([1]), is_match, np.array([0.5, 0.5])).tolist() == [2]


def test_bins_hold_every_pair_once():
    rng = np.random.default_rng(0)
    p, same = rng.random(500), rng.random(500) < 0.5
    parts = reliability(np.append(p, [0.0, 1.0]), np.append(same, [True, False]))
    assert sum(count for _, _, count in parts) == 502
    assert all(0 <= mean <= 1 and 0 <= share <= 1 for mean, share, _ in parts)


def test_a_calibrated_verifier_has_no_calibration_error_and_a_boaster_has():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    same = rng.random(20_000) < p
    nothing = [None] * len(p)
    assert consistency(p, nothing, same).ece < 0.02
    assert consistency(np.round(p), nothing, same).ece == pytest.approx(0.25, abs=0.02)
    assert consistency(p, nothing, same).agreeing is None
