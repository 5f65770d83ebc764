"""Read annotations: JSON, JSON Lines, csv, Parquet, packed by gzip or not, or from the Hub."""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nontrivial.manifests import hub
from nontrivial.manifests.errors import BadInput

BROKEN = "\0broken"  # key of an unreadable record, whose value is the reason
KEY = "key"  # column that holds a record's key where a file maps keys to records
_MAX_CELL = 2**27  # characters
# A packed file that grows beyond both is taken for an attack; annotations grow about tenfold.
_MOST_PACKED = 2**26  # bytes
_MOST_GROWTH = 100


def read(path: Path) -> Any:
    """Read an annotation file: usually a list of records, for some benchmarks a mapping.

    An unreadable line of JSON Lines or csv becomes `{BROKEN: reason}`, so that it is counted.
    Raises `BadInput` if the file as a whole cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix == ".parquet":
        from nontrivial.manifests.parquet import read_table

        return read_table(path).to_pylist()
    data, kind = path.read_bytes(), path.suffix
    if kind == ".gz":
        data, kind = _unpacked(path, data), path.with_suffix("").suffix
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not UTF-8 text ({error})") from error
    if not content.strip():
        raise BadInput(f"{path}: is empty, not a file of questions")
    if kind in (".csv", ".tsv"):
        header = content.partition("\n")[0]
        is_tabbed = kind == ".tsv" or ("\t" in header and "," not in header)
        return _read_csv(path, content, "excel-tab" if is_tabbed else "excel")
    if kind in (".jsonl", ".ndjson"):
        return _read_lines(path, content)
    return _read_json(path, content)


def read_hub(name: str, split: str) -> list[dict[str, Any]]:
    """Return the records of `datasets.load_dataset(name, split=split)`.

    `name:config` picks a config; a local folder in the Hub's form works as well. Media columns are
    dropped, because only texts are needed.
    """
    import datasets

    name, _, config = name.partition(":")
    hub.prepare(name)
    try:
        table = datasets.load_dataset(name, config or None, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise BadInput(f"--hub {name}: cannot be loaded, split {split!r}: {error}") from error
    kinds = (datasets.Image, datasets.Audio, datasets.Video)
    media = [column for column, feature in table.features.items() if isinstance(feature, kinds)]
    return table.remove_columns(media).to_list()


def records_of_a_list(content: Any, folder: Path) -> Iterator[Any]:
    """Yield the records of a file that is a list of them, or that holds such a list.

    A mapping may hold the one list (`{"version": 1, "questions": [...]}`), records by key
    (`{"7_1": {...}}`), or lists of records by key (`{"video_7": [...]}`); the key becomes the
    column `key`.
    """
    if isinstance(content, list):
        yield from content
        return
    if not isinstance(content, Mapping) or not content:
        raise BadInput(f"needs a list of records, holds a {type(content).__name__}")
    lists = {key: value for key, value in content.items() if _is_list_of_records(value)}
    if len(lists) == len(content) > 1:
        for key, values in lists.items():
            for value in values:
                yield {KEY: key, **value}
    elif all(isinstance(value, Mapping) for value in content.values()):
        for key, value in content.items():
            yield {KEY: key, **value}
    elif len(lists) == 1:
        yield from next(iter(lists.values()))
    else:
        raise BadInput(f"needs a list of records, holds a mapping of {sorted(content)[:5]}")


def _is_list_of_records(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _unpacked(path: Path, data: bytes) -> bytes:
    """Unpack gzip members one after the other, never far beyond what annotations need."""
    most = max(_MOST_PACKED, _MOST_GROWTH * len(data))
    parts, size = [], 0
    try:
        while data:
            packer = zlib.decompressobj(zlib.MAX_WBITS | 16)
            parts.append(packer.decompress(data, most + 1 - size))
            size += len(parts[-1])
            if size > most:
                raise BadInput(f"{path}: unpacks to more than {most >> 20} MiB; unpack it yourself")
            if not packer.eof:
                raise BadInput(f"{path}: ends in the middle of its packed data")
            data = packer.unused_data
    except zlib.error as error:
        raise BadInput(f"{path}: is not a readable gzip file ({error})") from error
    return b"".join(parts)


def _read_json(path: Path, content: str) -> Any:
    try:
        return json.loads(content)
    except RecursionError as error:
        raise BadInput(f"{path}: is nested too deeply") from error
    except ValueError as error:
        if not content.lstrip().startswith("{") or content.strip().count("\n") == 0:
            raise BadInput(f"{path}: is neither JSON nor JSON Lines ({error})") from error
    return _read_lines(path, content)


def _read_lines(path: Path, content: str) -> list[Any]:
    records = [_read_line(line) for line in content.split("\n") if line.strip()]
    if all(BROKEN in record for record in records):
        raise BadInput(f"{path}: is neither JSON nor JSON Lines")
    return records


def _read_line(line: str) -> Any:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {BROKEN: "is not JSON"}
    return record if isinstance(record, dict) else {BROKEN: "is not a record"}


def _read_csv(path: Path, content: str, dialect: str) -> list[dict[str, Any]]:
    csv.field_size_limit(_MAX_CELL)
    try:
        reader = csv.DictReader(io.StringIO(content, newline=""), dialect=dialect)
        return [
            {BROKEN: f"line {reader.line_num}: more cells than the header"} if None in row else row
            for row in reader
        ]
    except csv.Error as error:
        raise BadInput(f"{path}: is not a readable csv file ({error})") from error
