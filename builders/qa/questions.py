"""A table of questions -> samples of the contract: which are inverted, their options and letters.

`decide` looks at each question by itself and is what a batch engine distributes; `assemble` needs
the whole table, because how often "None of the options" is offered depends on how often it is
right.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nontrivial.builders.qa.benches.question import INDEPENDENT
from nontrivial.builders.qa.inversion import (
    NotInverted,
    blind_soft,
    deal,
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
    import polars as pl
    import pyarrow as pa

    from nontrivial.manifests.schema import CLIP, MEDIA, QA, samples_of_columns

    own = _options(decided)
    put = own.reordered(_deal(decided, seed), decided["inverted"].to_numpy())
    put = put.with_none(_offers(decided, put, seed) | (put.right == 0))
    inverted = pl.col("inverted")
    renamed = pl.concat_str("id", pl.lit("/inverted"))
    told = decided.select(
        "split",
        "group",
        "video",
        "start",
        "end",
        "family",
        "rule",
        "inverted",
        id=pl.when(inverted).then(renamed).otherwise("id"),
        question="new_question",
        parent_id=pl.when(inverted).then("id"),
        original_question="question",
        original_options="options",
    ).to_arrow()
    column = {name: told[name].combine_chunks() for name in told.column_names}
    clip = [column["start"].cast(pa.float64()), column["end"].cast(pa.float64())]
    videos = pa.StructArray.from_arrays(
        [pa.nulls(len(decided), pa.binary()), column["video"].cast(pa.string())], fields=list(MEDIA)
    )
    clips = pa.StructArray.from_arrays(clip, fields=list(CLIP), mask=column["start"].is_null())
    column["original_answer"] = own.letters()
    qa = [column[field.name].cast(field.type) for field in QA]
    return samples_of_columns(
        {
            **{name: column[name] for name in ("id", "split", "group", "question")},
            "task": pa.array(["video_qa"] * len(decided)),
            "source": pa.array([source] * len(decided)),
            "options": put.options(),
            "answer": put.letters(),
            "videos": _each_in_a_list(videos),
            "clips": _each_in_a_list(clips),
            "qa": pa.StructArray.from_arrays(qa, fields=list(QA)),
            "difficulty": _difficulty(put),
            "rationale": pa.array(_rationales(decided, own, put), pa.string()),
        }
    )


def as_they_were(decided: pl.DataFrame) -> tuple[pa.ListArray, pa.ListArray]:
    """Options of the questions before anything is inverted, and the truth of each: `NONE` is
    offered where nothing else is right."""
    put = _options(decided)
    put = put.with_none(put.right == 0)
    return put.options(), put.in_lists(put.truth)


def option_by_option(facts: Sequence[str], answer: Collection[str]) -> str:
    """What holds for each option and whether it is right, an option a line.

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
    """The options of Q questions, N in all, as they are put to who answers.

    texts   the texts of all questions' options, `NONE` the last of them
    counts  (Q,) options of each question
    place   (N,) of an option in `texts`
    truth   (N,) bool
    """

    texts: pa.Array
    counts: np.ndarray
    place: np.ndarray
    truth: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """Where the options of each question begin, (Q,)."""
        return np.cumsum(self.counts) - self.counts

    @property
    def question(self) -> np.ndarray:
        """Whose option each is, (N,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def right(self) -> np.ndarray:
        """How many options of each question are right, (Q,)."""
        return np.bincount(self.question[self.truth], minlength=len(self.counts))

    def reordered(self, orders: Sequence[Sequence[int]], flipped: np.ndarray) -> _Options:
        """Some options of each question in another order; truth is flipped where asked for (Q,)."""
        counts = np.array([len(order) for order in orders], np.int64)
        at = np.repeat(self.starts, counts)
        at += np.fromiter(itertools.chain.from_iterable(orders), np.int64, len(at))
        truth = self.truth[at] != np.repeat(flipped, counts)
        return _Options(self.texts, counts, self.place[at], truth)

    def with_none(self, offered: np.ndarray) -> _Options:
        """`NONE` behind the options of those (Q,) that offer it; right if nothing else is."""
        ends = np.cumsum(self.counts)[offered]
        place = np.insert(self.place, ends, len(self.texts) - 1)
        truth = np.insert(self.truth, ends, self.right[offered] == 0)
        return _Options(self.texts, self.counts + offered, place, truth)

    def options(self) -> pa.ListArray:
        return self.in_lists(self.texts.take(self.place))

    def letters(self) -> pa.ListArray:
        """The letters of the right options, in ascending order."""
        number = np.arange(len(self.place)) - self.starts[self.question]
        return self.in_lists(np.array(list(LETTERS))[number[self.truth]], self.right)

    def in_lists(self, values: Any, counts: np.ndarray | None = None) -> pa.ListArray:
        """Values of all options, or of some, as a list a question."""
        import pyarrow as pa

        counts = self.counts if counts is None else counts
        return pa.ListArray.from_arrays(np.append(0, np.cumsum(counts)).astype(np.int32), values)


def _options(decided: pl.DataFrame) -> _Options:
    """The options as the benchmark has them."""
    import pyarrow as pa

    texts = decided["options"].explode().to_arrow().cast(pa.string())
    return _Options(
        pa.concat_arrays([texts, pa.array([NONE])]),
        decided["options"].list.len().to_numpy().astype(np.int64),
        np.arange(len(texts)),
        decided["right"].explode().to_numpy().astype(bool),
    )


def _deal(decided: pl.DataFrame, seed: int) -> list[list[int]]:
    """The orders, with the letters of inverted single-choice questions' one wrong option dealt."""
    orders = decided["order"].to_list()
    rows = decided.select("id", "right", single=_is_single()).iter_rows()
    single = [(number, *row[:2]) for number, row in enumerate(rows) if row[2]]
    dealt = deal(
        [orders[number] for number, _, _ in single],
        [right.index(True) for _, _, right in single],
        [f"{seed}/{name}" for _, name, _ in single],
    )
    for (number, _, _), order in zip(single, dealt, strict=True):
        orders[number] = order
    return orders


