"""The truth beside the files of a synthetic data set, in `truth.parquet`.

For people it has a row per image: `path` and a column per attribute, in words. For clips it has a
row per choice: `scene_index`, `question_id`, `choice_id` and `fact`; choice −2 of each question
tells what is visible, choice −1 what follows from it. Builders turn it into rationales.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from nontrivial.manifests.errors import BadInput

FILE = "truth.parquet"
CLIPS = ("scene_index", "question_id", "choice_id", "fact")
DRAWN = "drawn by builders.synthetic in the layout of this data set"


def of_people(folder: Path) -> dict[str, list[str]]:
    """Return the attributes of each image by its path in the folder; empty without a truth."""
    rows = _rows(folder, "path")
    return {row.pop("path"): [str(word) for word in row.values()] for row in rows}


def of_clips(folder: Path) -> dict[tuple[int, int], list[str]]:
    """Return the facts of each question by its scene and number; empty without a truth."""
    facts: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for row in sorted(_rows(folder, *CLIPS), key=lambda row: [row[name] for name in CLIPS[:3]]):
        facts[row["scene_index"], row["question_id"]].append(str(row["fact"]))
    return dict(facts)


def _rows(folder: Path, *needed: str) -> list[dict[str, Any]]:
    """Return the rows of a truth; raise `BadInput` where one lacks what is needed."""
    from nontrivial.manifests.parquet import read_table

    file = folder / FILE
    rows = read_table(file).to_pylist() if file.is_file() else []
    types = {name: int if name.endswith(("_id", "_index")) else str for name in needed}
    for row in rows:
        for name, kind in types.items():
            if type(row.get(name)) is not kind:
                raise BadInput(f"{file}: a row has no {kind.__name__} in {name!r}: {row}")
    return rows
