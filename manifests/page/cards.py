"""The card of a data set on the Hub, written from what its files say about themselves.

Files need different names, because that is what they are called there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.parquet import read_about, read_table

TASKS = {"video_qa": "video-text-to-text", "reid_pair": "image-text-to-text"}


def dataset_card(files: Sequence[Path]) -> str:
    """A README.md in Markdown: how each file was made, what it counts, how to load it.

    Raises `BadInput` for a file that is no samples table; `read_about` names one without metadata.
    """
    import yaml

    sections, tasks = [], set()
    for path in files:
        content = read_table(path)
        if not {"task", "split"} <= set(content.column_names):
            raise BadInput(f"{path}: is no samples table; a card describes manifests/*.parquet")
        found = set(content.column("task").to_pylist())
        tasks |= {TASKS.get(task, "image-text-to-text") for task in found}
        sections.append(_section(path, len(content), sorted(found), read_about(path)))
    configs = [{"config_name": path.stem, "data_files": f"data/{path.name}"} for path in files]
    head = yaml.safe_dump({"task_categories": sorted(tasks), "configs": configs}, sort_keys=False)
    loading = (
        "```python\nfrom datasets import load_dataset\n\n"
        'samples = load_dataset("parquet", data_files="data/*.parquet")\n```\n'
    )
    media = "Media are named by path relative to the recorded root unless they are embedded.\n"
    return "\n".join([f"---\n{head}---\n", "# Manifests\n", loading, media, *sections])


def push_dataset(files: Sequence[Path], repo: str, *, private: bool = True) -> str:
    """Upload manifests and their card to a data set repository; returns its address."""
    from huggingface_hub import HfApi

    api = HfApi()
    where = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
    for path in files:
        api.upload_file(
            path_or_fileobj=str(path),
            path_in_repo=f"data/{path.name}",
            repo_id=repo,
            repo_type="dataset",
        )
    # The card last: a data set that has one is whole.
    api.upload_file(
        path_or_fileobj=dataset_card(files).encode(),
        path_in_repo="README.md",
        repo_id=repo,
        repo_type="dataset",
    )
    return str(where)


def rows_of(values: Mapping[str, Any]) -> str:
    """Names and values as a Markdown table; values are code, so nothing in them is markup.

    >>> print(rows_of({"seed": 0}))
    | | |
    |---|---|
    | seed | `0` |
    """
    lines = ["| | |", "|---|---|"]
    for name, value in values.items():
        written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        plain = " ".join(written.split()).replace("`", "'").replace("|", "\\|")
        lines.append(f"| {name} | `{plain}` |")
    return "\n".join(lines)


def _section(path: Path, rows: int, tasks: Sequence[str], about: Mapping[str, Any]) -> str:
    return f"## {path.stem}\n\n{rows:,} rows of {', '.join(tasks)}.\n\n{rows_of(about)}\n"
