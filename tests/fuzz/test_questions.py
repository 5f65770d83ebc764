"""Questions of any wording: inverted or made statements under the contract, or refused by name."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from nontrivial.builders.qa.benches import Bench, Place, Question, collect
from nontrivial.builders.qa.benches.question import EXCLUSIVE, INDEPENDENT, NEGATED, SINGLE
from nontrivial.builders.qa.clips import locate
from nontrivial.builders.qa.questions import assemble, decide
from nontrivial.builders.qa.statements import state
from nontrivial.manifests.answers import LETTERS, NONE
from nontrivial.manifests.schema import validate
from tests.fuzz.damage import each, other_text, tries

AT_ONCE = 100  # questions in one table
COUNT = tries(1000) // AT_ONCE + 1
KINDS = (INDEPENDENT, EXCLUSIVE, SINGLE, SINGLE, NEGATED)
ASKED = [
    "What did the boy do after he picked up the toy?",
    "Why is the woman in red, who isn't tall, pointing at the dog?",
    "Which of the following will not happen without the cyan cube?",
    "How many objects that aren't moving are there when the video ends",
    "Is it true that they won't leave?",
    "Who's the person?\nA. he\nB. she",
    "what, then",
]
OPTIONS = ["he walks away", "She laughs.", "a red cup", "the cup", "3", "three", "yes", "no"]
OPTIONS += ["both A and B", "none of the above", "not sure", "he doesn't", "walks", "to run away"]
WORDS = sorted({word for text in [*ASKED, *OPTIONS] for word in text.split()})


def wording(known: list[str], rng: random.Random) -> str:
    """A known text, the same changed, or words in any order."""
    draw = rng.random()
    if draw < 0.3:
        return rng.choice(known)
    if draw < 0.8:
        return other_text(rng.choice(known), rng, [*OPTIONS, *WORDS])
    return " ".join(rng.choices(WORDS, k=rng.randrange(1, 40)))


def record(number: int, rng: random.Random) -> dict[str, Any]:
    """The fields of a question, of which any may be unusable."""
    options = [wording(OPTIONS, rng) for _ in range(rng.choice([0, 1, 2, 3, 4, 5, 8, 25, 26]))]
    kind = rng.choice(KINDS)
    asked = wording(ASKED, rng)
    if rng.random() < 0.2:
        asked += rng.choice(["\n", " Options: "]) + "\n".join(
            f"{letter}{rng.choice(['.', ' ', ')', ''])} {option}"
            for letter, option in zip(LETTERS, options, strict=False)
        )
    right = [rng.random() < 0.3 for _ in options]
    if kind != INDEPENDENT and options and rng.random() < 0.9:
        right = [place == number % len(options) for place in range(len(options))]
    span = rng.choice([(None, None), (None, None), (0.0, 3.5), (2.0, 1.0), (0.0, float("nan"))])
    facts = rng.choice([None, None, ["seen", "so", *options], ["seen"]])
    texts = {
        "id": f"fuzz/{number}" if rng.random() < 0.98 else "fuzz/0",
        "video": rng.choice(["a.mp4", "b.mp4", wording(["c.mp4"], rng)]),
        "question": asked[:4000],
        "family": wording(["causal"], rng),
    }
    fields = {"options": options, "right": right, "kind": kind, "facts": facts}
    return texts | fields | {"group": texts["video"], "start": span[0], "end": span[1]}


def parse(known: Any, place: Place) -> Question:
    return Question(**known)


BENCH = Bench(folders=("fuzz",), files={}, layout="", origin="", parse=parse)


def check(rng: random.Random, root: Path) -> None:
    loaded = collect(BENCH, [record(number, rng) for number in range(AT_ONCE)], Place())
    located = locate(loaded.frame, root)
    refused = loaded.refused + located.refused
    assert all(refusal.reason for refusal in refused)
    assert len(located.frame) + len(refused) == AT_ONCE
    check_made(located.frame)


def check_made(frame: pl.DataFrame) -> None:
    """Rows of questions and of statements keep the contract, and what is right."""
    if frame.is_empty():
        return
    made = assembled(decide(frame, ratio=0.8, seed=0))
    assert len(made) == len(frame)
    known = {row["id"]: row for row in frame.iter_rows(named=True)}
    for row in made.to_pylist():
        check_row(row, known[row["qa"]["parent_id"] or row["id"]])
    stated = state(frame, seed=0)
    if len(stated):
        assembled(stated)


def assembled(decided: pl.DataFrame) -> pa.Table:
    made = assemble(decided.with_columns(split=pl.lit("train")), source="fuzz", seed=0)
    validate(made)
    return made


def check_row(row: dict[str, Any], known: dict[str, Any]) -> None:
    """Right options are the old right ones; of an inverted question, the old wrong ones."""
    truths: dict[str, set[bool]] = {}
    for text, right in zip(known["options"], known["right"], strict=True):
        truths.setdefault(text, set()).add(right)
    inverted = row["qa"]["inverted"]
    chosen = [LETTERS.index(letter) for letter in row["answer"]]
    for place, text in enumerate(row["options"]):
        if text in truths:
            assert ((place in chosen) != inverted) in truths[text], row
        else:
            assert text == NONE
            assert place not in chosen or chosen == [place]
    if inverted:
        assert row["question"] != row["qa"]["original_question"]
        assert known["kind"] != NEGATED
    else:
        assert set(truths) <= set(row["options"])


def test_any_question_keeps_the_contract_or_is_refused_by_name(tmp_path):
    each(COUNT, partial(check, root=tmp_path))
