"""What a run shows and keeps of its way: a progress bar of one line, and log.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import ProgressCallback, Trainer, TrainerCallback

from nontrivial.train.journal import LOG, SAMPLES, JsonLines

# What is shown beside the bar; everything that is logged goes to TensorBoard and the checkpoints.
SHOWN = {
    "loss": "loss",
    "reward": "reward",
    "frac_reward_zero_std": "zero std",
    "completions/mean_length": "length",
    "eval_loss": "eval loss",
}


class OneLine(ProgressCallback):
    """transformers' progress bar with a few of the last values beside it, instead of all below."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if self.training_bar is None or not logs:
            return
        values = {label: f"{logs[name]:.3g}" for name, label in SHOWN.items() if logs.get(name)}
        if values:
            self.training_bar.set_postfix(values)


class Journal(TrainerCallback):
    """Writes what a trainer logs to log.jsonl; a resumed run first cuts what is told again."""

    def __init__(self, output_dir: str | Path) -> None:
        self.log, self.samples = (JsonLines(Path(output_dir, name)) for name in (LOG, SAMPLES))

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            for file in (self.log, self.samples):
                file.cut(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        # The closing summary would be told again by each run that finds nothing left to do.
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            self.log.append({"step": state.global_step, **logs})


def follow(trainer: Trainer) -> None:
    """Give the trainer a progress bar of one line, where it has a bar, and a journal."""
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(OneLine)
    trainer.add_callback(Journal(trainer.args.output_dir))
