"""Answers as sets of letters: lenient reading, writing, comparison.

A completion should read `<think> … </think> <answer>A,C</answer>`. Reading takes the last answer
block and accepts what people and models write in it: `A`, `a`, `(A)`, `A.`, `A and C`, `AC`,
`A. the red cube`, or the text of an option. Every function is linear in the text's length.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NONE = "None of the options"  # the right option of a question without any other right option
MAX_ANSWER_CHARS = 4096  # longer texts are cut, which keeps hostile completions cheap

_WORD = re.compile(r"[A-Za-z]+|[0-9]+|[^\sA-Za-z0-9]")
_FILLERS = frozenset({"and", "or", "answer", "answers", "option", "options", "the", "is", "are"})
_SEPARATORS = frozenset(",;/&+.:()[]{}|*\"'`")
_OPTION_LABEL = re.compile(r"\s*\(?([A-Z])[.):]\s*")
# Lower case that keeps a text's length, unlike `str.lower`, so that offsets stay valid.
_ASCII_LOWER = str.maketrans(LETTERS, LETTERS.lower())
_LABEL = re.compile(r"(?:^|(?<=[\s,;(\[]))[(\[]?([A-Z])[.):\]](?=\s|$)")


def letters(count: int) -> list[str]:
    """Return the labels of `count` options.

    >>> letters(3)
    ['A', 'B', 'C']
    """
    if not 0 <= count <= len(LETTERS):
        raise ValueError(f"{count} options; at most {len(LETTERS)} can be lettered")
    return list(LETTERS[:count])


def lettered(options: Sequence[str]) -> str:
    """Return the options as prompts show them, one a line.

    >>> print(lettered(["red", "blue"]))
    A red
    B blue
    """
    labelled = zip(letters(len(options)), options, strict=True)
    return "\n".join(f"{letter} {option}" for letter, option in labelled)


def unlabel(options: Sequence[str]) -> list[str]:
    """Remove the labels of options, but only if every option has the expected label.

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
    """Remove the label in front of an option's text, if there is one.

    >>> without_label("(B) blue"), without_label("blue")
    ('blue', 'blue')
    """
    return _OPTION_LABEL.sub("", text, count=1).strip()


def format_answer(answer: Iterable[str]) -> str:
    """Write letters in ascending order into an answer block.

    >>> format_answer({"C", "A"})
    '<answer>A,C</answer>'
    """
    return f"<answer>{','.join(sorted(answer))}</answer>"


def answer_block(text: str) -> str | None:
    """Return the content of the last `<answer>`, closed or not; None without such a block.

    >>> answer_block("<answer>A</answer> no: <answer> B </answer>")
    'B'
    """
    return _content_after("<answer>", text)


def read_answer(
    text: str, options: Sequence[str] = (), *, need_block: bool = True
) -> frozenset[str]:
    """Read the set of letters that a completion answers with; empty if none can be read.

    With `need_block=False` a text without answer block is read whole, from its last `</think>` on,
    as evaluation does for models that were never asked for tags.

    >>> sorted(read_answer("<think>…</think><answer>(a) and C.</answer>"))
    ['A', 'C']
    >>> sorted(read_answer("<answer>a red cube</answer>", ["A blue cube", "A red cube"]))
    ['B']
    """
    block = answer_block(text)
    if block is None and not need_block:
        # The added tag is the last one only in a text without any.
        block = _content_after("</think>", f"</think>{text}")
    return read_letters((block or "")[:MAX_ANSWER_CHARS], options)


def read_letters(block: str, options: Sequence[str] = ()) -> frozenset[str]:
    """Read the letters in the content of an answer block; see `read_answer`."""
    for read in (_bare_letters, _option_texts, _labels):
        if chosen := read(block, options):
            return chosen
    return frozenset()


def is_formatted(text: str, *, thought: bool = True) -> bool:
    """True for one think block, then one answer block that is not empty, and nothing else.

    With `thought=False`, for the answer block alone.

    >>> is_formatted("<think>hm</think>\\n<answer>A</answer>")
    True
    >>> is_formatted("<answer>A</answer>")
    False
    """
    text = text.strip() if thought else f"<think></think>{text.strip()}"
    tags = ("<think>", "</think>", "<answer>", "</answer>")
    if any(text.count(tag) != 1 for tag in tags):
        return False
    before, _, rest = text.partition("</think>")
    rest = rest.strip()
    return (
        before.startswith("<think>")
        and rest.startswith("<answer>")
        and rest.endswith("</answer>")
        and bool(answer_block(rest))
    )


