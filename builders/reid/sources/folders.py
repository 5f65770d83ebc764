"""Data sets with one folder per role, described entirely by their file names."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from nontrivial.builders.reid.sources.data_set import GALLERY, NOT_AN_IMAGE, QUERY, TRAIN, Photo

Scan = Callable[[Path, str, Counter[str]], Iterator[Photo]]
BOXES = ("bounding_box_train", "query", "bounding_box_test")  # the folders of Market-1501


def by_split(train: str, query: str, gallery: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return the (folder or list, role) parts of each split."""
    return {"train": ((train, TRAIN),), "test": ((query, QUERY), (gallery, GALLERY))}


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
            for file in sorted(os.listdir(folder / part)):
                match = name.fullmatch(file)
                if match is None:
                    ignored[NOT_AN_IMAGE] += 1
                    continue
                known = match.groupdict()
                number = known.get("frame")
                yield Photo(
                    f"{part}/{file}",
                    known["pid"],
                    int(known["camid"]) if "camid" in known else None,
                    (nobody or {}).get(known["pid"], role),
                    known.get("clothes"),
                    sequence=known.get("sequence"),
                    frame=int(number) if number else None,
                )

    return scan
