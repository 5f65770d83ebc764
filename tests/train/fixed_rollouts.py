"""One GRPO step on rollouts that don't depend on how many processes share them.

    torchrun --nproc_per_node 2 -m tests.train.fixed_rollouts POLICY MEDIA OUT LOSS \
        [SHARDING [lora] [parts]]

Writes the policy after the step to OUT; with `lora` an adapter is trained, with `parts`
micro-batches are split. Completions are drawn from the prompt and the row's place in its group,
rewards from the completion alone.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch

from nontrivial.manifests.schema import samples_table
from nontrivial.models.policy import load_policy
from nontrivial.train.config import TokenWeightedGRPOConfig
from nontrivial.train.launch import LORA_TARGETS
from nontrivial.train.processes import part_ways
from nontrivial.train.saving import save
from nontrivial.train.trainer import TokenWeightedGRPOTrainer
from tests.train.conftest import pairs, videos

GROUP, PROMPTS, LENGTH = 4, 4, 10
LIMIT = 280  # less than the tokens of a group

SHARDING: dict[str, dict[str, Any]] = {
    "none": {},
    "zero3": {
        "deepspeed": {
            "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True},
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
            "gradient_clipping": "auto",
            "zero_allow_untested_optimizer": True,
        }
    },
    "fsdp2": {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "state_dict_type": "SHARDED_STATE_DICT",  # as accelerate asks by default
        },
    },
}


class FixedRollouts(TokenWeightedGRPOTrainer):
    """The trainer, with sampling replaced; weights come from a forward pass."""

    def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any) -> tuple[list, None]:
        completions = []
        for row, ids in enumerate(prompt_ids):
            draw = torch.Generator().manual_seed(sum(ids) * 31 + row % GROUP)
            length = int(torch.randint(2, LENGTH + 1, (), generator=draw))
            completions.append(torch.randint(0, 200, (length,), generator=draw).tolist())
        return completions, None


def reward(completion_ids: list[list[int]], id: list[str], **_: Any) -> list[float]:
    """The group of one sample has no variance, and is dropped."""
    rows = zip(completion_ids, id, strict=True)
    return [0.5 if name == "pair-1" else sum(ids) % 7 / 7 for ids, name in rows]


def main(
    policy: str, media: str, out: str, loss_type: str, sharding: str = "none", *ways: str
) -> None:
    from peft import LoraConfig
    from transformers import set_seed

    adapter = "lora" in ways
    rows = samples_table(pairs(3) + videos(1)).to_pylist()  # one process sees videos, too
    args = TokenWeightedGRPOConfig(
        output_dir=out,
        per_device_train_batch_size=2 * GROUP,
        gradient_accumulation_steps=PROMPTS // 2 // int(os.environ["WORLD_SIZE"]),
        num_generations=GROUP,
        max_completion_length=LENGTH,
        max_steps=1,
        learning_rate=1.0 if adapter else 1e-2,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        loss_type=loss_type,
        drop_zero_variance=True,
        gradient_checkpointing=False,
        freeze_vision=False,
        save_strategy="no",
        report_to="none",
        log_completions=False,
        sample_every=0,
        nframes=4,
        media_root=media,
        max_tokens_per_micro_batch=LIMIT if "parts" in ways else 0,
        **SHARDING[sharding],
    )
    processes = args.world_size
    model, processor = load_policy(policy)
    lora = LoraConfig(r=4, target_modules=LORA_TARGETS[0], task_type="CAUSAL_LM")
    set_seed(0)
    trainer = FixedRollouts(
        model,
        args=args,
        train_dataset=rows,
        processing_class=processor,
        reward_funcs=reward,
        peft_config=lora if adapter else None,
    )
    trainer.train()
    assert trainer.accelerator.num_processes == processes
    save(trainer, out)
    part_ways()


if __name__ == "__main__":
    main(*sys.argv[1:])
