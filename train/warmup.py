"""Teach a policy the answers of manifests by supervision, before GRPO.

    python -m train.warmup manifests/market1501_reid_random.parquet --output_dir runs/warmup
    python -m train.grpo manifests/*.parquet --model_name_or_path runs/warmup

The target is the sample's rationale, or an empty think block where it has none, and the answer.
Only the target is learned; with `--answer_only` only its answer block. Pairs of the same and of
different people are seen equally often. This is a first stage in the style of ReID-R, whose paper
does not publish its loss.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nontrivial.train import launch
from nontrivial.train.options import OUTPUT_DIR, DataOptions, RunOptions, TrainingOptions, option

if TYPE_CHECKING:
    from nontrivial.train.resume import StrictResume


@dataclass
class ScriptOptions(RunOptions):
    """Options that transformers' arguments do not hold."""

    answer_only: bool = option(False, "Learn the answer block, not the reasoning before it.")
    balance: bool = option(True, "Repeat pairs of the rarer verdict until both are even.")


@dataclass
class CommonOptions(ScriptOptions, DataOptions, TrainingOptions):
    """The options that `--help` shows."""

    output_dir: str = option("runs/warmup", OUTPUT_DIR)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return launch.main(argv, run, CommonOptions, prog="train.warmup", doc=__doc__)


def run(words: Sequence[str]) -> None:
    """Train, save the policy and print a summary."""
    from nontrivial.train.config import EMBEDDED_WARMUP, WarmupConfig

    job = launch.prepare(
        words, ScriptOptions, WarmupConfig, prog="train.warmup", embedded=EMBEDDED_WARMUP
    )
    if not launch.dry(job):
        launch.finish(build_trainer(job), job, reported=("loss",))


def build_trainer(job: launch.Job) -> StrictResume:
    """Return a supervised trainer over prompts with their targets."""
    from peft import get_peft_model
    from transformers import set_seed
    from trl import get_peft_config

    from nontrivial.models.policy import freeze_vision
    from nontrivial.train.data import PromptEncoder, StandIns, Stock
    from nontrivial.train.precision import require_float32
    from nontrivial.train.resume import StrictResume
    from nontrivial.train.targets import TargetCollator, balanced

    model, processor = launch.load(job)
    if job.args.freeze_vision:
        freeze_vision(model)
    longest = model.config.get_text_config().max_position_embeddings
    adapter = get_peft_config(job.model_args)
    set_seed(job.args.seed)  # an adapter starts at random
    rows = job.samples.rows
    collator = TargetCollator(
        Stock(PromptEncoder(processor, model.base_model, job.args, longest=longest), rows),
        answer_only=job.script.answer_only,
    )
    trainer = StrictResume(
        model=model if adapter is None else get_peft_model(model, adapter),
        args=job.args,
        train_dataset=balanced(rows) if job.script.balance else rows,
        data_collator=collator,
        processing_class=processor,
    )
    require_float32(trainer)
    if trainer.sharded:
        collator.stand_ins = StandIns(collator.stock.encode, rows)
    return trainer


if __name__ == "__main__":
    sys.exit(main())
