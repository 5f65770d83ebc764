"""One GRPO step on rollouts that don't depend on how many processes share them.

    accelerate-launch --cpu --num_processes 2 -m tests.train.fixed_rollouts POLICY MEDIA OUT LOSS

Writes the policy after the step to OUT. Completions are drawn from the prompt and the row's place
in its group, rewards from the completion alone.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

from manifests.schema import samples_table
from models.policy import load_policy
from tests.train.conftest import pairs, videos
from train.config import TokenWeightedGRPOConfig
from train.data import PromptEncoder
from train.options import DataOptions
from train.trainer import TokenWeightedGRPOTrainer

GROUP, PROMPTS, LENGTH = 4, 4, 10


class FixedRollouts(TokenWeightedGRPOTrainer):
    """The trainer, with sampling replaced; weights come from a forward pass."""

    def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any) -> tuple[list, None]:
        completions = []
        for row, ids in enumerate(prompt_ids):
            draw = torch.Generator().manual_seed(sum(ids) * 31 + row % GROUP)
            length = int(torch.randint(2, LENGTH + 1, (), generator=draw))
            completions.append(torch.randint(0, 200, (length,), generator=draw).tolist())
        return completions, None


def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [sum(ids) % 7 / 7 for ids in completion_ids]


def main(policy: str, media: str, out: str, loss_type: str) -> None:
    model, processor = load_policy(policy)
    rows = samples_table(pairs(2) + videos(2)).to_pylist()
    args = TokenWeightedGRPOConfig(
        output_dir=out,
        per_device_train_batch_size=GROUP,
        gradient_accumulation_steps=1,
        num_generations=GROUP,
        max_completion_length=LENGTH,
        max_steps=1,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        loss_type=loss_type,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
        log_completions=False,
        sample_every=0,
    )
    processes = args.world_size
    args.gradient_accumulation_steps = PROMPTS // processes
    args.steps_per_generation = args.gradient_accumulation_steps
    args.generation_batch_size = GROUP * PROMPTS
    trainer = FixedRollouts(
        model,
        args=args,
        samples=[row | {"media_root": media} for row in rows],
        prompts=PromptEncoder(processor, DataOptions(nframes=4), longest=4000),
        reward_funcs=reward,
    )
    trainer.train()
    assert trainer.accelerator.num_processes == processes
    if trainer.is_world_process_zero():
        trainer.model.save_pretrained(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
