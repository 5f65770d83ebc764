"""Fixtures every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLProcessor

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep tests, and the commands that they start, away from the user's cache."""
    os.environ["NONTRIVIAL_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Slices of real public files beside the checkout; a test that needs them skips without."""
    folder = CHECKOUT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data slices are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def real_processor() -> Callable[[], Qwen2_5_VLProcessor]:
    """Qwen2.5-VL's own processor, from beside the checkout; its first use skips without."""

    def load() -> Qwen2_5_VLProcessor:
        from nontrivial.models.policy import load_processor

        folder = CHECKOUT.parent / "shared" / "real" / "qwen2_5_vl_7b"
        if not folder.is_dir():
            pytest.skip(f"the processor of Qwen2.5-VL is not at {folder}")
        return load_processor(str(folder))

    return load


@pytest.fixture(scope="session")
def tiny_policy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Qwen2.5-VL of a few ten thousand parameters and its processor."""
    from tests import tiny_policy

    folder = tmp_path_factory.mktemp("tiny_policy")
    model, processor = tiny_policy.build()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def write_adapter(tiny_policy_dir: Path) -> Callable[[Path], tuple[Any, Path]]:
    """Write a random adapter of the tiny policy; returns the policy with it, and the folder."""

    def write(folder: Path) -> tuple[Any, Path]:
        from nontrivial.models.policy import load_policy
        from nontrivial.train.launch import LORA_TARGETS

        model, _ = load_policy(str(tiny_policy_dir))

        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(
            r=4, target_modules=LORA_TARGETS[0], task_type="CAUSAL_LM", init_lora_weights=False
        )
        adapted = get_peft_model(model, settings).eval()
        adapted.save_pretrained(folder)
        return adapted, folder

    return write
