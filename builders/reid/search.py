"""Search a space: exact nearest negatives, all positives, ranks by counting.

Lists are exact and their ties are settled by rows, whatever the blocks; with an inverted file they
are approximate, and `recall` measures by how much.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from nontrivial.builders.reid.space import GATHER, Pairs, Space, blocks
from nontrivial.manifests.errors import require
from nontrivial.manifests.schema import NOBODY

ROW = np.int32  # of rows in lists and pairs, of which there are many
FEW = 512  # anchors too few to be worth a search of their own
RANKED = 512  # pairs ranked at once
JOINED = 2**16  # pairs of one label compared at once
SLACK = 8  # searched beyond k, so that ties at the end of a list are settled by rows
# A camera of so few images is searched along with the others and its images are left out after.
SMALL_CAMERA = 64
IVF_TRAIN = 64  # vectors to a cell that k-means is trained on


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


def all_positives(space: Space) -> Pairs:
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
    for places in blocks(np.arange(len(space.anchors))):
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
        for part in blocks(pending[places], RANKED):
            result[part] += _count_above(space, pairs, part, own)
    return result


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
        for part in blocks(places[group]):
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
    products = []
    for start, end in itertools.pairwise(edges):
        members = by_label[low[places[start]] : high[places[start]]]
        products.append((queries[start:end] @ space.index[members].T).ravel())
    return np.concatenate(products)


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
