"""A small data set of drawn people in the Market-1501 layout."""

from __future__ import annotations

from pathlib import Path

from builders.sources.market1501 import DATA_SET
from builders.synthetic.__main__ import main

FOLDER = DATA_SET.folders[0]


def draw(root: Path, identities: int = 12, test_identities: int = 6, images: int = 6) -> Path:
    """Draw it under `root`; returns its own folder."""
    words = {"identities": identities, "test_identities": test_identities}
    words |= {"images_per_identity": images, "only": "market1501", "out": root}
    assert main([f"--{name}={value}" for name, value in words.items()]) == 0
    return root / FOLDER
