"""Invert questions: their right options become the wrong ones and vice versa.

Inversion is exact in two cases. If each option is true or false by itself, *not* is added or
removed and every truth value flips. If the wrong options exclude the right one, all others become
right. Any other question stays as it is, with the reason.

**Blind picking.** An inverted single-choice question has one wrong option among n: reading NOT
gives the count, and picking k letters without looking earns k(n − k)/(n(n − 1)) of the soft reward,
at best 1/3 for n = 3 and 4, 0.30 for n = 5. Fewer options would raise this, so only doubtful ones
are left out. Where the count should tell nothing, `statements` are the form. Letters are drawn by a
hash of the question's id, so that the same question has the same letters in any file. Where nothing
is right, the answer is an option of its own, `NONE`. It is offered about `DECOYS` times as often
where it is wrong, or its presence would give it away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import comb, factorial

from nontrivial.builders.qa.benches.question import EXCLUSIVE, INDEPENDENT, NEGATED
from nontrivial.builders.qa.entailment import says_nothing
from nontrivial.builders.qa.exclusion import (
    DEFAULT,
    FEW,
    LEAST,
    Exclusion,
    Kept,
    NotExclusive,
    exclusive_options,
)
from nontrivial.builders.qa.negation import IS_NEGATIVE, NotNegated, negate, toggle

DECOYS = 3  # questions that offer NONE where it is wrong, per question where it is right
SEVERAL = "several options are right already"


@dataclass(frozen=True)
class Inversion:
    """An inverted question, its rule, and the positions of the old options that stay.

    `left_out` tells why others do not, `doubt` how much one that stays resembles the answer.
    """

    question: str
    rule: str
    positions: list[int]
    left_out: tuple[str, ...] = ()
    doubt: float = 0.0


@dataclass(frozen=True)
class NotInverted:
    """The reason why a question stays as it is; `eligible` if only its wording is in the way."""

    reason: str
    eligible: bool = False


def invert(
    question: str,
    options: Sequence[str],
    right: Sequence[bool],
    kind: str,
    rules: Exclusion = DEFAULT,
) -> Inversion | NotInverted:
    """Invert a question, so that exactly the old wrong options among those that stay are right.

    >>> invert("What will happen?", ["A hits B", "C exits"], [True, False], "independent").question
    'What will not happen?'
    >>> invert("Is it red?", ["yes", "no"], [True, False], "single").reason
    'the options are yes and no'
    """
    if kind == NEGATED:
        return NotInverted(IS_NEGATIVE)
    everything = Kept(list(range(len(options))), [], 0.0)
    if kind == INDEPENDENT:
        kept, negation = everything, toggle(question)
    else:
        if sum(right) != 1:
            return NotInverted(SEVERAL)
        if kind == EXCLUSIVE:
            if len(options) < LEAST:
                return NotInverted(FEW)
            chosen: Kept | NotExclusive = everything
        else:
            chosen = exclusive_options(question, options, list(right).index(True), rules)
        if isinstance(chosen, NotExclusive):
            return NotInverted(chosen.reason)
        kept = chosen
        denying = any(says_nothing(options[position]) for position in kept.positions)
        negation = negate(question, closed=kind == EXCLUSIVE, outer=denying)
    if isinstance(negation, NotNegated):
        return NotInverted(negation.reason, eligible=True)
    left_out = tuple(kept.left_out)
    return Inversion(negation.text, negation.rule, kept.positions, left_out, kept.doubt)


def shuffled(positions: Sequence[int], key: str) -> list[int]:
    """Permute by `key` alone, every permutation equally likely.

    >>> shuffled([0, 1, 2], "0/a") == shuffled([0, 1, 2], "0/a")
    True
    """
    rest = list(positions)
    drawn = _number(key, "order") % factorial(len(rest))
    order = []
    while rest:
        drawn, place = divmod(drawn, len(rest))
        order.append(rest.pop(place))
    return order


def uniform(*parts: str) -> float:
    """Hash the parts to a number in [0, 1)."""
    return (_number(*parts) >> 64) / 2**64


def decoy_rate(right: Sequence[int]) -> float:
    """Return the share of questions with right options that offer NONE, so that it is rarely right.

    `right` holds the number of right options of each question.

    >>> decoy_rate([0, 1, 2, 1, 1, 1, 1])
    0.5
    """
    empty = right.count(0)
    return min(1.0, DECOYS * empty / (len(right) - empty)) if empty < len(right) else 0.0


def blind_soft(options: int, right: int) -> float:
    """Return the most that picking k of n letters blindly earns: max_k (k/r)·C(r, k)/C(n, k).

    >>> round(blind_soft(5, 4), 3), round(blind_soft(4, 3), 3), blind_soft(4, 1)
    (0.3, 0.333, 0.25)
    """
    return max(k / right * comb(right, k) / comb(options, k) for k in range(1, right + 1))


def _number(*parts: str) -> int:
    """Hash the parts to 128 bits, enough to draw any permutation of 26 options."""
    return int.from_bytes(blake2b("\0".join(parts).encode(), digest_size=16).digest(), "big")
