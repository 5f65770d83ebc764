"""Negated questions ask for exactly the other options, in English, or not at all."""

from __future__ import annotations

import doctest
import json

import pytest

from nontrivial.builders.qa import grammar, negation
from nontrivial.builders.qa.negation import FALLBACK, Negation, NotNegated, negate, toggle
from tests.reference.inversion_faults import (
    is_doubly_negated,
    is_ill_formed,
    is_unchanged,
    negates_a_clause,
)

QUESTIONS = {
    "Why did the girl in blue carry the bag?": "Which of the following is NOT a reason why the "
    "girl in blue carried the bag?",
    "why is the cook stirring the soup": "which of the following is NOT a reason why the cook is "
    "stirring the soup",
    "How does the dog open the gate?": "Which of the following is NOT how the dog opens the gate?",
    "Where was the parcel put?": "Which of the following is NOT where the parcel was put?",
    "What did the nurse do after she sat down?": "Which of the following did the nurse NOT do "
    "after she sat down?",
    "What are the twins doing?": "Which of the following are the twins NOT doing?",
    "What will the driver do next?": "Which of the following will the driver NOT do next?",
    "Which tool was used by the plumber?": "Which tool was NOT used by the plumber?",
    "What color is the second car?": "Which of the following is NOT the color of the second car?",
    "What is the relationship between Ana and Bo?": "Which of the following is NOT the "
    "relationship between Ana and Bo?",
    "According to the video, what happened after the storm?": "According to the video, which of "
    "the following did NOT happen after the storm?",
    "If the ramp is removed, what will happen?": "If the ramp is removed, what will NOT happen?",
    "What's the plan, and why is it risky?": FALLBACK + "What's the plan, and why is it risky?",
}
TYPOS = (
    "why did the man walked to the door",  # a past form behind "did"
    "why the child is crying",  # no question at all
    "why does the girl wearing a hat reading a book smiles",  # two candidates
    "Which of the following best explains the noise?",  # a superlative
    "The train is going at which speed?",  # the wh-word is not first
    "where the boy hid the ball",  # a clause, not a question
    "For what reason did the guard leave?",  # why in other words
    "which tools did she use and in what order?",  # two questions
    "what does the chef chop: a leek or an onion?",
    "What is the change occurring in the pond?",  # the verb takes no object
    "What do we know about the speed?",  # asks for what we know, not for what is
)
# The verb might belong to the noun phrase: a NOT in front of it would ask about another thing.
PHRASES = (
    "What color is the scarf worn by the woman?",
    "What is the main setting of the video?",
    "What is the relationship between the people hanging out?",
    "What is the animal flying in the sky?",
    "Which one is a condition for successfully applying?",
    "Which country does the athlete, who was in first place, represent?",
    "what is the black cat behind doing",
    "What is the man in the hat holding?",
    "What did the boy who is wearing a hat hold?",
    "In which direction does the boat turn?",
    "what does the coach want to do",
    "what does the coach let the girl do",
    "Who closed the door?",
    "How would you describe the pace?",
)
# What NOT would reach or not: "might NOT be" is no denial of "might be".
SCOPED = (
    "What might the powder be?",
    "What should the driver do?",
    "What did both of them do after the race?",
    "What does the guard often do?",
    "What else did the girl buy?",
    "Which tool is always used?",
)
NEGATIVE = (
    "Why didn't the boy jump?",
    "Why is the gate not open?",
    "Which of these is not what it does not show?",
    "What does the cat never do?",
    "All of these appear EXCEPT which?",
    "why did nt he stay",
    "why doesn t the horse jump",
    "Which object fails to fall?",
    "Which statement is incorrect?",
)


def test_examples_hold():
    assert doctest.testmod(negation).failed == 0
    assert doctest.testmod(grammar).failed == 0


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_family_is_reformulated(question):
    assert negate(question).text == QUESTIONS[question]


@pytest.mark.parametrize("question", TYPOS)
def test_what_no_rule_understands_keeps_its_words(question):
    made = negate(question)
    assert made == Negation(FALLBACK + question, "fallback")


@pytest.mark.parametrize("question", SCOPED)
def test_no_negation_goes_where_its_scope_is_in_doubt(question):
    assert negate(question) == Negation(FALLBACK + question, "fallback")


def test_a_scoped_word_behind_the_negation_does_no_harm():
    assert negate("Why should everyone leave the room?").text == (
        "Which of the following is NOT a reason why everyone should leave the room?"
    )


@pytest.mark.parametrize("question", PHRASES)
def test_no_negation_lands_in_a_noun_phrase(question):
    assert negate(question) == Negation(FALLBACK + question, "fallback")


@pytest.mark.parametrize("question", NEGATIVE)
def test_a_negative_question_is_refused(question):
    assert negate(question) == NotNegated(negation.IS_NEGATIVE)


