"""The demo runs the whole way, and goes on where it stopped."""

from __future__ import annotations

import importlib
import json

import pytest

from scripts.demo import QUESTIONS, STAGES, Options, commands, main

TINY = [
    "--warmup_steps",
    "2",
    "--grpo_steps",
    "3",
    "--limit",
    "24",
    "--drawn",
    "6",
    "--queries",
    "4",
]


def test_every_stage_is_asked_the_same_questions():
    asked: dict[str, list[list[str]]] = {}
    for name, *words in commands(Options()):
        if "--model_name_or_path" in words and name.startswith("eval."):
            policy = words.index("--model_name_or_path") + 1
            out = words.index("--out") + 1
            asked.setdefault(words[policy], []).append(
                [word for place, word in enumerate(words) if place not in (policy, out)]
            )
    first, *others = asked.values()
    assert len(asked) == len(STAGES)
    assert all(questions == first for questions in others)
    assert len([word for word in first[0] if word.endswith(".parquet")]) == len(QUESTIONS)


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
    for title in (*QUESTIONS.values(), "best of 8", "re-judged rankings, mAP"):
        assert title in table
    for picture in ("reward.png", "group.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    history = json.loads((out / "grpo" / "trainer_state.json").read_text())["log_history"]
    assert sum("reward" in entry for entry in history) == 3

    assert main(["--out", str(out), *TINY]) == 0
    assert capfd.readouterr().out.count("done before:") == len(commands(Options()))
