"""Market-1501: 32,668 images of 1,501 people from six cameras (Zheng et al., ICCV 2015).

With `market1501:500k` the 500,000 distractors that were published later join the gallery.
"""

from __future__ import annotations

import re
from dataclasses import replace

from nontrivial.builders.reid.sources.data_set import (
    DISTRACTOR,
    GALLERY,
    JUNK,
    QUERY,
    TRAIN,
    DataSet,
)
from nontrivial.builders.reid.sources.folders import scan_folders

FOLDERS = {
    "train": (("bounding_box_train", TRAIN),),
    "test": (("query", QUERY), ("bounding_box_test", GALLERY)),
}
VARIANTS = ("500k",)
EXTRA = "images"  # what the archive of the distractors unpacks to
# 0002_c1s1_000451_03.jpg: identity, camera, sequence, frame, detection
NAME = re.compile(r"(?P<pid>-1|\d{4,5})_c(?P<camid>\d)s\d_\d+_\d+\.(?:jpg|png)")
# What the benchmark uses as identities: bad detections, and people who belong to no identity.
ROLE_OF = {"-1": JUNK, "0000": DISTRACTOR, "00000": DISTRACTOR}

PLAIN = DataSet(
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
    scan=scan_folders(FOLDERS, NAME, ROLE_OF),
)


def data_set(variant: str) -> DataSet:
    """Market-1501 as it was published, or with the 500,000 distractors."""
    if not variant:
        return PLAIN
    more = {**FOLDERS, "test": (*FOLDERS["test"], (EXTRA, DISTRACTOR))}
    return replace(
        PLAIN,
        layout=f"{PLAIN.layout} and {EXTRA}/ of distractors_500k.zip",
        published={**PLAIN.published, DISTRACTOR: (2_798 + 500_000, None)},
        scan=scan_folders(more, NAME, ROLE_OF),
    )
