"""Images that can be compared across cameras, and the similarity they are compared by.

For an anchor a, the images that may answer it are candidates of *other cameras*. Among them a
positive shows the same identity, a negative another one. With several encoders e,

    s(a, c) = mean_e ( <x_a^e, x_c^e> − m_a^e ) / d_a^e

where m and d are mean and standard deviation over all images that may answer a. With the encoders'
vectors side by side that is one inner product per pair, scaled and shifted by the anchor: one exact
search serves any number of encoders. With a single encoder s is its cosine.

Both sides of the inner product have length below 1 and are rounded to multiples of 2^-12. Products
are multiples of 2^-24 then, and so is every partial sum, none of which is over 1: float32 holds all
of them exactly. Blocks, threads, processors and libraries cannot change a bit of a similarity, and
equal is equal. The rounding moves a cosine by 1e-4 (bfloat16 would by 3e-3).

Memory: beside the vectors one rounded copy of those that may answer, ordered by camera, so that the
images of all other cameras are two slices of it; and blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

BLOCK = 4096  # anchors searched at once
GATHER = 1024  # rows whose vectors are copied at once
STEPS = 4096  # to a unit of length, 2^12


@dataclass(frozen=True)
class Space:
    """Images that can be compared.

    vectors     of each encoder (N, width) float32 unit vectors
    pids        (N,) int64; camids (N,) int64; clothes (N,) int64 outfits, −1 where unknown
    anchors     (A,) int64, rows that ask, ascending
    candidates  (C,) int64, rows that may answer, by camera and then by row
    index       (C, D) float32: the candidates' rounded vectors, encoders side by side
    weight      (N, E) float32: what each encoder's cosines of an anchor are multiplied by
    offset      (N,) float32: what is subtracted from their sum
    """

    vectors: tuple[np.ndarray, ...]
    pids: np.ndarray
    camids: np.ndarray
    clothes: np.ndarray
    anchors: np.ndarray
    candidates: np.ndarray
    index: np.ndarray
    weight: np.ndarray
    offset: np.ndarray

    def queries(self, anchors: np.ndarray) -> np.ndarray:
        """Rounded, weighted vectors of anchors, (n, D) float32."""
        length = np.linalg.norm(self.weight[anchors], axis=1)
        return _rounded(
            [x[anchors] * (w / length)[:, None] for x, w in self._weighted(anchors)], divisor=1
        )

    def keys(self, rows: np.ndarray) -> np.ndarray:
        """Rounded vectors of candidates, (n, D) float32."""
        return _rounded([x[rows] for x in self.vectors], divisor=len(self.vectors) ** 0.5)

    def scale(self, anchors: np.ndarray) -> np.ndarray:
        """What inner products of queries and keys are multiplied by, (n,) float32."""
        even = len(self.vectors) ** 0.5 / _shrink(self.index.shape[1]) ** 2
        return (np.linalg.norm(self.weight[anchors], axis=1) * even).astype(np.float32)

    def scores(self, anchors: np.ndarray, products: np.ndarray) -> np.ndarray:
        """Similarities of (n, …) inner products of anchors' queries with keys."""
        shape = (-1,) + (1,) * (products.ndim - 1)
        return products * self.scale(anchors).reshape(shape) - self.offset[anchors].reshape(shape)

    def reweighted(self, weight: np.ndarray, offset: np.ndarray) -> Space:
        """The same images with another weight (N, E) and offset (N,)."""
        return replace(self, weight=weight, offset=offset)

    def by_camera(self, anchors: np.ndarray) -> Iterator[tuple[np.ndarray, slice]]:
        """For each camera of (n,) anchors: their places among them, and its part of the index."""
        asking, answering = self.camids[anchors], self.camids[self.candidates]
        order = np.argsort(asking, kind="stable")
        cameras, starts = np.unique(asking[order], return_index=True)
        edges = itertools.pairwise([*starts.tolist(), len(order)])
        for camera, (start, end) in zip(cameras, edges, strict=True):
            low, high = np.searchsorted(answering, [camera, camera + 1])
            yield order[start:end], slice(int(low), int(high))

    def _weighted(self, anchors: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return zip(self.vectors, self.weight[anchors].T, strict=True)


@dataclass(frozen=True)
class Pairs:
    """Rows of anchors and candidates, (P,) integers, and their similarities (P,) float32."""

    anchor: np.ndarray
    candidate: np.ndarray
    similarity: np.ndarray

    def where(self, kept: np.ndarray) -> Pairs:
        """The pairs that a mask (P,) keeps."""
        if kept.all():
            return self
        return Pairs(self.anchor[kept], self.candidate[kept], self.similarity[kept])


def build_space(
    vectors: Sequence[np.ndarray],
    pids: np.ndarray,
    camids: np.ndarray,
    anchors: np.ndarray,
    candidates: np.ndarray,
    clothes: np.ndarray | None = None,
) -> Space:
    """Make images comparable; each of `vectors` is (N, width) float32, rows of length 1."""
    rows, width = len(pids), sum(x.shape[1] for x in vectors)
    plain = Space(
        tuple(vectors),
        pids,
        camids,
        np.full(rows, -1) if clothes is None else clothes,
        anchors,
        candidates[np.lexsort((candidates, camids[candidates]))],
        index=np.empty((len(candidates), width), np.float32),
        weight=np.ones((rows, len(vectors)), np.float32),
        offset=np.zeros(rows, np.float32),
    )
    for part in blocks(np.arange(len(candidates)), GATHER):
        plain.index[part] = plain.keys(plain.candidates[part])
    return plain if len(vectors) == 1 else _fused(plain)


def similarity(space: Space, anchor: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """s(a, c) of pairs of rows, (P,) float32."""
    result = np.empty(len(anchor), np.float32)
    for part in blocks(np.arange(len(anchor)), GATHER):
        queries, keys = space.queries(anchor[part]), space.keys(candidate[part])
        result[part] = space.scores(anchor[part], np.einsum("pd,pd->p", queries, keys))
    return result


def average(space: Space, anchors: np.ndarray) -> np.ndarray:
    """Mean of s(a, ·) over all that may answer each of (n,) anchors, (n,) float32."""
    mean = np.zeros(len(anchors), np.float32)
    total = _total(space, slice(0, len(space.index)))
    for places, own in space.by_camera(anchors):
        centre = (total - _total(space, own)) / _others(space, own)
        for part in blocks(places):
            asking = anchors[part]
            mean[part] = space.scores(asking, space.queries(asking).astype(np.float64) @ centre)
    return mean


def deviation(space: Space, anchors: np.ndarray) -> np.ndarray:
    """Standard deviation of s(a, ·) over all that may answer each of (n,) anchors, (n,) float32."""
    result = np.ones(len(anchors), np.float32)
    for places, _, scatter in _moments(space, anchors):
        for part in blocks(places):
            queries = space.queries(anchors[part]).astype(np.float64)
            variance = np.einsum("pd,pd->p", queries @ scatter, queries)
            result[part] = space.scale(anchors[part]) * np.sqrt(np.maximum(variance, 1e-12))
    return result


def _shrink(width: int) -> float:
    """Rounding may lengthen a vector by half a step in each of its dimensions; this makes room."""
    return 1 - width**0.5 / (2 * STEPS)


def _rounded(parts: Sequence[np.ndarray], divisor: float) -> np.ndarray:
    """Vectors side by side, shorter than 1, as multiples of 1 / STEPS."""
    joined = parts[0].copy() if len(parts) == 1 else np.concatenate(parts, axis=1)
    joined *= np.float32(STEPS * _shrink(joined.shape[1]) / divisor)
    np.rint(joined, out=joined)
    joined /= STEPS
    return joined


def _fused(plain: Space) -> Space:
    """The same space with each encoder's similarities as z-scores of the anchor, averaged."""
    weight, offset = np.ones_like(plain.weight), np.zeros(len(plain.pids), np.float32)
    columns = _columns(plain)
    for places, centre, scatter in _moments(plain, plain.anchors):
        rows = plain.anchors[places]
        offset[rows] = 0
        for number, (own, x) in enumerate(zip(columns, plain.vectors, strict=True)):
            unit = len(columns) ** 0.5 / _shrink(plain.index.shape[1])
            asking = x[rows].astype(np.float64) * unit
            variance = np.einsum("pd,pd->p", asking @ scatter[own, own], asking)
            scale = np.sqrt(np.maximum(variance, 1e-12)) * len(columns)
            weight[rows, number] = 1 / scale
            offset[rows] += (asking @ centre[own]) / scale
    # The last digits of these sums depend on the number of threads; nothing else may.
    return plain.reweighted(_to_steps(weight), _to_steps(offset))


def _to_steps(x: np.ndarray) -> np.ndarray:
    return (np.rint(x * STEPS) / STEPS).astype(np.float32)


def _columns(space: Space) -> list[slice]:
    """Where each encoder's vectors are."""
    edges = itertools.accumulate((x.shape[1] for x in space.vectors), initial=0)
    return [slice(start, end) for start, end in itertools.pairwise(edges)]


def _moments(
    space: Space, anchors: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each camera of (n,) anchors: their places, mean (D,) and covariance (D, D) of the keys
    that may answer them."""
    if not len(anchors):
        return
    everything = slice(0, len(space.index))
    total, square = _total(space, everything), _square(space, everything)
    for places, own in space.by_camera(anchors):
        count = _others(space, own)
        centre = (total - _total(space, own)) / count
        yield places, centre, (square - _square(space, own)) / count - np.outer(centre, centre)


def _others(space: Space, own: slice) -> int:
    return max(1, len(space.index) - (own.stop - own.start))


def _total(space: Space, part: slice) -> np.ndarray:
    """Sum over a part of the index, (D,) float64."""
    return space.index[part].sum(axis=0, dtype=np.float64)


def _square(space: Space, part: slice) -> np.ndarray:
    """Sum of outer products over a part of the index, (D, D) float64."""
    square = np.zeros((space.index.shape[1],) * 2)
    for start in range(part.start, part.stop, GATHER):
        block = space.index[start : min(start + GATHER, part.stop)].astype(np.float64)
        square += block.T @ block
    return square


def blocks(items: np.ndarray, size: int | None = None) -> Iterator[np.ndarray]:
    """Cut items (N,) into parts of `size`, by default `BLOCK`."""
    size = size or BLOCK
    return (items[start : start + size] for start in range(0, len(items), size))
