"""What the footer of a Parquet file tells of its sizes.

Arrow ends the process where a damaged footer makes it fail to describe a column
(`ColumnChunkMetaData`), so the few numbers that are looked at before a file is read are read here:
Thrift's compact protocol, in which the footer is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

MAGIC = b"PAR1"
MOST = 1 << 28  # bytes of a footer
DEEPEST = 32  # levels of a footer; Parquet's own have eight

# Numbers of fields, by parquet.thrift
ROWS, GROUPS = 3, 4  # of the file
COLUMNS, ROWS_OF_GROUP = 1, 3  # of a row group
CHUNK = 3  # of a column: what describes its values
VALUES, UNPACKED = 5, 6  # of that


class Sizes(NamedTuple):
    """Rows of a file, and values and unpacked bytes of each column in each row group."""

    rows: int
    columns: list[tuple[int, int]]


def sizes(path: Path) -> Sizes:
    """Return what a file's footer tells; raise `ValueError` for one that is damaged."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 8))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != MAGIC or not 0 < length <= min(end - 8, MOST):
            raise ValueError("its footer is not there")
        file.seek(end - 8 - length)
        data = file.read(length)
    try:
        return _sizes(_Reader(data).struct())
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("its footer is damaged") from error


def _sizes(footer: dict[int, Any]) -> Sizes:
    groups = footer[GROUPS]
    rows = max(footer[ROWS], sum(group[ROWS_OF_GROUP] for group in groups))
    chunks = (column[CHUNK] for group in groups for column in group[COLUMNS])
    return Sizes(int(rows), [(int(chunk[VALUES]), int(chunk[UNPACKED])) for chunk in chunks])


class _Reader:
    """A reader of Thrift's compact protocol: structs as dicts by the number of their fields.

    Texts, bytes and floats are passed over, as None.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.depth = data, 0, 0

    def struct(self) -> dict[int, Any]:
        return dict(self._fields())

    def _fields(self) -> Iterator[tuple[int, Any]]:
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._signed()
            kind = head & 15
            yield number, kind == 1 if kind in (1, 2) else self._value(kind)

    def _value(self, kind: int) -> Any:
        if kind in (1, 2, 3):  # a truth in a list, and a byte
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 7:
            return self._skip(8)
        if kind == 8:
            return self._skip(self._number())
        self.depth += 1
        if self.depth > DEEPEST:
            raise IndexError("too many levels")
        try:
            if kind in (9, 10):
                head = self._byte()
                count = head >> 4 if head >> 4 < 15 else self._number()
                return [self._value(head & 15) for _ in range(count)]
            if kind == 12:
                return self.struct()
        finally:
            self.depth -= 1
        raise TypeError(f"no kind of value: {kind}")  # Parquet has no maps

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _number(self) -> int:
        """Read an unsigned number of up to 64 bits, seven at a time."""
        found = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            found |= (byte & 127) << shift
            if byte < 128:
                return found
        raise IndexError("a number that does not end")

    def _signed(self) -> int:
        number = self._number()
        return (number >> 1) ^ -(number & 1)

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self.data):
            raise IndexError("behind the end")
