"""CCVID: 347,833 frames of 226 people in changing clothes, 2,856 tracklets.

Gu et al., CVPR 2022. `ccvid:8` takes every 8th frame of a tracklet. The third session had other
cameras than the first two; they are numbered from 13.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from nontrivial.builders.reid.sources.data_set import (
    GALLERY,
    QUERY,
    TRAIN,
    DataSet,
    Photo,
    number_of,
)
from nontrivial.builders.reid.sources.folders import by_split, matching, read_list
from nontrivial.builders.reid.sources.tracklets import every, step_of

LISTS = by_split("train.txt", "query.txt", "gallery.txt")
# session1/001_01, 001, u0_l0_s0_c0_a0: folder (session, person, camera), identity, outfit
LINE = re.compile(
    r"(?P<sequence>session(?P<session>\d)/\d+_(?P<camera>\d+))\s+(?P<pid>\d+)\s+(?P<clothes>\S+)"
)
FRAME = re.compile(r"(\d+)\.(?:jpg|png)")
CAMERAS = 12  # of the first two sessions
PUBLISHED = {TRAIN: (118_613, 75), QUERY: (116_799, 151), GALLERY: (112_421, 151)}


def data_set(variant: str) -> DataSet:
    """Describe CCVID with all frames, or every n-th."""
    step = step_of("ccvid", variant)
    return DataSet(
        name="ccvid",
        folders=("CCVID", "ccvid"),
        layout="{train,query,gallery}.txt and session1/001_01/00001.jpg",
        origin="https://github.com/guxinqian/Simple-CCReID",
        published=PUBLISHED if step == 1 else {},
        scan=partial(_scan, step),
    )


def _scan(step: int, folder: Path, split: str, ignored: Counter[str]) -> Iterator[Photo]:
    for file, role in LISTS[split]:
        for tracklet in read_list(folder / file, LINE.fullmatch, ignored, "not a tracklet"):
            yield from every(step, _frames(tracklet, role, folder, ignored))


def _frames(
    tracklet: re.Match[str], role: str, folder: Path, ignored: Counter[str]
) -> Iterator[Photo]:
    sequence, session, camera, pid, clothes = tracklet.groups()
    camid = number_of(camera) + CAMERAS * (session == "3")
    for file, match in matching(os.listdir(folder / sequence), FRAME, ignored):
        path, name = f"{sequence}/{file}", f"{sequence}/{Path(file).stem}"
        yield Photo(path, pid, camid, role, clothes, name, sequence, number_of(match[1]))
