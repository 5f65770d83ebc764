"""Roots of media: which folder a manifest may name as the place of its images and clips.

A manifest records its root, from which its images and clips are read, shown and sent to servers.
So a manifest of other people must not choose any folder. A recorded root is believed if it is

  - a folder below the working directory, as builders record `data`,
  - a folder that holds the manifest, or lies below such a one, where no link leads out of it, or
  - a root that this user has given to a builder on this machine,

and otherwise has to be named by `--media_root`. Paths are compared as they are written, so a data
set in the working directory may be a link. What came with a manifest, in its own folder, may not.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from nontrivial.manifests.errors import BadInput, ManifestError
from nontrivial.manifests.files import cache_folder

logger = logging.getLogger(__name__)


def media_root(manifest: str | os.PathLike, given: str | None = None) -> str | None:
    """Return the folder of a manifest's media: the `given` one, or the recorded one; None if none.

    A relative root is one of the working directory or, if there is none, of the manifest's folder.
    Raises `BadInput`, which names `--media_root`, for a recorded root that is not believed.
    """
    from nontrivial.manifests.parquet import read_about

    if given:
        return given
    recorded = read_about(manifest).get("media_root")
    if recorded is None:
        return None
    if not isinstance(recorded, str) or not recorded or "\0" in recorded:
        raise ManifestError(f"{manifest}: records {recorded!r}, which is no media root")
    beside = Path(os.path.abspath(manifest)).parent
    here, there = (Path(os.path.abspath(folder / recorded)) for folder in (Path.cwd(), beside))
    came_with = there.is_dir() and _came_with(there, beside)
    if _is_own(here, beside) and (here.is_dir() or not came_with):
        return recorded
    if came_with:
        return str(there)
    raise BadInput(
        f"{manifest}: records the media root {recorded!r}, which is neither below the working "
        "directory, nor in the manifest's folder, nor known from a builder; name the "
        "folder of its media with --media_root"
    )


def name_root(root: str | os.PathLike) -> None:
    """Remember a root that the user has named; log a WARNING if the cache cannot be written."""
    mark = _mark(Path(os.path.abspath(root)))
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        logger.warning("%s: manifests will need --media_root (%s)", mark, error)


def _mark(folder: Path) -> Path:
    """Return the empty file that stands for a folder which the user has named."""
    return cache_folder() / "roots" / hashlib.sha256(os.fsencode(folder)).hexdigest()


def _is_own(root: Path, beside: Path) -> bool:
    """True for a root below the working directory or known from a builder; never `/` by itself."""
    here = Path.cwd()
    below = here != Path(here.anchor) and root.is_relative_to(here)
    if below and beside != here and root.is_relative_to(beside):
        below = _came_with(root, beside)
    return below or _mark(root).is_file()


def _came_with(root: Path, beside: Path) -> bool:
    """True for a root in the manifest's folder, with links followed."""
    return beside != Path(beside.anchor) and root.resolve().is_relative_to(beside.resolve())
