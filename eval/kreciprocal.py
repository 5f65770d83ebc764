"""Re-ranking by k-reciprocal neighbours without the matrix of all distances.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017. Each
image i of queries and gallery gets a sparse vector V_i over the images of its k-reciprocal
neighbourhood, weighted by exp(-d) and averaged over its k2 nearest; then

    d*(q, g) = (1 - lambda) · d_J(V_q, V_g) + lambda · d(q, g)
    d_J      = 1 - sum min(V_q, V_g) / (2 - sum min(V_q, V_g))

with d the squared distance over the largest one of its row. A row of V has as many entries as the
neighbourhood has images, so memory is some hundred numbers an image, and the distances of all pairs
pass through in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nontrivial.eval.ranking import BLOCK_BYTES, similarity_blocks

Sparse = tuple[np.ndarray, np.ndarray]  # (columns, values) of one row


@dataclass(frozen=True)
class Neighbourhood:
    """The numbers of the paper, with its values for Market-1501."""

    k1: int = 20
    k2: int = 6
    weight: float = 0.3  # lambda, of the original distance


def reciprocal_blocks(
    query: np.ndarray,
    gallery: np.ndarray,
    *,
    by: Neighbourhood | None = None,
    device: str = "cpu",
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[np.ndarray]:
    """Negative d* of unit vectors (Q, D) and (G, D) float32, as blocks (b, G) of queries."""
    by = by or Neighbourhood()
    vectors = np.concatenate([query, gallery])
    nearest, farthest = _neighbours(vectors, by.k1 + 1, device, block_bytes)
    encoded = [_encode(i, vectors, nearest, farthest, by.k1) for i in range(len(vectors))]
    encoded = [_average(nearest[i, : by.k2], encoded) for i in range(len(vectors))]
    holders = _invert(encoded[len(query) :], len(vectors))
    start = 0
    for scores in similarity_blocks(query, gallery, device=device, block_bytes=block_bytes):
        far = farthest[start : start + len(scores), None]
        for row, distance in enumerate((2 - 2 * scores) / far):
            jaccard = _jaccard(encoded[start + row], holders, len(gallery))
            scores[row] = -((1 - by.weight) * jaccard + by.weight * distance)
        start += len(scores)
        yield scores


def _neighbours(
    vectors: np.ndarray, count: int, device: str, block_bytes: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` nearest of each (N, count), itself first, and its largest distance (N,)."""
    nearest, farthest = [], []
    count = min(count, len(vectors))
    # Partitioning holds places and a copy beside the scores: smaller blocks for the same memory.
    blocks = similarity_blocks(vectors, vectors, device=device, block_bytes=block_bytes // 4)
    for scores in blocks:
        rows = np.arange(len(scores))[:, None]
        scores[rows[:, 0], sum(map(len, farthest)) + rows[:, 0]] = np.inf  # duplicates come second
        some = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        order = np.lexsort((some, -scores[rows, some]), axis=1)
        nearest.append(some[rows, order].astype(np.int32))
        farthest.append(2 - 2 * scores.min(axis=1))
    return np.concatenate(nearest), np.maximum(np.concatenate(farthest), 1e-12)


def _encode(
    i: int, vectors: np.ndarray, nearest: np.ndarray, farthest: np.ndarray, k1: int
) -> Sparse:
    """The k-reciprocal neighbours of i, with those of its neighbours that mostly agree."""
    own = _reciprocal(i, nearest, k1)
    members = [own]
    for j in own:
        near = _reciprocal(j, nearest, round(k1 / 2))
        if len(np.intersect1d(near, own, assume_unique=True)) > 2 / 3 * len(near):
            members.append(near)
    members = np.unique(np.concatenate(members))
    weights = np.exp(-(2 - 2 * vectors[members] @ vectors[i]) / farthest[i])
    return members, (weights / weights.sum()).astype(np.float32)


def _reciprocal(i: int, nearest: np.ndarray, k: int) -> np.ndarray:
    """Those of the k nearest of i that have i among theirs; i is one of them."""
    near = nearest[i, : k + 1]
    return near[(nearest[near, : k + 1] == i).any(axis=1)]


def _average(rows: np.ndarray, encoded: list[Sparse]) -> Sparse:
    """The mean of some sparse rows."""
    columns, places = np.unique(
        np.concatenate([encoded[row][0] for row in rows]), return_inverse=True
    )
    values = np.concatenate([encoded[row][1] for row in rows])
    return columns, (np.bincount(places, values) / len(rows)).astype(np.float32)


def _invert(encoded: list[Sparse], width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which gallery rows hold a column, and its value there: (starts, rows, values)."""
    columns = np.concatenate([row[0] for row in encoded])
    values = np.concatenate([row[1] for row in encoded])
    rows = np.repeat(np.arange(len(encoded), dtype=np.int32), [len(row[0]) for row in encoded])
    order = np.argsort(columns, kind="stable")
    starts = np.searchsorted(columns[order], np.arange(width + 1))
    return starts, rows[order], values[order]


def _jaccard(
    encoded: Sparse, holders: tuple[np.ndarray, np.ndarray, np.ndarray], count: int
) -> np.ndarray:
    """Jaccard distances (count,) of one sparse row to the gallery's."""
    starts, rows, values = holders
    shared = np.zeros(count, np.float32)
    for column, value in zip(*encoded, strict=True):
        held = slice(starts[column], starts[column + 1])
        shared[rows[held]] += np.minimum(value, values[held])
    return 1 - shared / (2 - shared)
