"""PRCC: 33,698 images of 221 people from three cameras (Yang et al., TPAMI 2019).

Cameras A and B saw everybody in the same clothes, camera C on another day in others. In the test
part A is the gallery; B and C ask.
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

NAME = re.compile(r"(?:(?P<camera>[ABC])_)?\w+\.(?:jpg|png)")
CAMERAS = {"A": 1, "B": 2, "C": 3}
CLOTHES = {"A": "1", "B": "1", "C": "2"}
ROLES = {"A": GALLERY, "B": QUERY, "C": QUERY}


def scan(folder: Path, split: str, ignored: Counter[str]) -> Iterator[Photo]:
    """`train/001/A_cropped_rgb001.jpg`, and `test/A/001/cropped_rgb001.jpg`."""
    parts = [split] if split == "train" else [f"test/{camera}" for camera in CAMERAS]
    for part in parts:
        for pid in sorted(os.listdir(folder / part)):
            if not (folder / part / pid).is_dir():
                ignored[NOT_AN_IMAGE] += 1
                continue
            for name in sorted(os.listdir(folder / part / pid)):
                match = NAME.fullmatch(name)
                camera = part[-1] if split == "test" else match and match["camera"]
                if match is None or camera is None:
                    ignored[NOT_AN_IMAGE] += 1
                    continue
                yield _photo(f"{part}/{pid}/{name}", pid, camera, split)


def _photo(path: str, pid: str, camera: str, split: str) -> Photo:
    """File names repeat from person to person, so the folders enter the image's name."""
    stem = Path(path).stem
    name = f"{pid}_{stem}" if split == "train" else f"{camera}_{pid}_{stem}"
    role = TRAIN if split == "train" else ROLES[camera]
    return Photo(path, pid, CAMERAS[camera], role, CLOTHES[camera], name)


DATA_SET = DataSet(
    name="prcc",
    folders=("prcc/rgb", "PRCC/rgb", "prcc", "PRCC"),
    layout="train/001/A_cropped_rgb001.jpg and test/{A,B,C}/001/cropped_rgb001.jpg",
    origin="https://www.isee-ai.cn/~yangqize/clothing.html",
    published={TRAIN: (17_896, 150), GALLERY: (3_384, 71), QUERY: (3_543 + 3_873, 71)},
    scan=scan,
)
