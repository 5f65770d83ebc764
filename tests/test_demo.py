"""The demo runs the whole way, and goes on where it stopped."""

from __future__ import annotations

import importlib
import json

import pytest

from scripts.demo import QUESTIONS, STAGES, Options, commands, main

TINY = ["--warmup_steps", "2", "--grpo_steps", "3", "--limit", "24"]


def test_every_stage_is_asked_the_same_questions():
    asked = [c for c in commands(Options()) if c[0] == "eval.qa"]
    assert len(asked) == len(STAGES)
    manifests = [[word for word in command if word.endswith(".parquet")] for command in asked]
    assert manifests[0] == manifests[1] == manifests[2]
    assert len(manifests[0]) == len(QUESTIONS)


def test_every_command_of_the_demo_exists():
    for command in commands(Options()):
        name = command[0]
        module = f"{name}.__main__" if name == "builders.synthetic" else name
        assert callable(importlib.import_module(module).main)


@pytest.mark.slow
def test_the_demo_runs_and_goes_on(tmp_path, capfd):
    out = tmp_path / "demo"
    assert main(["--out", str(out), *TINY]) == 0
    table = capfd.readouterr().out
    for title in QUESTIONS.values():
        assert title in table
    assert (out / "reward.png").read_bytes().startswith(b"\x89PNG")
    history = json.loads((out / "grpo" / "trainer_state.json").read_text())["log_history"]
    assert sum("reward" in entry for entry in history) == 3

    assert main(["--out", str(out), *TINY]) == 0
    assert capfd.readouterr().out.count("done before:") == len(commands(Options()))
