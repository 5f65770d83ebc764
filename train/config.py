"""Configurations of token-weighted GRPO and of the supervised warm-up.

Defaults are TW-GRPO's where they are published: 8 completions per prompt, alpha 1.7, beta 0,
temperature 1, the `bnpo` loss, a frozen vision tower, gradient norm 20, learning rate 1e-6.
`EMBEDDED_GRPO` and `EMBEDDED_WARMUP` replace some of them for the embedded policy, which is
thousands of times smaller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainingArguments
from trl import GRPOConfig
from trl.import_utils import is_vllm_available

from nontrivial.train import options
from nontrivial.train.options import BEST, CREDITS, TOKEN_WEIGHTINGS, option

# On two CPU cores many steps of four groups teach more than few of sixteen; at twice the rate,
# learning is not steady.
EMBEDDED_GRPO = {
    "learning_rate": 1e-4,
    "lr_scheduler_type": "constant_with_warmup",
    "warmup_steps": 5,
    "adam_beta2": 0.99,
    "max_grad_norm": 1.0,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "gradient_checkpointing": False,
    "max_completion_length": 112,
    "scale_rewards": "none",
    "drop_zero_variance": True,
    "freeze_vision": False,
    "logging_steps": 1,
}
EMBEDDED_WARMUP = {
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 10,
    "per_device_train_batch_size": 32,
    "num_train_epochs": 1.0,
    "freeze_vision": False,
}

# Losses that are means over rows, and over all tokens of a step. `bnpo` is one over the tokens of
# a micro-batch; with `drop_zero_variance` over those of a step.
ROW_MEANS = ("grpo", "dr_grpo", "luspo", "sapo")
TOKEN_MEANS = ("cispo", "dapo", "vespo")


@dataclass
class TrainingDefaults(options.DataOptions):
    """Options and defaults that both trainings share; put before a class of TRL's arguments."""

    freeze_vision: bool = option(True, options.FREEZE_VISION)
    report_to: str | None = option("tensorboard", "Where metrics are logged.")
    save_total_limit: int | None = option(3, "Checkpoints to keep; the oldest are removed.")

    def __post_init__(self) -> None:
        if not torch.accelerator.is_available():
            self.use_cpu = True
            # TRL turns it on where it is None; mypy does not know the fields of its arguments.
            self.bf16 = bool(self.bf16)  # type: ignore[has-type]
        super().__post_init__()  # type: ignore[misc]  # of TRL's arguments, the next base


