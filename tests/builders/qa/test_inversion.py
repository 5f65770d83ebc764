"""Inversion flips labels exactly; what is left to a blind reader is known and small."""

from __future__ import annotations

import doctest
import random
from itertools import combinations

import numpy as np
import pytest

from nontrivial.builders.qa import inversion
from nontrivial.builders.qa.inversion import (
    NotInverted,
    blind_soft,
    decoy_rate,
    invert,
    shuffled,
    uniform,
)
from nontrivial.manifests import text_only
from nontrivial.manifests.answers import soft_score
from nontrivial.manifests.text_only import best_blind
from tests.reference.published_inversion import invert_published

OPTIONS = ["the cube hits the ball", "the ring exits", "the ball enters"]


def test_examples_hold():
    assert doctest.testmod(inversion).failed == 0
    assert doctest.testmod(text_only).failed == 0


@pytest.mark.parametrize("right", [[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
def test_inverting_independent_options_twice_gives_meaning_and_labels_back(right):
    question = "Which event will happen if the ball is removed?"
    once = invert(question, OPTIONS, right, "independent")
    flipped = [not right[position] for position in once.positions]
    twice = invert(once.question, OPTIONS, flipped, "independent")
    assert once.question != question
    assert twice.question == question
    assert [not flipped[position] for position in twice.positions] == [bool(r) for r in right]


@pytest.mark.parametrize(
    ("question", "options", "right", "kind", "reason"),
    [
        ("Which?", ["a b", "c d"], [True, False], "single", "fewer than three options"),
        ("Which?", ["red", "blue"], [True, False], "exclusive", inversion.FEW),
        ("Which?", OPTIONS, [True, True, False], "single", inversion.SEVERAL),
        (
            "Is it?",
            ["yes", "no", "not sure"],
            [True, False, False],
            "single",
            "the options are yes and no",
        ),
        (
            "What doesn't move?",
            OPTIONS,
            [True, False, False],
            "single",
            "the question is negative already",
        ),
    ],
)
def test_a_question_without_sound_inversion_says_why(question, options, right, kind, reason):
    made = invert(question, options, right, kind)
    assert isinstance(made, NotInverted)
    assert made.reason == reason


def test_shuffling_is_a_permutation_that_its_key_alone_decides():
    order = list(range(5))
    assert all(sorted(shuffled(order, f"{seed}/x")) == order for seed in range(50))
    assert shuffled(order, "1/x") == shuffled(order, "1/x")
    assert len({tuple(shuffled(order, f"{seed}/x")) for seed in range(200)}) > 80


def test_every_permutation_is_equally_likely():
    seen = [tuple(shuffled([0, 1, 2], f"0/{number}")) for number in range(6000)]
    counts = np.array([seen.count(order) for order in set(seen)])
    assert len(counts) == 6
    assert np.abs(counts / 1000 - 1).max() < 0.15


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_blind_soft_equals_trying_every_choice_of_letters(count):
    for right in range(1, count + 1):
        truth = set(range(right))
        tried = [
            np.mean([soft_score(set(pick), truth) for pick in combinations(range(count), k)])
            for k in range(1, count + 1)
        ]
        assert blind_soft(count, right) == pytest.approx(max(tried))


def test_decoys_make_the_presence_of_none_uninformative():
    right = [0] * 5 + [1] * 95
    assert decoy_rate(right) == pytest.approx(inversion.DECOYS * 5 / 95)
    assert decoy_rate([1]) == 0.0
    assert decoy_rate([0]) == 0.0


def test_the_best_blind_strategy_is_found_where_one_is_planted():
    rng = random.Random(0)
    options = [rng.sample(["a", "bb", "ccc", "dddd"], 4) for _ in range(400)]
    groups = [str(number) for number in range(400)]
    longest = [[len(text) == 4 for text in each] for each in options]
    found = best_blind(["Which?"] * 400, options, longest, groups)
    assert found["strict"].score == 1.0
    letter = [[True, True, False, False]] * 400
    assert best_blind(["Which?"] * 400, options, letter, groups)["soft"].score == 1.0


def test_reading_not_pays_where_two_polarities_are_mixed():
    options = [["a", "b", "c"]] * 200
    questions = ["Which?", "Which is NOT?"] * 100
    right = [[True, False, False], [False, True, True]] * 100
    found = best_blind(questions, options, right, [str(n // 2) for n in range(200)])
    assert found["strict"].score == 1.0
    assert found["strict"].strategy.endswith("reading NOT")


def test_our_drop_leaves_less_to_a_blind_reader_than_the_published_one():
    rng = random.Random(0)
    words = ["jump", "paint", "cook", "sleep", "drive", "sing", "dig"]
    ours, theirs = [], []
    for number in range(3000):
        options, answer = rng.sample(words, 5), rng.randrange(5)
        kept = shuffled(range(5), f"0/{number}")
        ours.append([position != answer for position in kept])
        theirs.append(invert_published("What is it?", options, answer, rng)[2])
    groups = [str(number) for number in range(3000)]
    mine, published = (
        best_blind(["NOT"] * 3000, [["x"] * len(each) for each in right], right, groups)[
            "soft"
        ].score
        for right in (ours, theirs)
    )
    assert mine < 0.32 < published


def test_uniform_numbers_are_uniform_and_depend_on_their_parts_only():
    drawn = np.array([uniform("0", str(number)) for number in range(4000)])
    assert uniform("0", "1") == uniform("0", "1") != uniform("1", "0")
    assert abs(drawn.mean() - 0.5) < 0.02
    assert (drawn < 0.5).mean() == pytest.approx(0.5, abs=0.03)
