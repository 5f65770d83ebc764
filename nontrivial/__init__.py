"""Non-trivial training data for vision-language models; token-weighted GRPO.

    import nontrivial as nt

    nt.mine_pairs       vectors, identities, cameras -> pairs worth training on
    nt.invert           one question -> the question whose right options are the old wrong ones
    nt.token_weights    hidden states of a group -> the weight of each token; token_scores: unscaled
    nt.read_answer      completion -> letters; soft_score, exact_score: letters against letters
    nt.soft_accuracy    a reward as TRL calls it; exact_accuracy, format_reward
    nt.best_blind       the best score of a strategy that sees no media
    nt.ranking_metrics  vectors -> mAP, mINP, CMC
    nt.read_samples     a manifest, validated; validate: any table
    nt.TokenWeightedGRPOTrainer, nt.TokenWeightedGRPOConfig

Names are imported on first use, so `import nontrivial` loads nothing heavy. docs/api.md shows each
of them. The command `nontrivial` lists all commands.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nontrivial.models import torchvision_cpu

if TYPE_CHECKING:
    from nontrivial.api import invert, mine_pairs, ranking_metrics
    from nontrivial.manifests.answers import exact_score, read_answer, soft_score
    from nontrivial.manifests.parquet import read_samples
    from nontrivial.manifests.schema import validate
    from nontrivial.manifests.text_only import best_blind
    from nontrivial.train.config import TokenWeightedGRPOConfig
    from nontrivial.train.importance import token_scores, token_weights
    from nontrivial.train.rewards import exact_accuracy, format_reward, soft_accuracy
    from nontrivial.train.trainer import TokenWeightedGRPOTrainer

__all__ = [
    "TokenWeightedGRPOConfig",
    "TokenWeightedGRPOTrainer",
    "best_blind",
    "exact_accuracy",
    "exact_score",
    "format_reward",
    "invert",
    "mine_pairs",
    "ranking_metrics",
    "read_answer",
    "read_samples",
    "soft_accuracy",
    "soft_score",
    "token_scores",
    "token_weights",
    "validate",
]

_MODULES = {
    "api": ("invert", "mine_pairs", "ranking_metrics"),
    "manifests.answers": ("exact_score", "read_answer", "soft_score"),
    "manifests.parquet": ("read_samples",),
    "manifests.schema": ("validate",),
    "manifests.text_only": ("best_blind",),
    "train.config": ("TokenWeightedGRPOConfig",),
    "train.importance": ("token_scores", "token_weights"),
    "train.rewards": ("exact_accuracy", "format_reward", "soft_accuracy"),
    "train.trainer": ("TokenWeightedGRPOTrainer",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

torchvision_cpu.install()


def __getattr__(name: str) -> Any:
    if name == "__version__":  # said in pyproject.toml alone
        return importlib.import_module("importlib.metadata").version(__name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
