"""Processes that train together: as many as were asked for, which part before they end."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

from nontrivial.manifests import command
from nontrivial.manifests.errors import BadInput


def check_processes(started: int) -> None:
    """Raise `BadInput` if `accelerate-launch` was asked for several processes and started one.

    It does so where there is no GPU, without a word.
    """
    import psutil

    try:
        parent = psutil.Process().parent()
        asked = processes_asked(parent.cmdline()) if parent else 1
    except psutil.Error:  # another user's, which a cluster may hide
        asked = 1
    if started == 1 < asked:
        raise BadInput(
            f"accelerate-launch was asked for {asked} processes and started one, as it does where "
            f"there is no GPU; put `torchrun --nproc_per_node {asked}` in its place, or ask for one"
        )


def processes_asked(words: Sequence[str]) -> int:
    """Return how many processes a command line of `accelerate-launch` asks for; 1 for any other.

    >>> processes_asked(["python", "accelerate-launch", "--num_processes=2", "-m", "train.grpo"])
    2
    >>> processes_asked(["python", "-m", "train.grpo", "--num_processes", "2"])
    1
    """
    launched = itertools.dropwhile(lambda word: "accelerate" not in Path(word).name, words)
    own = [command.snake_case(word) for word in itertools.takewhile("-m".__ne__, launched)]
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--num_processes", type=int)
    parser.add_argument("--config_file")
    found, _ = parser.parse_known_args(own)
    if found.num_processes is None and found.config_file:
        found.num_processes = command.read_yaml(found.config_file).get("num_processes")
    return found.num_processes or 1


def part_ways() -> None:
    """Leave the group of processes, if this one is in any, once all have come this far.

    To be called behind the last work that they share: one that waits for the lone work of another
    gives up after `ddp_timeout`, and one that ends in a group can be aborted by Gloo's threads
    (PyTorch's pull request 179291).
    """
    from accelerate import PartialState
    from torch import distributed

    if distributed.is_initialized():
        processes = PartialState()
        processes.wait_for_everyone()
        processes.destroy_process_group()
