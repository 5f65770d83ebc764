"""MARS: 1,191,003 frames of 1,261 people from six cameras, 20,478 tracklets.

Zheng et al., ECCV 2016. `mars:8` takes every 8th frame of a tracklet. The lists in `info/` say
which tracklets of the test split are queries; all others are its gallery.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from nontrivial.builders.reid.sources.data_set import (
    DISTRACTOR,
    GALLERY,
    JUNK,
    NOT_AN_IMAGE,
    QUERY,
    TRAIN,
    DataSet,
    Photo,
    number_of,
)
from nontrivial.builders.reid.sources.folders import matching
from nontrivial.builders.reid.sources.tracklets import every, step_of
from nontrivial.manifests.errors import BadInput, require
from nontrivial.manifests.guarded import alone

FOLDERS = {"train": "bbox_train", "test": "bbox_test"}
# 0001C1T0001F001.jpg: identity, camera, tracklet, frame
NAME = re.compile(
    r"(?P<sequence>(?P<pid>\d{4}|00-1)C(?P<camid>\d)T\d+)F(?P<frame>\d+)\.(?:jpg|png)"
)
ROLE_OF = {"00-1": JUNK, "0000": DISTRACTOR}
FILES, TRACKS, QUERIES = "info/test_name.txt", "info/tracks_test_info.mat", "info/query_IDX.mat"


def data_set(variant: str) -> DataSet:
    """Describe MARS with all frames, or every n-th."""
    step = step_of("mars", variant)
    return DataSet(
        name="mars",
        folders=("MARS", "mars", "Mars"),
        layout="{bbox_train,bbox_test}/0001/0001C1T0001F001.jpg and "
        "info/{test_name.txt,tracks_test_info.mat,query_IDX.mat}",
        origin="https://zheng-lab.cecs.anu.edu.au/Project/project_mars.html, "
        "info: https://github.com/liangzheng06/MARS-evaluation",
        published={TRAIN: (509_914, 625)} if step == 1 else {},
        scan=partial(_scan, step),
    )


def _scan(step: int, folder: Path, split: str, ignored: Counter[str]) -> Iterator[Photo]:
    asking = query_tracklets(folder) if split == "test" else None
    part = FOLDERS[split]
    for person in sorted(os.listdir(folder / part)):
        if (folder / part / person).is_dir():
            yield from every(step, _photos(f"{part}/{person}", folder, asking, ignored))
        else:
            ignored[NOT_AN_IMAGE] += 1


def _photos(
    part: str, folder: Path, asking: set[str] | None, ignored: Counter[str]
) -> Iterator[Photo]:
    for file, match in matching(os.listdir(folder / part), NAME, ignored):
        sequence, pid, camid, frame = match.groups()
        role = _role(pid, sequence, asking)
        yield Photo(
            f"{part}/{file}", pid, int(camid), role, sequence=sequence, frame=number_of(frame)
        )


def _role(pid: str, sequence: str, asking: set[str] | None) -> str:
    """Return the role of a tracklet; `asking` is None in the training split."""
    if asking is None:
        return TRAIN
    return ROLE_OF.get(pid, QUERY if sequence in asking else GALLERY)


def query_tracklets(folder: Path) -> set[str]:
    """Return the tracklets that ask, as `0001C1T0001`; raise `BadInput` for damaged lists.

    A row of `tracks_test_info.mat` holds a tracklet's first and last line in `test_name.txt`, its
    identity and its camera; `query_IDX.mat` holds the queries' rows. Both count from 1.
    """
    require("scipy.io", "reid", "reading the .mat files of MARS")
    for file in (FILES, TRACKS, QUERIES):
        if not (folder / file).is_file():
            raise FileNotFoundError(2, "no such file", str(folder / file))
    try:
        return alone(_asking, folder)  # damaged files crash scipy
    except ValueError as error:
        raise BadInput(f"{folder / 'info'}: does not tell the queries of MARS ({error})") from error


def _asking(folder: Path) -> set[str]:
    from scipy.io import loadmat

    names = (folder / FILES).read_text(encoding="utf-8").split()
    first = loadmat(folder / TRACKS)["track_test_info"][:, 0].astype(int)
    asking = loadmat(folder / QUERIES)["query_IDX"].ravel().astype(int)
    return {names[line - 1].partition("F")[0] for line in first[asking - 1]}
