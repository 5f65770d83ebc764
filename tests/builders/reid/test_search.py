"""Neighbours are exact: the same as by going through all pairs, whatever the blocks."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from nontrivial.builders.reid import search
from nontrivial.builders.reid import space as spaces
from nontrivial.builders.reid.search import (
    all_positives,
    nearest_negatives,
    nearest_ranked,
    ranks,
    recall,
)
from nontrivial.builders.reid.space import Pairs, average, deviation, similarity
from nontrivial.manifests.schema import NOBODY
from tests.builders.reid import planted
from tests.reference import mining as reference

WIDTHS = [(32,), (32, 8)]
ROUNDING = {1: 5e-4, 2: 1e-2}  # in cosines, and in z-scores


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
        np.testing.assert_allclose(found, expected, atol=ROUNDING[len(widths)])


@pytest.mark.parametrize("widths", WIDTHS)
def test_the_nearest_negatives_are_those_of_a_search_through_all_pairs(widths):
    space = hostile(widths).space()
    rows, values = nearest_negatives(space, 10)
    for place, anchor in enumerate(space.anchors):
        expected = reference.negatives(space, anchor)
        scores = {c: s for s, c in expected}
        for found in (values[place], [scores[row] for row in rows[place]]):
            best = [s for s, _ in expected[:10]]
            np.testing.assert_allclose(found, best, atol=ROUNDING[len(widths)])


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
    assert len(all_positives(space).anchor) == 0


@pytest.mark.parametrize("widths", WIDTHS)
def test_positives_are_all_images_of_the_identity_in_other_cameras(widths):
    space = hostile(widths).space()
    found = all_positives(space)
    expected = [(int(a), c) for a in space.anchors for c in sorted(reference.positives(space, a))]
    assert list(zip(found.anchor.tolist(), found.candidate.tolist(), strict=True)) == expected
    scores = [reference.fused_similarity(space, a, c) for a, c in expected]
    np.testing.assert_allclose(found.similarity, scores, atol=ROUNDING[len(widths)])


def test_pairs_of_one_label_are_joined_whatever_the_size_of_a_product(monkeypatch):
    world = planted.world(identities=9, images=6, widths=(32, 16))
    rng = np.random.default_rng(1)
    anchors = np.sort(rng.choice(54, 30, replace=False))
    space = world.space(anchors, rng.permutation(54)[:40])
    asking, answering = rng.integers(NOBODY, 4, 30), rng.integers(0, 4, 40)
    wanted = sorted(
        (a, c)
        for a, label in zip(anchors.tolist(), asking.tolist(), strict=True)
        for c, other in zip(space.candidates.tolist(), answering.tolist(), strict=True)
        if label == other and world.camids[a] != world.camids[c]
    )
    for most in (1, 50, 10**6):
        monkeypatch.setattr(search, "JOINED", most)
        found = search.joined(space, asking, answering)
        pairs = list(zip(found.anchor.tolist(), found.candidate.tolist(), strict=True))
        assert pairs == wanted
        expected = similarity(space, found.anchor, found.candidate)
        np.testing.assert_array_equal(found.similarity, expected)


@pytest.mark.parametrize("widths", WIDTHS)
def test_ranks_count_the_negatives_that_are_more_similar(widths):
    space = hostile(widths).space()
    rng = np.random.default_rng(1)
    pairs = [(int(a), int(rng.choice(reference.others(space, a)))) for a in space.anchors]
    anchor, candidate = map(np.array, zip(*pairs, strict=True))
    asked = Pairs(anchor, candidate, similarity(space, anchor, candidate))
    found = ranks(space, asked)
    for rank, (a, c) in zip(found, pairs, strict=True):
        least, most = reference.rank(space, a, c, ROUNDING[len(widths)])
        assert least <= rank <= most
    _, values = nearest_negatives(space, 7)
    np.testing.assert_array_equal(ranks(space, asked, values), found)


def test_a_nearest_negative_ranks_where_the_list_has_it():
    space = hostile().space()
    rows, values = nearest_negatives(space, 5)
    for place in range(5):
        own = values[:, [place]]
        above = (values[:, :place] > own).sum(axis=1)
        assert (ranks(space, Pairs(space.anchors, rows[:, place], own[:, 0])) == above + 1).all()


def test_spread_is_mean_and_deviation_over_all_that_may_answer():
    space = hostile((16, 8)).space()
    asked = np.array([90, 3])
    mean, spread = average(space, asked), deviation(space, asked)
    for place, anchor in enumerate(asked.tolist()):
        scores = [
            reference.fused_similarity(space, anchor, c) for c in reference.others(space, anchor)
        ]
        assert mean[place] == pytest.approx(np.mean(scores), abs=3e-3)
        assert spread[place] == pytest.approx(np.std(scores), abs=3e-3)


def test_queries_are_answered_from_the_gallery_alone():
    world = hostile()
    rows = np.arange(len(world.pids))
    space = world.space(anchors=rows[::3], candidates=rows[rows % 3 > 0])
    found, _ = nearest_negatives(space, 6)
    assert len(found) == len(space.anchors)
    assert np.isin(found, space.candidates).all()
    for place, anchor in enumerate(space.anchors):
        scores = {c: s for s, c in reference.negatives(space, anchor)}
        best = sorted(scores.values(), reverse=True)[:6]
        np.testing.assert_allclose([scores[c] for c in found[place]], best, atol=ROUNDING[1])
    pairs = all_positives(space)
    assert np.isin(pairs.anchor, space.anchors).all()
    assert np.isin(pairs.candidate, space.candidates).all()


def test_blocks_and_threads_do_not_change_a_bit(monkeypatch):
    space = hostile((32, 8)).space()
    expected = nearest_negatives(space, 10)
    monkeypatch.setattr(spaces, "BLOCK", 7)
    for module in (spaces, search):
        monkeypatch.setattr(module, "GATHER", 11)
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


def test_cameras_of_few_images_are_searched_together_with_the_same_result(monkeypatch):
    space = hostile().space()
    expected = nearest_negatives(space, 10)
    monkeypatch.setattr(search, "SMALL_CAMERA", 0)
    found = nearest_negatives(space, 10)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_a_thousand_cameras_are_searched_like_three():
    world = planted.world(identities=40, images=25, cameras=25)
    world.camids[:] = np.arange(1000)
    rows, _ = nearest_negatives(world.space(), 5)
    assert not (world.pids[rows] == world.pids[:, None]).any()
    assert (rows != NOBODY).all()


@pytest.mark.parametrize("widths", WIDTHS)
def test_inner_products_are_exact(widths):
    space = hostile(widths).space()
    queries = space.queries(space.anchors)
    exact = queries.astype(np.float64) @ space.index.T.astype(np.float64)
    np.testing.assert_array_equal((queries @ space.index.T).astype(np.float64), exact)
    assert (np.linalg.norm(queries, axis=1) <= 1).all()
    assert (np.linalg.norm(space.index, axis=1) <= 1).all()


def test_a_ranking_leaves_out_the_same_identity_in_the_same_camera_alone():
    world = hostile()
    rows = np.arange(len(world.pids))
    space = world.space(anchors=rows[::3], candidates=rows[rows % 3 > 0])
    found = nearest_ranked(space, 8)
    x = world.vectors[0].astype(np.float64)
    for anchor in space.anchors:
        own = (world.pids == world.pids[anchor]) & (world.camids == world.camids[anchor])
        allowed = [c for c in space.candidates if not own[c]]
        best = np.sort(x[allowed] @ x[anchor])[::-1][:8]
        mine = found.where(found.anchor == anchor)
        assert set(mine.candidate.tolist()) <= set(allowed)
        np.testing.assert_allclose(x[mine.candidate] @ x[anchor], best, atol=ROUNDING[1])
        assert (np.diff(mine.similarity) <= 0).all()


def test_an_inverted_file_finds_most_and_its_recall_is_measured():
    world = planted.world(identities=150, images=8, noise=1.0)
    space = world.space()
    exact, _ = nearest_negatives(space, 10)
    for probes, least in ((1, 0.1), (4, 0.4), (1000, 1.0)):
        rows, _ = nearest_negatives(space, 10, probes=probes)
        hits = sum(len(set(a) & set(b)) for a, b in zip(rows, exact, strict=True))
        measured = recall(space, rows, 10**6, np.random.default_rng(0))
        assert measured == pytest.approx(hits / exact.size)
        assert measured >= least
        same = (world.pids[rows] == world.pids[:, None]) & (rows != NOBODY)
        assert not same.any()
