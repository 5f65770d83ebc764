"""Shortcut rules: how often pairs of images are answered rightly without comparing two people.

A rule sees one clue about a pair, such as the first stage's similarity, and answers "same" or not:

    number     by the threshold, and the side of it, that scored best on the other half
    key        as most other pairs with the same key are answered, such as pairs of one anchor
    vector     by a linear probe fitted on the other half
    together   by a logistic function of several numbers fitted on the other half

The halves hold different identities of queries, and they are cut in several ways. The score is
balanced accuracy: .5 for a rule that knows nothing. Of few pairs the best of many rules is a little
above that by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nontrivial.manifests.probes import balanced, halves, logistic, probability

PROBE_L2, TOGETHER_L2 = 0.1, 0.03  # of standardised columns
CUTS = 3  # ways to cut the identities in halves


@dataclass(frozen=True)
class Clues:
    """What rules see of P pairs.

    same      (P,) bool, the truth
    groups    P names, the identities of the queries
    numbers   name -> (P,) float
    keys      name -> (P,) int
    vectors   name -> (P, D) float
    together  name -> (P, D) float
    """

    same: np.ndarray
    groups: Sequence[str]
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)
    keys: Mapping[str, np.ndarray] = field(default_factory=dict)
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)
    together: Mapping[str, np.ndarray] = field(default_factory=dict)


def shortcut_scores(clues: Clues) -> dict[str, float]:
    """Return the score of each rule, the best first.

    >>> pairs = np.arange(8)
    >>> clues = Clues(pairs > 3, list("abcdabcd"), {"similarity": -pairs}, {"anchor": pairs % 4})
    >>> shortcut_scores(clues)
    {'similarity': 1.0, 'anchor': 0.5}
    """
    cuts, same = [halves(clues.groups, seed) for seed in range(CUTS)], clues.same

    def held_out(rule: Callable[..., float], columns: Mapping, *rest: float) -> dict[str, float]:
        return {
            name: float(np.mean([rule(x, same, half, *rest) for half in cuts]))
            for name, x in columns.items()
        }

    scores = held_out(_by_threshold, clues.numbers)
    scores |= {name: _by_others(x, same) for name, x in clues.keys.items()}
    scores |= held_out(_by_probe, clues.vectors, PROBE_L2)
    scores |= held_out(_by_probe, clues.together, TOGETHER_L2)
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def best_shortcut(about: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return the best rule that a manifest's metadata report for any of its sources, or None.

    >>> best_shortcut({"shortcuts": {"a": {"similarity": 0.5, "anchor": 0.75}, "b": {}}})
    ('anchor', 0.75)
    """
    by_source = about.get("shortcuts")
    sources = by_source.values() if isinstance(by_source, dict) else ()
    rules = [item for rules in sources if isinstance(rules, dict) for item in rules.items()]
    known = [(float(score), name) for name, score in rules if isinstance(score, int | float)]
    if not known:
        return None
    score, name = max(known)
    return name, score


def _by_threshold(values: np.ndarray, same: np.ndarray, half: np.ndarray) -> float:
    """Score the best threshold of the other half, in either direction."""
    values = np.where(np.isfinite(values), values, np.nanmedian(values) if len(values) else 0)
    right = np.full(len(same), 0.5)
    for fit in (half, ~half):
        threshold, sign = _threshold(values[fit], same[fit])
        asked = values[~fit]
        says = np.where(asked == threshold, 0.5, sign * (asked - threshold) > 0)
        right[~fit] = np.where(same[~fit], says, 1 - says)
    return balanced(right, same)


def _threshold(values: np.ndarray, same: np.ndarray) -> tuple[float, int]:
    """Return a threshold between two values, and 1 if larger ones are the same person, else −1."""
    if same.all() or not same.any():
        return (float(values[0]) if len(values) else 0.0), 1
    order = np.argsort(values, kind="stable")
    ranked, truth = values[order], same[order]
    # How much more of the same people than of the others lie at or below each place.
    lead = np.cumsum(truth) / truth.sum() - np.cumsum(~truth) / (~truth).sum()
    lead[:-1][ranked[1:] == ranked[:-1]] = 0
    lead[-1] = 0
    at = int(np.abs(lead).argmax())
    between = (ranked[at] + ranked[min(at + 1, len(ranked) - 1)]) / 2
    return float(between), -1 if lead[at] > 0 else 1


def _by_others(keys: np.ndarray, same: np.ndarray) -> float:
    """Score answering as most other pairs of the same key; .5 without others, and for a draw.

    A lead of one is a draw, too: it may be that of the pair itself, or made by leaving it out.
    """
    number = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    votes = np.where(same, 1, -1)
    lead = np.bincount(number, votes)[number]
    return balanced(np.where(np.abs(lead) < 2, 0.5, (lead > 0) == same), same)


def _by_probe(x: np.ndarray, same: np.ndarray, half: np.ndarray, l2: float) -> float:
    right = np.full(len(same), 0.5)
    for fit in (half, ~half):
        if len(np.unique(same[fit])) == 2:
            says = probability(x[~fit], logistic(x[fit], same[fit].astype(float), l2))
            right[~fit] = (says > 0.5) == same[~fit]
    return balanced(right, same)
