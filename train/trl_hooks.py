"""Override TRL's GRPO trainer: all overrides and patches, with their reasons.

Overridden in `GroupTrainer`, because `trl.GRPOTrainer` 1.16

_get_train_sampler                  draws all permutations from one generator; a resumed run needs
                                    an order that depends on seed and epoch (`ResumableSampler`)
_generate_and_score_completions     takes rows of a table; here rows are numbers of samples, whose
                                    prompts are encoded here, and `shaped` gets whole groups
_tokenize_prompts                   tokenizes images only; here prompts are already encoded
_generate_single_turn               encodes a prompt G times; here once, and keeps hidden states
training_step                       takes a micro-batch of shuffled rows; here of whole groups, that
                                    share the encoding of their prompt, and in parts
_calculate_rewards                  keeps them to itself; here `shaped` gets those of each function
_prepare_inputs                     samples; here it gets what was sampled (`_micro_batch`)
log                                 writes the last completions again at the end of a run, behind
                                    the last checkpoint, where a kill would leave half of them
_compute_loss                       ignores groups without variance and encoded prompts
_get_per_token_logps_and_entropies  scores images only, each prompt G times
evaluate                            computes a loss; here greedy answers are scored

Overridden elsewhere: `Trainer._load_from_checkpoint`, which skips weights silently, and
`_save_checkpoint`, which removes the files of older checkpoints in any order, so that a kill leaves
some that seem whole (train.resume), `RepeatSampler.__iter__` (train.resume),
`ProgressCallback.on_log` (train.progress).

Patched on instances (`PATCHED`): the policy's `forward`, to which TRL has added its fused head, and
`get_output_embeddings`, which that head reads (train.head), and `get_rope_index` of its
body (models.positions); in vLLM's backend `llm`, `vllm_client.image_features`, `_place_features`,
and `get_mrope_input_positions` of the model it serves (train.vllm_prompts).

`tests/train/test_pins.py` pins these methods of TRL and transformers by digest. When a release
changes one, the test names it: read it before pinning it again.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from accelerate.utils import DistributedType
from datasets import Dataset
from torch import Tensor
from transformers import GenerationConfig, Trainer, TrainerControl
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import split_tensor_dict

from nontrivial.manifests.errors import WorkFailed
from nontrivial.models.policy import vision_token_ids
from nontrivial.models.positions import start_text_behind_clips
from nontrivial.train import (
    batches,
    evaluation,
    group_rows,
    micro_batches,
    shared_prompt,
    vllm_prompts,
)
from nontrivial.train.batches import Batch
from nontrivial.train.config import ROW_MEANS, TokenWeightedGRPOConfig
from nontrivial.train.data import Prompt, PromptEncoder, StandIns, Stock, distinct
from nontrivial.train.group_rows import Scoring
from nontrivial.train.head import leave_out
from nontrivial.train.out_of_memory import AtWork, advice, is_out_of_memory
from nontrivial.train.resume import ResumableSampler, SaveWhenUsedUp, StrictResume
from nontrivial.train.rows import Sample, columns
from nontrivial.train.shares import Clock, TellShares
from nontrivial.train.vision import FrozenVision, can_be_kept

# Methods that are replaced on instances; tests/train/test_pins.py pins them.
PATCHED = (
    "trl.trainer.utils.add_fused_lm_head",
    "trl.generation.vllm_generation.VLLMGeneration._place_features",
    "trl.generation.vllm_client.VLLMClient.image_features",
    "transformers.modeling_utils.EmbeddingAccessMixin.get_output_embeddings",
    "transformers.models.qwen2_vl.modeling_qwen2_vl.Qwen2VLModel.get_rope_index",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl.Qwen2_5_VLModel.get_rope_index",
)


# Processes that each hold the whole policy, and exchange gradients.
COPIES = (DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)


class BetaOfTokens(float):
    """The coefficient of the KL term, times a weight for each token (B, T)."""

    weights: Tensor

    def __new__(cls, beta: float, weights: Tensor) -> BetaOfTokens:
        made = super().__new__(cls, beta)
        made.weights = weights
        return made

    def __mul__(self, divergence: Any) -> Any:
        return float(self) * self.weights * divergence


@dataclass
class InFlight:
    """State of the rows TRL is working on, which its hooks do not pass to each other.

    Lives for one sampling, or for the loss of one micro-batch.
    """

    prompts: list[Prompt]
    samples: Sequence[Sample] = ()  # while completions are sampled
    hidden: Tensor | None = None  # (B, T, H) that predicted the sampled tokens
    rewards: Tensor | None = None  # (B, F) of each function, once completions are scored
    varied: Tensor | None = None  # (B,) bool: rewards differ in the group
    equal: float = 0.0  # share of groups, of all processes, whose rewards are equal


class GroupTrainer(StrictResume, GRPOTrainer):
    """GRPO on prompts with images and videos, each encoded once for its group.

    Subclasses override `shaped` to change a sampled batch while its groups are whole.
    """

    _buffered_inputs: list[Batch] | None

    def __init__(
        self,
        model: Any,
        reward_funcs: Any,
        args: TokenWeightedGRPOConfig,
        samples: Sequence[Sample],
        encode: PromptEncoder,
        held_out: Stock | None = None,
        **kwargs: Any,
    ) -> None:
        self._vision_tokens = vision_token_ids(model)
        forbidden: dict[str, Any] = {"suppress_tokens": self._vision_tokens}
        if args.use_vllm:
            vllm_prompts.check(model.config)
            forbidden = {"logit_bias": dict.fromkeys(self._vision_tokens, vllm_prompts.NEVER)}
        args.generation_kwargs = {**forbidden, **(args.generation_kwargs or {})}
        super().__init__(
            model,
            reward_funcs,
            args=args,
            train_dataset=_numbers(samples),
            eval_dataset=held_out and _numbers(held_out.samples),
            processing_class=encode.processor,
            **kwargs,
        )
        self._shares = args.share_prompt  # whether groups are scored as one row
        for network in (self.model, self.ref_model):
            if network is not None:
                policy = shared_prompt.without_adapter(network)
                start_text_behind_clips(policy.base_model)
                leave_out(policy, self._vision_tokens)
                group_rows.accept_group_rows(policy)
                self._shares &= group_rows.accepted_by(policy.base_model)
        if self.use_vllm:
            version = partial(getattr, self, "_last_loaded_step")  # the weights vLLM has
            vllm_prompts.take_encoded_prompts(
                self.vllm_generation, shared_prompt.backbone(self.model), version
            )
        self._clock = Clock()
        self.add_callback(TellShares(self._clock, self._metrics))
        self.add_callback(SaveWhenUsedUp(self.used_up))
        self._samples, self._encode = samples, encode
        self._stock = Stock(encode, samples)
        if not args.dataloader_num_workers:  # another process could not hand on what it encodes
            self.data_collator = self._announced
        self._next: list[dict[str, int]] = []
        self._held_out = held_out
        seen = chain(samples, held_out.samples if held_out else ())
        self._stand_ins = StandIns(encode, seen if self.sharded else ())
        body = shared_prompt.backbone(self.model)
        # Processes that shard the weights must call the tower together, whatever they have kept.
        once = args.share_prompt and can_be_kept(body) and not self.sharded
        room = args.vision_cache_mb << 20
        self._vision = FrozenVision(body, room) if once else None
        self._vision_of_held_out = FrozenVision(body, room) if once and held_out else None
        self._flight: InFlight | None = None
        self._at_work: list[Prompt] = []

    def _announced(self, rows: list[dict[str, int]]) -> list[dict[str, int]]:
        """Begin to encode a batch of rows, which is collated one batch before it is used."""
        if rows != self._next:  # rows are repeated for each micro-batch
            self._next = rows
            distinct_rows = dict.fromkeys(row["row"] for row in rows)
            self._encode.ahead([self._samples[row] for row in distinct_rows])
        return rows

    def shaped(self, batch: Batch, flight: InFlight) -> Batch:
        """Return a sampled batch of whole groups as it is trained on."""
        return batch

    def sampled(self, batch: Batch, rows: Sequence[int]) -> Batch:
        """Return the final batch of one sampling of `rows`."""
        return batch

    def rollout(self, rows: Sequence[int]) -> Batch:
        """Return completions of samples (G consecutive rows each), rewards, shaped advantages."""
        with self._clock.part("reading"):
            chosen, prompts = self._stock([self._samples[row] for row in rows])
        if self._stock.lost:
            self._metrics["train"]["data/lost"].append(len(self._stock.lost))
        with self._clock.part("scoring"), self._in_flight(prompts, chosen) as flight:
            batch = super()._generate_and_score_completions(columns(chosen))
            mode = "train" if self.model.training else "eval"  # as TRL files its metrics
            self._metrics[mode]["frac_reward_zero_std"][-1] = flight.equal
            batch |= {
                "prompts": flight.prompts,
                "varied": flight.varied,
                "advantages": batch["advantages"] * flight.varied,
            }
            return self.shaped(batch, flight)

    def used_up(self) -> bool:
        """True where all sampled completions are used, which a checkpoint does not hold."""
        return self._step % self._steps_per_sampling == 0

    @property
    def _steps_per_sampling(self) -> int:
        """Number of micro-batches between one sampling and the next."""
        return self.args.steps_per_generation * self.num_iterations

    @contextmanager
    def _in_flight(
        self, prompts: list[Prompt], samples: Sequence[Sample] = ()
    ) -> Iterator[InFlight]:
        self._flight = InFlight(prompts, samples)
        self._at_work = prompts  # of which an error tells
        try:
            yield self._flight
        finally:
            self._flight = None

    @property
    def _flying(self) -> InFlight:
        if self._flight is None:
            raise RuntimeError("no rows are in flight: TRL called a hook outside its step")
        return self._flight

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
        rows = [row["row"] for row in inputs]
        return self.sampled(self.rollout(rows), rows)

    def _tokenize_prompts(self, prompts: list) -> tuple[list[list[int]], None, dict]:
        return [prompt["input_ids"][0].tolist() for prompt in self._flying.prompts], None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], *_: Any, **__: Any
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        with self._clock.part("sampling"):
            return self._sample(prompt_ids)

    def _calculate_rewards(
        self, inputs: Any, prompts: list, completions: list, completion_ids_list: list
    ) -> Tensor:
        found = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        earned = found * self.reward_weights.to(found.device)
        if self.multi_objective_aggregation == "sum_then_normalize":
            scored = ~earned.isnan().all(1)
            earned = earned.nansum(1).where(scored, torch.nan)[:, None]
        varied = batches.differ(earned, self.num_generations)
        start, flight = self.accelerator.process_index * len(prompts), self._flying
        own = slice(start, start + len(prompts))
        flight.rewards, flight.varied = found[own], varied[own]
        flight.equal = 1 - varied.float().mean().item()
        return found

    def _sample(
        self, prompt_ids: list[list[int]]
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        """Sample a completion of each prompt in flight; keep what their media look like."""
        args, flight = self.args, self._flying
        if self.use_vllm:
            encoded = [[prompt] for prompt in flight.prompts]
            sampled = super()._generate_single_turn(prompt_ids, encoded, {}, self.num_generations)
            flight.prompts = self._seen(flight)
            return sampled
        flight.prompts = self._seen(flight)
        weighted = args.token_weighting != "none"
        completions, flight.hidden = self._completed(
            flight.prompts, self.generation_config, keep_hidden=weighted
        )
        return completions, None

    def _completed(
        self, prompts: Sequence[Prompt], config: GenerationConfig, *, keep_hidden: bool
    ) -> tuple[list[list[int]], Tensor | None]:
        """Return a completion of each prompt up to its end, and the states that predicted it."""
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
            tokens, hidden = shared_prompt.generate(
                model,
                prompts,
                config,
                share=args.share_prompt,
                keep_hidden=keep_hidden,
                unasked=self._stand_ins(prompts),
            )
        return _up_to_end(tokens, self.eos_token_ids), hidden

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score greedy answers of the held-out samples, and log the scores."""
        if self._held_out is None:
            raise ValueError("there is nothing to evaluate on: give eval_dataset")
        began = time.perf_counter()
        self.model.eval()
        with self._clock.part("evaluation"), torch.no_grad():
            size = self.args.per_device_eval_batch_size
            metrics = evaluation.scores(self._held_out, self._answered, self.accelerator, size)
        self.model.train()
        metrics["eval_runtime"] = round(time.perf_counter() - began, 3)
        Trainer.log(self, dict(metrics))  # TRL's log would repeat the last sampled completions
        self.control: TrainerControl = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        told = self.log_completions
        self.log_completions: bool = told and "train_runtime" not in logs
        try:
            super().log(logs, start_time)
        finally:
            self.log_completions = told

    def _answered(self, rows: Sequence[Sample], prompts: list[Prompt]) -> list[str]:
        """Return greedy completions of held-out samples."""
        if self.use_vllm:
            backend, temperature = self.vllm_generation, self.vllm_generation.temperature
            backend.temperature = 0.0
            try:
                ids = [prompt["input_ids"][0].tolist() for prompt in prompts]
                encoded = [[prompt] for prompt in prompts]
                completions = super()._generate_single_turn(ids, encoded, {}, 1)[0]
            finally:
                backend.temperature = temperature
        else:
            if self._vision_of_held_out is not None:
                keys = [row["key"] for row in rows]
                prompts = self._vision_of_held_out(keys, prompts)
            greedy = copy.deepcopy(self.generation_config)
            greedy.update(do_sample=False, temperature=None, top_p=None, top_k=None, min_p=None)
            completions = self._completed(prompts, greedy, keep_hidden=False)[0]
        return self._tokenizer.batch_decode(completions, skip_special_tokens=True)

    def _seen(self, flight: InFlight) -> list[Prompt]:
        """Return the prompts with features of their media, if these can be computed once."""
        if self._vision is None:
            return flight.prompts
        with self._clock.part("vision"), self.accelerator.autocast():
            return self._vision([row["key"] for row in flight.samples], flight.prompts)

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        try:
            return self._step_of(model, inputs, num_items_in_batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            prompts = self._at_work
            work = AtWork(
                self._clock.failed or "training",
                len(prompts),
                len(distinct(prompts)[0]) if self._shares else len(prompts),
                max((prompt["input_ids"].shape[1] for prompt in prompts), default=0),
                self.max_completion_length,
            )
            raise WorkFailed(advice(work, self.args)) from error

    def _step_of(self, model: Any, inputs: Any, num_items_in_batch: Tensor | int | None) -> Tensor:
        """Take a micro-batch's forward and backward passes, after sampling where it is due."""
        began = time.perf_counter()
        model.train()
        *parts, last = self._parts(self._micro_batch(inputs))
        loss = torch.zeros((), device=self.accelerator.device)
        for part in parts:
            with self._more_to_come(model):
                loss += Trainer.training_step(self, model, part, num_items_in_batch)
        self._current_train_step_time += time.perf_counter() - began
        return loss + super().training_step(model, last, num_items_in_batch)

    def _prepare_inputs(self, part: Batch) -> Batch:
        return part

    def _micro_batch(self, generation_batch: list[dict[str, int]]) -> Batch:
        """Return the next micro-batch of what was sampled; sample if all of it was used."""
        steps = self.args.steps_per_generation
        if self._step % self._steps_per_sampling == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            order = batches.shuffled_groups(len(batch["prompts"]), self.num_generations)
            parts = split_tensor_dict(batches.take(batch, order), steps)
            self._buffered_inputs = self._counted(parts)
        return self._buffered_inputs[self._step % steps]

    def _counted(self, parts: list[Batch]) -> list[Batch]:
        """Add to micro-batches the rows and tokens over which their loss is a mean.

        Those are their own, or with `drop_zero_variance` their share of the varied ones of the
        step, over all processes.
        """
        if not self.args.drop_zero_variance:
            rows = torch.tensor(len(parts[0]["prompts"]))
            return [
                part | {"mean_rows": rows, "mean_tokens": batches.tokens(part)} for part in parts
            ]
        varied = torch.stack([part["varied"].float().mean() for part in parts]).mean()
        tokens = self.accelerator.gather(sum(map(batches.varied_tokens, parts))).sum()
        counted = {
            "mean_rows": self.accelerator.gather(varied).mean() * len(parts[0]["prompts"]),
            "mean_tokens": tokens / (len(parts) * self.accelerator.num_processes),
            "num_items_in_batch": tokens,
        }
        return [part | counted for part in parts]

    def _parts(self, batch: Batch) -> list[Batch]:
        """Return a micro-batch in parts of at most `max_tokens_per_micro_batch` tokens.

        Their losses add up to that of the micro-batch.
        """
        if self.args.drop_zero_variance:
            if self.accelerator.num_processes == 1:
                batch = batches.only_varied(batch)
            batch = batches.masked_to_varied(batch)
        if not self.args.max_tokens_per_micro_batch:
            return [batch]
        chunks = self._chunks(batch["prompts"], batch["completion_mask"])
        rows = torch.arange(len(batch["prompts"]))
        return [batches.take(batch, rows[chunk]) for chunk in chunks]

    def _chunks(
        self, prompts: Sequence[Prompt], mask: Tensor, size: int | None = None
    ) -> list[slice]:
        """Return which rows are scored together; equally many times on every process.

        `size` is the number of rows; `max_tokens_per_micro_batch` takes its place.
        """
        limit, size = self.args.max_tokens_per_micro_batch, size or len(prompts)
        if not limit:
            return [slice(start, start + size) for start in range(0, len(prompts), size)]
        lengths = mask.sum(1).tolist()
        rows = [
            micro_batches.Row(id(prompt), prompt["input_ids"].shape[1], length)
            for prompt, length in zip(prompts, lengths, strict=True)
        ]
        count = micro_batches.needed(rows, limit, share=self._shares)
        most = self.accelerator.gather(torch.tensor(count, device=mask.device)).max()
        return micro_batches.split(rows, int(most), share=self._shares)

    @contextmanager
    def _more_to_come(self, model: Any) -> Iterator[None]:
        """Add up gradients without an exchange between processes or a step of DeepSpeed."""
        state = self.accelerator.gradient_state
        last = state.sync_gradients
        copies = self.accelerator.distributed_type in COPIES
        with self.accelerator.no_sync(model) if copies else nullcontext():
            state._set_sync_gradients(False)
            try:
                yield
            finally:
                state._set_sync_gradients(last)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        with self._in_flight(inputs["prompts"]), self._weighted_kl(inputs):
            return super()._compute_loss(model, inputs) * self._share(inputs)

    def _share(self, inputs: Batch) -> float | Tensor:
        """Return the factor from the mean over a part of a micro-batch to its share in the loss."""
        if self.loss_type in ROW_MEANS:
            return len(inputs["prompts"]) / inputs["mean_rows"].clamp_min(1e-9)
        if self.loss_type == "bnpo":
            return batches.tokens(inputs) / inputs["mean_tokens"].clamp_min(1)
        return 1.0  # TRL divides by num_items_in_batch

    @contextmanager
    def _weighted_kl(self, inputs: Batch) -> Iterator[None]:
        """Weight the KL term by token where the measure is the published one, as its code does."""
        beta = self.args.beta
        if self.args.token_weighting == "official" and beta:
            self.beta: float = BetaOfTokens(beta, inputs["token_weights"])
        try:
            yield
        finally:
            self.beta = beta

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
        if compute_aux_loss:
            raise ValueError("the load-balancing loss of mixtures of experts is not supported")
        flight, learning = self._flying, torch.is_grad_enabled()
        # vLLM returns no hidden states. Where its samples are scored at once, scoring keeps them.
        scored_at_once = self.use_vllm and self.vllm_importance_sampling_correction
        weighted = self.args.token_weighting != "none"
        keep = scored_at_once and weighted and flight.hidden is None and not learning
        body = shared_prompt.backbone(self.accelerator.unwrap_model(model))
        completions, mask = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:]
        log_probs, entropies, states = [], [], []
        whole = [slice(None)]  # a part of a micro-batch
        for chunk in whole if learning else self._chunks(flight.prompts, mask, batch_size):
            prompts = flight.prompts[chunk]
            scoring = self._scoring(prompts, completions[chunk], mask[chunk])
            with self.accelerator.autocast(), shared_prompt.caught_states(body, keep) as caught:
                output = model(**scoring.inputs)
            if keep:
                states.append(scoring.of_tokens(caught[-1]))
            log_probs.append(scoring.of_tokens(output.log_probs))
            if compute_entropy:
                entropies.append(scoring.of_tokens(output.entropy))
        if keep:
            flight.hidden = torch.cat(states)
        return torch.cat(log_probs), torch.cat(entropies) if compute_entropy else None, None

    def _hidden_of_forward(self, batch: Batch, prompts: Sequence[Prompt]) -> Tensor:
        """Return the hidden states (B, T, H) of completions, one micro-batch at a time."""
        body = shared_prompt.backbone(self.accelerator.unwrap_model(self.model))
        tokens, mask = batch["completion_ids"], batch["completion_mask"]
        chunks = self._chunks(prompts, mask, self.args.per_device_train_batch_size)
        laid_out = (self._scoring(prompts[c], tokens[c], mask[c]) for c in chunks)
        states = [group_rows.hidden_states(body, wanted) for wanted in laid_out]
        return torch.cat(states)

    def _scoring(self, prompts: Sequence[Prompt], completions: Tensor, mask: Tensor) -> Scoring:
        """Lay out completions (B, T) to score them, groups as one row if the policy takes these."""
        return group_rows.scoring(
            prompts,
            completions,
            mask,
            self._tokenizer.pad_token_id,
            share=self._shares,
            unasked=self._stand_ins(prompts),
        )


def _numbers(samples: Sequence[Sample]) -> Dataset:
    # Samples stay outside Arrow, which gives every part of a message all keys of the other parts:
    # a text part with a null `video` would count as a video.
    return Dataset.from_dict({"row": range(len(samples))})


def _up_to_end(tokens: Tensor, end_ids: Sequence[int]) -> list[list[int]]:
    """Return each row of tokens (B, T) up to and including its first end token."""
    ends = torch.isin(tokens, torch.tensor(end_ids, device=tokens.device))
    before = ends.cumsum(1) - ends.int()  # number of end tokens before each position
    lengths = (before == 0).sum(1).tolist()
    return [row[:length] for row, length in zip(tokens.tolist(), lengths, strict=True)]
