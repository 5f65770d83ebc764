"""What a run did, as JSON Lines: `log.jsonl` beside its checkpoints, `samples.jsonl` of GRPO.

log.jsonl       one line a log: step, reward, rewards/…, frac_reward_zero_std, completions/…,
                token_weight/…, loss, learning_rate, …
samples.jsonl   now and then one whole group: what was asked, each completion token by token with
                its weights, its rewards and its advantage

A resumed run cuts what came after its checkpoint, so that every step is told once.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from nontrivial.manifests.parquet import atomic_path

LOG, SAMPLES = "log.jsonl", "samples.jsonl"


class JsonLines:
    """A file of JSON objects, each with the `step` it belongs to."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self.path.is_file():
            return
        with open(self.path, encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):  # a line that was cut by a kill is none
                    yield json.loads(line)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one object as the file's last line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def cut(self, step: int) -> None:
        """Keep the records up to and with `step`."""
        if not self.path.is_file():
            return
        kept = (record for record in self if record["step"] <= step)
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in kept]
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")


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
