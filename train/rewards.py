"""Rewards of completions: one float for each, from the answer the sample holds.

A reward is called by the trainer as TRL calls one, with every column of the batch by name:
`reward(completions=…, answer=…, options=…, **others) -> list[float]`. To add one, write such a
function and put it into `REWARDS`, or name yours by its import path:
`--reward_funcs soft_accuracy my_package.rewards.brevity`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from manifests.answers import exact_score, is_formatted, read_answer, soft_score
from manifests.errors import BadInput

Completion = str | list[dict[str, str]]
Reward = Callable[..., list[float]]


def soft_accuracy(
    completions: Sequence[Completion],
    answer: Sequence[Sequence[str]],
    options: Sequence[Sequence[str]],
    **_: Any,
) -> list[float]:
    """|S| / |T| if the answered letters S are a non-empty subset of the right ones T, else 0.

    >>> soft_accuracy(["<answer>B</answer>"], [["B", "D"]], [["cube", "ball", "cone", "ring"]])
    [0.5]
    """
    return [
        soft_score(read_answer(text(completion), choices), right)
        for completion, right, choices in zip(completions, answer, options, strict=True)
    ]


def exact_accuracy(
    completions: Sequence[Completion],
    answer: Sequence[Sequence[str]],
    options: Sequence[Sequence[str]],
    **_: Any,
) -> list[float]:
    """1 if exactly the right letters are answered, else 0."""
    return [
        exact_score(read_answer(text(completion), choices), right)
        for completion, right, choices in zip(completions, answer, options, strict=True)
    ]


def format(
    completions: Sequence[Completion], options: Sequence[Sequence[str]], **_: Any
) -> list[float]:
    """1 for one think block followed by one answer block in which letters can be read, else 0.

    >>> format(["<think>…</think><answer>A</answer>", "<answer>A</answer>"], [["Yes", "No"]] * 2)
    [1.0, 0.0]
    """
    return [
        float(is_formatted(text(completion)) and bool(read_answer(text(completion), choices)))
        for completion, choices in zip(completions, options, strict=True)
    ]


REWARDS: dict[str, Reward] = {
    reward.__name__: reward for reward in (soft_accuracy, exact_accuracy, format)
}


def find_rewards(names: Sequence[str]) -> list[Reward]:
    """Rewards by their name in `REWARDS` or by import path; an unknown one is a `BadInput`."""
    return [REWARDS[name] if name in REWARDS else _import(name) for name in names]


def text(completion: Completion) -> str:
    """What the policy wrote, as plain text or in the assistant's turn of a conversation."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


def _import(path: str) -> Reward:
    module, _, name = path.rpartition(".")
    try:
        reward = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise BadInput(
            f"--reward_funcs {path}: is neither one of {', '.join(REWARDS)} nor the import path "
            f"of a function ({error})"
        ) from error
    if not callable(reward):
        raise BadInput(f"--reward_funcs {path}: is not a function")
    return reward
