"""Exact resume: every weight of a checkpoint, and the samples in the order they would have come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from accelerate.utils import is_peft_model
from torch import nn
from transformers import Trainer, TrainerCallback
from trl.trainer.utils import RepeatSampler


class StrictResume(Trainer):
    """A Trainer that loads every weight of a checkpoint, or fails.

    Checkpoints of Qwen2.5-VL name their weights in an older layout that `from_pretrained`
    translates and a plain, non-strict `load_state_dict` silently passes over: the run would go on
    from its starting weights. Adapters and sharded models have their own, exact way.
    """

    @property
    def sharded(self) -> bool:
        """True where processes may share out the weights among them."""
        return self.is_fsdp_enabled or self.is_deepspeed_enabled

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        model = self.model if model is None else model
        inner = self.accelerator.unwrap_model(model)
        if is_peft_model(inner) or self.sharded:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = type(inner).from_pretrained(resume_from_checkpoint, dtype=inner.dtype)
        inner.load_state_dict(saved.state_dict(), strict=True)


class SaveWhenUsedUp(TrainerCallback):
    """Lets a checkpoint wait until the completions at hand are used up: they aren't saved with it.

    With several steps to one sampling (`num_iterations`), a run that went on from between them
    would sample anew where the undisturbed one would have gone on with what it had.
    """

    def __init__(self, used_up: Callable[[], bool]) -> None:
        self.used_up, self.due = used_up, False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.due |= control.should_save
        control.should_save = self.due and (self.used_up() or control.should_training_stop)
        self.due &= not control.should_save


class ResumableSampler(RepeatSampler):
    """TRL's sampler, with an order that follows from the seed and the epoch of `trainer` alone.

    TRL draws one permutation after the other from one generator, so that a run that goes on in a
    later epoch would begin with the first epoch's order again.
    """

    def __init__(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trainer = trainer

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed(self.seed + int(self.trainer.state.epoch or 0))
        return super().__iter__()
