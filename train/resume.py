"""Exact resume of full fine-tuning."""

# ruff: noqa: E402  (the remedy comes before transformers, which may import torchvision)

from __future__ import annotations

from torch import nn

from models import torchvision_remedy

torchvision_remedy.apply()

from accelerate.utils import is_peft_model
from transformers import Trainer


class StrictResume(Trainer):
    """A Trainer that loads every weight of a checkpoint, or fails.

    Checkpoints of Qwen2.5-VL name their weights in an older layout that `from_pretrained`
    translates and a plain, non-strict `load_state_dict` silently passes over: the run would go on
    from its starting weights. Adapters and sharded models have their own, exact way.
    """

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        model = self.model if model is None else model
        inner = self.accelerator.unwrap_model(model)
        if is_peft_model(inner) or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = type(inner).from_pretrained(resume_from_checkpoint, dtype=inner.dtype)
        inner.load_state_dict(saved.state_dict(), strict=True)
