"""A re-identification data set: its files on disk and its table of images."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from nontrivial.builders import truth
from nontrivial.manifests.errors import BadInput

# Roles of images. A ranking drops junk; it keeps distractors, which match no query.
TRAIN, QUERY, GALLERY, DISTRACTOR, JUNK = "train", "query", "gallery", "distractor", "junk"
ROLES = {"train": (TRAIN,), "test": (QUERY, GALLERY, DISTRACTOR, JUNK)}
NOT_AN_IMAGE = "not an image name"
NO_TEXT = "a name that is no text"
TOO_LARGE = "a number that is too large"

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "path": pl.String,  # relative to the root, as in manifests
    "source": pl.String,
    "name": pl.String,  # unique within the source; part of sample ids
    "pid": pl.String,  # "market1501/train/0002": unique over sources and splits
    "camid": pl.Int32,  # null where the camera is unknown
    "clothes": pl.String,
    "split": pl.String,
    "role": pl.String,
    "sequence": pl.String,
    "frame": pl.Int64,  # frame number within the sequence
    "descriptions": pl.List(pl.String),
}


class Photo(NamedTuple):
    """An image file; `path` is relative to the data set's folder.

    `clothes` names an outfit of the identity and need not be unique across identities. `name` is
    used in sample ids; by default it is the file's name without its suffix. `sequence` names a
    recording of one camera, and `frame` is the frame's number in it. `descriptions` are sentences
    about the person in the image.
    """

    path: str
    pid: str
    camid: int | None
    role: str
    clothes: str | None = None
    name: str | None = None
    sequence: str | None = None
    frame: int | None = None
    descriptions: Sequence[str] | None = None


def number_of(digits: str) -> int:
    """Return the number that digits are; one too long for any table becomes -1.

    >>> number_of("007"), number_of("9" * 5000)
    (7, -1)
    """
    return int(digits) if len(digits) < 19 else -1


@dataclass(frozen=True)
class ImageList:
    """The images of one split of a data set."""

    frame: pl.DataFrame  # columns of SCHEMA, sorted by path
    folder: Path  # the data set's folder
    ignored: Mapping[str, int]  # number of skipped files by reason
    differences: list[str]  # from the published counts, as sentences
    origin: str  # where it is from, and its licence where that is known


@dataclass(frozen=True)
class DataSet:
    """A data set on disk.

    `scan(folder, split, ignored)` yields the photos of a split and counts the files it skips in
    `ignored`, by reason. `published` maps a role to its published numbers of images and identities;
    the latter is None for distractors and junk, and where it was not published.
    """

    name: str
    folders: tuple[str, ...]
    layout: str
    origin: str
    published: Mapping[str, tuple[int, int | None]]
    scan: Callable[[Path, str, Counter[str]], Iterable[Photo]]
    splits: tuple[str, ...] = ("train", "test")

    def read(self, root: str | os.PathLike, split: str) -> ImageList:
        """List the images of `split`; raise `BadInput` if the data set is missing or incomplete."""
        if split not in self.splits:
            raise BadInput(f"{self.name} has no split {split!r}; it has {', '.join(self.splits)}")
        folder = self.find(root)
        ignored: Counter[str] = Counter()
        try:
            photos = [photo for photo in self.scan(folder, split, ignored) if _fits(photo, ignored)]
        except OSError as error:  # a list may name what is not there, or what can be no name
            if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
                raise
            raise BadInput(f"{error.filename}: not found; {self._help(root)}") from error
        if not photos:
            raise BadInput(f"{folder}: no images of split {split!r}; {self._help(root)}")
        frame = self._frame(photos, folder.relative_to(root).as_posix(), split)
        origin = truth.DRAWN if (folder / truth.FILE).is_file() else self.origin
        return ImageList(frame, folder, dict(ignored), self._differences(frame), origin)

    def find(self, root: str | os.PathLike) -> Path:
        """Return the data set's folder under `root`; raise `BadInput` if there is none."""
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
            f"  if it is elsewhere on this machine: pass its parent folder with --root\n"
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
                photo.sequence,
                photo.frame,
                photo.descriptions,
            )
            for photo in photos
        ]
        frame = pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("path")
        twice = frame.filter(pl.col("name").is_duplicated())
        if len(twice):
            raise BadInput(f"{self.name}: two images share a name: {', '.join(twice['path'][:2])}")
        return frame

    def _differences(self, frame: pl.DataFrame) -> list[str]:
        """Describe each role whose counts differ from the published ones."""
        counts = frame.group_by("role").agg(pl.len(), pl.col("pid").n_unique()).sort("role")
        texts = []
        for role, images, pids in counts.rows():
            expected, people = self.published.get(role, (images, None))
            if images != expected or people not in (None, pids):
                identities = f" of {people:,} identities" if people else ""
                texts.append(
                    f"{self.name} {role}: {images:,} images of {pids:,} identities, "
                    f"published are {expected:,}{identities}"
                )
        return texts


def _fits(photo: Photo, ignored: Counter[str]) -> bool:
    """True for a photo that the table can hold; counts others."""
    if not 0 <= (photo.camid or 0) < 2**31 or not 0 <= (photo.frame or 0) < 2**63:
        ignored[TOO_LARGE] += 1
        return False
    known = (photo.path, photo.pid, photo.clothes, photo.name, photo.sequence)
    try:
        "".join([*filter(None, known), *(photo.descriptions or ())]).encode()
    except UnicodeEncodeError:
        ignored[NO_TEXT] += 1
        return False
    return True
