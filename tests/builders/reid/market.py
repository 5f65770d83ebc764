"""A small data set of drawn people in the Market-1501 layout, and moved into all the others."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from nontrivial.builders.reid.sources.market1501 import PLAIN
from nontrivial.builders.synthetic.__main__ import main

FOLDER = PLAIN.folders[0]
NAME = re.compile(r"(\d{4})_c(\d)s1_(\d{6})_\d\d\.jpg")
PARTS = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}


class Shot(NamedTuple):
    """A drawn photo: part is train, query or gallery; clothes change with the camera."""

    part: str
    pid: int
    camera: int
    clothes: int
    frame: int


def draw(root: Path, identities: int = 12, test_identities: int = 6, images: int = 6) -> Path:
    """Draw it under `root`; returns its own folder."""
    words = {"identities": identities, "test_identities": test_identities}
    words |= {"images_per_identity": images, "only": "market1501", "out": root}
    assert main([f"--{name}={value}" for name, value in words.items()]) == 0
    return root / FOLDER


def move(root: Path, source: str) -> Path:
    """Put the people of `root`'s Market-1501 under `root` as the real `source` has its files."""
    folder, name = LAYOUTS[source]
    for path, shot in shots(root / FOLDER):
        target = root / folder / name(shot)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    if source in LISTS:
        LISTS[source](root / folder, [shot for _, shot in shots(root / FOLDER)])
    return root / folder


def shots(folder: Path) -> list[tuple[Path, Shot]]:
    """All photos of people who are asked for."""
    found = []
    for part, role in PARTS.items():
        for path in sorted((folder / part).iterdir()):
            match = NAME.fullmatch(path.name)
            if match and match[1] != "0000":
                pid, camera, frame = map(int, match.groups())
                found.append((path, Shot(role, pid, camera, 1 + (camera > 3), frame)))
    return found


