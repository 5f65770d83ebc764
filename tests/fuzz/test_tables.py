"""Damaged tables: every command that reads them either works or names what is wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nontrivial.manifests.__main__ import main
from nontrivial.manifests.schema import METADATA_KEY, embeddings_schema, samples_table
from tests.fuzz.damage import odd, other_bytes, tries
from tests.media_files import write_image
from tests.rows import many, media, reid_pair, video_question

TRIES = tries(12)
ACTIONS = ("validate", "stats", "show", "card", "gallery")
KINDS = ("samples", "embeddings", "quarantine")


def whole(kind: str, folder: Path) -> pa.Table:
    """A sound table of each kind."""
    about = {"builder": "tests", "media_root": str(folder), "options": {"a": [1]}, "seed": 0}
    if kind == "samples":
        data = write_image(folder / "a.jpg").read_bytes()
        described = reid_pair("told", task="reid_text", images=[media("a.jpg")])
        embedded = reid_pair("x", images=[media("a.jpg", data), media("b", data)], reid=None)
        rows = [*many(3), described, embedded | {"reid": reid_pair()["reid"]}]
        table = samples_table([*rows, video_question("v"), video_question("w", clips=None)])
    elif kind == "embeddings":
        columns = {name: list("abcd") for name in ("path", "source", "pid", "clothes")}
        columns |= {"split": ["test"] * 4, "role": ["query"] * 4, "camid": [1, 2, None, 4]}
        columns["vector_stripes"] = np.eye(4, 8).tolist()
        table = pa.table(columns, schema=embeddings_schema({"stripes": 8}))
    else:
        texts = ("anchor_path", "anchor_pid", "candidate_path", "candidate_pid", "reason")
        columns = {name: ["a.jpg", "b.jpg"] for name in texts}
        numbers = ("anchor_camid", "candidate_camid", "similarity", "margin")
        table = pa.table(columns | {name: [1, 2] for name in numbers})
    return table.replace_schema_metadata({METADATA_KEY: json.dumps(about)})


def written(table: pa.Table, path: Path) -> bytes:
    pq.write_table(table, path, compression="zstd", row_group_size=3, write_page_checksum=True)
    return path.read_bytes()


def with_other_bytes(table: pa.Table, path: Path, rng: random.Random) -> None:
    """Cut the file, or change, repeat, leave out bytes of it, mostly of its footer."""
    data = written(table, path)
    footer = len(data) - int.from_bytes(data[-8:-4], "little") - 8
    path.write_bytes(other_bytes(data, rng, footer))


def with_other_values(table: pa.Table, path: Path, rng: random.Random) -> None:
    """Change values of rows; those that no column of this type can hold become null."""
    rows = table.to_pylist()
    for _ in range(rng.choice([1, 2, 5])):
        place = rng.randrange(len(rows))
        rows[place] = odd(rows[place], rng) or rows[place]
    arrays = []
    for field in table.schema:
        values = [row[field.name] for row in rows]
        try:
            arrays.append(pa.array(values, field.type))
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            arrays.append(pa.nulls(len(rows), field.type))
    written(pa.Table.from_arrays(arrays, schema=table.schema), path)


TYPES = [
    *(pa.null(), pa.string(), pa.large_string(), pa.binary(), pa.int8(), pa.float32(), pa.bool_()),
    *(pa.date32(), pa.timestamp("ns"), pa.decimal128(5), pa.list_(pa.string()), pa.binary(3)),
    *(pa.list_(pa.float64(), 3), pa.struct([("a", pa.int8())]), pa.map_(pa.string(), pa.int8())),
    *(pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.list_(pa.struct([("b", pa.null())])))),
]


def with_other_columns(table: pa.Table, path: Path, rng: random.Random) -> None:
    """Drop, rename, repeat, retype columns, or change what the metadata hold."""
    for _ in range(rng.choice([1, 2])):
        place = rng.randrange(table.num_columns)
        name = table.column_names[place]
        change = rng.randrange(6)
        if change == 0 and table.num_columns > 1:
            table = table.remove_column(place)
        elif change == 1:
            other = rng.choice([*table.column_names, "vector_", "", "é", "x" * 300])
            names = [*table.column_names]
            names[place] = other
            table = table.rename_columns(names)
        elif change == 2:
            table = table.append_column(name, table.column(place))
        elif change == 3:
            about = rng.choice([b"", b"null", b"[]", b"\xff", b"[" * 9999, b'{"media_root": 1}'])
            table = table.replace_schema_metadata({METADATA_KEY: about})
        elif change == 4:
            table = table.slice(0, 0)
        else:
            kind = rng.choice(TYPES)
            try:
                other = table.column(place).cast(kind)
            except pa.ArrowException:
                other = pa.nulls(len(table), kind)
            table = table.set_column(place, name, other)
    try:
        written(table, path)
    except pa.ArrowException:  # a type that Parquet does not have
        written(table.select([]), path)


@pytest.mark.parametrize("damage", [with_other_bytes, with_other_values, with_other_columns])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_table_is_named_or_read(
    tmp_path: Path, monkeypatch, capsys, kind: str, damage: Callable[..., None]
):
    monkeypatch.chdir(tmp_path)
    table, path = whole(kind, tmp_path), tmp_path / "some.parquet"
    written(table, path)
    sound = {action: main([action, str(path)]) for action in ACTIONS}
    assert sound["gallery"] == (2 if kind == "embeddings" else 0)
    ends = {0: 0, 2: 0}
    for seed in range(TRIES):
        damage(table, path, random.Random(seed))
        for action in ACTIONS:
            capsys.readouterr()
            end = main([action, str(path)])
            shown = capsys.readouterr()
            ends[end] += 1
            assert "some.parquet" in (shown.err if end else shown.out + "some.parquet"), seed
            assert shown.out.replace("\n", "").replace("\t", "").isprintable(), seed
    assert ends[2], "no damage was found at all"


def bomb(path: Path, rows: int, text: str) -> Path:
    """A small file whose every row holds the same long text."""
    index = pa.array(np.zeros(rows, np.int32))
    column = pa.DictionaryArray.from_arrays(index, pa.array([text]))
    plain = pa.table({"id": column})
    pq.write_table(plain, path, compression="zstd", store_schema=False)
    return path


@pytest.mark.parametrize(
    ("rows", "length"), [(3, 2**27), (2**16, 2**14), (2**24, 1)], ids=["long", "repeated", "many"]
)
def test_a_table_that_would_fill_the_memory_is_refused(tmp_path, capsys, monkeypatch, rows, length):
    from nontrivial.manifests import parquet

    monkeypatch.setattr(parquet, "SMALL_DECODED", 2**26)
    path = bomb(tmp_path / "bomb.parquet", rows, "x" * length)
    assert path.stat().st_size < 2**18
    assert main(["stats", str(path)]) == 2
    assert "bomb.parquet: would take" in capsys.readouterr().err


def test_embedded_media_and_repeated_texts_are_far_from_the_limit(tmp_path, monkeypatch):
    from nontrivial.manifests import parquet

    data = write_image(tmp_path / "a.jpg").read_bytes()
    rows = many(2000, images=[media("a.jpg", data), media("b.jpg", data)])
    parquet.write_samples(samples_table(rows), tmp_path / "m.parquet", {})
    monkeypatch.setattr(parquet, "SMALL_UNPACKED", 0)
    monkeypatch.setattr(parquet, "SMALL_DECODED", 0)
    assert len(parquet.read_samples(tmp_path / "m.parquet")) == 2000
