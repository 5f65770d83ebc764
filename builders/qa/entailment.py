"""Options that may be true beside the answer although their words differ.

    whole and part   "throughout the video" beside "in the middle"
    amounts          "more than 3,000" beside "more than 2,000", "5-10" beside "8-12"
    both and one     "both hands" beside "right hand", "neither hand" or "either hand"

And options that deny something ("not moving", "no change"): with a NOT in front of the question's
verb they would be a double negative.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import NamedTuple

_WHOLE = re.compile(
    r"\b(?:throughout|entire|entirely|whole|always|constantly|continuously|all the time|"
    r"from (?:the )?(?:beginning|start) (?:to|till|until) (?:the )?end)\b",
    re.IGNORECASE,
)
_PART = re.compile(
    r"\b(?:beginning|start|middle|end|ending|first|second|third|last|half|quarter|early|late|"
    r"later|once|twice|sometimes|briefly|before|after|during)\b",
    re.IGNORECASE,
)
_TIME = re.compile(f"{_WHOLE.pattern}|{_PART.pattern}", re.IGNORECASE)
_LONG_WORD = re.compile(r"[a-z]{4,}")
_SHARED = re.compile(
    r"\b(?:both|neither|either|one of|none of|each of|any of|all of|every)\b|"
    r"(?<!at )(?<!after )\ball\b(?! (?:the )?(?:time|over|around|day|along|right)\b)",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"^\W*(?:it |he |she |they |the \w+ )?(?:is |are |was |were |do |does |did |has |have )?"
    r"(?:not|no|never|nothing|nobody|no one|none|neither|nowhere)\b|"
    r"\bthere (?:is|are|was|were) (?:no|not|nothing|nobody)\b|"
    r"\b(?:is|are|was|were|do|does|did|has|have|ca|wo|would|could)n['’]?t\b",
    re.IGNORECASE,
)
_DIGITS = r"\d[\d,]*(?:\.\d+)?"
_NUMBER_WORDS = tuple(
    word
    for words in (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen",
        "fourteen fifteen sixteen seventeen eighteen nineteen twenty",
    )
    for word in words.split()
)
_ONE = rf"(?:[$€£] ?)?(?P<{{}}>{_DIGITS}|{'|'.join(_NUMBER_WORDS)})(?: ?%)?"
_LOW, _HIGH, _ONLY = (_ONE.format(name) for name in ("low", "high", "only"))
_CLOCK = r"(?P<{}>\d{{1,2}}:\d\d(?::\d\d)?)"
_AMOUNTS = [
    (kind, re.compile(rf"(?<![\w.]){pattern}(?![\w.]\d)", re.IGNORECASE))
    for kind, pattern in (
        ("between", rf"{_CLOCK.format('low')} ?(?:-|–|—|,|to|and|until) ?{_CLOCK.format('high')}"),
        ("between", rf"between {_LOW} and {_HIGH}"),
        ("between", rf"(?:from )?{_LOW} ?(?:-|–|—|to) ?{_HIGH}"),
        ("above", rf"(?:more than|over|above|greater than|at least|no less than) {_ONLY}"),
        ("above", rf"{_ONLY} ?(?:\+|or more|or above|and above|or over)"),
        ("below", rf"(?:less than|under|below|fewer than|at most|up to|no more than) {_ONLY}"),
        ("below", rf"{_ONLY} (?:or less|or fewer|or below|or under)"),
        ("about", rf"(?:about|around|approximately|roughly|nearly|almost) {_ONLY}"),
        ("exactly", _ONLY),
    )
]
ABOUT = 0.1  # how far "about 100" reaches, of the amount


class Amount(NamedTuple):
    """A range of numbers and the words around it."""

    low: float
    high: float
    unit: str


def clash(first: str, second: str, *, share: bool) -> str | None:
    """Return why two options may both be true, or None; `share` if they have a word in common.

    >>> clash("throughout the video", "at the end", share=False)
    'a whole and its part'
    >>> clash("more than 3,000", "more than 2,000", share=True)
    'amounts that overlap'
    >>> clash("both hands", "right hand", share=True)
    'both and one'
    >>> clash("5 dogs", "6 dogs", share=True)
    """
    if _is_whole(first, second) or _is_whole(second, first):
        return "a whole and its part"
    one, other = amount(first), amount(second)
    if one and other and _overlap(one, other):
        return "amounts that overlap"
    if share and bool(_SHARED.search(first)) != bool(_SHARED.search(second)):
        return "both and one"
    return None


def _is_whole(first: str, second: str) -> bool:
    """True if the first text speaks of all of that of which the second one takes a part."""
    if not _WHOLE.search(first) or not _PART.search(second) or _WHOLE.search(second):
        return False
    rests = [set(_LONG_WORD.findall(_TIME.sub(" ", text.lower()))) for text in (first, second)]
    return rests[0] <= rests[1] or rests[1] <= rests[0]


def says_nothing(option: str) -> bool:
    """True for an option that denies something, as "not moving", "no change".

    >>> [says_nothing(text) for text in ("not moving", "There is no car", "a knot")]
    [True, True, False]
    """
    return bool(_NOTHING.search(option))


@lru_cache(maxsize=100_000)
def amount(text: str) -> Amount | None:
    """Read a range of numbers with its unit; None where there is none.

    >>> amount("more than 3,000 people")
    Amount(low=3000.0, high=inf, unit='people')
    >>> amount("5-10 km/h"), amount("a dog")
    (Amount(low=5.0, high=10.0, unit='km/h'), None)
    """
    for kind, pattern in _AMOUNTS:
        match = pattern.search(text)
        if match:
            unit = " ".join((text[: match.start()] + " " + text[match.end() :]).split()).casefold()
            if any(other.search(unit) for _, other in _AMOUNTS[-1:]):
                return None  # a second number: a date, a score, a list
            return Amount(*_range(kind, match), unit.strip(" .,"))
    return None


def _range(kind: str, match: re.Match[str]) -> tuple[float, float]:
    if kind == "between":
        low, high = _value(match["low"]), _value(match["high"])
        return min(low, high), max(low, high)
    value = _value(match["only"])
    return {
        "above": (value, math.inf),
        "below": (-math.inf, value),
        "about": (value * (1 - ABOUT), value * (1 + ABOUT)),
        "exactly": (value, value),
    }[kind]


def _value(text: str) -> float:
    word = text.casefold()
    if ":" in word:  # a time
        seconds = 0
        for part in word.split(":"):
            seconds = seconds * 60 + int(part)
        return float(seconds)
    return (
        float(_NUMBER_WORDS.index(word)) if word in _NUMBER_WORDS else float(text.replace(",", ""))
    )


def _overlap(first: Amount, second: Amount) -> bool:
    """True if ranges of one unit share more than an end."""
    if first.unit != second.unit:
        return False
    low, high = max(first.low, second.low), min(first.high, second.high)
    points = first.low == first.high or second.low == second.high
    return low <= high if points else low < high
