"""Time is told by part, and nothing is counted twice."""

from __future__ import annotations

import doctest
from collections.abc import Callable

import pytest

from nontrivial.manifests.runs import PARTS
from nontrivial.train import shares
from nontrivial.train.shares import Clock


def test_examples_hold():
    assert doctest.testmod(shares).failed == 0


def broken(clock: Clock, wait: Callable[[float], None]) -> None:
    """Fail within a part."""
    with clock.part("vision"):
        wait(1)
        raise ValueError("broken")


def test_a_part_inside_another_is_not_counted_in_it():
    now = [0.0]
    clock = Clock(lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    wait(1)
    with clock.part("scoring"):
        wait(2)
        with clock.part("sampling"):
            wait(3)
            with pytest.raises(ValueError, match="broken"):
                broken(clock, wait)
        wait(1)
    wait(2)
    told = clock.shares()
    expected = {"vision": 0.1, "sampling": 0.3, "scoring": 0.3, "training": 0.3}
    assert told == pytest.approx(dict.fromkeys(PARTS, 0) | expected)
    wait(5)
    assert clock.shares()["training"] == 1
