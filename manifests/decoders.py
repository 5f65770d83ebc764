"""Decoders of clips: torchcodec, decord and PyAV behind one function, the fastest that works first.

All files are untrusted. PyAV looks at each one before another decoder does: it opens a container
with the reader that its first bytes call for, and counts frames. A clip beyond the limits, a
truncated one and one that cannot be decoded raise `MediaError`, which names the file.

decord and torchcodec choose FFmpeg's reader themselves. So they get only files of which PyAV has
seen frames, and that no reader of text would take (`containers.is_binary`).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from nontrivial.manifests.command import say
from nontrivial.manifests.containers import NEEDED, container_of, is_binary
from nontrivial.manifests.errors import first_line, require
from nontrivial.manifests.frames import Clip, frame_indices
from nontrivial.manifests.media import MediaError, check_file, handle, name_of

MAX_FRAME_PIXELS = 16_000_000
MAX_FRAMES = 1_000_000
MAX_CLIP_PIXELS = 512_000_000  # of all sampled frames: 1.5 GB, or 250 frames of 1080p
WHOLE = 0.95  # least share of a clip's frames to be present; encoders may drop a few at the ends

Source = Path | bytes


class Look(NamedTuple):
    """What PyAV has seen of a file, without decoding.

    container  FFmpeg's name of its reader
    listed     frames that its header lists
    found      frames that are in it
    hidden     frames that an edit list hides
    begins     (found - hidden,) seconds at which frames begin, ascending; NaN where unknown
    """

    container: str
    listed: int
    found: int
    hidden: int
    begins: np.ndarray


class Decoder(NamedTuple):
    """A decoder's name, the module that has to load, and what samples frames with it.

    `sample` gets the source, its `Look`, and the arguments of `frame_indices`.
    """

    name: str
    module: str
    sample: Callable[..., Clip]


def sample_frames(
    source: Source,
    *,
    nframes: int | None = 8,
    fps: float | None = None,
    clip: tuple[float, float] | None = None,
) -> Clip:
    """Decode uniformly sampled frames with the fastest decoder that works.

    The arguments are those of `frame_indices`. Truncated and damaged files are refused: frames
    spread over their readable part would show another story than their questions ask about.
    """
    name = name_of(source, "video")
    if isinstance(source, Path):
        check_file(source)
    try:
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
            head = file.read(NEEDED)
    except OSError as error:
        raise MediaError(f"{name}: cannot be opened ({error.strerror})") from error
    container = container_of(head)
    if container is None:
        raise MediaError(f"{name}: is not a readable video (no container that is opened here)")
    try:
        look = look_at(source, container)
        decoders = _fit(source, head, look)
        return _decode(source, look, decoders, name, nframes=nframes, fps=fps, clip=clip)
    except _OverLimitError as error:
        raise MediaError(f"{name}: {error}") from error
    except _UndecodableError as error:
        raise MediaError(f"{name}: is not a readable video ({error})") from error


def installed() -> list[Decoder]:
    """Return the decoders that load here, the fastest first; raise `BadInput` without PyAV."""
    require("av", "video", "reading video")
    return [decoder for decoder in DECODERS if _loaded(decoder.module)]


def named() -> str:
    """Return a line for the log: which decoder reads clips here, and which ones after it."""
    first, *others = (
        f"{decoder.name} {getattr(_loaded(decoder.module), '__version__', '')}".strip()
        for decoder in installed()
    )
    return f"clips are read by {first}" + (
        f", and where it fails by {' or '.join(others)}" if others else ""
    )


def report(rows: Iterable[Mapping[str, Any]]) -> None:
    """Say on stderr what reads the clips of a manifest's rows, if any row has one."""
    if any(row["videos"] for row in rows):
        say(named(), file=sys.stderr)


@cache
def _loaded(module: str) -> ModuleType | None:
    """Import a decoder once; None where it isn't installed, or doesn't find its libraries.

    Without FFmpeg's, torchcodec raises `RuntimeError`, and newer ones say that they found none.
    """
    try:
        loaded = import_module(module)
    except (ImportError, OSError, RuntimeError):
        return None
    return None if getattr(loaded, "ffmpeg_major_version", "") is None else loaded


