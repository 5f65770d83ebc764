"""Question inversion as published, written plainly: what the builder is compared against.

The first auxiliary of the question gets "n't" (a question without one stays as it is), every other
option becomes right, and as many of them as a uniform draw says are kept beside the old answer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

_AUXILIARIES = ("is", "are", "was", "were", "do", "does", "did", "has", "have", "can", "could")
_CONTRACTED = {"will": "won't", "can": "can't"}


def invert_published(
    question: str, options: Sequence[str], answer: int, rng: random.Random
) -> tuple[str, list[str], list[bool]]:
    """The inverted question, its options and which of them are right."""
    words = question.split(" ")
    for place, word in enumerate(words):
        if word.lower() in _CONTRACTED:
            words[place] = _CONTRACTED[word.lower()]
            break
        if word.lower() in _AUXILIARIES:
            words[place] = word + "n't"
            break
    wrong = [option for position, option in enumerate(options) if position != answer]
    kept = rng.sample(wrong, rng.randint(1, len(wrong)))
    made = [*((option, True) for option in kept), (options[answer], False)]
    rng.shuffle(made)
    return " ".join(words), [option for option, _ in made], [right for _, right in made]
