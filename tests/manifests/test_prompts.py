"""What the policy is asked and taught: placeholders for media, lettered options, tagged answers."""

from __future__ import annotations

import doctest

import pytest

from nontrivial.manifests import prompts
from nontrivial.manifests.answers import answer_block, is_formatted, read_answer
from nontrivial.manifests.prompts import INSTRUCTIONS, messages, question_text, target_text
from nontrivial.manifests.schema import TASKS
from tests.rows import media, reid_pair, video_question


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(prompts).failed == 0


def test_every_task_has_an_instruction_that_asks_for_both_tags():
    assert set(INSTRUCTIONS) == set(TASKS)
    for text in INSTRUCTIONS.values():
        assert "<think> </think>" in text
        assert "<answer> </answer>" in text


@pytest.mark.parametrize("task", TASKS)
def test_one_can_be_asked_to_answer_at_once(task):
    text = question_text("Which?", ["red", "blue"], task, "answer")
    assert "think" not in text
    assert text.endswith(INSTRUCTIONS[task].partition("then answer inside ")[2])
    taught = target_text(["B"], "a reason", "answer")
    assert taught == "<answer>B</answer>"
    assert is_formatted(taught, thought=False)
    assert not is_formatted(taught)
    assert not is_formatted(target_text(["B"], "a reason"), thought=False)


def test_options_are_lettered_one_to_a_line():
    lines = question_text("Which?", ["red", "blue", "neither"], "video_qa").splitlines()
    assert lines[:4] == ["Which?", "A red", "B blue", "C neither"]


@pytest.mark.parametrize(
    ("sample", "kinds"),
    [
        (reid_pair(), ["image", "image", "text"]),
        (
            reid_pair(task="reid_choice", images=[media("a")] * 4, videos=None),
            [*["image"] * 4, "text"],
        ),
        (video_question(images=None), ["video", "text"]),
    ],
)
def test_media_come_first_one_placeholder_each(sample, kinds):
    (turn,) = messages(sample)
    assert turn["role"] == "user"
    assert [part["type"] for part in turn["content"]] == kinds


def test_parts_hold_no_media_of_their_own():
    """A part with an `image` key, even null, is taken for an image by chat templates."""
    for part in messages(reid_pair())[0]["content"]:
        assert set(part) == {"type"} | ({"text"} if part["type"] == "text" else set())


def test_each_placeholder_becomes_one_in_the_text(tiny_policy_dir):
    from nontrivial.models.policy import load_processor

    processor = load_processor(str(tiny_policy_dir))
    for sample, token in ((reid_pair(), "<|image_pad|>"), (video_question(), "<|video_pad|>")):
        text = processor.apply_chat_template(messages(sample), tokenize=False)
        assert text.count(token) == len(sample["images"]) + len(sample["videos"])
        assert sample["question"] in text


@pytest.mark.parametrize("rationale", [None, "", "red shirt, red shirt; so they match"])
def test_what_is_taught_is_well_formed_and_reads_as_the_answer(rationale):
    text = target_text(["C", "A"], rationale)
    assert is_formatted(text)
    assert answer_block(text) == "A,C"
    assert read_answer(text, ["x", "y", "z"]) == {"A", "C"}
