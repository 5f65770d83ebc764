"""Re-rank by k-reciprocal neighbours without the matrix of all distances.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017. Each
image i of queries and gallery gets a sparse vector V_i over the images of its k-reciprocal
neighbourhood, weighted by exp(-d) and averaged over its k2 nearest images. The new distance is

    d*(q, g) = (1 - lambda) · d_J(V_q, V_g) + lambda · d(q, g)
    d_J      = 1 - sum min(V_q, V_g) / (2 - sum min(V_q, V_g))

where d is the squared distance divided by the largest one of its row. A row of V has one entry for
each image of the neighbourhood, so memory is some hundred numbers for each image. The distances of
all pairs are computed in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nontrivial.eval.ranking import BLOCK_BYTES, similarity_blocks

Sparse = tuple[np.ndarray, np.ndarray]  # (columns, values) of one row


@dataclass(frozen=True)
class Neighbourhood:
    """Parameters of the paper, with its values for Market-1501."""

    k1: int = 20
    k2: int = 6
    weight: float = 0.3  # lambda: share of the original distance


def reciprocal_blocks(
    query: np.ndarray,
    gallery: np.ndarray,
    *,
    by: Neighbourhood | None = None,
    device: str = "cpu",
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[np.ndarray]:
    """Yield negative d* of unit vectors (Q, D) and (G, D) float32 as blocks (b, G) of queries."""
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
    """Return the nearest images (N, count), each itself first, and the largest distances (N,)."""
    nearest: list[np.ndarray] = []
    farthest: list[np.ndarray] = []
    count = min(count, len(vectors))
    # Partitioning needs indices and a copy beside the scores: smaller blocks keep the memory bound.
    blocks = similarity_blocks(vectors, vectors, device=device, block_bytes=block_bytes // 4)
    for scores in blocks:
        rows = np.arange(len(scores))[:, None]
        # An image comes before its duplicates.
        scores[rows[:, 0], sum(map(len, farthest)) + rows[:, 0]] = np.inf
        first = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        order = np.lexsort((first, -scores[rows, first]), axis=1)
        nearest.append(first[rows, order].astype(np.int32))
        farthest.append(2 - 2 * scores.min(axis=1))
    return np.concatenate(nearest), np.maximum(np.concatenate(farthest), 1e-12)


def _encode(
    i: int, vectors: np.ndarray, nearest: np.ndarray, farthest: np.ndarray, k1: int
) -> Sparse:
    """Return V_i; the set of a neighbour j joins that of i if over two thirds of it lie there."""
    mutual = _reciprocal(i, nearest, k1)
    parts = [mutual]
    for j in mutual:
        near = _reciprocal(j, nearest, round(k1 / 2))
        if len(np.intersect1d(near, mutual, assume_unique=True)) > 2 / 3 * len(near):
            parts.append(near)
    members = np.unique(np.concatenate(parts))
    weights = np.exp(-(2 - 2 * vectors[members] @ vectors[i]) / farthest[i])
    return members, (weights / weights.sum()).astype(np.float32)


def _reciprocal(i: int, nearest: np.ndarray, k: int) -> np.ndarray:
    """Return the k nearest images of i that have i among their k nearest; i is one of them."""
    near = nearest[i, : k + 1]
    return near[(nearest[near, : k + 1] == i).any(axis=1)]


def _average(rows: np.ndarray, encoded: list[Sparse]) -> Sparse:
    """Return the mean of some sparse rows."""
    columns, values = map(np.concatenate, zip(*(encoded[i] for i in rows), strict=True))
    columns, places = np.unique(columns, return_inverse=True)
    return columns, (np.bincount(places, values) / len(rows)).astype(np.float32)


def _invert(encoded: list[Sparse], width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index sparse gallery rows by column: (starts, rows, values), a slice for each column."""
    columns, values = map(np.concatenate, zip(*encoded, strict=True))
    rows = np.repeat(np.arange(len(encoded), dtype=np.int32), [len(row) for row, _ in encoded])
    order = np.argsort(columns, kind="stable")
    starts = np.searchsorted(columns[order], np.arange(width + 1))
    return starts, rows[order], values[order]


def _jaccard(
    encoded: Sparse, holders: tuple[np.ndarray, np.ndarray, np.ndarray], count: int
) -> np.ndarray:
    """Return the Jaccard distances (count,) of one sparse row to those of the gallery."""
    starts, rows, values = holders
    shared = np.zeros(count, np.float32)
    for column, value in zip(*encoded, strict=True):
        held = slice(starts[column], starts[column + 1])
        shared[rows[held]] += np.minimum(value, values[held])
    return 1 - shared / (2 - shared)
