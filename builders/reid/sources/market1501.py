"""Market-1501: 32,668 images of 1,501 people from six cameras.

Zheng et al., ICCV 2015. `market1501:500k` adds the 500,000 distractors that were published later to
the gallery.
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
from nontrivial.builders.reid.sources.folders import BOXES, by_split, scan_folders

FOLDERS = by_split(*BOXES)
VARIANTS = ("500k",)
EXTRA = "images"  # the folder in the distractors' archive
# 0002_c1s1_000451_03.jpg: identity, camera, sequence, frame, detection
NAME = re.compile(
    r"(?P<pid>-1|\d{4,5})_c(?P<camid>\d)s(?P<sequence>\d)_(?P<frame>\d+)_\d+\.(?:jpg|png)"
)
# The benchmark's pseudo-identities: bad detections, and people outside all identities.
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
    """Describe Market-1501 as published, or with the 500,000 distractors."""
    if not variant:
        return PLAIN
    more = {**FOLDERS, "test": (*FOLDERS["test"], (EXTRA, DISTRACTOR))}
    return replace(
        PLAIN,
        layout=f"{PLAIN.layout} and {EXTRA}/ of distractors_500k.zip",
        published={**PLAIN.published, DISTRACTOR: (2_798 + 500_000, None)},
        scan=scan_folders(more, NAME, ROLE_OF),
    )
