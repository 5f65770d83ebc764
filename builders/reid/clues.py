"""Clues that pairs may be answered by without comparing two people; see `manifests.shortcuts`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from nontrivial.builders.reid.pairs import POSITIVES
from nontrivial.builders.reid.space import Space
from nontrivial.builders.reid.twins import popularity
from nontrivial.manifests.shortcuts import Clues

if TYPE_CHECKING:
    from PIL.Image import Image

UPPER, LOWER = (0.2, 0.5), (0.55, 0.85)  # parts of the height: a shirt, trousers
MIDDLE = (0.25, 0.75)  # part of the width


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


class Looks(NamedTuple):
    """What n images are like, (n, …) float each."""

    size: np.ndarray  # width and height
    light: np.ndarray  # brightness and sharpness
    clothes: np.ndarray  # mean colour of the upper and of the lower part

    def at(self, places: np.ndarray) -> Looks:
        """Return the images at places (m,)."""
        return Looks(*(x[places] for x in self))


def measure(paths: Sequence[str], root: str, progress: Callable[[Any], Iterable]) -> Looks:
    """Measure the images at paths under `root`."""
    from nontrivial.builders.reid.vectors import ahead
    from nontrivial.manifests.media import decode_image, resolve

    workers = os.cpu_count() or 1
    seen = ahead(
        paths, lambda path: look(decode_image(resolve(Path(root), path))), workers, 8 * workers
    )
    return Looks(*map(np.stack, zip(*progress(seen), strict=True)))


def look(image: Image) -> Arrays:
    """Return size, light and clothes of an RGB image."""
    pixels = np.asarray(image, np.float32)
    height, width, _ = pixels.shape
    grey = pixels.mean(axis=2)
    sharp = sum(np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1) if grey.shape[axis] > 1)
    left, right = (int(part * width) for part in MIDDLE)
    clothes = [
        pixels[int(low * height) : int(high * height) + 1, left : right + 1].mean(axis=(0, 1))
        for low, high in (UPPER, LOWER)
    ]
    size, light = np.array([width, height]), np.array([grey.mean(), sharp])
    return size, light, np.concatenate(clothes)


def clues_of(
    pairs: pl.DataFrame,
    space: Space,
    nearest: np.ndarray,
    groups: Sequence[str],
    asked: Looks,
    shown: Looks,
    encoders: Sequence[str],
    control: Mapping[str, np.ndarray],
    *,
    sets: bool = False,
) -> Clues:
    """Return the clues of pairs (anchor, candidate, similarity, kind), which are rows of the space.

    nearest (A, k) are the anchors' nearest strangers, groups P names; `asked` are the looks of the
    anchors, `shown` those of the candidates. `encoders` names those of the space, `control` has the
    vectors (N, D) of others by name. In `sets`, the pairs of an anchor are seen together.
    """
    anchor, candidate = (pairs[name].to_numpy() for name in ("anchor", "candidate"))
    value = pairs["similarity"].to_numpy()
    asks, answers = space.views[anchor], space.views[candidate]
    numbers = {
        "similarity": value,
        "candidate's popularity": popularity(nearest, len(space.pids))[candidate],
        "candidate's mean similarity": _mean_similarity(space, candidate),
        "clothes colour": -np.abs(asked.clothes - shown.clothes).sum(axis=1),
    }
    single = {name: x for name, x in zip(encoders, space.vectors, strict=True) if len(encoders) > 1}
    for name, x in (single | dict(control)).items():
        numbers[f"similarity under {name}"] = np.einsum("pd,pd->p", x[anchor], x[candidate])
    if sets:
        by_set = pl.col("similarity").rank("min", descending=True).over("anchor")
        numbers["similarity's rank in its set"] = pairs.select(by_set).to_series().to_numpy()
    keys = {"cameras": np.stack([asks, answers], axis=1), "candidate's other answers": candidate}
    if not sets:
        keys["anchor"] = anchor
    lit = [asked.light, shown.light, np.abs(asked.light - shown.light), asked.size, shown.size]
    together = np.column_stack([value, _one_hot(asks), _one_hot(answers), *lit])
    return Clues(
        pairs["kind"].is_in(POSITIVES).to_numpy(),
        groups,
        numbers,
        keys=keys,
        vectors={"candidate's vector": np.concatenate([x[candidate] for x in space.vectors], 1)},
        together={"similarity, cameras, size and light": together},
    )


def _mean_similarity(space: Space, rows: np.ndarray) -> np.ndarray:
    """Return the mean cosine of images to all candidates, averaged over encoders, (n,)."""
    means = [x[space.candidates].mean(axis=0, dtype=np.float64) for x in space.vectors]
    pairs = zip(space.vectors, means, strict=True)
    return np.mean([x[rows] @ mean for x, mean in pairs], axis=0)


def _one_hot(labels: np.ndarray) -> np.ndarray:
    return (labels[:, None] == np.unique(labels)).astype(np.float64)
