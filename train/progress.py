"""Show a run: a progress bar of one line, with its last metrics beside it."""

from __future__ import annotations

from typing import Any

from transformers import ProgressCallback, Trainer

from nontrivial.train.journal import Journal

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


def follow(trainer: Trainer) -> None:
    """Give the trainer a progress bar of one line, where it has a bar, and a journal."""
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(OneLine)
    trainer.add_callback(Journal(trainer.args.output_dir))
