"""Occluded-Duke: DukeMTMC-reID split anew, all queries occluded (Miao et al., ICCV 2019).

Its images are those of a retracted data set; see `builders.reid.sources.dukemtmc`.
"""

from __future__ import annotations

from nontrivial.builders.reid.sources.data_set import GALLERY, QUERY, TRAIN, DataSet
from nontrivial.builders.reid.sources.dukemtmc import FOLDERS, LAYOUT, NAME
from nontrivial.builders.reid.sources.folders import scan_folders

DATA_SET = DataSet(
    name="occluded_duke",
    folders=("Occluded-Duke", "Occluded_Duke", "Occluded-DukeMTMC-reID", "occluded_duke"),
    layout=LAYOUT,
    origin="made from DukeMTMC-reID by https://github.com/lightas/Occluded-DukeMTMC-Dataset",
    published={TRAIN: (15_618, 702), QUERY: (2_210, 519), GALLERY: (17_661, 1_110)},
    scan=scan_folders(FOLDERS, NAME),
)
