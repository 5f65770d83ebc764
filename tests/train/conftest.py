"""Small manifests with real files behind them, and a tiny policy to train on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import distributed

from nontrivial.manifests.parquet import write_samples
from nontrivial.manifests.roots import name_root
from nontrivial.manifests.schema import samples_table
from nontrivial.models.policy import load_policy
from nontrivial.train.config import TokenWeightedGRPOConfig
from nontrivial.train.data import PromptEncoder
from nontrivial.train.options import DataOptions
from nontrivial.train.rows import as_sample
from nontrivial.train.trainer import TokenWeightedGRPOTrainer
from tests import media_files, rows

Row = dict[str, Any]

GROUP = 4  # completions of a prompt


@pytest.fixture(scope="session")
def media_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of three sizes and two clips, under a root that a builder was given."""
    root = tmp_path_factory.mktemp("media")
    name_root(root)
    for number in range(12):
        size = (56, 56 + 28 * (number % 3))
        media_files.write_image(root / f"{number}.jpg", seed=number, size=size)
    media_files.write_clip(root / "0.mp4", frames=12)
    media_files.write_clip(root / "1.mp4", frames=20)
    return root


def pairs(count: int, **changes: Any) -> list[Row]:
    """Questions about two images each; the right letter alternates."""
    return [
        rows.reid_pair(
            f"pair-{n}",
            images=[rows.media(f"{2 * n % 12}.jpg"), rows.media(f"{(2 * n + 1) % 12}.jpg")],
            answer=["AB"[n % 2]],
            **changes,
        )
        for n in range(count)
    ]


def videos(count: int, **changes: Any) -> list[Row]:
    """Questions about one clip each, two of four options right."""
    return [
        rows.video_question(f"video-{n}", videos=[rows.media(f"{n % 2}.mp4")], **changes)
        for n in range(count)
    ]


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.fixture
def make_encoder(tiny_policy_dir: Path) -> Callable[..., PromptEncoder]:
    """Make an encoder of prompts for the tiny policy, with options of the data."""

    def make(*, longest: int = 4000, **options: Any) -> PromptEncoder:
        model, processor = load_policy(str(tiny_policy_dir))
        return PromptEncoder(processor, model.base_model, DataOptions(**options), longest=longest)

    return make


@pytest.fixture
def write_manifest(tmp_path: Path, media_root: Path) -> Callable[..., str]:
    """Write rows as a manifest that records the media root, which a builder would have named."""
    name_root(media_root)

    def write(samples: Sequence[Row], name: str = "samples") -> str:
        path = tmp_path / f"{name}.parquet"
        about = {"media_root": str(media_root), "builder": "tests"}
        write_samples(samples_table(samples), path, about)
        return str(path)

    return write


@pytest.fixture
def with_root(media_root: Path) -> Callable[[Sequence[Row]], list[Row]]:
    """Rows as `train.data.read_manifests` returns them."""

    def complete(samples: Sequence[Row]) -> list[Row]:
        table = samples_table(samples)
        return [as_sample(row, n, str(media_root)) for n, row in enumerate(table.to_pylist())]

    return complete


def distinct_letters(completions: list, **_: Any) -> list[float]:
    """A reward that differs within nearly every group of random completions."""
    return [len(set(completion[0]["content"])) / 30 for completion in completions]


@pytest.fixture
def make_trainer(tiny_policy_dir, with_root, tmp_path):
    def make(samples, reward=distinct_letters, logit_cap=None, **options):
        model, processor = load_policy(str(tiny_policy_dir))
        model.config.get_text_config().final_logit_softcapping = logit_cap
        model, processor = options.pop("model", model), options.pop("processor", processor)
        complete = any("prompt" in row for row in samples)
        given = {name: options.pop(name, None) for name in ("eval_dataset", "peft_config")}
        defaults = {
            "output_dir": str(tmp_path / "run"),
            "per_device_train_batch_size": 16,
            "num_generations": GROUP,
            "max_completion_length": 10,
            "max_steps": 1,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "optim": "sgd",
            "max_grad_norm": 0.0,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "log_completions": False,
            "gradient_checkpointing": False,
            "disable_tqdm": True,
            "freeze_vision": False,
            "nframes": 4,
        }
        return TokenWeightedGRPOTrainer(
            model,
            args=TokenWeightedGRPOConfig(**(defaults | options)),
            train_dataset=samples if complete else with_root(samples),
            processing_class=processor,
            reward_funcs=reward,
            **given,
        )

    return make
