"""LLaMA-Factory: ShareGPT with `dataset_info.json`, for the supervised warm-up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nontrivial.manifests.exports import Row
from nontrivial.manifests.files import write_text
from nontrivial.manifests.prompts import target_text
from nontrivial.manifests.runs import read_json, write_json

ADAPTER = None  # supervised: there is no reward
INFO = "dataset_info.json"
README = """# For LLaMA-Factory

    llamafactory-cli train --stage sft --do_train \\
        --model_name_or_path Qwen/Qwen2.5-VL-7B-Instruct --template qwen2_vl \\
        --finetuning_type lora --dataset_dir {out} --dataset NAME --output_dir saves/warmup

`dataset_info.json` lists the data sets by NAME. The target is the row's rationale, or an empty
think block, and the answer: what `train.warmup` teaches.
"""


def lacks(row: Row) -> str | None:
    """Return None: every row has a place."""
    return None


def write(rows: Sequence[Row], folder: Path, name: str) -> list[Path]:
    """Write conversations, and their entry in `dataset_info.json` beside those of other files."""
    file = folder / f"{name}.json"
    turns = [
        {
            "messages": [
                {"role": "user", "content": row.marked()},
                {
                    "role": "assistant",
                    "content": target_text(row.columns["answer"], row.columns["rationale"]),
                },
            ],
            "images": row.images,
            "videos": row.videos,
        }
        for row in rows
    ]
    write_text(file, json.dumps(turns, ensure_ascii=False, indent=1))
    media = [kind for kind in ("images", "videos") if any(turn[kind] for turn in turns)]
    entry = {
        "file_name": file.name,
        "formatting": "sharegpt",
        "columns": {"messages": "messages", **{kind: kind for kind in media}},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
        },
    }
    write_json(folder / INFO, {**(read_json(folder / INFO) or {}), name: entry})
    return [file, folder / INFO]