def _fit(source: Source, head: bytes, look: Look) -> list[Decoder]:
    """Return the decoders that can be trusted with a file.

    decord counts frames that an edit list hides, and then returns others than requested. Damaged
    WMV, and embedded AVI and FLV, make it crash the process. What it can't open it prints as it is:
    a path, or embedded bytes up to the first NUL.
    """
    embedded = isinstance(source, bytes)
    crashing = ("asf", "avi", "flv") if embedded else ("asf",)
    if look.hidden or not look.found or not is_binary(head) or look.container in crashing:
        return [PYAV]
    silent = head[:1] == b"\0" if embedded else str(source).isprintable()
    return [decoder for decoder in installed() if silent or decoder.name != "decord"]


def _decode(
    source: Source, look: Look, decoders: Sequence[Decoder], name: str, **sampling: Any
) -> Clip:
    if look.found < WHOLE * look.listed:
        raise MediaError(f"{name}: truncated, {look.found} of {look.listed} frames are there")
    reasons: list[str] = []
    for decoder in decoders:
        try:
            with _named(decoder.name):
                sampled = decoder.sample(source, look, **sampling)
        except _UndecodableError as error:
            reasons.append(str(error))
            continue
        shown = look.found - look.hidden
        if sampled.total < WHOLE * shown:
            raise MediaError(f"{name}: damaged, {sampled.total} of {shown} frames can be decoded")
        return sampled
    raise _UndecodableError("; ".join(reasons))


class _UndecodableError(Exception):
    """A stream that one decoder cannot decode; another may."""


class _OverLimitError(Exception):
    """A stream that would take too much memory, whoever decodes it."""


@contextmanager
def _named(decoder: str) -> Iterator[None]:
    """Turn what damaged files make a decoder raise, which is of many kinds, into one error."""
    try:
        yield
    except (_OverLimitError, _UndecodableError):
        raise
    except Exception as error:
        raise _UndecodableError(f"{decoder}: {first_line(error)}") from error


def _with_torchcodec(source: Source, look: Look, **sampling: Any) -> Clip:
    from torchcodec.decoders import VideoDecoder

    opened = source if isinstance(source, bytes) else str(handle(source))
    reader = VideoDecoder(opened, dimension_order="NHWC", num_ffmpeg_threads=1)
    about = reader.metadata
    total, rate = about.num_frames or 0, about.average_fps or 0.0
    if total != len(look.begins) or not np.isfinite(look.begins).all():
        raise _UndecodableError("torchcodec: counts frames in another way")
    _check_size(about.height, about.width)
    indices, times = _choose(look.begins, rate, about.height, about.width, **sampling)
    shown = reader.get_frames_at(indices.tolist())
    if (np.abs(shown.pts_seconds.numpy() - look.begins[indices]) > 0.5 / rate).any():
        raise _UndecodableError("torchcodec: shows other frames than those asked for")
    return Clip(shown.data.numpy(), indices, rate, total, times, "torchcodec")


def _with_decord(source: Source, look: Look, **sampling: Any) -> Clip:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    reader = decord.VideoReader(handle(source), num_threads=1)
    total, rate = len(reader), float(reader.get_avg_fps())
    height, width = reader[0].shape[:2]
    _check_size(height, width)
    begins = reader.get_frame_timestamp(range(total))[:, 0]
    indices, times = _choose(begins, rate, height, width, **sampling)
    frames = reader.get_batch(indices.tolist()).asnumpy()
    return Clip(frames, indices, rate, total, times, "decord")


def _with_av(source: Source, look: Look, **sampling: Any) -> Clip:
    with _open(source, look.container) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 0)
        height, width = _size_of(stream)
        _check_size(height, width)
        # A stream may become larger than its header says; FFmpeg then refuses to decode it.
        stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
        # Neither header nor packets tell how many frames can be decoded, so all are decoded once.
        # The frames to keep are those of a whole file: of another, they are decoded again.
        expected, _ = _choose(look.begins, rate, height, width, **sampling)
        begins, kept = _keep(container, expected, height, width)
        indices, times = _choose(begins, rate, height, width, **sampling)
        if not kept.keys() >= set(indices.tolist()):
            container.seek(0)
            _, kept = _keep(container, indices, height, width)
    frames = np.stack([kept[number] for number in indices.tolist()])
    return Clip(frames, indices, rate, len(begins), times, "PyAV")


