"""Check that the wrong options of a question exclude the right one.

"Which is NOT …" makes every wrong option right, so an option that repeats, contains or is contained
in the answer, or may be true beside it (`entailment`), would get a false label. Such an option is
left out. A question is refused, with a reason, if too few options remain or if its options refer to
each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from nontrivial.builders.qa.entailment import clash
from nontrivial.builders.qa.lexicon import (
    AROUND,
    BROAD_PLACES,
    BROADER,
    IRREGULAR,
    NUMBERS,
    STOP_WORDS,
    SYNONYMS,
    VAGUE,
)

LEAST = 3  # options that must remain; with fewer, blind picking earns too much

_CATCH_ALL = re.compile(
    r"\b(?:none|all|both|any|neither|either|two|some) of (?:the )?"
    r"(?:above|these|them|options|others?|below|given)\b|"
    r"^(?:none|all|both|neither|other|others|unknown|unsure|uncertain|n/?a|nothing|maybe)\W*$|"
    r"\b(?:not|n['’]?t) (?:sure|known|mentioned|clear|given|enough|shown|possible|be determined)\b|"
    r"\b(?:can ?not|can['’]?t|impossible to|unable to|hard to) (?:tell|say|know|determine|be|"
    r"extrapolate|infer|answer)\b|\bno (?:idea|answer|correct|option)|"
    r"^(?:both )?\(?[A-H]\)?(?: ?(?:,|and|&|or) ?\(?[A-H]\)?)+\W*$",
    re.IGNORECASE,
)
_YES_NO = re.compile(r"^(?:yes|no|true|false)\s*(?:[,.;:!].*)?$", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"[\d.,:%/$€]+|one[- ]?half")
_COUNTING = re.compile(r"\bhow (?:many|much)\b", re.IGNORECASE)
_WHERE = re.compile(r"\bwhere\b|\bplace\b|\blocation\b|\bsetting\b", re.IGNORECASE)
_COUNTERCLOCKWISE = re.compile(r"\b(?:counter|anti)[- ]?clockwise\b")
_WORD = re.compile(r"[a-z0-9]+(?:['’][a-z]+)?")


@dataclass(frozen=True)
class Kept:
    """Positions of the options that exclude each other; `doubtful` others were left out."""

    positions: list[int]
    doubtful: int


@dataclass(frozen=True)
class NotExclusive:
    """The reason why the options do not exclude each other."""

    reason: str


def exclusive_options(question: str, options: Sequence[str], answer: int) -> Kept | NotExclusive:
    """Select the options that may stand beside the answer in an inverted question.

    >>> exclusive_options("What is he doing?", ["sing", "singing a song", "run", "eat"], 0)
    Kept(positions=[0, 2, 3], doubtful=1)
    >>> exclusive_options("Is it red?", ["not sure", "no", "yes"], 2).reason
    'the options are yes and no'
    """
    refusal = _refusal(question, options)
    if refusal:
        return NotExclusive(refusal)
    is_where = bool(_WHERE.search(question))
    right = content(options[answer])
    if is_where and _is_broad_place(right):
        return NotExclusive("the answer is a place that contains others")
    if right and set(right) <= VAGUE:
        return NotExclusive("the answer is too general to exclude others")
    kept, seen = [answer], set()
    for position, option in enumerate(options):
        words, text = content(option), " ".join(_WORD.findall(option.casefold()))
        is_broad = set(words) <= VAGUE or (is_where and _is_broad_place(words))
        if position == answer or text in seen or is_broad or overlaps(words, right):
            continue
        if clash(options[answer], option, share=not set(words).isdisjoint(right)):
            continue
        kept.append(position)
        seen.add(text)
    if len(kept) < LEAST:
        few = len(options) < LEAST
        return NotExclusive("fewer than three options" if few else "the options overlap the answer")
    return Kept(sorted(kept), len(options) - len(kept))


def _is_broad_place(words: Sequence[str]) -> bool:
    return (bool(words) and BROAD_PLACES.issuperset(words)) or not AROUND.isdisjoint(words)


def overlaps(first: Sequence[str], second: Sequence[str]) -> bool:
    """True if one list of content words is contained in the other, in order.

    A word also matches the narrower words that it covers ("parent" matches "mother").

    >>> overlaps(content("talk"), content("talking to the lady"))
    True
    >>> overlaps(content("mother and son"), content("parent and offspring"))
    True
    >>> overlaps(content("from left to right"), content("from right to left"))
    False
    """
    short, long = sorted((first, second), key=len)
    rest = iter(long)
    return all(any(_is_alike(word, other) for other in rest) for word in short)


def _is_alike(first: str, second: str) -> bool:
    return first == second or second in BROADER.get(first, ()) or first in BROADER.get(second, ())


@lru_cache(maxsize=200_000)
def content(text: str) -> tuple[str, ...]:
    """Return the words that carry meaning, stemmed, with synonyms unified.

    >>> content("The boys are looking at a red car.")
    ('boy', 'see', 'red', 'car')
    >>> content("zoom in"), content("anti-clockwise")
    (('zoom', 'in'), ('counterclockwis',))
    """
    words = _WORD.findall(_COUNTERCLOCKWISE.sub("counterclockwise", text.casefold()))
    # A final "in" or "on" is no preposition: it tells "zooming in" from "zooming out".
    kept = [word for word in words[:-1] if word not in STOP_WORDS]
    kept += [word for word in words[-1:] if word not in STOP_WORDS or word in ("in", "on")]
    return tuple(SYNONYMS.get(stem, stem) for stem in map(_stem, kept or words))


def _refusal(question: str, options: Sequence[str]) -> str | None:
    if any(_YES_NO.match(option.strip()) for option in options):
        return "the options are yes and no"
    if any(_CATCH_ALL.search(option.strip()) for option in options):
        return "an option talks about the others or about not knowing"
    if _COUNTING.search(question) and any(is_number(option) for option in options):
        return "a count with numbers as options"
    return None


def is_number(text: str) -> bool:
    """True if a text starts with an amount, in digits or in words.

    >>> is_number("3 times"), is_number("Three."), is_number("a cat")
    (True, True, False)
    """
    first = text.casefold().split()[0].strip(".,") if text.split() else ""
    return first in NUMBERS or bool(_NUMBER.fullmatch(first))


_BASE_OF = {form: base for base, forms in IRREGULAR.items() for form in forms}
del _BASE_OF["left"]  # more often a side than a verb


def _stem(word: str) -> str:
    """Return a crude stem, enough to match "playing", "plays" and "played"."""
    word = word.split("'")[0].split("’")[0]
    word = _BASE_OF.get(word, word)
    for ending in ("ing", "ies", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)] + ("y" if ending == "ies" else "")
            if ending in ("ing", "ed") and word[-1] == word[-2] and word[-1] not in "ls":
                word = word[:-1]
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word
