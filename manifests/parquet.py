"""Reading and writing manifests: atomic, deterministic, self-describing.

A file is written under a temporary name in its folder and then renamed, so a file that exists is
whole. Its metadata hold one JSON object under the key `nontrivial`: content digest, schema version,
builder, options, seed, media root, encoders, counts by reason.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nontrivial.manifests.errors import BadInput, ManifestError
from nontrivial.manifests.files import atomic_path
from nontrivial.manifests.footer import sizes
from nontrivial.manifests.schema import (
    METADATA_KEY,
    SAMPLES,
    SCHEMA_VERSION,
    datasets_features,
    is_embeddings,
    upgraded,
    validate,
    validate_embeddings,
)

# Rows of a row group, and of a block of the digest. Arrow cannot read a group with over 2 GiB of
# nested bytes: 256 rows may hold 8 MiB of embedded media each.
ROW_GROUP, WITH_MEDIA = 2**14, 256
# A file that grows beyond `GROWTH` times its size is taken for an attack, unless it stays small.
# Manifests grow twentyfold at most, embedded media not at all.
GROWTH, SMALL_UNPACKED, SMALL_DECODED = 1000, 2**26, 2**30  # bytes
AT_ONCE = 2**28  # bytes that a batch of rows may grow to if all rows hold a column's longest value


def write_samples(table: pa.Table, path: str | os.PathLike, about: Mapping[str, Any]) -> str:
    """Validate a samples table, write it sorted by id, and return its content digest."""
    table = upgraded(table)
    table = table.select(SAMPLES.names).cast(SAMPLES)
    if not _ascends(table["id"].combine_chunks()):
        table = table.sort_by("id")
    validate(table, str(path))
    return write_table(table, path, about, extra={b"huggingface": datasets_features()})


def write_table(
    table: pa.Table,
    path: str | os.PathLike,
    about: Mapping[str, Any],
    extra: Mapping[bytes, bytes] | None = None,
) -> str:
    """Write a table with its metadata, atomically, and return its content digest."""
    digest = content_digest(table)
    record = {"content_digest": digest, "schema_version": SCHEMA_VERSION, **about}
    metadata = {METADATA_KEY: json.dumps(record, sort_keys=True, default=str).encode()}
    table = table.replace_schema_metadata({**(extra or {}), **metadata})
    with atomic_path(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            row_group_size=min(map(_rows_at_once, table.columns), default=ROW_GROUP),
            write_page_checksum=True,
        )
    return digest


def samples_path(out: str | os.PathLike, name: str, split: str) -> Path:
    """Return the path of a samples table: in eval/ unless `train.grpo out/*.parquet` may read it.

    >>> samples_path("manifests", "some", "test").as_posix()
    'manifests/eval/some_test.parquet'
    """
    name = f"{name}.parquet" if split == "train" else f"eval/{name}_{split}.parquet"
    return Path(out, name)


def read_table(path: str | os.PathLike, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file; the error for a missing or damaged one names it.

    Raises `BadInput` for a file that would fill the memory: what it says of its size is checked
    before its rows are read, what they take as they are read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; builders write manifests/*.parquet")
    with _readable(path):
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_growth(path)
            table = _read_rows(file, path, list(columns) if columns else None)
        table.validate(full=True)  # offsets and UTF-8, which damage may change
        _check_metadata(table.schema)
        _check_names(table.schema)
    return table


def read_valid(path: str | os.PathLike) -> pa.Table:
    """Read a samples or embeddings table; raise `ManifestError` if it breaks the contract."""
    table = read_table(path)
    if not is_embeddings(table):
        return _samples(table, path)
    validate_embeddings(table, str(path))
    return table


def read_samples(path: str | os.PathLike) -> pa.Table:
    """Read and validate a samples table and cast it to the exact types of the contract."""
    return _samples(read_table(path), path)


def _samples(table: pa.Table, path: str | os.PathLike) -> pa.Table:
    table = upgraded(table)
    validate(table, str(path))
    return table.select(SAMPLES.names).cast(SAMPLES.with_metadata(table.schema.metadata))


def read_about(path: str | os.PathLike) -> dict[str, Any]:
    """Read a builder's metadata: `content_digest`, `builder`, `options`, `counts`, …"""
    with _readable(path):
        metadata = pq.read_schema(path).metadata or {}
        about = json.loads(metadata.get(METADATA_KEY, b"null"))
    if not isinstance(about, dict):
        raise ManifestError(
            f"{path}: was not written by a builder (no {METADATA_KEY.decode()!r} metadata)"
        )
    return about


def rows_in(path: str | os.PathLike) -> int:
    """Return the number of rows that a file's footer tells."""
    with _readable(path):
        return pq.read_metadata(path).num_rows


@contextmanager
def _readable(path: str | os.PathLike) -> Iterator[None]:
    """Turn what missing and damaged files make Arrow raise into errors that name the file."""
    try:
        yield
    except BadInput:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file") from error
    except (pa.ArrowException, OSError, ValueError, MemoryError, RecursionError) as error:
        raise BadInput(f"{path}: is not a readable Parquet file ({error})") from error


