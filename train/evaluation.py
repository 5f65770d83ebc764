"""Score held-out samples as a run goes: greedy completions, and what they earn.

A trainer with `eval_dataset` (`--eval_manifests`) does so every `eval_steps`. The scores are in the
log and the curves; with `--keep_best` the run ends with the policy that had the best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from nontrivial.train.data import Prompt, Stock
from nontrivial.train.rewards import find_rewards
from nontrivial.train.rows import Sample

if TYPE_CHECKING:
    from accelerate import Accelerator

SCORES = ("soft_accuracy", "exact_accuracy", "format")


def scores(
    stock: Stock,
    complete: Callable[[list[Sample], list[Prompt]], list[str]],
    accelerator: Accelerator,
    batch_size: int,
) -> dict[str, float]:
    """Return the mean scores of all samples of `stock`, which the processes share.

    `complete` returns one completion for each sample. All processes call it equally often, with as
    many samples; what fills up a last batch, or stands for lost media, does not count.
    """
    rewards = find_rewards(SCORES, style=stock.encode.options.prompt)
    sums = torch.zeros(len(rewards) + 1, dtype=torch.float64)
    own, count = accelerator.process_index, accelerator.num_processes
    batches = list(_batches(stock.samples, own, count, batch_size))
    for asked, new in tqdm(
        batches,
        desc="evaluating",
        leave=False,
        delay=2,
        disable=not accelerator.is_main_process,
    ):
        rows, prompts = stock(asked)
        texts = complete(rows, prompts)
        counted = [
            fresh and row is meant for fresh, row, meant in zip(new, rows, asked, strict=True)
        ]
        told = {
            "completions": texts,
            "answer": [row.get("answer") or [] for row in rows],
            "options": [row.get("options") or [] for row in rows],
        }
        earned = torch.tensor([reward(**told) for reward in rewards] + [[1.0] * len(rows)])
        sums += (earned * torch.tensor(counted)).sum(1)
    total = accelerator.reduce(sums.to(accelerator.device, torch.float32), reduction="sum").tolist()
    names = [f"eval_{reward.__name__}" for reward in rewards]
    means = [value / max(total[-1], 1) for value in total[:-1]]
    return dict(zip(names, means, strict=True)) | {"eval_samples": total[-1]}


def _batches(
    samples: Sequence[Sample], own: int, count: int, size: int
) -> Iterator[tuple[list[Sample], list[bool]]]:
    """Yield batches of a process's share of samples, and which of them are asked the first time."""
    share = range(own, len(samples), count)
    rows = [(samples[number], True) for number in share]
    rows += [(samples[0], False)] * (-(-len(samples) // count) - len(rows))
    for start in range(0, len(rows), size):
        batch, fresh = zip(*rows[start : start + size], strict=True)
        yield list(batch), list(fresh)
