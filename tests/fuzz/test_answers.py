"""Answers of policies: whatever they write is read, and earns what its letters earn."""

from __future__ import annotations

import random

import pytest

from nontrivial.manifests.answers import LETTERS, answer_block, is_formatted, letters, read_answer
from nontrivial.train.rewards import REWARDS, answer_format, says_none
from tests.fuzz.damage import PIECES, each, other_text, tries

COUNT = tries(2000)
LONGEST = 2_000_000  # characters
TAGS = ["<think>", "</think>", "<answer>", "</answer>", "<ANSWER>", "<answer", "</", "<|im_end|>"]
WORDS = [
    "A",
    "b",
    "A,C",
    "(D)",
    "B.",
    " and ",
    "none",
    "None of the options",
    "Option A",
    "AC",
    "Z",
]
LIKELY = [
    "<think>The cube is red, so A or C.</think>\n<answer>A,C</answer>",
    "<think>I see <answer>A</answer>.</think><answer>(B) a blue sphere</answer>",
    "<answer>None of the options</answer>",
    "Answer: B. a blue sphere",
    "<think>",
]
OPTIONS = ["The red cube", "a blue sphere", "None of the options", "3", "A", "ß", "b. a ball"]


def written(rng: random.Random) -> str:
    """What a policy may write: something likely that is changed, or pieces; some are huge."""
    pieces = [*TAGS, *WORDS, *PIECES, *OPTIONS]
    if rng.random() < 0.6:
        text = other_text(rng.choice(LIKELY), rng, pieces)
    else:
        text = "".join(rng.choices(pieces, k=rng.randrange(1, 30)))
    return (text * rng.randrange(1, 3000))[:LONGEST] if rng.random() < 0.002 else text


def check(rng: random.Random) -> None:
    text = written(rng)
    count = rng.choice([0, 1, 2, 2, 3, 4, 4, 5, 5, 6, 26])
    options = [rng.choice([*OPTIONS, other_text("a cube", rng)]) for _ in range(count)]
    truth = rng.sample(letters(len(options)), rng.randrange(len(options) + 1))
    for need_block in (True, False):
        read = read_answer(text, options, need_block=need_block)
        assert read <= set(LETTERS)
        assert read == read_answer(str(text), list(options), need_block=need_block)
    read = read_answer(text, options)
    assert answer_block(text) is not None or not read
    assert is_formatted(text) in (True, False)
    earned = {
        name: reward(completions=[text], answer=[truth], options=[options])[0]
        for name, reward in REWARDS.items()
    }
    right = set(truth)
    if truth:
        assert earned["soft_accuracy"] == (len(read) / len(right) if read <= right else 0)
        assert earned["exact_accuracy"] == (read == right)
        verdicts = sum((letter in read) == (letter in right) for letter in letters(count))
        beyond = len(read - set(letters(count)))
        each_option = max(0, verdicts - beyond) / count if read else 0
        assert earned["per_option"] == pytest.approx(each_option)
    else:
        none = float(says_none(text))
        assert [earned[name] for name in list(REWARDS)[:4]] == [none] * 4
    assert earned["format"] <= (read != set())
    assert answer_format([text], options=[options])[0] in (0.0, 1.0)
    for name, value in earned.items():
        assert (-1 if name == "balanced_options" else 0) <= value <= 1, (name, value)


def test_any_answer_is_read_alike_twice_and_earns_what_its_letters_earn():
    each(COUNT, check)