@pytest.mark.parametrize(
    ("question", "affirmed"),
    [
        ("Which of these tools is not shown?", "Which of these tools is shown?"),
        (
            "In the video, what step is NOT part of the recipe?",
            "In the video, what step is part of the recipe?",
        ),
    ],
)
def test_a_negated_choice_loses_its_not(question, affirmed):
    assert negate(question) == Negation(affirmed, "affirmed")


def test_case_names_and_punctuation_are_kept():
    assert negate("what does Dr. O'Neil hold").text.startswith(FALLBACK)
    assert negate("What does Zoë-Ann hold?").text.endswith("Zoë-Ann hold?")
    assert "NASA" in negate("why is the NASA rover turning around").text
    assert (
        negate("why is it moving").text == "which of the following is NOT a reason why it is moving"
    )


@pytest.mark.parametrize("question", [*QUESTIONS, *TYPOS])
def test_no_fault_of_published_inversions(question):
    made = negate(question).text
    assert not is_unchanged(question, made)
    assert not negates_a_clause(made)
    assert not is_doubly_negated(made)
    assert not is_ill_formed(made)


def test_the_searchers_find_the_faults():
    assert is_unchanged("What is it?", "what is it")
    assert negates_a_clause("Why didn't he go?")
    assert negates_a_clause("How does he not fall?")
    assert is_doubly_negated("What won't not happen?")
    assert not negates_a_clause("Which of the following is NOT a reason why he left?")


@pytest.mark.parametrize(
    "question",
    [
        "What will happen next?",
        "Without the cube, which event will happen?",
        "Which of the following will not happen if the red ball is removed?",
        "Which of the following is not responsible for the collision?",
        "What is responsible for the ball's exit?",
    ],
)
def test_toggling_twice_gives_the_question_back(question):
    once = toggle(question)
    assert not is_unchanged(question, once.text)
    assert not is_doubly_negated(once.text)
    assert toggle(once.text).text == question


def test_toggling_removes_a_contraction():
    assert toggle("What won't happen?").text == "What will happen?"


@pytest.mark.parametrize(
    "question", ["What moves?", "What will never happen?", "It will happen or will happen?"]
)
def test_toggling_refuses_what_is_no_template(question):
    assert toggle(question) == NotNegated(negation.NO_TEMPLATE)


def test_counts_of_a_closed_family_have_a_rule():
    assert negate("How many spheres enter the scene?", closed=True).text == (
        "Which of the following is NOT the number of spheres that enter the scene?"
    )
    assert negate("How many cubes are there when the video ends?", closed=True).text == (
        "Which of the following is NOT the number of cubes when the video ends?"
    )


def test_a_second_verb_is_never_left_uninflected():
    assert negate("Why did he stop and wave?").rule == "fallback"
    assert negate("Why do they stop and wave?").text.endswith("why they stop and wave?")


def test_questions_of_real_files_have_no_fault(shared_data):
    for name in ("mvbench_clevrer_500", "video_r1_mmvu_100", "video_r1_videomme_100"):
        records = json.loads((shared_data / f"{name}.json").read_text(encoding="utf-8"))
        for question in {record.get("question") or record["problem"] for record in records}:
            made = negate(question)
            if isinstance(made, Negation):
                assert not is_unchanged(question, made.text)
                assert not negates_a_clause(made.text), made.text
                assert not is_doubly_negated(made.text), made.text


@pytest.mark.parametrize("question", ["where is this happening", "where was this filmed"])
def test_a_verb_behind_this_is_not_taken_for_a_place(question):
    assert negate(question).rule == "fallback"
    assert negate("where is this place").text == "which of the following is NOT where this place is"


@pytest.mark.parametrize(
    "question",
    [
        "what is the black cat behind doing at the start",
        "What is the relationship like between the two men?",
        "what pattern is there in the pipe",
        "What is the protagonist of the video doing diving?",
        "What is the main activity the first-person character is doing?",
        "How does the tree above grow compare to the tree below?",
        "Why is the man wearing sunglasses critically ill in the restroom?",
        "How is the person above climbing compared to the person below?",
        "Where was the L-Shaped Measuring Scale?",
        "Why did the iron block in the video rise?",
        "How does the speed of color change in the forest above appear?",
        "Where is the land, on the seashore or in the sea?",
        "what in the man's hand is moving",
    ],
)
def test_what_may_be_read_in_two_ways_takes_the_fallback(question):
    assert negate(question).rule == "fallback"


def test_an_ending_stands_before_the_comma_and_a_fish_is_no_adverb():
    asked = "When did the work start, as the man said?"
    assert (
        negate(asked).text
        == "Which of the following is NOT when the work started, as the man said?"
    )
    asked = "Where is the group of blue fin trevally hunting?"
    assert "blue fin trevally is hunting" in negate(asked).text
