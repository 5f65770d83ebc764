"""Small images and clips, written by the libraries that real data sets were written with."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (64, 128)) -> Path:
    """A noisy JPEG or PNG of (width, height)."""
    from PIL import Image

    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_media(root: Path, images: int, clip: str = "clip.mp4") -> Path:
    """A folder of images, 0.jpg and so on, and a clip."""
    for number in range(images):
        write_image(root / f"{number}.jpg", seed=number)
    write_clip(root / clip)
    return root


def write_clip(
    path: Path,
    frames: int = 24,
    fps: int | Fraction = 12,
    *,
    codec: str = "libx264",
    **options: str,
) -> Path:
    """A clip of 96×64 whose frame number t is told by its brightness, 10·t modulo 250."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for t in range(frames):
            pixels = np.full((64, 96, 3), 10 * t % 250, dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
