"""LaST: 228,156 images of 10,862 people in films, in changing clothes.

Shu et al., TCSVT 2022. Cameras are unknown. Outfits are labelled in the training split only. The
validation split is not read.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from nontrivial.builders.reid.sources.data_set import (
    GALLERY,
    NOT_AN_IMAGE,
    QUERY,
    TRAIN,
    DataSet,
    Photo,
)
from nontrivial.builders.reid.sources.folders import by_split

FOLDERS = by_split("train", "test/query", "test/gallery")
# The identity comes first, the outfit last.
NAME = re.compile(r"(?P<pid>\d+)(?:_(?:[^.]*_)?(?P<clothes>[^_.]+))?\.jpg")


def scan(folder: Path, split: str, ignored: Counter[str]) -> Iterator[Photo]:
    """Yield the images of a split; names may repeat, so the folders become part of them."""
    for part, role in FOLDERS[split]:
        for path in _files(folder / part, nested=role != QUERY):
            match = NAME.fullmatch(path.name)
            if match is None:
                ignored[NOT_AN_IMAGE] += 1
                continue
            clothes = match["clothes"] if split == "train" else None
            inner = path.relative_to(folder)
            name = inner.with_suffix("").as_posix()
            yield Photo(inner.as_posix(), match["pid"], None, role, clothes, name)


def _files(folder: Path, nested: bool) -> Iterator[Path]:
    """Yield what is in the folder; if `nested`, what is in its folders, and its files."""
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if nested and path.is_dir():
            yield from _files(path, nested=False)
        else:
            yield path


DATA_SET = DataSet(
    name="last",
    folders=("last", "LaST"),
    layout="train/IDENTITY/IDENTITY_…_OUTFIT.jpg, test/query/IDENTITY_….jpg and "
    "test/gallery/IDENTITY/IDENTITY_….jpg",
    origin="https://github.com/shuxjweb/last",
    published={TRAIN: (71_248, 5_000), QUERY: (10_176, None), GALLERY: (125_353, None)},
    scan=scan,
)
