"""Market-1501: 32,668 images of 1,501 people from six cameras (Zheng et al., ICCV 2015)."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from builders.sources.data_set import (
    DISTRACTOR,
    GALLERY,
    JUNK,
    NOT_AN_IMAGE,
    QUERY,
    TRAIN,
    DataSet,
    Photo,
)

FOLDERS = {
    "train": (("bounding_box_train", TRAIN),),
    "test": (("query", QUERY), ("bounding_box_test", GALLERY)),
}
# 0002_c1s1_000451_03.jpg: identity, camera, sequence, frame, detection
NAME = re.compile(r"(-1|\d{4})_c(\d)s\d_\d+_\d+\.(?:jpg|png)")
# What the benchmark uses as identities: bad detections, and people who belong to no identity.
NOBODY = {"-1": JUNK, "0000": DISTRACTOR}


def scan(folder: Path, split: str, ignored: Counter[str]) -> Iterator[Photo]:
    """The photos of one split."""
    for part, role in FOLDERS[split]:
        for name in sorted(os.listdir(folder / part)):
            match = NAME.fullmatch(name)
            if match is None:
                ignored[NOT_AN_IMAGE] += 1
                continue
            pid, camera = match.groups()
            yield Photo(f"{part}/{name}", pid, int(camera), NOBODY.get(pid, role))


DATA_SET = DataSet(
    name="market1501",
    folders=("Market-1501-v15.09.15", "Market-1501", "market1501"),
    layout="{bounding_box_train,query,bounding_box_test}/0002_c1s1_000451_03.jpg",
    origin="Market-1501-v15.09.15.zip, https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html",
    published={
        TRAIN: (12_936, 751),
        QUERY: (3_368, 750),
        GALLERY: (13_115, 750),
        DISTRACTOR: (2_798, None),
        JUNK: (3_819, None),
    },
    scan=scan,
)
