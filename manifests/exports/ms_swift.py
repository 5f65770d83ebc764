"""ms-swift: JSON Lines of messages; a plugin with the reward `nontrivial_soft`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nontrivial.manifests.answers import format_answer
from nontrivial.manifests.exports import Row, samples_of
from nontrivial.manifests.runs import JsonLines

if TYPE_CHECKING:
    import pyarrow as pa

ADAPTER = '''
try:  # from ms-swift 4
    from swift.rewards import ORM, orms
except ImportError:
    from swift.plugin import ORM, orms


class NontrivialSoft(ORM):
    """|S| / |T| where the answered letters S are a non-empty subset of the right T, else 0."""

    def __call__(self, completions, answer, options, **kwargs):
        return [
            soft_score(read_answer(text, choices), right)
            for text, right, choices in zip(completions, answer, options)
        ]


class NontrivialFormat(ORM):
    """1 for one think block, then one answer block with legible letters, else 0."""

    def __call__(self, completions, options, **kwargs):
        return [
            float(is_formatted(text) and bool(read_answer(text, choices)))
            for text, choices in zip(completions, options)
        ]


orms["nontrivial_soft"] = NontrivialSoft
orms["nontrivial_format"] = NontrivialFormat
'''
README = """# For ms-swift

    swift rlhf --rlhf_type grpo --model Qwen/Qwen2.5-VL-7B-Instruct \\
        --dataset {out}/{data} --external_plugins {out}/reward.py \\
        --reward_funcs nontrivial_soft nontrivial_format --num_generations 8

`reward.py` reads answers leniently and gives part of the reward to a part of the right letters.
"""


def lacks(row: Row) -> str | None:
    """Return None: every row has a place."""
    return None


def write(rows: Sequence[Row], folder: Path, name: str) -> list[Path]:
    """Write one JSON object a row; our columns are beside theirs, for the reward."""
    file = folder / f"{name}.jsonl"
    JsonLines(file).write(
        {
            "messages": [{"role": "user", "content": row.marked()}],
            "images": row.images,
            "videos": row.videos,
            "solution": format_answer(row.columns["answer"]),
            **row.columns,
        }
        for row in rows
    )
    return [file]


def read(file: Path) -> pa.Table:
    """Return the samples of a file that `write` wrote."""
    records = list(JsonLines(file))
    return samples_of(records, [{k: r.get(k) or [] for k in ("images", "videos")} for r in records])
