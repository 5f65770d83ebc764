"""Kinds of reasons that the embedded policy is pre-trained on: what each concludes."""

from __future__ import annotations

import doctest

import pytest

from nontrivial.manifests.answers import is_formatted, read_answer
from scripts.embedded import reasons
from scripts.embedded.reasons import SHARES, reasoned

CLIP = {
    "task": "video_qa",
    "options": ["The red cube", "The blue cube", "The cyan cube", "The green cube"],
    "answer": ["B", "D"],
    "rationale": "seen moves blue cube green cube; still red cube; hits blue cube green cube; so\n"
    "A red cube rests no;\nB blue cube moves yes;\nC cyan cube absent no;\n"
    "D green cube moves yes;",
}
PAIR = {
    "task": "reid_pair",
    "options": ["No", "Yes"],
    "answer": ["A"],
    "rationale": "red shirt red shirt same; plain plain same; blue trousers black trousers differ; "
    "black hair black hair same; bag bag same; slim slim same; No",
}


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(reasons).failed == 0


@pytest.mark.parametrize("row", [CLIP, PAIR], ids=["clip", "pair"])
def test_all_kinds_but_the_hasty_one_give_the_right_answer(row):
    for kind in SHARES:
        made = reasoned(row, kind)
        told = read_answer(made.completion, row["options"])
        assert (told == set(row["answer"])) == (kind != "hasty")
        assert is_formatted(made.completion, thought=made.prompt == "think")


def test_a_hasty_answer_names_the_first_option_that_seems_right():
    made = reasoned(CLIP, "hasty").completion
    assert made.endswith("B blue cube moves yes;</think><answer>B</answer>")
    assert "seen" not in made


def test_a_hasty_look_at_a_pair_misses_what_differs_behind_the_second_attribute():
    made = reasoned(PAIR, "hasty").completion
    assert "trousers" not in made
    assert made.endswith("Yes</think><answer>B</answer>")


def test_where_nothing_is_right_a_hasty_answer_is_none_of_the_options():
    lines = CLIP["rationale"].replace(" yes;", " no;") + "\nE none yes;"
    row = CLIP | {"rationale": lines, "options": [*CLIP["options"], "None of the options"]}
    assert reasoned(row, "hasty").completion.endswith("<answer>E</answer>")


def test_the_shares_add_up():
    assert sum(SHARES.values()) == pytest.approx(1)
