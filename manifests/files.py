"""Files that are written whole or not at all, by one process at a time, and found by globs."""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from nontrivial.manifests.errors import BadInput


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary name beside `path` that is renamed to it when the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def claim(path: str | os.PathLike) -> Iterator[None]:
    """Hold the only right to write `path`; raises `BadInput` where another process has it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.parent / f".{path.name}.lock", timeout=0):
            yield
    except Timeout as error:
        raise BadInput(
            f"{path}: another process is writing it; wait for it or change --out"
        ) from error


def expand(patterns: Iterable[str | os.PathLike]) -> list[Path]:
    """The files that paths and globs name, each once, in their order.

    Raises `FileNotFoundError` for a path that does not exist or a glob that matches nothing.
    """
    found: dict[Path, None] = {}
    for pattern in map(str, patterns):
        magic = glob.has_magic(pattern) and not Path(pattern).exists()
        matches = sorted(glob.glob(pattern, recursive=True)) if magic else [pattern]
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            raise FileNotFoundError(f"{pattern}: no such file; builders write manifests/*.parquet")
        found.update(dict.fromkeys(files))
    return list(found)
