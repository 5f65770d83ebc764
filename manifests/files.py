"""Atomic writes, locks between processes, and globs of files."""

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
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds."""
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


def cache_folder() -> Path:
    """Return the folder of what is remembered: NONTRIVIAL_CACHE, or ~/.cache/nontrivial."""
    return Path(os.environ.get("NONTRIVIAL_CACHE") or Path.home() / ".cache" / "nontrivial")


@contextlib.contextmanager
def claim(path: str | os.PathLike) -> Iterator[None]:
    """Hold the lock for writing `path`; raise `BadInput` if another process holds it."""
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
    """Return the files that paths and globs name, each once, in order.

    Raises `FileNotFoundError` for a path that does not exist or a glob without matches.
    """
    files: dict[Path, None] = {}
    for pattern in map(str, patterns):
        magic = glob.has_magic(pattern) and not Path(pattern).exists()
        names = sorted(glob.glob(pattern, recursive=True)) if magic else [pattern]
        matches = [path for path in map(Path, names) if path.is_file()]
        if not matches:
            raise FileNotFoundError(f"{pattern}: no such file; builders write manifests/*.parquet")
        files.update(dict.fromkeys(matches))
    return list(files)
