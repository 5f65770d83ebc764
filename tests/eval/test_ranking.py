"""Rank counting against sorting, and against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from nontrivial.eval.ranking import (
    NOBODY,
    Labels,
    Protocol,
    hit_ranks,
    leaders,
    protocols_of,
    rank,
    rank_all,
    similarity_blocks,
    summarise,
)
from nontrivial.manifests.errors import BadInput
from tests.reference import ranking as naive

STANDARD = Protocol("standard")


def labels(pids, camids=None, clothes=None) -> Labels:
    def whole(values, default):
        return np.array(values if values is not None else [default] * len(pids), np.int64)

    return Labels(np.array(pids, np.int64), whole(camids, 0), whole(clothes, -1))


def drawn(count: int, seed: int, unknown: float = 0.0) -> Labels:
    """Images of six people and nobody; a share of the cameras is unknown."""
    rng = np.random.default_rng(seed)
    pids, camids = rng.integers(NOBODY, 6, count), rng.integers(1, 5, count)
    clothes = rng.integers(0, 3, count)
    return Labels(pids, np.where(rng.random(count) < unknown, -1, camids), clothes)


def one(scores, query: Labels, gallery: Labels, protocol: Protocol = STANDARD, **options):
    return rank([np.array(scores, np.float32)], query, gallery, protocol, **options)[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("clothes", ["any", "same", "changed"])
@pytest.mark.parametrize("cameras", [(), (2, 3)])
@pytest.mark.parametrize("unknown", [0, 0.3])
def test_counting_equals_sorting_ties_included(seed, clothes, cameras, unknown):
    query, gallery = drawn(30, seed, unknown), drawn(80, seed + 100, unknown)
    scores = np.random.default_rng(seed).integers(0, 20, (30, 80)).astype(np.float32)
    found = one(scores, query, gallery, Protocol("p", clothes, cameras))
    ours = summarise(found.ranks, max_rank=10)
    mean_ap, mean_inp, cmc, counted = naive.metrics(
        scores, query, gallery, clothes=clothes, cameras=cameras
    )
    assert ours.queries == counted
    assert ours.queries + ours.skipped == 30
    np.testing.assert_allclose([ours.mean_ap, ours.mean_inp], [mean_ap, mean_inp], atol=1e-12)
    np.testing.assert_allclose(ours.cmc, cmc, atol=1e-12)


def test_a_case_worked_out_by_hand():
    # The list: wrong, match, wrong, match -> AP (1/2 + 2/4) / 2, INP 2/4.
    found = one([[4, 3, 2, 1]], labels([7]), labels([1, 7, 2, 7], [1, 1, 1, 1]))
    assert found.ranks[0].tolist() == [2, 4]
    scores = summarise(found.ranks)
    assert (scores.mean_ap, scores.mean_inp) == (0.5, 0.5)
    assert scores.cmc[:4].tolist() == [0, 1, 1, 1]


def test_the_own_camera_is_dropped_and_distractors_are_ranked():
    # Own camera first (dropped), then a distractor, then the match.
    found = one([[9, 8, 7]], labels([7], [1]), labels([7, NOBODY, 7], [1, 1, 2]))
    assert found.ranks[0].tolist() == [2]


def test_an_unknown_camera_is_nobodys_own():
    found = one([[9, 8, 7]] * 2, labels([7, 7], [-1, 1]), labels([7, 7, 7], [-1, -1, 1]))
    assert [ranks.tolist() for ranks in found.ranks] == [[1, 2, 3], [1, 2]]


def test_distractors_match_no_query_of_the_same_code():
    found = one([[9.0, 8.0]], labels([NOBODY]), labels([NOBODY, NOBODY], [1, 2]))
    assert found.ranks[0].size == 0


def test_a_query_without_match_is_left_out_and_counted():
    found = one([[1, 2], [1, 2]], labels([7, 8]), labels([7, 1], [1, 1]))
    scores = summarise(found.ranks)
    assert (scores.queries, scores.skipped, scores.mean_ap) == (1, 1, 0.5)


def test_a_collapsed_encoder_gets_the_worst_ranks():
    found = one([[1, 1, 1, 1]], labels([7]), labels([7, 1, 7, 2], [1, 1, 1, 1]))
    assert found.ranks[0].tolist() == [3, 4]


def test_one_camera_and_an_empty_gallery_are_errors_that_say_so():
    found = one([[1, 2]], labels([7]), labels([7, 7]))
    with pytest.raises(BadInput, match="other cameras"):
        summarise(found.ranks)
    with pytest.raises(BadInput, match="gallery is empty"):
        one(np.empty((1, 0)), labels([7]), labels([]))


def test_one_identity_alone_is_found_perfectly():
    found = one([[1, 2, 3]], labels([7]), labels([7, 7, 7], [1, 2, 3]))
    scores = summarise(found.ranks)
    assert (scores.mean_ap, scores.mean_inp, scores.cmc[0]) == (1, 1, 1)


@pytest.mark.parametrize("seed", range(5))
def test_leaders_stand_where_the_ranks_say(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 9, 40).astype(np.float32)
    parts = rng.permutation(40)
    matches, dropped = np.sort(parts[:7]), np.sort(parts[7:12])
    for k in (1, 5, 28, 60):
        first = leaders(scores, matches, dropped, k)
        assert len(first) == min(k, 35)
        places = np.flatnonzero(np.isin(first, matches)) + 1
        ranks = hit_ranks(scores, matches, dropped)
        assert places.tolist() == ranks[ranks <= k].tolist()
        assert not np.isin(first, dropped).any()


def test_the_order_of_the_gallery_and_the_blocks_change_nothing():
    rng = np.random.default_rng(0)
    query, gallery = drawn(20, 1), drawn(50, 2)
    q, g = (rng.standard_normal((n, 8)).astype(np.float32) for n in (20, 50))
    whole = rank(similarity_blocks(q, g), query, gallery, STANDARD)[0].ranks
    blocks = list(similarity_blocks(q, g, block_bytes=3 * 4 * 50))
    assert [len(block) for block in blocks] == [3] * 6 + [2]
    parts = rank(blocks, query, gallery, STANDARD)[0].ranks
    order = rng.permutation(50)
    shuffled = Labels(gallery.pids[order], gallery.camids[order], gallery.clothes[order])
    mixed = rank(similarity_blocks(q, g[order]), query, shuffled, STANDARD)[0].ranks
    for a, b, c in zip(whole, parts, mixed, strict=True):
        assert a.tolist() == b.tolist() == c.tolist()


def test_prcc_parts_its_queries_by_clothes_and_draws_one_image_an_identity():
    # Camera A (0) is the gallery, B (1) wears the same clothes, C (2) changed ones.
    gallery = labels([1, 1, 1, 2, 2], [0] * 5, [0, 0, 0, 0, 0])
    query = labels([1, 2, 1, 2], [1, 1, 2, 2], [0, 0, 1, 1])
    scores = np.random.default_rng(0).random((4, 5)).astype(np.float32)
    same, changed, same_single, changed_single = rank_all(
        [scores], query, gallery, protocols_of("prcc")
    )
    assert [len(r) for r in same[0].ranks] == [3, 2, 0, 0]
    assert [len(r) for r in changed[0].ranks] == [0, 0, 3, 2]
    assert len(same_single) == len(changed_single) == 10
    for draw in changed_single:
        assert [len(r) for r in draw.ranks] == [0, 0, 1, 1]
        assert max(int(r[0]) for r in draw.ranks[2:]) <= 2
    again = rank_all([scores], query, gallery, protocols_of("prcc"))[3]
    for first, second in zip(changed_single, again, strict=True):
        assert [r.tolist() for r in first.ranks] == [r.tolist() for r in second.ranks]


def test_ltcc_is_ranked_in_the_two_settings_of_its_papers():
    # Person 1 was seen in the query's clothes by its camera and by another, then in other clothes.
    gallery = labels([1, 1, 1, 2], [0, 1, 1, 1], [0, 0, 1, 2])
    query = labels([1], [0], [0])
    protocols = protocols_of("ltcc")
    runs = rank_all([np.array([[0.9, 0.8, 0.6, 0.7]], np.float32)], query, gallery, protocols)
    ranks = {p.name: run[0].ranks[0].tolist() for p, run in zip(protocols, runs, strict=True)}
    assert ranks["general"] == [1, 3]
    assert ranks["clothes-changing"] == [2]


def test_scores_for_other_queries_than_the_labels_are_refused():
    with pytest.raises(ValueError, match="scores of 1 queries for 2 labels"):
        one([[1.0]], labels([1, 2]), labels([1], [1]))
