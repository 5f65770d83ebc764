"""Search a space: exact nearest negatives, all positives, ranks by counting.

Lists are exact for any block size, and ties are broken by row. With an inverted file they are
approximate, and `recall` measures how much they miss.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from nontrivial.builders.reid.space import GATHER, Pairs, Space, blocks
from nontrivial.manifests.errors import require
from nontrivial.manifests.schema import NOBODY

ROW = np.int32  # dtype of rows in lists and pairs, which are long
FEW = 512  # fewer anchors than this do not get a search of their own
RANKED = 512  # pairs ranked at once
JOINED = 2**16  # pairs of one label compared at once
SLACK = 8  # fetched beyond k, so that ties at the end of a list are broken by row
# Cameras with at most this many images are searched together; their images are dropped afterwards.
SMALL_CAMERA = 64
IVF_TRAIN = 64  # vectors per cell to train k-means on
Blocks = Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]


def nearest_negatives(
    space: Space, k: int, progress: Any = iter, probes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k most similar negatives of each anchor, exactly, however large its identity is.

    Returns rows (A, k) `ROW` in the order of `space.anchors`, best first, ties by row, and
    similarities (A, k) float32. Missing negatives are `NOBODY` with similarity −inf. `progress`
    wraps the iterator over blocks of anchors. With `probes`, that many cells of an inverted file
    are searched instead, and the result is approximate.
    """
    rows = np.full((len(space.anchors), k), NOBODY, ROW)
    values = np.full((len(space.anchors), k), -np.inf, np.float32)
    search = _exact if probes is None else _inverted_file(space, probes)
    for places, nearest, products in progress(_searched(space, k, search)):
        anchors = space.anchors[places]
        never = (nearest == NOBODY) | _shares(space.pids, anchors, nearest)
        never |= _shares(space.camids, anchors, nearest)
        rows[places], products = _best(never, nearest, products, k)
        values[places] = space.scores(anchors, products)
    return rows, values


def recall(space: Space, rows: np.ndarray, sample: int, rng: np.random.Generator) -> float:
    """Return the share of exact nearest negatives in `rows` (A, k), from a sample of anchors."""
    places = np.sort(rng.choice(len(rows), min(sample, len(rows)), replace=False))
    subset = replace(space, anchors=space.anchors[places])
    exact, _ = nearest_negatives(subset, rows.shape[1])
    wanted = [set(row[row != NOBODY].tolist()) for row in exact]
    hits = sum(len(a & set(b)) for a, b in zip(wanted, rows[places].tolist(), strict=True))
    return hits / max(1, sum(map(len, wanted)))


def all_positives(space: Space) -> Pairs:
    """Return all positives of all anchors, by anchor and then by row."""
    return joined(space, space.pids[space.anchors], space.pids[space.candidates])


