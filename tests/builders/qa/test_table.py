"""A table of any form: columns are named by the user, answers never guessed."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest

from nontrivial.builders.qa.benches import Place, load, mmvu, table
from nontrivial.builders.qa.benches.columns import Columns, reader
from nontrivial.manifests.errors import BadInput
from tests.builders.qa.questions import write_json

OPTIONS = ["run", "hide", "eat", "sleep"]


def rows(answers: list[Any], options: list[str] = OPTIONS, **more: Any) -> list[dict[str, Any]]:
    """One record for each answer."""
    base = {"video": "v.mp4", "question": "what?", "options": options, **more}
    return [base | {"id": number, "answer": answer} for number, answer in enumerate(answers)]


def read(tmp_path: Path, records: list[dict], renamed: str | None = None, form: str | None = None):
    path = write_json(tmp_path / "x.json", records)
    return load("table", tmp_path, "train", annotations=path, renamed=renamed, answer_is=form).frame


def right(frame) -> list[int]:
    """The position of the right option of each row."""
    return [row.index(True) for row in frame["right"].to_list()]


def test_examples_hold():
    assert doctest.testmod(table).failed == 0


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["B", "a", "(C)", "D."], [1, 0, 2, 3]),
        (["hide", "run", "eat", "sleep"], [1, 0, 2, 3]),
        ([1, 0, 2, 3], [1, 0, 2, 3]),  # a 0 tells that they count from 0
        ([2, 1, 3, 4], [1, 0, 2, 3]),  # a 4 of four that they count from 1
        (["2.0", "1.0", "3.0", "4.0"], [1, 0, 2, 3]),
    ],
)
def test_answers_that_can_be_read_in_one_way_are(tmp_path, answers, expected):
    assert right(read(tmp_path, rows(answers))) == expected


@pytest.mark.parametrize(
    ("records", "ways"),
    [
        (rows([1, 2, 3]), "index0 and as index1"),
        (rows([1, 0, 2], ["3", "2", "1", "0"]), "text and as letter and as index0"),
        (rows(["x", "y"]), "none of text, letter, index0, index1"),
    ],
)
def test_an_answer_with_two_readings_is_an_error_that_shows_rows(tmp_path, records, ways):
    with pytest.raises(BadInput) as caught:
        read(tmp_path, records)
    message = str(caught.value)
    assert ways in message
    assert "--answer text|letter|index0|index1" in message
    assert message.count("\n  answer ") == min(len(records), 3)


@pytest.mark.parametrize(
    ("form", "expected"), [("text", [0, 1]), ("index0", [1, 2]), ("index1", [0, 1])]
)
def test_the_user_says_how_answers_are_meant(tmp_path, form, expected):
    records = rows(["1", "2"], ["1", "2", "3", "4"])
    assert right(read(tmp_path, records, form=form)) == expected


def test_columns_have_the_names_that_the_user_gives(tmp_path):
    record = {"n": 5, "clip": 7, "q": "why?", "one": "x", "two": "y", "label": "two", "from": 1}
    record |= {"to": 3, "kind": "cause"}
    renamed = "id=n,video=clips/{clip}.mp4,question=q,options=one+two,answer=label,start=from"
    renamed += ",end=to,family=kind"
    row = read(tmp_path, [record | {"label": "y"}], renamed).row(0, named=True)
    assert (row["id"], row["video"], row["family"]) == ("table/5", "clips/7.mp4", "cause")
    assert (row["options"], row["right"]) == (["x", "y"], [False, True])
    assert (row["start"], row["end"]) == (1.0, 3.0)


@pytest.mark.parametrize(
    ("renamed", "message"),
    [
        ("video=nowhere", "no record has 'nowhere'"),
        ("clip=video", "needs NAME=COLUMN"),
        ("video", "needs NAME=COLUMN"),
    ],
)
def test_a_map_that_fits_nothing_says_what_there_is(tmp_path, renamed, message):
    with pytest.raises(BadInput, match=message):
        read(tmp_path, rows(["A"]), renamed)


@pytest.mark.parametrize(
    "options", [dict(zip("ABCD", OPTIONS, strict=True)), "\n".join(OPTIONS), str(OPTIONS)]
)
def test_options_may_be_a_mapping_or_a_text(tmp_path, options):
    frame = read(tmp_path, rows(["B"], options))
    assert (frame["options"].to_list(), right(frame)) == ([OPTIONS], [1])


def test_several_right_options_are_several_letters(tmp_path):
    frame = read(tmp_path, rows(["A,C", ["B", "D"]]))
    assert frame["right"].to_list() == [[True, False, True, False], [False, True, False, True]]


def test_only_a_table_has_columns_of_any_name(tmp_path):
    with pytest.raises(BadInput, match="--bench table"):
        load("star", tmp_path, "train", renamed="video=x")


@pytest.mark.parametrize(
    "change",
    [
        {"options": [str(number) for number in range(27)]},
        {"options": "[" * 5000},
        {"options": "['a', " + "(" * 3000},
        {"options": {"A": None}},
        {"options": 3},
        {"question": "\ud800"},
        {"question": "a" * 10_000_000},
        {"answer": {"a": 1}},
        {"answer": [[1]]},
        {"answer": "9" * 5000},
        {"start": "soon", "end": 2},
        {"video": ["v.mp4"]},
        {"id": None},
    ],
)
def test_a_nasty_record_is_refused_with_a_reason(tmp_path, change):
    path = write_json(tmp_path / "x.json", [*rows(["A"]), rows(["A"])[0] | {"id": 7} | change])
    loaded = load("table", tmp_path, "train", annotations=path, answer_is="letter")
    assert loaded.frame["id"].to_list() == ["table/0"]
    assert loaded.refused[0].reason


def marked(columns: Columns, **record: Any) -> str:
    """The option that a record's answer marks."""
    found = reader("table", columns)(
        {"id": "1", "question": "q", "video": "v.mp4"} | record, Place()
    )
    return found.options[found.right.index(True)]


HOLE = {"A": "x", "B": "", "C": "y", "D": "z"}


@pytest.mark.parametrize("columns", [{"options": tuple("ABCD")}, {"options": ("choices",)}])
@pytest.mark.parametrize(("form", "answer"), [("letter", "C"), ("index0", 2), ("index1", 3)])
def test_an_option_left_out_counts_in_letters_and_numbers(columns, form, answer):
    asked = Columns(id=("id",), answer_is=form, **columns)
    assert marked(asked, **HOLE, choices=HOLE, answer=answer) == "y"


def test_options_under_numbers_are_in_their_order():
    options = {str(number): f"o{number}" for number in range(1, 12)}
    columns = Columns(id=("id",), options=("choices",), answer_is="index1")
    assert marked(columns, choices=options, answer=2) == "o2"


def test_a_letter_of_mmvu_is_that_of_its_choice():
    record = {"id": "1", "video": "https://x/videos/a/1.mp4", "question": "q", "answer": "C"}
    record["question_type"] = "multiple-choice"
    assert mmvu.parse(record | {"choices": HOLE}, Place()).right == [False, True, False]
