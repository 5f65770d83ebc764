"""What a re-identification data set is to the builders, and what all of them have in common."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import polars as pl

from nontrivial.manifests.errors import BadInput

# Roles of images, and what they mean to a ranking: junk is dropped from it, a distractor is ranked
# but shows nobody who is asked for.
TRAIN, QUERY, GALLERY, DISTRACTOR, JUNK = "train", "query", "gallery", "distractor", "junk"
NOT_AN_IMAGE = "not an image name"
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

SCHEMA = {
    "path": pl.String,  # relative to the root, as manifests name media
    "source": pl.String,
    "name": pl.String,  # unique within the source; ids are made of it
    "pid": pl.String,  # "market1501/train/0002": identities of different splits never meet
    "camid": pl.Int32,
    "clothes": pl.String,
    "split": pl.String,
    "role": pl.String,
}


class Photo(NamedTuple):
    """One image file of a data set; `path` is relative to the data set's own folder.

    Outfits are compared within an identity, so `clothes` need not be unique beyond it. `name`
    stands in ids; by default it is the file's own, without its ending.
    """

    path: str
    pid: str
    camid: int
    role: str
    clothes: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class ImageList:
    """The images of one split of a data set."""

    frame: pl.DataFrame  # SCHEMA, sorted by path
    folder: Path  # the data set's own folder
    ignored: Mapping[str, int]  # files that were left out, by reason
    differences: list[str]  # from the published counts


@dataclass(frozen=True)
class DataSet:
    """A data set on disk.

    `scan(folder, split, ignored)` yields the photos of a split and counts the files it leaves out;
    `published` holds (images, identities) of each role, distractors and junk without identities.
    """

    name: str
    folders: tuple[str, ...]
    layout: str
    origin: str
    published: Mapping[str, tuple[int, int | None]]
    scan: Callable[[Path, str, Counter[str]], Iterable[Photo]]
    splits: tuple[str, ...] = field(default=("train", "test"))

    def read(self, root: str | os.PathLike, split: str) -> ImageList:
        """Find the data set under `root` and list the images of `split`."""
        if split not in self.splits:
            raise BadInput(f"{self.name} has no split {split!r}; it has {', '.join(self.splits)}")
        folder = self.find(root)
        ignored: Counter[str] = Counter()
        try:
            photos = list(self.scan(folder, split, ignored))
        except FileNotFoundError as error:
            raise BadInput(f"{error.filename}: is not there; {self._help(root)}") from error
        if not photos:
            raise BadInput(f"{folder}: no images of split {split!r}; {self._help(root)}")
        frame = self._frame(photos, folder.relative_to(root).as_posix(), split)
        return ImageList(frame, folder, dict(ignored), self._differences(frame))

    def find(self, root: str | os.PathLike) -> Path:
        """The data set's folder under `root`; raises `BadInput` where there is none."""
        for name in self.folders:
            if Path(root, name).is_dir():
                return Path(root, name)
        raise BadInput(f"{self.name} was not found; {self._help(root)}")

    def _help(self, root: str | os.PathLike) -> str:
        places = ", ".join(str(Path(root, name)) for name in self.folders)
        return (
            f"looked for {places}\n"
            f"  layout:  {self.layout}\n"
            f"  origin:  {self.origin}\n"
            f"  elsewhere on this machine: name the folder above it with --root\n"
            f"  synthetic people: nontrivial synthetic --out {root}, --source market1501"
        )

    def _frame(self, photos: list[Photo], folder: str, split: str) -> pl.DataFrame:
        rows = [
            (
                photo.path if folder == "." else f"{folder}/{photo.path}",
                self.name,
                photo.name or Path(photo.path).stem,
                f"{self.name}/{split}/{photo.pid}",
                photo.camid,
                photo.clothes and f"{photo.pid}-{photo.clothes}",
                split,
                photo.role,
            )
            for photo in photos
        ]
        frame = pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("path")
        twice = frame.filter(pl.col("name").is_duplicated())
        if len(twice):
            raise BadInput(f"{self.name}: two images of one name: {', '.join(twice['path'][:2])}")
        return frame

    def _differences(self, frame: pl.DataFrame) -> list[str]:
        """What differs from the published counts, in words."""
        found = frame.group_by("role").agg(pl.len(), pl.col("pid").n_unique()).sort("role")
        texts = []
        for role, images, pids in found.rows():
            wanted, people = self.published.get(role, (images, None))
            if images != wanted or people not in (None, pids):
                identities = f" of {people:,} identities" if people else ""
                texts.append(
                    f"{self.name} {role}: {images:,} images of {pids:,} identities, "
                    f"published are {wanted:,}{identities}"
                )
        return texts
