"""Drills: every answer follows from what their reasons say is seen, by reading alone."""

from __future__ import annotations

import re

import pytest

from nontrivial.manifests.answers import NONE
from scripts.embedded.drills import FEWEST, MOST, PAIRS, drills

NAME = re.compile(r"[a-z]+ (?:cube|sphere|cylinder)")
ROWS = list(drills(60, seed=3))


def seen(row: dict) -> tuple[list[str], list[str], list[set[str]]]:
    """Return the objects that move, those that do not, and the pairs that collide."""
    told = row["rationale"].split("\n")[0]
    moves, still, *hits = told.removesuffix(" so").split("; ")
    pairs = [set(NAME.findall(hit)) for hit in hits]
    return NAME.findall(moves), NAME.findall(still), pairs


def is_right(row: dict, option: str) -> bool:
    """Judge an option by what is seen."""
    moves, still, hits = seen(row)
    names = NAME.findall(option)
    if row["question"] == PAIRS:
        return set(names) in hits
    if "move?" in row["question"]:
        return names[0] in moves
    if "stay" in row["question"]:
        return names[0] in still
    return any(names[0] in hit for hit in hits)


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_the_answer_follows_from_what_is_told(row):
    options = [option for option in row["options"] if option != NONE]
    right = [is_right(row, option) for option in options]
    letters = [chr(65 + k) for k, good in enumerate(right) if good]
    if not letters:
        letters = [chr(65 + len(options))]
        assert row["options"][-1] == NONE
    assert row["answer"] == letters
    assert FEWEST <= len(options) <= MOST


def test_all_kinds_are_asked_and_the_order_of_the_list_does_not_help():
    assert len({row["question"] for row in ROWS}) == 4
    by_name = [row for row in ROWS if row["question"] != PAIRS]
    asked = [[NAME.search(o)[0] for o in row["options"] if NAME.search(o)] for row in by_name]
    assert sum(len(set(names)) < len(names) for names in asked) > len(asked) / 2
    listed = [[*moves, *still] for moves, still, _ in map(seen, by_name)]
    in_order = [
        [name for name in names if name in told][: len(told)] == told
        for names, told in zip(asked, listed, strict=True)
    ]
    assert sum(in_order) < len(in_order) / 10


def test_none_of_the_options_is_not_only_offered_where_it_is_right():
    offered = [row for row in ROWS if row["options"][-1] == NONE]
    right = [row for row in offered if len(row["answer"]) == 1 and "none yes" in row["rationale"]]
    assert 0 < len(right) < len(offered)
