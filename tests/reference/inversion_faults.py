"""Searches inverted questions for the faults of published inversions, knowing none of our rules."""

from __future__ import annotations

import re

_CONTRACTED = r"n['’]t\b|\b(?:did|does|do|is|are|was|were|wo|ca|could|would)n ?t\b"
_NEGATION = re.compile(
    r"\b(?:not|never|cannot|neither|nor|nobody|nothing|except|incorrect|false)\b|" + _CONTRACTED,
    re.I,
)
_NEGATED_CLAUSE = re.compile(
    r"\b(?:why|how|(?:for|by|with) what (?:reason|purpose|means))\b[^.!]*?(?:\bnot\b|"
    + _CONTRACTED
    + ")",
    re.I,
)
_ILL_FORMED = re.compile(
    r"\b(\w+) \1 NOT\b|\bNOT NOT\b|\b(?:did|does|do) (?:is|are|was|were)\b|\s{2,}|\bNOT$", re.I
)


def is_unchanged(before: str, after: str) -> bool:
    """The same words, whatever their case and punctuation."""
    return re.findall(r"\w+", before.lower()) == re.findall(r"\w+", after.lower())


def negates_a_clause(text: str) -> bool:
    """A why or how question whose clause is denied: it presupposes what did not happen."""
    return bool(_NEGATED_CLAUSE.search(text))


def is_doubly_negated(text: str) -> bool:
    """Two negations in one question."""
    return len(_NEGATION.findall(text)) > 1


def is_ill_formed(text: str) -> bool:
    """Repeated words around NOT, two auxiliaries in a row, stray spaces."""
    return bool(_ILL_FORMED.search(text))
