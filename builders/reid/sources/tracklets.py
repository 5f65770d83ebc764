"""Tracklets: all frames of a video data set, or every n-th of each tracklet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice

from nontrivial.builders.reid.sources.data_set import Photo
from nontrivial.manifests.errors import BadInput


def step_of(source: str, variant: str) -> int:
    """Return the n of `source:n`, or 1 without one; raise `BadInput` if it is no number above 0.

    >>> step_of("mars", "8")
    8
    """
    if not variant:
        return 1
    if not (variant.isascii() and variant.isdigit() and int(variant)):
        raise BadInput(
            f"--source {source}:{variant}: needs a whole number n above 0, as in {source}:8; it "
            "takes every n-th frame of a tracklet"
        )
    return int(variant)


def every(step: int, photos: Iterable[Photo]) -> Iterator[Photo]:
    """Yield the first of every `step` photos of each sequence, in the order of their frames."""
    ordered = sorted(photos, key=lambda photo: (photo.sequence or "", photo.frame or 0))
    for _, tracklet in groupby(ordered, key=lambda photo: photo.sequence):
        yield from islice(tracklet, 0, None, step)
