"""The policy's head as token weights and scores use it: whole, and without the forbidden tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Far below any logit and finite in float16; −inf would give 0 · inf in an entropy.
FORBIDDEN = -3e4

# What a config calls a change of the logits after the head, and the value that leaves them alone.
LOGIT_CHANGES = {
    "final_logit_softcapping": None,
    "logit_scale": 1.0,
    "output_multiplier": 1.0,
    "lm_head_multiplier": 1.0,
    "logits_scaling": 1.0,
}


@dataclass
class Head:
    """`weight` (V, H) and `bias` (V,) of logits W h + b."""

    weight: Tensor
    bias: Tensor


def head_without(model: PreTrainedModel, forbidden_tokens: Sequence[int]) -> Head:
    """The head of `model` with a bias that rules some tokens out.

    An FSDP2 shard is gathered. Under DeepSpeed ZeRO-3 the weight stays the sharded parameter, which
    `gathered`, or TRL's fused head, makes whole for as long as it is needed.
    """
    head = model.get_output_embeddings()
    weight = _gathered_shard(head.weight)
    rows = getattr(weight, "ds_shape", weight.shape)[0]
    bias = torch.zeros(rows, device=weight.device)
    bias[list(forbidden_tokens)] = FORBIDDEN
    if head.bias is not None:
        with gathered(head.bias):
            bias = bias + _gathered_shard(head.bias)
    _mark_whole(bias)
    return Head(weight, bias)


@contextmanager
def gathered(*parameters: Tensor | None) -> Iterator[None]:
    """Make parameters that DeepSpeed ZeRO-3 shards whole inside the block; no-op otherwise."""
    from trl.trainer.utils import maybe_gather_lm_head_ctx

    with maybe_gather_lm_head_ctx(*parameters):
        yield


def check_plain_logits(config: object) -> None:
    """Raise `ValueError` for a policy that changes its logits after the head.

    Token weights are computed from W h + b; a soft-cap or a scale would make them another model's.
    """
    for name, plain in LOGIT_CHANGES.items():
        value = getattr(config, name, None)
        if value not in (None, plain):
            raise ValueError(
                f"the policy's config has {name} = {value}: its logits aren't W h + b, and token "
                "weights would be wrong; use --token_weighting none"
            )


def _gathered_shard(parameter: Tensor) -> Tensor:
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def _mark_whole(bias: Tensor) -> None:
    """Under ZeRO-3, TRL asks every tensor of a head whether it still has to be gathered."""
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

    if is_deepspeed_zero3_enabled():
        from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

        bias.ds_status = ZeroParamStatus.AVAILABLE
