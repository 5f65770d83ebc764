"""Measure the time and the extra memory that token weights cost.

  python -m benchmarks.importance                  # CUDA: G=8, T=1024, V=152,064, H=3,584 in bf16
  python -m benchmarks.importance --device cpu     # a scaled shape, in float32

The weights of one group of completions are computed. The published way holds the logits of the
whole group and several tensors of that size (tests.reference.importance); ours computes them tile
by tile. The head product is the lower bound: the same multiplication, tile by tile, without using
its results. Each method runs in a process of its own; memory is what it adds to its inputs. On a
CPU the tile is the same share of the positions as at the full shape.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.alone import alone
from nontrivial.manifests.command import guard, option, parse, table

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("head product", "published", "official", "divergence", "geometric", "entropy")
FULL = {"group": 8, "length": 1024, "vocabulary": 152_064, "width": 3584}
SCALED = {"group": 8, "length": 256, "vocabulary": 19_008, "width": 448}


@dataclass
class Options:
    """Options of `python -m benchmarks.importance`."""

    device: str | None = option("cuda or cpu; cuda if there is a GPU", default=None)
    length: int | None = option("tokens of a completion (default: of the shape)", default=None)
    repeats: int = option("timed runs of each method, after one to warm up", default=3)
    method: str | None = option(
        "measure this method only and print JSON", default=None, choices=METHODS
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="benchmarks.importance", description=__doc__))


def run(options: Options) -> None:
    """Measure one method, or each in a process of its own; print JSON or a table."""
    import torch

    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if options.method:
        print(json.dumps(measure(options)))
        return
    shape = shape_of(options)
    name = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    print(f"{name}, {os.cpu_count()} cores, torch {torch.__version__}; {shape}\n")
    costs = {method: alone("benchmarks.importance", options, method=method) for method in METHODS}
    floor, published = costs["head product"], costs["published"]
    rows = [
        (
            method,
            f"{1e3 * cost['seconds']:.1f}",
            f"{cost['seconds'] / floor['seconds']:.2f}",
            f"{cost['mib']:.0f}",
            f"{100 * cost['mib'] / published['mib']:.1f}%",
        )
        for method, cost in costs.items()
    ]
    header = ("method", "ms", "× head product", "extra MiB", "of published")
    print(table(rows, header))


def shape_of(options: Options) -> dict[str, int]:
    """Return the sizes of the group that is weighted."""
    shape = FULL if options.device == "cuda" else SCALED
    return shape | ({"length": options.length} if options.length else {})


def measure(options: Options) -> dict[str, float]:
    """Return median seconds and peak extra MiB of `options.method`."""
    work = method(options.method, *group(options), tile_of(shape_of(options)))
    return cost(work, options.device, options.repeats)


def group(options: Options) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden states (G, T, H) of a group, its mask (G, T) and a head (V, H)."""
    import torch

    torch.manual_seed(0)
    shape = shape_of(options)
    dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    size, length = shape["group"], shape["length"]
    hidden = torch.randn(size, length, shape["width"], device=options.device, dtype=dtype)
    head = torch.randn(shape["vocabulary"], shape["width"], device=options.device, dtype=dtype)
    head *= 3 * shape["width"] ** -0.5  # logits of a decided policy
    lengths = torch.linspace(length // 2, length, size, device=options.device)
    mask = torch.arange(length, device=options.device) < lengths[:, None]
    return hidden, mask, head


def cost(work: Callable[[], object], device: str, repeats: int, *, learn: bool = False) -> dict:
    """Return median seconds and peak extra MiB of some work, after one run to warm up."""
    before = occupied(device)
    seconds = sorted(timed(work, device, learn=learn) for _ in range(repeats + 1))
    peak = occupied(device, most=True)
    return {"seconds": seconds[len(seconds) // 2], "mib": max(peak - before, 1) / 2**20}


def tile_of(shape: dict[str, int]) -> int:
    """Return positions of a tile: the share of the length that a tile has at the full shape."""
    from nontrivial.train.importance import TILE_ELEMENTS

    full = TILE_ELEMENTS // (FULL["group"] * FULL["vocabulary"])
    return max(1, round(full * shape["length"] / FULL["length"]))


def method(
    name: str, hidden: Tensor, mask: Tensor, head: Tensor, tile: int
) -> Callable[[], object]:
    """Return the work of a method on hidden (G, T, H), mask (G, T) and head (V, H)."""
    from nontrivial.train.importance import token_weights
    from tests.reference.importance import official

    if name == "published":
        return lambda: official((hidden @ head.T).float(), mask, 1.7)
    if name == "head product":
        columns = hidden.transpose(0, 1).flatten(0, 1).split(tile * len(hidden))
        return lambda: [(column @ head.T).shape for column in columns]
    return lambda: token_weights(hidden[None], mask[None], head, measure=name, tile=tile)


def timed(work: Callable[[], object], device: str, *, learn: bool) -> float:
    """Return the seconds of one run, with gradients only if it is to `learn`."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    wait()
    started = time.perf_counter()
    with torch.set_grad_enabled(learn):
        work()
    wait()
    return time.perf_counter() - started


def occupied(device: str, *, most: bool = False) -> int:
    """Return bytes in use now, or the most since the start."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() if most else torch.cuda.memory_allocated()
    field = "VmHWM" if most else "VmRSS"
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
