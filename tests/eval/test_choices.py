"""Scores against their definitions, intervals against simulation."""

from __future__ import annotations

import doctest
import random

import numpy as np
import pytest

from nontrivial.eval import choices
from nontrivial.eval.choices import (
    WITH_RIGHT,
    Drawn,
    answered,
    interval,
    summarise,
)
from nontrivial.manifests.answers import per_option_score
from nontrivial.manifests.intervals import wilson
from tests.rows import reid_pair, video_question


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(choices).failed == 0


def test_a_completion_gets_every_score():
    row = answered(video_question(), "<think>x</think><answer>B</answer>")
    assert (row.letters, row.strict, row.soft, row.format) == ({"B"}, 0.0, 0.5, 1.0)
    assert row.per_option == 0.75
    assert answered(video_question(), "B, D").strict == 0
    assert answered(video_question(), "B, D", need_block=False).strict == 1


def test_per_option_scores_count_each_options_own_verdict():
    for mask in range(1, 16):
        chosen = {letter for i, letter in enumerate("ABCD") if mask >> i & 1}
        truth = {"B", "D"}
        naive = np.mean([(letter in chosen) == (letter in truth) for letter in "ABCD"])
        assert per_option_score(chosen, truth, 4) == pytest.approx(naive)
    assert per_option_score(set(), {"B"}, 4) == 0


def test_draws_give_pass_at_k_and_the_auc_of_options():
    rows = [answered(video_question(f"q{i}"), "<answer>B</answer>") for i in range(2)]
    drawn = Drawn(
        {"q0": [frozenset("BD"), frozenset("B")], "q1": [frozenset("A"), frozenset("BC")]}
    )
    told = drawn.scores(rows)
    assert told["draws"] == 2
    assert (told["sampled_strict"], told["pass_at_draws"]) == (0.25, 0.5)
    shares = {
        ("q0", "B"): 1,
        ("q0", "D"): 0.5,
        ("q1", "A"): 0.5,
        ("q1", "B"): 0.5,
        ("q1", "C"): 0.5,
    }
    right = [shares.get((q, letter), 0) for q in ("q0", "q1") for letter in "BD"]
    wrong = [shares.get((q, letter), 0) for q in ("q0", "q1") for letter in "AC"]
    wins = [(a > b) + (a == b) / 2 for a in right for b in wrong]
    assert told["option_auc"] == pytest.approx(np.mean(wins))
    assert drawn.scores([answered(video_question("never asked"), "B")]) == {}


def test_lines_are_made_for_each_task_and_family_and_do_not_depend_on_order():
    rows = [
        answered(video_question(f"q{i}", group=f"v{i}"), f"<answer>{'BD'[: i % 3]}</answer>")
        for i in range(30)
    ]
    plain = video_question()["qa"] | {"inverted": False}
    rows.append(answered(video_question("p", qa=plain), "<answer>A</answer>"))
    rows += [answered(reid_pair(f"r{i}", group=f"p{i}"), "<answer>B</answer>") for i in range(9)]
    lines = summarise(rows)
    names = [(line.task, line.family, line.n) for line in lines]
    assert names == [
        ("reid_pair", None, 9),
        ("video_qa", None, 31),
        ("video_qa", "predictive", 1),
        ("video_qa", "predictive, inverted", 30),
    ]
    assert lines[3].right == 10
    assert lines[3].soft == pytest.approx((10 * 0 + 10 * 0.5 + 10 * 1) / 30)
    random.Random(0).shuffle(rows)
    assert summarise(rows) == lines


def test_questions_with_a_right_option_are_also_scored_apart_from_those_without():
    options = ["the cube moves", "the ball stops", "None of the options"]
    none = [
        answered(
            video_question(f"n{i}", group=f"v{i}", options=options, answer=["C"]),
            "<answer>A</answer>",
        )
        for i in range(3)
    ]
    some = [
        answered(
            video_question(f"s{i}", group=f"v{i}", options=options, answer=["A"]),
            "<answer>A</answer>",
        )
        for i in range(2)
    ]
    whole, apart = summarise([*none, *some])
    assert (whole.family, whole.n, whole.strict) == (None, 5, 0.4)
    assert (apart.family, apart.n, apart.strict) == (WITH_RIGHT, 2, 1.0)
    assert [line.family for line in summarise(none)] == [None]
    assert [line.family for line in summarise(some)] == [None]


def test_intervals_cover_the_true_mean_when_questions_of_a_group_hang_together():
    rng = np.random.default_rng(0)
    covered = plain = 0
    for _ in range(200):
        skill = rng.random(40) < 0.6  # each group is all right or all wrong
        values = np.repeat(skill.astype(float), 5)
        groups = np.repeat(np.arange(40).astype(str), 5).tolist()
        low, high = interval(values.tolist(), groups, draws=300)
        covered += low <= 0.6 <= high
        low, high = interval(values.tolist(), [str(i) for i in range(200)], draws=300)
        plain += low <= 0.6 <= high
    assert covered >= 180
    assert plain < 150, "intervals that ignore the groups are too narrow"


def test_a_perfect_score_still_has_an_interval():
    low, high = interval([1.0] * 20, [str(i) for i in range(20)])
    assert (low, high) == wilson(20, 20)
    assert 0.8 < low < 0.9
    assert high == 1.0
