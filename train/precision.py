"""Keep trained weights in float32, or refuse to train them."""

from __future__ import annotations

import torch
from accelerate.utils import is_peft_model

from nontrivial.manifests.errors import BadInput
from nontrivial.train.resume import StrictResume

HALF = (torch.bfloat16, torch.float16)


def require_float32(trainer: StrictResume) -> None:
    """Make an adapter float32; raise `BadInput` if other trained weights have no float32 copy.

    Steps of AdamW at 1e-6 are smaller than the spacing of bfloat16 around most weights, so they
    round to nothing. DeepSpeed, and FSDP with mixed precision, keep float32 copies themselves. TRL
    converts the adapter of a quantised policy to bfloat16.
    """
    mixed = trainer.accelerator.mixed_precision != "no"
    if trainer.is_deepspeed_enabled or (trainer.is_fsdp_enabled and mixed):
        return
    trained = [p for p in trainer.model.parameters() if p.requires_grad and p.dtype in HALF]
    if trained and not is_peft_model(trainer.accelerator.unwrap_model(trainer.model)):
        raise BadInput(
            f"the weights to train are {trained[0].dtype}, in which small steps round to nothing; "
            "use --dtype float32 (and --bf16 true for activations), an adapter (--use_peft), or "
            "configs/accelerate/zero3.yaml or fsdp2.yaml, which keep float32 copies"
        )
    for parameter in trained:
        parameter.data = parameter.data.float()
