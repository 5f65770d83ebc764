"""Check that the wrong options of a question exclude the right one.

"Which is NOT …" makes every wrong option right, so an option that repeats, contains or is contained
in the answer, or may be true beside it (`entailment`), would get a false label. Such an option is
left out. A question is refused, with a reason, if too few options remain or if its options refer to
each other.

**Doubt** is a number from 0 to 1: how much an option that stays resembles the answer. It is the
share of content words that both have (Dice), or `REORDERED` if one merely orders the other's words
anew, or the cosine of a text encoder where one is named, whichever is largest. An option is left
out from `STRICT` on if asked for, and in any case from a cosine of `PARAPHRASE` on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from nontrivial.builders.qa.entailment import clash
from nontrivial.builders.qa.lexicon import (
    AROUND,
    BODY,
    BROAD_PLACES,
    BROADER,
    IRREGULAR,
    NUMBERS,
    STOP_WORDS,
    SYNONYMS,
    VAGUE,
)

# Options that must remain: with fewer, blind picking earns too much. Where doubtful ones are left
# out, one more: a question must not become much easier to guess than it was.
LEAST = 3
FEW = "fewer than three options"
NORMAL, STRICT = 1.0, 0.6
REORDERED = 0.9
PARAPHRASE = 0.85
Likeness = Callable[[str, str], float]

_CATCH_ALL = re.compile(
    r"\b(?:none|all|both|any|neither|either|two|some) of (?:the )?"
    r"(?:above|these|them|options|others?|below|given)\b|"
    r"^(?:none|all|both|neither|other|others|unknown|unsure|uncertain|n/?a|nothing|maybe)\W*$|"
    r"\b(?:not|n['’]?t) (?:sure|known|mentioned|clear|given|enough|shown|possible|be determined)\b|"
    r"\b(?:can ?not|can['’]?t|impossible to|unable to|hard to) (?:tell|say|know|determine|be|"
    r"extrapolate|infer|answer)\b|\bno (?:idea|answer|correct|option)|"
    r"\b(?:do|does|doing|did) the same\b|"
    r"^(?:both )?\(?[A-H]\)?(?:(?:\s*(?:,|and|&|or)\s*)+\(?[A-H]\)?)+\W*$",
    re.IGNORECASE,
)
_YES_NO = re.compile(r"^(?:yes|no|true|false)\s*(?:[,.;:!].*)?$", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"[\d.,:%/$€]+|one[- ]?half")
_COUNTING = re.compile(r"\bhow (?:many|much)\b", re.IGNORECASE)
_WHERE = re.compile(r"\bwhere\b|\bplace\b|\blocation\b|\bsetting\b", re.IGNORECASE)
# What a question says happened, from its "after" or "when" on.
_CONDITION = re.compile(
    r"\b(?:do|doing|happens?|happened)\b.*?\b(?:after|before|when|while|as|once|time)\b(?P<given>.+)",
    re.IGNORECASE | re.DOTALL,
)
# "Both at the same time" is no third thing beside the two that may be first.
_FIRST = re.compile(r"\b(?:first|last|earlier|later|before|after|order)\b", re.IGNORECASE)
_TOGETHER = re.compile(r"^both\b|\b(?:simultaneous(?:ly)?|at the same time)\b", re.IGNORECASE)
_SOMETHING = re.compile(r"\b(?:some|any)(?:thing|one|body)\b", re.IGNORECASE)
# An answer to these may be a word that is vague elsewhere, such as "Action".
_GENRE = re.compile(
    r"\b(?:genre|topic|theme|category|(?:type|kind|sort|style)s? of)\b", re.IGNORECASE
)
_COUNTERCLOCKWISE = re.compile(r"\b(?:counter|anti)[- ]?clockwise\b")
_LIST = re.compile(r",|;| and | & ")
_WORD = re.compile(r"[a-z0-9]+(?:['’][a-z]+)?")


@dataclass(frozen=True)
class Kept:
    """Positions of the options that exclude each other, why others were left out, and the doubt."""

    positions: list[int]
    left_out: list[str]
    doubt: float


@dataclass(frozen=True)
class NotExclusive:
    """The reason why the options do not exclude each other."""

    reason: str


@dataclass(frozen=True)
class Exclusion:
    """How strictly options must exclude the answer.

    limit       doubt from which on an option is left out
    likeness    cosine of two options' texts by a text encoder
    statements  no NOT is asked: two options suffice, and may be yes and no, or counts
    """

    limit: float = NORMAL
    likeness: Likeness | None = None
    statements: bool = False


DEFAULT = Exclusion()


def exclusive_options(
    question: str, options: Sequence[str], answer: int, rules: Exclusion = DEFAULT
) -> Kept | NotExclusive:
    """Select the options that may stand beside the answer in an inverted question.

    >>> exclusive_options("What is he doing?", ["sing", "sing a song", "run", "eat", "dig"], 0)
    Kept(positions=[0, 2, 3, 4], left_out=['contains the answer or is part of it'], doubt=0.0)
    >>> exclusive_options("Is it red?", ["not sure", "no", "yes"], 2).reason
    'the options are yes and no'
    """
    refusal = _refusal(question, options, rules.statements)
    if refusal:
        return NotExclusive(refusal)
    is_where = bool(_WHERE.search(question))
    right = content(options[answer])
    if is_where and _is_broad_place(right):
        return NotExclusive("the answer is a place that contains others")
    is_genre = bool(_GENRE.search(question))
    if right and not is_genre and _is_vague(options[answer], right):
        return NotExclusive("the answer is too general to exclude others")
    if _FIRST.search(question) and _TOGETHER.search(options[answer]):
        return NotExclusive("the answer is about the others")
    given = _given(question)
    kept, seen, left_out, most = [answer], set(), [], 0.0
    for position, option in enumerate(options):
        if position == answer:
            continue
        words, text = content(option), " ".join(_WORD.findall(option.casefold()))
        why = "comes twice" if text in seen else None
        if (_is_vague(option, words) and not is_genre) or (is_where and _is_broad_place(words)):
            why = why or "is too general to be wrong"
        why = why or _why_beside(option, words, options[answer], right)
        why = why or ("is said in the question" if words and given.issuperset(words) else None)
        alike = 0.0
        if not why and rules.likeness:
            alike = rules.likeness(option, options[answer])
            why = "paraphrases the answer" if alike >= PARAPHRASE else None
        doubt = 0.0 if why else max(_doubt(words, right), alike)
        if why or doubt >= rules.limit:
            left_out.append(why or "is worded much like the answer")
            continue
        kept.append(position)
        seen.add(text)
        most = max(most, doubt)
    least = 2 if rules.statements else LEAST + bool(left_out)
    if len(kept) < least:
        few = len(options) < LEAST
        return NotExclusive(FEW if few else "the options overlap the answer")
    return Kept(sorted(kept), left_out, most)


def _given(question: str) -> set[str]:
    """Return the content words of what a question says happened: "… do after he ran forward"."""
    match = _CONDITION.search(question)
    return set(content(match["given"])) if match else set()


def _why_beside(option: str, words: Sequence[str], answer: str, right: Sequence[str]) -> str | None:
    """Return why an option may be right beside the answer, or None, given their content words."""
    if overlaps(words, right) or _is_sublist(words, right, option, answer):
        return "contains the answer or is part of it"
    return clash(answer, option, share=not set(words).isdisjoint(right))


def _is_sublist(words: Sequence[str], right: Sequence[str], option: str, answer: str) -> bool:
    """True for two enumerations of which one holds everything that the other does, and more."""
    if not (_LIST.search(option) or _LIST.search(answer)):
        return False
    return set(words) < set(right) or set(right) < set(words)


def _doubt(words: Sequence[str], right: Sequence[str]) -> float:
    first, second = set(words), set(right)
    if first == second:
        return REORDERED
    return min(2 * len(first & second) / (len(first) + len(second)), REORDERED)


def _is_vague(text: str, words: Sequence[str]) -> bool:
    """True for "doing an activity", "show something", "use its mouth"; a sentence says more."""
    if len(words) <= 3 and _SOMETHING.search(text):
        return True
    with_body = words[:1] in (("use",), ("mov",)) and BODY.issuperset(words[1:])
    return set(words) <= VAGUE or with_body


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


def _refusal(question: str, options: Sequence[str], statements: bool) -> str | None:
    if not statements and any(_YES_NO.match(option.strip()) for option in options):
        return "the options are yes and no"
    if any(_CATCH_ALL.search(option.strip()) for option in options):
        return "an option talks about the others or about not knowing"
    if (
        not statements
        and _COUNTING.search(question)
        and any(is_number(option) for option in options)
    ):
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
