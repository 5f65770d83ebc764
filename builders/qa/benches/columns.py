"""Read questions by the names of their columns.

Most benchmarks differ in names and in how they mark the right option, and in nothing else. Their
modules give `Columns`; so does `table`, from `--map` and `--answer`. A value is

  name         a column; of several names the first one with a text counts
  {name}       a text around columns, for example `videos/{video_id}.mp4`

Options may have fillers: empty columns, and `N/A` at the end. An answer by index counts them.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from nontrivial.builders.qa.benches import ANSWERS
from nontrivial.builders.qa.benches.question import (
    INDEPENDENT,
    Place,
    Question,
    Record,
    Unusable,
    by_text,
    choices,
    kind_of,
    marked,
    position,
    seconds,
    text,
)
from nontrivial.manifests.answers import LETTERS, read_letters

TEXT, LETTER, INDEX0, INDEX1 = ANSWERS
FIVE = ("a0", "a1", "a2", "a3", "a4")  # the options of NExT-QA and its kin
_IN_BRACES = re.compile(r"\{([^{}]+)\}")
# Columns that hold one option each.
_ONE_OPTION = re.compile(
    r"[A-Z]|[a-e]|a\d+|(?:option|opt|choice|candidate|answer_choice)[ _]?(?:\d+|[A-Za-z])"
)


@dataclass(frozen=True)
class Columns:
    """The columns of a question.

    video      also as a text around a column
    options    one column with a list, a mapping of letters, or a text of a list or of lines;
               several columns with an option each; if absent, those that look so (`a0`, `B`, …)
    answer_is  how `answer` marks the right option: `text`, `letter`, `index0` or `index1`
    id         none: the video and a hash of the words
    asked      a column and its values where a record is a question with options; others are open
    splits     if ids are unique only within a split
    unknown    answers that stand for none: those of test sets are not published
    """

    question: tuple[str, ...] = ("question",)
    video: tuple[str, ...] = ("video",)
    options: tuple[str, ...] = ("options",)
    answer: tuple[str, ...] = ("answer",)
    answer_is: str = LETTER
    id: tuple[str, ...] = ()
    start: tuple[str, ...] = ("start",)
    end: tuple[str, ...] = ("end",)
    family: tuple[str, ...] = ()
    asked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    splits: bool = True
    unknown: tuple[Any, ...] = (None, "", "NA", -1, "-1")


def reader(name: str, columns: Columns) -> Callable[[Record, Place], Question]:
    """Return the function that reads one record of the benchmark `name`."""

    def parse(record: Record, place: Place) -> Question:
        for column, known in columns.asked.items():
            if str(record.get(column)).casefold() not in known:
                shown = str(record.get(column))[:30]
                raise Unusable(f"{column} is {shown!r}: no question with options", damaged=False)
        asked, video = text(record, *columns.question), value(record, columns.video)
        prefix = f"{name}/{place.split}/" if columns.splits else f"{name}/"
        is_independent = str(record.get("independent", "")).lower() in ("true", "1", "yes")
        answer = next((record[key] for key in columns.answer if key in record), None)
        if not isinstance(answer, list) and answer in columns.unknown:
            raise Unusable("its answer is not published", damaged=False)
        options, places = read_options(record, columns.options)
        return Question(
            id=f"{prefix}{_id(record, columns, video, asked, options)}",
            video=place.video(video),
            group=f"{name}/{video.strip('/')}",
            family=_optional(record, columns.family) or name,
            question=asked,
            options=options,
            right=read_right(options, places, answer, columns.answer_is, is_independent),
            kind=INDEPENDENT if is_independent else kind_of(record),
            start=_seconds(record, columns.start),
            end=_seconds(record, columns.end),
        )

    return parse


def value(record: Record, names: tuple[str, ...]) -> str:
    """Return the text of the first of several columns, or of a text around columns."""
    for name in names:
        inner = _IN_BRACES.findall(name)
        if inner and all(record.get(key) not in (None, "") for key in inner):
            return _IN_BRACES.sub(lambda match: text(record, match[1]), name)
    return text(record, *names)


def read_options(record: Record, names: tuple[str, ...]) -> tuple[list[str], list[int]]:
    """Read option texts from one column, or from several with an option each, without fillers.

    Returns also the place of each among all, fillers included.
    """
    if len(names) == 1 and record.get(names[0]) not in (None, ""):
        held = record[names[0]]
        if not isinstance(held, Mapping):
            listed = _as_list(held)
            return choices({"options": listed}, "options"), list(range(len(listed)))
        given = [held[key] for key in sorted(held, key=lambda key: (len(str(key)), str(key)))]
    else:
        if len(names) < 2:
            names = tuple(sorted(filter(_ONE_OPTION.fullmatch, record), key=_place))
        given = [record.get(name) for name in names]
    while given and given[-1] in (None, "", "N/A"):
        given.pop()
    places = [place for place, item in enumerate(given) if item not in (None, "")]
    if not places:
        raise Unusable("has neither 'options' nor a column an option")
    return choices({"options": [given[place] for place in places]}, "options"), places


def read_right(
    options: list[str], places: list[int], answer: Any, form: str, independent: bool = False
) -> list[bool]:
    """Read truth values; independent options may all be wrong."""
    given = answer if isinstance(answer, list) else [answer]
    given = [item for item in given if item not in (None, "")]
    if independent and not given:
        return [False] * len(options)
    texts = [text({"answer": item}, "answer") for item in given or [None]]
    if form == TEXT:
        rows = [by_text(options, item) for item in texts]
        return [any(column) for column in zip(*rows, strict=True)]
    if form == LETTER:
        whole = places == list(range(len(options)))  # else letters count what is left out, too
        letters = read_letters(",".join(texts), options if whole else ())
        if not letters:
            raise Unusable(f"the answer {texts[0][:60]!r} is no letter of an option")
        asked = [LETTERS.index(letter) for letter in letters]
    else:
        first = 1 if form == INDEX1 else 0
        asked = [_whole(item) - first for several in texts for item in several.split(",")]
    return marked(options, {places.index(at) if at in places else len(options) for at in asked})


def _whole(item: str) -> int:
    """Read "2" or "2.0", which tables with empty cells make of numbers."""
    return position({"answer": item.strip().removesuffix(".0")}, "answer")


def _as_list(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    if not given.lstrip().startswith("["):
        return given.strip().split("\n")
    for read in (json.loads, ast.literal_eval):
        try:
            return read(given)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    raise Unusable("field 'options' is no list that can be read")


def _id(record: Record, columns: Columns, video: str, asked: str, options: list[str]) -> str:
    if columns.id:
        return value(record, columns.id)
    words = "\0".join([asked, *options])
    return f"{video}/{blake2b(words.encode('utf-8', 'replace'), digest_size=6).hexdigest()}"


def _optional(record: Record, names: tuple[str, ...]) -> str | None:
    return next((str(record[name]) for name in names if record.get(name) not in (None, "")), None)


def _seconds(record: Record, names: tuple[str, ...]) -> float | None:
    return next((seconds(record, n) for n in names if record.get(n) not in (None, "")), None)


def _place(name: str) -> tuple[int, str]:
    digits = re.sub(r"\D", "", name)
    return (int(digits) if digits else LETTERS.index(name[-1].upper()), name)
