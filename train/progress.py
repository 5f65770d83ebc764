"""Show a run as a progress bar of one line, with its last metrics."""

from __future__ import annotations

from typing import Any

from transformers import ProgressCallback, Trainer

from nontrivial.train.journal import Journal

# Metrics beside the bar, with their labels.
SHOWN = {
    "loss": "loss",
    "reward": "reward",
    "frac_reward_zero_std": "zero std",
    "completions/mean_length": "length",
    "eval_exact_accuracy": "held out",
}


class OneLine(ProgressCallback):
    """transformers' progress bar with a few metrics beside it, instead of all of them below it."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if self.training_bar is None or not logs:
            return
        values = {label: f"{logs[name]:.3g}" for name, label in SHOWN.items() if logs.get(name)}
        if values:
            self.training_bar.set_postfix(values)


def follow(trainer: Trainer) -> None:
    """Give the trainer a journal and, if it has a progress bar, one of a single line."""
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(OneLine)
    trainer.add_callback(Journal(trainer.args.output_dir))
