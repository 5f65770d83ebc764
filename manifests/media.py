"""Media of manifests: safe paths, bounded images, sampled video frames.

All files are untrusted: a path outside its root, an image or a clip beyond the limits, and a file
that cannot be decoded raise `MediaError`, which names the file.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nontrivial.manifests.containers import NEEDED, container_of
from nontrivial.manifests.errors import BadInput, first_line, require

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_IMAGE_PIXELS = 64_000_000
MAX_FRAME_PIXELS = 16_000_000
MAX_FRAMES = 1_000_000
MAX_CLIP_PIXELS = 512_000_000  # of all sampled frames: 1.5 GB, or 250 frames of 1080p
WHOLE = 0.95  # least share of a clip's frames to be present; encoders may drop a few at the ends
Item = Mapping[str, Any]  # a `{bytes, path}` item of a manifest
Root = str | os.PathLike | None  # folder of the media that are not embedded
# Formats that data sets use. Pillow's other readers are kept away from untrusted files.
MOVED = "Were they moved? --media_root names their folder"  # what to do about lost media
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
    times    (T,) seconds from the first frame of the file, where its rate varies, else None
    """

    frames: np.ndarray
    indices: np.ndarray
    fps: float
    total: int
    times: np.ndarray | None = None

    @property
    def sampled_fps(self) -> float:
        """Frames a second of the sampled frames."""
        if len(self.indices) < 2:
            return self.fps
        if self.times is not None and self.times[-1] > self.times[0]:
            return (len(self.times) - 1) / float(self.times[-1] - self.times[0])
        return self.fps * (len(self.indices) - 1) / float(self.indices[-1] - self.indices[0])


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

    name = name or _name(data, "image")
    if isinstance(data, Path):
        _check_file(data)
    try:
        with Image.open(_handle(data), formats=IMAGE_FORMATS) as image:
            size = f"{image.width}×{image.height}"
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise MediaError(f"{name}: {size} is over {MAX_IMAGE_PIXELS} pixels")
            return ImageOps.exif_transpose(image).convert("RGB")
    except MediaError:
        raise
    except Exception as error:  # damaged files make Pillow's readers raise many kinds of errors
        raise MediaError(f"{name}: is not a readable image ({error})") from error


def frame_indices(
    total: int,
    file_fps: float,
    *,
    nframes: int | None = 8,
    fps: float | None = None,
    clip: tuple[float, float] | None = None,
    times: np.ndarray | None = None,
) -> np.ndarray:
    """Return uniformly spaced frame numbers, ascending, (T,) int64.

    `nframes` frames are spread over the range, each in the middle of its share; `fps` gives as many
    as that rate takes, at most `nframes`. `clip` is a range in seconds. `times` (total,) are the
    seconds at which frames begin, ascending, where the rate varies; then frames begin in the range,
    unless none does: then the one before it is taken, which is seen there.

    >>> frame_indices(128, 25.0, nframes=4).tolist()
    [16, 48, 80, 112]
    >>> frame_indices(100, 10.0, nframes=2, clip=(2.0, 4.0)).tolist()
    [25, 35]
    """
    first, last = 0.0, float(total)
    if clip is not None and times is not None:
        first, last = map(float, np.searchsorted(times, clip))
        if first == last:
            first = max(first - 1, 0.0)
            last = first + 1
    elif clip is not None:
        first = min(max(clip[0] * file_fps, 0.0), total - 1.0)
        last = min(max(clip[1] * file_fps, first + 1.0), float(total))
    count = nframes if nframes is not None else total
    if fps is not None:
        seconds = (last - first) / file_fps
        if times is not None:
            seconds = (*times, times[-1] + 1 / file_fps)[int(last)] - times[int(first)]
        count = min(count, max(1, round(seconds * fps)))
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
    """Decode uniformly sampled frames with decord, or with PyAV where decord fails.

    The arguments are those of `frame_indices`. Truncated and damaged files are refused: frames
    spread over their readable part would show another story than their questions ask about.
    """
    name = _name(source, "video")
    if isinstance(source, Path):
        _check_file(source)
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        container = container_of(file.read(NEEDED))
    if container is None:
        raise MediaError(f"{name}: is not a readable video (no container that is opened here)")
    try:
        return _decode(source, container, name, nframes=nframes, fps=fps, clip=clip)
    except _OverLimitError as error:
        raise MediaError(f"{name}: {error}") from error


