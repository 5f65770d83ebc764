"""Person re-identification data sets: a folder becomes a table of images.

market1501     Market-1501 (Zheng et al., ICCV 2015), also with its 500,000 distractors
msmt17         MSMT17 V1 and V2 (Wei et al., CVPR 2018)
cuhk03         CUHK03, new protocol (Li et al., CVPR 2014; Zhong et al., CVPR 2017)
prcc           PRCC, changed clothes (Yang et al., TPAMI 2019)
ltcc           LTCC, changed clothes (Qian et al., ACCV 2020)
vc_clothes     VC-Clothes, changed clothes, rendered (Wan et al., CVPRW 2020)
cuhk_sysu      CUHK-SYSU crops (Xiao et al., CVPR 2017)
dukemtmc       DukeMTMC-reID, retracted
occluded_duke  Occluded-Duke (Miao et al., ICCV 2019), made from it
table          your own: a csv or parquet
folder         your own: a regular expression for file names

Each source is one module that holds a `DATA_SET`, or a function `data_set` where a user has a say
in it: where it may lie, its layout, where it comes from, its published counts, and how its files
become `Photo`s. `read_source` does the rest.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builders.sources.data_set import Images, Variants

# Modules are named, not imported: listing the sources costs nothing.
SOURCES = {
    name: f"builders.sources.{name}"
    for name in (
        "market1501",
        "msmt17",
        "cuhk03",
        "prcc",
        "ltcc",
        "vc_clothes",
        "cuhk_sysu",
        "dukemtmc",
        "occluded_duke",
        "table",
        "folder",
    )
}


def read_source(
    name: str, root: str | os.PathLike, split: str, variants: Variants | None = None
) -> Images:
    """The images of one split of a source, found under `root`.

    Raises `BadInput` that says what was looked for and where the data set comes from.
    """
    from builders.sources.data_set import Variants

    module = importlib.import_module(SOURCES[name])
    if hasattr(module, "data_set"):
        found = module.data_set(variants or Variants())
    else:
        found = module.DATA_SET
    return found.read(root, split)