def soft_score(predicted: Collection[str], truth: Collection[str]) -> float:
    """Return |S| / |T| if S is a non-empty subset of T, else 0 (TW-GRPO's multi-level soft reward).

    >>> soft_score({"B"}, {"B", "D"}), soft_score({"A", "B"}, {"B", "D"})
    (0.5, 0.0)
    """
    chosen, right = frozenset(predicted), frozenset(truth)
    if not right:
        raise ValueError(f"the truth is empty; a sample without right options needs {NONE!r}")
    return len(chosen) / len(right) if chosen and chosen <= right else 0.0


def exact_score(predicted: Collection[str], truth: Collection[str]) -> float:
    """Return 1 if both sets are equal, else 0.

    >>> exact_score({"B", "D"}, ["D", "B"])
    1.0
    """
    return float(frozenset(predicted) == frozenset(truth))


def per_option_score(predicted: Collection[str], truth: Collection[str], count: int) -> float:
    """Return the share of `count` options rightly chosen or rightly left; 0 if none is chosen.

    It is one minus the Hamming distance of the two sets over the number of options, as CLEVRER
    reports it.

    >>> per_option_score({"A", "B"}, {"B", "C"}, 4)
    0.5
    """
    chosen, right = frozenset(predicted), frozenset(truth)
    return max(0.0, 1 - len(chosen ^ right) / count) if chosen else 0.0


def balanced_score(predicted: Collection[str], truth: Collection[str], count: int) -> float:
    """Return the shares of right options chosen and of wrong options left, minus one: −1 to 1.

    It is Youden's J of the verdicts on `count` options. Choosing all or none earns 0, whatever the
    number of right options. Without a wrong option nothing can be left wrongly. Letters beyond the
    options are wrong, and count for no more than all that is wrong.

    >>> balanced_score({"A", "B"}, {"B"}, 4), balanced_score({"A", "B"}, {"A", "B"}, 2)
    (0.6666666666666667, 1.0)
    """
    chosen, right = frozenset(predicted), frozenset(truth)
    left = max(0.0, 1 - len(chosen - right) / max(count - len(right), 1))
    return len(chosen & right) / len(right) + left - 1


def _content_after(tag: str, text: str) -> str | None:
    """Return the text from the last `tag` to the next `</answer>` or the end; None without tag."""
    lowered = text.translate(_ASCII_LOWER)
    start = lowered.rfind(tag)
    if start < 0:
        return None
    start += len(tag)
    end = lowered.find("</answer>", start)
    return text[start : len(text) if end < 0 else end].strip()


def _bare_letters(block: str, options: Sequence[str]) -> frozenset[str]:
    """Read letters among separators and fillers only: `A`, `(a)`, `A, C`, `A and C`, `AC`."""
    top = max(LETTERS[: len(options)] or LETTERS)
    chosen: set[str] = set()
    for word in _WORD.findall(block):
        if len(word) == 1 and word.isascii() and word.isalpha():
            chosen.add(word.upper())
        elif word in _SEPARATORS or word.lower() in _FILLERS:
            continue
        elif word.isupper() and len(set(word)) == len(word) <= 10 and max(word) <= top:
            chosen.update(word)
        else:
            return frozenset()
    return frozenset(chosen)


def _option_texts(block: str, options: Sequence[str]) -> frozenset[str]:
    """Read the text of one option, or of several on lines or between semicolons or commas.

    `A red cube` is the option "A red cube" if there is one, else the prompt's line of option A,
    "red cube".
    """
    by_text = {_normalise(text): letter for text, letter in zip(options, LETTERS, strict=False)}
    by_text.pop("", None)
    if len(by_text) != len(options):  # options of equal text cannot be told apart by it
        return frozenset()
    by_text = {f"{letter.lower()} {text}": letter for text, letter in by_text.items()} | by_text
    for separator in (None, "\n", ";", ","):
        parts = [block] if separator is None else block.split(separator)
        named = [by_text.get(_normalise(part), "") for part in parts if part.strip()]
        if named and all(named):
            return frozenset(named)
    return frozenset()


def _labels(block: str, options: Sequence[str]) -> frozenset[str]:
    """Read labels in front of their texts: `A. the red cube` or `(A) … (C) …`."""
    return frozenset(_LABEL.findall(block) if _LABEL.match(block.lstrip()) else ())


def _normalise(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .")
