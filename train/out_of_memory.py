"""Say what did not fit into memory, and which option would make it fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

ON_CPU = "can't allocate memory"  # in the error of torch's allocator on a CPU


@dataclass(frozen=True)
class AtWork:
    """What is on a device when memory runs out.

    part        of a step, as the clock names it
    rows        completions at once
    prompts     prompts at once, each read once
    prompt      tokens of the longest prompt
    completion  most tokens of a completion
    """

    part: str
    rows: int
    prompts: int
    prompt: int
    completion: int


def is_out_of_memory(error: BaseException) -> bool:
    """True for the errors of a device, or of the host, that is out of memory."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or ON_CPU in str(error)


def advice(work: AtWork, args: Any) -> str:
    """Name what was done, of which size, and the options that make it smaller."""
    tokens = work.prompts * work.prompt + work.rows * work.completion
    told = (
        f"out of memory in {work.part}: {work.rows} rows of {work.prompts} prompts of up to "
        f"{work.prompt} tokens, with completions of up to {work.completion}"
    )
    smaller = []
    if work.part == "sampling":
        if not args.use_vllm and args.steps_per_generation > 1:
            half = max(1, args.steps_per_generation // 2)
            smaller.append(f"sample less at once with --steps_per_generation {half}")
        smaller.append(f"shorter answers with --max_completion_length {work.completion // 2}")
        if args.use_vllm:
            smaller.append("leave memory to the trainer with --vllm_enable_sleep_mode")
    elif work.part == "vision":
        smaller.append("smaller pictures with --max_pixels, fewer frames with --nframes")
    else:
        limit = args.max_tokens_per_micro_batch or tokens
        smaller.append(f"smaller parts with --max_tokens_per_micro_batch {max(limit // 2, 1)}")
        if not args.gradient_checkpointing:
            smaller.append("--gradient_checkpointing true")
    if args.per_device_train_batch_size > args.num_generations:
        smaller.append(f"--per_device_train_batch_size {args.num_generations}")
    return f"{told}; try {', or '.join(smaller)}; --dry_run tells what needs how much"
