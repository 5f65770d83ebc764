"""Reading and writing manifests: atomic, deterministic, self-describing.

A file is written under a temporary name in its folder and then renamed, so a file that exists is
whole. Its metadata hold one JSON object under the key `nontrivial`: content digest, schema version,
builder, options, seed, media root, encoders, counts by reason.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nontrivial.manifests.errors import BadInput, ManifestError
from nontrivial.manifests.files import atomic_path
from nontrivial.manifests.schema import (
    METADATA_KEY,
    SAMPLES,
    SCHEMA_VERSION,
    datasets_features,
    upgraded,
    validate,
)

# Rows of a row group, and of a block of the digest. Arrow cannot read a group with over 2 GiB of
# nested bytes: 256 rows may hold 8 MiB of embedded media each.
ROW_GROUP, WITH_MEDIA = 2**14, 256


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
    """Read a Parquet file; the error for a missing or damaged one names it."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; builders write manifests/*.parquet")
    try:
        table = pq.read_table(
            path,
            columns=list(columns) if columns else None,
            partitioning=None,
            page_checksum_verification=True,
        )
        table.validate(full=True)  # offsets and UTF-8, which damage may change
        _check_names(table.schema)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: is not a readable Parquet file ({error})") from error
    return table


def read_samples(path: str | os.PathLike) -> pa.Table:
    """Read and validate a samples table and cast it to the exact types of the contract."""
    table = upgraded(read_table(path))
    validate(table, str(path))
    return table.select(SAMPLES.names).cast(SAMPLES.with_metadata(table.schema.metadata))


def read_about(path: str | os.PathLike) -> dict[str, Any]:
    """Read a builder's metadata: `content_digest`, `builder`, `options`, `counts`, …"""
    try:
        metadata = pq.read_schema(path).metadata or {}
        about = json.loads(metadata.get(METADATA_KEY, b"null"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadInput(f"{path}: is not a readable Parquet file ({error})") from error
    if not isinstance(about, dict):
        raise ManifestError(
            f"{path}: was not written by a builder (no {METADATA_KEY.decode()!r} metadata)"
        )
    return about


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
    """Decode all names, nested ones too, because Arrow decodes a name only when it is read."""
    for field in fields:
        kind = field.type
        _ = field.name
        if pa.types.is_struct(kind):
            _check_names(kind)
        elif pa.types.is_nested(kind) and not pa.types.is_union(kind):
            _check_names([kind.field(0)])


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
