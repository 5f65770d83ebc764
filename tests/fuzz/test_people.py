"""Data sets of people: any names of files and any lists give a sound table, or an error."""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from nontrivial.builders.reid.sources import SOURCES, read_source
from nontrivial.builders.reid.sources.data_set import ROLES, SCHEMA
from nontrivial.builders.reid.vector_cache import file_key
from nontrivial.manifests.errors import BadInput
from tests.builders.reid.market import LAYOUTS, LISTS, Shot
from tests.builders.reid.test_sources import cuhk03_mat
from tests.builders.reid.test_tracklets import write_mars
from tests.fuzz.damage import each, other_bytes, other_text, strange, tries

SHOTS = [
    Shot(part, pid, camera, 1 + (camera > 1), 10 * pid + camera)
    for part, pid, camera in itertools.product(("train", "query", "gallery"), (1, 2), range(1, 6))
]
COUNT = tries(150) // len(SHOTS) + 1
SPECS = {"folder": r"folder=.*?(?P<pid>\d+)_c(?P<camid>.)[^/]*", "table": "table={file}"}
BOXES = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
MARKET = ("market1501", lambda s: f"{BOXES[s.part]}/{s.pid:04d}_c{s.camera}s1_{s.frame:06d}_00.jpg")


def other_name(name: str, rng: random.Random) -> str:
    """Change a part of a file's path; halves of characters stand for names that are no text."""
    parts = name.split("/")
    place = rng.randrange(len(parts))
    return "/".join([*parts[:place], other_text(parts[place], rng), *parts[place + 1 :]])[:250]


def write_tree(root: Path, source: str, rng: random.Random) -> None:
    """Write empty files with some odd names, and damaged lists of them."""
    folder, name = LAYOUTS.get(source, MARKET)
    for shot in SHOTS:
        path = name(shot) if rng.random() < 0.7 else other_name(name(shot), rng)
        with suppress(OSError, ValueError):  # no name of a file on this machine
            target = root / folder / path.lstrip("/").replace("..", "")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.mkdir() if rng.random() < 0.02 else target.touch()
    if source in LISTS and (root / folder).is_dir():  # an empty name makes it a file
        known = set((root / folder).iterdir())
        LISTS[source](root / folder, SHOTS)
        for file in set((root / folder).iterdir()) - known:
            file.write_bytes(other_list(file.read_bytes(), rng))


def other_list(data: bytes, rng: random.Random) -> bytes:
    """Change some lines of a list, or some entries of a JSON list, and sometimes any bytes."""
    text = data.decode()
    if text.startswith("["):
        entries = json.loads(text)
        for _ in range(rng.choice([0, 1, 3])):
            entries = strange(entries, rng)
        data = json.dumps(entries).encode()
    else:
        lines = [line if rng.random() < 0.7 else other_text(line, rng) for line in text.split("\n")]
        data = "\n".join(lines).encode("utf-8", "replace")
    return other_bytes(data, rng) if rng.random() < 0.1 else data


def write_table(file: Path, rng: random.Random) -> None:
    """Write a table of people whose columns and values are odd, as csv or Parquet."""
    columns = ["path", "pid", "camid", *rng.sample(["role", "split", "name", "frame"], 2)]
    rows: list[dict[str, Any]] = []
    for shot in SHOTS:
        row = {"path": MARKET[1](shot), "pid": f"{shot.pid:04d}", "camid": str(shot.camera)}
        row |= {"role": "", "split": "train", "name": str(len(rows)), "frame": str(shot.frame)}
        row = {name: row[name] for name in columns}
        changed = strange(row, rng) if rng.random() < 0.2 else row
        rows.append(changed if isinstance(changed, dict) else row)
    if file.suffix == ".parquet":
        texts = [{name: str(row.get(name, "")) for name in columns} for row in rows]
        frame = pl.DataFrame([{k: encodable(v) for k, v in row.items()} for row in texts])
        with suppress(pl.exceptions.PolarsError):  # a cast of all to a number fails often
            name = rng.choice(columns)
            kind = rng.choice([pl.Int64, pl.Binary, pl.Categorical, pl.List(pl.String), pl.Float64])
            frame = frame.with_columns(pl.col(name).cast(kind))
        frame.write_parquet(file)
    else:
        with file.open("w", encoding="utf-8", errors="replace", newline="") as opened:
            writer = csv.DictWriter(opened, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    if rng.random() < 0.2:
        file.write_bytes(other_bytes(file.read_bytes(), rng))


def encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def check(rng: random.Random, source: str, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    spec = SPECS.get(source, source).format(file=root / rng.choice(["a.csv", "a.parquet"]))
    if source == "table":
        write_table(Path(spec.partition("=")[2]), rng)
    else:
        write_tree(root, source, rng)
    for split in ("train", "test"):
        read(spec, root, split)


def read(spec: str, root: Path, split: str) -> None:
    """What is listed fits its columns and splits; a reason or an error tells of the rest."""
    try:
        found = read_source(spec, root, split)
    except (BadInput, NotADirectoryError, IsADirectoryError) as error:
        named = (str(root), spec.partition("=")[0].split(":")[0])
        if not any(name in str(error) for name in named):
            raise AssertionError(f"names no file: {error}") from error
        return
    frame = found.frame
    assert list(frame.columns) == list(SCHEMA)
    assert set(frame["role"]) <= set(ROLES[split])
    assert frame["name"].n_unique() == len(frame)
    assert frame["path"].is_sorted()
    assert all(count > 0 for count in found.ignored.values())
    assert all(len(file_key(root, path)) == 32 for path in frame["path"].to_list())


LISTED = [name for name in SOURCES if name not in ("mars", "cuhk03")]


@pytest.mark.parametrize("source", LISTED)
def test_any_folder_of_people_gives_a_sound_table_or_an_error(tmp_path, source):
    each(COUNT, partial(check, source=source, root=tmp_path / "data"), salt=source)


def files_of(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix in (".mat", ".txt"))


@pytest.mark.parametrize("source", ["mars", "cuhk03"])
def test_any_damage_of_matlab_files_is_named(tmp_path, source):
    if source == "mars":
        folder = write_mars(tmp_path) / "MARS"
    else:
        folder = tmp_path / "cuhk03"
        cuhk03_mat(folder, np.random.default_rng(0))
    whole = {path: path.read_bytes() for path in files_of(folder)}
    read_source(source, tmp_path, "test")

    def check_files(rng: random.Random) -> None:
        shutil.rmtree(folder / "images_detected", ignore_errors=True)
        for path, data in whole.items():
            path.write_bytes(other_bytes(data, rng) if rng.random() < 0.5 else data)
        read(source, tmp_path, rng.choice(["train", "test"]))
        assert not any(name.startswith(".unpacking") for name in os.listdir(folder))

    each(COUNT, check_files, salt=source)
