"""lmms-eval: a task for each family of questions, in YAML, and one module with their functions.

Tasks give the lines that `eval.qa` prints: each family of a task, and their mean as a group.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from nontrivial.manifests.exports import Row
from nontrivial.manifests.files import atomic_path, write_text
from nontrivial.manifests.schema import family_of

MODULE = "utils.py"
METRICS = ("strict", "soft", "per_option", "format")
ADAPTER = '''
def doc_to_visual(doc):
    """Return the images of a row, in RGB and upright, then the paths of its clips."""
    from PIL import Image, ImageOps

    pictures = []
    for path in doc["images"]:
        with Image.open(path) as picture:
            pictures.append(ImageOps.exif_transpose(picture).convert("RGB"))
    return [*pictures, *doc["videos"]]


def doc_to_text(doc, lmms_eval_specific_kwargs=None):
    """Return the question, its options, one a line, and how to answer."""
    return doc["prompt"]


def doc_to_target(doc):
    """Return the letters of all right options."""
    return ",".join(doc["answer"])


def process_results(doc, results):
    """Score a completion as `eval.qa` does."""
    chosen, count = read_answer(results[0], doc["options"]), len(doc["options"])
    return {
        "strict": exact_score(chosen, doc["answer"]),
        "soft": soft_score(chosen, doc["answer"]),
        "per_option": per_option_score(chosen, doc["answer"], count),
        "format": float(is_formatted(results[0])),
    }
'''
README = """# For lmms-eval

    python -m lmms_eval --model qwen2_5_vl --model_args pretrained=Qwen/Qwen2.5-VL-7B-Instruct \\
        --include_path {out} --batch_size 1 --output_path runs/lmms \\
        --tasks {name}

A task holds one family of questions of one manifest, and its YAML file has its name. Several
families form a group (`nontrivial_NAME_video_qa`), which adds their mean; all tasks of a manifest
have the tag `nontrivial_NAME`.

    strict      1 where the letters answered are the right ones, else 0
    soft        the share of right letters that are answered, 0 with a wrong one
    per_option  the share of options rightly chosen or rightly left; 0 without an answer
    format      1 for one think block, then one answer block

CLEVRER counts its `descriptive` questions by `strict`, and the others per question (`strict`) and
per option (`per_option`). The scores are those of `eval.qa` for the same completions. Completions
are the same if the model sees the same: give it as many frames and pixels (`max_num_frames`,
`min_pixels`, `max_pixels` of `--model_args`). The tasks keep what a model thinks
(`reasoning_tags: none`), which `format` reads; lmms-eval knows that setting from version 0.7 on.
"""
_TASK = """task: {name}
tag: {tag}
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: generate_until
reasoning_tags: none
doc_to_visual: !function utils.doc_to_visual
doc_to_text: !function utils.doc_to_text
doc_to_target: !function utils.doc_to_target
process_results: !function utils.process_results
generation_kwargs:
  max_new_tokens: 1024
  temperature: 0
  do_sample: false
  until: []
metric_list:
{metrics}metadata:
  version: 1.0
"""
_METRIC = """  - metric: {name}
    aggregation: mean
    higher_is_better: true
"""
_GROUP = """group: {name}
task:
{tasks}aggregate_metric_list:
{metrics}metadata:
  version: 1.0
"""
_GROUP_METRIC = """  - metric: {name}
    aggregation: mean
    weight_by_size: true
"""


def lacks(row: Row) -> str | None:
    """Return None: every row has a place."""
    return None


def write(rows: Sequence[Row], folder: Path, name: str) -> list[Path]:
    """Write a table and a task for each family of each task, and a group where there are several.

    Families whose names differ in nothing but punctuation share a task.
    """
    tag = tag_of(name)
    parts: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        families = parts.setdefault(f"{tag}_{row.columns['task']}", {})
        families.setdefault(_plain(family_of(row.columns)), []).append(row)
    files = []
    for group, families in sorted(parts.items()):
        if len(families) == 1:
            [of_family] = families.values()
            files += _write_task(of_family, folder, group, tag)
            continue
        names = {family: f"{group}_{family or 'other'}" for family in sorted(families)}
        files.append(_write(folder / f"{group}.yaml", _group(group, list(names.values()))))
        for family, task in names.items():
            files += _write_task(families[family], folder, task, tag)
    return files


def tag_of(name: str) -> str:
    """Return the tag of a manifest's tasks.

    >>> tag_of("clevrer qa,invert")
    'nontrivial_clevrer_qa_invert'
    """
    return f"nontrivial_{_plain(name)}"


def _plain(text: str) -> str:
    """Return a text as a part of a task's name, which commas, spaces and stars would divide."""
    return re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_")


def _write_task(rows: Sequence[Row], folder: Path, name: str, tag: str) -> list[Path]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.list_(pa.string())
    schema = pa.schema(
        [
            *((column, pa.string()) for column in ("id", "task", "source", "split", "group")),
            *(("family", pa.string()), ("prompt", pa.string())),
            *((column, texts) for column in ("options", "answer", "images", "videos")),
        ]
    )
    columns = [
        {column: row.columns.get(column) for column in schema.names}
        | {"family": family_of(row.columns), "prompt": row.text}
        | {"images": row.images, "videos": row.videos}
        for row in rows
    ]
    data = folder.resolve() / "data" / f"{name}.parquet"
    with atomic_path(data) as whole:
        pq.write_table(pa.Table.from_pylist(columns, schema=schema), whole, compression="zstd")
    metrics = "".join(_METRIC.format(name=metric) for metric in METRICS)
    words = {"name": name, "tag": tag, "file": json.dumps(str(data)), "metrics": metrics}
    return [_write(folder / f"{name}.yaml", _TASK.format(**words)), data]


def _group(name: str, tasks: Sequence[str]) -> str:
    listed = "".join(f"  - {task}\n" for task in tasks)
    metrics = "".join(_GROUP_METRIC.format(name=metric) for metric in METRICS)
    return _GROUP.format(name=name, tasks=listed, metrics=metrics)


def _write(file: Path, text: str) -> Path:
    write_text(file, text)
    return file