@dataclass
class TokenWeightedGRPOConfig(
    options.WeightingOptions, options.EvaluationOptions, TrainingDefaults, GRPOConfig
):
    """Options of `TokenWeightedGRPOTrainer`; everything TRL offers stays available.

    Raises `ValueError` for values that contradict each other, naming them and the remedy.
    """

    loss_type: str = option("bnpo", "TRL's losses: bnpo (published), dapo, dr_grpo, grpo, …")
    max_grad_norm: float = option(20.0, "Largest norm of the gradient.")
    output_dir: str | None = option("runs/grpo", options.OUTPUT_DIR)
    log_completions: bool = option(True, "Write sampled completions to OUTPUT_DIR/completions.")
    disable_dropout: bool = option(True, "Dropout would make sampling and scoring disagree.")
    num_completions_to_print: int | None = option(0, "Completions printed at each log.")

    def __post_init__(self) -> None:
        self._evaluate()
        if self.generation_batch_size is None:  # TRL would speak of an option that nobody gave
            self._check_groups(self.steps_per_generation or self.gradient_accumulation_steps)
        super().__post_init__()
        if self.token_weighting not in TOKEN_WEIGHTINGS:
            raise ValueError(
                f"token_weighting is {self.token_weighting!r}; one of {', '.join(TOKEN_WEIGHTINGS)}"
            )
        if self.credit not in CREDITS:
            raise ValueError(f"credit is {self.credit!r}; one of {', '.join(CREDITS)}")
        if self.use_vllm and not is_vllm_available():
            raise ValueError('use_vllm needs vLLM: pip install "nontrivial[vllm]"')
        if self.use_transformers_continuous_batching:
            raise ValueError(
                "use_transformers_continuous_batching takes text only; use_vllm is as fast"
            )
        summed = self.multi_objective_aggregation == "sum_then_normalize"
        if self.credit == "option" and not (summed and self.scale_rewards == "none"):
            raise ValueError(
                "credit option takes rewards as they are: give scale_rewards none, and leave "
                "multi_objective_aggregation as it is"
            )
        within_groups = summed and self.scale_rewards != "batch"
        for name in ("virtual_right", "virtual_wrong"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}; give 0 to 1")
            if share and not within_groups:
                raise ValueError(
                    f"{name} counts one more reward in a group: give scale_rewards group or none, "
                    "and leave multi_objective_aggregation as it is"
                )
        if self.max_redraws and not within_groups:
            raise ValueError(
                f"max_redraws is {self.max_redraws}, but advantages scaled over a batch "
                "(scale_rewards batch, multi_objective_aggregation normalize_then_sum) would "
                "change with what is redrawn; turn one of the two off"
            )
        entropy = self.entropy_coef or self.use_adaptive_entropy
        if entropy and self.drop_zero_variance and self.loss_type not in TOKEN_MEANS:
            raise ValueError(
                "drop_zero_variance rescales the loss, and would rescale the entropy bonus; use "
                f"loss_type {', '.join(TOKEN_MEANS)}, or leave entropy_coef out"
            )
        if self.max_tokens_per_micro_batch < 0:
            raise ValueError(
                f"max_tokens_per_micro_batch is {self.max_tokens_per_micro_batch}; give 0 or more"
            )
        if self.max_tokens_per_micro_batch and (entropy or self.top_entropy_quantile < 1):
            raise ValueError(
                "entropy_coef, use_adaptive_entropy and top_entropy_quantile look at a whole "
                "micro-batch; leave them or max_tokens_per_micro_batch out"
            )
        self._check_groups(self.steps_per_generation)

    def _check_groups(self, steps_per_generation: int) -> None:
        rows = self.per_device_train_batch_size * steps_per_generation
        if rows % self.num_generations:
            raise ValueError(
                f"{rows} rows on each device (per_device_train_batch_size × steps_per_generation) "
                f"are no whole groups; take a multiple of num_generations, {self.num_generations}"
            )

    def _evaluate(self) -> None:
        """Set TRL's options of evaluation from `eval_manifests` and `keep_best`."""
        self.num_generations_eval: int | None = 1  # greedy: TRL's batches of groups are not used
        if self.eval_manifests:
            self.eval_strategy: Any = "steps"
            self.eval_steps = self.eval_steps or self.save_steps
        if not self.keep_best:
            return
        if self.eval_strategy == "no":
            raise ValueError("keep_best compares held-out scores: give --eval_manifests")
        if self.save_total_limit == 1:
            self.save_total_limit = 2  # the best, and the last, which tells that a run is finished
        self.load_best_model_at_end = self.greater_is_better = True
        self.metric_for_best_model: str = self.metric_for_best_model or BEST
        if self.num_iterations > 1:
            raise ValueError(
                "keep_best needs checkpoints where it evaluates; with num_iterations they wait "
                "until what was sampled is used up: leave one of the two out"
            )


@dataclass
class WarmupConfig(TrainingDefaults, TrainingArguments):
    """Options of the supervised warm-up: those of transformers, with defaults for policies."""

    output_dir: str | None = option("runs/warmup", options.OUTPUT_DIR)
    learning_rate: float = option(1e-5, "Step size of AdamW.")
    logging_steps: float = option(10, "Steps between logs.")
    remove_unused_columns: bool = option(False, "Must stay off: the collator reads whole samples.")
