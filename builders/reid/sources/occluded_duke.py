"""Occluded-Duke: DukeMTMC-reID in a new split whose queries are all occluded.

Miao et al., ICCV 2019. Its images are from a retracted data set; see
`builders.reid.sources.dukemtmc`.
"""

from __future__ import annotations

from dataclasses import replace

from nontrivial.builders.reid.sources import dukemtmc
from nontrivial.builders.reid.sources.data_set import GALLERY, QUERY, TRAIN

DATA_SET = replace(
    dukemtmc.DATA_SET,
    name="occluded_duke",
    folders=("Occluded-Duke", "Occluded_Duke", "Occluded-DukeMTMC-reID", "occluded_duke"),
    origin="made from DukeMTMC-reID by https://github.com/lightas/Occluded-DukeMTMC-Dataset",
    published={TRAIN: (15_618, 702), QUERY: (2_210, 519), GALLERY: (17_661, 1_110)},
)
