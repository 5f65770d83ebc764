"""Configuration of token-weighted GRPO, on top of TRL's.

Defaults are TW-GRPO's where they are published: 8 completions a prompt, alpha 1.7, beta 0,
temperature 1, the `bnpo` loss, a frozen vision tower, gradient norm 20, learning rate 1e-6.
`EMBEDDED_GRPO` and `EMBEDDED_WARMUP` replace some for the embedded policy, which is thousands of
times smaller.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments
from trl import GRPOConfig
from trl.import_utils import is_vllm_available

from nontrivial.train.options import TOKEN_WEIGHTINGS, DataOptions, WeightingOptions

# Learned steadily on two CPU cores with 16 prompts a step; twice this rate didn't.
EMBEDDED_GRPO = {
    "learning_rate": 1e-4,
    "lr_scheduler_type": "constant_with_warmup",
    "warmup_steps": 5,
    "adam_beta2": 0.99,
    "max_grad_norm": 1.0,
    "per_device_train_batch_size": 128,
    "gradient_checkpointing": False,
    "max_completion_length": 64,
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


@dataclass
class TokenWeightedGRPOConfig(WeightingOptions, DataOptions, GRPOConfig):
    """Options of `TokenWeightedGRPOTrainer`; everything TRL offers stays available.

    Raises `ValueError` for values that contradict each other, naming them and the remedy.
    """

    freeze_vision: bool = field(
        default=True, metadata={"help": "Keep the vision tower as it is; adapters still train."}
    )
    loss_type: str = field(
        default="bnpo", metadata={"help": "TRL's losses: bnpo (published), dapo, dr_grpo, grpo, …"}
    )
    max_grad_norm: float = field(default=20.0, metadata={"help": "Largest norm of the gradient."})
    output_dir: str | None = field(
        default="runs/grpo",
        metadata={"help": "Where checkpoints, logs and the policy are written."},
    )
    report_to: str | None = field(
        default="tensorboard", metadata={"help": "Where metrics are logged."}
    )
    log_completions: bool = field(
        default=True, metadata={"help": "Write sampled completions to OUTPUT_DIR/completions."}
    )
    disable_dropout: bool = field(
        default=True, metadata={"help": "Dropout would make sampling and scoring disagree."}
    )
    num_completions_to_print: int | None = field(
        default=0, metadata={"help": "Completions shown in the terminal at each log."}
    )

    def __post_init__(self) -> None:
        if not torch.accelerator.is_available():
            self.use_cpu, self.bf16 = True, bool(self.bf16)
        super().__post_init__()
        if self.token_weighting not in TOKEN_WEIGHTINGS:
            raise ValueError(
                f"token_weighting is {self.token_weighting!r}; one of {', '.join(TOKEN_WEIGHTINGS)}"
            )
        if self.use_vllm and not is_vllm_available():
            raise ValueError('use_vllm needs vLLM: pip install "nontrivial[vllm]"')
        if self.use_transformers_continuous_batching:
            raise ValueError(
                "use_transformers_continuous_batching takes text only; use_vllm samples as fast"
            )
        if self.max_redraws and not self._scales_within_groups():
            raise ValueError(
                f"max_redraws is {self.max_redraws}, but advantages that are scaled over a batch "
                "(scale_rewards batch, multi_objective_aggregation normalize_then_sum) would "
                "change with what is redrawn; leave one of both off"
            )
        if self.eval_strategy != "no":
            raise ValueError("leave eval_strategy off, and evaluate with `nontrivial qa`")
        rows = self.per_device_train_batch_size * self.steps_per_generation
        if rows % self.num_generations:
            raise ValueError(
                f"{rows} rows on each device (per_device_train_batch_size × steps_per_generation) "
                f"hold no whole groups; take a multiple of num_generations, {self.num_generations}"
            )

    def _scales_within_groups(self) -> bool:
        within = self.multi_objective_aggregation == "sum_then_normalize"
        return within and self.scale_rewards != "batch"


@dataclass
class WarmupConfig(DataOptions, TrainingArguments):
    """Options of the supervised warm-up: those of transformers, with defaults for policies."""

    output_dir: str | None = field(
        default="runs/warmup",
        metadata={"help": "Where checkpoints, logs and the policy are written."},
    )
    learning_rate: float = field(default=1e-5, metadata={"help": "Step size of AdamW."})
    logging_steps: float = field(default=10, metadata={"help": "Steps between logs."})
    report_to: str | None = field(
        default="tensorboard", metadata={"help": "Where metrics are logged."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must stay off: samples are read by the collator."}
    )

    def __post_init__(self) -> None:
        if not torch.accelerator.is_available():
            self.use_cpu = True
        super().__post_init__()
