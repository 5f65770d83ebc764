"""Options of the training commands that are ours, apart from the libraries that TRL's come from.

They are read twice: by TRL's parser, together with everything TRL and transformers offer, and by
`--help`, which answers before those libraries are imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from nontrivial.models.inputs import View

TOKEN_WEIGHTINGS = ("divergence", "geometric", "official", "entropy", "none")


@dataclass
class DataOptions(View):
    """Which samples, and what of their media the policy sees."""

    shown_last: ClassVar[bool] = False

    media_root: str | None = field(
        default=None, metadata={"help": "Folder of the media; wins over what the manifests record."}
    )
    max_bad: float = field(
        default=0.01, metadata={"help": "Share of samples with damaged media that is tolerated."}
    )
    media_cache_mb: int = field(
        default=512, metadata={"help": "Memory for encoded prompts that are used again."}
    )


@dataclass
class RunOptions:
    """How a run begins."""

    restart: bool = field(
        default=False,
        metadata={"help": "Start anew where output_dir holds checkpoints, instead of resuming."},
    )


@dataclass
class RewardOptions:
    """What a completion is worth."""

    reward_funcs: list[str] = field(
        default_factory=lambda: ["soft_accuracy", "format"],
        metadata={
            "help": "Rewards: soft_accuracy, exact_accuracy, format, length, or the import path of "
            "yours."
        },
    )
    length_free: int = field(
        default=256,
        metadata={
            "help": "Reward length: tokens that cost nothing; at max_completion_length it is 0."
        },
    )


@dataclass
class WeightingOptions:
    """Token weights and prompt sharing; part of `train.config.TokenWeightedGRPOConfig`."""

    token_weighting: str = field(
        default="divergence",
        metadata={
            "help": "What of its group's predictions a token is weighted by, if at all; official "
            "is what TW-GRPO's code computes.",
            "choices": list(TOKEN_WEIGHTINGS),
        },
    )
    alpha: float = field(
        default=1.7, metadata={"help": "Largest weight of a token; the smallest is 1."}
    )
    alpha_warmup_steps: int = field(
        default=0, metadata={"help": "Steps over which the largest weight rises from 1 to alpha."}
    )
    normalize_weights: bool = field(
        default=False,
        metadata={"help": "Divide weights by their mean over the tokens of their group."},
    )
    share_prompt: bool = field(
        default=True,
        metadata={"help": "Encode each prompt once for its group, in sampling and in scoring."},
    )
    drop_zero_variance: bool = field(
        default=False,
        metadata={"help": "Leave groups whose rewards are all equal out of the loss and its mean."},
    )
    max_redraws: int = field(
        default=0,
        metadata={
            "help": "Times that other samples are drawn for groups whose rewards are all equal."
        },
    )
    sample_every: int = field(
        default=10,
        metadata={"help": "Steps between groups written to OUTPUT_DIR/samples.jsonl; 0 for none."},
    )


@dataclass
class TrainingOptions:
    """The options of TRL and transformers that a run most often sets."""

    model_name_or_path: str = field(
        default="embedded", metadata={"help": "Policy: Hub name, folder, or 'embedded'."}
    )
    output_dir: str = field(
        default="runs/grpo",
        metadata={"help": "Where checkpoints, logs and the policy are written."},
    )
    max_steps: int = field(
        default=-1, metadata={"help": "Optimiser steps; −1 follows num_train_epochs."}
    )
    num_train_epochs: float = field(default=3.0, metadata={"help": "Passes over the samples."})
    learning_rate: float | None = field(
        default=None, metadata={"help": "Step size of AdamW; 1e-6 for GRPO on large policies."}
    )
    per_device_train_batch_size: int | None = field(
        default=None, metadata={"help": "Rows of one micro-batch on one device."}
    )
    gradient_accumulation_steps: int = field(
        default=1, metadata={"help": "Micro-batches to an optimiser step."}
    )
    freeze_vision: bool = field(
        default=True, metadata={"help": "Keep the vision tower as it is (false where embedded)."}
    )
    use_peft: bool = field(default=False, metadata={"help": "Train a LoRA adapter."})
    lora_r: int = field(default=16, metadata={"help": "Rank of the adapter."})
    save_steps: float = field(default=500, metadata={"help": "Steps between checkpoints."})
    seed: int = field(default=42, metadata={"help": "Draws everything random."})
