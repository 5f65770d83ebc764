"""Mining finds what was planted: look-alikes become hard pairs, wrong labels go to quarantine."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from nontrivial.builders.reid import extreme as extreme_pairs
from nontrivial.builders.reid.label_noise import (
    NEAR_DUPLICATE,
    SAME_PERSON,
    SPLIT_IDENTITY,
    TWO_PEOPLE,
)
from nontrivial.builders.reid.mining import Mined, Rules, mine
from nontrivial.builders.reid.pairs import EXTREME_NEGATIVE, EXTREME_POSITIVE, POSITIVES
from tests.builders.reid import planted


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
def extreme() -> tuple[planted.World, set[frozenset[int]], Mined]:
    base = planted.world(identities=60, noise=0.3, widths=(48,))
    world, pairs = planted.lookalikes(base, pairs=12, distance=0.35)
    rules = Rules(extreme=True, budget=2 * 12 * 12, top_k=10, per_image=99, per_identity=999)
    return world, pairs, mine(world.space(), rules)


def test_planted_lookalikes_are_found_among_the_hard_negatives(extreme):
    world, pairs, mined = extreme
    hard = mined.hard.filter(pl.col("kind") == EXTREME_NEGATIVE)
    found = identities(world, hard)
    assert len(set(found) & pairs) >= 0.99 * len(pairs)
    assert np.mean([pair in pairs for pair in found]) > 0.95


def test_no_negative_shares_the_identity_and_every_positive_does(extreme):
    world, _, mined = extreme
    for pairs in (mined.hard, mined.random):
        same = np.array([len(pair) == 1 for pair in identities(world, pairs)])
        np.testing.assert_array_equal(same, pairs["kind"].is_in(POSITIVES).to_numpy())


def test_both_images_of_a_pair_come_from_different_cameras(extreme):
    world, _, mined = extreme
    for pairs in (mined.hard, mined.random):
        assert (world.camids[pairs["anchor"]] != world.camids[pairs["candidate"]]).all()


def test_a_hard_pair_is_one_the_first_stage_gets_wrong_and_ranks_say_how_far():
    world = planted.world(identities=30, noise=2.0)
    space = world.space()
    mined = mine(space, Rules(extreme=True, budget=60, top_k=10, trust_labels=True))
    hard = mined.ranked(space, mined.hard)
    positives = hard.filter(pl.col("kind") == EXTREME_POSITIVE)
    assert len(positives) == 30
    assert (positives["rank"] > 1).all()
    assert (positives["difficulty"] > 0).all()
    negatives = hard.filter(pl.col("kind") == EXTREME_NEGATIVE)
    assert (negatives["rank"] <= 10).all()
    auc = mined.auc()
    assert auc["chosen"] < 0.5 < auc["random"]


def test_the_hardest_pairs_are_taken_first():
    space = planted.world(identities=30, noise=2.0).space()
    few, many = (
        mine(space, Rules(extreme=True, budget=budget, per_image=99, per_identity=99)).hard
        for budget in (20, 60)
    )
    kept = {frozenset(pair) for pair in many.select("anchor", "candidate").rows()}
    assert {frozenset(pair) for pair in few.select("anchor", "candidate").rows()} <= kept
    assert few["difficulty"].min() > many["difficulty"].min()


def test_the_same_images_in_another_order_give_the_same_pairs():
    world = planted.world(identities=30, noise=2.0)
    other, order = planted.shuffled(world, seed=1)
    first, second = (mine(w.space(), Rules(extreme=True, budget=40)).hard for w in (world, other))
    pairs = {frozenset(pair) for pair in first.select("anchor", "candidate").rows()}
    moved = order[second.select("anchor", "candidate").to_numpy()]
    assert {frozenset(pair) for pair in moved.tolist()} == pairs


def test_mislabelled_images_go_to_quarantine_and_into_no_pair():
    clean = planted.world(identities=100, widths=(48,))
    world, wrong = swap_labels(clean, share=0.2)
    mined = mine(world.space(), Rules(extreme=True, budget=120))
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
    mined = mine(world.space(), Rules(extreme=True, budget=60, trust_labels=True))
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
    mined = mine(merged.space(), Rules(budget=60))
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


def test_counts_say_what_became_of_the_pairs(extreme):
    _, _, mined = extreme
    counts = mined.counts
    assert counts["chosen"] == counts["budget"] == len(mined.hard) == len(mined.random)
    assert counts["candidate pairs"] == 360 * 10 + 360 * 4
    assert counts["anchors without a positive"] == 0


def split(world: planted.World, people: range) -> planted.World:
    """Every second image of these people goes under an identity of its own."""
    pids = world.pids.copy()
    for person in people:
        mine = np.flatnonzero(world.people == person)
        # Two neighbours are of one camera pair, so both halves are seen by several cameras.
        pids[mine[len(mine) // 2 :]] = 1000 + person
    return replace(world, pids=pids)


def quarantined(mined: Mined) -> set[int]:
    return set(mined.doubts.select("anchor", "candidate").to_numpy().ravel().tolist())


@pytest.mark.parametrize("noise", [0.1, 0.3, 0.6])
def test_the_halves_of_a_split_identity_are_not_paired_with_each_other(noise):
    clean = planted.world(identities=100, images=8, cameras=4, noise=noise)
    world = split(clean, range(30))
    mined = mine(world.space(), Rules(extreme=True, budget=200, top_k=10))
    halves = mined.doubts.filter(pl.col("reason") == SPLIT_IDENTITY)
    rows = set(halves["anchor"].to_list())
    wrong = set(np.flatnonzero(world.people < 30).tolist())
    assert len(rows & wrong) >= 0.95 * len(wrong)
    assert len(rows - wrong) <= 0.01 * (len(world.pids) - len(wrong))
    for pairs in (mined.hard, mined.random):
        anchor, candidate = (pairs[side].to_numpy() for side in ("anchor", "candidate"))
        same = world.people[anchor] == world.people[candidate]
        assert (same == pairs["kind"].is_in(POSITIVES).to_numpy()).mean() > 0.99


def test_lookalikes_are_not_taken_for_one_person(extreme):
    _, _, mined = extreme
    assert len(mined.doubts) == 0


def test_planted_label_errors_of_all_kinds_are_quarantined_and_clean_images_are_not():
    world = planted.world(identities=400, images=8, cameras=4, widths=(64,), noise=0.4)
    pids, vectors = world.pids.copy(), world.vectors[0]
    swapped = np.arange(0, 8 * 40, 8) + 3  # one image each of people 0 to 39
    pids[swapped] = (world.people[swapped] + 150) % 400
    pids[np.isin(world.people, np.arange(101, 141, 2))] -= 1  # 101 under 100, and so on
    for person in range(200, 220):  # a half each
        pids[np.flatnonzero(world.people == person)[4:]] = 1000 + person
    copies = np.arange(300, 320) * 8  # a frame that lies under the next identity, too
    vectors[copies + 8 + 1] = vectors[copies]
    errors = {
        "swapped": swapped,
        "merged": np.flatnonzero(np.isin(world.people, np.arange(100, 140))),
        "split": np.flatnonzero(np.isin(world.people, np.arange(200, 220))),
        "duplicated": np.concatenate([copies, copies + 9]),
    }
    mined = mine(replace(world, pids=pids).space(), Rules(budget=600, top_k=20))
    caught = quarantined(mined)
    for name, rows in errors.items():
        share = np.mean([row in caught for row in rows.tolist()])
        assert share >= 0.95, (name, share)
    touched = np.unique(np.concatenate(list(errors.values())))
    # Images of an identity that holds a wrong one are not clean either.
    near = np.isin(world.people, np.concatenate([np.arange(40), np.arange(150, 190)]))
    near |= np.isin(world.people, np.arange(300, 341))
    innocent = np.setdiff1d(np.flatnonzero(~near), touched)
    assert len(caught & set(innocent.tolist())) <= 0.01 * len(innocent)


def dressed(seed: int = 0) -> planted.World:
    """People in two outfits, which an encoder of appearance sees before it sees the person."""
    base = planted.world(seed, identities=60, images=8, cameras=4, noise=0.3)
    rng = np.random.default_rng(seed + 7)
    clothes = np.arange(len(base.pids)) // 2 % 2
    outfits = planted.unit(rng.normal(size=(60, 2, 32)))[base.people, clothes]
    seen = planted.unit(base.vectors[0] + 1.5 * outfits).astype(np.float32)
    return replace(base, vectors=[seen], clothes=clothes)


def test_where_clothes_are_known_positives_are_in_changed_clothes():
    world = dressed()
    mined = mine(world.space(), Rules(extreme=True, budget=100))
    rows = mined.hard.filter(pl.col("kind").is_in(POSITIVES)).select("anchor", "candidate")
    assert len(rows) == 50
    outfits = world.clothes[rows.to_numpy()]
    assert (outfits[:, 0] != outfits[:, 1]).all()
    both = mine(world.space(), Rules(extreme=True, budget=100, any_clothes=True)).counts
    assert both["candidate pairs"] > mined.counts["candidate pairs"]


def test_a_change_of_clothes_is_no_reason_to_doubt_a_label():
    world = dressed()
    assert len(mine(world.space(), Rules(budget=100)).doubts) <= 0.01 * len(world.pids)
    unknown = replace(world, clothes=None)
    assert len(mine(unknown.space(), Rules(budget=100)).doubts) <= 0.01 * len(world.pids)


@pytest.mark.parametrize("looks", [(None,), (1, 2, None)])
def test_the_first_look_at_the_hardest_pairs_chooses_as_a_look_at_all(monkeypatch, looks):
    space = planted.world(identities=60, noise=1.5).space()
    rules = Rules(extreme=True, budget=40, top_k=20)
    found = mine(space, rules).hard
    monkeypatch.setattr(extreme_pairs, "LOOKED_AT", looks)
    assert found.equals(mine(space, rules).hard)


@pytest.fixture(scope="module")
def sets() -> tuple[planted.World, Mined]:
    world = planted.world(identities=60, images=9, noise=1.5)
    rules = Rules(extreme=True, budget=80, candidates=4, top_k=20)
    return world, mine(world.space(), rules)


def test_a_set_has_one_anchor_and_none_to_several_right_candidates(sets):
    world, mined = sets
    assert mined.counts["chosen"] == 80
    for pairs in (mined.hard, mined.random):
        groups = pairs.group_by("anchor", maintain_order=True).agg("candidate", "kind")
        assert len(groups) == 80
        assert all(len(set(candidates)) == 4 for candidates in groups["candidate"])
        right = Counter(sum(k in POSITIVES for k in kinds) for kinds in groups["kind"])
        assert set(right) == {0, 1, 2, 3}
        assert min(right.values()) >= 10
        anchor, candidate = (pairs[side].to_numpy() for side in ("anchor", "candidate"))
        assert (world.camids[anchor] != world.camids[candidate]).all()
        same = world.pids[anchor] == world.pids[candidate]
        np.testing.assert_array_equal(same, pairs["kind"].is_in(POSITIVES).to_numpy())


def test_no_two_sets_hold_the_same_pair(sets):
    _, mined = sets
    pairs = [frozenset(pair) for pair in mined.hard.select("anchor", "candidate").rows()]
    assert len(set(pairs)) == len(pairs) == 320


def test_sets_are_harder_than_random_ones(sets):
    _, mined = sets
    auc = mined.auc()
    assert auc["chosen"] < 0.5 < auc["random"]
