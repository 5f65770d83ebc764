"""Images that can be compared across cameras, and their similarity.

An anchor a is compared with candidates of *other cameras*. Among them a positive shows the same
identity, a negative another one. With several encoders e,

    s(a, c) = mean_e ( <x_a^e, x_c^e> − m_a^e ) / d_a^e

where m and d are the mean and standard deviation over all candidates of other cameras. With the
encoders' vectors side by side this is one inner product per pair, scaled and shifted by the anchor,
so one exact search serves any number of encoders. With a single encoder s is its cosine.

Both sides of the inner product have length below 1 and are rounded to multiples of 2^-12. Products
and all partial sums are then multiples of 2^-24 and at most 1, so float32 holds them exactly:
blocks, threads, processors and libraries cannot change a bit of a similarity, and ties are exact.
The rounding moves a cosine by 1e-4 (bfloat16 would move it by 3e-3).

Memory: the vectors, one rounded copy of the candidates' vectors, and blocks. The copy is ordered by
camera, so that the images of all other cameras are two slices of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

BLOCK = 4096  # anchors searched at once
GATHER = 1024  # rows whose vectors are copied at once
STEPS = 4096  # rounding steps per unit of length, 2^12


@dataclass(frozen=True)
class Space:
    """Images that can be compared.

    vectors     (N, width) float32 unit vectors of each encoder
    pids        (N,) int64; clothes (N,) int64 outfits, −1 where unknown
    camids      (N,) int64, where each image of an unknown camera has a number of its own
    views       (N,) int64, the same with −1 for unknown cameras
    anchors     (A,) int64 rows, ascending
    candidates  (C,) int64 rows, by camera and then by row
    index       (C, D) float32: the candidates' rounded vectors, encoders side by side
    weight      (N, E) float32: factors of each encoder's cosines, by anchor
    offset      (N,) float32: subtracted from the weighted sum of cosines, by anchor
    """

    vectors: tuple[np.ndarray, ...]
    pids: np.ndarray
    camids: np.ndarray
    views: np.ndarray
    clothes: np.ndarray
    anchors: np.ndarray
    candidates: np.ndarray
    index: np.ndarray
    weight: np.ndarray
    offset: np.ndarray

    def queries(self, anchors: np.ndarray) -> np.ndarray:
        """Return rounded, weighted vectors of anchors, (n, D) float32."""
        weight = self.weight[anchors]
        weight /= np.linalg.norm(weight, axis=1, keepdims=True)
        parts = [x[anchors] * w[:, None] for x, w in zip(self.vectors, weight.T, strict=True)]
        return _rounded(parts, divisor=1)

    def keys(self, rows: np.ndarray) -> np.ndarray:
        """Return rounded vectors of candidates, (n, D) float32."""
        return _rounded([x[rows] for x in self.vectors], divisor=len(self.vectors) ** 0.5)

    def scale(self, anchors: np.ndarray) -> np.ndarray:
        """Return the factors that turn inner products into similarities, (n,) float32."""
        even = len(self.vectors) ** 0.5 / _shrink(self.index.shape[1]) ** 2
        return (np.linalg.norm(self.weight[anchors], axis=1) * even).astype(np.float32)

    def scores(self, anchors: np.ndarray, products: np.ndarray) -> np.ndarray:
        """Turn (n, …) inner products of the anchors' queries with keys into similarities."""
        shape = (-1,) + (1,) * (products.ndim - 1)
        return products * self.scale(anchors).reshape(shape) - self.offset[anchors].reshape(shape)

    def reweighted(self, weight: np.ndarray, offset: np.ndarray) -> Space:
        """Return the same space with another weight (N, E) and offset (N,)."""
        return replace(self, weight=weight, offset=offset)

    def cameras(self, pairs: Pairs) -> np.ndarray:
        """Return a number for the two views of each pair, in their order, (P,) int64."""
        known, view = np.unique(self.views, return_inverse=True)
        return view[pairs.anchor] * len(known) + view[pairs.candidate]

    def by_camera(self, anchors: np.ndarray) -> Iterator[tuple[np.ndarray, slice]]:
        """Yield for each camera of (n,) anchors their places, and its slice of the index."""
        asking, answering = self.camids[anchors], self.camids[self.candidates]
        order = np.argsort(asking, kind="stable")
        cameras, starts = np.unique(asking[order], return_index=True)
        edges = itertools.pairwise([*starts.tolist(), len(order)])
        for camera, (start, end) in zip(cameras, edges, strict=True):
            low, high = np.searchsorted(answering, [camera, camera + 1])
            yield order[start:end], slice(int(low), int(high))


@dataclass(frozen=True)
class Pairs:
    """Rows of anchors and candidates, (P,) integers, and their similarities, (P,) float32."""

    anchor: np.ndarray
    candidate: np.ndarray
    similarity: np.ndarray

    def where(self, kept: np.ndarray) -> Pairs:
        """Return the pairs that the mask (P,) keeps."""
        if kept.all():
            return self
        return self.at(kept)

    def at(self, places: np.ndarray) -> Pairs:
        """Return the pairs at places (n,), or where a mask (P,) is true."""
        return Pairs(self.anchor[places], self.candidate[places], self.similarity[places])


@dataclass(frozen=True)
class Strangers:
    """The nearest strangers of each anchor, best first.

    rows (A, k), −1 for none; values (A, k) float32, −inf for none and for those in doubt; last (A,)
    float32, the similarity that the search of the anchor ended with, −inf if it found all
    """

    rows: np.ndarray
    values: np.ndarray
    last: np.ndarray


