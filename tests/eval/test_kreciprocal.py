"""Sparse k-reciprocal re-ranking against whole matrices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nontrivial.eval.kreciprocal import Neighbourhood, Verdicts, reciprocal_blocks
from nontrivial.eval.ranking import Labels, Protocol, Ranked, rank, similarity_blocks, summarise
from nontrivial.eval.rerank import fuse, reranked
from tests.reference import kreciprocal as naive


def people(seed: int, queries: int = 15, gallery: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((10, 16))
    vectors = centres[rng.integers(0, 10, queries + gallery)]
    vectors = vectors + 0.7 * rng.standard_normal(vectors.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return vectors[:queries], vectors[queries:]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "by", [Neighbourhood(), Neighbourhood(7, 1, 0.0), Neighbourhood(10, 3, 1.0)]
)
def test_sparse_equals_dense(seed, by):
    query, gallery = people(seed)
    found = -np.concatenate(list(reciprocal_blocks(query, gallery, by=by)))
    wanted = naive.distances(query, gallery, by.k1, by.k2, by.weight)
    np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_the_size_of_blocks_changes_nothing():
    query, gallery = people(0)
    whole = np.concatenate(list(reciprocal_blocks(query, gallery)))
    parts = list(reciprocal_blocks(query, gallery, block_bytes=4 * 60 * 4))
    assert len(parts) > 1
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=2e-6)


def test_a_gallery_smaller_than_the_neighbourhood_is_ranked():
    query, gallery = people(0, 2, 3)
    (scores,) = reciprocal_blocks(query, gallery)
    assert scores.shape == (2, 3)
    assert np.isfinite(scores).all()


def test_duplicates_are_ranked():
    query, gallery = people(1, 4, 30)
    twice = np.concatenate([gallery, gallery[:5], query[:2]])
    (scores,) = reciprocal_blocks(query, twice)
    assert np.isfinite(scores).all()
    assert scores[0].argmax() == 35


def judged(seed: int, alpha: float, top_k: int = 5, shape: tuple[int, int] = (15, 60)) -> Verdicts:
    """Verdicts at random on some pairs of each query."""
    rng = np.random.default_rng(seed)
    gallery = [rng.choice(shape[1], top_k, replace=False) for _ in range(shape[0])]
    query = np.arange(shape[0]).repeat(top_k)
    return Verdicts(query, np.concatenate(gallery), rng.random(len(query)), alpha)


def scores_of(query: np.ndarray, gallery: np.ndarray, verdicts: Verdicts | None) -> np.ndarray:
    return np.concatenate(list(reciprocal_blocks(query, gallery, verdicts=verdicts)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("alpha", [0.2, 1.0])
@pytest.mark.parametrize(
    "by", [Neighbourhood(), Neighbourhood(7, 1, 0.0), Neighbourhood(10, 3, 1.0)]
)
def test_verdicts_move_distances_as_in_whole_matrices(seed, alpha, by):
    query, gallery = people(seed)
    verdicts = judged(seed, alpha)
    blocks = reciprocal_blocks(query, gallery, by=by, verdicts=verdicts, block_bytes=4 * 60 * 4)
    triples = zip(verdicts.query, verdicts.gallery, verdicts.p_same, strict=True)
    wanted = naive.distances(query, gallery, by.k1, by.k2, by.weight, triples, alpha)
    np.testing.assert_allclose(-np.concatenate(list(blocks)), wanted, atol=2e-5)


def test_a_verdict_without_a_say_changes_no_bit():
    query, gallery = people(0)
    plain, drawn = scores_of(query, gallery, None), judged(0, 0.7)
    undecided = replace(drawn, p_same=np.full(len(drawn.p_same), 0.5))
    nothing = Verdicts(*np.empty((2, 0), int), np.empty(0), 1.0)
    for verdicts in (replace(drawn, alpha=0.0), undecided, nothing):
        assert np.array_equal(scores_of(query, gallery, verdicts), plain)


def test_a_verdict_moves_images_that_were_not_judged():
    query, gallery = people(0)
    nearest = (query @ gallery.T).argmax(axis=1)
    no = Verdicts(np.arange(len(query)), nearest, np.zeros(len(query)), 1.0)
    moves = np.abs(scores_of(query, gallery, no) - scores_of(query, gallery, None))
    others = np.arange(len(gallery)) != nearest[:, None]
    assert (np.where(others, moves, 0).max(axis=1) > 1e-3).mean() > 0.9


def test_the_order_of_rows_and_verdicts_changes_nothing():
    query, gallery = people(2)
    verdicts, rng = judged(2, 0.5), np.random.default_rng(0)
    q, g, v = (rng.permutation(n) for n in (len(query), len(gallery), len(verdicts.p_same)))
    mixed = Verdicts(
        np.argsort(q)[verdicts.query][v],
        np.argsort(g)[verdicts.gallery][v],
        verdicts.p_same[v],
        0.5,
    )
    wanted = scores_of(query, gallery, verdicts)[np.ix_(q, g)]
    np.testing.assert_allclose(scores_of(query[q], gallery[g], mixed), wanted, atol=2e-6)


def crowd(seed: int) -> tuple[np.ndarray, np.ndarray, Labels, Labels]:
    """Queries and a gallery of 30 people whose nearest images are wrong half of the time."""
    rng = np.random.default_rng(seed)
    pids = rng.integers(0, 30, 260)
    vectors = rng.standard_normal((30, 32))[pids] + 1.2 * rng.standard_normal((260, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    parts = slice(60), slice(60, None)
    of_query, of_gallery = (
        Labels(pids[part], np.full(len(pids[part]), camid), np.full(len(pids[part]), -1))
        for camid, part in enumerate(parts)
    )
    return vectors[:60], vectors[60:], of_query, of_gallery


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_a_perfect_verifier_and_the_neighbours_gain_more_than_either(seed, alpha):
    query, gallery, *labels = crowd(seed)

    def ranked(blocks) -> Ranked:
        return rank(blocks, *labels, Protocol("p"), keep=5)[0]

    first = ranked(similarity_blocks(query, gallery))
    truth = labels[1].pids[first.leaders] == labels[0].pids[:, None]
    verdicts = Verdicts(np.arange(60).repeat(5), first.leaders.ravel(), truth.ravel() * 1.0, alpha)
    lists = zip(first.ranks, truth, first.scores, strict=True)
    alone = [reranked(ranks, head, fuse(s, head * 1.0, alpha)) for ranks, head, s in lists]
    plain = summarise(ranked(reciprocal_blocks(query, gallery)).ranks)
    both = summarise(ranked(reciprocal_blocks(query, gallery, verdicts=verdicts)).ranks)
    for other in (summarise(alone), plain):
        assert both.mean_ap > other.mean_ap + 0.05
        assert both.cmc[0] >= other.cmc[0]
