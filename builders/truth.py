"""The truth that a synthetic data set keeps beside its files, in `truth.parquet`.

For people it holds a row an image: `path` and one column an attribute, in words. For clips it holds
a row a choice: `scene_index`, `question_id`, `choice_id` and `fact`; choice −1 of every question is
what is seen. Builders turn it into rationales.
"""

from __future__ import annotations

from pathlib import Path

FILE = "truth.parquet"


def of_people(folder: Path) -> dict[str, list[str]]:
    """Attributes of each image by its path in the folder; empty where there is no truth."""
    from nontrivial.manifests.parquet import read_table

    if not (folder / FILE).is_file():
        return {}
    rows = read_table(folder / FILE).to_pylist()
    return {row.pop("path"): [str(word) for word in row.values()] for row in rows}


def of_clips(folder: Path) -> dict[tuple[int, int], list[str]]:
    """Facts of each question by its scene and number; empty where there is no truth."""
    if not (folder / FILE).is_file():
        return {}
    import polars as pl

    key = ["scene_index", "question_id"]
    table = pl.read_parquet(folder / FILE).sort(*key, "choice_id").group_by(key).agg("fact")
    return {(scene, number): facts for scene, number, facts in table.iter_rows()}