def _decode(source: Path | bytes, container: str, name: str, **sampling: Any) -> Clip:
    packets = _count_packets(source, container)
    if packets.found < WHOLE * packets.listed:
        raise MediaError(f"{name}: truncated, {packets.found} of {packets.listed} frames are there")
    with_av = partial(_sample_with_av, container=container)
    # decord counts frames that an edit list hides, and then returns others than requested.
    fit = packets.found and not packets.hidden and _suits_decord(source, container)
    decoders = (_sample_with_decord, with_av) if fit else (with_av,)
    reasons = []
    for decode in decoders:
        try:
            sampled = decode(source, **sampling)
        except _UndecodableError as error:
            reasons.append(str(error))
            continue
        shown = packets.found - packets.hidden
        if sampled.total < WHOLE * shown:
            raise MediaError(f"{name}: damaged, {sampled.total} of {shown} frames can be decoded")
        return sampled
    raise MediaError(f"{name}: is not a readable video ({'; '.join(reasons)})")


def _suits_decord(source: Path | bytes, container: str) -> bool:
    """True for what decord neither crashes at nor prints.

    Damaged WMV, and embedded AVI and FLV, make it crash the process. What it can't open it prints
    as it is: a path, or embedded bytes up to the first NUL.
    """
    if isinstance(source, Path):
        return container != "asf" and str(source).isprintable()
    return container not in ("asf", "avi", "flv") and source[:1] == b"\0"


class _UndecodableError(Exception):
    """A stream that one decoder cannot decode; another may."""


class _OverLimitError(Exception):
    """A stream that would take too much memory, whoever decodes it."""


def _name(source: Path | bytes, kind: str) -> str:
    return str(source) if isinstance(source, Path) else f"embedded {kind}"


def _handle(source: Path | bytes) -> str | io.BytesIO:
    # An absolute path is never taken for a protocol ("concat:a|b").
    return str(source.absolute()) if isinstance(source, Path) else io.BytesIO(source)


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(f"{path}: cannot be opened ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path}: is not a file")
    if status.st_size == 0:
        raise MediaError(f"{path}: is empty (0 bytes)")


def _sample_with_decord(source: Path | bytes, **sampling: Any) -> Clip:
    try:
        import decord
    except ImportError as error:  # some machines have no wheel of it; PyAV is enough
        raise _UndecodableError("decord is not installed") from error
    decord.logging.set_level(decord.logging.QUIET)
    with _named("decord"):
        reader = decord.VideoReader(_handle(source), num_threads=1)
        total, rate = len(reader), float(reader.get_avg_fps())
        _check_length(total, rate)
        height, width = reader[0].shape[:2]
        _check_size(height, width)
        times = _varying(reader.get_frame_timestamp(range(total))[:, 0], rate)
        indices = frame_indices(total, rate, times=times, **sampling)
        _check_clip(len(indices), height, width)
        frames = reader.get_batch(indices.tolist()).asnumpy()
        return Clip(frames, indices, rate, total, None if times is None else times[indices])


def _sample_with_av(source: Path | bytes, *, container: str, **sampling: Any) -> Clip:
    require("av", "video", "reading video")
    with _named("PyAV"), _open(source, container) as opened:
        return _sample_container(opened, **sampling)


@contextmanager
def _named(decoder: str) -> Iterator[None]:
    """Turn what damaged files make a decoder raise, which is of many kinds, into one error."""
    try:
        yield
    except (_OverLimitError, _UndecodableError):
        raise
    except Exception as error:
        raise _UndecodableError(f"{decoder}: {first_line(error)}") from error