def _is_single() -> pl.Expr:
    import polars as pl

    return pl.col("inverted") & (pl.col("kind") != INDEPENDENT)


def _offers(decided: pl.DataFrame, put: _Options, seed: int) -> np.ndarray:
    """Which questions offer NONE although something is right, at one rate a family, (Q,) bool."""
    families: dict[tuple[str, bool], list[int]] = defaultdict(list)
    rows = decided.select("kind", "family", "inverted").iter_rows()
    for number, (kind, *family) in enumerate(rows):
        if kind == INDEPENDENT:
            families[tuple(family)].append(number)
    offers, names = np.zeros(len(decided), bool), decided["id"].to_list()
    for numbers in families.values():
        rate = decoy_rate(put.right[numbers].tolist())
        for number in numbers:
            drawn = uniform(f"{seed}/{names[number]}", "none") < rate
            offers[number] = drawn or put.counts[number] < 2
    return offers


def _difficulty(put: _Options) -> np.ndarray:
    """(Q,) float32; the same for all questions of as many options and right ones."""
    kinds, which = np.unique(np.stack([put.counts, put.right], 1), axis=0, return_inverse=True)
    earned = np.array([1 - blind_soft(*kind) for kind in kinds.tolist()], np.float32)
    return earned[which.ravel()]


def _each_in_a_list(values: pa.Array) -> pa.ListArray:
    import pyarrow as pa

    return pa.ListArray.from_arrays(np.arange(len(values) + 1, dtype=np.int32), values)


def _rationales(decided: pl.DataFrame, own: _Options, put: _Options) -> list[str | None]:
    """What is seen and what holds for each option, where the source carries its truth."""
    told: list[str | None] = [None] * len(decided)
    known = decided.with_row_index().filter(decided["facts"].list.len() > 0)
    if known.is_empty():
        return told
    answers, starts, firsts, none = put.letters(), put.starts, own.starts, len(put.texts) - 1
    for number, (seen, *facts), options, kind in known.select(
        "index", "facts", "options", "kind"
    ).iter_rows():
        independent = kind == INDEPENDENT
        if len(facts) != (len(options) if independent else 1):
            continue
        known_of = facts if independent else options
        places = put.place[starts[number] :][: put.counts[number]].tolist()
        shown = ["none" if at == none else known_of[at - firsts[number]] for at in places]
        concluded = "" if independent else f" {facts[0]};"
        listed = option_by_option(shown, answers[number].as_py())
        told[number] = f"seen {seen} so{concluded}\n{listed}"
    return told
