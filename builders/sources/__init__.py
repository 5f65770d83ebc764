"""Person re-identification data sets: a folder becomes a table of images.

market1501   Market-1501 (Zheng et al., ICCV 2015)

Each source is one module that holds a `DATA_SET`: where it may lie, its layout, where it comes
from, its published counts, and how its files become `Photo`s. `read_source` does the rest.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builders.sources.data_set import Images

# Modules are named, not imported: listing the sources costs nothing.
SOURCES = {"market1501": "builders.sources.market1501"}


def read_source(name: str, root: str | os.PathLike, split: str) -> Images:
    """The images of one split of a source, found under `root`.

    Raises `BadInput` that says what was looked for and where the data set comes from.
    """
    return importlib.import_module(SOURCES[name]).DATA_SET.read(root, split)
