"""Neighbours are exact: the same as by going through all pairs, whatever the blocks."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from builders import neighbors
from builders.neighbors import (
    NOBODY,
    TIE,
    Pairs,
    nearest_negatives,
    positives,
    ranks,
    similarity,
    spread,
)
from tests.builders import planted
from tests.reference import mining as reference

WIDTHS = [(32,), (32, 8)]


def hostile(widths: tuple[int, ...] = (32,)) -> planted.World:
    """A weak encoder, one identity with half of all images, one seen by one camera only."""
    world = planted.world(identities=24, widths=widths, noise=3.0)
    world.pids[:70] = 0
    world.camids[world.pids == 20] = 1
    return world


@pytest.mark.parametrize("widths", WIDTHS)
def test_similarity_is_the_mean_z_score_over_encoders(widths):
    space = hostile(widths).space()
    for anchor in (0, 77, 100):
        rows = reference.others(space, anchor)
        expected = [reference.fused_similarity(space, anchor, c) for c in rows]
        found = similarity(space, np.full(len(rows), anchor), np.array(rows))
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("widths", WIDTHS)
def test_the_nearest_negatives_are_those_of_a_search_through_all_pairs(widths):
    space = hostile(widths).space()
    rows, values = nearest_negatives(space, 10)
    for place, anchor in enumerate(space.anchors):
        expected = reference.negatives(space, anchor)[:10]
        np.testing.assert_allclose(values[place], [s for s, _ in expected], atol=2e-5)
        assert rows[place].tolist() == [c for _, c in expected]


def test_no_negative_is_the_anchor_its_identity_or_its_camera():
    space = hostile().space()
    rows, _ = nearest_negatives(space, 40)
    anchors = np.broadcast_to(space.anchors[:, None], rows.shape)[rows != NOBODY]
    found = rows[rows != NOBODY]
    assert not (space.pids[found] == space.pids[anchors]).any()
    assert not (space.camids[found] == space.camids[anchors]).any()


def test_where_negatives_run_out_the_rest_is_nobody():
    world = planted.world(identities=3, images=4, cameras=2)
    rows, values = nearest_negatives(world.space(), 9)
    assert ((rows != NOBODY).sum(axis=1) == 4).all()
    assert (rows[:, 4:] == NOBODY).all()
    assert np.isneginf(values[:, 4:]).all()


def test_one_camera_has_no_neighbours():
    space = planted.world(cameras=1).space()
    rows, _ = nearest_negatives(space, 5)
    assert (rows == NOBODY).all()
    assert len(positives(space).anchor) == 0


@pytest.mark.parametrize("widths", WIDTHS)
def test_positives_are_all_images_of_the_identity_in_other_cameras(widths):
    space = hostile(widths).space()
    found = positives(space)
    expected = [(int(a), c) for a in space.anchors for c in sorted(reference.positives(space, a))]
    assert list(zip(found.anchor.tolist(), found.candidate.tolist(), strict=True)) == expected
    scores = [reference.fused_similarity(space, a, c) for a, c in expected]
    np.testing.assert_allclose(found.similarity, scores, atol=2e-5)


@pytest.mark.parametrize("widths", WIDTHS)
def test_ranks_count_the_negatives_that_are_more_similar(widths):
    space = hostile(widths).space()
    rng = np.random.default_rng(1)
    pairs = [(int(a), int(rng.choice(reference.others(space, a)))) for a in space.anchors]
    anchor, candidate = map(np.array, zip(*pairs, strict=True))
    found = ranks(space, Pairs(anchor, candidate, similarity(space, anchor, candidate)))
    assert found.tolist() == [reference.rank(space, a, c) for a, c in pairs]


def test_a_nearest_negative_ranks_where_the_list_has_it():
    space = hostile().space()
    rows, values = nearest_negatives(space, 5)
    for place in range(5):
        own = values[:, [place]]
        above = (values[:, :place] > own + TIE).sum(axis=1)
        assert (ranks(space, Pairs(space.anchors, rows[:, place], own[:, 0])) == above + 1).all()


def test_spread_is_mean_and_deviation_over_all_that_may_answer():
    space = hostile((16, 8)).space()
    mean, deviation = spread(space)
    for anchor in (3, 90):
        scores = [
            reference.fused_similarity(space, anchor, c) for c in reference.others(space, anchor)
        ]
        assert mean[anchor] == pytest.approx(np.mean(scores), abs=1e-4)
        assert deviation[anchor] == pytest.approx(np.std(scores), abs=1e-4)


def test_queries_are_answered_from_the_gallery_alone():
    world = hostile()
    rows = np.arange(len(world.pids))
    space = world.space(anchors=rows[::3], candidates=rows[rows % 3 > 0])
    found, _ = nearest_negatives(space, 6)
    assert len(found) == len(space.anchors)
    assert np.isin(found, space.candidates).all()
    for place, anchor in enumerate(space.anchors):
        assert found[place].tolist() == [c for _, c in reference.negatives(space, anchor)[:6]]
    pairs = positives(space)
    assert np.isin(pairs.anchor, space.anchors).all()
    assert np.isin(pairs.candidate, space.candidates).all()


def test_blocks_and_threads_do_not_change_a_bit(monkeypatch):
    space = hostile((32, 8)).space()
    expected = nearest_negatives(space, 10)
    monkeypatch.setattr(neighbors, "BLOCK", 7)
    monkeypatch.setattr(neighbors, "GATHER", 11)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if threads > 1 else 2)
    try:
        found = nearest_negatives(space, 10)
    finally:
        faiss.omp_set_num_threads(threads)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_the_order_of_images_does_not_matter():
    world = hostile()
    rows, values = nearest_negatives(world.space(), 8)
    other, order = planted.shuffled(world, seed=5)
    moved, same = nearest_negatives(other.space(), 8)
    np.testing.assert_array_equal(order[moved], rows[order])
    np.testing.assert_array_equal(same, values[order])


def test_equal_images_come_in_the_order_of_their_rows():
    world = planted.world()
    for x in world.vectors:
        x[world.people > 0] = x[6]
    rows, values = nearest_negatives(world.space(), 12)
    assert (np.diff(rows[0]) > 0).all()
    assert len(set(values[0].tolist())) == 1
