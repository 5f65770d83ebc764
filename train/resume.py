"""Resume a run exactly: all weights of a checkpoint, samples in the same order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from accelerate.utils import is_peft_model
from torch import nn
from transformers import Trainer, TrainerCallback
from trl.trainer.utils import RepeatSampler

from nontrivial.manifests.command import say
from nontrivial.train.checkpoints import rotate


class StrictResume(Trainer):
    """A Trainer that loads every weight of a checkpoint, or fails.

    Checkpoints of Qwen2.5-VL name their weights in an older layout. `from_pretrained` translates
    it; a plain, non-strict `load_state_dict` silently skips those weights, and the run would go on
    from its starting weights. Adapters and sharded models are loaded exactly by transformers.
    """

    def used_up(self) -> bool:
        """True where a checkpoint holds all that a resumed run needs."""
        return True

    @property
    def sharded(self) -> bool:
        """True if processes may shard the weights."""
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

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint, then remove older ones so that a kill leaves none that seems whole.

        transformers removes the files of a checkpoint in any order.
        """
        args, limit = self.args, self.args.save_total_limit
        args.save_total_limit = None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            args.save_total_limit = limit
        self.rotate()

    def _save_rng_state(self, output_dir: str) -> None:
        """Write the state of each process's random numbers before the first writes the rest."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    def rotate(self) -> None:
        """Remove the oldest checkpoints beyond the limit, but neither the last nor the best."""
        if self.args.should_save:
            last = f"checkpoint-{self.state.global_step}"
            best = Path(self.state.best_model_checkpoint or last).name
            rotate(Path(self.args.output_dir), self.args.save_total_limit, {last, best})

    def _load_best_model(self) -> None:
        if self.sharded:
            super()._load_best_model()
        else:
            self._load_from_checkpoint(self.state.best_model_checkpoint)


class SaveWhenUsedUp(TrainerCallback):
    """A callback that delays a checkpoint until the sampled completions are used up.

    A checkpoint does not hold completions. With several steps per sampling (`num_iterations`), a
    run resumed between them would sample again where an uninterrupted one would not.
    """

    def __init__(self, used_up: Callable[[], bool]) -> None:
        self.used_up, self.due = used_up, False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.due |= control.should_save
        control.should_save = self.due and (self.used_up() or control.should_training_stop)
        self.due &= not control.should_save


class StopOnSignal(TrainerCallback):
    """A callback that ends a run with a checkpoint, once `used_up`, when SIGINT or SIGTERM asks.

    `stopped` is the name of the signal then. A second signal ends the process at once.
    """

    def __init__(self, used_up: Callable[[], bool]) -> None:
        self.used_up = used_up
        self.stopped: str | None = None
        self._before: dict[int, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._asked)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.stopped and self.used_up():
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            self.stopped = None  # it came after the last step

    def _asked(self, number: int, _frame: Any) -> None:
        self.stopped = signal.Signals(number).name
        say(f"{self.stopped}: writing a checkpoint after this step; again to end at once")
        self.restore()

    def restore(self) -> None:
        """Let signals do what they did before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


class ResumableSampler(RepeatSampler):
    """TRL's sampler, with an order that depends only on the seed and the epoch of `trainer`.

    TRL draws all permutations from one generator, so a run resumed in a later epoch would start
    again with the order of the first epoch.
    """

    def __init__(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trainer = trainer

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed(self.seed + int(self.trainer.state.epoch or 0))
        return super().__iter__()
