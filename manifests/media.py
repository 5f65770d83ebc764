"""Media of manifests: safe paths, bounded images. Clips are read by `manifests.decoders`.

All files are untrusted: a path outside its root, an image beyond the limit, and a file that cannot
be decoded raise `MediaError`, which names the file.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_IMAGE_PIXELS = 64_000_000
Item = Mapping[str, Any]  # a `{bytes, path}` item of a manifest
Root = str | os.PathLike | None  # folder of the media that are not embedded
# Formats that data sets use. Pillow's other readers are kept away from untrusted files.
MOVED = "Were they moved? --media_root names their folder"  # what to do about lost media
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


class MediaError(BadInput):
    """A media file is missing, outside its root, too large or damaged."""


def resolve(root: str | os.PathLike, path: str) -> Path:
    """Return `path` under `root`, with links followed; an absolute path must lie under it, too.

    In a snapshot of the Hub's cache, files are links to the blobs beside it, which are its own.
    Raises `MediaError` for a path that leads outside the root.
    """
    base = Path(root).resolve()
    try:
        target = (base / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL, a long name
        raise MediaError(f"media path {path!r} cannot be followed ({error})") from error
    if not (target.is_relative_to(base) or _is_blob(target, base)):
        raise MediaError(f"media path {path!r} leads outside its root {base}; it is not followed")
    return target


def _is_blob(target: Path, base: Path) -> bool:
    """True for a blob of the snapshot in the Hub's cache that `base` is, or lies in."""
    for folder in (base, *base.parents):
        if folder.parent.name == "snapshots":
            return target.parent == folder.parent.parent / "blobs"
    return False


class NameIndex:
    """Files under a root by their bare names, for annotations that name another tree."""

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root}: no such folder to search for media by name")
        self._files: dict[str, list[Path]] = {}
        for folder, _, names in os.walk(self.root):
            for name in names:
                self._files.setdefault(name, []).append(Path(folder, name))

    def find(self, path: str) -> str | None:
        """Return the file of that name, relative to the root, or None; several are an error."""
        files = self._files.get(Path(path).name, [])
        if len(files) > 1:
            where = ", ".join(str(file.relative_to(self.root)) for file in sorted(files)[:3])
            raise MediaError(f"{Path(path).name!r} is ambiguous under {self.root}: {where}, …")
        return files[0].relative_to(self.root).as_posix() if files else None


def source_of(item: Item, root: Root) -> bytes | Path:
    """Return the bytes of an item or, if it has none, its file."""
    if item.get("bytes") is not None:
        return item["bytes"]
    if root is None:
        raise MediaError(f"{item['path']!r} is not embedded: name its folder with --media_root")
    return resolve(root, item["path"])


def read_image(item: Item, root: Root) -> Image:
    """Decode an image item of a manifest to RGB."""
    source = source_of(item, root)
    return decode_image(source, None if isinstance(source, Path) else item.get("path"))


def encode_image(image: Image, form: str, **settings: Any) -> bytes:
    """Encode an image as the bytes of a file; `form` is Pillow's name of a format: PNG, JPEG, …"""
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


def decode_image(data: bytes | Path, name: str | None = None) -> Image:
    """Decode an image file or its bytes to RGB, upright, within `MAX_IMAGE_PIXELS`."""
    from PIL import Image, ImageOps

    name = name or name_of(data, "image")
    if isinstance(data, Path):
        check_file(data)
    try:
        with Image.open(handle(data), formats=IMAGE_FORMATS) as image:
            size = f"{image.width}×{image.height}"
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise MediaError(f"{name}: {size} is over {MAX_IMAGE_PIXELS} pixels")
            return ImageOps.exif_transpose(image).convert("RGB")
    except MediaError:
        raise
    except Exception as error:  # damaged files make Pillow's readers raise many kinds of errors
        raise MediaError(f"{name}: is not a readable image ({error})") from error


def name_of(source: Path | bytes, kind: str) -> str:
    """Return what messages call a file, or embedded bytes of a kind."""
    return str(source) if isinstance(source, Path) else f"embedded {kind}"


def handle(source: Path | bytes) -> str | io.BytesIO:
    """Return what decoders open. An absolute path is never taken for a protocol ("concat:a|b")."""
    return str(source.absolute()) if isinstance(source, Path) else io.BytesIO(source)


def check_file(path: Path) -> None:
    """Raise `MediaError` for what is missing, empty, or no file, such as a pipe."""
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(f"{path}: cannot be opened ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path}: is not a file")
    if status.st_size == 0:
        raise MediaError(f"{path}: is empty (0 bytes)")
