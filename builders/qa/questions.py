"""Turn questions into samples: invert a share of them, order and letter options.

`decide` looks at one question at a time, so a batch engine can distribute it. `assemble` needs the
whole table, because how often "None of the options" is offered depends on how often it is right.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from nontrivial.builders.qa.benches.question import INDEPENDENT
from nontrivial.builders.qa.inversion import (
    NotInverted,
    blind_soft,
    decoy_rate,
    invert,
    leave_one_out,
    shuffled,
    uniform,
)
from nontrivial.manifests.answers import LETTERS, NONE, letters

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

ORIGINAL = "original"
NOT_DRAWN = "not drawn"
_DECIDED = ("new_question", "rule", "inverted", "order", "eligible", "reason")
_KEPT = ("split", "group", "start", "end", "family", "rule", "inverted")


def decide(frame: pl.DataFrame, *, ratio: float, seed: int) -> pl.DataFrame:
    """Decide whether each question is inverted, by which rule, and the order of its options.

    Adds `new_question`, `rule`, `inverted`, `order` (positions of the old options), `eligible` and
    `reason` (why it stays as it was, null if inverted). A hash of (seed, id) chooses the `ratio` of
    eligible questions that are inverted.
    """
    import polars as pl
    import pyarrow as pa

    fields = frame.select("id", "question", "options", "right", "kind").iter_rows()
    rows = [_decide_one(f"{seed}/{row[0]}", *row[1:], ratio=ratio) for row in fields]
    types = {"order": pa.list_(pa.int32()), "inverted": pa.bool_(), "eligible": pa.bool_()}
    columns = {
        name: pa.array([row[i] for row in rows], types.get(name, pa.string()))
        for i, name in enumerate(_DECIDED)
    }
    return frame.hstack(pl.DataFrame(pl.from_arrow(pa.table(columns))))


def _decide_one(
    key: str, question: str, options: list[str], right: list[bool], kind: str, *, ratio: float
) -> tuple[Any, ...]:
    everything = list(range(len(options)))
    inversion = invert(question, options, right, kind)
    if isinstance(inversion, NotInverted):
        return question, ORIGINAL, False, everything, inversion.eligible, inversion.reason
    if uniform(key, "invert") >= ratio:
        return question, ORIGINAL, False, everything, True, NOT_DRAWN
    kept = inversion.positions
    if kind != INDEPENDENT and len(kept) == len(options):
        kept = leave_one_out(kept, right.index(True), key)
    return inversion.question, inversion.rule, True, shuffled(kept, key), True, None


def assemble(decided: pl.DataFrame, *, source: str, seed: int) -> pa.Table:
    """Return the samples table; needs the columns of `decide` and `split`.

    `difficulty` is one minus the most that picking letters blindly earns of the soft reward.
    """
    import polars as pl
    import pyarrow as pa

    from nontrivial.manifests.schema import CLIP, MEDIA, QA, samples_of_columns

    original = _options(decided)
    shown = original.reordered(decided["order"].to_list(), decided["inverted"].to_numpy())
    shown = shown.with_none(_offers(decided, shown, seed) | (shown.right == 0))
    inverted = pl.col("inverted")
    renamed = pl.concat_str("id", pl.lit("/inverted"))
    table = decided.select(
        *_KEPT,
        id=pl.when(inverted).then(renamed).otherwise("id"),
        path="video",
        question="new_question",
        parent_id=pl.when(inverted).then("id"),
        original_question="question",
        original_options="options",
    ).to_arrow()
    column = {name: table[name].combine_chunks() for name in table.column_names}
    column["bytes"] = pa.nulls(len(decided))
    column["original_answer"] = original.letters()
    return samples_of_columns(
        {
            **{name: column[name] for name in ("id", "split", "group", "question")},
            "task": pa.repeat("video_qa", len(decided)),
            "source": pa.repeat(source, len(decided)),
            "options": shown.options(),
            "answer": shown.letters(),
            "videos": _each_in_a_list(_struct(MEDIA, column)),
            "clips": _each_in_a_list(_struct(CLIP, column, mask=column["start"].is_null())),
            "qa": _struct(QA, column),
            "difficulty": _difficulty(shown),
            "rationale": pa.array(_rationales(decided, original, shown), pa.string()),
        }
    )


def as_they_were(decided: pl.DataFrame) -> tuple[pa.ListArray, pa.ListArray]:
    """Return the options before inversion, with `NONE` where nothing is right, and their truth."""
    original = _options(decided)
    original = original.with_none(original.right == 0)
    return original.options(), original.in_lists(original.truth)


def option_by_option(facts: Sequence[str], answer: Collection[str]) -> str:
    """Write what holds for each option and whether it is right, one option per line.

    >>> print(option_by_option(["red blue hit", "red green miss"], {"A"}))
    A red blue hit yes;
    B red green miss no;
    """
    return "\n".join(
        f"{letter} {fact} {'yes' if letter in answer else 'no'};"
        for letter, fact in zip(letters(len(facts)), facts, strict=True)
    )


@dataclass(frozen=True)
class _Options:
    """The options of Q questions, N in all, as one flat sequence.

    texts   the texts of all options, then `NONE`
    counts  (Q,) number of options of each question
    place   (N,) index of each option in `texts`
    truth   (N,) bool
    """

    texts: pa.Array
    counts: np.ndarray
    place: np.ndarray
    truth: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """Index of the first option of each question, (Q,)."""
        return np.cumsum(self.counts) - self.counts

    @property
    def question(self) -> np.ndarray:
        """Index of each option's question, (N,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def right(self) -> np.ndarray:
        """Number of right options of each question, (Q,)."""
        return np.bincount(self.question[self.truth], minlength=len(self.counts))

    def reordered(self, orders: Sequence[Sequence[int]], flipped: np.ndarray) -> _Options:
        """Select and order the options of each question; flip truth where `flipped`, (Q,) bool."""
        counts = np.array([len(order) for order in orders], np.int64)
        index = np.repeat(self.starts, counts)
        index += np.fromiter(chain.from_iterable(orders), np.int64, len(index))
        truth = self.truth[index] != np.repeat(flipped, counts)
        return _Options(self.texts, counts, self.place[index], truth)

    def with_none(self, offered: np.ndarray) -> _Options:
        """Append `NONE` to the questions that offer it, (Q,) bool; right if nothing else is."""
        ends = np.cumsum(self.counts)[offered]
        place = np.insert(self.place, ends, len(self.texts) - 1)
        truth = np.insert(self.truth, ends, self.right[offered] == 0)
        return _Options(self.texts, self.counts + offered, place, truth)

    def options(self) -> pa.ListArray:
        return self.in_lists(self.texts.take(self.place))

    def letters(self) -> pa.ListArray:
        """Letters of the right options, in ascending order."""
        number = np.arange(len(self.place)) - self.starts[self.question]
        return self.in_lists(np.array(list(LETTERS))[number[self.truth]], self.right)

    def in_lists(self, values: Any, counts: np.ndarray | None = None) -> pa.ListArray:
        """Split values into one list per question, by `counts` where not all options have one."""
        import pyarrow as pa

        counts = self.counts if counts is None else counts
        return pa.ListArray.from_arrays(np.append(0, np.cumsum(counts)).astype(np.int32), values)


