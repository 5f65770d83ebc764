"""Scores of completions and the policy gradient, one sample at a time, without any sharing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nontrivial.train.data import with_pixels


def log_probs(
    model: Any,
    prompt: dict[str, Tensor],
    completion: Tensor,
    *,
    temperature: float = 1.0,
    forbidden: Sequence[int] = (),
) -> Tensor:
    """log p of each token of one completion (T,) after one encoded prompt; -> (T,)."""
    ids, types = prompt["input_ids"], prompt["mm_token_type_ids"]
    own = {name: value for name, value in with_pixels(prompt).items() if name != "position_ids"}
    inputs = own | {
        "input_ids": torch.cat([ids, completion[None]], dim=1),
        "attention_mask": torch.ones(1, ids.shape[1] + len(completion), dtype=torch.long),
        "mm_token_type_ids": torch.cat([types, types.new_zeros(1, len(completion))], dim=1),
    }
    logits = model(**inputs).logits[0, ids.shape[1] - 1 : -1].float() / temperature
    logits[:, list(forbidden)] = -torch.inf
    return logits.log_softmax(-1).gather(1, completion[:, None])[:, 0]


def loss(
    scores: Sequence[Tensor], advantages: Sequence[Tensor], loss_type: str, longest: int
) -> Tensor:
    """− Σ A_it log p_it, averaged as a loss of TRL does where the ratio is 1.

    `longest` is the length of a completion in `dr_grpo`.
    """
    terms = [-(a * s) for a, s in zip(advantages, scores, strict=True)]
    if loss_type == "grpo":
        return torch.stack([term.mean() for term in terms]).mean()
    if loss_type == "dr_grpo":
        return torch.cat(terms).sum() / (len(terms) * longest)
    return torch.cat(terms).mean()
