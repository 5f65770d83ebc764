"""Who looks like whom across cameras: exact nearest negatives, all positives, and exact ranks.

For an anchor a, the images that may answer it are candidates of *other cameras*. Among them a
positive shows the same identity, a negative another one. With several encoders e,

    s(a, c) = mean_e ( <x_a^e, x_c^e> − m_a^e ) / d_a^e

where m and d are mean and standard deviation over all images that may answer a. With the encoders'
vectors side by side that is one inner product per pair, minus a constant of the anchor: one exact
search serves any number of encoders. With a single encoder s is its cosine.

Memory: beside the vectors one index over the images that may answer a camera's anchors, and blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from manifests.errors import require

NOBODY = -1  # fills the places of negatives that do not exist
BLOCK = 4096  # anchors searched at once
GATHER = 4096  # rows whose vectors are copied at once
RANKED = 512  # pairs ranked at once
# Searched beyond k: products that differ by rounding only are put in order by `similarity`.
SLACK = 8
TIE = 1e-5  # similarities this close share a rank


@dataclass(frozen=True)
class Space:
    """Images that can be compared.

    vectors     (N, D) float32, each encoder's unit vectors side by side
    widths      the encoders' widths, sum D
    pids        (N,) int64; camids (N,) int64
    anchors     (A,) int64, rows that ask, ascending; candidates (C,) rows that may answer
    weight      (N, E) float32: what each encoder's inner products of an anchor are multiplied by
    offset      (N,) float32: what is subtracted from their sum
    """

    vectors: np.ndarray
    widths: tuple[int, ...]
    pids: np.ndarray
    camids: np.ndarray
    anchors: np.ndarray
    candidates: np.ndarray
    weight: np.ndarray
    offset: np.ndarray

    def queries(self, anchors: np.ndarray) -> np.ndarray:
        """Weighted vectors of anchors, (n, D) float32."""
        vectors = self.vectors[anchors]
        for number, columns in enumerate(self.columns()):
            vectors[:, columns] *= self.weight[anchors, number, None]
        return vectors

    def columns(self) -> list[slice]:
        """Where each encoder's vectors are."""
        edges = itertools.accumulate(self.widths, initial=0)
        return [slice(start, end) for start, end in itertools.pairwise(edges)]

    def reweighted(self, weight: np.ndarray, offset: np.ndarray) -> Space:
        """The same images with another weight (N, E) and offset (N,)."""
        return replace(self, weight=weight, offset=offset)

    def by_camera(self, anchors: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each camera of (n,) anchors: their places among them, and who may answer them."""
        asking, answering = self.camids[anchors], self.camids[self.candidates]
        for camera in np.unique(asking):
            yield np.flatnonzero(asking == camera), self.candidates[answering != camera]


@dataclass(frozen=True)
class Pairs:
    """Rows of anchors and candidates (P,) int64, and their similarities (P,) float32."""

    anchor: np.ndarray
    candidate: np.ndarray
    similarity: np.ndarray


def space(
    vectors: Sequence[np.ndarray],
    pids: np.ndarray,
    camids: np.ndarray,
    anchors: np.ndarray,
    candidates: np.ndarray,
) -> Space:
    """Put encoders side by side; each of `vectors` is (N, width) float32, rows of length 1."""
    widths = tuple(x.shape[1] for x in vectors)
    joined = vectors[0] if len(vectors) == 1 else np.concatenate(vectors, axis=1)
    plain = Space(
        joined,
        widths,
        pids,
        camids,
        anchors,
        candidates,
        weight=np.ones((len(joined), len(widths)), np.float32),
        offset=np.zeros(len(joined), np.float32),
    )
    return plain if len(vectors) == 1 else _fused(plain)


def similarity(space: Space, anchor: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """s(a, c) of pairs of rows, (P,) float32.

    A pair's value depends on its two images alone, not on what it is computed along with.
    """
    result = np.empty(len(anchor), np.float32)
    for start in range(0, len(anchor), GATHER):
        part = slice(start, start + GATHER)
        queries, keys = space.vectors[anchor[part]], space.vectors[candidate[part]]
        result[part] = -space.offset[anchor[part]]
        for number, columns in enumerate(space.columns()):
            products = np.einsum("pd,pd->p", queries[:, columns], keys[:, columns])
            result[part] += space.weight[anchor[part], number] * products
    return result


def nearest_negatives(space: Space, k: int, progress: Any = iter) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar negatives of each anchor, exactly, however large its identity is.

    Returns rows (A, k) int64 in the order of `space.anchors`, best first, equal ones by row, and
    similarities (A, k) float32; where there are fewer than k negatives the rest is `NOBODY` with
    −inf. `progress` wraps the iterator over blocks of anchors.
    """
    rows = np.full((len(space.anchors), k), NOBODY, np.int64)
    values = np.full((len(space.anchors), k), -np.inf, np.float32)
    for places, found in progress(_searched(space, k)):
        rows[places], values[places] = _best_negatives(space, space.anchors[places], found, k)
    return rows, values


def positives(space: Space) -> Pairs:
    """All positives of all anchors, in the order of the anchors and then of their rows."""
    order = np.argsort(space.pids[space.candidates], kind="stable")
    answering = space.candidates[order]
    known = space.pids[answering]
    asked = space.pids[space.anchors]
    first = np.searchsorted(known, asked, side="left")
    count = np.searchsorted(known, asked, side="right") - first
    anchor = np.repeat(space.anchors, count)
    step = np.arange(len(anchor)) - np.repeat(np.cumsum(count) - count, count)
    candidate = answering[np.repeat(first, count) + step]
    across = space.camids[candidate] != space.camids[anchor]
    anchor, candidate = anchor[across], candidate[across]
    return Pairs(anchor, candidate, similarity(space, anchor, candidate))


def ranks(space: Space, pairs: Pairs) -> np.ndarray:
    """Rank of each candidate among its anchor's negatives, (P,) int32, by counting.

    rank = 1 + #{negatives n ≠ c of other cameras: s(a, n) > s(a, c)}; ties share the better rank.
    """
    result = np.ones(len(pairs.anchor), np.int32)
    for places, others in space.by_camera(pairs.anchor):
        for part in _blocks(places, RANKED):
            anchor, threshold = pairs.anchor[part, None], pairs.similarity[part, None] + TIE
            queries = space.queries(pairs.anchor[part])
            for rows in _blocks(others, GATHER):
                scores = queries @ space.vectors[rows].T - space.offset[anchor]
                above = (scores > threshold) & (space.pids[rows] != space.pids[anchor])
                above &= rows != pairs.candidate[part, None]
                result[part] += above.sum(axis=1, dtype=np.int32)
    return result


def spread(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of s(a, ·) over all that may answer a, (N,) float32 each.

    Rows that are no anchors have 0 and 1.
    """
    mean, deviation = np.zeros(len(space.vectors)), np.ones(len(space.vectors))
    for anchors, centre, scatter in _moments(space):
        for part in _blocks(anchors):
            queries = space.queries(part).astype(np.float64)
            mean[part] = queries @ centre - space.offset[part]
            variance = np.einsum("pd,pd->p", queries @ scatter, queries)
            deviation[part] = np.sqrt(np.maximum(variance, 1e-12))
    return mean.astype(np.float32), deviation.astype(np.float32)


def _fused(plain: Space) -> Space:
    """The same space with each encoder's similarities as z-scores of the anchor, averaged."""
    weight, offset = np.empty_like(plain.weight), np.zeros(len(plain.vectors))
    for number, columns in enumerate(plain.columns()):
        mean, deviation = spread(
            replace(
                plain,
                vectors=plain.vectors[:, columns],
                widths=plain.widths[number : number + 1],
                weight=plain.weight[:, :1],
            )
        )
        weight[:, number] = 1 / (deviation * len(plain.widths))
        offset += mean.astype(np.float64) * weight[:, number]
    return plain.reweighted(weight, offset.astype(np.float32))


def _moments(space: Space) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each camera: its anchors, mean (D,) and covariance (D, D) of what may answer them."""
    total, square = _sums(space, space.candidates)
    answering = space.camids[space.candidates]
    for places, others in space.by_camera(space.anchors):
        own = answering == space.camids[space.anchors[places[0]]]
        own_total, own_square = _sums(space, space.candidates[own])
        count = max(1, len(others))
        centre = (total - own_total) / count
        scatter = (square - own_square) / count - np.outer(centre, centre)
        yield space.anchors[places], centre, scatter


def _sums(space: Space, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over rows of their vectors (D,) and of their outer products (D, D), float64."""
    width = space.vectors.shape[1]
    total, square = np.zeros(width), np.zeros((width, width))
    for part in _blocks(rows, GATHER):
        block = space.vectors[part].astype(np.float64)
        total += block.sum(axis=0)
        square += block.T @ block
    return total, square


def _searched(space: Space, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places of a block of anchors and the rows FAISS finds for them, k + SLACK negatives at least
    where there are as many."""
    faiss = require("faiss", "cpu", "searching neighbours")
    for places, others in space.by_camera(space.anchors):
        if not len(others):
            continue
        index = faiss.IndexFlatIP(space.vectors.shape[1])
        for part in _blocks(others, GATHER):
            index.add(np.ascontiguousarray(space.vectors[part]))
        wanted = k + SLACK + _own_images(space, space.anchors[places], others)
        for fetch, group in _by_size(wanted, limit=len(others)):
            for part in _blocks(places[group]):
                found = index.search(space.queries(space.anchors[part]), fetch)[1]
                yield part, others[found]


def _own_images(space: Space, anchors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How many of `others` show each anchor's own identity, (n,)."""
    known, counts = np.unique(space.pids[others], return_counts=True)
    asked = space.pids[anchors]
    at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return np.where(known[at] == asked, counts[at], 0)


def _by_size(wanted: np.ndarray, limit: int) -> Iterable[tuple[int, np.ndarray]]:
    """Group places by how many rows to fetch, rounded up to quarters of a power of two, so that one
    large identity doesn't make the search longer for all."""
    step = np.maximum(1, 2 ** (np.floor(np.log2(wanted)).astype(np.int64) - 2))
    fetch = np.minimum(-(-wanted // step) * step, limit)
    return ((int(size), np.flatnonzero(fetch == size)) for size in np.unique(fetch))


def _best_negatives(
    space: Space, anchors: np.ndarray, found: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k best negatives among the found rows, by exact similarity and then by row."""
    own = space.pids[found] == space.pids[anchors, None]
    first = np.argsort(own, axis=1, kind="stable")[:, : k + SLACK]
    rows = np.sort(np.where(own, np.iinfo(np.int64).max, found)[_row_wise(first)], axis=1)
    real = rows < np.iinfo(np.int64).max
    values = np.full(rows.shape, -np.inf, np.float32)
    anchor = np.broadcast_to(anchors[:, None], rows.shape)
    values[real] = similarity(space, anchor[real], rows[real])
    best = np.argsort(-values, axis=1, kind="stable")[:, :k]
    rows, values = np.where(real, rows, NOBODY)[_row_wise(best)], values[_row_wise(best)]
    missing = k - rows.shape[1]
    rows = np.pad(rows, ((0, 0), (0, missing)), constant_values=NOBODY)
    return rows, np.pad(values, ((0, 0), (0, missing)), constant_values=-np.inf)


def _row_wise(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(len(columns))[:, None], columns


def _blocks(items: np.ndarray, size: int = BLOCK) -> Iterator[np.ndarray]:
    return (items[start : start + size] for start in range(0, len(items), size))
