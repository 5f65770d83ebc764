"""Person re-identification data sets: a folder becomes a table of images.

market1501     Market-1501 (Zheng et al., ICCV 2015), also with its 500,000 distractors
msmt17         MSMT17 V1 and V2 (Wei et al., CVPR 2018)
cuhk03         CUHK03, new protocol (Li et al., CVPR 2014; Zhong et al., CVPR 2017)
prcc           PRCC, changed clothes (Yang et al., TPAMI 2019)
ltcc           LTCC, changed clothes (Qian et al., ACCV 2020)
vc_clothes     VC-Clothes, changed clothes, rendered (Wan et al., CVPRW 2020)
deepchange     DeepChange, changed clothes, twelve months (Xu and Zhu, ICCV 2023)
last           LaST, changed clothes, films, no cameras (Shu et al., TCSVT 2022)
ccvid          CCVID, changed clothes, tracklets (Gu et al., CVPR 2022)
mars           MARS, tracklets (Zheng et al., ECCV 2016)
cuhk_sysu      CUHK-SYSU crops (Xiao et al., CVPR 2017)
dukemtmc       DukeMTMC-reID, retracted
occluded_duke  Occluded-Duke (Miao et al., ICCV 2019), made from it
cuhk_pedes     CUHK-PEDES, described in words (Li et al., CVPR 2017)
icfg_pedes     ICFG-PEDES, described in words (Ding et al., 2021)
rstpreid       RSTPReid, described in words (Zhu et al., ACM MM 2021)
table          your own: a csv or Parquet file
folder         your own: a regular expression for file names

Each source is one module with a `DATA_SET`: its possible folders, its layout, its origin, its
published counts, and a scan that turns its files into `Photo`s. A source with variants has a
function `data_set(variant)` instead and lists its `VARIANTS`; `table` and `folder` take any text as
their variant, `ccvid` and `mars` a number. Specifications read `market1501`, `market1501:500k`,
`mars:8` or `table=FILE`.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nontrivial.manifests.errors import BadInput

if TYPE_CHECKING:
    from nontrivial.builders.reid.sources.data_set import ImageList

# Names only, so that listing the sources imports none of them.
SOURCES = (
    "market1501",
    "msmt17",
    "cuhk03",
    "prcc",
    "ltcc",
    "vc_clothes",
    "deepchange",
    "last",
    "ccvid",
    "mars",
    "cuhk_sysu",
    "dukemtmc",
    "occluded_duke",
    "cuhk_pedes",
    "icfg_pedes",
    "rstpreid",
    "table",
    "folder",
)
_SPEC = re.compile(r"(?P<name>\w+)(?:[:=](?P<variant>.*))?", re.DOTALL)


def names_of(specs: Sequence[str]) -> list[str]:
    """Return the names of the data sets in `specs`; raise `BadInput` for an unknown one.

    >>> names_of(["market1501:500k", "table=my.csv"])
    ['market1501', 'table']
    """
    return [_parse(spec)[0] for spec in specs]


def read_source(spec: str, root: str | os.PathLike, split: str) -> ImageList:
    """List the images of one split of the source that lies under `root`.

    If it is missing, the `BadInput` names the folders tried and the data set's origin.
    """
    name, variant = _parse(spec)
    module = importlib.import_module(f"nontrivial.builders.reid.sources.{name}")
    if hasattr(module, "data_set"):
        variants = getattr(module, "VARIANTS", (variant,))
        if variant and variant not in variants:
            raise BadInput(f"--source {spec}: the variants of {name} are {', '.join(variants)}")
        return module.data_set(variant).read(root, split)
    if variant:
        raise BadInput(f"--source {spec}: {name} has no variants")
    return module.DATA_SET.read(root, split)


def _parse(spec: str) -> tuple[str, str]:
    match = _SPEC.fullmatch(spec)
    if match is None or match["name"] not in SOURCES:
        raise BadInput(f"--source {spec}: unknown; give one of {', '.join(SOURCES)}")
    return match["name"], match["variant"] or ""
