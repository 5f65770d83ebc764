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
from nontrivial.builders.qa.exclusion import DEFAULT, Exclusion
from nontrivial.builders.qa.inversion import (
    NotInverted,
    blind_soft,
    decoy_rate,
    invert,
    shuffled,
    uniform,
)
from nontrivial.manifests.answers import LETTERS, NONE, letters

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

AT_ONCE = 20_000  # questions assembled at a time
ORIGINAL = "original"
NOT_DRAWN = "not drawn"
_DECIDED = {
    "new_question": str,
    "rule": str,
    "inverted": bool,
    "order": list,
    "eligible": bool,
    "reason": str,
    "left_out": tuple,
    "doubt": float,
    "parents": tuple,
}
_KEPT = ("split", "group", "start", "end", "family", "rule", "inverted", "doubt")


def decide(
    frame: pl.DataFrame, *, ratio: float, seed: int, rules: Exclusion = DEFAULT
) -> pl.DataFrame:
    """Decide whether each question is inverted, by which rule, and the order of its options.

    Adds `new_question`, `rule`, `inverted`, `order` (positions of the old options), `eligible`,
    `reason` (why it stays as it was, null if inverted), `left_out` (why options were), `doubt`, and
    `parents` (null). A hash of (seed, id) chooses the `ratio` of eligible ones that are inverted.
    """
    import polars as pl
    import pyarrow as pa

    fields = frame.select("id", "question", "options", "right", "kind").iter_rows()
    rows = [_decide_one(f"{seed}/{row[0]}", *row[1:], ratio=ratio, rules=rules) for row in fields]
    types = {str: pa.string(), bool: pa.bool_(), list: pa.list_(pa.int32()), float: pa.float32()}
    types[tuple] = pa.list_(pa.string())
    columns = {
        name: pa.array([row[i] for row in rows], types[kind])
        for i, (name, kind) in enumerate(_DECIDED.items())
    }
    return frame.hstack(pl.DataFrame(pl.from_arrow(pa.table(columns))))


def _decide_one(
    key: str,
    question: str,
    options: list[str],
    right: list[bool],
    kind: str,
    *,
    ratio: float,
    rules: Exclusion,
) -> tuple[Any, ...]:
    as_it_was = question, ORIGINAL, False, list(range(len(options)))
    inversion = invert(question, options, right, kind, rules)
    if isinstance(inversion, NotInverted):
        return *as_it_was, inversion.eligible, inversion.reason, (), None, None
    if uniform(key, "invert") >= ratio:
        return *as_it_was, True, NOT_DRAWN, (), None, None
    made = inversion.question, inversion.rule, True, shuffled(inversion.positions, key)
    return *made, True, None, inversion.left_out, inversion.doubt, None


def assemble(decided: pl.DataFrame, *, source: str, seed: int) -> pa.Table:
    """Return the samples table; needs the columns of `decide` and `split`.

    `difficulty` is one minus the most that picking letters blindly earns of the soft reward.
    """
    import polars as pl
    import pyarrow as pa

    offered = pl.Series("offered", _offers(decided, seed))
    decided = decided.with_columns(offered)
    starts = range(0, max(len(decided), 1), AT_ONCE)
    parts = [_assemble(decided[start : start + AT_ONCE], source) for start in starts]
    return pa.concat_tables(parts).sort_by("id")


def _assemble(decided: pl.DataFrame, source: str) -> pa.Table:
    import polars as pl
    import pyarrow as pa

    from nontrivial.manifests.schema import CLIP, MEDIA, QA, samples_of_columns

    original = _options(decided)
    shown = original.reordered(decided["order"].to_list(), decided["inverted"].to_numpy())
    shown = shown.with_none(decided["offered"].to_numpy() | (shown.right == 0))
    renamed = pl.concat_str("id", pl.lit("/inverted"))
    table = decided.select(
        *_KEPT,
        id=pl.when("inverted").then(renamed).otherwise("id"),
        path="video",
        question="new_question",
        parent_id=pl.when("inverted").then("id"),
        original_question="question",
        original_options="options",
    ).to_arrow()
    column = {name: table[name].combine_chunks() for name in table.column_names}
    column["bytes"] = pa.nulls(len(decided))
    column["original_answer"] = original.letters()
    column["parents"] = _parents(decided)
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


def _parents(decided: pl.DataFrame) -> pa.Array:
    """Return the question of each statement in the order of the options, null elsewhere."""
    import polars as pl
    import pyarrow as pa

    parents: list[list[str] | None] = [None] * len(decided)
    stated = decided.with_row_index().filter(pl.col("parents").is_not_null())
    for number, known, order in stated.select("index", "parents", "order").iter_rows():
        parents[number] = [known[place] for place in order]
    return pa.array(parents, pa.list_(pa.string()))


def as_they_were(samples: pa.Table) -> tuple[pa.Array, pa.ListArray, pa.ListArray]:
    """Return questions, options and truths before inversion, with `NONE` where none is right."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from nontrivial.manifests.schema import truths

    qa = samples["qa"].combine_chunks()
    question, options, answer = (
        pc.struct_field(qa, f"original_{name}") for name in ("question", "options", "answer")
    )
    texts = pa.concat_arrays([options.flatten(), pa.array([NONE])])
    original = _Options(
        texts,
        options.value_lengths().to_numpy().astype(np.int64),
        np.arange(len(texts) - 1),
        truths(options, answer).flatten().to_numpy(zero_copy_only=False).astype(bool),
    )
    original = original.with_none(original.right == 0)
    return question, original.options(), original.in_lists(original.truth)


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


def _offers(decided: pl.DataFrame, seed: int) -> np.ndarray:
    """Draw the questions that offer NONE although something is right, (Q,) bool.

    Statements always offer it. Otherwise each family of independent options has one rate for its
    inverted questions and one for the others.
    """
    import polars as pl

    offers = decided["parents"].is_not_null().to_numpy().copy()
    right = pl.col("right").list.sum()
    count = pl.col("right").list.len()
    independent = decided.with_row_index().filter(
        pl.col("kind") == INDEPENDENT, pl.col("parents").is_null()
    )
    families = (
        independent.select(
            "family",
            "inverted",
            "index",
            "id",
            shown=pl.when("inverted").then(count - right).otherwise(right),
            few=count < 2,
        )
        .group_by("family", "inverted")
        .agg("index", "id", "shown", "few")
    )
    for numbers, names, shown, few in families.select("index", "id", "shown", "few").iter_rows():
        rate = decoy_rate(shown)
        drawn = [uniform(f"{seed}/{name}", "none") < rate for name in names]
        offers[numbers] = np.array(drawn) | np.array(few)
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
    known = decided.with_row_index().filter(decided["facts"].list.len() > 1)
    if known.is_empty():
        return rationales
    answers, starts, firsts = shown.letters(), shown.starts, original.starts
    none = len(shown.texts) - 1
    rows = known.select("index", "facts", "options", "kind").iter_rows()
    for number, (seen, concluded, *facts), options, kind in rows:
        independent = kind == INDEPENDENT
        if len(facts) != (len(options) if independent else 0):
            continue
        known_of = facts if independent else options
        places = shown.place[starts[number] :][: shown.counts[number]].tolist()
        listed = ["none" if at == none else known_of[at - firsts[number]] for at in places]
        conclusion = f" {concluded};" if concluded else ""
        steps = option_by_option(listed, answers[number].as_py())
        rationales[number] = f"seen {seen} so{conclusion}\n{steps}"
    return rationales
