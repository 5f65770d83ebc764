"""Twins: what the first stage knows, the anchor, the cameras and popularity tell nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from nontrivial.builders.reid import search
from nontrivial.builders.reid.bursts import find_bursts
from nontrivial.builders.reid.mining import Mined, Rules, mine
from nontrivial.builders.reid.pairs import HARD_NEGATIVE, HARD_POSITIVE
from nontrivial.builders.reid.space import Space, Strangers, build_space, deviation, to_steps
from nontrivial.builders.reid.twins import UNLIKE, find_twins, popularity
from nontrivial.manifests.probes import auc
from tests.builders.reid import planted

BUDGET = 400


def blurred(
    seed: int = 0, cameras: int = 4, identities: int = 150, images: int = 8
) -> planted.World:
    """People whom the encoder often takes for others, and images of uneven quality."""
    base = planted.world(seed, identities, images, cameras, noise=0.0)
    rng = np.random.default_rng([seed, 2])
    noise = rng.lognormal(0.5, 0.4, len(base.pids))[:, None]
    vectors = [planted.near(x, noise, rng) for x in base.vectors]
    return replace(base, vectors=vectors)


@pytest.fixture(scope="module")
def space() -> Space:
    return blurred().space()


@pytest.fixture(scope="module")
def mined(space) -> Mined:
    return mine(space, Rules(budget=BUDGET, trust_labels=True))


def twins_of(mined: Mined) -> pl.DataFrame:
    """One row per twin: anchor, candidate, similarity of both pairs."""
    pairs = mined.hard.drop_nulls("twin")
    right, wrong = (pairs.filter(pl.col("kind") == kind) for kind in (HARD_POSITIVE, HARD_NEGATIVE))
    return right.join(wrong, "twin", suffix="_of_stranger")


def test_the_budget_is_met_by_twins_of_one_anchor_one_camera_and_one_similarity(space, mined):
    twins = twins_of(mined)
    assert len(twins) == BUDGET // 2
    assert (twins["anchor"] == twins["anchor_of_stranger"]).all()
    anchor, positive, stranger = (
        twins[name].to_numpy() for name in ("anchor", "candidate", "candidate_of_stranger")
    )
    assert (space.camids[positive] == space.camids[stranger]).all()
    assert (space.camids[anchor] != space.camids[positive]).all()
    assert (space.pids[anchor] == space.pids[positive]).all()
    assert (space.pids[anchor] != space.pids[stranger]).all()
    gap = np.abs(twins["similarity"] - twins["similarity_of_stranger"])
    assert (gap <= 0.11 * deviation(space, anchor)).all()


def test_neither_similarity_nor_popularity_tells_the_answer(space, mined):
    same = (mined.hard["kind"] == HARD_POSITIVE).to_numpy()
    assert auc(mined.hard["similarity"].to_numpy(), same) == pytest.approx(0.5, abs=0.02)
    popular = popularity(mined.nearest, len(space.pids))[mined.hard["candidate"].to_numpy()]
    assert auc(popular, same) == pytest.approx(0.5, abs=0.03)
    extreme = mine(space, Rules(budget=BUDGET, trust_labels=True, extreme=True)).hard
    same = extreme["kind"].is_in(["extreme_positive", "positive"]).to_numpy()
    assert auc(extreme["similarity"].to_numpy(), same) < 0.05


def test_strangers_are_above_and_below_equally_often_for_each_two_cameras(space, mined):
    twins = twins_of(mined)
    above = (twins["similarity_of_stranger"] > twins["similarity"]).to_list()
    cameras = zip(space.camids[twins["anchor"]], space.camids[twins["candidate"]], strict=True)
    balance: Counter = Counter()
    for pair, side in zip(cameras, above, strict=True):
        balance[pair] += 1 if side else -1
    assert max(map(abs, balance.values())) <= 1


@pytest.mark.parametrize("gap", [0.1, 0.4])
def test_the_twins_found_are_those_of_the_definition(gap):
    space = blurred(identities=30).space()
    rows, values = search.nearest_negatives(space, 12)
    positives = search.all_positives(space)
    popular = popularity(rows, len(space.pids))
    found = find_twins(space, Strangers(rows, values, values[:, -1]), positives, popular, gap)
    assert len(found) > 20
    assert found.select("anchor", "candidate", "stranger", "rank", "above").rows() == list(
        defined(space, rows, values, positives, popular, gap)
    )


def defined(space, rows, values, positives, popular, gap):
    """Twins by the letter of the definition, pair by pair."""
    width = to_steps(gap * deviation(space, space.anchors))
    pairs = zip(positives.anchor, positives.candidate, positives.similarity, strict=True)
    for a, p, value in pairs:
        strangers = list(zip(rows[a].tolist(), values[a].tolist(), strict=True))
        rank = 1 + sum(v > value for _, v in strangers)
        if rank == 1 or value <= strangers[-1][1]:
            continue
        for above in (False, True):
            fit = [
                (abs(popular[n] - popular[p]), abs(v - value), n)
                for n, v in strangers
                if space.camids[n] == space.camids[p] and (v > value) == above
                if abs(v - value) <= width[a] and abs(popular[n] - popular[p]) <= UNLIKE
            ]
            if fit:
                yield int(a), int(p), min(fit)[2], rank, above


def test_an_odd_budget_ends_with_a_single_stranger(space):
    pairs = mine(space, Rules(budget=101, trust_labels=True)).hard
    assert len(pairs) == 101
    single = pairs.filter(pl.col("twin").is_null())
    assert single["kind"].to_list() == [HARD_NEGATIVE]
    assert Counter(pairs["kind"]) == {HARD_NEGATIVE: 51, HARD_POSITIVE: 50}


def test_caps_hold_and_no_pair_comes_twice(space):
    rules = Rules(budget=BUDGET, per_image=3, per_identity=7, trust_labels=True)
    pairs = mine(space, rules).hard.select("anchor", "candidate").to_numpy()
    images = Counter(pairs.ravel().tolist())
    people = Counter(pid for pair in space.pids[pairs].tolist() for pid in set(pair))
    assert max(images.values()) <= 3
    assert max(people.values()) <= 7
    assert len({frozenset(pair) for pair in pairs.tolist()}) == len(pairs) > 0


def test_an_encoder_that_never_errs_leaves_no_twins_but_random_pairs():
    mined = mine(planted.world(identities=40).space(), Rules(budget=60))
    assert len(mined.hard) == 0
    assert len(mined.random) == 60


def test_of_one_burst_one_twin_comes_first():
    world = blurred()
    space = world.space()
    frames = np.arange(len(space.pids)) % 2  # both images of a person and camera in one burst
    everyone = np.zeros(len(space.pids), np.int64)
    mined = mine(space, Rules(budget=200, trust_labels=True), iter, everyone, frames)
    anchors = twins_of(mined)
    bursts = mined.bursts[anchors["anchor"]]
    keys = zip(bursts, space.camids[anchors["candidate"]], strict=True)
    assert max(Counter(keys).values()) == 1
    assert len(np.unique(mined.bursts)) == len(space.pids) // 2


def test_bursts_are_stretches_of_frames_or_images_that_look_alike():
    pids, camids = np.zeros(6, np.int64), np.array([1, 1, 1, 1, 2, 2])
    x = np.eye(6, dtype=np.float32)
    x[3], x[5] = x[2], x[4]
    rows = np.arange(6)
    space = build_space([x], pids, camids, rows, rows)
    positives = search.all_positives(space)
    frames = np.array([10, 134, 135, 400, -1, -1])
    sequences = np.array([0, 0, 0, 1, -1, -1])
    first, second, third, *rest = find_bursts(space, positives, sequences, frames).tolist()
    assert first == second != third
    assert len({first, third, *rest}) == 4  # frame 400 is of another sequence
    assert rest[1] == rest[2]
    looked = find_bursts(space, positives)
    assert looked[2] == looked[3]
    assert len(set(looked.tolist())) == 4


def test_unknown_cameras_are_compared_with_all_others():
    world = blurred(identities=60)
    space = replace(world, camids=np.full(len(world.pids), -1)).space()
    mined = mine(space, Rules(budget=60, trust_labels=True))
    assert len(mined.hard) == 60
    for pairs in (mined.hard, mined.random):
        assert (pairs["anchor"] != pairs["candidate"]).all()


@pytest.mark.parametrize("size", [3, 4])
def test_a_set_shows_one_camera_and_none_to_all_right(size):
    space = blurred(cameras=2, images=20).space()
    mined = mine(space, Rules(budget=40, candidates=size, top_k=100, trust_labels=True))
    groups = mined.hard.group_by("anchor", maintain_order=True).agg(
        "candidate", "kind", "similarity"
    )
    assert len(groups) == 40
    right = Counter(kinds.count(HARD_POSITIVE) for kinds in map(list, groups["kind"]))
    assert set(right) == set(range(size + 1))
    for candidates in groups["candidate"].to_list():
        assert len(set(candidates)) == size
        assert len(set(space.camids[candidates].tolist())) == 1
    same = (mined.hard["kind"] == HARD_POSITIVE).to_numpy()
    assert auc(mined.hard["similarity"].to_numpy(), same) == pytest.approx(0.5, abs=0.08)
