"""A question with options: its fields, readers of record fields, and checks.

`Question.kind` says how the options relate, where the benchmark itself says so:

  independent  each option is true or false by itself (CLEVRER's choices); none to all are right
  exclusive    one is right and the others cannot be, by construction (a closed vocabulary)
  single       one is marked right; their texts decide whether the others exclude it
  negated      as `single`, and the question asks for what is not so: it is never inverted
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

from nontrivial.manifests.answers import LETTERS, unlabel, without_label

INDEPENDENT, EXCLUSIVE, SINGLE, NEGATED = "independent", "exclusive", "single", "negated"
MAX_TEXT = 4000  # characters; a longer question or option is a mishap or an attack

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a benchmark.

    id      made of the benchmark's own ids
    video   path relative to the media root, as the annotations give it
    group   the unit that a split never divides, usually the video
    right   one truth value per option
    start   seconds; with `end` the part of the clip that the question is about
    facts   what is seen, then what holds for each option, where the source carries its truth
    """

    id: str
    video: str
    group: str
    family: str
    question: str
    options: list[str]
    right: list[bool]
    kind: str = SINGLE
    start: float | None = None
    end: float | None = None
    facts: list[str] | None = None


@dataclass(frozen=True)
class Refused:
    """A record that is no usable question.

    `damaged` records count against `--max_bad`. Not damaged are records that the benchmark itself
    declares to be something else (open-ended, about an image) and those whose wording alone is in
    the way.
    """

    id: str
    reason: str
    damaged: bool


@dataclass(frozen=True)
class Place:
    """The folder of a question file under the media root, its split, and the seed."""

    folder: str = ""
    split: str = "train"
    seed: int = 0

    def video(self, *parts: str) -> str:
        """Join a media path relative to the root; a leading `/` never leads outside.

        >>> Place("star").video("videos", "/A.mp4")
        'star/videos/A.mp4'
        """
        return "/".join(part.strip("/") for part in (self.folder, *parts) if part.strip("/"))


class Unusable(ValueError):
    """A record cannot become a question, for the reason given."""

    def __init__(self, reason: str, *, damaged: bool = True) -> None:
        super().__init__(reason)
        self.damaged = damaged


def text(record: Record, *names: str) -> str:
    """Return the first non-empty one of several fields as text without surrounding space."""
    for name in names:
        value = record.get(name)
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            value = str(value)
            if len(value) > MAX_TEXT:
                raise Unusable(f"field {name!r} is over {MAX_TEXT} characters")
            if value := value.strip():
                return value
    raise Unusable(f"field {names[0]!r} is missing or not a text")


def position(record: Record, name: str) -> int:
    """Read a field that holds the position of an option."""
    value = text(record, name)
    if not value.isdecimal():
        raise Unusable(f"field {name!r} is {value[:30]!r}, not a position")
    return int(value)


def seconds(record: Record, name: str) -> float | None:
    """Read an optional time in seconds."""
    value = record.get(name)
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError) as error:
        shown = str(value)[:30]
        raise Unusable(f"field {name!r} is {shown!r}, not a time in seconds") from error


def choices(record: Record, name: str) -> list[str]:
    """Read a list of option texts; labels `A.` or `(A)` are removed if every option has its own."""
    value: Any = record.get(name)
    if not hasattr(value, "__len__") or isinstance(value, (str, dict)):
        raise Unusable(f"field {name!r} is missing or not a list of options")
    if len(value) > len(LETTERS) - 1:
        raise Unusable(f"{len(value)} options are more than can be lettered")
    return unlabel([text({"option": item}, "option") for item in value])


def marked(options: Sequence[str], right: Collection[int]) -> list[bool]:
    """Return truth values, given the positions of the right options."""
    beyond = [place for place in right if not 0 <= place < len(options)]
    if beyond or not right:
        given = f"position {beyond[0]}" if beyond else "no right option"
        raise Unusable(f"the answer is {given}, there are {len(options)} options")
    return [place in right for place in range(len(options))]


def by_letters(options: Sequence[str], answer: Collection[str]) -> list[bool]:
    """Return truth values, given the letters A … Z of the right options."""
    return marked(options, {LETTERS.index(letter) for letter in answer})


def by_text(options: Sequence[str], answer: str) -> list[bool]:
    """Return truth values, given the text of the right option, with or without its label."""
    texts = (answer, without_label(answer))
    right = [option in texts for option in options]
    if not any(right):
        raise Unusable(f"the answer {answer[:60]!r} is not among the options")
    return right


