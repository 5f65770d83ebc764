"""Time the loss of a group against its size: in one row, and in rows of their own.

  python -m benchmarks.group   # nine minutes on two cores

One prompt with an image, and G completions of one length: forward and backward pass under gradient
checkpointing, as TRL's fused head scores them. Draws docs/group.png.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.step import OPTIONS, QUESTION, picture
from nontrivial.manifests.command import guard, option, parse, table

SIZES = (1, 2, 4, 8, 16, 32)
WAYS = {"in one row": True, "in rows of their own": False}


@dataclass
class Options:
    """Options of `python -m benchmarks.group`."""

    cells: int = option("vision tokens of the image", default=1024)
    tokens: int = option("tokens of a completion", default=64)
    repeats: int = option("timed passes, after one to warm up", default=3)
    largest: int = option("largest group", default=32)
    picture: str = option("file to draw", default="docs/group.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="benchmarks.group", description=__doc__))


def run(options: Options) -> None:
    """Measure all sizes in both ways, print a table and draw it."""
    sizes = [size for size in SIZES if size <= options.largest]
    model, prompt = prepared(options)
    seconds = {
        way: [measure(model, prompt, size, share, options) for size in sizes]
        for way, share in WAYS.items()
    }
    rows = list(zip(sizes, *seconds.values(), strict=True))
    print(table(rows, header=("completions", *(f"{way}, s" for way in WAYS))))
    draw(sizes, seconds, options)
    print(f"picture: {options.picture}")


def prepared(options: Options) -> tuple[Any, Any]:
    """Return the embedded policy as the trainer prepares it, and an encoded prompt."""
    from nontrivial.models.policy import load_policy

    model, processor = load_policy()
    ready(model)
    side = 2 * processor.image_processor.patch_size
    limits = {"min_pixels": side**2, "max_pixels": options.cells * side**2}
    image = picture(options.cells, side, seed=0)
    return model, asked(model, processor, images=[image], **limits)


def ready(model: Any) -> None:
    """Prepare a policy as the trainer does, with gradient checkpointing."""
    from trl.trainer.utils import add_fused_lm_head

    from nontrivial.models.policy import vision_token_ids
    from nontrivial.train.group_rows import accept_group_rows
    from nontrivial.train.head import leave_out

    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    leave_out(model, vision_token_ids(model))
    accept_group_rows(model)
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})


def asked(
    model: Any, processor: Any, images: Sequence[Any] = (), clips: Sequence[Any] = (), **limits: int
) -> dict[str, Any]:
    """Return an encoded question about images and clips."""
    from nontrivial.manifests.prompts import question_text
    from nontrivial.models.inputs import encode
    from nontrivial.models.positions import prompt_positions

    media = [{"type": "image"} for _ in images] + [{"type": "video"} for _ in clips]
    text = {"type": "text", "text": question_text(QUESTION, OPTIONS, "video_qa")}
    turn = {"role": "user", "content": [*media, text]}
    prompt = dict(encode(processor, [[turn]], [images], [clips], **limits))
    return prompt | {"position_ids": prompt_positions(model.base_model, prompt)}


def measure(model: Any, prompt: Any, size: int, share: bool, options: Options) -> float:
    """Return the median seconds of a forward and a backward pass over a group."""
    import torch

    from nontrivial.train.group_rows import scoring

    draw = torch.Generator().manual_seed(0)
    completions = torch.randint(10, 200, (size, options.tokens), generator=draw)
    wanted = scoring([prompt] * size, completions, torch.ones_like(completions), 0, share=share)
    times = []
    for _ in range(options.repeats + 1):
        began = time.perf_counter()
        model.zero_grad(set_to_none=True)
        wanted.of_tokens(model(**wanted.inputs).log_probs).mean().backward()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def draw(sizes: Sequence[int], seconds: dict[str, list[float]], options: Options) -> None:
    """Draw the time of a completion against the size of its group."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    panel = figure.subplots()
    for way, values in seconds.items():
        panel.plot(sizes, [s / n for s, n in zip(values, sizes, strict=True)], "o-", label=way)
    panel.set(xscale="log", yscale="log", xticks=sizes, xticklabels=sizes)
    panel.minorticks_off()
    panel.set(xlabel="completions in a group", ylabel="seconds a completion")
    panel.set_title(f"{options.cells} vision tokens, completions of {options.tokens}")
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    figure.savefig(options.picture, dpi=140)


if __name__ == "__main__":
    sys.exit(main())
