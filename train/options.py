"""The training commands' own options, defined without importing TRL.

TRL's parser reads them together with everything TRL and transformers offer. `--help` reads them
too, and answers before those libraries are imported.
"""
# ruff: noqa: RUF009  (`option` returns a dataclass field, as `dataclasses.field` does)

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from nontrivial.models.inputs import View

TOKEN_WEIGHTINGS = ("divergence", "geometric", "official", "entropy", "none")

# Help texts of options that are defined here for `--help` and in train.config for TRL's parser.
OUTPUT_DIR = "Folder for checkpoints, logs and the policy."
FREEZE_VISION = "Keep the vision tower as it is; adapters still train (false where embedded)."


def option(help: str, *, default: Any = None, **metadata: Any) -> Any:
    """Return a dataclass field that TRL's parser reads; a list is copied for each instance."""
    metadata["help"] = help
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class DataOptions(View):
    """Where media are, how they are shown to the policy, and how many may be damaged."""

    shown_last: ClassVar[bool] = False

    media_root: str | None = option("Folder of the media; wins over the one in the manifests.")
    max_bad: float = option("Tolerated share of samples with damaged media.", default=0.01)
    media_cache_mb: int = option("Memory for encoded prompts, kept for reuse.", default=512)


@dataclass
class RunOptions:
    """Options of the start of a run."""

    restart: bool = option(
        "Remove the checkpoints in output_dir and start again, instead of resuming.", default=False
    )


@dataclass
class RewardOptions:
    """Rewards of completions."""

    reward_funcs: list[str] = option(
        "Rewards: soft_accuracy, exact_accuracy, format, length, or an import path of your own.",
        default=["soft_accuracy", "format"],
    )
    length_free: int = option(
        "Tokens without cost in the reward length, which is 0 at max_completion_length.",
        default=256,
    )


@dataclass
class WeightingOptions:
    """Token weights and prompt sharing; part of `train.config.TokenWeightedGRPOConfig`."""

    token_weighting: str = option(
        "Measure of a group's predictions that weights a token, or none; official is what "
        "TW-GRPO's code computes.",
        default="divergence",
        choices=list(TOKEN_WEIGHTINGS),
    )
    alpha: float = option("Largest weight of a token; the smallest is 1.", default=1.7)
    alpha_warmup_steps: int = option(
        "Steps over which the largest weight rises from 1 to alpha.", default=0
    )
    normalize_weights: bool = option(
        "Divide weights by their mean over the tokens of their group.", default=False
    )
    share_prompt: bool = option(
        "Encode each prompt once for its group, in sampling and in scoring.", default=True
    )
    drop_zero_variance: bool = option(
        "Leave groups whose rewards are all equal out of the loss and its mean.", default=False
    )
    max_redraws: int = option(
        "Times that other samples replace groups whose rewards are all equal.", default=0
    )
    sample_every: int = option(
        "Steps between groups written to OUTPUT_DIR/samples.jsonl; 0 for none.", default=10
    )


@dataclass
class TrainingOptions:
    """The options of TRL and transformers that are set most often, for `--help`."""

    model_name_or_path: str = option("Policy: Hub name, folder, or 'embedded'.", default="embedded")
    output_dir: str = option(OUTPUT_DIR, default="runs/grpo")
    max_steps: int = option("Optimiser steps; −1 follows num_train_epochs.", default=-1)
    num_train_epochs: float = option("Passes over the samples.", default=3.0)
    learning_rate: float | None = option("Step size of AdamW; 1e-6 for GRPO on large policies.")
    per_device_train_batch_size: int | None = option("Rows of one micro-batch on one device.")
    gradient_accumulation_steps: int = option("Micro-batches per optimiser step.", default=1)
    freeze_vision: bool = option(FREEZE_VISION, default=True)
    use_peft: bool = option("Train a LoRA adapter.", default=False)
    lora_r: int = option("Rank of the adapter.", default=16)
    save_steps: float = option("Steps between checkpoints.", default=500)
    seed: int = option("Seed of everything random.", default=42)
