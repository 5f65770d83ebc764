"""Rewards read what completions say, and nothing that they don't."""

from __future__ import annotations

import json
import time

import pytest

from nontrivial.manifests.answers import read_answer
from nontrivial.manifests.errors import BadInput
from nontrivial.train.rewards import (
    REWARDS,
    balanced_options,
    exact_accuracy,
    find_rewards,
    format_reward,
    per_option,
    soft_accuracy,
)

OPTIONS = ["cube", "ball", "cone", "ring"]


def score(reward, completion, answer=("B", "D")):
    return reward(completions=[completion], answer=[list(answer)], options=[OPTIONS])[0]


@pytest.mark.parametrize(
    ("text", "soft", "exact"),
    [
        ("<think>…</think><answer>B,D</answer>", 1.0, 1.0),
        ("<answer>D and B</answer>", 1.0, 1.0),
        ("<answer>(b)</answer>", 0.5, 0.0),
        ("<answer>ball</answer>", 0.5, 0.0),
        ("<answer>A,B,D</answer>", 0.0, 0.0),
        ("<answer></answer>", 0.0, 0.0),
        ("B,D", 0.0, 0.0),
        ("<answer>A</answer> no, <answer>B,D</answer>", 1.0, 1.0),
    ],
)
def test_accuracy_follows_the_last_answer_block(text, soft, exact):
    assert score(soft_accuracy, text) == soft
    assert score(exact_accuracy, text) == exact


@pytest.mark.parametrize(
    ("text", "verdicts", "balanced"),
    [
        ("<answer>B,D</answer>", 1.0, 1.0),
        ("<answer>B</answer>", 0.75, 0.5),
        ("<answer>A,B,C,D</answer>", 0.5, 0.0),  # all of them: no skill
        ("<answer>A,C</answer>", 0.0, -1.0),
        ("<answer></answer>", 0.0, 0.0),
        ("B,D", 0.0, 0.0),
    ],
)
def test_rewards_of_options_count_what_is_left_as_much_as_what_is_chosen(text, verdicts, balanced):
    assert score(per_option, text) == verdicts
    assert score(balanced_options, text) == balanced


@pytest.mark.parametrize("reward", [per_option, balanced_options])
def test_rewards_of_options_have_no_blind_answer_where_all_are_right(reward):
    everything = {"answer": [["A", "B"]], "options": [["cube", "ball"]]}
    assert reward(completions=["<answer>A,B</answer>"], **everything) == [1.0]
    nothing = {"answer": [[]], "options": [["cube", "ball"]]}
    assert reward(completions=["<answer>None</answer>"], **nothing) == [1.0]


@pytest.mark.parametrize(
    ("text", "expected"), [("<answer>A,X,Y,Z</answer>", -1.0), ("<answer>B,D,Z</answer>", 0.5)]
)
def test_letters_beyond_the_options_cost_no_more_than_all_wrong_ones(text, expected):
    assert score(balanced_options, text) == expected


def test_conversations_are_read_like_plain_text():
    turn = [{"role": "assistant", "content": "<answer>B</answer>"}]
    assert score(soft_accuracy, turn) == 0.5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>a</think><answer>A</answer>", 1.0),
        ("<think></think>\n<answer>A</answer>", 1.0),
        ("<answer>A</answer>", 0.0),
        ("<think>a</think><answer></answer>", 0.0),
        ("<think>a</think><answer>A</answer><answer>B</answer>", 0.0),
        ("so <think>a</think><answer>A</answer>", 0.0),
        ("<think>a</think><answer>none that I see</answer>", 0.0),
    ],
)
def test_format_wants_one_think_block_then_one_answer(text, value):
    assert score(format_reward, text) == value


@pytest.mark.parametrize("text", ["<answer>" * 125_000, "<answer>" + "A," * 500_000, "a" * 10**6])
def test_a_megabyte_of_hostile_text_is_read_at_once(text):
    start = time.perf_counter()
    for reward in REWARDS.values():
        score(reward, text)
    assert time.perf_counter() - start < 0.25


def test_no_rollout_that_gives_no_answer_is_credited(shared_data):
    """Real completions: the format is credited only where letters can be read from it."""
    lines = (shared_data / "rollouts_2000.jsonl").read_text(encoding="utf-8").splitlines()
    completions = [json.loads(line)["completion"] for line in lines]
    credited = format_reward(completions=completions, options=[[]] * len(completions))
    assert 0 < sum(credited) < len(credited)
    for completion, credit in zip(completions, credited, strict=True):
        if credit:
            assert read_answer(completion)


def test_rewards_are_found_by_name_and_by_import_path():
    assert find_rewards(["format", "nontrivial.train.rewards.soft_accuracy"]) == [
        format_reward,
        soft_accuracy,
    ]


@pytest.mark.parametrize("reward", [soft_accuracy, exact_accuracy])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<answer>None</answer>", 1.0),
        ("<think>hm</think><answer>none of the options.</answer>", 1.0),
        ("<answer></answer>", 0.0),
        ("<answer>A</answer>", 0.0),
        ("none", 0.0),
    ],
)
def test_an_empty_truth_wants_an_explicit_none(reward, text, value):
    assert score(reward, text, answer=()) == value


def test_long_completions_lose_the_length_reward_linearly():
    [length] = find_rewards(["length"], length_free=10, limit=30)
    assert length.__name__ == "length"
    assert length(completion_ids=[[0] * n for n in (0, 10, 15, 30, 99)]) == [1, 1, 0.75, 0, 0]


def test_a_length_that_is_free_up_to_the_limit_is_refused():
    with pytest.raises(BadInput, match="--length_free 256"):
        find_rewards(["length"], limit=256)


@pytest.mark.parametrize("name", ["accuracy", "no.such.module", "nontrivial.train.rewards.LETTERS"])
def test_an_unknown_reward_is_refused_by_name(name):
    with pytest.raises(BadInput, match=name):
        find_rewards([name])


def test_the_format_is_that_of_the_prompt():
    told = ["<answer>A</answer>", "<think>x</think><answer>A</answer>", "A"]
    for style, expected in (("answer", [1, 0, 0]), ("think", [0, 1, 0])):
        [reward] = find_rewards(["format"], style=style)
        assert reward(told, options=[["Yes", "No"]] * 3) == expected
        assert reward.__name__ == "format"
