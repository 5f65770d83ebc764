"""Data sets with one folder per role, described entirely by their file names."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from nontrivial.builders.reid.sources.data_set import (
    GALLERY,
    NOT_AN_IMAGE,
    QUERY,
    TRAIN,
    Photo,
    number_of,
)
from nontrivial.manifests.errors import BadInput

Parsed = TypeVar("Parsed")
Scan = Callable[[Path, str, Counter[str]], Iterator[Photo]]
BOXES = ("bounding_box_train", "query", "bounding_box_test")  # the folders of Market-1501


def by_split(train: str, query: str, gallery: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return the (folder or list, role) parts of each split."""
    return {"train": ((train, TRAIN),), "test": ((query, QUERY), (gallery, GALLERY))}


def read_list(
    file: Path,
    parse: Callable[[str], Parsed | None],
    ignored: Counter[str],
    reason: str = NOT_AN_IMAGE,
) -> Iterator[Parsed]:
    """Yield what `parse` makes of the lines of a list; count other lines, but no blank ones."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: is not a list in UTF-8 ({error})") from error
    for line in lines:
        parsed = parse(line.strip())
        if parsed:
            yield parsed
        elif line.strip():
            ignored[reason] += 1


def matching(
    files: Iterable[str], name: re.Pattern[str], ignored: Counter[str]
) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield the file names that `name` matches as a whole, with their matches; count others."""
    for file in files:
        match = name.fullmatch(file)
        if match:
            yield file, match
        else:
            ignored[NOT_AN_IMAGE] += 1


def scan_folders(
    folders: Mapping[str, Iterable[tuple[str, str]]],
    name: re.Pattern[str],
    nobody: Mapping[str, str] | None = None,
) -> Scan:
    """Return a scan of the (folder, role) parts of each split.

    `name` must match whole file names; it has the group `pid` and optionally `camid`, `clothes`,
    `sequence` and `frame`.
    `nobody` maps pseudo-identities, which stand for no person, to their roles.
    """

    def scan(folder: Path, split: str, ignored: Counter[str]) -> Iterator[Photo]:
        for part, role in folders[split]:
            for file, match in matching(sorted(os.listdir(folder / part)), name, ignored):
                known = match.groupdict()
                number = known.get("frame")
                yield Photo(
                    f"{part}/{file}",
                    known["pid"],
                    number_of(known["camid"]) if "camid" in known else None,
                    (nobody or {}).get(known["pid"], role),
                    known.get("clothes"),
                    sequence=known.get("sequence"),
                    frame=number_of(number) if number else None,
                )

    return scan
