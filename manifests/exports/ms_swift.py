"""ms-swift: JSON Lines of messages; a plugin with the reward `nontrivial_soft`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nontrivial.manifests.answers import format_answer
from nontrivial.manifests.exports import KINDS, Row, ours, samples_of
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
    """Write one JSON object a row, with what the reward reads.

    All our columns are one text, `nontrivial`, and kinds of media that no row has are left out:
    files of several tasks then have the same types, as data sets that are mixed need.
    """
    file = folder / f"{name}.jsonl"
    kinds = [kind for kind in KINDS if any(getattr(row, kind) for row in rows)]
    JsonLines(file).write(
        {
            "messages": [{"role": "user", "content": row.marked()}],
            **{kind: getattr(row, kind) for kind in kinds},
            "solution": format_answer(row.columns["answer"]),
            "answer": row.columns["answer"],
            "options": row.columns["options"],
            "nontrivial": json.dumps(row.columns, ensure_ascii=False),
        }
        for row in rows
    )
    return [file]


def read(file: Path) -> pa.Table:
    """Return the samples of a file that `write` wrote."""
    records = list(JsonLines(file))
    media = [{kind: record.get(kind) or [] for kind in KINDS} for record in records]
    return samples_of([ours(record.get("nontrivial")) for record in records], media)
