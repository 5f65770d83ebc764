"""Any table of questions, options and answers: csv, JSON, JSON Lines, Parquet.

Columns: `id`, `question`, `video` (or `path`), `answer`, and `options` (a list, a mapping of
letters, or a text of a list or of lines) or one column per option (`A`, `a0`, `option_1` …).
Optional: `start`, `end`, `family`, and `independent: true` where each option is true or false by
itself. `--map` names other columns; `--answer` says how `answer` marks the right option, where the
file leaves a doubt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from nontrivial.builders.qa.benches import ANSWERS, SHORT, Bench
from nontrivial.builders.qa.benches.columns import Columns, read_options, read_right, reader
from nontrivial.builders.qa.benches.question import Unusable
from nontrivial.manifests.errors import BadInput

COLUMNS = Columns(id=("id",), video=("video", "path"), family=("family",), splits=False, unknown=())
SHOWN = 3  # rows that an error shows
SURE = 0.99  # a way of reading answers must fit this share of the rows


def fitted(records: Sequence[Any], renamed: str | None, answer_is: str | None) -> Bench:
    """Return the reader of these records, by `--map` and `--answer`; raises `BadInput` in doubt."""
    columns = mapped(COLUMNS, renamed, records)
    columns = replace(columns, answer_is=answer_is or read_answers_as(records, columns))
    return replace(BENCH, parse=reader("table", columns))


def mapped(columns: Columns, renamed: str | None, records: Sequence[Any]) -> Columns:
    """Apply `--map question=text,options=a+b+c`.

    >>> mapped(COLUMNS, "video=clips/{vid}.mp4,options=a+b", [{"vid": 1, "a": 2, "b": 3}]).options
    ('a', 'b')
    """
    known = set(vars(columns)) - {"answer_is", "asked", "splits", "unknown"}
    present = {key for record in records if isinstance(record, Mapping) for key in record}
    for pair in filter(None, (renamed or "").split(",")):
        name, equals, column = (part.strip() for part in pair.partition("="))
        if not equals or name not in known:
            raise BadInput(f"--map {pair}: needs NAME=COLUMN, where NAME is one of {sorted(known)}")
        names = tuple(part.strip() for part in column.split("+"))
        absent = [part for part in names if "{" not in part and part not in present]
        if absent:
            raise BadInput(f"--map {pair}: no record has {absent[0]!r}; columns: {sorted(present)}")
        columns = replace(columns, **{name: names})  # type: ignore[arg-type]
    return columns


def read_answers_as(records: Sequence[Any], columns: Columns) -> str:
    """Return the one way of reading that fits nearly all answers; two that differ are an error."""
    readings: dict[str, list[Any]] = {form: [] for form in ANSWERS}
    shown: list[str] = []
    asked = 0
    for record in records:
        try:
            options, places = read_options(record, columns.options)
            answer = next(record[key] for key in columns.answer if record.get(key) is not None)
        except (Unusable, StopIteration, AttributeError, TypeError):
            continue
        asked += 1
        if len(shown) < SHOWN:
            shown.append(f"  answer {str(answer)[:60]!r} among {[text[:30] for text in options]}")
        for form, marks in readings.items():
            try:
                marks.append(tuple(read_right(options, places, answer, form)))
            except Unusable:
                marks.append(None)
    if not asked:
        return ANSWERS[0]  # every record is refused with its own reason
    fits = {form: asked - marks.count(None) for form, marks in readings.items()}
    fits = {form: count for form, count in fits.items() if count >= SURE * asked}
    pairs = combinations([readings[form] for form in fits], 2)
    if fits and all(_agree(first, second) for first, second in pairs):
        return max(fits, key=fits.__getitem__)
    ways = " and as ".join(fits) if fits else "none of " + ", ".join(ANSWERS)
    rows = "\n".join(shown)
    raise BadInput(
        f"the answers can be read as {ways}; say which with --answer {'|'.join(ANSWERS)}, or name "
        f"the columns with --map answer=…,options=…\n{rows}"
    )


def _agree(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return all(a == b for a, b in zip(first, second, strict=True) if None not in (a, b))


BENCH = Bench(
    folders=("table",),
    files={split: (f"{split}.*",) for split in SHORT},
    layout="a csv, JSON, JSON Lines or Parquet file with id, video, question, options, answer",
    origin="your own; give the file with --annotations FILE",
    parse=reader("table", COLUMNS),
    fit=fitted,
)
