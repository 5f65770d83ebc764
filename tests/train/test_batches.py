"""Which groups of rewards differ."""

from __future__ import annotations

import pytest
import torch

from nontrivial.train.batches import differ

NAN = float("nan")


@pytest.mark.parametrize(
    ("earned", "expected"),
    [
        ([[1 / 3]] * 8, [False, False]),
        ([[0.0], [0.0], [0.0], [1e-3], [1.0], [1.0], [1.0], [1.0]], [True, False]),
        ([[NAN]] * 4 + [[NAN], [0.5], [0.5], [NAN]], [False, False]),  # no reward is no difference
        ([[NAN], [0.5], [0.4], [NAN]] + [[0.0]] * 4, [True, False]),
        ([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]] + [[1.0, 0.0]] * 4, [True, False]),
    ],
)
def test_groups_differ_by_their_rewards(earned, expected):
    found = differ(torch.tensor(earned), 4)
    assert found.view(2, 4).tolist() == [[each] * 4 for each in expected]
