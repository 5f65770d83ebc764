"""Cards of groups that training sampled: completions with rewards, tokens shaded by weight."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nontrivial.manifests.answers import lettered
from nontrivial.manifests.page import Card, text_block
from nontrivial.manifests.runs import SampledCompletion, SampledGroup


def group_cards(run: str, groups: Sequence[SampledGroup]) -> Iterator[Card]:
    """Yield a card for each group that a run sampled, the latest first."""
    for group in reversed(groups):
        asked = f"{group.question}\n{lettered(group.options)}"
        blocks = [text_block(f"right: {', '.join(group.answer)}", asked)]
        rewards = [_finite(completion.rewards) for completion in group.completions]
        blocks += map(_completion_block, group.completions, rewards)
        facets = {"page": "sampled in training", "run": run, "task": group.task}
        facets["token weights"] = group.token_weighting
        mean = sum(sum(parts.values()) for parts in rewards) / len(rewards)
        numbers = {"step": group.step, "reward": mean}
        yield Card(f"step {group.step}: {group.id}", blocks, facets, numbers)


def _completion_block(
    completion: SampledCompletion, rewards: Mapping[str, float]
) -> dict[str, Any]:
    advantage = completion.advantage
    parts = ", ".join(f"{name} {value:.2f}" for name, value in rewards.items())
    mark = "right" if advantage > 0 else "wrong" if advantage < 0 else ""
    tokens = list(zip(completion.tokens, completion.weights, strict=True))
    return text_block(f"advantage {advantage:+.2f} ({parts})", "", mark, tokens=tokens)


def _finite(rewards: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in rewards.items() if math.isfinite(value)}
