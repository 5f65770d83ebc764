"""A data set of one's own: a table that lists its images.

A csv or Parquet file (`--source table=FILE`) with one row an image: `path` under the root, `pid`,
`camid`, and where there are any `clothes`, `split`, `role` (train, query, gallery, distractor,
junk) and `name`. Without a column `split` all rows belong to the split that is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import polars as pl

from nontrivial.builders.reid.sources.data_set import (
    DISTRACTOR,
    GALLERY,
    JUNK,
    QUERY,
    TRAIN,
    DataSet,
    Photo,
)
from nontrivial.manifests.errors import BadInput

NEEDED = ("path", "pid", "camid")
ROLES = {"train": (TRAIN,), "test": (QUERY, GALLERY, DISTRACTOR, JUNK)}


def data_set(variant: str) -> DataSet:
    """The images that a table lists."""
    if not variant:
        raise BadInput("--source table: needs table=FILE, a csv or parquet with path, pid, camid")
    file = Path(variant)
    return own_data_set(
        "table",
        layout=f"{file} with columns path, pid, camid [clothes, split, role, name]",
        records=lambda folder, ignored: _read(file),
    )


def own_data_set(
    name: str,
    layout: str,
    records: Callable[[Path, Counter[str]], Iterable[Mapping[str, str | None]]],
) -> DataSet:
    """A data set without published counts that lies in the root itself."""

    def scan(folder: Path, split: str, ignored: Counter[str]) -> Iterator[Photo]:
        return photos(list(records(folder, ignored)), name, split)

    return DataSet(name, (".",), layout, "yours", published={}, scan=scan)


def photos(records: Iterable[Mapping[str, str | None]], source: str, split: str) -> Iterator[Photo]:
    """Records of one split as photos; cameras that are no numbers are numbered by their names.

    Raises `BadInput` for a record without a path, identity or camera, or with another role than its
    split has.
    """
    kept = [row for row in records if (row.get("split") or split) == split]
    cameras = {row.get("camid") or "" for row in kept}
    numbers = {name: number for number, name in enumerate(sorted(cameras), 1)}
    if all(name.isdigit() for name in cameras):
        numbers = {name: int(name) for name in cameras}
    for row in kept:
        lacking = [key for key in NEEDED if not row.get(key)]
        if lacking:
            raise BadInput(f"{source}: an image has no {', '.join(lacking)}: {dict(row)}")
        role = row.get("role") or (TRAIN if split == "train" else None)
        if role not in ROLES[split]:
            raise BadInput(
                f"{source}: {row['path']} has the role {role!r}; "
                f"images of split {split!r} need one of {', '.join(ROLES[split])}"
            )
        path = row["path"]
        name = row.get("name") or path.rpartition(".")[0] or path
        yield Photo(path, row["pid"], numbers[row["camid"]], role, row.get("clothes"), name)


def _read(file: Path) -> list[dict[str, str | None]]:
    """All values as text, so that an identity 0007 stays what it is."""
    spec = f"--source table={file}"
    if not file.is_file():
        raise BadInput(f"{spec}: no such file")
    try:
        if file.suffix == ".parquet":
            frame = pl.read_parquet(file)
        else:
            frame = pl.read_csv(file, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(f"{spec}: cannot be read as csv or parquet ({error})") from error
    absent = [name for name in NEEDED if name not in frame.columns]
    if absent:
        raise BadInput(f"{spec}: has no column {', '.join(absent)}; it has {frame.columns}")
    return frame.cast(pl.String).to_dicts()
