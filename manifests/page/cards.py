"""The card of a data set on the Hub, written from the metadata of its files and their audits.

Files need different names, because they keep only their names on the Hub.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.audit import MARKS, error_rates, read_marks
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.parquet import read_about, read_samples, read_valid
from nontrivial.manifests.schema import is_embeddings
from nontrivial.manifests.shortcuts import best_shortcut

if TYPE_CHECKING:
    import pyarrow as pa

TASKS = {"video_qa": "video-text-to-text", "reid_pair": "image-text-to-text"}


def dataset_card(
    files: Sequence[Path], parts: Mapping[str, Mapping[str, str]] | None = None
) -> str:
    """Write a README.md: how each file was made, its counts, how to load it.

    `parts` are the files on the Hub by configuration and split; without it, each manifest is one.
    Raises `BadInput` for a file that is no samples table or has no metadata.
    """
    import yaml

    sections, tasks = [], set()
    origins: dict[str, Any] = {}
    for path in files:
        content = read_valid(path)
        if is_embeddings(content):
            raise BadInput(f"{path}: is no samples table; a card describes manifests/*.parquet")
        names = content.column("task").unique().to_pylist()
        tasks |= {TASKS.get(name, "image-text-to-text") for name in names}
        about = public(read_about(path))
        origins |= _mapping(about, "origins")
        rows = f"{len(content):,} rows of {', '.join(sorted(names))}."
        made = f"{_by_split(content)}\n{_unseen(about)}{rows_of(about)}"
        sections.append(f"## {path.stem}\n\n{rows} {made}\n{_audited(path)}")
    configs = _configs(files, parts)
    # The sources have licences of their own, and what is made of them has theirs.
    facts = {"license": "other", "task_categories": sorted(tasks), "configs": configs}
    head = yaml.safe_dump(facts, sort_keys=False)
    text = [f"---\n{head}---\n", "# Manifests\n", _loading(files, parts), _MEDIA, _of(origins)]
    return "\n".join([*text, *sections])


def public(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a manifest without folders of the machine that made it."""
    told = {name: value for name, value in about.items() if name != "media_root"}
    options = _mapping(told, "options")
    kept = {name: value for name, value in options.items() if name not in ("root", "out")}
    return told | ({"options": kept} if options else {})


_MEDIA = """Images and clips are in the tables only where they were embedded. Most data sets of
people and of films may be used for research and not be passed on, so by default media are left out.
The columns `images` and `videos` then name files of the sources, by paths relative to the folder
that holds the data sets (`--media_root`).
"""


def _loading(files: Sequence[Path], parts: Mapping[str, Mapping[str, str]] | None) -> str:
    call = 'load_dataset("parquet", data_files="data/*.parquet")'
    if parts:
        name, splits = next(iter(parts.items()))
        call = f"load_dataset(FOLDER_OR_REPO, {name!r}, split={next(iter(splits))!r})"
    return f"```python\nfrom datasets import load_dataset\n\nsamples = {call}\n```\n"


def _configs(
    files: Sequence[Path], parts: Mapping[str, Mapping[str, str]] | None
) -> list[dict[str, Any]]:
    if parts is None:
        return [{"config_name": path.stem, "data_files": f"data/{path.name}"} for path in files]
    splits = {
        name: [{"split": split, "path": file} for split, file in of_config.items()]
        for name, of_config in parts.items()
    }
    return [{"config_name": name, "data_files": listed} for name, listed in splits.items()]


def _of(origins: Mapping[str, Any]) -> str:
    """Return where the sources come from, and how their licences stand."""
    if not origins:
        return "The sources of these tables, and so their licences, were not recorded.\n"
    return (
        f"Sources, with their licence where their page names one:\n\n{rows_of(origins)}\n\n"
        "What is made of a source is under its licence. Where none is named, ask its authors "
        "before you pass anything on.\n"
    )


def _by_split(content: pa.Table) -> str:
    counts = content.column("split").value_counts().to_pylist()
    return ", ".join(f"{row['counts']:,} {row['values']}" for row in counts) + ".\n"


def _unseen(about: Mapping[str, Any]) -> str:
    """Return the best rules that answer without looking, as a table; empty if none was measured."""
    found = {}
    for when, best in _mapping(about, "blind").items():
        for score in ("soft", "strict"):
            rule = _mapping(best, score)
            if isinstance(rule.get("score"), int | float):
                found[f"{when}, {score}"] = f"{rule.get('strategy')} {rule['score']:.3f}"
    if shortcut := best_shortcut(about):
        found["pairs"] = "{} {:.3f}".format(*shortcut)
    return f"Best rules that answer without looking:\n\n{rows_of(found)}\n\n" if found else ""


def _mapping(values: Any, name: str) -> Mapping[str, Any]:
    value = values.get(name) if isinstance(values, Mapping) else None
    return value if isinstance(value, Mapping) else {}


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
