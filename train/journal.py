"""Log a run to log.jsonl; locate think and answer blocks of a completion.

A resumed run first removes the records after its checkpoint, so that every step is logged once.
`manifests.runs` defines the files and their records.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from nontrivial.manifests.runs import GROUPS, LOG, JsonLines


class Journal(TrainerCallback):
    """A callback that appends a trainer's logs to log.jsonl."""

    def __init__(self, output_dir: str | Path) -> None:
        self.log, self.groups = (JsonLines(Path(output_dir, name)) for name in (LOG, GROUPS))

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            for file in (self.log, self.groups):
                file.cut(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        # Left out: the closing summary, which every run that has nothing left to do logs again.
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            self.log.append({"step": state.global_step, **logs})


def spans(pieces: Sequence[str]) -> dict[str, range]:
    """Return the tokens with text of the think block, and of the last answer block.

    `pieces` are the texts of a completion's tokens. A token that also holds part of a tag, such as
    `>A`, is inside. A block without a closing tag reaches to the end; a missing block is empty.

    >>> spans(["<think>", "red", " hat", "</think>", "<answer>", "A", "</answer>", "<end>"])
    {'think': range(1, 3), 'answer': range(5, 6)}
    >>> spans(["<", "answer", ">A", "</", "answer", ">"])["answer"]
    range(2, 3)
    """
    text = "".join(pieces)
    ends = list(accumulate(map(len, pieces)))
    starts = [0, *ends[:-1]]
    blocks = {}
    for name, tag in (("think", text.find("<think>")), ("answer", text.rfind("<answer>"))):
        begin = len(text) if tag < 0 else tag + len(f"<{name}>")
        closed = text.find(f"</{name}>", begin)
        end = len(text) if closed < 0 else closed
        blocks[name] = range(bisect_right(ends, begin), bisect_left(starts, end))
    return blocks