def kind_of(record: Record) -> str:
    """Return `negated` for a record whose `is_negated` is true, else `single`."""
    return NEGATED if str(record.get("is_negated")).lower() in ("true", "1") else SINGLE


def check(question: Question) -> Question:
    """Return the question without option lines if it is usable, else raise `Unusable`."""
    _check_texts(question)
    start, end = question.start, question.end
    if (start, end) != (None, None) and not _is_range(start, end):
        raise Unusable(f"the clip from {start} to {end} is no range of seconds")
    if len(question.options) > len(LETTERS) - 1:
        raise Unusable(f"{len(question.options)} options are more than can be lettered")
    if len(question.options) < (1 if question.kind == INDEPENDENT else 2):
        raise Unusable("fewer than two options" if question.options else "has no options")
    if question.kind in (SINGLE, NEGATED):
        _check_repeats(question)
        asked = without_options(question.question, question.options)
        if asked != question.question:
            return replace(question, question=asked)
    return question


def without_options(asked: str, options: Sequence[str]) -> str:
    """Remove the options from the end of a question's text, where some files repeat them.

    Their letters there would be wrong once the options are ordered anew. Raises `Unusable` if the
    text ends in lettered lines that are not the options.

    >>> without_options("What fell? Options: (A) a cup (B) a hat", ["a cup", "a hat"])
    'What fell?'
    >>> without_options("What fell?\\nA cup\\nB hat\\nAnswer with a letter.", ["cup", "hat"])
    'What fell?'
    """
    if not _MAY_LIST.search(asked):
        return asked
    for start in _A_LABEL.finditer(asked):
        if _are_options(asked[start.start() :], options):
            return _without_head(asked[: start.start()]) or asked
    lines = [_plain(line) for line in asked.split("\n")]
    wanted = [_plain(option) for option in options]
    for place in range(1, len(lines) - len(wanted) + 1):
        if lines[place : place + len(wanted)] == wanted:
            return _without_head("\n".join(asked.split("\n")[:place])) or asked
    if len(_LABELLED_LINE.findall(asked)) > 1:
        raise Unusable("the question ends in lettered lines that are not its options")
    return asked


_MAY_LIST = re.compile(r"\n|(?:^|\W)\(?A[.):]\s")
_A_LABEL = re.compile(r"(?:(?<=\W)|^)(?:\(A\)|A[.):]|(?:(?<=\n)|^)A(?= ))\s*")
_LABELLED_LINE = re.compile(r"^\s*(?:\([A-Z]\)|[A-Z][.):])\s", re.MULTILINE)
_LIST_HEAD = re.compile(
    r"\b(?:the |possible |answer |following )*"
    r"(?:options?|choices|candidates|answers)(?: are)?\s*[:\-]?$",
    re.IGNORECASE,
)


def _without_head(asked: str) -> str:
    """Remove the words that announce options from the end; space comes off first, and cheaply."""
    return _LIST_HEAD.sub("", asked.rstrip()).strip()


def _are_options(tail: str, options: Sequence[str]) -> bool:
    """True if a text is the options in their order, each behind its letter, and other lines."""
    place = 0
    for letter, option in zip(LETTERS, options, strict=False):
        label = re.compile(rf"\s*\(?{letter}(?:[.):]|(?=\s))+\s*").match(tail, place)
        if not label:
            return False
        end = label.end() + len(option)
        if _plain(tail[label.end() : end]) != _plain(option):
            return False
        place = end + len(tail[end:]) - len(tail[end:].lstrip(" .;,"))
    return not tail[place:].strip() or tail[place] == "\n"


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .")


def _check_texts(question: Question) -> None:
    texts = [question.id, question.video, question.group, question.family, question.question]
    try:
        "".join([*texts, *question.options]).encode()
    except UnicodeEncodeError as error:
        raise Unusable("a text holds half of a character (a lone surrogate)") from error
    if not question.video:
        raise Unusable("names no video")
    if not all(map(str.strip, [question.question, *question.options])):
        raise Unusable("the question or an option is blank")


def _is_range(start: float | None, end: float | None) -> bool:
    return start is not None and end is not None and 0 <= start < end < float("inf")


def _check_repeats(question: Question) -> None:
    texts = [_plain(option) for option in question.options]
    if any(texts.count(right) > 1 for right in compress(texts, question.right)):
        raise Unusable("a right option appears twice", damaged=False)
