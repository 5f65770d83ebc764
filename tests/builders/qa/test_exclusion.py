"""Options that may be right beside the answer never become false labels."""

from __future__ import annotations

import doctest

import pytest

from nontrivial.builders.qa import exclusion
from nontrivial.builders.qa.exclusion import (
    STRICT,
    Exclusion,
    Kept,
    NotExclusive,
    exclusive_options,
    overlaps,
)

OTHERS = ["run home", "eat bread", "paint a wall"]
STATEMENTS = Exclusion(statements=True)


def kept(question: str, options: list[str], answer: int = 0, **rules) -> tuple[list[int], int]:
    """Return the positions that stay, and how many others do not."""
    made = exclusive_options(question, options, answer, Exclusion(**rules))
    assert isinstance(made, Kept)
    return made.positions, len(made.left_out)


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
        "A, B, and C",
        "do the same thing",
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
    assert kept("What do they do?", ["sing", option, *OTHERS]) == ([0, 2, 3, 4], 1)


def test_a_synonym_of_the_answer_is_left_out():
    assert kept("Why?", ["watch the dog", "look at the dog", *OTHERS]) == ([0, 2, 3, 4], 1)


def test_order_tells_options_apart():
    assert not overlaps(exclusion.content("left to right"), exclusion.content("right to left"))


def test_a_broad_place_does_not_exclude_a_park():
    options = ["park", "outdoors", "kitchen", "bus", "pier"]
    assert kept("where is this", options) == ([0, 2, 3, 4], 1)
    assert isinstance(exclusive_options("where is this", options, 1), NotExclusive)


def test_a_room_is_no_broad_place():
    options = ["garage", "living room", "house", "bus", "pier"]
    assert kept("where is this", options) == ([0, 1, 3, 4], 1)


@pytest.mark.parametrize(
    ("answer", "option"),
    [
        ("parent and child", "mother and son"),
        ("play the drum", "performing"),
        ("stroke the cat", "patting the cat"),
        ("wave", "using his hand"),
        ("play biting", "use its mouth"),
        ("stretch", "moves her arms and legs"),
        ("they clap", "starts clapping"),
        ("leave", "ran away"),
    ],
)
def test_an_option_that_may_hold_beside_the_answer_is_left_out(answer, option):
    options = [answer, option, *OTHERS[1:], "dig"]
    assert kept("What do they do?", options) == ([0, 2, 3, 4], 1)


@pytest.mark.parametrize(
    "pair", [("zooming in", "zooming out"), ("clockwise", "counter clockwise"), ("left", "right")]
)
def test_opposites_exclude_each_other(pair):
    assert kept("Which way?", [*pair, "upwards"]) == ([0, 1, 2], 0)


def test_wrong_options_that_say_the_same_both_stay():
    assert kept("How is he?", ["sad", "happy", "glad"]) == ([0, 1, 2], 0)


def test_an_answer_that_holds_beside_everything_is_refused():
    made = exclusive_options("Why?", ["doing an activity", "to eat", "to run", "to sing"], 0)
    assert made == NotExclusive("the answer is too general to exclude others")


def test_equal_wrong_options_are_one():
    assert kept("What?", ["sing", "hat", "hat", "run", "dig"]) == ([0, 1, 3, 4], 1)


def test_too_few_remaining_options_refuse_the_question():
    made = exclusive_options("What?", ["sing", "sings", "singing", "run"], 0)
    assert made == NotExclusive("the options overlap the answer")
    assert isinstance(exclusive_options("What?", ["sing", "run"], 0), NotExclusive)


def test_a_question_does_not_become_a_choice_among_three():
    options = ["sing", "singing", "run", "eat"]
    assert isinstance(exclusive_options("What?", options, 0), NotExclusive)
    assert exclusive_options("What?", options, 0, STATEMENTS).positions == [0, 2, 3]


@pytest.mark.parametrize(
    ("answer", "option"),
    [
        ("an apple, a pear and a fig", "a fig and an apple"),
        ("a knife", "knives"),
        ("a child", "the children"),
        ("a person", "some people"),
        ("a couch", "the sofa"),
    ],
)
def test_parts_of_lists_plurals_and_synonyms_are_left_out(answer, option):
    assert kept("What is there?", [answer, option, *OTHERS]) == ([0, 2, 3, 4], 1)


def test_lists_of_the_same_things_in_another_order_stay_with_their_doubt():
    made = exclusive_options("In what order?", ["cup, hat, pen", "hat, cup, pen", "pen, cup"], 1)
    assert made == NotExclusive("the options overlap the answer")
    options = ["cup, hat, pen", "hat, cup, pen", "pen, cup, hat"]
    made = exclusive_options("In what order?", options, 1)
    assert (made.positions, made.doubt) == ([0, 1, 2], exclusion.REORDERED)


def test_strict_leaves_out_what_merely_resembles_the_answer():
    options = ["put the red cup down", "put the blue cup down", *OTHERS]
    made = exclusive_options("What?", options, 0)
    assert made.positions == [0, 1, 2, 3, 4]
    assert made.doubt == pytest.approx(3 / 4)  # put, cup and down of four words each
    assert kept("What?", options, limit=STRICT) == ([0, 2, 3, 4], 1)


def test_a_text_encoder_finds_paraphrases():
    def likeness(first: str, second: str) -> float:
        return 0.9 if {first, second} == {"is joyous", "beams"} else 0.3

    options = ["beams", "is joyous", *OTHERS]
    assert kept("How?", options) == ([0, 1, 2, 3, 4], 0)
    assert kept("How?", options, likeness=likeness) == ([0, 2, 3, 4], 1)
    made = exclusive_options("How?", options, 0, Exclusion(likeness=likeness))
    assert made.doubt == pytest.approx(0.3)


def test_statements_may_ask_yes_or_no_and_count():
    assert exclusive_options("Is it?", ["yes", "no"], 0, STATEMENTS).positions == [0, 1]
    assert exclusive_options("How many?", ["2", "3"], 0, STATEMENTS).positions == [0, 1]
    assert isinstance(exclusive_options("Is it?", ["yes", "not sure"], 0, STATEMENTS), NotExclusive)


def test_both_at_once_is_no_answer_to_what_comes_first():
    options = ["the flute", "the drum", "the horn", "Both begin simultaneously"]
    assert isinstance(exclusive_options("Which plays first?", options, 3), NotExclusive)
    assert kept("Which plays first?", options) == ([0, 1, 2, 3], 0)
