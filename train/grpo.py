"""Train a policy on manifests with token-weighted GRPO.

    python -m train.grpo manifests/*.parquet --max_steps 200

The policy answers each row of the split "train" several times. Completions are rewarded for right
answers and for their format, and the policy moves towards the better ones of each group. The same
command, given again, resumes an interrupted run from its last checkpoint.

    accelerate-launch --config_file configs/accelerate/fsdp2.yaml -m train.grpo manifests/*.parquet

runs it on several GPUs. Write the hyphen: `accelerate launch` imports torchvision before our code
runs, and that import fails beside a CPU build of torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nontrivial.manifests.errors import BadInput
from nontrivial.train import launch, options

if TYPE_CHECKING:
    from nontrivial.train.trainer import TokenWeightedGRPOTrainer

# Metrics whose first and last values are printed when a run ends.
REPORTED = (
    "reward",
    "frac_reward_zero_std",
    "completions/mean_length",
    "token_weight/mean",
    options.BEST,
)


@dataclass
class ScriptOptions(options.RewardOptions, options.RunOptions):
    """Options that TRL's configurations do not hold."""


@dataclass
class CommonOptions(
    ScriptOptions,
    options.DataOptions,
    options.EvaluationOptions,
    options.WeightingOptions,
    options.TrainingOptions,
):
    """The options that `--help` shows."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return launch.main(argv, run, CommonOptions, prog="train.grpo", doc=__doc__)


def run(words: Sequence[str]) -> None:
    """Train, save the policy and print a summary."""
    from nontrivial.train.config import EMBEDDED_GRPO, TokenWeightedGRPOConfig

    job = launch.prepare(
        words, ScriptOptions, TokenWeightedGRPOConfig, prog="train.grpo", embedded=EMBEDDED_GRPO
    )
    if not launch.dry(job):
        launch.finish(build_trainer(job), job, reported=REPORTED)


def build_trainer(
    job: launch.Job, kind: type[TokenWeightedGRPOTrainer] | None = None
) -> TokenWeightedGRPOTrainer:
    """Return the trainer, or a `kind` of it, with its policy, samples and rewards."""
    from trl import get_peft_config

    from nontrivial.train.rewards import find_rewards
    from nontrivial.train.trainer import TokenWeightedGRPOTrainer

    limit, weights = job.args.max_completion_length, job.args.reward_weights
    rewards = find_rewards(
        job.script.reward_funcs,
        length_free=job.script.length_free,
        limit=limit,
        style=job.args.prompt,
    )
    if weights is not None and len(weights) != len(rewards):
        raise BadInput(f"--reward_weights: {len(weights)} weights for {len(rewards)} rewards")
    model, processor = launch.load(job)
    return (kind or TokenWeightedGRPOTrainer)(
        model,
        rewards,
        args=job.args,
        train_dataset=job.samples.rows,
        eval_dataset=job.held_out and job.held_out.rows,
        processing_class=processor,
        peft_config=get_peft_config(job.model_args),
    )


if __name__ == "__main__":
    sys.exit(main())
