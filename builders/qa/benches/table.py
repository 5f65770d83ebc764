"""Any table with a question, options and an answer: csv, JSON, JSON Lines or Parquet.

Columns: `id`, `question`, `video`, `options` (a list, or a text of JSON or of lines) or one column
an option (`A` … `Z`, `a0` …, `option_1` …), `answer` (letters, or the text of an option). `start`,
`end` and `family` may be there too. `independent: true` says that each option has a truth of its
own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nontrivial.builders.qa.benches import Bench, Place, Question, Unusable
from nontrivial.builders.qa.benches.question import (
    INDEPENDENT,
    SINGLE,
    by_letters,
    by_text,
    choices,
    seconds,
    text,
)
from nontrivial.manifests.answers import LETTERS, read_letters, unlabel

_COLUMN = re.compile(r"[A-Z]|a\d+|option_?\d+|choice_?\d+")


def parse(record: Mapping[str, Any], place: Place) -> Question:
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


def read_options(record: Mapping[str, Any]) -> list[str]:
    """Option texts from a list, from a text of JSON or of lines, or from columns of their own."""
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


def read_right(options: list[str], record: Mapping[str, Any], independent: bool) -> list[bool]:
    """Truth values from letters or from an option's text; independent options may all be wrong."""
    answer = record.get("answer")
    if isinstance(answer, list):
        answer = ",".join(str(item) for item in answer)
    if independent and answer in (None, ""):
        return [False] * len(options)
    answer = text({"answer": answer}, "answer")
    found = read_letters(answer, options)
    return by_letters(options, found) if found else by_text(options, answer)


def _position(name: str) -> tuple[int, str]:
    digits = re.sub(r"\D", "", name)
    return (int(digits) if digits else LETTERS.index(name), name)


_FILES = {name: (f"{name}.*",) for name in ("train", "validation", "test")}
BENCH = Bench(
    folders=("table",),
    files=_FILES,
    layout="a csv, JSON, JSON Lines or Parquet file with id, video, question, options, answer",
    origin="your own; give the file with --annotations FILE",
    parse=parse,
)