PYAV = Decoder("PyAV", "av", _with_av)
# The fastest first (benchmarks.decoders).
DECODERS = (
    Decoder("torchcodec", "torchcodec", _with_torchcodec),
    Decoder("decord", "decord", _with_decord),
    PYAV,
)


def _open(source: Source, container: str) -> Any:
    """Open a container with PyAV; its titles may be in any encoding."""
    import av

    return av.open(handle(source), format=container, metadata_errors="replace")


def look_at(source: Source, container: str) -> Look:
    """Look at a file without decoding it.

    Raises `_UndecodableError`, and `_OverLimitError` for frames that are said to be too large.
    """
    require("av", "video", "reading video")
    with _named("PyAV"), _open(source, container) as opened:
        if not opened.streams.video:
            raise _UndecodableError("PyAV: the file has no video stream")
        stream = opened.streams.video[0]
        _check_size(*_size_of(stream))
        packets = [(p.is_discard, p.pts) for p in opened.demux(video=0) if p.size]
        begins = np.array([pts for hidden, pts in packets if not hidden], np.float64)
        begins = np.sort(begins) * float(stream.time_base or 0)
        hidden = len(packets) - len(begins)
        return Look(container, stream.frames, len(packets), hidden, begins)


def _size_of(stream: Any) -> tuple[int, int]:
    """Return height and width of a stream; a stream without either cannot be decoded."""
    codec = stream.codec_context
    if codec is None or not codec.height or not codec.width:
        raise _UndecodableError("PyAV: the stream has no size, or is in no known format")
    return codec.height, codec.width


def _choose(
    begins: Sequence[float | None] | np.ndarray,
    rate: float,
    height: int,
    width: int,
    **sampling: Any,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the frames to sample (T,) int64 and, where the rate varies, their times (T,).

    `begins` are the seconds at which all frames begin. Raises `_OverLimitError` where they are too
    many, or together too large.
    """
    total = len(begins)
    if total < 1 or not rate > 0:
        raise _UndecodableError("the stream has no frames")
    if total > MAX_FRAMES:
        raise _OverLimitError(f"{total} frames are over {MAX_FRAMES}")
    times = _varying(begins, rate)
    indices = frame_indices(total, rate, times=times, **sampling)
    if len(indices) * height * width > MAX_CLIP_PIXELS:
        raise _OverLimitError(
            f"{len(indices)} frames of {width}×{height} are over {MAX_CLIP_PIXELS} pixels; sample "
            "fewer (--nframes, --fps)"
        )
    return indices, None if times is None else times[indices]


def _varying(begins: Sequence[float | None] | np.ndarray, rate: float) -> np.ndarray | None:
    """Return seconds from the first frame, (N,) float64, if one is off a constant rate's place."""
    times = np.array(begins, np.float64)
    times -= times[0]
    off = np.abs(times - np.arange(len(times)) / rate)
    if not (off > 1 / rate).any() or not (np.diff(times) >= 0).all():  # false for unknown times
        return None
    return times


def _keep(
    container: Any, indices: np.ndarray, height: int, width: int
) -> tuple[list[float | None], dict[int, np.ndarray]]:
    """Decode to the end, or to the first damaged frame; return when frames begin, and some frames.

    The frames are those of `indices`, by their number, (height, width, 3) uint8, turned upright.
    """
    import av

    wanted = set(indices.tolist())
    begins: list[float | None] = []
    kept: dict[int, np.ndarray] = {}
    with suppress(av.error.FFmpegError):
        for number, frame in enumerate(container.decode(video=0)):
            if number >= MAX_FRAMES:
                raise _OverLimitError(f"has over {MAX_FRAMES} frames")
            begins.append(frame.time)
            if number in wanted:
                pixels = frame.to_ndarray(format="rgb24", height=height, width=width)
                kept[number] = np.rot90(pixels, round(frame.rotation / 90))  # upright, as shown
    return begins, kept


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_FRAME_PIXELS:
        raise _OverLimitError(f"frames of {width}×{height} are over {MAX_FRAME_PIXELS} pixels")
