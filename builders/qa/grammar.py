"""Just enough English grammar to turn a question into a clause: where the predicate begins.

A question puts its auxiliary in front of the subject ("did the boy in red pick it up"); a clause
puts it behind ("the boy in red picked it up"). Everything hangs on finding the first word of the
predicate. Where the words leave a doubt (two candidates, a noun that may be a verb, a typo) the
answer is None: callers have a form that needs no grammar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nontrivial.builders.qa.lexicon import (
    ADVERBS,
    BE,
    CLAUSE_OPENERS,
    COLOURS,
    DETERMINERS,
    DOUBLED,
    IRREGULAR,
    LINKS,
    NOT_PARTICIPLES,
    NOUN_OR_VERB,
    PREPOSITIONS,
    PRONOUNS,
    REGULAR,
    STATES,
)

_BASES = REGULAR | frozenset(IRREGULAR)
_PASTS = frozenset(form for forms in IRREGULAR.values() for form in forms) - _BASES - {"left"}
# "put" and "cut" are their own participles; "run" or "come" behind a subject are base forms.
_PARTICIPLES = frozenset(
    participle
    for base, (_, participle) in IRREGULAR.items()
    if participle != base or base in ("put", "cut", "set")
)


@dataclass(frozen=True)
class Clause:
    """An auxiliary, the subject behind it, and the predicate behind the subject, as words."""

    auxiliary: str
    subject: list[str]
    predicate: list[str]

    def declarative(self) -> str | None:
        """Subject, then verb: `did the boy run off` -> `the boy ran off`.

        None where a second verb would have to follow ("run off and hide").
        """
        verb, *rest = self.predicate
        inflect = {"did": past, "does": third_person}.get(self.auxiliary.lower())
        if inflect is None:
            plain = self.auxiliary.lower() == "do"
            return " ".join([*self.subject, *[self.auxiliary] * (not plain), verb, *rest]).strip()
        joined = (bare(rest[i + 1]) for i, word in enumerate(rest[:-1]) if bare(word) in _JOINING)
        if any(word in _BASES for word in joined):
            return None
        return " ".join([*self.subject, inflect(verb), *rest])


_JOINING = frozenset({"and", "or", "but", "then"})


def read_clause(auxiliary: str, words: Sequence[str]) -> Clause | None:
    """Split what follows an auxiliary into subject and predicate, or None where there is a doubt.

    >>> read_clause("did", "the man in red pick up the ball".split()).subject
    ['the', 'man', 'in', 'red']
    >>> read_clause("is", "the girl dancing on the stage singing".split()) is None
    True
    """
    lower = [bare(word) for word in words]
    is_be = auxiliary.lower() in BE
    if lower and lower[0] in PRONOUNS | {"there"}:  # the whole subject
        start = 1 if is_be or (len(lower) > 1 and lower[1] in _BASES) else None
    else:
        start = _participle(lower) if is_be else _base_verb(lower)
    if start is None or not 0 < start < len(words):
        return None
    return Clause(auxiliary, list(words[:start]), list(words[start:]))


def bare(word: str) -> str:
    """A word without punctuation around it, in lower case."""
    return word.strip(".,;:!?\"'()").lower()


def past(verb: str) -> str:
    """The simple past of a base form.

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
    """The third person singular of a base form.

    >>> third_person("run"), third_person("carry"), third_person("watch"), third_person("have")
    ('runs', 'carries', 'watches', 'has')
    """
    if verb in ("have", "be"):
        return {"have": "has", "be": "is"}[verb]
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "x", "z", "ch", "sh", "o")) else "s")


def is_participle(word: str) -> bool:
    """Whether a word is an -ing form or a past participle, as far as its shape tells."""
    word = bare(word)
    if word in _PARTICIPLES:
        return True
    return len(word) > 3 and word.endswith(("ing", "ed")) and word not in NOT_PARTICIPLES


def free_participles(words: Sequence[str]) -> list[int]:
    """Positions of participles and predicative adjectives that may be the predicate.

    Not counted: an adjective in front of its noun ("the moving cube"), a word bound to a
    preposition or to another verb ("that is moving"), and all that follows "when" and the like.

    >>> free_participles("the red cube moving when it is hit".split())
    [3]
    """
    lower, found = [bare(word) for word in words], []
    for i, word in enumerate(lower):
        if i and word in CLAUSE_OPENERS:
            break
        if i and (is_participle(word) or word in STATES) and not _is_bound(lower[i - 1]):
            found.append(i)
    return found


def is_adverb(word: str) -> bool:
    """Whether a word is an adverb that may stand between a subject and its verb."""
    word = bare(word)
    return word in ADVERBS or (word.endswith("ly") and word not in ("family", "fly", "belly"))


def is_third_person(word: str) -> bool:
    """Whether a word may be a verb in the third person singular."""
    word = bare(word)
    return word.endswith("s") and any(
        third_person(base) == word for base in (word[:-1], word[:-2]) if base in _BASES
    )


def starts_noun_phrase(word: str) -> bool:
    """Whether a word can only begin a subject: a determiner, a possessive or a pronoun."""
    word = bare(word)
    return word in DETERMINERS or word in PRONOUNS or word.endswith(("'s", "s'"))


def _is_bound(before: str) -> bool:
    """Whether the word behind `before` is its noun or its complement."""
    return before in DETERMINERS or before in LINKS or before == "s" or before.endswith("'s")


def _base_verb(lower: list[str]) -> int | None:
    """The first base form that no determiner, preposition or relative pronoun turns into a noun."""
    found = [
        i
        for i, word in enumerate(lower)
        if i and word in _BASES and not _is_bound_noun(lower[i - 1])
    ]
    if not found:
        return None
    first = found[0]
    before = lower[:first]
    if any(word in CLAUSE_OPENERS or word in _PASTS or _looks_past(word) for word in before):
        return None
    if lower[first] in NOUN_OR_VERB and (before[-1] in COLOURS or len(found) > 1):
        return None
    return first


def _is_bound_noun(before: str) -> bool:
    return _is_bound(before) and before not in ("all", "both", "each", "first", "last")


def _looks_past(word: str) -> bool:
    return word.endswith("ed") and word not in NOT_PARTICIPLES


def _participle(lower: list[str]) -> int | None:
    """The one participle or adjective behind the subject; None if there is none or a second."""
    found = free_participles(lower)
    if len(found) == 2 and lower[found[0]] == "being" and found[1] == found[0] + 1:
        found.pop()
    if len(found) != 1 or _is_modifier(lower, found[0]):
        return None
    start = found[0]
    while start > 1 and is_adverb(lower[start - 1]):
        start -= 1
    return start


def _is_modifier(lower: list[str], i: int) -> bool:
    """A past participle that may belong to the subject: "the method shown the second time"."""
    if lower[i].endswith("ing") or lower[i] in STATES:
        return False
    behind = lower[i + 1] if i + 1 < len(lower) else "."
    loose = behind in PREPOSITIONS or behind in CLAUSE_OPENERS or behind in (".", "together", "up")
    long_subject = any(word in ("to", "that", "which", "who", "for") for word in lower[:i])
    return not loose or long_subject
