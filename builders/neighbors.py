"""Who looks like whom across cameras: exact nearest negatives, all positives, and exact ranks.

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
from typing import Any

import numpy as np

from manifests.errors import require

ROW = np.int32  # of rows in lists and pairs, of which there are many
NOBODY = -1  # fills the places of negatives that do not exist
BLOCK = 4096  # anchors searched at once
GATHER = 1024  # rows whose vectors are copied at once
FEW = 512  # anchors too few to be worth a search of their own
RANKED = 512  # pairs ranked at once
JOINED = 2**16  # pairs of one label compared at once
STEPS = 4096  # to a unit of length, 2^12
SLACK = 8  # searched beyond k, so that ties at the end of a list are settled by rows
# A camera of so few images is searched along with the others and its images are left out after.
SMALL_CAMERA = 64
IVF_TRAIN = 64  # vectors to a cell that k-means is trained on


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


def space(
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
    for part in _blocks(np.arange(len(candidates)), GATHER):
        plain.index[part] = plain.keys(plain.candidates[part])
    return plain if len(vectors) == 1 else _fused(plain)


def similarity(space: Space, anchor: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """s(a, c) of pairs of rows, (P,) float32."""
    result = np.empty(len(anchor), np.float32)
    for part in _blocks(np.arange(len(anchor)), GATHER):
        queries, keys = space.queries(anchor[part]), space.keys(candidate[part])
        result[part] = space.scores(anchor[part], np.einsum("pd,pd->p", queries, keys))
    return result


def nearest_negatives(
    space: Space, k: int, progress: Any = iter, probes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar negatives of each anchor, exactly, however large its identity is.

    Returns rows (A, k) `ROW` in the order of `space.anchors`, best first, equal ones by row, and
    similarities (A, k) float32; where there are fewer than k negatives the rest is `NOBODY` with
    −inf. `progress` wraps the iterator over blocks of anchors. With `probes` an inverted file is
    searched instead, so many of its cells, and the result is approximate.
    """
    rows = np.full((len(space.anchors), k), NOBODY, ROW)
    values = np.full((len(space.anchors), k), -np.inf, np.float32)
    search = _exact if probes is None else _inverted_file(space, probes)
    for places, found, products in progress(_searched(space, k, search)):
        anchors = space.anchors[places]
        rows[places], products = _best_negatives(space, anchors, found, products, k)
        values[places] = space.scores(anchors, products)
    return rows, values


def recall(space: Space, rows: np.ndarray, sample: int, rng: np.random.Generator) -> float:
    """Share of the exact nearest negatives that `rows` (A, k) has, measured on some anchors."""
    places = np.sort(rng.choice(len(rows), min(sample, len(rows)), replace=False))
    some = replace(space, anchors=space.anchors[places])
    exact, _ = nearest_negatives(some, rows.shape[1])
    wanted = [set(row[row != NOBODY].tolist()) for row in exact]
    hits = sum(len(a & set(b)) for a, b in zip(wanted, rows[places].tolist(), strict=True))
    return hits / max(1, sum(map(len, wanted)))


def positives(space: Space) -> Pairs:
    """All positives of all anchors, in the order of the anchors and then of their rows."""
    return joined(space, space.pids[space.anchors], space.pids[space.candidates])


def joined(space: Space, asking: np.ndarray, answering: np.ndarray) -> Pairs:
    """All pairs across cameras of an anchor and a candidate that carry the same label.

    asking (A,) int64 labels the anchors and answering (C,) the candidates; `NOBODY` is no label.
    In the order of the anchors and then of their rows. One matrix product for each label.
    """
    by_label = np.lexsort((space.candidates, answering))
    low, high = (np.searchsorted(answering[by_label], asking, side) for side in ("left", "right"))
    size = np.where(asking == NOBODY, 0, high - low)
    count = np.where(asking == NOBODY, 0, size - _shared(space, asking, answering))
    begin = np.cumsum(count) - count
    candidate, value = np.empty(count.sum(), ROW), np.empty(count.sum(), np.float32)
    for part in _by_sum(np.argsort(asking, kind="stable"), size, JOINED):
        places = np.repeat(part, size[part])
        numbers = by_label[low[places] + _steps(size[part])]
        across = space.camids[space.anchors[places]] != space.camids[space.candidates[numbers]]
        at = np.repeat(begin[part], count[part]) + _steps(count[part])
        candidate[at] = space.candidates[numbers[across]]
        products = _products(space, part, asking, by_label, low, high)
        value[at] = space.scores(space.anchors[places[across]], products[across])
    return Pairs(np.repeat(space.anchors.astype(ROW), count), candidate, value)