def joined(space: Space, asking: np.ndarray, answering: np.ndarray) -> Pairs:
    """Return all pairs across cameras of an anchor and a candidate with the same label.

    asking (A,) int64 labels the anchors, answering (C,) the candidates; `NOBODY` means unlabelled.
    Pairs are ordered by anchor and then by row. Each label takes one matrix product.
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
        products = _products(space, part, by_label, low, high)
        value[at] = space.scores(space.anchors[places[across]], products[across])
    return Pairs(np.repeat(space.anchors.astype(ROW), count), candidate, value)


def nearest_ranked(space: Space, k: int) -> Pairs:
    """Return the first k of each anchor's ranking, by anchor and then by falling similarity.

    As in the benchmarks, candidates of the same identity *and* camera are left out.
    """
    never = _shared(space, space.pids[space.anchors], space.pids[space.candidates])
    fetch = min(k + SLACK + int(never.max(initial=0)), len(space.index))
    parts = []
    for places in blocks(np.arange(len(space.anchors))):
        anchors = space.anchors[places]
        products, numbers = _exact(space.index, space.queries(anchors), slice(0, 0), fetch)
        rows = space.candidates[numbers]
        never = _shares(space.pids, anchors, rows) & _shares(space.camids, anchors, rows)
        rows, products = _best(never, rows, products, k)
        real = rows != NOBODY
        values = space.scores(anchors, products)
        parts.append((np.repeat(anchors, real.sum(axis=1)), rows[real], values[real]))
    return Pairs(*map(np.concatenate, zip(*parts, strict=True)))


def ranks(space: Space, pairs: Pairs, values: np.ndarray | None = None) -> np.ndarray:
    """Count the rank of each candidate among its anchor's negatives, (P,) int32.

    rank = 1 + #{negatives n of other cameras: s(a, n) > s(a, c)}; ties share the better rank. With
    the similarities (A, k) of the anchors' nearest negatives, only ranks beyond k need a search.
    """
    result = np.ones(len(pairs.anchor), np.int32)
    pending = np.arange(len(pairs.anchor))
    if values is not None and len(values):
        listed = values[np.searchsorted(space.anchors, pairs.anchor)]
        result += (listed > pairs.similarity[:, None]).sum(axis=1, dtype=np.int32)
        pending = np.flatnonzero(listed[:, -1] > pairs.similarity)
        result[pending] = 1
    for places, skip in space.by_camera(pairs.anchor[pending]):
        for part in blocks(pending[places], RANKED):
            result[part] += _count_above(space, pairs, part, skip)
    return result


def _count_above(space: Space, pairs: Pairs, part: np.ndarray, skip: slice) -> np.ndarray:
    """Count the negatives outside the slice `skip` of the index that beat each pair, (n,) int32."""
    anchor = pairs.anchor[part]
    queries, least = space.queries(anchor), pairs.similarity[part, None]
    count = np.zeros(len(part), np.int32)
    for side in _outside(skip, len(space.index)):
        for start in range(side.start, side.stop, GATHER):
            block = slice(start, min(start + GATHER, side.stop))
            scores = space.scores(anchor, queries @ space.index[block].T)
            apart = space.pids[space.candidates[block]] != space.pids[anchor, None]
            count += ((scores > least) & apart).sum(axis=1, dtype=np.int32)
    return count


def _outside(skip: slice, size: int) -> tuple[slice, slice]:
    return slice(0, skip.start), slice(skip.stop, size)


def _searched(space: Space, k: int, search: Any) -> Blocks:
    """Yield places of a block of anchors, and the rows and inner products of their neighbours.

    Neighbours include at least k + SLACK negatives, or all where there are fewer.
    """
    small, everything = [], slice(0, 0)
    for places, skip in space.by_camera(space.anchors):
        if skip.stop - skip.start <= SMALL_CAMERA:
            small.append(places)
        else:
            yield from _search_others(space, places, skip, k, search)
    if small:
        yield from _search_others(space, np.concatenate(small), everything, k, search)


def _search_others(space: Space, places: np.ndarray, skip: slice, k: int, search: Any) -> Blocks:
    """Search everything outside the slice `skip` of the index."""
    limit = len(space.index) - (skip.stop - skip.start)
    if not limit:
        return
    wanted = k + SLACK + _never_negative(space, space.anchors[places], skip)
    for fetch, group in _by_size(wanted, limit):
        for part in blocks(places[group]):
            queries = space.queries(space.anchors[part])
            products, numbers = search(space.index, queries, skip, fetch)
            yield part, np.where(numbers < 0, NOBODY, space.candidates[numbers]), products


def load_faiss() -> ModuleType:
    """Import FAISS; raise `BadInput` with the extra that installs it."""
    return require("faiss", "cpu", "searching neighbours")


def _exact(
    index: np.ndarray, queries: np.ndarray, skip: slice, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k largest inner products outside `skip` and their numbers in the index, (n, k)."""
    faiss = load_faiss()
    values, numbers = [], []
    for side in _outside(skip, len(index)):
        if side.stop > side.start:
            products, places = _knn(faiss, queries, index[side], k)
            values.append(products)
            numbers.append(np.where(places < 0, -1, places + side.start))
    if len(values) == 1:
        return values[0], numbers[0]
    return faiss.merge_knn_results(np.stack(values), np.stack(numbers), keep_max=True)


