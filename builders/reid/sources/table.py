"""Your own data set: a table that lists its images.

`--source table=FILE` takes a csv or Parquet file with one row per image and the columns `path`
(under the root), `pid` and `camid`; optional are `clothes`, `split`, `role` (train, query, gallery,
distractor, junk), `name`, `sequence` and `frame` (the number of the frame in it). Rows without a
`split` belong to the requested one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from nontrivial.builders.reid.sources.data_set import ROLES, TRAIN, DataSet, Photo, number_of
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.parquet import read_table

NEEDED = ("path", "pid", "camid")
Record = Mapping[str, Any]  # values of an image by column


def data_set(variant: str) -> DataSet:
    """Describe the images that the table `variant` lists."""
    if not variant:
        raise BadInput(
            "--source table: needs table=FILE, a csv or Parquet file with path, pid, camid"
        )
    file = Path(variant)
    return own_data_set(
        "table",
        layout=f"{file} with columns path, pid, camid "
        "[clothes, split, role, name, sequence, frame]",
        records=lambda folder, ignored: _read(file),
    )


def own_data_set(
    name: str, layout: str, records: Callable[[Path, Counter[str]], Iterable[Record]]
) -> DataSet:
    """Describe a data set that lies in the root itself and has no published counts."""

    def scan(folder: Path, split: str, ignored: Counter[str]) -> Iterator[Photo]:
        return photos(list(records(folder, ignored)), name, split)

    return DataSet(name, (".",), layout, "yours", published={}, scan=scan)


def photos(records: Iterable[Record], source: str, split: str) -> Iterator[Photo]:
    """Yield the records of one split as photos; non-numeric cameras are numbered in name order.

    Raises `BadInput` for a record without a path, identity or camera, or with a role that its split
    does not have.
    """
    kept = [row for row in records if (row.get("split") or split) == split]
    cameras = sorted({row.get("camid") or "" for row in kept})
    numeric = all(name.isdecimal() for name in cameras)
    numbers = {name: number_of(name) if numeric else place for place, name in enumerate(cameras, 1)}
    for row in kept:
        if lacking := [key for key in NEEDED if not row.get(key)]:
            raise BadInput(f"{source}: an image has no {', '.join(lacking)}: {dict(row)}")
        role = row.get("role") or (TRAIN if split == "train" else None)
        if role not in ROLES[split]:
            raise BadInput(
                f"{source}: {row['path']} has the role {role!r}; "
                f"images of split {split!r} need one of {', '.join(ROLES[split])}"
            )
        path = row["path"]
        name = row.get("name") or path.rpartition(".")[0] or path
        number = row.get("frame")
        if number and not number.isdecimal():
            raise BadInput(f"{source}: {path} has the frame {number!r}; needs a number")
        yield Photo(
            path,
            row["pid"],
            numbers[row["camid"]],
            role,
            row.get("clothes"),
            name,
            row.get("sequence"),
            number_of(number) if number else None,
        )


def _read(file: Path) -> Sequence[Record]:
    """Read all values as text, so that an identity 0007 keeps its zeros."""
    spec = f"--source table={file}"
    if not file.is_file():
        raise BadInput(f"{spec}: no such file")
    try:
        if file.suffix == ".parquet":
            frame = pl.DataFrame(pl.from_arrow(read_table(file)))
        else:
            frame = pl.read_csv(file, infer_schema=False)
        rows = frame.cast(pl.String).to_dicts()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(f"{spec}: cannot be read as csv or Parquet ({error})") from error
    if absent := [name for name in NEEDED if name not in frame.columns]:
        raise BadInput(f"{spec}: has no column {', '.join(absent)}; it has {frame.columns}")
    return rows
