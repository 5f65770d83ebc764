"""Train a policy on manifests with token-weighted GRPO.

    python -m train.grpo manifests/*.parquet --max_steps 200

Rows of the split "train" are asked, several completions each. Completions are rewarded for right
answers and good form, and the policy moves towards the better ones of each group. Given again, the
same command goes on from the last checkpoint of an interrupted run.

    accelerate-launch --config_file configs/accelerate/fsdp2.yaml -m train.grpo manifests/*.parquet

runs it on several GPUs. Write the hyphen: `accelerate launch` does the same, but it imports
torchvision before anything of ours runs, and beside a CPU build of torch that import fails.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.command import guard, table
from nontrivial.manifests.errors import BadInput
from nontrivial.train.launch import Job, finish, load, prepare, show_help, words_of
from nontrivial.train.options import (
    DataOptions,
    RewardOptions,
    RunOptions,
    TrainingOptions,
    WeightingOptions,
)

if TYPE_CHECKING:
    from nontrivial.train.trainer import TokenWeightedGRPOTrainer

# What the closing table takes from the log, at the first and the last entry.
REPORTED = ("reward", "frac_reward_zero_std", "completions/mean_length", "token_weight/mean")


@dataclass
class ScriptOptions(RewardOptions, RunOptions):
    """Samples and rewards."""


@dataclass
class CommonOptions(ScriptOptions, DataOptions, WeightingOptions, TrainingOptions):
    """What `--help` shows."""


def main(argv: Sequence[str] | None = None) -> int:
    words = words_of(argv)
    if {"-h", "--help"} & set(words):
        show_help(CommonOptions, prog="train.grpo", description=__doc__)
        return 0
    return guard(run, words)


def run(words: Sequence[str]) -> None:
    """Read, check, train, save, report."""
    from nontrivial.train.config import EMBEDDED_GRPO, TokenWeightedGRPOConfig

    job = prepare(
        words, ScriptOptions, TokenWeightedGRPOConfig, prog="train.grpo", embedded=EMBEDDED_GRPO
    )
    trainer = build_trainer(job)
    finish(trainer, job)
    if trainer.is_world_process_zero():
        print(table(summary(trainer)))


def build_trainer(job: Job) -> TokenWeightedGRPOTrainer:
    """The trainer with its policy, prompts and rewards."""
    from trl import get_peft_config

    from nontrivial.train.rewards import find_rewards
    from nontrivial.train.trainer import TokenWeightedGRPOTrainer

    rewards = find_rewards(
        job.script.reward_funcs,
        length_free=job.script.length_free,
        limit=job.args.max_completion_length,
    )
    given = job.args.reward_weights
    if given is not None and len(given) != len(rewards):
        raise BadInput(f"--reward_weights: {len(given)} weights for {len(rewards)} rewards")
    model, processor = load(job.model_args, freeze_vision=job.args.freeze_vision)
    return TokenWeightedGRPOTrainer(
        model,
        rewards,
        args=job.args,
        train_dataset=job.samples.rows,
        processing_class=processor,
        peft_config=get_peft_config(job.model_args),
    )


def summary(trainer: TokenWeightedGRPOTrainer) -> list[tuple[str, Any]]:
    """What the run did, from its log."""
    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    rows: list[tuple[str, Any]] = [("steps", trainer.state.global_step)]
    for name in REPORTED:
        if logged and name in logged[-1]:
            rows += [(f"{name}, first", logged[0][name]), (f"{name}, last", logged[-1][name])]
    return [*rows, ("policy and logs", trainer.args.output_dir)]


if __name__ == "__main__":
    sys.exit(main())