def content_digest(table: pa.Table) -> str:
    """Return the SHA-256 of a table's column names, row order, nulls and values.

    It does not depend on chunks, slices, dictionaries or the order of columns. Rows are digested
    block by block, because embedded media are too large to be copied at once.
    """
    digest = hashlib.sha256()
    for name in sorted(table.column_names):
        digest.update(f"{name}\0{len(table)}\0".encode())
        rows = _rows_at_once(table.column(name))
        for start in range(0, len(table), rows):
            _digest_array(digest, table.column(name).slice(start, rows).combine_chunks())
    return digest.hexdigest()


def _check_growth(path: Path) -> None:
    """Raise `BadInput` for row groups that are packed too well, or that repeat too much."""
    told = sizes(path)
    # Of a column that repeats itself, or is null, only the number of its values tells its size.
    unpacked = sum(max(size, 8 * values) for values, size in told.columns)
    _bound(max(unpacked, told.rows), SMALL_UNPACKED, path)


def _read_rows(file: pq.ParquetFile, path: Path, columns: list[str] | None) -> pa.Table:
    """Read all rows, in batches that stay small where one long value is repeated."""
    batches, size = [], 0
    for number in range(file.num_row_groups):
        longest = max(1, file.metadata.row_group(number).total_byte_size)
        rows = min(max(1, AT_ONCE // longest), ROW_GROUP)
        for batch in file.iter_batches(batch_size=rows, row_groups=[number], columns=columns):
            batches.append(batch)
            size += batch.nbytes
            _bound(size, SMALL_DECODED, path)
    schema = file.schema_arrow
    if columns:
        if lacking := set(columns) - set(schema.names):
            raise BadInput(f"{path}: has no column {', '.join(sorted(lacking))}")
        schema = pa.schema([schema.field(name) for name in columns])
    return pa.Table.from_batches(batches, schema)


def _bound(size: int, small: int, path: Path) -> None:
    most = max(small, GROWTH * path.stat().st_size)
    if size > most:
        raise BadInput(
            f"{path}: would take {size >> 20} MiB of memory, more than {GROWTH} times its size; "
            "it is damaged or was made to fill the memory"
        )


def _ascends(names: pa.StringArray) -> bool:
    return bool(pc.all(pc.less_equal(names[:-1], names[1:]), skip_nulls=False).as_py())


def _rows_at_once(column: pa.ChunkedArray) -> int:
    return WITH_MEDIA if any(map(_holds_bytes, column.chunks)) else ROW_GROUP


def _holds_bytes(array: pa.Array) -> bool:
    """True for an array with a binary value, however deeply nested."""
    kind = array.type
    if pa.types.is_struct(kind):
        return any(map(_holds_bytes, array.flatten()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _holds_bytes(array.flatten())
    is_binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return is_binary and array.null_count < len(array)


def _check_names(fields: Iterable[pa.Field]) -> None:
    """Decode all names and metadata, nested too, because Arrow decodes them only when asked."""
    for field in fields:
        kind = field.type
        _ = field.name
        _check_metadata(field)
        if pa.types.is_struct(kind):
            _check_names(kind)
        elif pa.types.is_nested(kind) and not pa.types.is_union(kind):
            _check_names([kind.field(0)])


def _check_metadata(of: pa.Schema | pa.Field) -> None:
    """Decode metadata, because polars ends with a panic where they are no text."""
    for part in (part for item in (of.metadata or {}).items() for part in item):
        part.decode()


def _digest_array(digest: hashlib._Hash, array: pa.Array) -> None:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    digest.update(array.is_valid().cast(pa.uint8()).to_numpy(zero_copy_only=False).tobytes())
    if pa.types.is_struct(kind):
        for field, values in zip(kind, array.flatten(), strict=True):
            digest.update(field.name.encode() + b"\0")
            _digest_array(digest, values)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        digest.update(_lengths(pc.list_value_length(array)))
        _digest_array(digest, array.flatten())
    elif pa.types.is_fixed_size_list(kind):
        _digest_array(digest, array.flatten())
    elif pa.types.is_null(kind):
        return
    elif pa.types.is_primitive(kind):
        values = array.cast(pa.uint8()) if pa.types.is_boolean(kind) else array
        digest.update(values.fill_null(0).to_numpy(zero_copy_only=False).tobytes())
    else:  # strings and binaries
        values = array.cast(pa.large_binary()).fill_null(b"")
        digest.update(_lengths(pc.binary_length(values)))
        digest.update(_content(values))


def _content(values: pa.LargeBinaryArray) -> memoryview:
    """Return all values, one after the other, without a copy."""
    _, offsets, content = values.buffers()
    if content is None or not len(values):
        return memoryview(b"")
    bounds = np.frombuffer(offsets, np.int64)[values.offset :]
    return memoryview(content)[bounds[0] : bounds[len(values)]]


def _lengths(lengths: pa.Array) -> bytes:
    return lengths.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).tobytes()
