"""Token-weighted GRPO on image and video prompts, on top of TRL's trainer."""

# ruff: noqa: E402  (the remedy comes before trl, which imports torchvision)

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models import torchvision_remedy

torchvision_remedy.apply()

from datasets import Dataset
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import split_tensor_dict

from models.policy import vision_token_ids
from train.config import TokenWeightedGRPOConfig
from train.data import Prompt, PromptEncoder, Sample, columns
from train.importance import token_weights
from train.resume import StrictResume
from train.shared_prompt import accept_shared_prompts, generate, head_without, scoring_inputs

logger = logging.getLogger(__name__)


class TokenWeightedGRPOTrainer(StrictResume, GRPOTrainer):
    """GRPO whose advantages are weighted, token by token, by how much a prompt's group disagrees.

    A_it = A_i · w_t with w_t in [1, alpha] (train.importance), fixed when a group is sampled and
    whole, so it doesn't matter how its rows are dealt to micro-batches afterwards. The loss is
    TRL's own. Besides, prompts hold several images and videos, natively, and each is encoded once
    for its group (train.shared_prompt).
    """

    _tag_names = ["trl", "grpo", "nontrivial"]  # noqa: RUF012  (TRL's own class attribute)

    def __init__(
        self,
        model: Any,
        *,
        args: TokenWeightedGRPOConfig,
        samples: Sequence[Sample],
        prompts: PromptEncoder,
        **kwargs: Any,
    ) -> None:
        self._vision_tokens = vision_token_ids(model)
        given = args.generation_kwargs or {}
        args.generation_kwargs = {"suppress_tokens": self._vision_tokens, **given}
        super().__init__(
            model,
            args=args,
            # Samples stay outside Arrow, which would give every part of a message all keys of the
            # others: a text part with a null `video` counts as a video.
            train_dataset=Dataset.from_dict({"row": range(len(samples))}),
            processing_class=prompts.processor,
            **kwargs,
        )
        for network in (self.model, self.ref_model):
            if network is not None:
                inner = getattr(network, "get_base_model", lambda network=network: network)()
                accept_shared_prompts(inner, self._vision_tokens)
        if args.share_prompt and args.gradient_checkpointing:
            logger.warning(
                "gradient checkpointing keeps no cache: prompts are shared in sampling only"
            )
        self._samples, self._encode = samples, prompts
        self._prompts: list[Prompt] = []  # of the rows in flight
        self._hidden: Tensor | None = None  # (B, T, H) that predicted the sampled tokens

    def _generate_and_score_completions(self, inputs: list[dict[str, int]]) -> dict[str, Any]:
        chosen = [self._samples[row["row"]] for row in inputs]
        self._prompts = self._encode(chosen)
        self._hidden = None
        output = super()._generate_and_score_completions([columns(row) for row in chosen])
        advantages = output["advantages"]
        if self._hidden is not None:
            output["advantages"] = self._weighted(advantages, output["completion_mask"])
            self._hidden = None
        return output | {
            "prompts": self._prompts,
            "varied": _varied(advantages, self.num_generations),
        }

    def _tokenize_prompts(self, prompts: list) -> tuple[list[list[int]], None, dict]:
        return [prompt["input_ids"][0].tolist() for prompt in self._prompts], None, {}

    def _generate_single_turn(self, *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        args = self.args
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=args.ds3_gather_for_generation,
                generation_kwargs=self.generation_kwargs,
                gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs,
            ) as model,
            self._dist.summon_full_params(self.model_wrapped, recurse=False),
        ):
            tokens, self._hidden = generate(
                model,
                self._prompts,
                self.generation_config,
                share=args.share_prompt,
                keep_hidden=args.token_weighting != "none",
            )
        return _up_to_end(tokens, self.eos_token_ids), None

    def _weighted(self, advantages: Tensor, mask: Tensor) -> Tensor:
        """Advantages (B,) and completion mask (B, T) -> weighted advantages (B, T)."""
        group = self.num_generations
        head = head_without(self.accelerator.unwrap_model(self.model), self._vision_tokens)
        length = min(mask.shape[1], self._hidden.shape[1])  # the mask may be padded further
        live = mask[:, :length].reshape(-1, group, length)
        weights, divergence = token_weights(
            self._hidden[:, :length].reshape(-1, group, length, self._hidden.shape[2]),
            live,
            head.weight,
            head.bias,
            alpha=self.args.alpha,
            temperature=self.temperature,
        )
        seen = live.sum(1) > 0
        self._log_weights(weights[seen], divergence[seen])
        rows = torch.ones(mask.shape, device=mask.device)
        rows[:, :length] = weights.repeat_interleave(group, dim=0)
        return advantages[:, None] * rows

    def _log_weights(self, weights: Tensor, divergence: Tensor) -> None:
        metrics = self._metrics["train"]
        for name, value in (
            ("token_weight/mean", weights.mean()),
            ("token_weight/std", weights.std()),
            ("token_weight/divergence", divergence.mean()),
        ):
            metrics[name].append(self.accelerator.gather(value).mean().item())

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """As in TRL, but whole groups are shuffled: rows of one prompt stay in one micro-batch."""
        steps = self.args.steps_per_generation
        if self._step % (steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            order = _shuffled_groups(len(batch["prompts"]), self.num_generations)
            batch = {name: _take(value, order) for name, value in batch.items()}
            self._buffered_inputs = split_tensor_dict(batch, steps)
        return self._buffered_inputs[self._step % steps]

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        if self.args.drop_zero_variance:
            together = self.accelerator.num_processes > 1
            inputs = _masked_to_varied(inputs) if together else _only_varied(inputs)
        self._prompts = inputs["prompts"]
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        """Log-probabilities and entropies (B, T) of the completions of `self._prompts`."""
        if compute_aux_loss:
            raise ValueError("the load-balancing loss of mixtures of experts is not supported")
        # A checkpointed forward keeps no cache to share.
        share = self.args.share_prompt and not (
            self.args.gradient_checkpointing and torch.is_grad_enabled()
        )
        completions, mask = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:]
        log_probs, entropies = [], []
        step = batch_size or len(completions)
        for start in range(0, len(completions), step):
            chunk = slice(start, start + step)
            inputs = scoring_inputs(
                self._prompts[chunk],
                completions[chunk],
                mask[chunk],
                self._tokenizer.pad_token_id,
                share=share,
            )
            with self.accelerator.autocast():
                output = model(**inputs)
            log_probs.append(output.log_probs[:, -logits_to_keep:])
            if compute_entropy:
                entropies.append(output.entropy[:, -logits_to_keep:])
        return torch.cat(log_probs), torch.cat(entropies) if compute_entropy else None, None


