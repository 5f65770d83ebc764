"""Let groups that are all right or all wrong teach, by a virtual reward beside theirs.

A group whose rewards are equal has no advantages, just where it is clearest what it is worth. Here
one more reward is counted when such a group is normalised: a lower one where all answers are right,
a higher one where none has a right option. It has no tokens. Advantages move part of the way there:
A + share · (A' − A).

The rule is SOVA's, strict outcome-conditioned virtual advantages, as the authors of TW-GRPO have
released it (github.com/just-a-go/SOVA-TW-GRPO, shares 1/16 and 1/32; its manuscript is not public).

What it does in the mean: G equal advantages for right answers, given where the whole group is
right, are the gradient of the chance of that, p^G. So it strengthens what is nearly always right,
and weakens, by the second share, what is nearly always wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from nontrivial.train.credit import SCORES

BELOW, ABOVE = 0.75, 1.0  # the virtual reward as a share of the full one: SOVA's 1.5 and 2 of 2
FORMAT = "format"
EPSILON = 1e-4  # TRL's, added to a group's deviation


class Shares(NamedTuple):
    """How far advantages move to those with the virtual reward, from 0 to 1."""

    right: float
    wrong: float


class Outcome(NamedTuple):
    """What N groups of G answers have earned.

    rewards  (N, G) float32: their weighted sum
    right    (N, G) bool: all options right, and the format
    wrong    (N, G) bool: nothing for its options
    full     what a right answer earns
    """

    rewards: Tensor
    right: Tensor
    wrong: Tensor
    full: float

    @classmethod
    def read(cls, earned: Mapping[str, Tensor], weights: Mapping[str, float]) -> Outcome:
        """Read the rewards (N, G) of each name, which are not `unfit`."""
        right = torch.stack([earned[name] >= 1 for name in earned]).all(0)
        wrong = torch.stack([earned[name] <= 0 for name in earned if name in SCORES]).all(0)
        rewards = torch.stack([weights[name] * earned[name] for name in earned]).sum(0)
        return cls(rewards, right, wrong, sum(weights[name] for name in earned))


def unfit(names: list[str]) -> str | None:
    """Return what to do about rewards of these names that the rule can't use, or None.

    >>> unfit(["soft_accuracy", "format"]), unfit(["soft_accuracy", "length"])
    (None, 'leave out length, which tells nothing of right and wrong')
    """
    if not SCORES.keys() & set(names):
        return f"give one of the rewards {', '.join(SCORES)}"
    others = [name for name in names if name not in SCORES and name != FORMAT]
    told = ", ".join(others)
    return f"leave out {told}, which tells nothing of right and wrong" if others else None


def virtual(rewards: Tensor, other: float, *, scaled: bool) -> Tensor:
    """Return the advantages (N, G) of rewards (N, G) of which one more is `other`.

    `scaled` divides by the deviation of the G + 1, as GRPO does.

    >>> virtual(torch.full((1, 8), 2.0), 1.5, scaled=True)[0, 0]  # 1 / sqrt(9)
    tensor(0.3331)
    """
    more = pad(rewards, (0, 1), value=other)
    found = rewards - more.mean(1, keepdim=True)
    return found / (more.std(1, keepdim=True) + EPSILON) if scaled else found


def corrected(advantages: Tensor, outcome: Outcome, shares: Shares, *, scaled: bool) -> Tensor:
    """Return advantages (N, G), moved in the groups that are all right or all wrong."""
    for group, other, share in (
        (outcome.right, BELOW * outcome.full, shares.right),
        (outcome.wrong, ABOVE * outcome.full, shares.wrong),
    ):
        moved = torch.lerp(advantages, virtual(outcome.rewards, other, scaled=scaled), share)
        advantages = torch.where(group.all(1, keepdim=True), moved, advantages)
    return advantages
