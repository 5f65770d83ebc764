"""Options that may be right beside the answer never become false labels."""

from __future__ import annotations

import doctest

import pytest

from nontrivial.builders.qa import exclusion
from nontrivial.builders.qa.exclusion import Kept, NotExclusive, exclusive_options, overlaps

OTHERS = ["run home", "eat bread", "paint a wall"]


def test_examples_hold():
    assert doctest.testmod(exclusion).failed == 0


@pytest.mark.parametrize(
    "option",
    [
        "all of the above",
        "None of these.",
        "not sure",
        "Cannot be determined",
        "It is impossible to tell",
        "A and C",
        "Both A and B",
        "none",
    ],
)
def test_an_option_about_the_others_refuses_the_question(option):
    made = exclusive_options("What do they do?", ["sing", *OTHERS, option], 0)
    assert isinstance(made, NotExclusive)


@pytest.mark.parametrize(
    "options",
    [["yes", "no", "not sure"], ["True", "False", "3"], ["No, he left", "Yes, he did", "x"]],
)
def test_yes_and_no_refuse_the_question(options):
    assert exclusive_options("Is it?", options, 0) == NotExclusive("the options are yes and no")


def test_no_reaction_is_not_the_answer_no():
    assert exclusive_options("How did he react?", ["no reaction", *OTHERS], 1).positions == [
        0,
        1,
        2,
        3,
    ]


def test_counts_refuse_the_question():
    made = exclusive_options("How many cats are there?", ["one", "two", "three"], 0)
    assert made == NotExclusive("a count with numbers as options")


@pytest.mark.parametrize("option", ["singing loudly", "Sings.", "to sing", "sing a song together"])
def test_an_option_that_contains_or_repeats_the_answer_is_left_out(option):
    assert exclusive_options("What do they do?", ["sing", option, *OTHERS], 0) == Kept(
        [0, 2, 3, 4], 1
    )


def test_a_synonym_of_the_answer_is_left_out():
    assert exclusive_options("Why?", ["watch the dog", "look at the dog", *OTHERS], 0).doubtful == 1


def test_order_tells_options_apart():
    assert not overlaps(exclusion.content("left to right"), exclusion.content("right to left"))


def test_a_broad_place_does_not_exclude_a_park():
    options = ["park", "outdoors", "kitchen", "bus"]
    assert exclusive_options("where is this", options, 0) == Kept([0, 2, 3], 1)
    assert isinstance(exclusive_options("where is this", options, 1), NotExclusive)


def test_a_room_is_no_broad_place():
    made = exclusive_options("where is this", ["garage", "living room", "house", "bus"], 0)
    assert made == Kept([0, 1, 3], 1)


@pytest.mark.parametrize(
    ("answer", "option"),
    [
        ("parent and child", "mother and son"),
        ("play the drum", "performing"),
        ("stroke the cat", "patting the cat"),
        ("wave", "using his hand"),
        ("they clap", "starts clapping"),
        ("leave", "ran away"),
    ],
)
def test_an_option_that_may_hold_beside_the_answer_is_left_out(answer, option):
    made = exclusive_options("What do they do?", [answer, option, *OTHERS[1:], "dig"], 0)
    assert made == Kept([0, 2, 3, 4], 1)


@pytest.mark.parametrize(
    "pair", [("zooming in", "zooming out"), ("clockwise", "counter clockwise"), ("left", "right")]
)
def test_opposites_exclude_each_other(pair):
    assert exclusive_options("Which way?", [*pair, "upwards"], 0) == Kept([0, 1, 2], 0)


def test_wrong_options_that_say_the_same_both_stay():
    assert exclusive_options("How is he?", ["sad", "happy", "glad"], 0) == Kept([0, 1, 2], 0)


def test_an_answer_that_holds_beside_everything_is_refused():
    made = exclusive_options("Why?", ["doing an activity", "to eat", "to run", "to sing"], 0)
    assert made == NotExclusive("the answer is too general to exclude others")


def test_equal_wrong_options_are_one():
    assert exclusive_options("What?", ["sing", "hat", "hat", "run"], 0) == Kept([0, 1, 3], 1)


def test_too_few_remaining_options_refuse_the_question():
    made = exclusive_options("What?", ["sing", "sings", "singing", "run"], 0)
    assert made == NotExclusive("the options overlap the answer")
    assert isinstance(exclusive_options("What?", ["sing", "run"], 0), NotExclusive)