def _knn(
    faiss: Any, queries: np.ndarray, keys: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Search by FAISS's brute force, on all GPUs if its GPU build finds any."""
    if not (hasattr(faiss, "get_num_gpus") and faiss.get_num_gpus()):
        return faiss.knn(queries, keys, k, metric=faiss.METRIC_INNER_PRODUCT)
    flat = faiss.IndexFlatIP(keys.shape[1])
    flat.add(keys)
    options = faiss.GpuMultipleClonerOptions()
    options.shard = True
    return faiss.index_cpu_to_all_gpus(flat, co=options).search(queries, k)


def _inverted_file(space: Space, probes: int) -> Any:
    """Return a search of the `probes` nearest of about 4 √C cells, by k-means with a fixed seed."""
    faiss = load_faiss()
    count, width = space.index.shape
    cells = max(1, min(int(4 * count**0.5), count // IVF_TRAIN))
    flat = faiss.IndexFlatIP(width)
    inverted = faiss.IndexIVFFlat(flat, width, cells, faiss.METRIC_INNER_PRODUCT)
    inverted.cp.max_points_per_centroid = IVF_TRAIN
    inverted.train(space.index)
    inverted.add(space.index)

    def search(
        index: np.ndarray, queries: np.ndarray, skip: slice, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        inside = faiss.IDSelectorRange(skip.start, skip.stop)
        settings = faiss.SearchParametersIVF(sel=faiss.IDSelectorNot(inside), nprobe=probes)
        return inverted.search(queries, k, params=settings)

    return search


def _never_negative(space: Space, anchors: np.ndarray, skip: slice) -> np.ndarray:
    """Bound the number of searched images of each anchor's identity or camera, (n,)."""
    searched = np.concatenate([space.candidates[x] for x in _outside(skip, len(space.index))])
    same = _counts(space.pids[searched], space.pids[anchors])
    return same + _counts(space.camids[searched], space.camids[anchors])


def _counts(values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Count how often each asked value occurs in `values`."""
    known, counts = np.unique(values, return_counts=True)
    at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return np.where(known[at] == asked, counts[at], 0)


def _by_size(wanted: np.ndarray, limit: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield numbers of rows to fetch, rounded up to powers of two, with the places that need them.

    One large identity then doesn't slow the search for all. Groups of few join the next larger one.
    """
    fetch = np.minimum(2 ** np.ceil(np.log2(wanted)).astype(np.int64), limit)
    sizes, waiting = np.unique(fetch), np.empty(0, np.int64)
    for size in sizes.tolist():
        waiting = np.concatenate([waiting, np.flatnonzero(fetch == size)])
        if len(waiting) >= FEW or size == sizes[-1]:
            yield size, np.sort(waiting)
            waiting = waiting[:0]


def _shares(labels: np.ndarray, anchors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return where rows (n, f) have their anchor's label, (n, f) bool; labels (N,) are by row."""
    return labels[rows] == labels[anchors, None]


def _shared(space: Space, asking: np.ndarray, answering: np.ndarray) -> np.ndarray:
    """Count the candidates with both the label and the camera of each anchor, (A,)."""
    cameras = int(space.camids.max()) + 1
    return _counts(
        answering * cameras + space.camids[space.candidates],
        asking * cameras + space.camids[space.anchors],
    )


def _products(
    space: Space, places: np.ndarray, by_label: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Return inner products of anchors at places with the index at by_label[low : high], flat."""
    queries = space.queries(space.anchors[places])
    edges = [0, *(np.flatnonzero(np.diff(low[places])) + 1).tolist(), len(places)]
    products = []
    for start, end in itertools.pairwise(edges):
        members = by_label[low[places[start]] : high[places[start]]]
        products.append((queries[start:end] @ space.index[members].T).ravel())
    return np.concatenate(products)


def _by_sum(items: np.ndarray, sizes: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Cut items into runs whose sizes sum to about `most`, leaving out those of size 0."""
    items = items[sizes[items] > 0]
    runs = np.cumsum(sizes[items]) // most
    return iter(np.split(items, np.flatnonzero(np.diff(runs)) + 1)) if len(items) else iter(())


def _steps(count: np.ndarray) -> np.ndarray:
    """Concatenate 0 … count − 1 for each of (n,) counts."""
    return np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)


def _best(
    never: np.ndarray, rows: np.ndarray, products: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first k rows that `never` doesn't exclude and their products, (n, k), ties by row.

    rows, products and never are (n, f), best first.
    """
    first = np.argsort(never, axis=1, kind="stable")[:, : k + SLACK]
    never, rows, products = (np.take_along_axis(x, first, 1) for x in (never, rows, products))
    rows, products = np.where(never, NOBODY, rows), np.where(never, -np.inf, products)
    _settle_ties(rows, products)
    missing = max(0, k - rows.shape[1])
    rows = np.pad(rows[:, :k], ((0, 0), (0, missing)), constant_values=NOBODY)
    return rows, np.pad(products[:, :k], ((0, 0), (0, missing)), constant_values=-np.inf)


def _settle_ties(rows: np.ndarray, products: np.ndarray) -> None:
    """Sort rows of equal inner products in ascending order, in place."""
    tied = np.flatnonzero((products[:, 1:] == products[:, :-1]).any(axis=1))
    order = np.lexsort((rows[tied], -products[tied]), axis=1)
    rows[tied] = np.take_along_axis(rows[tied], order, 1)
    products[tied] = np.take_along_axis(products[tied], order, 1)