def nearest_ranked(space: Space, k: int) -> Pairs:
    """The first k of each anchor's ranking, as benchmarks rank: all that may answer but images of
    the same identity *and* camera. In the order of the anchors and then of similarity."""
    own = _shared(space, space.pids[space.anchors], space.pids[space.candidates])
    fetch = min(k + SLACK + int(own.max(initial=0)), len(space.index))
    found = []
    for places in _blocks(np.arange(len(space.anchors))):
        anchors = space.anchors[places]
        products, numbers = _exact(space.index, space.queries(anchors), slice(0, 0), fetch)
        rows = space.candidates[numbers]
        never = (space.pids[rows] == space.pids[anchors, None]) & (
            space.camids[rows] == space.camids[anchors, None]
        )
        rows, products = _best(never, rows, products, k)
        real = rows != NOBODY
        values = space.scores(anchors, products)
        found.append((np.repeat(anchors, real.sum(axis=1)), rows[real], values[real]))
    return Pairs(*map(np.concatenate, zip(*found, strict=True)))


def ranks(space: Space, pairs: Pairs, values: np.ndarray | None = None) -> np.ndarray:
    """Rank of each candidate among its anchor's negatives, (P,) int32, by counting.

    rank = 1 + #{negatives n of other cameras: s(a, n) > s(a, c)}; ties share the better rank. With
    the similarities (A, k) of the anchors' nearest negatives only those beyond k are searched for.
    """
    result = np.ones(len(pairs.anchor), np.int32)
    pending = np.arange(len(pairs.anchor))
    if values is not None and len(values):
        listed = values[np.searchsorted(space.anchors, pairs.anchor)]
        result += (listed > pairs.similarity[:, None]).sum(axis=1, dtype=np.int32)
        pending = np.flatnonzero(listed[:, -1] > pairs.similarity)
        result[pending] = 1
    for places, own in space.by_camera(pairs.anchor[pending]):
        for part in _blocks(pending[places], RANKED):
            result[part] += _count_above(space, pairs, part, own)
    return result


def average(space: Space, anchors: np.ndarray) -> np.ndarray:
    """Mean of s(a, ·) over all that may answer each of (n,) anchors, (n,) float32."""
    mean = np.zeros(len(anchors), np.float32)
    total = _total(space, slice(0, len(space.index)))
    for places, own in space.by_camera(anchors):
        centre = (total - _total(space, own)) / _others(space, own)
        for part in _blocks(places):
            asking = anchors[part]
            mean[part] = space.scores(asking, space.queries(asking).astype(np.float64) @ centre)
    return mean


def deviation(space: Space, anchors: np.ndarray) -> np.ndarray:
    """Standard deviation of s(a, ·) over all that may answer each of (n,) anchors, (n,) float32."""
    result = np.ones(len(anchors), np.float32)
    for places, _, scatter in _moments(space, anchors):
        for part in _blocks(places):
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


def _count_above(space: Space, pairs: Pairs, part: np.ndarray, own: slice) -> np.ndarray:
    """How many negatives outside their camera's part of the index outdo pairs (n,), (n,) int32."""
    anchor = pairs.anchor[part]
    queries, least = space.queries(anchor), pairs.similarity[part, None]
    count = np.zeros(len(part), np.int32)
    for side in (slice(0, own.start), slice(own.stop, len(space.index))):
        for start in range(side.start, side.stop, GATHER):
            block = slice(start, min(start + GATHER, side.stop))
            scores = space.scores(anchor, queries @ space.index[block].T)
            apart = space.pids[space.candidates[block]] != space.pids[anchor, None]
            count += ((scores > least) & apart).sum(axis=1, dtype=np.int32)
    return count


