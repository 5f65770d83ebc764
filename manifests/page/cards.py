"""The card of a data set on the Hub, written from the metadata of its files and their audits.

Files need different names, because they keep only their names on the Hub.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nontrivial.manifests.audit import MARKS, error_rates, read_marks
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.parquet import read_about, read_samples, read_valid
from nontrivial.manifests.schema import is_embeddings

TASKS = {"video_qa": "video-text-to-text", "reid_pair": "image-text-to-text"}


def dataset_card(files: Sequence[Path]) -> str:
    """Write a README.md: how each file was made, its counts, how to load it.

    Raises `BadInput` for a file that is no samples table or has no metadata.
    """
    import yaml

    sections, tasks = [], set()
    for path in files:
        content = read_valid(path)
        if is_embeddings(content):
            raise BadInput(f"{path}: is no samples table; a card describes manifests/*.parquet")
        names = content.column("task").unique().to_pylist()
        tasks |= {TASKS.get(name, "image-text-to-text") for name in names}
        about = rows_of(read_about(path))
        rows = f"{len(content):,} rows of {', '.join(sorted(names))}."
        sections.append(f"## {path.stem}\n\n{rows}\n\n{about}\n{_audited(path)}")
    configs = [{"config_name": path.stem, "data_files": f"data/{path.name}"} for path in files]
    head = yaml.safe_dump({"task_categories": sorted(tasks), "configs": configs}, sort_keys=False)
    loading = (
        "```python\nfrom datasets import load_dataset\n\n"
        'samples = load_dataset("parquet", data_files="data/*.parquet")\n```\n'
    )
    media = "Media are named by path relative to the recorded root unless they are embedded.\n"
    return "\n".join([f"---\n{head}---\n", "# Manifests\n", loading, media, *sections])


def _audited(path: Path) -> str:
    """Return what an audit found, as a table; empty if nobody has read the file's rows."""
    marks = read_marks(path)
    if not marks:
        return ""
    rates = error_rates(
        [row for row in read_samples(path).to_pylist() if row["id"] in marks], marks
    )
    lines = [("rule", "read", *MARKS, "errors (95 %)"), ("---",) * (len(MARKS) + 3), *rates]
    return "\nRead row by row:\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def push_dataset(files: Sequence[Path], repo: str, *, private: bool = True) -> str:
    """Upload manifests and their card to a data set repository and return its address."""
    from huggingface_hub import HfApi

    api = HfApi()
    where = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
    uploads = [(str(path), f"data/{path.name}") for path in files]
    # The card comes last, so that a data set with a card is whole.
    for content, name in (*uploads, (dataset_card(files).encode(), "README.md")):
        api.upload_file(
            path_or_fileobj=content, path_in_repo=name, repo_id=repo, repo_type="dataset"
        )
    return str(where)


def rows_of(values: Mapping[str, Any]) -> str:
    """Write names and values as a Markdown table; values are code, so they hold no markup.

    >>> print(rows_of({"seed": 0}))
    | | |
    |---|---|
    | seed | `0` |
    """
    lines = ["| | |", "|---|---|"]
    for name, value in values.items():
        written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines.append(f"| {_plain(name)} | `{_plain(written)}` |")
    return "\n".join(lines)


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("`", "'").replace("|", "\\|")
