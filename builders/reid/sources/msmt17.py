"""MSMT17: 126,441 images of 4,101 people from fifteen cameras.

Wei et al., CVPR 2018. Lists beside the folders assign the images to parts. Identities of training
and of test are each numbered from 0, and 0 is an ordinary person. `msmt17:val` adds the validation
list to training, as papers on the full training set do.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from nontrivial.builders.reid.sources.data_set import (
    GALLERY,
    QUERY,
    TRAIN,
    DataSet,
    Photo,
    number_of,
)
from nontrivial.builders.reid.sources.folders import by_split, read_list

# Image folders of each split; in the second version faces are masked.
FOLDERS = {"train": ("train", "mask_train_v2"), "test": ("test", "mask_test_v2")}
LISTS = by_split("list_train.txt", "list_query.txt", "list_gallery.txt")
VARIANTS = ("val",)
VALIDATION = ("list_val.txt", TRAIN)
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
CAMERA = 2  # the third field of 0000_000_01_0303morning_0015_0.jpg


def data_set(variant: str) -> DataSet:
    """Describe MSMT17, its training split with or without the validation list."""
    images = 30_248 + 2_373 * bool(variant)  # of training
    lists = {**LISTS, "train": (*LISTS["train"], VALIDATION)} if variant else LISTS
    return DataSet(
        name="msmt17",
        folders=("MSMT17_V1", "MSMT17_V2", "MSMT17", "msmt17"),
        layout="list_{train,val,query,gallery}.txt and {train,test} or {mask_train_v2,mask_test_v2}"
        "/0000/0000_000_01_0303morning_0015_0.jpg",
        origin="on request, https://www.pkuvmc.com/dataset.html",
        published={TRAIN: (images, 1_041), QUERY: (11_659, 3_060), GALLERY: (82_161, 3_060)},
        scan=partial(_scan, lists),
    )


def _scan(
    lists: Mapping[str, Iterable[tuple[str, str]]], folder: Path, split: str, ignored: Counter[str]
) -> Iterator[Photo]:
    images = next((name for name in FOLDERS[split] if (folder / name).is_dir()), FOLDERS[split][0])
    for file, role in lists[split]:
        yield from read_list(folder / file, partial(_photo, images, role), ignored)


def _photo(images: str, role: str, line: str) -> Photo | None:
    """Parse `0000/0000_000_01_0303morning_0015_0.jpg 0`; return None for any other line."""
    path, _, pid = line.rpartition(" ")
    camera = posixpath.basename(path).split("_")[CAMERA : CAMERA + 1]
    if not (path.endswith(SUFFIXES) and pid.isdecimal() and camera and camera[0].isdecimal()):
        return None
    return Photo(f"{images}/{path}", pid, number_of(camera[0]), role)
