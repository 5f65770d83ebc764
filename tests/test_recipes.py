"""Every recipe in configs/ is read by the command that its own first lines give."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import yaml

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# Read by a builder; tests/builders/test_reid_sources.py holds them.
PAIRS = {"reid_r_pairs.yaml", "reid_r_left_out.yaml"}
RECIPES = sorted(path for path in CONFIGS.glob("*.yaml") if path.name not in PAIRS)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_a_recipe_holds_options_of_its_command(recipe):
    from trl import ModelConfig

    from nontrivial.train import config
    from nontrivial.train.launch import read_options

    text = recipe.read_text(encoding="utf-8")
    name = re.search(r"-m (train\.\w+)", text)[1]
    settings = {"train.grpo": config.TokenWeightedGRPOConfig, "train.warmup": config.WarmupConfig}
    script, args, policy, manifests = read_options(
        # No GPU is needed to read a recipe, only to follow it.
        ["some.parquet", "--config", str(recipe), "--bf16", "false"],
        [importlib.import_module(name).ScriptOptions, settings[name], ModelConfig],
        prog=name,
        embedded={},
    )
    assert manifests == ["some.parquet"]
    read = vars(script) | vars(policy) | vars(args)
    for option, value in yaml.safe_load(text).items():
        if option not in ("bf16", "gradient_checkpointing"):
            assert read[option] == value, option


def test_there_are_recipes():
    assert RECIPES
