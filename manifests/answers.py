"""Answers as sets of letters: reading them leniently, writing them, comparing them.

A completion is expected to read `<think> … </think> <answer>A,C</answer>`. Reading takes the last
answer block and accepts what people and models write in it: `A`, `a`, `(A)`, `A.`, `A and C`,
`AC`, `A. the red cube`, or the text of an option. Everything here is linear in the text's length.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

NONE = "None of the options"  # the right option of a question that has no other right one

# Longer texts are no answers; cutting keeps hostile completions cheap.
MAX_ANSWER_CHARS = 4096

_WORD = re.compile(r"[A-Za-z]+|[0-9]+|[^\sA-Za-z0-9]")
_FILLERS = frozenset({"and", "or", "answer", "answers", "option", "options", "the", "is", "are"})
_SEPARATORS = frozenset(",;/&+.:()[]{}|*\"'`")
_OPTION_LABEL = re.compile(r"\s*\(?([A-Z])[.):]\s*")
_LABEL = re.compile(r"(?:^|(?<=[\s,;(\[]))[(\[]?([A-Z])[.):\]](?=\s|$)")


def letters(count: int) -> list[str]:
    """The labels of `count` options.

    >>> letters(3)
    ['A', 'B', 'C']
    """
    if not 0 <= count <= len(LETTERS):
        raise ValueError(f"{count} options; at most {len(LETTERS)} can be lettered")
    return list(LETTERS[:count])


def lettered(options: Sequence[str]) -> str:
    """The options as they are shown, one a line.

    >>> print(lettered(["red", "blue"]))
    A red
    B blue
    """
    labelled = zip(letters(len(options)), options, strict=True)
    return "\n".join(f"{letter} {option}" for letter, option in labelled)


def unlabel(options: Sequence[str]) -> list[str]:
    """Option texts without their labels; left alone unless every label is the expected one.

    >>> unlabel(["A. red", "(B) blue"]), unlabel(["A. B. King", "no one"])
    (['red', 'blue'], ['A. B. King', 'no one'])
    """
    labels = [_OPTION_LABEL.match(option) for option in options]
    texts = [
        option[label.end() :].strip()
        for option, label, letter in zip(options, labels, LETTERS, strict=False)
        if label and label[1] == letter
    ]
    return texts if len(texts) == len(options) and all(texts) else list(options)


def without_label(text: str) -> str:
    """An option's text without a label in front of it.

    >>> without_label("(B) blue"), without_label("blue")
    ('blue', 'blue')
    """
    return _OPTION_LABEL.sub("", text, count=1).strip()


def format_answer(answer: Iterable[str]) -> str:
    """Letters in ascending order inside an answer block.

    >>> format_answer({"C", "A"})
    '<answer>A,C</answer>'
    """
    return f"<answer>{','.join(sorted(answer))}</answer>"


def answer_block(text: str) -> str | None:
    """What the last `<answer>` holds, up to its closing tag or the end; None without a block.

    >>> answer_block("<answer>A</answer> no: <answer> B </answer>")
    'B'
    """
    lowered = _ascii_lower(text)
    start = lowered.rfind("<answer>")
    if start < 0:
        return None
    start += len("<answer>")
    end = lowered.find("</answer>", start)
    return text[start : len(text) if end < 0 else end].strip()


def read_answer(
    text: str, options: Sequence[str] = (), *, need_block: bool = True
) -> frozenset[str]:
    """The set of letters a completion answers with; empty where nothing can be read.

    With `need_block=False` a text without any answer block (after any `</think>`) is read whole,
    as evaluation does for models that were never asked for tags.

    >>> sorted(read_answer("<think>…</think><answer>(a) and C.</answer>"))
    ['A', 'C']
    >>> sorted(read_answer("<answer>a red cube</answer>", ["A blue cube", "A red cube"]))
    ['B']
    """
    block = answer_block(text)
    if block is None:
        block = "" if need_block else _after_thinking(text)
    return read_letters(block[:MAX_ANSWER_CHARS], options)


def read_letters(block: str, options: Sequence[str] = ()) -> frozenset[str]:
    """The letters in the content of an answer block; see `read_answer`."""
    for read in (_bare_letters, _option_texts, _labels):
        found = read(block, options)
        if found:
            return found
    return frozenset()


def is_formatted(text: str) -> bool:
    """True for exactly one think block followed by one answer block that isn't empty, no more.

    >>> is_formatted("<think>hm</think>\\n<answer>A</answer>")
    True
    >>> is_formatted("<answer>A</answer>")
    False
    """
    text = text.strip()
    tags = ("<think>", "</think>", "<answer>", "</answer>")
    if any(text.count(tag) != 1 for tag in tags):
        return False
    thought, _, rest = text.partition("</think>")
    rest = rest.strip()
    return (
        thought.startswith("<think>")
        and rest.startswith("<answer>")
        and rest.endswith("</answer>")
        and bool(answer_block(rest))
    )


def soft_score(predicted: Collection[str], truth: Collection[str]) -> float:
    """|S| / |T| if S is a non-empty subset of T, else 0 (TW-GRPO's multi-level soft reward).

    >>> soft_score({"B"}, {"B", "D"}), soft_score({"A", "B"}, {"B", "D"})
    (0.5, 0.0)
    """
    chosen, right = frozenset(predicted), frozenset(truth)
    if not right:
        raise ValueError(
            "the truth is empty; a sample without right options needs 'None of the options'"
        )
    return len(chosen) / len(right) if chosen and chosen <= right else 0.0


def exact_score(predicted: Collection[str], truth: Collection[str]) -> float:
    """1 if both sets are equal, else 0.

    >>> exact_score({"B", "D"}, ["D", "B"])
    1.0
    """
    return float(frozenset(predicted) == frozenset(truth))


def _ascii_lower(text: str) -> str:
    """Lower case that never changes a string's length, so that offsets stay valid."""
    return text.translate(_LOWER)


_LOWER = {ord(letter): letter.lower() for letter in LETTERS}


def _after_thinking(text: str) -> str:
    """What follows the last think block, without a stray closing tag of an answer."""
    lowered = _ascii_lower(text)
    thought = lowered.rfind("</think>")
    start = 0 if thought < 0 else thought + len("</think>")
    end = lowered.find("</answer>", start)
    return text[start : len(text) if end < 0 else end].strip()


def _bare_letters(block: str, options: Sequence[str]) -> frozenset[str]:
    """Letters, separators and filler words only: `A`, `(a)`, `A, C`, `A and C`, `AC`."""
    top = LETTERS[len(options) - 1] if options else "Z"
    found: set[str] = set()
    for word in _WORD.findall(block):
        if len(word) == 1 and word.isascii() and word.isalpha():
            found.add(word.upper())
        elif word in _SEPARATORS or word.lower() in _FILLERS:
            continue
        elif word.isupper() and len(set(word)) == len(word) <= 10 and max(word) <= top:
            found.update(word)
        else:
            return frozenset()
    return frozenset(found)


def _option_texts(block: str, options: Sequence[str]) -> frozenset[str]:
    """The text of one option, or of several on lines or between semicolons or commas.

    `A red cube` may name the option "A red cube" or repeat the prompt's line of option A, "red
    cube"; the option's own text wins.
    """
    by_text = {_normalise(text): letter for text, letter in zip(options, LETTERS, strict=False)}
    by_text.pop("", None)
    if len(by_text) != len(options):
        return frozenset()  # options that read alike cannot be told apart by their text
    by_text = {f"{letter.lower()} {text}": letter for text, letter in by_text.items()} | by_text
    for separator in (None, "\n", ";", ","):
        parts = [block] if separator is None else block.split(separator)
        named = [by_text.get(_normalise(part)) for part in parts if part.strip()]
        if named and None not in named:
            return frozenset(letter for letter in named if letter)
    return frozenset()


def _labels(block: str, options: Sequence[str]) -> frozenset[str]:
    """Labels in front of their texts: `A. the red cube` or `(A) … (C) …`."""
    if not _LABEL.match(block.lstrip()):
        return frozenset()
    return frozenset(_LABEL.findall(block))


def _normalise(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .")
