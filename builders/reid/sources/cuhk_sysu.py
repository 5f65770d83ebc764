"""CUHK-SYSU: crops of 11,934 people from street photographs and films.

Xiao et al., CVPR 2017. Every scene is a separate photograph. The scene stands in for the camera, so
the two images of a pair come from different scenes.
"""

from __future__ import annotations

import re

from nontrivial.builders.reid.sources.data_set import TRAIN, DataSet
from nontrivial.builders.reid.sources.folders import scan_folders

# p11422_s16929_1.jpg: identity, scene, number; the cameras are unknown
NAME = re.compile(r"p(?P<pid>\d+)_s(?P<sequence>\d+)_\d+\.(?:jpg|png)")

DATA_SET = DataSet(
    name="cuhk_sysu",
    folders=("CUHK-SYSU", "cuhk-sysu", "cuhksysu4reid", "cuhk_sysu"),
    layout="cropped_images/p11422_s16929_1.jpg",
    origin="on request, https://www.ee.cuhk.edu.hk/~xgwang/PS/dataset.html",
    published={TRAIN: (34_574, 11_934)},
    scan=scan_folders({"train": (("cropped_images", TRAIN),)}, NAME),
    splits=("train",),
)
