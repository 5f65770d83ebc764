"""What every benchmark is read into: a question, its options, which of them are right.

`Question.kind` says how options relate, as far as the benchmark itself tells:

  independent  each option is true or false by itself (CLEVRER's choices); none to all are right
  exclusive    one is right and the others cannot be, by construction (a closed vocabulary)
  single       one is marked right; whether the others exclude it is judged from their texts
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nontrivial.manifests.answers import LETTERS, unlabel, without_label

INDEPENDENT, EXCLUSIVE, SINGLE = "independent", "exclusive", "single"
MAX_TEXT = 4000  # characters; a longer question or option is a mishap or an attack


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a benchmark.

    id      made of the benchmark's own ids
    video   path relative to the media root, as far as the annotations tell
    group   what must stay on one side of a split, usually the video
    right   one truth value an option
    start   seconds; with `end` the part of the clip that is asked about
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

    `damaged` where it cannot be read; benchmarks as published also hold records that can be read
    and not be used (open-ended, one option, an answer that is none of the options).
    """

    id: str
    reason: str
    damaged: bool


@dataclass(frozen=True)
class Place:
    """Where a file of questions lies: its folder under the media root, its split, and the seed."""

    folder: str = ""
    split: str = "train"
    seed: int = 0

    def video(self, *parts: str) -> str:
        """A media path relative to the root; a leading `/` never leads outside.

        >>> Place("star").video("videos", "/A.mp4")
        'star/videos/A.mp4'
        """
        return "/".join(part.strip("/") for part in (self.folder, *parts) if part.strip("/"))


class Unusable(ValueError):
    """A record cannot become a question, for the reason given."""

    def __init__(self, reason: str, *, damaged: bool = True) -> None:
        super().__init__(reason)
        self.damaged = damaged


def text(record: Mapping[str, Any], *names: str) -> str:
    """The first of several fields that is there, as text without surrounding space."""
    for name in names:
        value = record.get(name)
        if isinstance(value, str) or (
            isinstance(value, (int, float)) and not isinstance(value, bool)
        ):
            found = str(value)
            if len(found) > MAX_TEXT:
                raise Unusable(f"field {name!r} is over {MAX_TEXT} characters")
            if found := found.strip():
                return found
    raise Unusable(f"field {names[0]!r} is missing or not a text")


def seconds(record: Mapping[str, Any], name: str) -> float | None:
    """An optional time in seconds."""
    value = record.get(name)
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise Unusable(f"field {name!r} is {value!r}, not a time in seconds") from error


def choices(record: Mapping[str, Any], *names: str) -> list[str]:
    """The list of option texts, without the labels `A.` or `(A)` where all of them carry theirs."""
    for name in names:
        value = record.get(name)
        if value is not None and hasattr(value, "__len__") and not isinstance(value, (str, dict)):
            return unlabel([text({"option": item}, "option") for item in value])
    raise Unusable(f"field {names[0]!r} is missing or not a list of options", damaged=False)


def marked(options: Sequence[str], right: Collection[int]) -> list[bool]:
    """Truth values from the positions of the right options."""
    beyond = [position for position in right if not 0 <= position < len(options)]
    if beyond or not right:
        given = f"position {beyond[0]}" if beyond else "no right option"
        reason = f"the answer is {given}, there are {len(options)} options"
        raise Unusable(reason, damaged=False)
    return [position in right for position in range(len(options))]


def by_letters(options: Sequence[str], answer: Collection[str]) -> list[bool]:
    """Truth values from answer letters."""
    try:
        return marked(options, {LETTERS.index(letter) for letter in answer})
    except ValueError as error:
        if isinstance(error, Unusable):
            raise
        reason = f"the answer {sorted(answer)} is not made of letters"
        raise Unusable(reason, damaged=False) from error


def by_text(options: Sequence[str], answer: str) -> list[bool]:
    """Truth values from the text of the right option, with or without its label."""
    bare = without_label(answer)
    right = {i for i, option in enumerate(options) if option in (answer, bare)}
    if not right:
        raise Unusable(f"the answer {answer[:60]!r} is not among the options", damaged=False)
    return marked(options, right)


def check(question: Question) -> Question:
    """The question itself if it can be asked, else `Unusable`."""
    _check_texts(question)
    start, end = question.start, question.end
    if (start, end) != (None, None) and not _is_range(start, end):
        raise Unusable(f"the clip from {start} to {end} is no range of seconds")
    if len(question.options) > len(LETTERS) - 1:
        raise Unusable(f"{len(question.options)} options are more than can be lettered")
    if question.kind != INDEPENDENT and len(question.options) < 2:
        raise Unusable("fewer than two options", damaged=False)
    if question.kind != EXCLUSIVE:  # a vocabulary has no word twice
        _check_repeats(question)
    return question


def _check_texts(question: Question) -> None:
    texts = [question.id, question.video, question.group, question.family, question.question]
    try:
        "".join([*texts, *question.options]).encode()
    except UnicodeEncodeError as error:
        raise Unusable("a text holds half of a character (a lone surrogate)") from error
    if not question.video:
        raise Unusable("names no video")


def _is_range(start: float | None, end: float | None) -> bool:
    return start is not None and end is not None and 0 <= start < end < float("inf")


def _check_repeats(question: Question) -> None:
    texts = [" ".join(option.casefold().split()).rstrip(".") for option in question.options]
    right = {word for word, is_right in zip(texts, question.right, strict=True) if is_right}
    wrong = [word for word, is_right in zip(texts, question.right, strict=True) if not is_right]
    if len(right) < sum(question.right) or right.intersection(wrong):
        raise Unusable("a right option appears twice", damaged=False)
