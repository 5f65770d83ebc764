"""Rewards: score each completion with a float, from its sample's columns.

The trainer calls a reward as TRL does, with every column of the batch by name:
`reward(completions=…, answer=…, options=…, **others) -> list[float]`. To add one, write such a
function and put it into `REWARDS`, or name its import path:
`--reward_funcs soft_accuracy my_package.rewards.brevity`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from typing import Any

from nontrivial.manifests import answers
from nontrivial.manifests.errors import BadInput

Completion = str | list[dict[str, str]]
Lists = Sequence[Sequence[str]]  # letters or options of each sample
Reward = Callable[..., list[float]]

# Answers that mean "no option is right", for samples without a right option.
NONE = frozenset({"none", "none of them", "none of the above", "none of the options", "no option"})


def soft_accuracy(
    completions: Sequence[Completion], answer: Lists, options: Lists, **_: Any
) -> list[float]:
    """Return |S| / |T| where the answered letters S are a non-empty subset of the right T, else 0.

    Samples of manifests always have a right option. For samples of your own without one, an
    explicit "none" earns 1 and an empty answer 0.

    >>> soft_accuracy(["<answer>B</answer>"], [["B", "D"]], [["cube", "ball", "cone", "ring"]])
    [0.5]
    >>> soft_accuracy(["<answer>None.</answer>", "<answer></answer>"], [[], []], [["cube"]] * 2)
    [1.0, 0.0]
    """
    return _accuracy(answers.soft_score, completions, answer, options)


def exact_accuracy(
    completions: Sequence[Completion], answer: Lists, options: Lists, **_: Any
) -> list[float]:
    """Return 1 for exactly the right letters (an explicit "none" where there are none), else 0."""
    return _accuracy(answers.exact_score, completions, answer, options)


def per_option(
    completions: Sequence[Completion], answer: Lists, options: Lists, **_: Any
) -> list[float]:
    """Return the share of options rightly chosen or rightly left; 0 for an answer without letters.

    Leaving a right option out costs as much as choosing a wrong one, so the best answer chooses
    what is more likely right than wrong.
    """
    return _of_options(answers.per_option_score, completions, answer, options)


def balanced_options(
    completions: Sequence[Completion], answer: Lists, options: Lists, **_: Any
) -> list[float]:
    """Return the shares of right options chosen and of wrong ones left, minus one: −1 to 1.

    Unlike `per_option`, choosing all options, or few, earns nothing where most are right or wrong.
    """
    return _of_options(answers.balanced_score, completions, answer, options)


def format_reward(completions: Sequence[Completion], options: Lists, **_: Any) -> list[float]:
    """Return 1 for one think block, then one answer block with legible letters, else 0.

    >>> completions = ["<think>…</think><answer>A</answer>", "<answer>A</answer>"]
    >>> format_reward(completions, [["Yes", "No"]] * 2)
    [1.0, 0.0]
    """
    return _formatted(completions, options, thought=True)


def answer_format(completions: Sequence[Completion], options: Lists, **_: Any) -> list[float]:
    """Return 1 for an answer block with legible letters and nothing else: `--prompt answer`."""
    return _formatted(completions, options, thought=False)


def length_within(free: int, limit: int) -> Reward:
    """Return the reward `length`: 1 up to `free` tokens, then linearly down to 0 at `limit`.

    Raises `BadInput` unless 0 ≤ `free` < `limit`.

    >>> length_within(2, 6)(completion_ids=[[7], [7] * 4, [7] * 9])
    [1.0, 0.5, 0.0]
    """
    if not 0 <= free < limit:
        raise BadInput(
            f"--length_free {free}: must be from 0 to below --max_completion_length {limit}, where "
            "the reward length reaches 0"
        )

    def length(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        over = ((len(ids) - free) / (limit - free) for ids in completion_ids)
        return [1 - min(max(share, 0.0), 1.0) for share in over]

    return length


# Their name in logs and on the command line.
format_reward.__name__ = answer_format.__name__ = "format"
REWARDS: dict[str, Reward] = {
    reward.__name__: reward
    for reward in (soft_accuracy, exact_accuracy, per_option, balanced_options, format_reward)
}


def find_rewards(
    names: Sequence[str], *, length_free: int = 256, limit: int = 1024, style: str = "think"
) -> list[Reward]:
    """Return rewards by their name in `REWARDS`, `length`, or an import path.

    `length_free` and `limit` go to `length_within`, `style` is that of the prompts. Raises
    `BadInput` for an unknown name.
    """
    known = REWARDS | ({"format": answer_format} if style == "answer" else {})
    return [
        length_within(length_free, limit) if name == "length" else known.get(name) or _import(name)
        for name in names
    ]


def says_none(completion: str) -> bool:
    """True if the answer block says in words that no option is right.

    >>> says_none("<answer>None of the options.</answer>"), says_none("<answer> </answer>")
    (True, False)
    """
    return (answers.answer_block(completion) or "")[:64].strip(" .").lower() in NONE


def text(completion: Completion) -> str:
    """Return the text of a completion, which is plain or the last turn of a conversation."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


def _accuracy(
    score: Callable[..., float], completions: Sequence[Completion], answer: Lists, options: Lists
) -> list[float]:
    return [
        score(answers.read_answer(written, choices), right) if right else float(says_none(written))
        for written, right, choices in zip(map(text, completions), answer, options, strict=True)
    ]


def _of_options(
    score: Callable[..., float], completions: Sequence[Completion], answer: Lists, options: Lists
) -> list[float]:
    """Score each option's verdict; a sample of your own may have no right option."""
    return [
        score(answers.read_answer(written, choices), right, len(choices))
        if right
        else float(says_none(written))
        for written, right, choices in zip(map(text, completions), answer, options, strict=True)
    ]


def _formatted(completions: Sequence[Completion], options: Lists, *, thought: bool) -> list[float]:
    return [
        float(
            answers.is_formatted(written, thought=thought)
            and bool(answers.read_answer(written, choices))
        )
        for written, choices in zip(map(text, completions), options, strict=True)
    ]


def _import(path: str) -> Reward:
    try:
        reward = pkgutil.resolve_name(path)
    except (ImportError, ValueError, AttributeError) as error:
        raise BadInput(
            f"--reward_funcs {path}: needs one of {', '.join(REWARDS)}, length, or the import path "
            f"of a function ({error})"
        ) from error
    if not callable(reward):
        raise BadInput(f"--reward_funcs {path}: is not a function")
    return reward
