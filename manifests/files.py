"""Atomic writes, locks between processes, and globs of files."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from nontrivial.manifests.errors import BadInput


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds.

    The temporary file is locked, so that those of killed writers are known, and removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(path)
    temporary, handle = _temporary(path)
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
        os.close(handle)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text atomically; half characters, which UTF-8 can't hold, are escaped."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _temporary(path: Path) -> tuple[Path, int]:
    """Make and lock an empty file beside `path`; return its path and its open descriptor."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with contextlib.suppress(OSError):  # where nothing can be locked, nothing is removed
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(handle, name):
            return Path(name), handle
        os.close(handle)  # another writer took it for left before it was locked


def _remove_left(path: Path) -> None:
    """Remove the temporary files of `path` that no living process has locked."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError), _opened(left, os.O_RDONLY | os.O_NOFOLLOW) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    handle = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        yield handle
    finally:
        os.close(handle)


def _is_at(handle: int, path: str | os.PathLike) -> bool:
    """True if an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def cache_folder() -> Path:
    """Return the folder of what is remembered: NONTRIVIAL_CACHE, or ~/.cache/nontrivial."""
    return Path(os.environ.get("NONTRIVIAL_CACHE") or Path.home() / ".cache" / "nontrivial")


@contextlib.contextmanager
def claim(path: str | os.PathLike) -> Iterator[None]:
    """Hold the lock for writing `path`; raise `BadInput` if another process holds it.

    The lock is a file beside `path`, which is removed in the end. Who locks a file that was removed
    meanwhile holds nothing, and tries again.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.parent / f".{path.name}.lock"
    while True:
        with _opened(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BadInput(
                    f"{path}: another process is writing it; wait for it or change --out"
                ) from error
            if not _is_at(handle, lock):
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


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
