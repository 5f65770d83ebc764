"""RSTPReid: 20,505 described images of 4,101 people from MSMT17, five of each.

Zhu et al., ACM Multimedia 2021.
"""

from __future__ import annotations

from nontrivial.builders.reid.sources.data_set import QUERY, TRAIN
from nontrivial.builders.reid.sources.described import described

DATA_SET = described(
    "rstpreid",
    folder="RSTPReid",
    file="data_captions.json",
    origin="https://github.com/NjtechCVLab/RSTPReid-Dataset",
    published={TRAIN: (18_505, 3_701), QUERY: (1_000, 200)},
    path="img_path",
)
