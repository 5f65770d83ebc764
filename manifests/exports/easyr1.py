"""EasyR1: JSON Lines of problems, images and videos in files of their own; a batch reward."""

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
REWARD_NAME = "nontrivial"
REWARD_TYPE = "batch"


def compute_score(reward_inputs, format_weight=0.1):
    """Score a batch of {response, ground_truth}; the ground truth is an answer block."""
    scores = []
    for item in reward_inputs:
        chosen, right = read_answer(item["response"]), read_answer(item["ground_truth"])
        soft, formatted = soft_score(chosen, right), float(is_formatted(item["response"]))
        overall = (1 - format_weight) * soft + format_weight * formatted
        scores.append({"overall": overall, "format": formatted, "accuracy": soft})
    return scores
'''
README = """# For EasyR1

    python -m verl.trainer.main config=examples/config.yaml \\
        data.train_files={out}/{data} data.val_files={out}/{data} \\
        data.prompt_key=problem data.answer_key=answer \\
        data.image_key=images data.video_key=videos data.format_prompt=null \\
        worker.actor.model.model_path=Qwen/Qwen2.5-VL-7B-Instruct \\
        worker.reward.reward_function={out}/reward.py:compute_score

A file holds rows with images, with videos, or with text alone, since EasyR1 takes one kind a file.
It gives rewards no options, so an answer has to name letters, not the words of an option.
"""


def lacks(row: Row) -> str | None:
    """Return why a row has no place: it shows images and videos."""
    return "images and videos in one row" if row.images and row.videos else None


def write(rows: Sequence[Row], folder: Path, name: str) -> list[Path]:
    """Write one file for each kind of media."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault("images" if row.images else "videos" if row.videos else "text", []).append(
            row
        )
    files = []
    for kind, of_kind in sorted(kinds.items()):
        files.append(folder / f"{name}_{kind}.jsonl")
        JsonLines(files[-1]).write(
            {
                "problem": row.marked(),
                "answer": format_answer(row.columns["answer"]),
                **({kind: getattr(row, kind)} if kind != "text" else {}),
                "nontrivial": json.dumps(row.columns, ensure_ascii=False),
            }
            for row in of_kind
        )
    return files


def read(file: Path) -> pa.Table:
    """Return the samples of a file that `write` wrote."""
    records = list(JsonLines(file))
    media = [{kind: record.get(kind) or [] for kind in KINDS} for record in records]
    return samples_of([ours(record.get("nontrivial")) for record in records], media)
