"""Time a GRPO step on long visual prompts against TRL's own trainer.

  python -m benchmarks.step
  python -m benchmarks.step --model 7b --lora --cells 1024 --tokens 256   # on a GPU; random weights

Gradient checkpointing is on, as training on real weights needs it; `--checkpointing false` turns it
off. Every part takes the same steps in a process of its own, with the same weights, images, seeds
and reward, and completions of one length. `TRL` is `trl.GRPOTrainer` from PyPI. `ours, plain` sends
every prompt through the network G times, as TRL does; `ours` encodes it once; `ours, weighted` adds
token weights, which change the loss. Memory is the most that a part took beyond the policy: of the
GPU, or of the process. Loss and gradient norm are compared after the first step only, because later
steps may sample another token through rounding.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import shapes
from benchmarks.alone import alone
from nontrivial.manifests.command import guard, option, parse, table
from nontrivial.manifests.errors import WorkFailed
from nontrivial.manifests.runs import PARTS as TIMED
from nontrivial.manifests.runs import SHARE

if TYPE_CHECKING:
    from PIL.Image import Image

PARTS = ("TRL", "ours, plain", "ours", "ours, weighted")
TOLERANCE = 1e-4
QUESTION = "Which of the following is seen?"
OPTIONS = ["red", "green", "blue"]


@dataclass
class Options:
    """Options of `python -m benchmarks.step`."""

    model: str = option("folder or Hub name, or 7b: its shapes", default="embedded")
    checkpointing: bool = option("gradient checkpointing, on both sides", default=True)
    lora: bool = option("train an adapter of rank 16 on the language model", default=False)
    rows: int = option("rows of a micro-batch; 0 takes all of a step", default=0)
    cells: int = option("vision tokens of a prompt's image", default=1024)
    prompts: int = option("prompts in a step", default=2)
    group: int = option("completions of a prompt", default=8)
    tokens: int = option("tokens of a completion", default=32)
    steps: int = option("timed steps, after one to warm up", default=3)
    part: str | None = option("measure only this part, here, as JSON", default=None, choices=PARTS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="benchmarks.step", description=__doc__))


def run(options: Options) -> None:
    """Measure one part here, or all parts in processes of their own; print JSON or a table.

    Raises `WorkFailed` if loss or gradient norm differ from TRL's.
    """
    if options.part:
        print(json.dumps(measure(options)))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(
        f"{options.prompts} prompts of {options.cells} vision tokens, "
        f"{options.group} completions of {options.tokens} tokens each\n"
    )
    measured = {part: alone("benchmarks.step", options, part=part) for part in PARTS}
    stock = measured["TRL"]
    rows = [
        (
            part,
            run["seconds"],
            stock["seconds"] / run["seconds"],
            f"{run['memory']:,.0f}",
            run["loss"],
            run["grad_norm"],
        )
        for part, run in measured.items()
    ]
    header = ("", "seconds a step", "× as fast", "MiB", "first loss", "gradient norm")
    print(table(rows, header=header))
    if options.model == shapes.NAME:
        return  # bfloat16
    for part in ("ours, plain", "ours"):
        for name in ("loss", "grad_norm"):
            if abs(measured[part][name] - stock[name]) > TOLERANCE * max(1, abs(stock[name])):
                raise WorkFailed(f"{part}: {name} {measured[part][name]}, TRL's is {stock[name]}")


def measure(options: Options) -> dict[str, Any]:
    """Return median seconds of a step, and loss and gradient norm of the first step.

    `shares` are those of the last step's time, by part, where the trainer logs them.
    """
    import torch
    from transformers import TrainerCallback

    from nontrivial.models.policy import load_policy

    own = options.model == shapes.NAME
    model, processor = shapes.policy() if own else load_policy(options.model)
    side = 2 * processor.image_processor.patch_size
    room = options.cells * side**2
    processor.image_processor.size = {"shortest_edge": side**2, "longest_edge": room}
    pictures = [picture(options.cells, side, seed) for seed in range(options.prompts)]

    generate, seeds = model.generate, iter(range(options.steps + 1))

    def seeded(*args: Any, **kwargs: Any) -> Any:
        torch.manual_seed(next(seeds))
        return generate(*args, **kwargs)

    model.generate = seeded
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times[-1] = time.perf_counter() - times[-1]

    make = stock_trainer if options.part == "TRL" else our_trainer
    with tempfile.TemporaryDirectory() as folder:
        trainer = make(model, processor, pictures, settings(options, folder), options)
        trainer.add_callback(Clock())
        before = memory()
        trainer.train()
    logged = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    first, last = logged[0], logged[-1]
    return {
        "seconds": statistics.median(times[1:]),
        "memory": memory() - before,
        "loss": first["loss"],
        "grad_norm": first["grad_norm"],
        "shares": {part: last[SHARE.format(part)] for part in TIMED if SHARE.format(part) in last},
    }


def memory() -> float:
    """Return the most MiB that were allocated on the GPU, or that this process has held."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def adapter(options: Options) -> Any:
    """Return the settings of the adapter, or None."""
    from peft import LoraConfig

    from nontrivial.train.launch import LORA_TARGETS

    if not options.lora:
        return None
    return LoraConfig(r=16, lora_alpha=32, target_modules=LORA_TARGETS[0], task_type="CAUSAL_LM")


