"""Sparse k-reciprocal re-ranking against whole matrices."""

from __future__ import annotations

import numpy as np
import pytest

from nontrivial.eval.kreciprocal import Neighbourhood, reciprocal_blocks
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
