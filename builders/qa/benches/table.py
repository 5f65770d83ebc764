"""Any table of questions, options and answers: csv, JSON, JSON Lines, Parquet.

Columns: `id`, `question`, `video`, `answer` (letters, or the text of an option), and `options` (a
list, or a text of JSON or of lines) or one column per option (`A` … `Z`, `a0` …, `option_1` …).
Optional: `start`, `end`, `family`, and `independent: true` where each option is true or false by
itself.
"""

from __future__ import annotations

import json
import re

from nontrivial.builders.qa.benches import SHORT, Bench, Place, Question, Unusable
from nontrivial.builders.qa.benches.question import (
    INDEPENDENT,
    SINGLE,
    Record,
    by_letters,
    by_text,
    choices,
    seconds,
    text,
)
from nontrivial.manifests.answers import LETTERS, read_letters, unlabel

_COLUMN = re.compile(r"[A-Z]|a\d+|option_?\d+|choice_?\d+")


def parse(record: Record, place: Place) -> Question:
    video = text(record, "video", "path")
    options = read_options(record)
    independent = str(record.get("independent", "")).lower() in ("true", "1", "yes")
    return Question(
        id=f"table/{text(record, 'id')}",
        video=place.video(video),
        group=f"table/{video.strip('/')}",
        family=str(record.get("family") or "table"),
        question=text(record, "question"),
        options=options,
        right=read_right(options, record, independent),
        kind=INDEPENDENT if independent else SINGLE,
        start=seconds(record, "start"),
        end=seconds(record, "end"),
    )


def read_options(record: Record) -> list[str]:
    """Read option texts from a list, a text of JSON or of lines, or one column per option."""
    given = record.get("options")
    if given is None or given == "":
        names = sorted((name for name in record if _COLUMN.fullmatch(name)), key=_position)
        given = [record[name] for name in names if record[name] not in (None, "")]
        if not given:
            raise Unusable("has neither 'options' nor a column an option", damaged=False)
    if isinstance(given, str):
        try:
            given = json.loads(given) if given.lstrip().startswith("[") else given.split("\n")
        except (ValueError, RecursionError) as error:
            raise Unusable("field 'options' is no list that can be read") from error
    return unlabel(choices({"options": given}, "options"))


def read_right(options: list[str], record: Record, independent: bool) -> list[bool]:
    """Read truth values from letters or an option's text; independent options may all be wrong."""
    answer = record.get("answer")
    if isinstance(answer, list):
        answer = ",".join(str(item) for item in answer)
    if independent and answer in (None, ""):
        return [False] * len(options)
    answer = text({"answer": answer}, "answer")
    letters = read_letters(answer, options)
    return by_letters(options, letters) if letters else by_text(options, answer)


def _position(name: str) -> tuple[int, str]:
    digits = re.sub(r"\D", "", name)
    return (int(digits) if digits else LETTERS.index(name), name)


BENCH = Bench(
    folders=("table",),
    files={split: (f"{split}.*",) for split in SHORT},
    layout="a csv, JSON, JSON Lines or Parquet file with id, video, question, options, answer",
    origin="your own; give the file with --annotations FILE",
    parse=parse,
)