def settings(options: Options, folder: str) -> dict[str, Any]:
    """Return the arguments of both trainers."""
    import torch

    whole = options.prompts * options.group
    return {
        "bf16": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),
        "output_dir": folder,
        "per_device_train_batch_size": options.rows or whole,
        "gradient_accumulation_steps": whole // (options.rows or whole),
        "num_generations": options.group,
        "max_completion_length": options.tokens,
        "max_steps": options.steps + 1,
        "learning_rate": 1e-4,
        "max_grad_norm": 1.0,
        "loss_type": "dapo",
        "beta": 0.0,
        "gradient_checkpointing": options.checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "shuffle_dataset": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def stock_trainer(
    model: Any,
    processor: Any,
    pictures: Sequence[Image],
    common: Mapping[str, Any],
    options: Options,
) -> Any:
    """Return TRL's trainer on a data set with an `image` column, as in its documentation."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from nontrivial.manifests.prompts import question_text
    from nontrivial.models.policy import vision_token_ids

    asked = [{"role": "user", "content": question_text(QUESTION, OPTIONS, "video_qa")}]
    sampling = {"suppress_tokens": vision_token_ids(model), "min_new_tokens": options.tokens}
    return GRPOTrainer(
        model,
        args=GRPOConfig(**common, generation_kwargs=sampling),
        train_dataset=Dataset.from_list([{"prompt": asked, "image": image} for image in pictures]),
        processing_class=processor,
        reward_funcs=variety,
        peft_config=adapter(options),
    )


def our_trainer(
    model: Any,
    processor: Any,
    pictures: Sequence[Image],
    common: Mapping[str, Any],
    options: Options,
) -> Any:
    """Return our trainer on the same prompts."""
    from nontrivial.manifests.media import encode_image
    from nontrivial.train.config import TokenWeightedGRPOConfig
    from nontrivial.train.trainer import TokenWeightedGRPOTrainer

    empty = {"task": "video_qa", "answer": ["A"], "videos": None, "clips": None, "media_root": None}
    asked = empty | {"question": QUESTION, "options": OPTIONS}
    rows = [
        asked | {"id": str(number), "images": [{"bytes": encode_image(image, "PNG"), "path": None}]}
        for number, image in enumerate(pictures)
    ]
    args = TokenWeightedGRPOConfig(
        **common,
        generation_kwargs={"min_new_tokens": options.tokens},
        share_prompt=options.part != "ours, plain",
        token_weighting="divergence" if options.part == "ours, weighted" else "none",
        freeze_vision=False,
        log_completions=False,
    )
    return TokenWeightedGRPOTrainer(
        model,
        variety,
        args,
        train_dataset=rows,
        processing_class=processor,
        peft_config=adapter(options),
    )


def variety(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
    """Reward any property of a completion that varies."""
    return [sum(ids) % 7 / 7 for ids in completion_ids]


def picture(cells: int, side: int, seed: int) -> Image:
    """Return an image of noise with about `cells` cells of `side` pixels a side."""
    import numpy as np
    from PIL import Image

    rows = round(cells**0.5)
    shape = (rows * side, cells // rows * side, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


if __name__ == "__main__":
    sys.exit(main())
