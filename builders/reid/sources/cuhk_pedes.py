"""CUHK-PEDES: 40,206 described images of 13,003 people from five other data sets.

Li et al., CVPR 2017.
"""

from __future__ import annotations

from nontrivial.builders.reid.sources.data_set import QUERY, TRAIN
from nontrivial.builders.reid.sources.described import described

DATA_SET = described(
    "cuhk_pedes",
    folder="CUHK-PEDES",
    file="reid_raw.json",
    origin="on request, https://github.com/ShuangLI59/Person-Search-with-Natural-Language-Description",
    published={TRAIN: (34_054, 11_003), QUERY: (3_074, 1_000)},
)
