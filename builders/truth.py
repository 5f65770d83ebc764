"""The truth beside the files of a synthetic data set, in `truth.parquet`.

For people it has a row per image: `path` and a column per attribute, in words. For clips it has a
row per choice: `scene_index`, `question_id`, `choice_id` and `fact`; choice −2 of each question
tells what is visible, choice −1 what follows from it. Builders turn it into rationales.
"""

from __future__ import annotations

from pathlib import Path

FILE = "truth.parquet"
DRAWN = "drawn by builders.synthetic in the layout of this data set"


def of_people(folder: Path) -> dict[str, list[str]]:
    """Return the attributes of each image by its path in the folder; empty without a truth."""
    from nontrivial.manifests.parquet import read_table

    if not (folder / FILE).is_file():
        return {}
    rows = read_table(folder / FILE).to_pylist()
    return {row.pop("path"): [str(word) for word in row.values()] for row in rows}


def of_clips(folder: Path) -> dict[tuple[int, int], list[str]]:
    """Return the facts of each question by its scene and number; empty without a truth."""
    if not (folder / FILE).is_file():
        return {}
    import polars as pl

    key = ["scene_index", "question_id"]
    table = pl.read_parquet(folder / FILE).sort(*key, "choice_id").group_by(key).agg("fact")
    return {(scene, number): facts for scene, number, facts in table.iter_rows()}
