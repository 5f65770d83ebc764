"""Labels are doubted for what is unusual for the encoder, and by every encoder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from nontrivial.builders.reid import label_noise, search
from nontrivial.builders.reid.label_noise import (
    NEAR_DUPLICATE,
    SAME_PERSON,
    TWO_PEOPLE,
    Doubts,
    find_doubts,
)
from nontrivial.builders.reid.usual import FEW, Usual, spread
from tests.builders.reid import planted
from tests.builders.reid.test_twins import blurred


def doubts_of(world: planted.World) -> Doubts:
    space = world.space()
    nearest, values = search.nearest_negatives(space, 10)
    return find_doubts(space, nearest, values, search.all_positives(space), duplicate=0.995)


def test_an_encoder_that_often_errs_doubts_few_labels():
    world = blurred()
    space = world.space()
    first = search.nearest_ranked(space, 1)
    errs = (space.pids[first.anchor] != space.pids[first.candidate]).mean()
    assert errs > 0.3
    assert doubts_of(world).images.mean() <= 0.005


@pytest.fixture(scope="module")
def swapped() -> tuple[planted.World, int, int]:
    """Two encoders, and one image of person 2 under identity 7: the world, its row, the person."""
    world = planted.world(identities=60, widths=(32, 24))
    pids = world.pids.copy()
    pids[12] = 7
    return replace(world, pids=pids), 12, 2


def test_a_swapped_label_is_doubted_if_both_encoders_see_it(swapped):
    world, wrong, _ = swapped
    doubts = doubts_of(world)
    assert doubts.images[wrong]
    assert doubts.images.sum() <= 2


def test_an_encoder_that_does_not_see_it_stops_the_doubt(swapped):
    world, wrong, _ = swapped
    blind = world.vectors[1].copy()
    blind[wrong] = world.vectors[1][7 * 6]  # to this one, the image shows whom its label says
    assert not doubts_of(replace(world, vectors=[world.vectors[0], blind])).images[wrong]


def test_a_doubt_about_two_identities_closes_every_pair_of_the_two(swapped):
    world, _, person = swapped
    doubts = doubts_of(world)
    ours, theirs = (np.flatnonzero(world.pids == pid) for pid in (7, person))
    ours, theirs = ours[~doubts.images[ours]], theirs[~doubts.images[theirs]]
    assert not doubts.believes(ours[:, None], theirs).any()
    assert not doubts.believes(theirs[:, None], ours).any()
    other = np.flatnonzero(world.pids == 30)
    assert doubts.believes(ours[:, None], other).all()
    assert doubts.believes(ours[:1], ours[1:2]).all()


def test_two_cameras_that_saw_two_people_are_kept_apart():
    world = planted.world(identities=80, images=12, cameras=2, noise=0.6)
    pids = world.pids.copy()
    stranger = (world.people == 5) & (world.camids == 1)
    world.vectors[0][stranger] = world.vectors[0][(world.people == 6) & (world.camids == 1)]
    rng = np.random.default_rng(1)
    away = planted.unit(rng.normal(size=(1, 32)))
    world.vectors[0][stranger] = planted.near(np.repeat(away, stranger.sum(), 0), 0.6, rng)
    doubts = doubts_of(replace(world, pids=pids))
    apart = doubts.frame.filter(pl.col("reason") == TWO_PEOPLE)
    assert set(world.pids[apart["anchor"].to_numpy()].tolist()) == {5}
    rows = np.flatnonzero(world.pids == 5)
    sides = [rows[world.camids[rows] == camera] for camera in (0, 1)]
    assert not doubts.believes(sides[0][:, None], sides[1]).any()


def test_near_duplicates_have_to_look_alike_to_every_encoder():
    world = planted.world(identities=40, widths=(32, 24), noise=0.8)
    assert world.camids[1] != world.camids[8]
    for x in world.vectors:
        x[1] = x[8]
    found = doubts_of(world).frame.filter(pl.col("reason") == NEAR_DUPLICATE)
    assert found.select("anchor", "candidate").rows() == [(1, 8), (8, 1)]
    world.vectors[1][1] = world.vectors[1][60]
    assert NEAR_DUPLICATE not in doubts_of(world).frame["reason"].to_list()


def test_what_is_usual_is_measured_for_each_two_cameras_and_for_all():
    rng = np.random.default_rng(0)
    cameras = rng.integers(0, 4, 1000)
    cameras[:3] = 9  # too few to be measured by themselves
    values = rng.normal(cameras, 0.1 + cameras)
    usual = Usual.of(values, cameras)
    middle, width = usual.at(np.array([0, 3, 9, 77]))
    for place, camera in ((0, 0), (1, 3)):
        assert (middle[place], width[place]) == spread(values[cameras == camera])
    assert (middle[2], width[2]) == (middle[3], width[3]) == spread(values)
    assert (cameras == 9).sum() < FEW


def test_believing_everything_doubts_nothing():
    doubts = label_noise.no_doubts(np.arange(5))
    assert doubts.believes(np.arange(4), np.arange(1, 5)).all()
    assert len(doubts.frame) == 0
    assert SAME_PERSON not in doubts.frame["reason"].to_list()
