"""Images -> unit vectors: decode, encode, cache.

`embed` reads vectors from the cache and computes missing ones, in this process or on Ray Data.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nontrivial.builders.reid.sources import SOURCES, names_of, read_source
from nontrivial.builders.reid.vector_cache import VectorCache, file_key
from nontrivial.manifests.command import check_share, option, printable
from nontrivial.manifests.errors import BadInput, require

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa

    from nontrivial.builders.reid.sources.data_set import ImageList
    from nontrivial.models.encoders import Encoder

SHARD = 1024  # images per shard; the most a killed run loses
Item = TypeVar("Item")
Result = TypeVar("Result")
Batches = Iterator[tuple[Sequence[str], "list[np.ndarray]"]]

logger = logging.getLogger(__name__)


@dataclass
class ImageOptions:
    """Options of all commands that read images of people."""

    source: list[str] = option(
        f"data sets: {', '.join(SOURCES)}; variants: market1501:500k, msmt17:val, cuhk03:labeled, "
        "ccvid:8 and mars:8 (every 8th frame), table=FILE, folder=PATTERN",
        default=["market1501"],
    )
    split: str = option("split to read", default="train", choices=("train", "test"))
    encoder: list[str] = option(
        "auto, stripes, osnet_x1_0[=FILE], openclip:MODEL@TAG, openclip:MODEL=FILE; several count "
        "equally",
        default=["auto"],
    )
    root: str = option("folder of the data sets", default="data")
    out: str = option("folder of the manifests", default="manifests")
    batch_size: int = option("images per forward pass", default=64, rare=True)
    workers: int = option("decoding threads; 0 uses all cores", default=0, rare=True)
    max_bad: float = option("largest share of damaged images to leave out", default=0.01, rare=True)
    precision: str = option(
        "auto: half precision on a GPU", default="auto", choices=("auto", "full"), rare=True
    )
    engine: str = option(
        "where images are encoded", default="local", choices=("local", "ray"), rare=True
    )

    @property
    def name(self) -> str:
        """The data sets' names without variants, as used in file names."""
        return "+".join(names_of(self.source))

    def check(self) -> None:
        """Raise `BadInput` for unusable values."""
        names = names_of(self.source)
        if not names or len(set(names)) < len(names):
            raise BadInput(f"--source {' '.join(self.source)}: needs each data set once")
        for name, least in (("batch_size", 1), ("workers", 0), ("max_bad", 0)):
            if not getattr(self, name) >= least:
                raise BadInput(f"--{name} {getattr(self, name)}: needs at least {least}")


@dataclass(frozen=True)
class Embedded:
    """Images with their vectors: row i of `frame` has the unit vectors `vectors[name][i]`."""

    frame: pl.DataFrame
    vectors: Mapping[str, np.ndarray]  # (N, width) float32 for each encoder
    damaged: Mapping[str, str] = field(default_factory=dict)  # path -> reason


def read_sources(options: ImageOptions) -> list[ImageList]:
    """List the images of the split, source by source."""
    return [read_source(spec, options.root, options.split) for spec in options.source]


def embed(frame: pl.DataFrame, encoders: Sequence[Encoder], options: ImageOptions) -> Embedded:
    """Embed all images of `frame` that can be decoded, reusing cached vectors.

    Raises `BadInput` that lists the damaged images if their share exceeds `max_bad`.
    """
    import polars as pl

    paths = frame["path"].to_list()
    keys = [file_key(Path(options.root), path) for path in paths]
    caches = {encoder.name: VectorCache(options.out, encoder) for encoder in encoders}
    damaged: dict[str, str] = {}

    def leave_out(path: str, reason: str) -> None:
        damaged[path] = reason
        check_share(list(damaged.values()), len(paths), options.max_bad, "images are damaged")

    for lacking, rows in _missing(keys, encoders, caches):
        images = [(keys[row], paths[row]) for row in rows]
        _fill(_Job(lacking, images, options, leave_out), caches)
    for reason in damaged.values():
        logger.warning("left out: %s", printable(reason))
    whole = [path not in damaged for path in paths]
    keys = list(itertools.compress(keys, whole))
    vectors = {name: cache.read(keys) for name, cache in caches.items()}
    return Embedded(frame.filter(pl.Series(whole, dtype=pl.Boolean)), vectors, damaged)


