"""Options that may be true beside the answer are told, and others are not."""

from __future__ import annotations

import doctest

import pytest

from nontrivial.builders.qa import entailment
from nontrivial.builders.qa.entailment import amount, clash, says_nothing
from nontrivial.builders.qa.exclusion import NotExclusive, exclusive_options
from nontrivial.builders.qa.inversion import Inversion, invert

TOGETHER = [
    ("Throughout the entire video", "At the beginning"),
    ("always", "only at the end"),
    ("the whole cake", "half of the cake"),
    ("more than 3,000", "more than 2,000"),
    ("more than 3,000", "at least 5,000"),
    ("5-10 km/h", "8 to 12 km/h"),
    ("between 3 and 5", "four"),
    ("about 100 people", "95 people"),
    ("$5", "less than $10"),
    ("5+", "7"),
    ("[4:14, 4:25]", "[4:15, 4:22]"),
    ("from 1:02 to 1:10", "from 1:05 to 2:00"),
    ("both hands", "right hand"),
    ("left hand", "neither hand"),
    ("one of the dogs", "the dogs"),
]
APART = [
    ("At the beginning", "At the end"),
    ("more than 3,000", "less than 3,000"),
    ("5-10 km/h", "11-15 km/h"),
    ("5 dogs", "6 dogs"),
    ("5 dogs", "more than 3 cats"),
    ("three", "four"),
    ("12:30", "12:45"),
    ("[4:14, 4:25]", "[4:05, 4:13]"),
    ("1:00 - 1:30", "1:30 - 2:00"),
    ("both hands", "a foot"),
    ("in 1999", "in 2001"),
    ("3 cats and 2 dogs", "2 cats and 3 dogs"),
    ("a red car", "a blue car"),
    ("2 and 5", "3"),
]


def share(first: str, second: str) -> bool:
    return not set(first.rstrip("s").split()).isdisjoint(second.rstrip("s").split())


def test_examples_hold():
    assert doctest.testmod(entailment).failed == 0


@pytest.mark.parametrize(("first", "second"), TOGETHER)
def test_options_that_may_both_be_true_clash_either_way_round(first, second):
    shared = share(first, second)
    assert clash(first, second, share=shared)
    assert clash(first, second, share=shared) == clash(second, first, share=shared)


@pytest.mark.parametrize(("first", "second"), APART)
def test_options_that_exclude_each_other_do_not(first, second):
    assert clash(first, second, share=share(first, second)) is None


@pytest.mark.parametrize("text", ["a dog", "3 cats and 2 dogs", "scene 2 of 5", "", "12:30"])
def test_what_is_no_single_amount_is_not_read_as_one(text):
    assert amount(text) is None


@pytest.mark.parametrize(
    ("text", "denies"),
    [
        ("not moving", True),
        ("No change", True),
        ("There are no cars", True),
        ("It doesn't move", True),
        ("neither hand", True),
        ("a note", False),
        ("moving north", False),
        ("tie a knot", False),
    ],
)
def test_an_option_that_denies_something_is_told(text, denies):
    assert says_nothing(text) == denies


def test_a_part_is_left_out_beside_the_whole_and_a_question_of_parts_refused():
    options = ["at the beginning", "in the middle", "at the end", "at noon", "throughout the video"]
    kept = exclusive_options("When does he clap?", options, 0)
    assert kept.positions == [0, 1, 2, 3]
    assert isinstance(exclusive_options("When does he clap?", options, 4), NotExclusive)


def test_no_double_negative_is_asked():
    options = ["rolling", "not glowing", "jumping", "flying"]
    made = invert("What is the ball doing?", options, [True, False, False, False], "single")
    assert isinstance(made, Inversion)
    assert made.rule == "fallback"
    options[1] = "resting"
    made = invert("What is the ball doing?", options, [True, False, False, False], "single")
    assert made.rule == "does"
