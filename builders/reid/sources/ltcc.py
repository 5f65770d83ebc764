"""LTCC: 17,119 images of 152 people in 478 outfits from twelve cameras.

Qian et al., ACCV 2020.
"""

from __future__ import annotations

import re

from nontrivial.builders.reid.sources.data_set import GALLERY, QUERY, TRAIN, DataSet
from nontrivial.builders.reid.sources.folders import by_split, scan_folders

# 094_1_c9_015833.png: identity, outfit, camera, frame
NAME = re.compile(r"(?P<pid>\d+)_(?P<clothes>\d+)_c(?P<camid>\d+)_(?P<frame>\d+)\.(?:png|jpg)")

DATA_SET = DataSet(
    name="ltcc",
    folders=("LTCC_ReID", "LTCC-reID", "LTCC", "ltcc"),
    layout="{train,query,test}/094_1_c9_015833.png",
    origin="on request, https://naiq.github.io/LTCC_Perosn_ReID.html",
    published={TRAIN: (9_576, 77), QUERY: (493, 75), GALLERY: (7_050, 75)},
    scan=scan_folders(by_split("train", "query", "test"), NAME),
)