def embeddings_table(parts: Sequence[Embedded]) -> pa.Table:
    """Return the embeddings table of the contract, sorted by source and path.

    Distractors become gallery images: no query has their identity.
    """
    import pyarrow as pa

    from nontrivial.builders.reid.sources.data_set import DISTRACTOR, GALLERY
    from nontrivial.manifests.schema import VECTOR, embeddings_schema

    tables = []
    for part in parts:
        schema = embeddings_schema({name: x.shape[1] for name, x in part.vectors.items()})
        columns = {name: part.frame[name].to_list() for name in schema.names if name in part.frame}
        columns["role"] = [GALLERY if role == DISTRACTOR else role for role in columns["role"]]
        for name, vectors in part.vectors.items():
            columns[VECTOR + name] = pa.FixedSizeListArray.from_arrays(
                pa.array(vectors.ravel()), vectors.shape[1]
            )
        tables.append(pa.table(columns, schema=schema))
    return pa.concat_tables(tables).sort_by([("source", "ascending"), ("path", "ascending")])


def ahead(
    items: Iterable[Item], work: Callable[[Item], Result], workers: int, window: int
) -> Iterator[Result]:
    """Yield `map(work, items)` in order, from threads that keep up to `window` results ready."""
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) >= window:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Job:
    """Images that lack the vectors of some encoders."""

    encoders: Sequence[Encoder]
    images: Sequence[tuple[str, str]]  # key and path
    options: ImageOptions
    leave_out: Callable[[str, str], None]  # takes the path of a damaged image and the reason

    @property
    def workers(self) -> int:
        return self.options.workers or os.cpu_count() or 1

    @property
    def on_gpu(self) -> bool:
        return any(getattr(encoder, "device", "cpu") != "cpu" for encoder in self.encoders)


