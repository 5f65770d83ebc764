"""With weights of one, the loss and its gradient are stock TRL's."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from nontrivial.models.policy import load_policy
from nontrivial.train.data import with_pixels
from tests.train.conftest import GROUP, distinct_letters, pairs
from tests.train.test_trainer import spy


@pytest.fixture
def stock(tiny_policy_dir, tmp_path):
    """TRL's own trainer, ready to compute losses."""

    def make(**options):
        model, processor = load_policy(str(tiny_policy_dir))
        args = GRPOConfig(
            output_dir=str(tmp_path / "stock"),
            use_cpu=True,
            bf16=False,
            num_generations=GROUP,
            per_device_train_batch_size=16,
            gradient_checkpointing=False,
            report_to="none",
            **options,
        )
        trainer = GRPOTrainer(
            model,
            args=args,
            reward_funcs=distinct_letters,
            train_dataset=Dataset.from_dict({"prompt": ["unused"] * 16}),
            processing_class=processor,
        )
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.train()
        return trainer

    return make


def as_stock(batch: dict) -> dict:
    """A batch of ours in TRL's terms: media repeated for each row, one advantage a row."""
    prompts, zeros = (
        [with_pixels(prompt) for prompt in batch["prompts"]],
        torch.zeros_like(batch["completion_ids"]),
    )
    width = batch["prompt_ids"].shape[1]
    types = [
        torch.nn.functional.pad(
            prompt["mm_token_type_ids"], (width - prompt["input_ids"].shape[1], 0)
        )
        for prompt in prompts
    ]
    names = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "num_items_in_batch")
    return {name: batch[name] for name in names} | {
        "advantages": batch["advantages"][:, 0],
        "pixel_values": torch.cat([prompt["pixel_values"] for prompt in prompts]),
        "image_grid_thw": torch.cat([prompt["image_grid_thw"] for prompt in prompts]),
        "num_images": [len(prompt["image_grid_thw"]) for prompt in prompts],
        "mm_token_type_ids": torch.cat([torch.cat(types), zeros], dim=1),
    }


@pytest.mark.parametrize("loss_type", ["bnpo", "dapo", "grpo"])
def test_alpha_one_gives_stock_loss_and_gradient(make_trainer, stock, loss_type):
    ours = make_trainer(pairs(4), alpha=1.0, loss_type=loss_type)
    batches = spy(ours, "_micro_batch")
    losses, gradients = [], {}
    compute = ours._compute_loss

    def without_forbidden_tokens(model, inputs):
        ours._vision_tokens.clear()  # stock TRL scores tokens that it can't sample
        losses.append(compute(model, inputs))
        grads = torch.autograd.grad(
            losses[0], list(model.parameters()), retain_graph=True, allow_unused=True
        )
        names = [name for name, _ in model.named_parameters()]
        gradients.update(zip(names, grads, strict=True))
        return losses[0]

    ours._compute_loss = without_forbidden_tokens
    ours.train()
    theirs = stock(loss_type=loss_type)
    loss = theirs._compute_loss(theirs.model, as_stock(batches[0]))
    torch.testing.assert_close(losses[0].detach(), loss.detach(), rtol=1e-5, atol=1e-6)
    loss.backward()
    moved = 0
    for name, parameter in theirs.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-6)
            moved += bool(parameter.grad.abs().max() > 1e-6)
    assert moved > 20
