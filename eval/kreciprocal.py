"""Re-rank by k-reciprocal neighbours without the matrix of all distances.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017. Each
image i of queries and gallery gets a sparse vector V_i over the images of its k-reciprocal
neighbourhood, weighted by exp(-d) and averaged over its k2 nearest images. The new distance is

    d*(q, g) = (1 - lambda) · d_J(V_q, V_g) + lambda · d(q, g)
    d_J      = 1 - sum min(V_q, V_g) / (2 - sum min(V_q, V_g))

where d is the squared distance divided by the largest one of its row. A row of V has one entry for
each image of the neighbourhood, so memory is some hundred numbers for each image. The distances of
all pairs are computed in blocks.

A verifier's verdict on a pair (`Verdicts`) moves d(q, g) and d(g, q) before anything else,

    d' = (1 - a) d            for a = alpha (2 P(same) - 1) >= 0
    d' = (1 - |a|) d + |a|    for a < 0

so it changes the neighbourhoods, and with them the places of images that were not judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nontrivial.eval.ranking import BLOCK_BYTES, similarity_blocks
from nontrivial.eval.rerank import moved

Sparse = tuple[np.ndarray, np.ndarray]  # (columns, values) of one row


@dataclass(frozen=True)
class Neighbourhood:
    """Parameters of the paper, with its values for Market-1501."""

    k1: int = 20
    k2: int = 6
    weight: float = 0.3  # lambda: share of the original distance


@dataclass(frozen=True)
class Verdicts:
    """P(same person) of pairs of a query and a gallery image.

    query, gallery  (n,) int64 rows; each pair comes once
    p_same          (n,)
    alpha           share of the verdict; at 0 every distance stays as it is, to the bit
    """

    query: np.ndarray
    gallery: np.ndarray
    p_same: np.ndarray
    alpha: float


def reciprocal_blocks(
    query: np.ndarray,
    gallery: np.ndarray,
    *,
    by: Neighbourhood | None = None,
    verdicts: Verdicts | None = None,
    device: str = "cpu",
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[np.ndarray]:
    """Yield negative d* of unit vectors (Q, D) and (G, D) float32 as blocks (b, G) of queries."""
    by = by or Neighbourhood()
    vectors = np.concatenate([query, gallery])
    judged = _Judged(verdicts, len(query))
    nearest, farthest = _neighbours(vectors, judged, by.k1 + 1, device, block_bytes)
    encoded = [_encode(i, vectors, judged, nearest, farthest, by.k1) for i in range(len(vectors))]
    encoded = [_average(nearest[i, : by.k2], encoded) for i in range(len(vectors))]
    holders = _invert(encoded[len(query) :], len(vectors))
    start, images = 0, np.arange(len(query), len(vectors))
    for scores in similarity_blocks(query, gallery, device=device, block_bytes=block_bytes):
        far = farthest[start : start + len(scores), None]
        for row, lowest in enumerate(1 - far[:, 0] / 2):
            judged.move(start + row, scores[row], images, lowest)
        for row, distance in enumerate((2 - 2 * scores) / far):
            jaccard = _jaccard(encoded[start + row], holders, len(gallery))
            scores[row] = -((1 - by.weight) * jaccard + by.weight * distance)
        start += len(scores)
        yield scores


class _Judged:
    """Verdicts by image; each is found from its query and from its gallery image."""

    def __init__(self, verdicts: Verdicts | None, queries: int) -> None:
        self._of: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # (other images, P(same))
        if verdicts is None or not len(verdicts.p_same):
            return
        self._alpha = verdicts.alpha
        ends = verdicts.query, verdicts.gallery + queries
        images, others = (np.concatenate(x) for x in (ends, ends[::-1]))
        order = np.argsort(images, kind="stable")
        starts = np.unique(images[order], return_index=True)[1]
        parts = (np.split(x[order], starts[1:]) for x in (others, np.tile(verdicts.p_same, 2)))
        self._of = dict(zip(images[order][starts].tolist(), zip(*parts, strict=True), strict=True))

    def move(self, i: int, scores: np.ndarray, images: np.ndarray, lowest: float) -> None:
        """Move the similarities (n,) of image i with `images` (n,), ascending, in place."""
        if i in self._of:
            others, p_same = self._of[i]
            at = np.minimum(np.searchsorted(images, others), len(images) - 1)
            here = images[at] == others
            at = at[here]
            scores[at] = moved(scores[at], p_same[here], self._alpha, lowest)


def _neighbours(
    vectors: np.ndarray, judged: _Judged, count: int, device: str, block_bytes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest images (N, count), each itself first, and the largest distances (N,)."""
    nearest: list[np.ndarray] = []
    farthest: list[np.ndarray] = []
    count, everyone = min(count, len(vectors)), np.arange(len(vectors))
    # Partitioning needs indices and a copy beside the scores: smaller blocks keep the memory bound.
    blocks = similarity_blocks(vectors, vectors, device=device, block_bytes=block_bytes // 4)
    for scores in blocks:
        rows, start = np.arange(len(scores))[:, None], sum(map(len, farthest))
        # An image comes before its duplicates.
        scores[rows[:, 0], start + rows[:, 0]] = np.inf
        lowest = scores.min(axis=1)
        for row in range(len(scores)):
            judged.move(start + row, scores[row], everyone, lowest[row])
        first = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        order = np.lexsort((first, -scores[rows, first]), axis=1)
        nearest.append(first[rows, order].astype(np.int32))
        farthest.append(2 - 2 * lowest)
    return np.concatenate(nearest), np.maximum(np.concatenate(farthest), 1e-12)


def _encode(
    i: int,
    vectors: np.ndarray,
    judged: _Judged,
    nearest: np.ndarray,
    farthest: np.ndarray,
    k1: int,
) -> Sparse:
    """Return V_i; the set of a neighbour j joins that of i if over two thirds of it lie there."""
    mutual = _reciprocal(i, nearest, k1)
    parts = [mutual]
    for j in mutual:
        near = _reciprocal(j, nearest, round(k1 / 2))
        if len(np.intersect1d(near, mutual, assume_unique=True)) > 2 / 3 * len(near):
            parts.append(near)
    members = np.unique(np.concatenate(parts))
    scores = vectors[members] @ vectors[i]
    judged.move(i, scores, members, 1 - farthest[i] / 2)
    weights = np.exp(-(2 - 2 * scores) / farthest[i])
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