def _options(decided: pl.DataFrame) -> _Options:
    """Return the options as the benchmark has them."""
    import pyarrow as pa

    texts = decided["options"].explode().to_arrow().cast(pa.string())
    return _Options(
        pa.concat_arrays([texts, pa.array([NONE])]),
        decided["options"].list.len().to_numpy().astype(np.int64),
        np.arange(len(texts)),
        decided["right"].explode().to_numpy().astype(bool),
    )


def _offers(decided: pl.DataFrame, shown: _Options, seed: int) -> np.ndarray:
    """Draw the questions that offer NONE although something is right, (Q,) bool.

    Each family has one rate for its inverted questions and one for the others.
    """
    import polars as pl

    offers = np.zeros(len(decided), bool)
    independent = decided.with_row_index().filter(pl.col("kind") == INDEPENDENT)
    families = independent.group_by("family", "inverted").agg("index", "id")
    for numbers, names in families.select("index", "id").iter_rows():
        rate = decoy_rate(shown.right[numbers].tolist())
        drawn = [uniform(f"{seed}/{name}", "none") < rate for name in names]
        offers[numbers] = drawn | (shown.counts[numbers] < 2)
    return offers


def _difficulty(shown: _Options) -> np.ndarray:
    """Return difficulties, (Q,) float32, computed once per pair of option and answer counts."""
    pairs = np.stack([shown.counts, shown.right], 1)
    pairs, inverse = np.unique(pairs, axis=0, return_inverse=True)
    difficulties = np.array([1 - blind_soft(*pair) for pair in pairs.tolist()], np.float32)
    return difficulties[inverse.ravel()]


def _struct(fields: pa.StructType, column: dict[str, pa.Array], **options: Any) -> pa.StructArray:
    import pyarrow as pa

    arrays = [column[field.name].cast(field.type) for field in fields]
    return pa.StructArray.from_arrays(arrays, fields=list(fields), **options)


def _each_in_a_list(values: pa.Array) -> pa.ListArray:
    import pyarrow as pa

    return pa.ListArray.from_arrays(np.arange(len(values) + 1, dtype=np.int32), values)


def _rationales(decided: pl.DataFrame, original: _Options, shown: _Options) -> list[str | None]:
    """Write what is seen and what holds for each option, where the source carries its truth."""
    rationales: list[str | None] = [None] * len(decided)
    known = decided.with_row_index().filter(decided["facts"].list.len() > 0)
    if known.is_empty():
        return rationales
    answers, starts, firsts = shown.letters(), shown.starts, original.starts
    none = len(shown.texts) - 1
    rows = known.select("index", "facts", "options", "kind").iter_rows()
    for number, (seen, *facts), options, kind in rows:
        independent = kind == INDEPENDENT
        if len(facts) != (len(options) if independent else 1):
            continue
        known_of = facts if independent else options
        places = shown.place[starts[number] :][: shown.counts[number]].tolist()
        listed = ["none" if at == none else known_of[at - firsts[number]] for at in places]
        conclusion = "" if independent else f" {facts[0]};"
        steps = option_by_option(listed, answers[number].as_py())
        rationales[number] = f"seen {seen} so{conclusion}\n{steps}"
    return rationales
