"""PRCC: 33,698 images of 221 people from three cameras.

Yang et al., TPAMI 2019. Cameras A and B saw each person in the same clothes, camera C on another
day in other clothes. In the test split camera A is the gallery; B and C are queries.
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
    number_of,
)

# A_cropped_rgb001.jpg: camera, frame
NAME = re.compile(r"(?:(?P<camera>[ABC])_)?\w*?(?:rgb(?P<frame>\d+)|\w)\.(?:jpg|png)")
# The number, outfit and test role of each camera.
CAMERAS = {"A": (1, "1", GALLERY), "B": (2, "1", QUERY), "C": (3, "2", QUERY)}


def scan(folder: Path, split: str, ignored: Counter[str]) -> Iterator[Photo]:
    """Yield `train/001/A_cropped_rgb001.jpg` and `test/A/001/cropped_rgb001.jpg` as photos."""
    parts = ["train"] if split == "train" else [f"test/{camera}" for camera in CAMERAS]
    for part in parts:
        for pid in sorted(os.listdir(folder / part)):
            if not (folder / part / pid).is_dir():
                ignored[NOT_AN_IMAGE] += 1
                continue
            for file in sorted(os.listdir(folder / part / pid)):
                photo = _photo(part, pid, file)
                if photo:
                    yield photo
                else:
                    ignored[NOT_AN_IMAGE] += 1


def _photo(part: str, pid: str, file: str) -> Photo | None:
    """Return the file as a photo, or None if it is not an image.

    File names repeat across people, so the folders become part of the image's name.
    """
    match = NAME.fullmatch(file)
    if match is None:
        return None
    camera = match["camera"] if part == "train" else part[-1]
    if not camera:
        return None
    number, clothes, role = CAMERAS[camera]
    name, path = f"{pid}_{Path(file).stem}", f"{part}/{pid}/{file}"
    if part == "train":
        role = TRAIN
    else:
        name = f"{camera}_{name}"
    frame = number_of(match["frame"]) if match["frame"] else None
    return Photo(path, pid, number, role, clothes, name, frame=frame)


DATA_SET = DataSet(
    name="prcc",
    folders=("prcc/rgb", "PRCC/rgb", "prcc", "PRCC"),
    layout="train/001/A_cropped_rgb001.jpg and test/{A,B,C}/001/cropped_rgb001.jpg",
    origin="https://www.isee-ai.cn/~yangqize/clothing.html",
    published={TRAIN: (17_896, 150), GALLERY: (3_384, 71), QUERY: (3_543 + 3_873, 71)},
    scan=scan,
)
