"""Measure the decoders that load here on the ways in which clips are read, against decord.

  python -m benchmarks.decoders                       # drawn clips
  python -m benchmarks.decoders --files DIR/*.mp4     # real clips as well

In each round every decoder reads the same frames, one after the other, so that all run under the
same load; the median of the rounds' ratios counts. Times are CPU time of one process. All decoders
have to return the same pixels. What PyAV needs to look at a file comes before any of them, and is
listed by itself.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nontrivial.manifests import decoders
from nontrivial.manifests.command import guard, option, parse, table
from nontrivial.manifests.containers import NEEDED, container_of
from nontrivial.manifests.errors import BadInput, WorkFailed

READ = {
    "16 frames": {"nframes": 16},
    "4 of half a second": {"nframes": 4, "clip": (1.0, 1.5)},
    "2 frames": {"nframes": 2},
}
AGAINST = "decord"
LONG = 120  # seconds of the long clip
SIZE, MARGIN, RATE = (240, 320), 32, 25  # of its frames, and how far its picture wanders


@dataclass
class Options:
    """Options of `python -m benchmarks.decoders`."""

    files: list[str] = option("clips to measure as well", default=[])
    rounds: int = option("rounds; the median counts", default=5)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="benchmarks.decoders", description=__doc__))


def run(options: Options) -> None:
    """Time every decoder on every clip, and print milliseconds and ratios."""
    known = decoders.installed()
    if AGAINST not in [decoder.name for decoder in known]:
        raise BadInput("decord is not installed: pip install 'nontrivial[video]'")
    print(f"{platform.machine()}, {os.cpu_count()} cores; {decoders.named()}\n")
    others = [decoder.name for decoder in known if decoder.name != AGAINST]
    header = ("", "the look, ms", f"{AGAINST}, ms", *(f"{name}, of that" for name in others))
    with tempfile.TemporaryDirectory() as folder:
        clips = {"drawn, 2 minutes": draw_long(Path(folder)), **draw_short(Path(folder))}
        clips |= {Path(name).name: Path(name) for name in options.files}
        lines = [
            (f"{title}: {read}", *cells(path, sampling, known, options.rounds))
            for title, path in clips.items()
            for read, sampling in READ.items()
        ]
    print(table(lines, header))


def cells(
    path: Path, sampling: dict[str, Any], known: Sequence[decoders.Decoder], rounds: int
) -> Iterator[str]:
    """Yield milliseconds of the look and of decord, and the other decoders' shares of the latter.

    Raises `WorkFailed` where two decoders return other pixels.
    """
    with path.open("rb") as file:
        container = container_of(file.read(NEEDED)) or ""
    look = decoders.look_at(path, container)
    seen = {decoder.name: decoder.sample(path, look, **sampling).frames for decoder in known}
    if not all(np.array_equal(frames, seen[AGAINST]) for frames in seen.values()):
        raise WorkFailed(f"{path}: {', '.join(seen)} differ in their pixels")
    looks: list[float] = []
    spent: dict[str, list[float]] = {name: [] for name in seen}
    for _ in range(rounds):
        looks.append(seconds(lambda: decoders.look_at(path, container)))
        for decoder in known:
            read = decoder.sample
            spent[decoder.name].append(seconds(lambda read=read: read(path, look, **sampling)))
    yield f"{1000 * statistics.median(looks):.1f}"
    base = spent.pop(AGAINST)
    yield f"{1000 * statistics.median(base):.1f}"
    for others in spent.values():
        yield f"{statistics.median(a / b for a, b in zip(others, base, strict=True)):.2f}"


def seconds(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def draw_short(folder: Path) -> dict[str, Path]:
    """Draw a clip as `builders.synthetic` does."""
    from nontrivial.builders.synthetic.__main__ import main as synthetic

    words = ["--only", "clevrer", "--videos", "1", "--test_videos", "1"]
    if synthetic([*words, "--out", str(folder)]):
        raise WorkFailed("drawing the clips failed")
    (path,) = folder.glob("clevrer/video_train/*/*.mp4")
    return {"drawn, 5 seconds": path}


def draw_long(folder: Path) -> Path:
    """Draw a coarse picture that wanders for two minutes, in H.264 as encoders write it."""
    import av

    height, width = SIZE
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (height // 8 + 8, width // 8 + 8, 3), dtype=np.uint8)
    picture = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    path = folder / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for t in range(LONG * RATE):
            y, x = (int(MARGIN * (1 + turn(t / 11))) for turn in (np.sin, np.cos))
            shown = np.ascontiguousarray(picture[y : y + height, x : x + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, "rgb24")))
        container.mux(stream.encode())
    return path


if __name__ == "__main__":
    sys.exit(main())
