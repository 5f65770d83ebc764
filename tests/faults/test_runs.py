"""Trainings and evaluations that are killed, or lack disk, end by the same command as others do.

The parameters, predictions, scores and logs are equal to the last bit, and no file is left over.
"""

from __future__ import annotations

import pytest

from tests.faults.trials import in_a_process

COMMANDS = ("train.grpo", "train.warmup", "eval.qa", "eval.reid")

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", COMMANDS)
def test_any_fault_is_made_good_by_the_same_command(name, tmp_path):
    tried = in_a_process("tests.faults.runs", "faults", name, tmp_path, 8)
    assert tried["ended"] > tried["tried"] / 2


@pytest.mark.parametrize("name", [*COMMANDS, "train.grpo by two processes"])
def test_kills_at_any_moment_are_made_good_by_the_same_command(name, tmp_path):
    killed = in_a_process("tests.faults.runs", "kills", name, tmp_path, 4)
    assert sum(killed.values()) >= 4
