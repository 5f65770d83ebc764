"""A small data set of drawn people in the Market-1501 layout, and moved into all the others."""

from __future__ import annotations

import re
import shutil
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
    if source == "msmt17":
        write_lists(root / folder, root / FOLDER)
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


def write_lists(folder: Path, market: Path) -> None:
    for part in PARTS.values():
        lines = [f"{_msmt17_file(s)} {s.pid}\n" for _, s in shots(market) if s.part == part]
        (folder / f"list_{part}.txt").write_text("".join(lines), encoding="utf-8")


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
