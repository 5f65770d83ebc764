"""Check that the clips of questions lie where their paths say, without decoding."""

from __future__ import annotations

import posixpath
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nontrivial.builders.qa.benches.question import Refused
from nontrivial.manifests.media import MediaError, NameIndex, resolve

if TYPE_CHECKING:
    import polars as pl

FOUND, MISSING = "found", "missing"
EMPTY = "the media file is empty (0 bytes)"
ABSENT = "the media file is missing"
OUTSIDE = "the media path leads outside the root"


@dataclass
class Located:
    """Questions whose clip may exist, refused questions, and counts of found and missing clips."""

    frame: pl.DataFrame
    refused: list[Refused] = field(default_factory=list)
    clips: dict[str, int] = field(default_factory=dict)


def locate(
    frame: pl.DataFrame, root: Path, *, by_name: bool = False, require: bool = False
) -> Located:
    """Check every clip once; refuse the questions of empty files and of paths that leave the root.

    Missing clips are only counted, because annotations often come before the videos; `require`
    refuses their questions too. With `by_name` a clip is found by its file name anywhere under the
    root; raises `MediaError` if that name is ambiguous.
    """
    import polars as pl

    index = NameIndex(root) if by_name else None
    places: dict[str, str] = {}
    folders: dict[str, Path] = {}
    problems: dict[str, tuple[str, bool]] = {}
    clips: Counter[str] = Counter()
    for video in frame["video"].unique(maintain_order=True):
        places[video] = (index.find(video) if index else None) or video
        state = _state(root, places[video], folders)
        if state in (FOUND, MISSING):
            clips[state] += 1
        if state == MISSING and require:
            problems[video] = (ABSENT, False)
        elif state not in (FOUND, MISSING):
            problems[video] = (state, state == EMPTY)
    bad = pl.col("video").is_in(list(problems))
    refused = [
        Refused(f"{name} ({video})", *problems[video])
        for name, video in frame.filter(bad).select("id", "video").iter_rows()
    ]
    kept = frame.filter(~bad).with_columns(
        pl.col("video").replace_strict(places, return_dtype=pl.String)
    )
    return Located(kept, refused, dict(sorted(clips.items())))


def _state(root: Path, video: str, folders: dict[str, Path]) -> str:
    """Return the state of one clip; `folders` caches resolved folders, since clips share a few."""
    folder, name = posixpath.split(video)
    try:
        if folder not in folders:
            folders[folder] = resolve(root, folder)
        path = folders[folder] / name
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):  # a link, a folder, `..`
            path = resolve(root, video)
            status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except (MediaError, OSError, ValueError):  # a NUL byte, or too long a name
        return OUTSIDE
    if not stat.S_ISREG(status.st_mode):
        return MISSING
    return FOUND if status.st_size else EMPTY
