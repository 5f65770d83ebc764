"""Statements are true or false by themselves, and nothing but the video tells which."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from nontrivial.builders.qa.benches import to_frame
from nontrivial.builders.qa.benches.question import EXCLUSIVE, INDEPENDENT, NEGATED, Question
from nontrivial.builders.qa.questions import assemble
from nontrivial.builders.qa.statements import FEWEST, QUESTION, state
from nontrivial.manifests.answers import NONE
from nontrivial.manifests.schema import validate

WORDS = ["run", "hide", "eat", "sleep", "paint", "dig", "sing", "swim"]


def asked(clip: int, number: int, options: list[str], right: list[bool], **more) -> Question:
    """One question about a clip; only its number tells it from others."""
    return Question(
        id=f"q/{clip}/{number}",
        video=f"{clip}.mp4",
        group=f"g/{clip}",
        family=more.pop("family", "what"),
        question=f"What is person {number} doing?",
        options=options,
        right=right,
        **more,
    )


def clips(count: int, each: int = 4, seed: int = 0) -> list[Question]:
    """Questions of four options, the first of which is right."""
    rng = random.Random(seed)
    return [
        asked(clip, number, rng.sample(WORDS, 4), [True, False, False, False])
        for clip in range(count)
        for number in range(each)
    ]


def samples(questions: list[Question], **more) -> list[dict]:
    stated = state(to_frame(questions), seed=0, **more).with_columns(split=pl.lit("train"))
    table = assemble(stated, source="q", seed=0)
    validate(table)
    return table.to_pylist()


def test_each_statement_says_what_its_question_says():
    questions = {question.id: question for question in clips(40)}
    for row in samples(list(questions.values())):
        assert row["question"] == QUESTION
        assert row["options"][-1] == NONE
        assert len(row["qa"]["parents"]) == len(row["options"]) - 1
        chosen = {
            option
            for letter, option in zip("ABCDE", row["options"], strict=False)
            if letter in row["answer"]
        }
        for parent, statement in zip(row["qa"]["parents"], row["options"], strict=False):
            question = questions[parent]
            text, _, option = statement.partition(" — ")
            assert text == question.question
            assert question.right[question.options.index(option)] == (statement in chosen)
        assert (chosen == {NONE}) == (NONE in chosen)


def test_every_number_of_true_ones_is_as_likely_and_so_is_every_truth():
    rows = samples(clips(2500))
    assert len(rows) == 2500
    true = Counter(0 if row["options"][-1] in _chosen(row) else len(row["answer"]) for row in rows)
    assert set(true) == {0, 1, 2, 3, 4}
    assert max(true.values()) < 1.25 * min(true.values())
    truth = [letter in row["answer"] for row in rows for letter in "ABCD"]
    assert np.mean(truth) == pytest.approx(0.5, abs=0.02)


def _chosen(row: dict) -> set[str]:
    pairs = zip("ABCDEFGH", row["options"], strict=False)
    return {option for letter, option in pairs if letter in row["answer"]}


def test_an_options_usual_truth_tells_nothing():
    rng = random.Random(0)
    questions = [
        asked(clip, number, ["yes", "no"], [is_yes, not is_yes], kind=EXCLUSIVE)
        for clip in range(600)
        for number in range(6)
        for is_yes in [rng.random() < 0.8]
    ]
    right, seen = Counter(), Counter()
    for row in samples(questions):
        for statement in row["options"][:-1]:
            option = statement.split(" — ")[1]
            seen[option] += 1
            right[option] += statement in _chosen(row)
    for option in ("yes", "no"):
        assert right[option] / seen[option] == pytest.approx(0.5, abs=0.05)


def test_only_questions_whose_wrong_options_are_certainly_wrong_take_part():
    one = [True, False, False, False]
    questions = [
        asked(0, 0, ["sing", "sing a song", "dance and sing", "singing"], one),
        asked(0, 1, WORDS[:4], one, kind=NEGATED),
        asked(0, 2, WORDS[:4], [True, True, False, False]),
        asked(0, 3, ["x", "y"], [True, True], kind=INDEPENDENT),
        asked(0, 4, ["not sure", "yes", "no"], [False, True, False]),
        *(asked(0, number, WORDS[:4], one) for number in (5, 6, 7)),
    ]
    (row,) = samples(questions)
    assert set(row["qa"]["parents"]) == {"q/0/5", "q/0/6", "q/0/7"}


def test_a_clip_with_few_questions_has_none_and_with_many_has_several():
    assert samples(clips(5, FEWEST - 1)) == []
    counts = {each: len(samples(clips(1, each))) for each in (3, 4, 5, 6, 7, 8, 12)}
    assert counts == {3: 1, 4: 1, 5: 1, 6: 2, 7: 2, 8: 2, 12: 3}
    assert [len(row["qa"]["parents"]) for row in samples(clips(1, 12), size=6)] == [6, 6]


def test_questions_of_other_parts_of_a_video_are_of_another_clip():
    parts = [
        Question(
            **{name: getattr(question, name) for name in question.__slots__}
            | {"start": float(place % 2), "end": 2.0}
        )
        for place, question in enumerate(clips(1, 6))
    ]
    rows = samples(parts)
    assert {row["clips"][0]["start"] for row in rows} == {0.0, 1.0}
    assert [len(row["qa"]["parents"]) for row in rows] == [3, 3]


def test_the_order_of_the_questions_does_not_matter():
    questions = clips(30)
    again = replace(questions[5], id="a", options=questions[5].options[::-1])
    questions.append(replace(again, right=questions[5].right[::-1]))  # asked twice
    assert samples(questions) == samples(questions[::-1])


def test_facts_become_rationales():
    facts = ["a b c", "fact of it"]
    questions = [
        asked(0, number, WORDS[:3], [True, False, False], kind=EXCLUSIVE, facts=facts)
        for number in range(3)
    ]
    (row,) = samples(questions)
    assert row["rationale"].startswith("seen a b c so\nA fact of it ")
    assert row["rationale"].endswith(("none no;", "none yes;"))
