"""VC-Clothes: 19,060 rendered images of 512 people in changing clothes.

Wan et al., CVPRW 2020.
"""

from __future__ import annotations

import re

from nontrivial.builders.reid.sources.data_set import GALLERY, QUERY, TRAIN, DataSet
from nontrivial.builders.reid.sources.folders import by_split, scan_folders

# 0005-03-02-11.jpg: identity, camera, outfit, number
NAME = re.compile(r"(?P<pid>\d+)-(?P<camid>\d+)-(?P<clothes>\d+)-\d+\.(?:jpg|png)")

DATA_SET = DataSet(
    name="vc_clothes",
    folders=("VC-Clothes", "VC_Clothes", "vc_clothes"),
    layout="{train,query,gallery}/0005-03-02-11.jpg",
    origin="https://wanfb.github.io/dataset.html",
    published={TRAIN: (9_449, 256), QUERY: (1_020, 256), GALLERY: (8_591, 256)},
    scan=scan_folders(by_split("train", "query", "gallery"), NAME),
)