def _missing(
    keys: Sequence[str], encoders: Sequence[Encoder], caches: Mapping[str, VectorCache]
) -> Iterator[tuple[list[Encoder], list[int]]]:
    """Yield the rows that lack vectors by the encoders they lack, to decode each image once."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, key in enumerate(keys):
        lacking = (n for n, encoder in enumerate(encoders) if key not in caches[encoder.name])
        groups.setdefault(tuple(lacking), []).append(row)
    groups.pop((), None)
    return (([encoders[n] for n in numbers], rows) for numbers, rows in groups.items())


def _fill(job: _Job, caches: Mapping[str, VectorCache]) -> None:
    """Decode and encode the images into the caches, a shard at a time."""
    import numpy as np
    from tqdm import tqdm

    label = " + ".join(encoder.name for encoder in job.encoders)
    engine = {"local": _here, "ray": _on_ray}[job.options.engine]
    with tqdm(total=len(job.images), desc=label, unit="image") as bar:
        batches = engine(job, bar.update)
        while shard := list(itertools.islice(batches, max(1, SHARD // job.options.batch_size))):
            keys = [key for batch, _ in shard for key in batch]
            for number, encoder in enumerate(job.encoders):
                vectors = np.concatenate([vectors[number] for _, vectors in shard])
                caches[encoder.name].write(keys, vectors)


def _here(job: _Job, progress: Callable[[int], Any]) -> Batches:
    """Yield keys and vectors (B, width) of each encoder, batch by batch.

    Threads decode while an accelerator encodes. If the processor encodes, it has no time to spare,
    and they decode a batch in between. A batch holds whole images only, so a run that resumes after
    a kill forms the same batches as one that was never killed.
    """
    size, count = job.options.batch_size, len(job.images)
    prepare = partial(_prepare, Path(job.options.root), job.encoders)
    stretch = max(1, count) if job.on_gpu else size

    def whole() -> Iterator[tuple[str, list[np.ndarray]]]:
        for low in range(0, count, stretch):
            images = job.images[low : low + stretch]
            for key, path, arrays in ahead(images, prepare, job.workers, window=4 * size):
                progress(1)
                if isinstance(arrays, str):
                    job.leave_out(path, arrays)
                else:
                    yield key, arrays

    decoded = whole()
    while batch := list(itertools.islice(decoded, size)):
        keys, arrays = zip(*batch, strict=True)
        yield keys, _encode(job.encoders, arrays)


def _on_ray(job: _Job, progress: Callable[[int], Any]) -> Batches:
    """Yield the same from workers of Ray Data, batches in any order.

    Every worker sees the files under the same root and loads the encoders itself; their digests
    must be the ones here. A batch with a damaged image is smaller here, which may change last bits.
    """
    import numpy as np

    data = require("ray.data", "ray", "--engine ray")
    size = job.options.batch_size
    rows = [{"batch": job.images[low : low + size]} for low in range(0, len(job.images), size)]
    expected = {encoder.spec: encoder.digest for encoder in job.encoders}
    root = str(Path(job.options.root).absolute())
    results = data.from_items(rows, override_num_blocks=len(rows)).map(
        _RayWorker,
        fn_constructor_args=(root, expected, job.options.precision),
        concurrency=(1, job.workers),
        num_gpus=1 if job.on_gpu else None,
    )
    for row in results.iter_rows():
        progress(len(row["keys"]) + len(row["damaged"]))
        for path, reason in row["damaged"]:
            job.leave_out(path, reason)
        if len(row["keys"]):
            numbers = range(len(job.encoders))
            yield list(row["keys"]), [np.asarray(row[f"vectors{n}"], np.float32) for n in numbers]


class _RayWorker:
    """A worker that decodes and encodes batches with its own encoders."""

    def __init__(self, root: str, expected: Mapping[str, str], precision: str) -> None:
        from nontrivial.models.encoders import load_encoders

        self.root, self.encoders = Path(root), load_encoders(list(expected), precision=precision)
        if [encoder.digest for encoder in self.encoders] != list(expected.values()):
            raise BadInput(
                f"a Ray worker has other weights of {' '.join(expected)} than this machine"
            )

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        prepared = [_prepare(self.root, self.encoders, tuple(item)) for item in row["batch"]]
        damaged = [(path, arrays) for _, path, arrays in prepared if isinstance(arrays, str)]
        whole = [(key, arrays) for key, _, arrays in prepared if not isinstance(arrays, str)]
        encoded = _encode(self.encoders, [arrays for _, arrays in whole]) if whole else []
        vectors = {f"vectors{n}": vectors for n, vectors in enumerate(encoded)}
        return {"keys": [key for key, _ in whole], "damaged": damaged, **vectors}


def _prepare(
    root: Path, encoders: Sequence[Encoder], image: tuple[str, str]
) -> tuple[str, str, list[np.ndarray] | str]:
    """Return key, path, and an array per encoder or the reason why the image is damaged."""
    from nontrivial.manifests.media import MediaError, decode_image, resolve

    key, path = image
    try:
        decoded = decode_image(resolve(root, path))
    except MediaError as error:
        return key, path, str(error)
    return key, path, [encoder.preprocess(decoded) for encoder in encoders]


def _encode(
    encoders: Sequence[Encoder], arrays: Sequence[Sequence[np.ndarray]]
) -> list[np.ndarray]:
    """Return the vectors (B, width) of one batch for each encoder."""
    by_encoder = zip(encoders, zip(*arrays, strict=True), strict=True)
    return [encoder.encode(batch) for encoder, batch in by_encoder]
