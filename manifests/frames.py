"""Frames of a clip: those that were sampled, and which ones to sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Clip:
    """Sampled frames of a video.

    frames   (T, H, W, 3) uint8, RGB
    indices  (T,) frame numbers in the file, ascending
    fps      frames a second of the file
    total    frames in the file
    times    (T,) seconds from the first frame of the file, where its rate varies, else None
    decoder  name of what has decoded them
    """

    frames: np.ndarray
    indices: np.ndarray
    fps: float
    total: int
    times: np.ndarray | None = None
    decoder: str = ""

    @property
    def sampled_fps(self) -> float:
        """Frames a second of the sampled frames."""
        if len(self.indices) < 2:
            return self.fps
        if self.times is not None and self.times[-1] > self.times[0]:
            return (len(self.times) - 1) / float(self.times[-1] - self.times[0])
        return self.fps * (len(self.indices) - 1) / float(self.indices[-1] - self.indices[0])


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
