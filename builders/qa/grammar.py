"""The English grammar needed to turn a question into a clause.

A question puts its auxiliary in front of the subject ("did the boy in red pick it up"), a clause
behind it ("the boy in red picked it up"). The task is to find where the predicate begins. In doubt
(two candidates, a noun that may be a verb, a typo) the result is None, and callers use a form that
needs no grammar.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from nontrivial.builders.qa.lexicon import (
    ADVERBS,
    BE,
    CLAUSE_OPENERS,
    COLOURS,
    DETERMINERS,
    DOUBLED,
    IRREGULAR,
    LINKS,
    LY_ADVERBS,
    NOT_PARTICIPLES,
    NOUN_OR_VERB,
    PREPOSITIONS,
    PRONOUNS,
    REGULAR,
    STATES,
)

_BASES = REGULAR | frozenset(IRREGULAR)
_PASTS = frozenset(form for forms in IRREGULAR.values() for form in forms) - _BASES - {"left"}
# "put", "cut" and "set" may be participles; "run" or "come" behind a subject is a base form.
_PARTICIPLES = frozenset(
    participle
    for base, (_, participle) in IRREGULAR.items()
    if participle != base or base in ("put", "cut", "set")
)


@dataclass(frozen=True)
class Clause:
    """A question split into auxiliary, words of the subject and words of the predicate."""

    auxiliary: str
    subject: list[str]
    predicate: list[str]

    def declarative(self) -> str | None:
        """Put the verb behind the subject: `did the boy run off` -> `the boy ran off`.

        Returns None if a second verb would have to be inflected too ("run off and hide").
        """
        verb, *rest = self.predicate
        inflect = {"did": past, "does": third_person}.get(self.auxiliary.lower())
        if inflect is None:
            plain = self.auxiliary.lower() == "do"
            return " ".join([*self.subject, *[self.auxiliary] * (not plain), verb, *rest]).strip()
        body = verb.rstrip(",;")
        joined = (bare(rest[i + 1]) for i, word in enumerate(rest[:-1]) if bare(word) in _JOINING)
        if any(word in _BASES for word in joined):
            return None
        return " ".join([*self.subject, inflect(body) + verb[len(body) :], *rest])


_JOINING = frozenset({"and", "or", "but", "then"})


def read_clause(auxiliary: str, words: Sequence[str]) -> Clause | None:
    """Split the words behind an auxiliary into subject and predicate; None in doubt.

    >>> read_clause("did", "the man in red pick up the ball".split()).subject
    ['the', 'man', 'in', 'red']
    >>> read_clause("is", "the girl dancing on the stage singing".split()) is None
    True
    """
    lower = [bare(word) for word in words]
    if _RELATED.search(" ".join(lower)):
        return None
    is_be = auxiliary.lower() in BE
    if lower and lower[0] in PRONOUNS | {"there"}:  # the whole subject
        start = 1 if is_be or (len(lower) > 1 and lower[1] in _BASES) else None
    else:
        start = _participle(lower) if is_be else _base_verb(lower)
    if start is None or not 0 < start < len(words):
        return None
    if is_be and words[start][:1].isupper():  # a name, as "Measuring Scale"
        return None
    return Clause(auxiliary, list(words[:start]), list(words[start:]))


_RELATED = re.compile(r"\b(?:relative|compared?|in relation|in comparison) (?:to|with)\b")


def bare(word: str) -> str:
    """Strip punctuation around a word and lower its case."""
    return word.strip(".,;:!?\"'()").lower()


def past(verb: str) -> str:
    """Return the simple past of a base form.

    >>> past("pick"), past("carry"), past("stop"), past("take"), past("move")
    ('picked', 'carried', 'stopped', 'took', 'moved')
    """
    if verb in IRREGULAR:
        return IRREGULAR[verb][0]
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return verb + verb[-1] * (verb in DOUBLED) + "ed"


def third_person(verb: str) -> str:
    """Return the third person singular of a base form.

    >>> third_person("run"), third_person("carry"), third_person("watch"), third_person("have")
    ('runs', 'carries', 'watches', 'has')
    """
    if verb in ("have", "be"):
        return {"have": "has", "be": "is"}[verb]
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "x", "z", "ch", "sh", "o")) else "s")


def is_participle(word: str) -> bool:
    """True if a word has the form of a present or past participle."""
    word = bare(word)
    is_regular = len(word) > 3 and word.endswith(("ing", "ed")) and word not in NOT_PARTICIPLES
    return word in _PARTICIPLES or is_regular


def free_participles(words: Sequence[str]) -> list[int]:
    """Return positions of participles and predicative adjectives that may be the predicate.

    Left out are adjectives in front of their noun ("the moving cube"), words bound to a preposition
    or to another verb ("that is moving"), and everything from a word like "when" on.

    >>> free_participles("the red cube moving when it is hit".split())
    [3]
    """
    lower, positions = [bare(word) for word in words], []
    for i, word in enumerate(lower):
        if i and word in CLAUSE_OPENERS:
            break
        if i and (is_participle(word) or word in STATES) and not _is_bound(lower[i - 1]):
            positions.append(i)
    return positions


def is_adverb(word: str) -> bool:
    """True if a word is an adverb that may stand between a subject and its verb."""
    word = bare(word)
    return word in ADVERBS or (word.endswith("ly") and word not in ("family", "fly", "belly"))


def is_third_person(word: str) -> bool:
    """True if a word may be a verb in the third person singular."""
    word = bare(word)
    return any(third_person(base) == word for base in (word[:-1], word[:-2]) if base in _BASES)


def starts_noun_phrase(word: str) -> bool:
    """True if a word can only begin a noun phrase: a determiner, a possessive or a pronoun."""
    word = bare(word)
    return word in DETERMINERS or word in PRONOUNS or word.endswith(("'s", "s'"))


def _is_bound(before: str) -> bool:
    """True if the word behind `before` is its noun or its complement."""
    return before in DETERMINERS or before in LINKS or before == "s" or before.endswith("'s")


def _base_verb(lower: list[str]) -> int | None:
    """Return the first base form that no determiner, preposition or pronoun turns into a noun."""
    verbs = [i for i, word in enumerate(lower) if word in _BASES]
    verbs = [i for i in verbs if i and not _is_bound_noun(lower[i - 1])]
    if not verbs:
        return None
    first, before = verbs[0], lower[: verbs[0]]
    if any(word in CLAUSE_OPENERS or word in _PASTS or _looks_past(word) for word in before):
        return None
    if _stands_below(lower):
        return None
    if len(verbs) > 1 and (lower[first] in NOUN_OR_VERB or _is_noun_before(lower, first, verbs[1])):
        return None
    if lower[first] in NOUN_OR_VERB and before[-1] in COLOURS:
        return None
    return first


def _is_noun_before(lower: list[str], first: int, second: int) -> bool:
    """True if the first of two verbs may be a noun: "the blocks in the video rise"."""
    if lower[first + 1] not in _OF_NOUNS or lower[second - 1] in COLOURS or lower[second] == "back":
        return False
    return not any(word in CLAUSE_OPENERS for word in lower[first:second])


_OF_NOUNS = frozenset({"of", "in", "on", "at", "above", "below", "under", "with", "from"})


def _is_bound_noun(before: str) -> bool:
    return _is_bound(before) and before not in ("all", "both", "each", "first", "last")


def _looks_past(word: str) -> bool:
    return word.endswith("ed") and word not in NOT_PARTICIPLES


def _participle(lower: list[str]) -> int | None:
    """Return the one participle or adjective behind the subject; None if there are none or more."""
    positions = free_participles(lower)
    if len(positions) == 2 and lower[positions[0]] == "being" and positions[1] == positions[0] + 1:
        positions.pop()
    if len(positions) != 1 or _is_modifier(lower, positions[0]):
        return None
    start = positions[0]
    if _has_second_predicate(lower[start + 1 :]) or _stands_below(lower):
        return None
    while start > 1 and lower[start - 1] in ADVERBS | LY_ADVERBS:
        start -= 1
    return start


def _has_second_predicate(behind: list[str]) -> bool:
    """True for an adverb in front of another predicate: "the man wearing a hat critically ill"."""
    return any(
        word.endswith("ly")
        and is_adverb(word)
        and after not in PREPOSITIONS | CLAUSE_OPENERS
        and after not in _JOINING
        and not is_adverb(after)
        for word, after in pairwise(behind)
    )


def _stands_below(lower: list[str]) -> bool:
    """True for a verb behind an adverb of place: "the person above climbing", "above appear"."""
    places = ("above", "below", "behind", "inside", "outside", "beneath")
    return any(
        word in places and (after.endswith("ing") or (after in REGULAR and after == lower[-1]))
        for word, after in pairwise(lower)
    )


def _is_modifier(lower: list[str], i: int) -> bool:
    """True if a past participle may modify the subject: "the method shown the second time"."""
    if lower[i].endswith("ing") or lower[i] in STATES:
        return False
    behind = lower[i + 1] if i + 1 < len(lower) else "."
    loose = behind in PREPOSITIONS or behind in CLAUSE_OPENERS or behind in (".", "together", "up")
    long_subject = any(word in ("to", "that", "which", "who", "for") for word in lower[:i])
    return not loose or long_subject
