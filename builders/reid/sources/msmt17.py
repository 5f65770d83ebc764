"""MSMT17: 126,441 images of 4,101 people from fifteen cameras (Wei et al., CVPR 2018).

Lists next to the folders say what belongs to which part. Training and test identities are numbered
from 0 each, and 0 is a person like any other. `msmt17:val` adds the validation list to training,
as papers on the full training set do.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from nontrivial.builders.reid.sources.data_set import (
    GALLERY,
    NOT_AN_IMAGE,
    QUERY,
    SUFFIXES,
    TRAIN,
    DataSet,
    Photo,
)

# The images of training and of test; the second version hides faces.
FOLDERS = {"train": ("train", "mask_train_v2"), "test": ("test", "mask_test_v2")}
LISTS = {
    "train": (("list_train.txt", TRAIN),),
    "test": (("list_query.txt", QUERY), ("list_gallery.txt", GALLERY)),
}
VARIANTS = ("val",)
VALIDATION = ("list_val.txt", TRAIN)
CAMERA = 2  # 0000_000_01_0303morning_0015_0.jpg: the third field


def data_set(variant: str) -> DataSet:
    """MSMT17, its training part with or without the validation list."""
    lists = LISTS
    if variant:
        lists = {**LISTS, "train": (*LISTS["train"], VALIDATION)}
    return DataSet(
        name="msmt17",
        folders=("MSMT17_V1", "MSMT17_V2", "MSMT17", "msmt17"),
        layout="list_{train,val,query,gallery}.txt and {train,test} or {mask_train_v2,mask_test_v2}"
        "/0000/0000_000_01_0303morning_0015_0.jpg",
        origin="on request, https://www.pkuvmc.com/dataset.html",
        published={
            TRAIN: (30_248 + 2_373 * bool(variant), 1_041),
            QUERY: (11_659, 3_060),
            GALLERY: (82_161, 3_060),
        },
        scan=_scan(lists),
    )


def _scan(
    lists: dict[str, tuple[tuple[str, str], ...]],
) -> Callable[[Path, str, Counter[str]], Iterator[Photo]]:
    def scan(folder: Path, split: str, ignored: Counter[str]) -> Iterator[Photo]:
        images = next(
            (name for name in FOLDERS[split] if (folder / name).is_dir()), FOLDERS[split][0]
        )
        for file, role in lists[split]:
            for line in (folder / file).read_text(encoding="utf-8").splitlines():
                photo = _photo(line, images, role)
                if photo:
                    yield photo
                elif line.strip():
                    ignored[NOT_AN_IMAGE] += 1

    return scan


def _photo(line: str, images: str, role: str) -> Photo | None:
    """`0000/0000_000_01_0303morning_0015_0.jpg 0` as a photo; None for any other line."""
    path, _, pid = line.strip().rpartition(" ")
    fields = posixpath.basename(path).split("_")
    if not pid.isdigit() or len(fields) <= CAMERA or not fields[CAMERA].isdigit():
        return None
    if not path.endswith(SUFFIXES):
        return None
    return Photo(f"{images}/{path}", pid, int(fields[CAMERA]), role)
