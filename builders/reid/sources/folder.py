"""Your own data set: a folder whose file names give identity and camera.

`--source folder=PATTERN` takes a regular expression that must match a file's whole path under the
root. It has the groups `pid` and `camid`, and optionally `clothes`, `split`, `role`, `sequence` and
`frame` (the number of the frame in it):

    --source 'folder=(?P<split>train|test)/(?P<pid>\\d+)_c(?P<camid>\\d+)_.*\\.jpg'

For example, `train/009/01_8.png` of PKU-Reid is image 8 of person 009 from camera 01:

    --source 'folder=(?P<split>train|test)/(?P<pid>\\d+)/(?P<camid>\\d+)_\\d+\\.png'
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from nontrivial.builders.reid.sources.data_set import NOT_AN_IMAGE, DataSet
from nontrivial.builders.reid.sources.table import Record, own_data_set
from nontrivial.manifests.errors import BadInput


def data_set(variant: str) -> DataSet:
    """Describe the files under the root whose paths match the pattern `variant`."""
    if not variant:
        raise BadInput(r"--source folder: needs 'folder=(?P<pid>\d+)_c(?P<camid>\d).*'")
    try:
        pattern = re.compile(variant)
    except re.error as error:
        raise BadInput(
            f"--source folder={variant}: is not a regular expression ({error})"
        ) from error
    if not {"pid", "camid"} <= set(pattern.groupindex):
        raise BadInput(f"--source folder={variant}: needs the groups (?P<pid>…) and (?P<camid>…)")
    return own_data_set(
        "folder",
        layout=f"files whose paths match {variant}",
        records=lambda folder, ignored: _records(folder, pattern, ignored),
    )


def _records(root: Path, pattern: re.Pattern[str], ignored: Counter[str]) -> Iterator[Record]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name).relative_to(root).as_posix()
            match = pattern.fullmatch(path)
            if match:
                yield {**match.groupdict(), "path": path}
            else:
                ignored[NOT_AN_IMAGE] += 1
