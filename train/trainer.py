"""Token-weighted GRPO on image and video prompts, on top of TRL's trainer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import split_tensor_dict

from nontrivial.manifests.runs import GROUPS, JsonLines
from nontrivial.models.policy import vision_token_ids
from nontrivial.train import batches, vllm_prompts
from nontrivial.train.batches import Batch
from nontrivial.train.config import TokenWeightedGRPOConfig
from nontrivial.train.data import Prompt, PromptEncoder, Sample, StandIns, columns
from nontrivial.train.head import check_plain_logits, gathered, head_without
from nontrivial.train.importance import token_weights, warmed_alpha
from nontrivial.train.journal import spans
from nontrivial.train.resume import ResumableSampler, SaveWhenUsedUp, StrictResume
from nontrivial.train.shared_prompt import (
    accept_shared_prompts,
    backbone,
    caught_states,
    generate,
    hidden_states,
    scoring_inputs,
)

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
        if args.token_weighting != "none":
            check_plain_logits(model.config.get_text_config())
        forbidden = {"suppress_tokens": self._vision_tokens}
        if args.use_vllm:
            vllm_prompts.check(model.config, args.vllm_mode, samples)
            forbidden = vllm_prompts.sampling_options(self._vision_tokens)
        args.generation_kwargs = {**forbidden, **(args.generation_kwargs or {})}
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
        if self.use_vllm:
            version = partial(getattr, self, "_last_loaded_step")  # the weights vLLM has
            vllm_prompts.take_encoded_prompts(self.vllm_generation, backbone(self.model), version)
        self.add_callback(SaveWhenUsedUp(lambda: self._step % self._steps_per_sampling == 0))
        self._samples, self._encode = samples, prompts
        self._stand_ins = StandIns(prompts.processor, samples if self.sharded else ())
        self._prompts: list[Prompt] = []  # of the rows in flight
        self._hidden: Tensor | None = None  # (B, T, H) that predicted the sampled tokens
        self._sampled_at: int | None = None  # the step of the last group in samples.jsonl
        self._pieces: dict[int, str] = {}  # texts of tokens that were seen

    @property
    def _steps_per_sampling(self) -> int:
        """Micro-batches that are trained on between one sampling and the next."""
        return self.args.steps_per_generation * self.num_iterations

    @property
    def _states_with_scores(self) -> bool:
        """vLLM keeps its states; where its samples are scored at once, that pass has them, too."""
        scored_at_once = self.use_vllm and self.vllm_importance_sampling_correction
        return scored_at_once and self.args.token_weighting != "none"

    def _get_train_sampler(self, dataset: Dataset | None = None) -> ResumableSampler:
        return ResumableSampler(
            self,
            self.train_dataset if dataset is None else dataset,
            mini_repeat_count=self.num_generations,
            batch_size=self.args.generation_batch_size // self.num_generations,
            repeat_count=self._steps_per_sampling,
            shuffle=self.shuffle_dataset,
            seed=self.args.seed,
        )

    def _generate_and_score_completions(self, inputs: list[dict[str, int]]) -> Batch:
        batch = self._rollout([row["row"] for row in inputs])
        self._save_sample([row["row"] for row in inputs], batch)
        if self.args.max_redraws:
            batch = self._with_redrawn_groups(batch)
        return batch

    def _rollout(self, rows: Sequence[int]) -> Batch:
        """Completions of samples, G rows each, with rewards and weighted advantages."""
        chosen = [self._samples[row] for row in rows]
        self._prompts = self._encode(chosen)
        self._hidden = None
        output = super()._generate_and_score_completions([columns(row) for row in chosen])
        output |= {
            "prompts": self._prompts,
            "varied": batches.varied(output["advantages"], self.num_generations),
        }
        if self.args.token_weighting != "none":
            weights = self._token_weights(output)
            output["advantages"] = output["advantages"][:, None] * weights
            output["token_weights"] = weights
        self._hidden = None
        return output

    def _with_redrawn_groups(self, batch: Batch) -> Batch:
        """A batch whose groups without variance were drawn anew from other samples.

        Metrics keep describing the first draw: those of the redrawn would be a selection.
        """
        metrics = {name: list(values) for name, values in self._metrics["train"].items()}
        group, pad_token_id = self.num_generations, self._tokenizer.pad_token_id
        for _ in range(self.args.max_redraws):
            # Every process draws as many as the neediest one: rewards are gathered over all.
            missing = int(self.accelerator.gather((~batch["varied"]).sum()).max()) // group
            if missing == 0:
                break
            drawn = torch.randint(len(self._samples), (missing,)).tolist()
            fresh = self._rollout([row for row in drawn for _ in range(group)])
            batch = batches.with_groups_replaced(batch, fresh, group, pad_token_id)
        self._metrics["train"].clear()
        self._metrics["train"].update(metrics)
        left = self.accelerator.gather((~batch["varied"]).float().mean()).mean().item()
        self._metrics["train"]["redraw/frac_reward_zero_std"].append(left)
        tokens = batch["completion_mask"].sum()
        return batch | {"num_items_in_batch": self.accelerator.gather(tokens).sum()}

    def _tokenize_prompts(self, prompts: list) -> tuple[list[list[int]], None, dict]:
        return [prompt["input_ids"][0].tolist() for prompt in self._prompts], None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], *_: Any, **__: Any
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        args = self.args
        if self.use_vllm:
            encoded = [[prompt] for prompt in self._prompts]
            return super()._generate_single_turn(prompt_ids, encoded, {}, self.num_generations)
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
                unasked=self._stand_ins(self._prompts),
            )
        return _up_to_end(tokens, self.eos_token_ids), None

    def _token_weights(self, output: Batch) -> Tensor:
        """The weight (B, T) of each token of whole groups, the same for all of a group."""
        group, mask = self.num_generations, output["completion_mask"]
        if self._hidden is None:  # neither sampled nor scored here
            self._hidden = self._hidden_of_forward(output["completion_ids"], mask)
        # The published code knows nothing of tokens that can't be sampled.
        forbidden = () if self.args.token_weighting == "official" else self._vision_tokens
        head = head_without(self.accelerator.unwrap_model(self.model), forbidden)
        length = min(mask.shape[1], self._hidden.shape[1])  # the mask may be padded further
        live = mask[:, :length].reshape(-1, group, length)
        with gathered(head.weight, head.bias):
            weights, scores = token_weights(
                self._hidden[:, :length].reshape(-1, group, length, self._hidden.shape[2]),
                live,
                head.weight,
                head.bias,
                measure=self.args.token_weighting,
                alpha=self._alpha(),
                temperature=self.temperature,
                normalize=self.args.normalize_weights,
            )
        rows = torch.ones(mask.shape, device=mask.device)
        rows[:, :length] = weights.repeat_interleave(group, dim=0)
        self._log_weights(weights, scores, live.sum(1) > 0)
        self._log_shares(rows, output["completion_ids"], mask)
        return rows

    def _hidden_of_forward(self, completions: Tensor, mask: Tensor) -> Tensor:
        """Hidden states (B, T, H) of completions, a micro-batch at a time."""
        model = self.accelerator.unwrap_model(self.model)
        step, training = self.args.per_device_train_batch_size, model.training
        model.eval()  # gradient checkpointing, which keeps no cache, is for training
        states = []
        for start in range(0, len(completions), step):
            chunk = slice(start, start + step)
            prompts = self._prompts[chunk]
            states.append(
                hidden_states(
                    model,
                    prompts,
                    completions[chunk],
                    mask[chunk],
                    self._tokenizer.pad_token_id,
                    unasked=self._stand_ins(prompts),
                )
            )
        model.train(training)
        return torch.cat(states)

    def _alpha(self) -> float:
        return warmed_alpha(self.args.alpha, self.state.global_step, self.args.alpha_warmup_steps)

    def _log_weights(self, weights: Tensor, scores: Tensor, seen: Tensor) -> None:
        """Mean and spread over the positions (N, T) that some member reached."""
        weights, scores = weights[seen], scores[seen]
        self._log_mean("token_weight/mean", weights.mean())
        self._log_mean("token_weight/std", weights.std())
        self._log_mean("token_weight/score", scores.mean())

    def _log_shares(self, weights: Tensor, completions: Tensor, mask: Tensor) -> None:
        """What share of all weight lies on tokens of think and of answer blocks."""
        live = (weights * mask).tolist()
        inside = {"think": 0.0, "answer": 0.0}
        for row, ids in zip(live, completions.tolist(), strict=True):
            for name, span in spans(self._texts(ids)).items():
                inside[name] += sum(row[span.start : span.stop])
        total = sum(map(sum, live)) or 1.0
        for name, weight in inside.items():
            share = torch.tensor(weight / total, device=mask.device)
            self._log_mean(f"token_weight/{name}_share", share)

    def _log_mean(self, name: str, value: Tensor) -> None:
        self._metrics["train"][name].append(self.accelerator.gather(value).mean().item())

    def _texts(self, ids: Sequence[int]) -> list[str]:
        """The text of each token by itself."""
        new = sorted(set(ids) - self._pieces.keys())
        if new:
            texts = self._tokenizer.batch_decode([[token] for token in new])
            self._pieces.update(zip(new, texts, strict=True))
        return [self._pieces[token] for token in ids]

    def _save_sample(self, rows: Sequence[int], batch: Batch) -> None:
        """Now and then write the first group, token by token, to samples.jsonl."""
        every, step = self.args.sample_every, self.state.global_step + 1
        due = self._sampled_at is None or step >= self._sampled_at + every
        if not (every and due and self.accelerator.is_main_process):
            return
        self._sampled_at = step
        sample = self._samples[rows[0]]
        told = ("id", "task", "question", "options", "answer")
        completions = [self._completion(row, batch) for row in range(self.num_generations)]
        JsonLines(Path(self.args.output_dir, GROUPS)).append(
            {"step": step}
            | {name: sample[name] for name in told}
            | {"token_weighting": self.args.token_weighting, "completions": completions}
        )

    def _completion(self, row: int, batch: Batch) -> dict[str, Any]:
        """One completion of the last whole rollout, for `samples.jsonl`."""
        live = batch["completion_mask"][row].bool()
        weights = batch.get("token_weights", batch["completion_mask"].float())
        return {
            "tokens": self._texts(batch["completion_ids"][row][live].tolist()),
            "weights": [round(weight, 4) for weight in weights[row][live].tolist()],
            "rewards": {name: values[row] for name, values in self._logs["rewards"].items()},
            "advantage": round(self._logs["advantages"][row], 4),
        }

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """As in TRL, but whole groups are shuffled: rows of one prompt stay in one micro-batch."""
        steps = self.args.steps_per_generation
        if self._step % self._steps_per_sampling == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            order = batches.shuffled_groups(len(batch["prompts"]), self.num_generations)
            self._buffered_inputs = split_tensor_dict(batches.take(batch, order), steps)
        return self._buffered_inputs[self._step % steps]

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        if self.args.drop_zero_variance:
            together = self.accelerator.num_processes > 1
            inputs = batches.masked_to_varied(inputs) if together else batches.only_varied(inputs)
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
        keep = self._states_with_scores and self._hidden is None and not torch.is_grad_enabled()
        body = backbone(self.accelerator.unwrap_model(model))
        completions, mask = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:]
        last = logits_to_keep + 1 if keep else 0
        log_probs, entropies, states = [], [], []
        step = batch_size or len(completions)
        for start in range(0, len(completions), step):
            chunk = slice(start, start + step)
            prompts = self._prompts[chunk]
            inputs = scoring_inputs(
                prompts,
                completions[chunk],
                mask[chunk],
                self._tokenizer.pad_token_id,
                share=share,
                unasked=self._stand_ins(prompts),
            )
            with self.accelerator.autocast(), caught_states(body, last) as caught:
                output = model(**inputs)
            if keep:
                states.append(caught[-1][: len(prompts), :-1])
            log_probs.append(output.log_probs[: len(prompts), -logits_to_keep:])
            if compute_entropy:
                entropies.append(output.entropy[: len(prompts), -logits_to_keep:])
        if keep:
            self._hidden = torch.cat(states)
        return torch.cat(log_probs), torch.cat(entropies) if compute_entropy else None, None


def _up_to_end(tokens: Tensor, end_ids: Sequence[int]) -> list[list[int]]:
    """Each row of (B, T) tokens up to and with its first end token."""
    ends = torch.isin(tokens, torch.tensor(end_ids, device=tokens.device))
    before = ends.cumsum(1) - ends.int()  # end tokens seen before this position
    lengths = (before == 0).sum(1).tolist()
    return [row[:length] for row, length in zip(tokens.tolist(), lengths, strict=True)]
