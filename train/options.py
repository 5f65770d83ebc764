"""The training commands' own options, defined without importing TRL.

TRL's parser reads them together with everything TRL and transformers offer. `--help` reads them
too, and answers before those libraries are imported.
"""
# ruff: noqa: RUF009  (`option` returns a dataclass field, as `dataclasses.field` does)

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from nontrivial.manifests.left_out import HELP
from nontrivial.models.inputs import View

BEST = "eval_exact_accuracy"  # the held-out score by which policies are compared
CREDITS = ("whole", "option")
TOKEN_WEIGHTINGS = ("divergence", "geometric", "official", "entropy", "none")

# Help texts of options that are defined here for `--help` and in train.config for TRL's parser.
OUTPUT_DIR = "Folder for checkpoints, logs and the policy."
FREEZE_VISION = "Keep the vision tower as it is; adapters still train (false where embedded)."


def option(default: Any, help: str, **metadata: Any) -> Any:
    """Return a dataclass field that TRL's parser reads; a list is copied for each instance."""
    metadata["help"] = help
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class DataOptions(View):
    """Where media are, how they are shown to the policy, and how many may be damaged."""

    shown_last: ClassVar[bool] = False

    media_root: str | None = option(None, "Folder of the media; wins over that of the manifests.")
    max_bad: float = option(0.01, "Tolerated share of samples with damaged media.")
    preflight: str = option(
        "all",
        "Files that are decoded before the start: all, a sample of 200, or none (off); whole ones "
        "are remembered.",
        choices=["all", "sample", "off"],
    )
    media_cache_mb: int = option(512, "Memory for encoded prompts, kept for reuse.")


@dataclass
class RunOptions:
    """Options of the start of a run."""

    exclude: str | None = option(None, f"{HELP[0].upper()}{HELP[1:]}.")
    restart: bool = option(False, "Remove the checkpoints in output_dir, instead of resuming.")
    dry_run: bool = option(
        False, "Read everything, print the settings and an estimate of memory, and train nothing."
    )
    devices: int = option(0, "With dry_run: GPUs to estimate for; 0 takes what there is.")
    sharded: bool = option(False, "With dry_run: these share out the weights (ZeRO-3, FSDP).")


@dataclass
class RewardOptions:
    """Rewards of completions."""

    reward_funcs: list[str] = option(
        ["soft_accuracy", "format"],
        "Rewards: soft_accuracy, exact_accuracy, per_option, balanced_options, format, length, or "
        "an import path of your own.",
    )
    length_free: int = option(
        256, "Tokens without cost in the reward length, which is 0 at max_completion_length."
    )


@dataclass
class EvaluationOptions:
    """Held-out samples that are scored as a run goes."""

    eval_manifests: list[str] = option(
        [], "Manifests whose rows of other splits than train are answered every eval_steps."
    )
    eval_steps: float | None = option(None, "Steps between evaluations; save_steps if not given.")
    eval_limit: int = option(0, "Most samples to evaluate on, picked by their id; 0 takes all.")
    keep_best: bool = option(
        False,
        "End with the policy of the checkpoint with the best eval_exact_accuracy, or another "
        "--metric_for_best_model.",
    )


@dataclass
class WeightingOptions:
    """Token weights and prompt sharing; part of `train.config.TokenWeightedGRPOConfig`."""

    token_weighting: str = option(
        "divergence",
        "Measure of a group's predictions that weights a token, or none; official is what "
        "TW-GRPO's code computes, and weights the KL term (beta) too.",
        choices=list(TOKEN_WEIGHTINGS),
    )
    alpha: float = option(1.7, "Largest weight of a token; the smallest is 1.")
    alpha_warmup_steps: int = option(0, "Steps in which the largest weight rises from 1 to alpha.")
    normalize_weights: bool = option(False, "Divide weights by their mean over a group's tokens.")
    credit: str = option(
        "whole",
        "Credit each token with the whole reward, or words about an option with what its verdict "
        "changed (option); for questions with several right options.",
        choices=list(CREDITS),
    )
    virtual_right: float = option(
        0.0,
        "Share of the advantage that a virtual, lower reward gives to groups that are all right; "
        "SOVA: 0.0625.",
    )
    virtual_wrong: float = option(
        0.0,
        "Share of what a virtual, higher reward takes from groups without a right option; SOVA: "
        "0.03125.",
    )
    share_prompt: bool = option(True, "Encode each prompt once per group, to sample and to score.")
    max_tokens_per_micro_batch: int = option(
        0,
        "Split micro-batches into parts of at most so many tokens, prompts counted once, for the "
        "same gradient in less memory; 0 takes them whole. A longer row is a part by itself.",
    )
    vision_cache_mb: int = option(
        512, "Memory for features of images and clips, kept for reuse; for a frozen tower."
    )
    drop_zero_variance: bool = option(
        False,
        "Leave groups whose rewards are all equal out of the loss and its mean; the mean is then "
        "that of the whole step, however it is split.",
    )
    max_redraws: int = option(0, "Times that other samples replace groups with equal rewards.")
    sample_every: int = option(10, "Steps between groups in OUTPUT_DIR/samples.jsonl; 0 for none.")


@dataclass
class TrainingOptions:
    """The options of TRL and transformers that are set most often, for `--help`."""

    model_name_or_path: str = option("embedded", "Policy: Hub name, folder, or 'embedded'.")
    output_dir: str = option("runs/grpo", OUTPUT_DIR)
    max_steps: int = option(-1, "Optimiser steps; −1 follows num_train_epochs.")
    num_train_epochs: float = option(3.0, "Passes over the samples.")
    learning_rate: float | None = option(None, "Step size of AdamW; GRPO on large policies: 1e-6.")
    per_device_train_batch_size: int | None = option(None, "Rows per micro-batch and device.")
    gradient_accumulation_steps: int = option(1, "Micro-batches per optimiser step.")
    freeze_vision: bool = option(True, FREEZE_VISION)
    dtype: str | None = option(
        None, "Type of the weights: float32, or bfloat16 under an adapter, if it is not given."
    )
    use_peft: bool = option(False, "Train a LoRA adapter.")
    lora_r: int = option(16, "Rank of the adapter.")
    save_steps: float = option(500, "Steps between checkpoints.")
    save_total_limit: int = option(3, "Checkpoints to keep; the oldest are removed.")
    seed: int = option(42, "Seed of everything random.")