def build_space(
    vectors: Sequence[np.ndarray],
    pids: np.ndarray,
    camids: np.ndarray,
    anchors: np.ndarray,
    candidates: np.ndarray,
    clothes: np.ndarray | None = None,
) -> Space:
    """Build the space of N images; each of `vectors` is (N, width) float32, rows of length 1.

    An image of an unknown camera (−1) is compared with all images but itself.
    """
    rows, width = len(pids), sum(x.shape[1] for x in vectors)
    views = camids
    camids = np.where(views < 0, views.max(initial=0) + 1 + np.arange(rows), views)
    plain = Space(
        tuple(vectors),
        pids,
        camids,
        views,
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


def best_by_row(pairs: Pairs, rows: int) -> np.ndarray:
    """Return the highest similarity of each row as an anchor, (rows,) float32; −inf without one."""
    best = np.full(rows, -np.inf, np.float32)
    np.maximum.at(best, pairs.anchor, pairs.similarity)
    return best


def similarity(space: Space, anchor: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Return s(a, c) of pairs of rows, (P,) float32."""
    result = np.empty(len(anchor), np.float32)
    for part in blocks(np.arange(len(anchor)), GATHER):
        queries, keys = space.queries(anchor[part]), space.keys(candidate[part])
        result[part] = space.scores(anchor[part], np.einsum("pd,pd->p", queries, keys))
    return result


def average(space: Space, anchors: np.ndarray) -> np.ndarray:
    """Return the mean of s(a, ·) over candidates of other cameras, (n,) float32."""
    mean = np.zeros(len(anchors), np.float32)
    for places, _, _, centre in _centres(space, anchors):
        for part in blocks(places):
            asking = anchors[part]
            mean[part] = space.scores(asking, space.queries(asking).astype(np.float64) @ centre)
    return mean


def deviation(space: Space, anchors: np.ndarray) -> np.ndarray:
    """Return the standard deviation of s(a, ·) over the same candidates, (n,) float32."""
    result = np.ones(len(anchors), np.float32)
    for places, _, scatter in _moments(space, anchors):
        for part in blocks(places):
            queries = space.queries(anchors[part]).astype(np.float64)
            variance = np.einsum("pd,pd->p", queries @ scatter, queries)
            result[part] = space.scale(anchors[part]) * np.sqrt(np.maximum(variance, 1e-12))
    return result


def _shrink(width: int) -> float:
    """Return a factor that makes room for rounding by up to half a step in each dimension."""
    return 1 - width**0.5 / (2 * STEPS)


def _rounded(parts: Sequence[np.ndarray], divisor: float) -> np.ndarray:
    """Put vectors side by side, shorter than 1, as multiples of 1 / STEPS."""
    joined = parts[0].copy() if len(parts) == 1 else np.concatenate(parts, axis=1)
    joined *= np.float32(STEPS * _shrink(joined.shape[1]) / divisor)
    np.rint(joined, out=joined)
    joined /= STEPS
    return joined


def _fused(plain: Space) -> Space:
    """Return the space with the mean over encoders of the anchor's z-scores as its similarity."""
    weight, offset = np.ones_like(plain.weight), np.zeros(len(plain.pids), np.float32)
    edges = itertools.accumulate((x.shape[1] for x in plain.vectors), initial=0)
    columns = list(itertools.starmap(slice, itertools.pairwise(edges)))  # of each encoder
    for places, centre, scatter in _moments(plain, plain.anchors):
        rows = plain.anchors[places]
        for number, (part, x) in enumerate(zip(columns, plain.vectors, strict=True)):
            unit = len(columns) ** 0.5 / _shrink(plain.index.shape[1])
            asking = x[rows].astype(np.float64) * unit
            variance = np.einsum("pd,pd->p", asking @ scatter[part, part], asking)
            scale = np.sqrt(np.maximum(variance, 1e-12)) * len(columns)
            weight[rows, number] = 1 / scale
            offset[rows] += (asking @ centre[part]) / scale
    # Rounded, because the last digits of the sums above depend on the number of threads.
    return plain.reweighted(to_steps(weight), to_steps(offset))


def to_steps(x: np.ndarray) -> np.ndarray:
    """Round to float32 multiples of 1 / STEPS, the same whatever the last digits are."""
    return (np.rint(x * STEPS) / STEPS).astype(np.float32)


def _moments(
    space: Space, anchors: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield for each camera of (n,) anchors their places, and the mean (D,) and covariance (D, D)
    of the keys of other cameras."""
    if not len(anchors):
        return
    square = _square(space, slice(0, len(space.index)))
    for places, own, count, centre in _centres(space, anchors):
        yield places, centre, (square - _square(space, own)) / count - np.outer(centre, centre)


def _centres(
    space: Space, anchors: np.ndarray
) -> Iterator[tuple[np.ndarray, slice, int, np.ndarray]]:
    """Yield `by_camera` with the number of keys of other cameras and their mean (D,) float64."""
    total = space.index.sum(axis=0, dtype=np.float64)
    for places, own in space.by_camera(anchors):
        count = max(1, len(space.index) - (own.stop - own.start))
        yield places, own, count, (total - space.index[own].sum(axis=0, dtype=np.float64)) / count


def _square(space: Space, part: slice) -> np.ndarray:
    """Return the sum of outer products over a slice of the index, (D, D) float64."""
    square = np.zeros((space.index.shape[1],) * 2)
    for start in range(part.start, part.stop, GATHER):
        block = space.index[start : min(start + GATHER, part.stop)].astype(np.float64)
        square += block.T @ block
    return square


def blocks(items: np.ndarray, size: int | None = None) -> Iterator[np.ndarray]:
    """Cut items (N,) into parts of `size`, by default `BLOCK`."""
    size = size or BLOCK
    return (items[start : start + size] for start in range(0, len(items), size))