def _write(file: Path, lines: list[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _list_msmt17(folder: Path, shots: list[Shot]) -> None:
    for part in PARTS.values():
        lines = [f"{_msmt17_file(s)} {s.pid}" for s in shots if s.part == part]
        _write(folder / f"list_{part}.txt", lines)


def _list_ccvid(folder: Path, shots: list[Shot]) -> None:
    for part in PARTS.values():
        lines = {
            f"{_ccvid_tracklet(s)}\t{s.pid:03d}\tu{s.clothes}_l0_s0_c0_a0"
            for s in shots
            if s.part == part
        }
        _write(folder / f"{part}.txt", sorted(lines))


def _list_deepchange(folder: Path, shots: list[Shot]) -> None:
    for part, name in DEEPCHANGE.items():
        lines = [
            f"{Path(_deepchange(s)).name},{10 * s.pid + s.camera}" for s in shots if s.part == part
        ]
        _write(folder / f"{name}-bbox.txt", lines)


def _describe(file: str, key: str) -> Callable[[Path, list[Shot]], None]:
    """List the images as text-to-person data sets do, with a sentence about each."""

    def write(folder: Path, shots: list[Shot]) -> None:
        entries = [
            {
                "split": "train" if s.part == "train" else "test",
                "id": s.pid,
                key: _described(s).removeprefix("imgs/"),
                "captions": [f"Person {s.pid} in outfit {s.clothes}."],
            }
            for s in shots
        ]
        (folder / file).write_text(json.dumps(entries), encoding="utf-8")

    return write


def _boxes(shot: Shot) -> str:
    parts = {role: part for part, role in PARTS.items()}
    return parts[shot.part]


def _msmt17_file(shot: Shot) -> str:
    name = f"{shot.pid:04d}_{shot.frame:06d}_{shot.camera:02d}_0303morning_0015_0.jpg"
    return f"{shot.pid:04d}/{name}"


def _prcc(shot: Shot) -> str:
    camera, name = "ABC"[(shot.camera - 1) // 2], f"cropped_rgb{shot.frame:06d}.jpg"
    if shot.part == "train":
        return f"train/{shot.pid:03d}/{camera}_{name}"
    return f"test/{camera}/{shot.pid:03d}/{name}"


def _ccvid_tracklet(shot: Shot) -> str:
    return f"session{2 if shot.part == 'gallery' else 1}/{shot.pid:03d}_{shot.camera:02d}"


DEEPCHANGE = {"train": "train-set", "query": "test-set-query", "gallery": "test-set-gallery"}


def _deepchange(shot: Shot) -> str:
    name = f"P{shot.pid}_C{shot.camera:02d}_{shot.clothes}_08_{shot.frame}_1.jpg"
    return f"{DEEPCHANGE[shot.part]}/{name}"


def _last(shot: Shot) -> str:
    name = f"{shot.pid:06d}_{shot.camera}{shot.frame:06d}_{shot.clothes:02d}.jpg"
    if shot.part == "query":
        return f"test/query/{name}"
    return f"{'train' if shot.part == 'train' else 'test/gallery'}/{shot.pid:06d}/{name}"


def _mars(shot: Shot) -> str:
    folder = "bbox_train" if shot.part == "train" else "bbox_test"
    return f"{folder}/{shot.pid:04d}/{shot.pid:04d}C{shot.camera}T0001F{shot.frame:03d}.jpg"


def _described(shot: Shot) -> str:
    return f"imgs/{shot.part}/{shot.pid:04d}_c{shot.camera}_{shot.frame:06d}.jpg"


# What lists the images, for data sets whose file names are not enough.
LISTS: dict[str, Callable[[Path, list[Shot]], None]] = {
    "msmt17": _list_msmt17,
    "ccvid": _list_ccvid,
    "deepchange": _list_deepchange,
    "cuhk_pedes": _describe("reid_raw.json", "file_path"),
    "icfg_pedes": _describe("ICFG-PEDES.json", "file_path"),
    "rstpreid": _describe("data_captions.json", "img_path"),
}
NO_CAMERAS = ("last", "cuhk_sysu", "cuhk_pedes", "icfg_pedes", "rstpreid")
LAYOUTS = {
    "msmt17": (
        "MSMT17_V1",
        lambda s: f"{'train' if s.part == 'train' else 'test'}/{_msmt17_file(s)}",
    ),
    "cuhk03": (
        "CUHK03-NP",
        lambda s: f"detected/{_boxes(s)}/{s.pid:04d}_c{s.camera}_{s.frame}.png",
    ),
    "prcc": ("prcc/rgb", _prcc),
    "ltcc": (
        "LTCC_ReID",
        lambda s: (
            f"{'test' if s.part == 'gallery' else s.part}/"
            f"{s.pid:03d}_{s.clothes}_c{s.camera}_{s.frame:06d}.png"
        ),
    ),
    "vc_clothes": (
        "VC-Clothes",
        lambda s: f"{s.part}/{s.pid:04d}-{s.camera:02d}-{s.clothes:02d}-{s.frame}.jpg",
    ),
    "deepchange": ("DeepChangeDataset", _deepchange),
    "last": ("last", _last),
    "ccvid": ("CCVID", lambda s: f"{_ccvid_tracklet(s)}/{s.frame:05d}.jpg"),
    "mars": ("MARS", _mars),
    "cuhk_pedes": ("CUHK-PEDES", _described),
    "icfg_pedes": ("ICFG-PEDES", _described),
    "rstpreid": ("RSTPReid", _described),
    "cuhk_sysu": ("CUHK-SYSU", lambda s: f"cropped_images/p{s.pid}_s{s.frame}_1.jpg"),
    "dukemtmc": (
        "DukeMTMC-reID",
        lambda s: f"{_boxes(s)}/{s.pid:04d}_c{s.camera}_f{s.frame:07d}.jpg",
    ),
    "occluded_duke": (
        "Occluded-Duke",
        lambda s: f"{_boxes(s)}/{s.pid:04d}_c{s.camera}_f{s.frame:07d}.jpg",
    ),
}
