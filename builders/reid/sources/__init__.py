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

Each source is one module that holds a `DATA_SET`: where it may lie, its layout, where it comes
from, its published counts, and how its files become `Photo`s. Where there is a choice it holds a
function `data_set` of the variant instead, and names the `VARIANTS`; sources of your own take any
text.

    market1501        as published
    market1501:500k   a variant
    table=FILE        your own
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

# Modules are named, not imported: listing the sources costs nothing.
SOURCES = (
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
_SPEC = re.compile(r"(?P<name>\w+)(?:[:=](?P<variant>.*))?", re.DOTALL)


def names_of(specs: Sequence[str]) -> list[str]:
    """The data sets that specifications name; raises `BadInput` for an unknown one.

    >>> names_of(["market1501:500k", "table=my.csv"])
    ['market1501', 'table']
    """
    return [_parse(spec)[0] for spec in specs]


def read_source(spec: str, root: str | os.PathLike, split: str) -> ImageList:
    """The images of one split of a source, found under `root`.

    Raises `BadInput` that says what was looked for and where the data set comes from.
    """
    name, variant = _parse(spec)
    module = importlib.import_module(f"nontrivial.builders.reid.sources.{name}")
    if not hasattr(module, "data_set"):
        if variant:
            raise BadInput(f"--source {spec}: {name} has no variants")
        return module.DATA_SET.read(root, split)
    known = getattr(module, "VARIANTS", None)
    if variant and known and variant not in known:
        raise BadInput(f"--source {spec}: the variants of {name} are {', '.join(known)}")
    return module.data_set(variant).read(root, split)


def _parse(spec: str) -> tuple[str, str]:
    match = _SPEC.fullmatch(spec)
    if match is None or match["name"] not in SOURCES:
        raise BadInput(f"--source {spec}: unknown; give one of {', '.join(SOURCES)}")
    return match["name"], match["variant"] or ""
