"""ICFG-PEDES: 54,522 described images of 4,102 people from MSMT17.

Ding et al., 2021 (arXiv:2107.12666).
"""

from __future__ import annotations

from nontrivial.builders.reid.sources.data_set import QUERY, TRAIN
from nontrivial.builders.reid.sources.described import described

DATA_SET = described(
    "icfg_pedes",
    folder="ICFG-PEDES",
    file="ICFG-PEDES.json",
    origin="on request, https://github.com/zifyloo/SSAN",
    published={TRAIN: (34_674, 3_102), QUERY: (19_848, 1_000)},
)
