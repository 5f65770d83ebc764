"""DeepChange: 178,407 images of 1,121 people from seventeen cameras over twelve months.

Xu and Zhu, ICCV 2023. An outfit is what a person wore on one day. In the published protocol a true
match may come from the query's camera, but not from its tracklet. In the test split the tracklet's
number therefore stands in for the camera. The validation split is not read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
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

FOLDERS = by_split("train-set", "test-set-query", "test-set-gallery")
# P16_C04_DAY_HOUR_….jpg,118: identity, camera, day, …; tracklet
LINE = re.compile(
    r"(?P<file>P(?P<pid>\d+)_C(?P<camera>\d+)_(?P<day>[^_.,]+)[^,]*\.jpg),\s*(?P<tracklet>\d+)"
)


def scan(folder: Path, split: str, ignored: Counter[str]) -> Iterator[Photo]:
    """Yield the images that the lists of a split name."""
    for part, role in FOLDERS[split]:
        for match in read_list(folder / f"{part}-bbox.txt", LINE.fullmatch, ignored):
            file, pid, camera, day, tracklet = match.groups()
            camid = number_of(camera if split == "train" else tracklet)
            yield Photo(f"{part}/{file}", pid, camid, role, day, sequence=tracklet)


DATA_SET = DataSet(
    name="deepchange",
    folders=("DeepChangeDataset", "DeepChange", "deepchange"),
    layout="{train-set,test-set-query,test-set-gallery}/P16_C04_DAY_HOUR_….jpg and a list of "
    "each, train-set-bbox.txt, …",
    origin="on request, https://github.com/PengBoXiangShang/deepchange",
    published={TRAIN: (75_083, 450), QUERY: (17_527, 521), GALLERY: (62_956, 521)},
    scan=scan,
)
