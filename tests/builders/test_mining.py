"""Mining finds what was planted: look-alikes become hard pairs, wrong labels go to quarantine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from builders.doubts import NEAR_DUPLICATE, SAME_PERSON, TWO_PEOPLE
from builders.mining import Mined, Rules, mine
from builders.pairs import HARD_NEGATIVE, HARD_POSITIVE, POSITIVES
from tests.builders import planted


def identities(world: planted.World, pairs: pl.DataFrame) -> list[frozenset[int]]:
    anchor, candidate = world.pids[pairs["anchor"]], world.pids[pairs["candidate"]]
    return [frozenset(pair) for pair in zip(anchor.tolist(), candidate.tolist(), strict=True)]


def swap_labels(world: planted.World, share: float) -> tuple[planted.World, np.ndarray]:
    """Give single images of some people the identity of somebody else."""
    rng = np.random.default_rng(3)
    people = np.unique(world.people)
    chosen = rng.permutation(people)[: int(share * len(people))]
    wrong = np.array([rng.choice(np.flatnonzero(world.people == p)) for p in chosen])
    pids = world.pids.copy()
    pids[wrong] = (world.people[wrong] + 1) % len(people)
    return replace(world, pids=pids), wrong


@pytest.fixture(scope="module")
def twins() -> tuple[planted.World, set[frozenset[int]], Mined]:
    base = planted.world(identities=60, noise=0.3, widths=(48,))
    world, pairs = planted.lookalikes(base, pairs=12, distance=0.35)
    rules = Rules(budget=2 * 12 * 12, top_k=10, per_image=99, per_identity=999)
    return world, pairs, mine(world.space(), rules)


def test_planted_lookalikes_are_found_among_the_hard_negatives(twins):
    world, pairs, mined = twins
    hard = mined.hard.filter(pl.col("kind") == HARD_NEGATIVE)
    found = identities(world, hard)
    assert len(set(found) & pairs) >= 0.99 * len(pairs)
    assert np.mean([pair in pairs for pair in found]) > 0.95


def test_no_negative_shares_the_identity_and_every_positive_does(twins):
    world, _, mined = twins
    for pairs in (mined.hard, mined.random):
        same = np.array([len(pair) == 1 for pair in identities(world, pairs)])
        np.testing.assert_array_equal(same, pairs["kind"].is_in(POSITIVES).to_numpy())


def test_both_images_of_a_pair_come_from_different_cameras(twins):
    world, _, mined = twins
    for pairs in (mined.hard, mined.random):
        assert (world.camids[pairs["anchor"]] != world.camids[pairs["candidate"]]).all()


def test_a_hard_pair_is_one_the_first_stage_gets_wrong_and_ranks_say_how_far():
    world = planted.world(identities=30, noise=2.0)
    mined = mine(world.space(), Rules(budget=60, top_k=10, trust_labels=True))
    positives = mined.hard.filter(pl.col("kind") == HARD_POSITIVE)
    assert len(positives) == 30
    assert (positives["rank"] > 1).all()
    assert (positives["margin"] > 0).all()
    negatives = mined.hard.filter(pl.col("kind") == HARD_NEGATIVE)
    assert (negatives["rank"] <= 10).all()
    auc = mined.auc()
    assert auc["chosen"] < 0.5 < auc["random"]


def test_the_hardest_pairs_are_taken_first():
    space = planted.world(identities=30, noise=2.0).space()
    few, many = (
        mine(space, Rules(budget=budget, per_image=99, per_identity=99)).hard for budget in (20, 60)
    )
    kept = {frozenset(pair) for pair in many.select("anchor", "candidate").rows()}
    assert {frozenset(pair) for pair in few.select("anchor", "candidate").rows()} <= kept
    assert few["margin"].min() > many["margin"].min()


def test_the_same_images_in_another_order_give_the_same_pairs():
    world = planted.world(identities=30, noise=2.0)
    other, order = planted.shuffled(world, seed=1)
    first, second = (mine(w.space(), Rules(budget=40)).hard for w in (world, other))
    pairs = {frozenset(pair) for pair in first.select("anchor", "candidate").rows()}
    moved = order[second.select("anchor", "candidate").to_numpy()]
    assert {frozenset(pair) for pair in moved.tolist()} == pairs


def test_mislabelled_images_go_to_quarantine_and_into_no_pair():
    clean = planted.world(identities=100, widths=(48,))
    world, wrong = swap_labels(clean, share=0.2)
    mined = mine(world.space(), Rules(budget=120))
    doubted = mined.doubts.filter(pl.col("reason") == SAME_PERSON)["anchor"].to_numpy()
    assert np.isin(wrong, doubted).mean() >= 0.95
    assert (~np.isin(doubted, wrong)).sum() <= 0.01 * len(world.pids)
    for pairs in (mined.hard, mined.random):
        used = pairs.select("anchor", "candidate").to_numpy()
        assert not np.isin(used, doubted).any()
        # With the wrong labels gone the labels of the rest are the people's.
        people = world.people[used]
        same = pairs["kind"].is_in(POSITIVES).to_numpy()
        assert ((people[:, 0] == people[:, 1]) == same).mean() > 0.97


def test_labels_that_are_to_be_trusted_are_not_doubted():
    world, wrong = swap_labels(planted.world(identities=40), share=0.2)
    mined = mine(world.space(), Rules(budget=60, trust_labels=True))
    assert len(mined.doubts) == 0
    assert np.isin(wrong, mined.hard.select("anchor", "candidate").to_numpy()).any()


def test_one_frame_under_two_identities_is_a_near_duplicate():
    world = planted.world(identities=40, noise=0.8)
    world.vectors[0][1] = world.vectors[0][8]  # another person's image, from another camera
    assert world.camids[1] != world.camids[8]
    doubts = mine(world.space(), Rules(budget=20)).doubts
    found = doubts.filter(pl.col("reason") == NEAR_DUPLICATE).select("anchor", "candidate")
    assert found.rows() == [(1, 8), (8, 1)]


def test_two_people_under_one_identity_are_not_paired_with_each_other():
    world = planted.world(identities=60)
    merged = replace(world, pids=np.where(world.people == 1, 0, world.people))
    mined = mine(merged.space(), Rules(budget=60, wide=99.0))
    doubts = mined.doubts.filter(pl.col("reason") == TWO_PEOPLE)
    sides = world.people[doubts.select("anchor", "candidate").to_numpy()]
    assert len(sides) > 6
    assert {frozenset(pair) for pair in sides.tolist()} == {frozenset((0, 1))}
    used = mined.hard.select("anchor", "candidate").to_numpy()
    doubted = {frozenset(pair) for pair in doubts.select("anchor", "candidate").rows()}
    assert not doubted & {frozenset(pair) for pair in used.tolist()}


def test_clean_images_are_hardly_ever_doubted():
    world = planted.world(identities=150, noise=0.6)
    mined = mine(world.space(), Rules(budget=60))
    assert mined.counts["images in doubt"] <= 0.01 * len(world.pids)


def test_counts_say_what_became_of_the_pairs(twins):
    _, _, mined = twins
    counts = mined.counts
    assert counts["chosen"] == counts["budget"] == len(mined.hard) == len(mined.random)
    assert counts["candidate pairs"] == 360 * 10 + 360 * 4
    assert counts["anchors without a positive in another camera"] == 0