def _up_to_end(tokens: Tensor, end_ids: Sequence[int]) -> list[list[int]]:
    """Each row of (B, T) tokens up to and with its first end token."""
    ends = torch.isin(tokens, torch.tensor(end_ids, device=tokens.device))
    before = ends.cumsum(1) - ends.int()  # end tokens seen before this position
    lengths = (before == 0).sum(1).tolist()
    return [row[:length] for row, length in zip(tokens.tolist(), lengths, strict=True)]


def _shuffled_groups(rows: int, group: int) -> Tensor:
    """A permutation of `rows` that keeps each run of `group` rows together and in order."""
    first = torch.randperm(rows // group)[:, None] * group
    return (first + torch.arange(group)).flatten()


def _take(value: Any, order: Tensor) -> Any:
    if isinstance(value, list):
        return [value[row] for row in order.tolist()]
    return value if value is None or value.ndim == 0 else value[order.to(value.device)]


def _varied(advantages: Tensor, group: int) -> Tensor:
    """(B,) bool: rows whose group got different rewards, so that there is something to learn."""
    largest = advantages.view(-1, group).abs().amax(1)
    return (largest > 1e-6).repeat_interleave(group)


def _masked_to_varied(inputs: dict[str, Any]) -> dict[str, Any]:
    """All rows, so that processes gather equal numbers, but no loss outside varied groups."""
    kept = inputs["varied"][:, None].expand_as(inputs["completion_mask"]).long()
    return inputs | {"tool_mask": kept}


def _only_varied(inputs: dict[str, Any]) -> dict[str, Any]:
    """The rows of varied groups; where there is none one row stays, whose gradient is zero."""
    varied = inputs["varied"].clone()
    varied[0] |= ~varied.any()
    rows = varied.nonzero()[:, 0]
    return {name: _take(value, rows) for name, value in inputs.items()}
