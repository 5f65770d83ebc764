"""Rules that answer pairs without comparing people earn what they know, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from nontrivial.manifests.probes import balanced, halves, logistic, probability
from nontrivial.manifests.shortcuts import Clues, best_shortcut, shortcut_scores

RNG = np.random.default_rng(0)
SAME = np.tile([True, False], 300)
GROUPS = [f"person {n // 6}" for n in range(600)]


def scores(**clues) -> dict[str, float]:
    return shortcut_scores(Clues(SAME, GROUPS, **clues))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_is_read_in_either_direction(sign):
    value = sign * (SAME + RNG.normal(size=600) * 0.1)
    assert scores(numbers={"x": value})["x"] > 0.99


def test_rules_that_know_nothing_score_a_half():
    known = scores(
        numbers={"number": RNG.normal(size=600), "constant": np.ones(600)},
        keys={"key": RNG.integers(0, 9, 600), "own": np.arange(600)},
        vectors={"vector": RNG.normal(size=(600, 40))},
        together={"together": RNG.normal(size=(600, 5))},
    )
    assert known["constant"] == known["own"] == 0.5
    assert all(0.42 < score < 0.58 for score in known.values())


def test_a_key_is_answered_as_its_other_pairs_are():
    twins = np.repeat(np.arange(300), 2)  # a Yes and a No each
    alike = np.where(SAME, 0, 1) + 2 * (np.arange(600) // 60)
    known = scores(keys={"twins": twins, "alike": alike})
    assert known == {"alike": 1.0, "twins": 0.5}


def test_a_probe_is_scored_on_identities_it_was_not_fitted_on():
    remembered = np.eye(100)[np.arange(600) // 6]  # tells the identity, whose answers are even
    hint = SAME[:, None] + RNG.normal(size=(600, 1)) * 0.1
    known = scores(vectors={"who": remembered, "hint": hint})
    assert known["hint"] > 0.99
    assert known["who"] == pytest.approx(0.5, abs=0.05)


def test_unknown_numbers_are_taken_for_ordinary_ones():
    value = np.where(RNG.random(600) < 0.2, np.nan, SAME)
    assert 0.85 < scores(numbers={"x": value})["x"] < 1


def test_the_logistic_fit_is_where_its_slope_vanishes():
    x, y = RNG.normal(size=(200, 3)) * [1, 5, 0.1] + 2, (RNG.random(200) < 0.5).astype(float)
    w = logistic(x, y, l2=0.1)
    z = (x - x.mean(0)) / x.std(0)
    slope = z.T @ (probability(x, w) - y) / 200 + 0.1 * w[:-1] * x.std(0)
    np.testing.assert_allclose(slope, 0, atol=1e-7)
    assert (probability(x, w) - y).mean() == pytest.approx(0, abs=1e-7)


def test_halves_hold_whole_groups_and_are_cut_in_several_ways():
    cuts = [halves(GROUPS, seed) for seed in range(3)]
    for cut in cuts:
        assert cut.sum() == 300
        assert (cut.reshape(-1, 6) == cut.reshape(-1, 6)[:, :1]).all()
    assert (cuts[0] != cuts[1]).any()


def test_a_truth_that_is_absent_counts_a_half():
    assert balanced(np.ones(4), np.ones(4, bool)) == 0.75


def test_a_manifest_is_as_good_as_its_worst_rule():
    rules = {"a": {"anchor": 0.5, "similarity": 0.9}, "b": {"cameras": 0.6}}
    assert best_shortcut({"shortcuts": rules}) == ("similarity", 0.9)
    for nothing in ({}, {"shortcuts": {"a": {}}}, {"shortcuts": [1]}, {"shortcuts": {"a": "b"}}):
        assert best_shortcut(nothing) is None
