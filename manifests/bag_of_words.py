"""A learned rule that answers without the media: a logistic bag of words.

It sees the words of each option, its whole text, its letter, its length beside the other options',
and the first words of the question together with the option. Where the question says NOT, all of
this has weights of its own. The rule is fitted on options of one half of the groups, `FITTED` at
most, and asked about as many of the other half, both ways round.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise

import numpy as np

FITTED = 10_000  # options that a half is fitted on or asked about, at most
FEWEST = 200  # questions; with fewer, what is learned is noise
WIDTH = 2**18  # hashed features
_WORD = re.compile(r"\w+")


def probabilities(
    questions: Sequence[str],
    options: Sequence[Sequence[str]],
    right: Sequence[Sequence[bool]],
    says_not: np.ndarray,
    half: np.ndarray,
) -> list[np.ndarray]:
    """Return P(right) of all options, flat (N,), fitted on the half (Q,) bool, and on the other.

    A half without both right and wrong options gives .5.
    """
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    words = [
        _features(question, offered, place, denies)
        for question, offered, denies in zip(questions, options, says_not.tolist(), strict=True)
        for place in range(len(offered))
    ]
    hashed = HashingVectorizer(
        analyzer=list, n_features=WIDTH, binary=True, alternate_sign=False, norm=None
    ).transform(words)
    truth = np.concatenate([np.asarray(row, bool) for row in right])
    fitted = np.repeat(half, [len(row) for row in right])
    values = []
    for fit in (fitted, ~fitted):
        value = np.full(len(truth), 0.5)
        if fit.any() and len(set(truth[fit].tolist())) == 2:
            learner = LogisticRegression(solver="liblinear", C=0.3)
            value = learner.fit(hashed[fit], truth[fit]).predict_proba(hashed)[:, 1]
        values.append(value)
    return values


def sample(groups: Sequence[str], counts: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Choose whole groups by a hash of their names, up to `FITTED` options a half, (M,) int64."""
    order = sorted(
        range(len(groups)), key=lambda row: blake2b(groups[row].encode(), digest_size=8).digest()
    )
    ordered = np.array(order, np.int64)
    chosen = [
        rows[np.cumsum(counts[rows]) <= FITTED]
        for rows in (ordered[half[ordered]], ordered[~half[ordered]])
    ]
    return np.sort(np.concatenate(chosen))


def _features(question: str, options: Sequence[str], place: int, says_not: bool) -> list[str]:
    text = options[place].casefold()
    words = _WORD.findall(text)
    kind = " ".join(_WORD.findall(question.casefold())[:3])
    lengths = sorted(len(option) for option in options)
    told = [
        f"text={text}",
        f"letter={place}/{len(options)}",
        f"length={lengths.index(len(text))}/{len(options)}",
        f"words={min(len(words), 20)}",
        f"{kind}|{text}",
        *words,
        *(f"{first} {second}" for first, second in pairwise(words)),
    ]
    return [f"NOT {feature}" for feature in told] if says_not else told
