"""Keep what a run did: a callback that writes log.jsonl, and where a completion's blocks begin.

A resumed run cuts what came after its checkpoint, so that every step is told once. The files and
their records are those of `manifests.runs`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from nontrivial.manifests.runs import GROUPS, LOG, JsonLines


class Journal(TrainerCallback):
    """Write what a trainer logs; a resumed run first cuts what is told again."""

    def __init__(self, output_dir: str | Path) -> None:
        self.log, self.groups = (JsonLines(Path(output_dir, name)) for name in (LOG, GROUPS))

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            for file in (self.log, self.groups):
                file.cut(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        # The closing summary would be told again by each run that finds nothing left to do.
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            self.log.append({"step": state.global_step, **logs})


def spans(pieces: Sequence[str]) -> dict[str, range]:
    """The tokens inside the think block and the last answer block of a completion, without tags.

    `pieces` are the texts of its tokens. A block that isn't closed reaches to the end; one that is
    absent is empty.

    >>> spans(["<think>", "red", " hat", "</think>", "<answer>", "A", "</answer>", "<end>"])
    {'think': range(1, 3), 'answer': range(5, 6)}
    """
    text = "".join(pieces)
    starts = list(accumulate(map(len, pieces), initial=0))[:-1]
    opened = {"think": text.find("<think>"), "answer": text.rfind("<answer>")}
    found = {}
    for name, at in opened.items():
        begin = len(text) if at < 0 else at + len(f"<{name}>")
        closed = text.find(f"</{name}>", begin)
        end = len(text) if closed < 0 else closed
        found[name] = range(bisect_left(starts, begin), bisect_left(starts, end))
    return found
