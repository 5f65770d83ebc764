"""Measure whether embedding keeps the network busy, in images a second.

  python -m benchmarks.embedding

Each round times the bare forward pass on decoded arrays and then the whole of `builders.embed`
(reading files, decoding, preprocessing, the same forward passes, writing shards), so that both run
under the same load. Networks have random weights that are saved to a file and read back like a
user's. Images are drawn people at Market-1501's 64 × 128 pixels.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nontrivial.manifests.command import guard, option, parse, table
from nontrivial.manifests.errors import WorkFailed

if TYPE_CHECKING:
    import polars as pl
    import torch

    from nontrivial.models.encoders import Encoder

CLIP = "ViT-B-32"
OSNET = "osnet_x1_0"
PER_IDENTITY = 12


@dataclass
class Options:
    """Options of `python -m benchmarks.embedding`."""

    images: int = option("images embedded in each round", default=480)
    batch_size: int = option("images in one forward pass", default=64)
    rounds: int = option("rounds; the median counts", default=3)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="benchmarks.embedding", description=__doc__))


def run(options: Options) -> None:
    """Time both networks; print images a second."""
    import torch

    from nontrivial.models.encoders import load_encoder

    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores"
    )
    print(f"{platform.machine()}, {device}, torch {torch.__version__}\n")
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        frame = draw(Path(folder), options.images)
        for spec in (random_osnet(Path(folder)), random_clip(Path(folder))):
            encoder = load_encoder(spec)
            timed = [compare(frame, encoder, folder, options) for _ in range(options.rounds)]
            bare = statistics.median(len(frame) / before for before, _ in timed)
            ours = statistics.median(len(frame) / after for _, after in timed)
            ratio = statistics.median(before / after for before, after in timed)
            lines.append((encoder.name, bare, ours, ratio))
    print(table(lines, header=("", "bare forward, images/s", "builders.embed, images/s", "ratio")))


def compare(
    frame: pl.DataFrame, encoder: Encoder, root: str, options: Options
) -> tuple[float, float]:
    """Return seconds of the bare forward pass and of `builders.embed` on the same images."""
    import numpy as np

    from nontrivial.builders.reid.vectors import ImageOptions, embed
    from nontrivial.manifests.media import decode_image, resolve

    paths = frame["path"].to_list()
    arrays = [encoder.preprocess(decode_image(resolve(Path(root), path))) for path in paths]
    size = options.batch_size
    batches = [np.stack(arrays[low : low + size]) for low in range(0, len(arrays), size)]

    def forward() -> None:
        for batch in batches:
            encoder.encode(batch)

    def whole() -> None:
        with tempfile.TemporaryDirectory() as out:
            embed(frame, [encoder], ImageOptions(root=root, out=out, batch_size=size))

    encoder.encode(batches[0])
    return seconds(forward), seconds(whole)


def seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def draw(root: Path, images: int) -> pl.DataFrame:
    """Draw people under `root` and return their table, as `builders.embed` reads it."""
    from nontrivial.builders.reid.vectors import ImageOptions, read_sources
    from nontrivial.builders.synthetic.__main__ import main as synthetic

    words = ["--only", "market1501", "--out", str(root), "--test_identities", "6"]
    if synthetic([*words, "--identities", str(-(-images // PER_IDENTITY))]):
        raise WorkFailed("drawing the images failed")
    (source,) = read_sources(ImageOptions(root=str(root)))
    return source.frame.head(images)


def random_osnet(folder: Path) -> str:
    """Save an OSNet x1.0 with random weights in `folder`; return its specification."""
    from nontrivial.manifests.errors import require

    factory = require("torchreid.reid.models", "reid", "OSNet")
    network = factory.build_model(OSNET, num_classes=1, pretrained=False)
    return f"{OSNET}={_saved(network, folder / 'osnet.pth')}"


def random_clip(folder: Path) -> str:
    """Save CLIP's ViT-B-32 with random weights in `folder`; return its specification."""
    import open_clip

    network = open_clip.create_model(CLIP, pretrained=None)
    return f"openclip:{CLIP}={_saved(network, folder / 'clip.pt')}"


def _saved(network: torch.nn.Module, path: Path) -> Path:
    import torch

    torch.save(network.state_dict(), path)
    return path


if __name__ == "__main__":
    sys.exit(main())
