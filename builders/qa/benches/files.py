"""Read annotations: JSON, JSON Lines, csv, Parquet, or a data set on the Hub."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from nontrivial.manifests.errors import BadInput

BROKEN = "\0broken"  # key of an unreadable record, whose value is the reason
_MAX_CELL = 2**27  # characters


def read(path: Path) -> Any:
    """Read an annotation file: usually a list of records, for some benchmarks a mapping.

    An unreadable line of JSON Lines becomes `{BROKEN: reason}`, so that it is counted. Raises
    `BadInput` if the file as a whole cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix == ".parquet":
        from nontrivial.manifests.parquet import read_table

        return read_table(path).to_pylist()
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not UTF-8 text ({error})") from error
    if not content.strip():
        raise BadInput(f"{path}: is empty, not a file of questions")
    if path.suffix in (".csv", ".tsv"):
        return _read_csv(path, content)
    return _read_json(path, content)


def read_hub(name: str, split: str) -> list[dict[str, Any]]:
    """Return the records of `datasets.load_dataset(name, split=split)`.

    `name:config` picks a config; a local folder in the Hub's form works as well. Media columns are
    dropped, because only texts are needed.
    """
    import datasets

    name, _, config = name.partition(":")
    try:
        table = datasets.load_dataset(name, config or None, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise BadInput(f"--hub {name}: cannot be loaded, split {split!r}: {error}") from error
    kinds = (datasets.Image, datasets.Audio, datasets.Video)
    media = [column for column, feature in table.features.items() if isinstance(feature, kinds)]
    return table.remove_columns(media).to_list()


def _read_json(path: Path, content: str) -> Any:
    try:
        return json.loads(content)
    except RecursionError as error:
        raise BadInput(f"{path}: is nested too deeply") from error
    except ValueError as error:
        lines = [line for line in content.split("\n") if line.strip()]
        if len(lines) < 2 or not lines[0].lstrip().startswith("{"):
            raise BadInput(f"{path}: is neither JSON nor JSON Lines ({error})") from error
    records = [_read_line(line) for line in lines]
    if all(BROKEN in record for record in records):
        raise BadInput(f"{path}: is neither JSON nor JSON Lines")
    return records


def _read_line(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return {BROKEN: "is not JSON"}


def _read_csv(path: Path, content: str) -> list[dict[str, Any]]:
    csv.field_size_limit(_MAX_CELL)
    dialect = "excel-tab" if path.suffix == ".tsv" else "excel"
    try:
        return list(csv.DictReader(io.StringIO(content, newline=""), dialect=dialect))
    except csv.Error as error:
        raise BadInput(f"{path}: is not a readable csv file ({error})") from error
