"""The policy's output head: whole, and without the tokens it must not sample."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl.trainer.utils import maybe_gather_lm_head_ctx

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Far below any logit, and finite in float16; −inf would give 0 · inf in an entropy.
FORBIDDEN = -3e4

# Config entries that change the logits after the head, with the value that leaves them unchanged.
LOGIT_CHANGES = {
    "final_logit_softcapping": None,
    "logit_scale": 1.0,
    "output_multiplier": 1.0,
    "lm_head_multiplier": 1.0,
    "logits_scaling": 1.0,
}


@dataclass
class Head:
    """The weight (V, H) and bias (V,) of logits W h + b."""

    weight: Tensor
    bias: Tensor


def head_without(model: PreTrainedModel, forbidden_tokens: Sequence[int]) -> Head:
    """Return the head of `model` with a bias that rules out the forbidden tokens.

    An FSDP2 shard is gathered. Under DeepSpeed ZeRO-3 the weight stays sharded, until
    `maybe_gather_lm_head_ctx` or TRL's fused head gathers it for as long as it is needed.
    """
    head = model.get_output_embeddings()
    weight = _gathered_shard(head.weight)
    rows = getattr(weight, "ds_shape", weight.shape)[0]
    bias = torch.zeros(rows, device=weight.device)
    bias[list(forbidden_tokens)] = FORBIDDEN
    if head.bias is not None:
        with maybe_gather_lm_head_ctx(head.bias):
            bias = bias + _gathered_shard(head.bias)
    if is_deepspeed_zero3_enabled():
        from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

        # TRL checks every tensor of a head for whether it has to be gathered.
        bias.ds_status = ZeroParamStatus.AVAILABLE  # type: ignore[attr-defined]  # DeepSpeed's mark
    return Head(weight, bias)


def leave_out(model: PreTrainedModel, tokens: Sequence[int]) -> None:
    """Let TRL's fused head of `model` score without some tokens.

    They can't be sampled, so that sampled and scored log-probabilities agree.
    """
    plain_forward = model.forward

    @functools.wraps(type(model).forward)  # generate() checks its arguments by the signature
    def forward(self: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
        if not kwargs.get("fused_lm_head"):
            return plain_forward(*args, **kwargs)
        head = head_without(self, tokens)
        self.get_output_embeddings = lambda: head
        try:
            return plain_forward(*args, **kwargs)
        finally:
            del self.get_output_embeddings

    model.forward = MethodType(forward, model)


def check_plain_logits(config: object) -> None:
    """Raise `ValueError` for a policy that changes its logits after the head.

    Token weights are computed from W h + b; with a soft-cap or a scale they would be wrong.
    """
    for name, plain in LOGIT_CHANGES.items():
        value = getattr(config, name, None)
        if value not in (None, plain):
            raise ValueError(
                f"the policy's config has {name} = {value}: its logits are not W h + b, and token "
                "weights would be wrong; use --token_weighting none"
            )


def _gathered_shard(parameter: Tensor) -> Tensor:
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
