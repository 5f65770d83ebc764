"""Teach a policy the answers of manifests by supervision, before it learns from rewards.

    python -m train.warmup manifests/market1501_random.parquet --output_dir runs/warmup
    python -m train.grpo manifests/*.parquet --model_name_or_path runs/warmup

The target is the sample's rationale where it has one, an empty think block elsewhere, and the
answer. Only the target is learned; with `--answer_only` only its answer block. Pairs of the same
and of different people are seen equally often. This is a ReID-R style first stage: the paper's own
loss is not published.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.command import guard, table
from nontrivial.train.launch import Job, finish, load, prepare, show_help, words_of
from nontrivial.train.options import DataOptions, RunOptions, TrainingOptions

if TYPE_CHECKING:
    from transformers import Trainer

_OUTPUT_DIR = {"help": "Where checkpoints, logs and the policy are written."}


@dataclass
class ScriptOptions(RunOptions):
    """Samples and what is learned of them."""

    answer_only: bool = field(
        default=False, metadata={"help": "Learn the answer block, not the reasoning before it."}
    )
    balance: bool = field(
        default=True, metadata={"help": "Repeat pairs of the rarer verdict until both are even."}
    )
    freeze_vision: bool = field(
        default=True, metadata={"help": "Keep the vision tower as it is (false where embedded)."}
    )


@dataclass
class CommonOptions(ScriptOptions, DataOptions, TrainingOptions):
    """What `--help` shows."""

    output_dir: str = field(default="runs/warmup", metadata=_OUTPUT_DIR)


def main(argv: Sequence[str] | None = None) -> int:
    words = words_of(argv)
    if {"-h", "--help"} & set(words):
        show_help(CommonOptions, prog="train.warmup", description=__doc__)
        return 0
    return guard(run, words)


def run(words: Sequence[str]) -> None:
    """Read, check, train, save, report."""
    from nontrivial.train.config import EMBEDDED_WARMUP, WarmupConfig

    job = prepare(words, ScriptOptions, WarmupConfig, prog="train.warmup", embedded=EMBEDDED_WARMUP)
    trainer = build_trainer(job)
    finish(trainer, job)
    if trainer.is_world_process_zero():
        print(table(summary(trainer)))


def build_trainer(job: Job) -> Trainer:
    """A supervised trainer over prompts with their targets."""
    from peft import get_peft_model
    from transformers import set_seed
    from trl import get_peft_config

    from nontrivial.train.data import PromptEncoder, StandIns
    from nontrivial.train.resume import StrictResume
    from nontrivial.train.targets import TargetCollator, balanced

    model, processor = load(job.model_args, freeze_vision=job.script.freeze_vision)
    room = model.config.get_text_config().max_position_embeddings
    adapter = get_peft_config(job.model_args)
    set_seed(job.args.seed)  # an adapter starts at random
    rows = job.samples.rows
    collator = TargetCollator(
        PromptEncoder(processor, job.args, longest=room), answer_only=job.script.answer_only
    )
    trainer = StrictResume(
        model=model if adapter is None else get_peft_model(model, adapter),
        args=job.args,
        train_dataset=balanced(rows) if job.script.balance else rows,
        data_collator=collator,
        processing_class=processor,
    )
    if trainer.sharded:
        collator.stand_ins = StandIns(processor, rows)
    return trainer


def summary(trainer: Trainer) -> list[tuple[str, Any]]:
    """What the run did, from its log."""
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    rows: list[tuple[str, Any]] = [("steps", trainer.state.global_step)]
    if losses:
        rows += [("loss, first", losses[0]), ("loss, last", losses[-1])]
    return [*rows, ("policy and logs", trainer.args.output_dir)]


if __name__ == "__main__":
    sys.exit(main())
