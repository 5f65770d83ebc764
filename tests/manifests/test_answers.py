"""Reading answers: leniently, from the last block, in linear time, as real models write them."""

from __future__ import annotations

import doctest
import json
import random
import time
from pathlib import Path

import pytest

from nontrivial.manifests import answers
from nontrivial.manifests.answers import (
    exact_score,
    format_answer,
    is_formatted,
    letters,
    read_answer,
    soft_score,
)

OPTIONS = ["The red cube", "a blue sphere", "Neither", "3 of them"]


def read(text: str, options: list[str] | None = None) -> str:
    return "".join(
        sorted(read_answer(f"<answer>{text}</answer>", OPTIONS if options is None else options))
    )


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(answers).failed == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A", "A"),
        (" a ", "A"),
        ("(A)", "A"),
        ("A.", "A"),
        ("A,", "A"),
        ("A,C", "AC"),
        ("C, A", "AC"),
        ("A and C", "AC"),
        ("A & C", "AC"),
        ("AC", "AC"),
        ("A C", "AC"),
        ("A\nC", "AC"),
        ("(a), (c)", "AC"),
        ("**B**", "B"),
        ("Option B", "B"),
        ("The answer is B.", "B"),
        ("A. The red cube", "A"),
        ("A The red cube", "A"),
        ("(B) a blue sphere\n(C) Neither", "BC"),
        ("a blue sphere", "B"),
        ("A blue sphere.", "B"),
        ("the RED  cube, Neither", "AC"),
        ("3 of them", "D"),
        ("", ""),
        ("I cannot tell", ""),
        ("3", ""),
        ("ß", ""),
        ("\N{LATIN SMALL LIGATURE ST}", ""),
        ("12", ""),
    ],
)
def test_what_people_and_models_write_is_read(text, expected):
    assert read(text) == expected


def test_words_in_capitals_are_not_taken_for_letters():
    assert read("NO", ["Yes", "No"]) == "B"
    assert read("BAD", ["Yes", "No"]) == ""


def test_a_letter_beyond_the_options_is_kept_so_that_it_counts_as_wrong():
    assert read("A, E") == "AE"
    assert soft_score(read_answer("<answer>A, E</answer>", OPTIONS), {"A"}) == 0


def test_options_that_read_alike_are_not_told_apart_by_their_text():
    assert read("yes", ["Yes", "yes."]) == ""


def test_an_options_own_text_wins_over_a_label_before_another():
    assert read("A red cube", ["red cube", "a red cube"]) == "B"


def test_the_last_answer_counts():
    text = "<think><answer>A</answer></think><answer>B</answer> or rather <ANSWER>C</ANSWER>"
    assert read_answer(text) == {"C"}
    assert read_answer("<answer>A</answer><answer>B") == {"B"}


def test_an_answer_needs_its_block_unless_told_otherwise():
    assert read_answer("B") == frozenset()
    assert read_answer("B", need_block=False) == {"B"}
    assert read_answer("<think>A or C</think> B</answer>", need_block=False) == {"B"}
    assert read_answer("<THINK>A</THINK>C", need_block=False) == {"C"}


def test_reading_inverts_writing_for_every_set_of_letters():
    alphabet = letters(5)
    for mask in range(1, 32):
        chosen = {letter for i, letter in enumerate(alphabet) if mask >> i & 1}
        assert read_answer(format_answer(chosen), OPTIONS) == chosen


@pytest.mark.parametrize(
    "text",
    [
        "<answer>" * 125_000,
        "</answer>" * 111_000,
        "<think>" * 140_000,
        "<answer>" + "(" * 1_000_000,
        "<answer>" + " " * 1_000_000,
        "<answer>" + "A. " * 333_000,
        "<answer>" + "a and " * 160_000,
        "<answer>" + "[(" * 500_000 + "A",
        "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}" * 1_000_000,
        " " * 1_000_000 + "<think>" + "\n" * 1_000,
    ],
    ids=lambda text: f"{text[8:18]!r}",
)
def test_hostile_completions_of_a_megabyte_take_linear_time(text):
    started = time.perf_counter()
    is_formatted(text)
    read_answer(text, OPTIONS)
    read_answer(text, OPTIONS, need_block=False)
    assert time.perf_counter() - started < 2


def test_any_text_can_be_read():
    rng = random.Random(0)
    pieces = [
        "<answer>",
        "</answer>",
        "<think>",
        "</think>",
        "A",
        "b",
        "(",
        ")",
        ".",
        ",",
        " ",
        "\n",
        "ß",
        "İ",
        "3",
        "red",
    ]
    for _ in range(3000):
        text = "".join(rng.choices(pieces, k=rng.randrange(12)))
        found = read_answer(text, OPTIONS, need_block=rng.random() < 0.5)
        assert found <= set(answers.LETTERS)
        assert is_formatted(text) in (True, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think></think><answer>A</answer>", True),
        (" <think>x</think>\n\n<answer>A, B</answer>\n", True),
        ("well <think>x</think><answer>A</answer>", False),
        ("<think>x</think> so <answer>A</answer>", False),
        ("<think>x</think><answer>A</answer>.", False),
        ("<think>x</think><answer> </answer>", False),
        ("<think>x</think><answer>A</answer><answer>A</answer>", False),
        ("<think>x<think></think><answer>A</answer>", False),
        ("<answer>A</answer><think>x</think>", False),
        ("<think>x<answer>A</answer></think>", False),
        ("<think>x</think><answer>A", False),
        ("", False),
    ],
)
def test_the_format_is_one_think_block_then_one_answer_block(text, expected):
    assert is_formatted(text) is expected


def test_soft_scores_equal_their_definition_on_every_pair_of_sets():
    sets = [{letter for i, letter in enumerate("ABCD") if mask >> i & 1} for mask in range(16)]
    for truth in sets[1:]:
        for chosen in sets:
            subset = bool(chosen) and all(letter in truth for letter in chosen)
            assert soft_score(chosen, truth) == (len(chosen) / len(truth) if subset else 0)
            assert exact_score(chosen, truth) == (chosen == truth)


def test_an_empty_truth_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="None of the options"):
        soft_score({"A"}, set())


@pytest.fixture(scope="module")
def rollouts(shared_data: Path) -> list[dict]:
    lines = (shared_data / "rollouts_2000.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_real_rollouts_get_the_official_format_reward_but_for_named_reasons(rollouts):
    """The published check also passes text before the think block, and empty answers."""
    for row in rollouts:
        text, official = row["completion"], bool(row["official_format_reward"])
        if is_formatted(text) != official:
            assert official, text
            assert not text.lstrip().startswith("<think>") or answers.answer_block(text) == ""


def test_every_answer_of_the_real_rollouts_is_read(rollouts):
    texts = [row["completion"] for row in rollouts]
    blocks = {text: answers.answer_block(text) for text in texts}
    unread = [text for text in texts if blocks[text] and not read_answer(text)]
    assert unread == []
    assert sum(bool(read_answer(text)) for text in texts) >= 0.99 * len(texts)
