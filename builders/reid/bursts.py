"""Bursts: images of one person from one camera, taken at almost the same time.

Where a source knows frames, a burst is a stretch of `LENGTH` frames of one sequence, beginning with
the person's first one. Elsewhere two images of a person from one camera are of one burst if they
look more alike than nearly all of a person's images from two cameras do, or if a chain of such
images connects them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nontrivial.builders.reid.space import Pairs, Space

LENGTH = 125  # frames; five seconds at 25 frames a second
NEARLY_ALL = 0.99
SAMPLED = 4_000  # pairs that tell how alike images from two cameras are
UNKNOWN = -1


def find_bursts(
    space: Space,
    positives: Pairs,
    sequences: np.ndarray | None = None,
    frames: np.ndarray | None = None,
    length: int = LENGTH,
) -> np.ndarray:
    """Number the bursts, (N,) int64.

    positives are pairs across cameras; sequences (N,) and frames (N,) are int64, −1 where unknown.
    """
    nowhere = np.full(len(space.pids), UNKNOWN)
    sequences, frames = (nowhere if x is None else x for x in (sequences, frames))
    seen = np.stack([space.pids, space.views, sequences], axis=1)
    shown = np.unique(seen, axis=0, return_inverse=True)[1].reshape(-1)  # a person in a sequence
    first = np.full(len(shown), np.iinfo(np.int64).max)
    np.minimum.at(first, shown, frames)
    part = np.where(frames == UNKNOWN, UNKNOWN, (frames - first[shown]) // length)
    least = _alike_across(space, positives)
    for rows in _groups(shown, np.flatnonzero(frames == UNKNOWN)):
        alike = np.mean([x[rows] @ x[rows].T for x in space.vectors], axis=0) > least
        part[rows] = UNKNOWN - _first_connected(alike | np.eye(len(rows), dtype=bool))
    return np.unique(np.stack([shown, part], axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def _alike_across(space: Space, positives: Pairs) -> float:
    """Return the cosine, averaged over encoders, that `NEARLY_ALL` positives stay below."""
    if not len(positives.anchor):
        return 1.0
    count = len(positives.anchor)
    some = positives.at(np.linspace(0, count - 1, min(SAMPLED, count)).astype(np.int64))
    pairs = [np.einsum("pd,pd->p", x[some.anchor], x[some.candidate]) for x in space.vectors]
    return float(np.quantile(np.mean(pairs, axis=0), NEARLY_ALL))


def _groups(labels: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Cut rows into groups of one label."""
    rows = rows[np.argsort(labels[rows], kind="stable")]
    return (
        iter(np.split(rows, np.flatnonzero(np.diff(labels[rows])) + 1)) if len(rows) else iter(())
    )


def _first_connected(linked: np.ndarray) -> np.ndarray:
    """Return the lowest number that each item is connected to, (n,); linked (n, n) bool.

    >>> _first_connected(np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], bool)).tolist()
    [0, 1, 0]
    """
    part = np.arange(len(linked))
    while True:
        lowest = np.where(linked, part, len(part)).min(axis=1)
        if (lowest == part).all():
            return part
        part = lowest