def _searched(
    space: Space, k: int, search: Any
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Places of a block of anchors, and rows and inner products of what is nearest to them: k +
    SLACK negatives at least where there are as many."""
    small, everything = [], slice(0, 0)
    for places, own in space.by_camera(space.anchors):
        if own.stop - own.start <= SMALL_CAMERA:
            small.append(places)
        else:
            yield from _search_others(space, places, own, k, search)
    if small:
        yield from _search_others(space, np.concatenate(small), everything, k, search)


def _search_others(
    space: Space, places: np.ndarray, own: slice, k: int, search: Any
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Search everything outside one part of the index."""
    limit = len(space.index) - (own.stop - own.start)
    if not limit:
        return
    wanted = k + SLACK + _never_negative(space, space.anchors[places], own)
    for fetch, group in _by_size(wanted, limit):
        for part in _blocks(places[group]):
            queries = space.queries(space.anchors[part])
            products, found = search(space.index, queries, own, fetch)
            yield part, np.where(found < 0, NOBODY, space.candidates[found]), products


def _exact(
    index: np.ndarray, queries: np.ndarray, own: slice, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Largest inner products with the index outside `own`: values and numbers (n, k)."""
    faiss = require("faiss", "cpu", "searching neighbours")
    sides = [side for side in (slice(0, own.start), slice(own.stop, len(index))) if _length(side)]
    found = [_knn(faiss, queries, index[side], k) for side in sides]
    values = np.stack([side[0] for side in found])
    numbers = np.stack(
        [
            np.where(side[1] < 0, -1, side[1] + start.start)
            for side, start in zip(found, sides, strict=True)
        ]
    )
    if len(sides) == 1:
        return values[0], numbers[0]
    return faiss.merge_knn_results(values, numbers, keep_max=True)


def _length(part: slice) -> int:
    return part.stop - part.start


def _knn(
    faiss: Any, queries: np.ndarray, keys: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """FAISS's brute force, shared out over all GPUs where its GPU build finds some."""
    if not (hasattr(faiss, "get_num_gpus") and faiss.get_num_gpus()):
        return faiss.knn(queries, keys, k, metric=faiss.METRIC_INNER_PRODUCT)
    flat = faiss.IndexFlatIP(keys.shape[1])
    flat.add(keys)
    options = faiss.GpuMultipleClonerOptions()
    options.shard = True
    return faiss.index_cpu_to_all_gpus(flat, co=options).search(queries, k)


def _inverted_file(space: Space, probes: int) -> Any:
    """A search of the nearest `probes` cells of about 4 √C, made by k-means with a fixed seed."""
    faiss = require("faiss", "cpu", "searching neighbours")
    width, cells = space.index.shape[1], max(1, int(4 * len(space.index) ** 0.5))
    cells = min(cells, max(1, len(space.index) // IVF_TRAIN))
    inverted = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT
    )
    inverted.cp.max_points_per_centroid = IVF_TRAIN
    inverted.train(space.index)
    inverted.add(space.index)

    def search(
        index: np.ndarray, queries: np.ndarray, own: slice, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        inside = faiss.IDSelectorRange(own.start, own.stop)
        settings = faiss.SearchParametersIVF(sel=faiss.IDSelectorNot(inside), nprobe=probes)
        return inverted.search(queries, k, params=settings)

    return search


def _never_negative(space: Space, anchors: np.ndarray, own: slice) -> np.ndarray:
    """How many searched images show each anchor's identity or are of its camera, (n,)."""
    searched = np.concatenate([space.candidates[: own.start], space.candidates[own.stop :]])
    same = _counts(space.pids[searched], space.pids[anchors])
    return same + _counts(space.camids[searched], space.camids[anchors])


def _counts(values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """How often each asked value occurs."""
    known, counts = np.unique(values, return_counts=True)
    at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return np.where(known[at] == asked, counts[at], 0)


def _by_size(wanted: np.ndarray, limit: int) -> Iterator[tuple[int, np.ndarray]]:
    """Group places by how many rows to fetch, rounded up to powers of two, so that one large
    identity doesn't make the search longer for all; a group of few joins the next larger."""
    fetch = np.minimum(2 ** np.ceil(np.log2(wanted)).astype(np.int64), limit)
    sizes, waiting = np.unique(fetch), np.empty(0, np.int64)
    for size in sizes.tolist():
        waiting = np.concatenate([waiting, np.flatnonzero(fetch == size)])
        if len(waiting) >= FEW or size == sizes[-1]:
            yield size, np.sort(waiting)
            waiting = waiting[:0]


def _best_negatives(
    space: Space, anchors: np.ndarray, found: np.ndarray, products: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k best negatives among found rows (n, f), which fall in their inner products."""
    never = (space.pids[found] == space.pids[anchors, None]) | (found == NOBODY)
    never |= space.camids[found] == space.camids[anchors, None]
    return _best(never, found, products, k)


def _shared(space: Space, asking: np.ndarray, answering: np.ndarray) -> np.ndarray:
    """How many candidates have both the label and the camera of each anchor, (A,)."""
    cameras = int(space.camids.max()) + 1
    return _counts(
        answering * cameras + space.camids[space.candidates],
        asking * cameras + space.camids[space.anchors],
    )


def _products(
    space: Space,
    places: np.ndarray,
    asking: np.ndarray,
    by_label: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """Inner products of anchors at places with the index at by_label[low : high], flat."""
    queries = space.queries(space.anchors[places])
    edges = [0, *(np.flatnonzero(np.diff(asking[places])) + 1).tolist(), len(places)]
    blocks = []
    for start, end in itertools.pairwise(edges):
        members = by_label[low[places[start]] : high[places[start]]]
        blocks.append((queries[start:end] @ space.index[members].T).ravel())
    return np.concatenate(blocks)


def _by_sum(items: np.ndarray, sizes: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Cut items with sizes into runs whose sizes sum to about `most`, those of size 0 left out."""
    items = items[sizes[items] > 0]
    runs = np.cumsum(sizes[items]) // most
    return iter(np.split(items, np.flatnonzero(np.diff(runs)) + 1)) if len(items) else iter(())


def _steps(count: np.ndarray) -> np.ndarray:
    """0 to count − 1 for each of (n,) counts, one after the other."""
    return np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)


def _best(
    never: np.ndarray, found: np.ndarray, products: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first k rows (n, k) that aren't excluded, ties by row."""
    first = np.argsort(never, axis=1, kind="stable")[:, : k + SLACK]
    rows, products = np.take_along_axis(found, first, 1), np.take_along_axis(products, first, 1)
    never = np.take_along_axis(never, first, 1)
    rows, products = np.where(never, NOBODY, rows), np.where(never, -np.inf, products)
    _settle_ties(rows, products)
    missing = max(0, k - rows.shape[1])
    rows = np.pad(rows[:, :k], ((0, 0), (0, missing)), constant_values=NOBODY)
    return rows, np.pad(products[:, :k], ((0, 0), (0, missing)), constant_values=-np.inf)


def _settle_ties(rows: np.ndarray, products: np.ndarray) -> None:
    """Put rows of equal inner products in ascending order, in place."""
    tied = np.flatnonzero((products[:, 1:] == products[:, :-1]).any(axis=1))
    order = np.lexsort((rows[tied], -products[tied]), axis=1)
    rows[tied] = np.take_along_axis(rows[tied], order, 1)
    products[tied] = np.take_along_axis(products[tied], order, 1)


def _blocks(items: np.ndarray, size: int | None = None) -> Iterator[np.ndarray]:
    size = size or BLOCK
    return (items[start : start + size] for start in range(0, len(items), size))
