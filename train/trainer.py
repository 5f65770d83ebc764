"""Token-weighted GRPO: larger advantages where a group's predictions disagree.

    trainer = TokenWeightedGRPOTrainer(model, reward_funcs, args, train_dataset)
    trainer.train()

The method is here; the overrides of TRL's trainer that it needs are in `train.trl_hooks`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import maybe_gather_lm_head_ctx

from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.runs import GROUPS, JsonLines, SampledCompletion, SampledGroup
from nontrivial.models.policy import (
    adapter_in,
    freeze_vision,
    load_policy,
    load_processor,
    locate,
)
from nontrivial.train import batches, credit, virtual_rewards
from nontrivial.train.batches import Batch
from nontrivial.train.config import TokenWeightedGRPOConfig
from nontrivial.train.data import PromptEncoder, Stock
from nontrivial.train.group_rows import NAME, PLAIN
from nontrivial.train.head import check_plain_logits, head_without
from nontrivial.train.importance import token_weights, warmed_alpha
from nontrivial.train.journal import spans
from nontrivial.train.precision import require_float32
from nontrivial.train.rows import Rows
from nontrivial.train.shared_prompt import backbone
from nontrivial.train.trl_hooks import GroupTrainer, InFlight

logger = logging.getLogger(__name__)


class TokenWeightedGRPOTrainer(GroupTrainer):
    """GRPO with advantages weighted, token by token, by the disagreement of the prompt's group.

    A_it = A_i · w_t with w_t in [1, alpha] (train.importance), fixed when a group is sampled and
    whole, so the assignment of rows to micro-batches does not matter. The loss is TRL's own.
    Prompts hold text, or text with any number of images and videos.

    model             a policy, or its Hub name or folder
    reward_funcs      as TRL calls them: `reward(completions=…, **columns) -> list[float]`
    train_dataset     a `datasets.Dataset` or list of dicts: rows of a manifest
                      (`nontrivial.read_samples`), or `prompt` (chat messages) with `images`,
                      `videos` and the columns that the rewards read
    eval_dataset      rows that greedy answers are scored on every `eval_steps`, or None
    processing_class  the policy's processor; None loads it

    Further arguments are those of `trl.GRPOTrainer`. Raises `BadInput` for rows of another form,
    for more than the share `max_bad` of prompts that are too long or whose media can't be read, and
    for half-precision weights without float32 copies.
    """

    _tag_names = ["trl", "grpo", "nontrivial"]  # noqa: RUF012  (TRL's own class attribute)

    def __init__(
        self,
        model: Any,
        reward_funcs: Any,
        args: TokenWeightedGRPOConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        **kwargs: Any,
    ) -> None:
        args = args or TokenWeightedGRPOConfig()
        if train_dataset is None:
            raise ValueError("train_dataset is missing: give rows of a manifest, or your own")
        if isinstance(model, str):
            model, _ = load_policy(locate(model), **(args.model_init_kwargs or {}))
        if args.freeze_vision:
            freeze_vision(model)
        name = model.config._name_or_path
        adapted = kwargs.get("peft_config") is not None or hasattr(model, "peft_config")
        if args.beta and adapter_in(name) and not adapted:  # TRL can't load it as a reference
            raise BadInput(
                f"beta: {name} is an adapter, and can't be the reference of a policy that is "
                "trained as a whole; train an adapter (--use_peft), or save the merged policy that "
                "`load_policy` returns and start from it"
            )
        config = model.config.get_text_config()
        if args.token_weighting != "none":
            check_plain_logits(config)
        if args.share_prompt and config._attn_implementation not in (PLAIN, NAME):
            logger.warning(
                "with attention %s, prompts are shared in sampling only; use "
                "--attn_implementation sdpa",
                config._attn_implementation,
            )
        processor = processing_class or load_processor(name)
        longest = config.max_position_embeddings - args.max_completion_length
        prompts = args.generation_batch_size // args.num_generations
        encode = partial(PromptEncoder, processor, backbone(model), args, longest=longest)
        held_out = None
        if eval_dataset is not None:
            held_out = Stock(encode(), Rows(eval_dataset, args.media_root, style=args.prompt))
        elif args.eval_strategy != "no":
            raise ValueError(f"eval_strategy is {args.eval_strategy}; give eval_dataset, too")
        super().__init__(
            model,
            reward_funcs,
            args,
            # With fewer samples than prompts in a generation batch, there would be no step.
            samples=Rows(train_dataset, args.media_root, least=prompts, style=args.prompt),
            encode=encode(),
            held_out=held_out,
            **kwargs,
        )
        require_float32(self)
        if args.credit == "option" and not credit.SCORES.keys() & set(self.reward_func_names):
            raise BadInput(
                f"credit is option; give one of the rewards {', '.join(credit.SCORES)}, which "
                "options earn"
            )
        self._virtual = virtual_rewards.Shares(args.virtual_right, args.virtual_wrong)
        if any(self._virtual) and (remedy := virtual_rewards.unfit(self.reward_func_names)):
            raise BadInput(
                "virtual_right and virtual_wrong need to know which groups are all right or all "
                f"wrong: {remedy}"
            )
        self._sampled_at: int | None = None  # step of the last group in samples.jsonl
        self._pieces: dict[int, str] = {}  # texts of the tokens seen so far

    def shaped(self, batch: Batch, flight: InFlight) -> Batch:
        """Correct, credit and weight advantages, each unless it is off."""
        advantages, group = batch["advantages"], self.num_generations
        if any(self._virtual):
            advantages = self.virtual_advantages(batch, flight)
        if self.args.credit == "option":
            advantages = self.option_credit(batch | {"advantages": advantages}, flight)
        if advantages is not batch["advantages"]:
            largest = advantages.abs().view(len(advantages), -1).amax(1)
            batch |= {"advantages": advantages, "varied": batches.varied(largest, group)}
        if self.args.token_weighting == "none":
            return batch
        weights, advantages = self.token_weights(batch, flight), batch["advantages"]
        if advantages.ndim == 1:
            advantages = advantages[:, None]
        return batch | {"advantages": advantages * weights, "token_weights": weights}

    def virtual_advantages(self, batch: Batch, flight: InFlight) -> Tensor:
        """Return advantages (B,), with a virtual reward in groups all right or all wrong."""
        if flight.rewards is None:
            raise RuntimeError("completions have no rewards yet")
        group, weights = self.num_generations, self._weights_of_rewards()
        earned = {name: flight.rewards[:, k].view(-1, group) for k, name in enumerate(weights)}
        outcome = virtual_rewards.Outcome.read(earned, weights)
        whole = batch["advantages"].view(-1, group)
        scaled = self.args.scale_rewards != "none"
        return virtual_rewards.corrected(whole, outcome, self._virtual, scaled=scaled).flatten()

    def option_credit(self, batch: Batch, flight: InFlight) -> Tensor:
        """Return advantages (B, T) in which an option's words are credited with its verdict.

        Rewards that are no function of verdicts, such as `format`, stay those of the whole.
        """
        ids, group = batch["completion_ids"], self.num_generations
        texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        options, answers = ([row[name] for row in flight.samples] for name in ("options", "answer"))
        verdicts = credit.Verdicts.read(texts, options, answers, group).to(ids.device)
        told = [
            credit.options_told(self._texts(row), len(each))
            for row, each in zip(ids.tolist(), options, strict=True)
        ]
        about = torch.tensor(told, device=ids.device).view(-1, group, ids.shape[1])
        whole = batch["advantages"].view(-1, group)
        own = whole[..., None].expand_as(verdicts.chosen).clone()
        weights = self._weights_of_rewards()
        for name, score in credit.SCORES.items():
            if name in weights:
                parts = credit.of_each_option(score, verdicts)
                earned = verdicts.earned(score)
                own += weights[name] * (parts - (earned - earned.mean(1, keepdim=True))[..., None])
        return credit.by_option(own, whole, about, verdicts).flatten(0, 1)

    def _weights_of_rewards(self) -> dict[str, float]:
        """Return the weight of each reward, by its name, in their order."""
        return dict(zip(self.reward_func_names, self.reward_weights.tolist(), strict=True))

    def sampled(self, batch: Batch, rows: Sequence[int]) -> Batch:
        """Write a group to samples.jsonl, and redraw groups without variance."""
        self._save_group(rows, batch)
        return self._with_redrawn_groups(batch) if self.args.max_redraws else batch

    def token_weights(self, batch: Batch, flight: InFlight) -> Tensor:
        """Return token weights (B, T) of whole groups; all rows of a group have the same."""
        group, mask = self.num_generations, batch["completion_mask"]
        hidden = flight.hidden  # kept in sampling or scoring, or computed now
        if hidden is None:
            hidden = self._hidden_of_forward(batch, flight.prompts)
        # The published code does not exclude tokens that can't be sampled.
        forbidden = () if self.args.token_weighting == "official" else self._vision_tokens
        head = head_without(self.accelerator.unwrap_model(self.model), forbidden)
        length = min(mask.shape[1], hidden.shape[1])  # the mask may be padded further
        live = mask[:, :length].reshape(-1, group, length)
        step, args = self.state.global_step, self.args
        with maybe_gather_lm_head_ctx(head.weight, head.bias):
            weights, scores = token_weights(
                hidden[:, :length].reshape(-1, group, length, hidden.shape[2]),
                live,
                head.weight,
                head.bias,
                measure=args.token_weighting,
                alpha=warmed_alpha(args.alpha, step, args.alpha_warmup_steps),
                temperature=self.temperature,
                normalize=args.normalize_weights,
            )
        rows = torch.ones(mask.shape, device=mask.device)
        rows[:, :length] = weights.repeat_interleave(group, dim=0)
        self._log_weights(weights, scores, live.sum(1) > 0)
        self._log_shares(rows, batch["completion_ids"], mask)
        return rows

    def _with_redrawn_groups(self, batch: Batch) -> Batch:
        """Replace groups without variance by groups of other samples, drawn at random.

        Metrics keep describing the first draw; those of redrawn groups would be selected.
        """
        metrics = {name: list(values) for name, values in self._metrics["train"].items()}
        group, pad_token_id = self.num_generations, self._tokenizer.pad_token_id
        for _ in range(self.args.max_redraws):
            # All processes draw as many as the one that needs most: rewards are gathered.
            missing = int(self.accelerator.gather((~batch["varied"]).sum()).max()) // group
            if missing == 0:
                break
            drawn = torch.randint(len(self._samples), (missing,)).tolist()
            fresh = self.rollout([row for row in drawn for _ in range(group)])
            batch = batches.with_groups_replaced(batch, fresh, group, pad_token_id)
        self._metrics["train"].clear()
        self._metrics["train"].update(metrics)
        left = self.accelerator.gather((~batch["varied"]).float().mean()).mean().item()
        self._metrics["train"]["redraw/frac_reward_zero_std"].append(left)
        tokens = batch["completion_mask"].sum()
        return batch | {"num_items_in_batch": self.accelerator.gather(tokens).sum()}

    def _log_weights(self, weights: Tensor, scores: Tensor, seen: Tensor) -> None:
        """Log mean and spread over the positions (N, T) that some member reached."""
        weights, scores = weights[seen], scores[seen]
        self._log_mean("token_weight/mean", weights.mean())
        self._log_mean("token_weight/std", weights.std())
        self._log_mean("token_weight/score", scores.mean())

    def _log_shares(self, weights: Tensor, completions: Tensor, mask: Tensor) -> None:
        """Log the share of all weight on the tokens of think and of answer blocks."""
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
        """Return the text of each token by itself."""
        new = sorted(set(ids) - self._pieces.keys())
        if new:
            texts = self._tokenizer.batch_decode([[token] for token in new])
            self._pieces.update(zip(new, texts, strict=True))
        return [self._pieces[token] for token in ids]

    def _save_group(self, rows: Sequence[int], batch: Batch) -> None:
        """Write the first group, token by token, every `sample_every` steps."""
        every, step = self.args.sample_every, self.state.global_step + 1
        if not every or not self.accelerator.is_main_process:
            return
        file = JsonLines(Path(self.args.output_dir, GROUPS))
        if self._sampled_at is None:  # of a resumed run, in the same rhythm as before
            self._sampled_at = max((record["step"] for record in file), default=step - every)
        if step < self._sampled_at + every:
            return
        self._sampled_at = step
        group = SampledGroup(
            step=step,
            token_weighting=self.args.token_weighting,
            completions=[self._completion(row, batch) for row in range(self.num_generations)],
            **_record(self._stock.present(self._samples[rows[0]])),
        )
        file.append(group)

    def _completion(self, row: int, batch: Batch) -> SampledCompletion:
        live = batch["completion_mask"][row].bool()
        weights = batch.get("token_weights", batch["completion_mask"].float())
        return SampledCompletion(
            tokens=self._texts(batch["completion_ids"][row][live].tolist()),
            weights=[round(weight, 4) for weight in weights[row][live].tolist()],
            rewards={name: values[row] for name, values in self._logs["rewards"].items()},
            advantage=round(self._logs["advantages"][row], 4),
        )


def _record(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `SampledGroup` that describe a sample, of either kind of row."""
    texts = [part["text"] for part in sample["prompt"][-1]["content"] if part["type"] == "text"]
    return {
        "id": sample["id"],
        "task": sample.get("task") or "",
        "question": sample.get("question") or "\n".join(texts),
        "options": list(sample.get("options") or []),
        "answer": [str(letter) for letter in sample.get("answer") or []],
    }
