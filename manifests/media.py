"""Media behind a manifest: paths that stay under their root, bounded images, sampled video frames.

Everything here reads untrusted files: a path that leaves its root is refused, an image or a clip
beyond the limits is refused, and what cannot be decoded raises `MediaError` that names the file.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nontrivial.manifests.errors import BadInput, require

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_IMAGE_PIXELS = 64_000_000
MAX_FRAME_PIXELS = 16_000_000
MAX_FRAMES = 1_000_000
WHOLE = 0.95  # share of a clip's frames that must be there; encoders may drop a few at the ends
PLAYLISTS = (b"#EXTM3U", b"ffconcat")
# Formats that data sets use; the rest of Pillow's readers need not see untrusted files.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


class MediaError(BadInput):
    """A media file is missing, outside its root, too large or damaged."""


@dataclass(frozen=True)
class Clip:
    """Sampled frames of a video.

    frames   (T, H, W, 3) uint8, RGB
    indices  (T,) frame numbers in the file, ascending
    fps      frames a second of the file
    total    frames in the file
    """

    frames: np.ndarray
    indices: np.ndarray
    fps: float
    total: int

    @property
    def sampled_fps(self) -> float:
        """Frames a second of the sample itself."""
        if len(self.indices) < 2:
            return self.fps
        return self.fps * (len(self.indices) - 1) / float(self.indices[-1] - self.indices[0])


def resolve(root: str | os.PathLike, path: str) -> Path:
    """`path` under `root`, following links; one that leads outside is refused.

    An absolute path is accepted only where it already lies under the root.
    """
    base = Path(root).resolve()
    try:
        target = (base / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL, too long a name
        raise MediaError(f"media path {path!r} cannot be followed ({error})") from error
    if target != base and base not in target.parents:
        raise MediaError(f"media path {path!r} leads outside its root {base}; it is not followed")
    return target


class NameIndex:
    """Finds files by their bare name under a root, for annotations that name another tree."""

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root}: no such folder to search for media by name")
        self._found: dict[str, list[Path]] = {}
        for folder, _, names in os.walk(self.root):
            for name in names:
                self._found.setdefault(name, []).append(Path(folder, name))

    def find(self, path: str) -> str | None:
        """The one file with that name, relative to the root; None if there is none."""
        found = self._found.get(Path(path).name, [])
        if len(found) > 1:
            where = ", ".join(str(file.relative_to(self.root)) for file in sorted(found)[:3])
            raise MediaError(f"{Path(path).name!r} is ambiguous under {self.root}: {where}, …")
        return found[0].relative_to(self.root).as_posix() if found else None


def source_of(item: Mapping[str, Any], root: str | os.PathLike | None) -> bytes | Path:
    """The content of a `{bytes, path}` item of a manifest, or its file; bytes win over the path."""
    if item.get("bytes") is not None:
        return item["bytes"]
    if root is None:
        raise MediaError(f"{item['path']!r} is not embedded: say where it lies with --media_root")
    return resolve(root, item["path"])


def read_image(item: Mapping[str, Any], root: str | os.PathLike | None) -> Image:
    """Decode one item of a manifest to RGB."""
    source = source_of(item, root)
    embedded = isinstance(source, bytes)
    return decode_image(source, (item.get("path") or "embedded image") if embedded else None)


def encode_image(image: Image, form: str, **settings: Any) -> bytes:
    """The content of a file that holds the image: `form` is PNG, JPEG, …, as Pillow names them."""
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


def decode_image(data: bytes | Path, name: str | None = None) -> Image:
    """Decode an image file or its bytes to RGB, upright, within `MAX_IMAGE_PIXELS`."""
    from PIL import Image, ImageOps

    name = name or str(data)
    if isinstance(data, Path):
        _check_file(data)
    try:
        source = io.BytesIO(data) if isinstance(data, bytes) else data
        with Image.open(source, formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise MediaError(
                    f"{name}: {image.width}×{image.height} is over {MAX_IMAGE_PIXELS} pixels"
                )
            return ImageOps.exif_transpose(image).convert("RGB")
    except MediaError:
        raise
    except Exception as error:  # Pillow's readers let many kinds of errors out of damaged files
        raise MediaError(f"{name}: is not a readable image ({error})") from error


def frame_indices(
    total: int,
    file_fps: float,
    *,
    nframes: int | None = 8,
    fps: float | None = None,
    clip: tuple[float, float] | None = None,
) -> np.ndarray:
    """Uniformly spaced frame numbers, ascending, (T,) int64.

    `nframes` spreads that many over the range, each in the middle of its share; `fps` takes as many
    as that rate gives, at most `nframes`. `clip` is a range in seconds.

    >>> frame_indices(128, 25.0, nframes=4).tolist()
    [16, 48, 80, 112]
    >>> frame_indices(100, 10.0, nframes=2, clip=(2.0, 4.0)).tolist()
    [25, 35]
    """
    first, last = 0.0, float(total)
    if clip is not None:
        first = min(max(clip[0] * file_fps, 0.0), total - 1.0)
        last = min(max(clip[1] * file_fps, first + 1.0), float(total))
    count = nframes if nframes is not None else total
    if fps is not None:
        count = min(count, max(1, round((last - first) / file_fps * fps)))
    count = max(1, min(count, int(np.ceil(last - first))))
    middles = first + (np.arange(count) + 0.5) * (last - first) / count
    return np.minimum(np.floor(middles), total - 1).astype(np.int64)


def sample_frames(
    source: Path | bytes,
    *,
    nframes: int | None = 8,
    fps: float | None = None,
    clip: tuple[float, float] | None = None,
) -> Clip:
    """Decode uniformly sampled frames with decord, or with PyAV where decord gives up.

    A file that was cut short or is damaged inside is refused: frames spread over what can still be
    read would show another story than its questions ask about.
    """
    name = "embedded video" if isinstance(source, bytes) else str(source)
    if isinstance(source, Path):
        _check_file(source)
        _check_container(source)
    packets = _count_packets(source)
    if packets.found < WHOLE * packets.listed:
        raise MediaError(f"{name}: cut short, {packets.found} of {packets.listed} frames are there")
    # decord counts frames that an edit list hides, and then returns others than those asked for.
    decoders = (_sample_with_av,) if packets.hidden else (_sample_with_decord, _sample_with_av)
    reasons = []
    for decode in decoders:
        try:
            sampled = decode(source, nframes=nframes, fps=fps, clip=clip)
        except _UndecodableError as error:
            reasons.append(str(error))
            continue
        shown = packets.found - packets.hidden
        if sampled.total < WHOLE * shown:
            raise MediaError(f"{name}: damaged, {sampled.total} of {shown} frames can be decoded")
        return sampled
    raise MediaError(f"{name}: is not a readable video ({'; '.join(reasons)})")


class _UndecodableError(Exception):
    """One decoder gave up on a stream; another may not."""


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(f"{path}: cannot be opened ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path}: is not a file")
    if status.st_size == 0:
        raise MediaError(f"{path}: is empty (0 bytes)")


def _check_container(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(8).startswith(PLAYLISTS):
            raise MediaError(f"{path}: is a playlist, which would name files outside the root")


def _sample_with_decord(source: Path | bytes, **sampling: Any) -> Clip:
    try:
        import decord
        from decord._ffi.base import DECORDError
    except ImportError as error:  # it has no wheels for some machines, and PyAV does the same work
        raise _UndecodableError("decord is not installed") from error
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(_handle(source), num_threads=1)
        total, rate = len(reader), float(reader.get_avg_fps())
        _check_length(total, rate)
        _check_size(*reader[0].shape[:2])
        indices = frame_indices(total, rate, **sampling)
        frames = reader.get_batch(indices.tolist()).asnumpy()
    except (DECORDError, RuntimeError, IndexError) as error:
        raise _UndecodableError(f"decord: {_first_line(error)}") from error
    return Clip(frames=frames, indices=indices, fps=rate, total=total)


def _sample_with_av(source: Path | bytes, **sampling: Any) -> Clip:
    av = require("av", "video", "reading video")
    try:
        with av.open(_handle(source)) as container:
            return _sample_container(container, **sampling)
    except av.error.FFmpegError as error:
        raise _UndecodableError(f"PyAV: {error}") from error


class _Packets(NamedTuple):
    """Frames of a container: listed in its header, found in it, hidden by an edit list."""

    listed: int
    found: int
    hidden: int


def _count_packets(source: Path | bytes) -> _Packets:
    """Count without decoding; zeros for what no demuxer can read, of which decoders say why."""
    av = require("av", "video", "reading video")
    try:
        with av.open(_handle(source)) as container:
            if not container.streams.video:
                return _Packets(0, 0, 0)
            packets = [packet.is_discard for packet in container.demux(video=0) if packet.size]
            return _Packets(container.streams.video[0].frames, len(packets), sum(packets))
    except av.error.FFmpegError:
        return _Packets(0, 0, 0)


def _handle(source: Path | bytes) -> str | io.BytesIO:
    return io.BytesIO(source) if isinstance(source, bytes) else str(source)


def _sample_container(container: Any, **sampling: Any) -> Clip:
    if not container.streams.video:
        raise _UndecodableError("PyAV: the file has no video stream")
    stream = container.streams.video[0]
    rate = float(stream.average_rate or 0)
    _check_size(stream.height, stream.width)
    # Neither header nor packets tell how many frames come out, so they are counted by decoding.
    total = sum(1 for _ in _decoded(container))
    _check_length(total, rate)
    indices = frame_indices(total, rate, **sampling)
    wanted = set(indices.tolist())
    container.seek(0)
    kept = {
        number: frame.to_ndarray(format="rgb24")
        for number, frame in enumerate(_decoded(container))
        if number in wanted
    }
    frames = np.stack([kept[number] for number in indices.tolist()])
    return Clip(frames=frames, indices=indices, fps=rate, total=total)


def _decoded(container: Any) -> Iterator[Any]:
    """Frames up to the first that is damaged."""
    import av

    try:
        for number, frame in enumerate(container.decode(video=0)):
            if number >= MAX_FRAMES:
                raise MediaError(f"{container.name}: has over {MAX_FRAMES} frames")
            yield frame
    except av.error.FFmpegError:
        return


def _check_length(total: int, rate: float) -> None:
    if total < 1 or not rate > 0:
        raise _UndecodableError("the stream has no frames")
    if total > MAX_FRAMES:
        raise MediaError(f"{total} frames are over {MAX_FRAMES}")


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_FRAME_PIXELS:
        raise MediaError(f"frames of {width}×{height} are over {MAX_FRAME_PIXELS} pixels")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
