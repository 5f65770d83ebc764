"""The curves of training runs: what was logged, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nontrivial.manifests.runs import LOG, PARTS, SHARE, STATE, JsonLines, read_json

# Metrics and the titles of their panels, in order; a panel that no run logged is left out.
PANELS = {
    "reward": "mean reward",
    "rewards/soft_accuracy/mean": "soft accuracy",
    "frac_reward_zero_std": "share of groups without variance",
    "completions/mean_length": "tokens of a completion",
    "token_weight/mean": "mean token weight",
    "token_weight/std": "spread of token weights",
    "token_weight/think_share": "share of weight on think tokens",
    "token_weight/answer_share": "share of weight on answer tokens",
    "loss": "loss",
    "eval_exact_accuracy": "held out: exactly right",
    "eval_soft_accuracy": "held out: soft accuracy",
    "eval_format": "held out: well formed",
}

History = list[dict[str, Any]]


def read_log(folder: str | Path) -> History:
    """Read the logs of a run, one dict each, with its `step`."""
    log, state = Path(folder, LOG), read_json(Path(folder, STATE))
    if log.is_file():
        return list(JsonLines(log))
    if state is not None:
        return state["log_history"]
    raise FileNotFoundError(f"{folder}: holds neither {LOG} nor {STATE}; give a run's folder")


def series(history: History, name: str) -> tuple[list[int], list[float]]:
    """Return steps and values of one metric.

    >>> series([{"step": 1, "loss": 2.0}, {"step": 2}, {"step": 3, "loss": None}], "loss")
    ([1], [2.0])
    """
    pairs = [(entry["step"], entry[name]) for entry in history if entry.get(name) is not None]
    return [step for step, _ in pairs], [value for _, value in pairs]


def shares(history: History) -> tuple[list[int], dict[str, list[float]]]:
    """Return steps, and the share of each part of a step in its time, 0 where it was not logged."""
    parts = {part: dict(zip(*series(history, SHARE.format(part)), strict=True)) for part in PARTS}
    steps = sorted(set().union(*parts.values()))
    return steps, {part: [known.get(step, 0.0) for step in steps] for part, known in parts.items()}


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """Return means over the last `width` values, or fewer at the beginning.

    >>> running_mean([1, 3, 5, 7], 2)
    [1.0, 2.0, 4.0, 6.0]
    """
    return [
        sum(values[max(0, i - width + 1) : i + 1]) / min(i + 1, width) for i in range(len(values))
    ]
