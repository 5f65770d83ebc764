"""DukeMTMC-reID: 36,411 images from eight cameras.

Ristani et al. 2016; Zheng et al., ICCV 2017. The data set was retracted in 2019. Existing copies
can be read; we know of no place to get one.
"""

from __future__ import annotations

import re

from nontrivial.builders.reid.sources.data_set import GALLERY, QUERY, TRAIN, DataSet
from nontrivial.builders.reid.sources.folders import BOXES, by_split, scan_folders

# 0005_c2_f0046985.jpg: identity, camera, frame
NAME = re.compile(r"(?P<pid>\d{4})_c(?P<camid>\d)_f(?P<frame>\d+)\.(?:jpg|png)")

DATA_SET = DataSet(
    name="dukemtmc",
    folders=("DukeMTMC-reID", "dukemtmc-reid", "dukemtmc"),
    layout="{bounding_box_train,query,bounding_box_test}/0005_c2_f0046985.jpg",
    origin="retracted by its authors in 2019",
    # 408 gallery identities have no query.
    published={TRAIN: (16_522, 702), QUERY: (2_228, 702), GALLERY: (17_661, 1_110)},
    scan=scan_folders(by_split(*BOXES), NAME),
)
