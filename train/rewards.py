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

from nontrivial.manifests.answers import (
    answer_block,
    exact_score,
    is_formatted,
    read_answer,
    soft_score,
)
from nontrivial.manifests.errors import BadInput

Completion = str | list[dict[str, str]]
Reward = Callable[..., list[float]]

# What says that no option is right, where the truth is empty and no option says it.
NONE = frozenset({"none", "none of them", "none of the above", "none of the options", "no option"})


def soft_accuracy(
    completions: Sequence[Completion],
    answer: Sequence[Sequence[str]],
    options: Sequence[Sequence[str]],
    **_: Any,
) -> list[float]:
    """|S| / |T| if the answered letters S are a non-empty subset of the right ones T, else 0.

    Manifests always hold a right option; where samples of your own hold none, the answer that
    earns 1 is an explicit "none", and silence earns nothing.

    >>> soft_accuracy(["<answer>B</answer>"], [["B", "D"]], [["cube", "ball", "cone", "ring"]])
    [0.5]
    >>> soft_accuracy(["<answer>None.</answer>", "<answer></answer>"], [[], []], [["cube"]] * 2)
    [1.0, 0.0]
    """
    return [
        soft_score(read_answer(text(completion), choices), right)
        if right
        else float(says_none(text(completion)))
        for completion, right, choices in zip(completions, answer, options, strict=True)
    ]


def exact_accuracy(
    completions: Sequence[Completion],
    answer: Sequence[Sequence[str]],
    options: Sequence[Sequence[str]],
    **_: Any,
) -> list[float]:
    """1 if exactly the right letters, or an explicit "none" where there are none, else 0."""
    return [
        exact_score(read_answer(text(completion), choices), right)
        if right
        else float(says_none(text(completion)))
        for completion, right, choices in zip(completions, answer, options, strict=True)
    ]


def format_reward(
    completions: Sequence[Completion], options: Sequence[Sequence[str]], **_: Any
) -> list[float]:
    """1 for one think block followed by one answer block in which letters can be read, else 0.

    >>> completions = ["<think>…</think><answer>A</answer>", "<answer>A</answer>"]
    >>> format_reward(completions, [["Yes", "No"]] * 2)
    [1.0, 0.0]
    """
    return [
        float(is_formatted(text(completion)) and bool(read_answer(text(completion), choices)))
        for completion, choices in zip(completions, options, strict=True)
    ]


def length_within(free: int, limit: int) -> Reward:
    """The reward `length`: 1 up to `free` tokens, from there linearly down to 0 at `limit`.

    Raises `BadInput` where `free` isn't below `limit`.

    >>> length_within(2, 6)(completion_ids=[[7], [7] * 4, [7] * 9])
    [1.0, 0.5, 0.0]
    """
    if not 0 <= free < limit:
        raise BadInput(
            f"--length_free {free}: must be below --max_completion_length {limit}, where the "
            "reward length reaches 0"
        )

    def length(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        over = ((len(ids) - free) / (limit - free) for ids in completion_ids)
        return [1 - min(max(share, 0.0), 1.0) for share in over]

    return length


format_reward.__name__ = "format"  # as logs and command lines name it
REWARDS: dict[str, Reward] = {
    reward.__name__: reward for reward in (soft_accuracy, exact_accuracy, format_reward)
}


def find_rewards(
    names: Sequence[str], *, length_free: int = 256, limit: int = 1024
) -> list[Reward]:
    """Rewards by their name in `REWARDS`, `length`, or an import path.

    `length_free` and `limit` are those of `length_within`. Raises `BadInput` for an unknown name.
    """
    return [
        length_within(length_free, limit)
        if name == "length"
        else REWARDS[name]
        if name in REWARDS
        else _import(name)
        for name in names
    ]


def says_none(completion: str) -> bool:
    """True where the answer block says in words that nothing is right.

    >>> says_none("<answer>None of the options.</answer>"), says_none("<answer> </answer>")
    (True, False)
    """
    return (answer_block(completion) or "")[:64].strip(" .").lower() in NONE


def text(completion: Completion) -> str:
    """What the policy wrote, as plain text or in the assistant's turn of a conversation."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


def _import(path: str) -> Reward:
    module, _, name = path.rpartition(".")
    try:
        reward = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise BadInput(
            f"--reward_funcs {path}: is neither one of {', '.join(REWARDS)}, length nor the import "
            f"path of a function ({error})"
        ) from error
    if not callable(reward):
        raise BadInput(f"--reward_funcs {path}: is not a function")
    return reward
