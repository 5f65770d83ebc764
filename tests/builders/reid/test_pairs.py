"""Budgets are shared out, and the first stage is scored, as the benchmarks do."""

from __future__ import annotations

import numpy as np
import pytest

from nontrivial.builders.reid.pairs import quotas
from nontrivial.manifests.probes import auc
from tests.reference import mining as reference


def test_the_auc_is_the_share_of_positives_above_negatives():
    rng = np.random.default_rng(0)
    for _ in range(5):
        value, same = rng.integers(0, 9, 40) / 9, rng.random(40) < 0.4
        assert auc(value, same) == pytest.approx(reference.auc(value, same))
    assert np.isnan(auc(np.ones(3), np.ones(3, bool)))


@pytest.mark.parametrize("budget", [1.01, 7, 100, 14_305])
def test_a_number_of_pairs_is_shared_out_whole_and_in_proportion(budget):
    sizes = [12_936, 30_248, 7_365, 17_896]
    shares = quotas(budget, sizes)
    assert sum(shares) == round(budget)
    for share, size in zip(shares, sizes, strict=True):
        assert abs(share - budget * size / sum(sizes)) < 1


def test_the_default_share_gives_the_published_number_of_pairs():
    assert quotas(0.209, [12_936]) == [2_704]
    assert sum(quotas(0.209, [12_936, 30_248, 7_365, 17_896])) == 14_305