def _open(source: Path | bytes, container: str) -> Any:
    """Open a container with PyAV; its titles may be in any encoding."""
    import av

    return av.open(_handle(source), format=container, metadata_errors="replace")


class _Packets(NamedTuple):
    """Counts of frames: listed in a container's header, found in it, hidden by an edit list."""

    listed: int
    found: int
    hidden: int


def _count_packets(source: Path | bytes, container: str) -> _Packets:
    """Count frames without decoding; zeros for an unreadable file, which decoders explain.

    Raises `_OverLimitError` for frames that are said to be too large.
    """
    require("av", "video", "reading video")
    try:
        with _named("PyAV"), _open(source, container) as opened:
            if not opened.streams.video:
                return _Packets(0, 0, 0)
            stream = opened.streams.video[0]
            _check_size(*_size_of(stream))
            packets = [packet.is_discard for packet in opened.demux(video=0) if packet.size]
            return _Packets(stream.frames, len(packets), sum(packets))
    except _UndecodableError:
        return _Packets(0, 0, 0)


def _sample_container(container: Any, **sampling: Any) -> Clip:
    if not container.streams.video:
        raise _UndecodableError("PyAV: the file has no video stream")
    stream = container.streams.video[0]
    rate = float(stream.average_rate or 0)
    height, width = _size_of(stream)
    _check_size(height, width)
    # A stream may become larger than its header says; FFmpeg then refuses to decode it.
    stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
    # Neither header nor packets tell how many frames can be decoded, so all are decoded once.
    begins = [frame.time for frame in _decoded(container)]
    total = len(begins)
    _check_length(total, rate)
    times = _varying(begins, rate)
    indices = frame_indices(total, rate, times=times, **sampling)
    _check_clip(len(indices), height, width)
    wanted = set(indices.tolist())
    container.seek(0)
    kept = {
        number: frame.to_ndarray(format="rgb24", height=height, width=width)
        for number, frame in enumerate(_decoded(container))
        if number in wanted
    }
    frames = np.stack([kept[number] for number in indices.tolist()])
    return Clip(frames, indices, rate, total, None if times is None else times[indices])


def _size_of(stream: Any) -> tuple[int, int]:
    """Return height and width of a stream; a stream without either cannot be decoded."""
    codec = stream.codec_context
    if codec is None or not codec.height or not codec.width:
        raise _UndecodableError("PyAV: the stream has no size, or is in no known format")
    return codec.height, codec.width


def _varying(begins: Sequence[float | None], rate: float) -> np.ndarray | None:
    """Return seconds from the first frame, (N,) float64, if one is off a constant rate's place."""
    times = np.array(begins, np.float64)
    times -= times[0]
    off = np.abs(times - np.arange(len(times)) / rate)
    if not (off > 1 / rate).any() or not (np.diff(times) >= 0).all():  # false for unknown times
        return None
    return times


def _decoded(container: Any) -> Iterator[Any]:
    """Yield frames up to the first damaged one."""
    import av

    try:
        for number, frame in enumerate(container.decode(video=0)):
            if number >= MAX_FRAMES:
                raise _OverLimitError(f"has over {MAX_FRAMES} frames")
            yield frame
    except av.error.FFmpegError:
        return


def _check_length(total: int, rate: float) -> None:
    if total < 1 or not rate > 0:
        raise _UndecodableError("the stream has no frames")
    if total > MAX_FRAMES:
        raise _OverLimitError(f"{total} frames are over {MAX_FRAMES}")


def _check_clip(count: int, height: int, width: int) -> None:
    if count * height * width > MAX_CLIP_PIXELS:
        raise _OverLimitError(
            f"{count} frames of {width}×{height} are over {MAX_CLIP_PIXELS} pixels; sample fewer "
            "(--nframes, --fps)"
        )


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_FRAME_PIXELS:
        raise _OverLimitError(f"frames of {width}×{height} are over {MAX_FRAME_PIXELS} pixels")
