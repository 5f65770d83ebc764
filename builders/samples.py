"""A table of questions -> samples of the contract: which are inverted, their options and letters.

`decide` looks at each question by itself and is what a batch engine distributes; `assemble` needs
the whole table, because how often "None of the options" is offered depends on how often it is
right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from builders.benches.question import INDEPENDENT
from builders.inversion import (
    NotInverted,
    blind_soft,
    deal,
    decoy_rate,
    invert,
    leave_one_out,
    shuffled,
    uniform,
)
from builders.rationales import option_by_option
from manifests.answers import LETTERS, NONE

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

ORIGINAL = "original"
NOT_DRAWN = "not drawn"


def decide(frame: pl.DataFrame, *, ratio: float, seed: int) -> pl.DataFrame:
    """For each question: is it inverted, by which rule, and the order of its options.

    Adds `new_question`, `rule`, `inverted`, `order` (positions of the old options), `eligible` and
    `reason` (why it stays as it was, null if inverted). `ratio` of the eligible questions are
    inverted, chosen by a hash of (seed, id).
    """
    import polars as pl
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [] for name in _DECIDED}
    fields = frame.select("id", "question", "options", "right", "kind")
    for row in fields.iter_rows():
        for column, value in zip(columns.values(), _decide_one(*row, ratio, seed), strict=True):
            column.append(value)
    types = {"order": pa.list_(pa.int32()), "inverted": pa.bool_(), "eligible": pa.bool_()}
    arrays = {name: pa.array(v, types.get(name, pa.string())) for name, v in columns.items()}
    return frame.hstack(pl.DataFrame(pl.from_arrow(pa.table(arrays))))


_DECIDED = ("new_question", "rule", "inverted", "order", "eligible", "reason")


def _decide_one(
    name: str,
    question: str,
    options: list[str],
    right: list[bool],
    kind: str,
    ratio: float,
    seed: int,
) -> tuple[Any, ...]:
    everything = list(range(len(options)))
    made = invert(question, options, right, kind)
    if isinstance(made, NotInverted):
        return question, ORIGINAL, False, everything, made.eligible, made.reason
    key = f"{seed}/{name}"
    if uniform(key, "invert") >= ratio:
        return question, ORIGINAL, False, everything, True, NOT_DRAWN
    kept = made.positions
    if kind != INDEPENDENT and len(kept) == len(options):
        kept = leave_one_out(kept, right.index(True), key)
    return made.question, made.rule, True, shuffled(kept, key), True, None


def assemble(decided: pl.DataFrame, *, source: str, seed: int) -> pa.Table:
    """The samples table; needs the columns of `decide` and `split`.

    `difficulty` is one minus the most that picking letters blindly earns of the soft reward.
    """
    from manifests.schema import samples_table

    rows = decided.to_dicts()
    _deal(rows, seed)
    truths = [_truths(row) for row in rows]
    offers = _offers(rows, truths, seed)
    return samples_table(
        _sample(row, truth, offered, source)
        for row, truth, offered in zip(rows, truths, offers, strict=True)
    )


def _deal(rows: list[dict[str, Any]], seed: int) -> None:
    """Deal the letters of the one wrong option of inverted single-choice questions."""
    single = [row for row in rows if row["inverted"] and row["kind"] != INDEPENDENT]
    answers = [row["right"].index(True) for row in single]
    keys = [f"{seed}/{row['id']}" for row in single]
    dealt = deal([row["order"] for row in single], answers, keys)
    for row, order in zip(single, dealt, strict=True):
        row["order"] = order


def _truths(row: dict[str, Any]) -> list[bool]:
    """Truth values in the new order: the old ones, flipped where the question is inverted."""
    return [row["right"][position] != row["inverted"] for position in row["order"]]


def _offers(rows: Sequence[dict[str, Any]], truths: list[list[bool]], seed: int) -> list[bool]:
    """Whether each question offers NONE although something is right, at one rate a family."""
    families: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if row["kind"] == INDEPENDENT:
            families[row["family"], row["inverted"]].append(number)
    offers = [False] * len(rows)
    for numbers in families.values():
        rate = decoy_rate(truths[number] for number in numbers)
        for number in numbers:
            alone = len(truths[number]) < 2
            offers[number] = alone or uniform(f"{seed}/{rows[number]['id']}", "none") < rate
    return offers


def _sample(row: dict[str, Any], truth: list[bool], offered: bool, source: str) -> dict[str, Any]:
    """One row of the contract."""
    options = [row["options"][position] for position in row["order"]]
    offered = offered or not any(truth)
    if offered:
        options, truth = [*options, NONE], [*truth, not any(truth)]
    answer = _letters(truth)
    return {
        "id": f"{row['id']}/inverted" if row["inverted"] else row["id"],
        "task": "video_qa",
        "source": source,
        "split": row["split"],
        "group": row["group"],
        "question": row["new_question"],
        "options": options,
        "answer": answer,
        "videos": [{"bytes": None, "path": row["video"]}],
        "clips": [None if row["start"] is None else {"start": row["start"], "end": row["end"]}],
        "qa": {
            "family": row["family"],
            "rule": row["rule"],
            "inverted": row["inverted"],
            "parent_id": row["id"] if row["inverted"] else None,
            "original_question": row["question"],
            "original_options": row["options"],
            "original_answer": _letters(row["right"]),
        },
        "difficulty": 1 - blind_soft(len(options), len(answer)),
        "rationale": _rationale(row, offered, answer),
    }


def _letters(truth: Sequence[bool]) -> list[str]:
    return [letter for letter, right in zip(LETTERS, truth, strict=False) if right]


def _rationale(row: dict[str, Any], offered: bool, answer: list[str]) -> str | None:
    """What is seen and what holds for each option, where the source carries its truth."""
    seen, *facts = row["facts"] or [None]
    independent = row["kind"] == INDEPENDENT
    if len(facts) != (len(row["options"]) if independent else 1):
        return None
    told = facts if independent else row["options"]
    options = [told[position] for position in row["order"]] + ["none"] * offered
    concluded = "" if independent else f" {facts[0]};"
    return f"seen {seen} so{concluded}\n{option_by_option(options, answer)}"
