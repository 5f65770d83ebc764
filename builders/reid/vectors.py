"""Images -> unit vectors: decode, encode, keep.

`embed` takes vectors from the cache where it has them and fills it where it lacks them, in this
process or on Ray Data.
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

from nontrivial.builders.reid.sources import SOURCES, names_of
from nontrivial.builders.reid.vector_cache import VectorCache, file_key
from nontrivial.manifests.command import check_share, option
from nontrivial.manifests.errors import BadInput, require

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa

    from nontrivial.builders.reid.sources.data_set import ImageList
    from nontrivial.models.encoders import Encoder

SHARD = 1024  # images; what a killed run loses at most
Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


@dataclass
class ImageOptions:
    """Options of every command that reads images of people."""

    source: list[str] = option(
        f"data sets: {', '.join(SOURCES)}; some have variants: market1501:500k, msmt17:val, "
        "cuhk03:labeled, table=FILE, folder=PATTERN",
        default=["market1501"],
    )
    split: str = option("identities to take", default="train", choices=("train", "test"))
    encoder: list[str] = option(
        "auto, stripes, osnet_x1_0[=FILE], openclip:MODEL@TAG, openclip:MODEL=FILE; several count "
        "alike",
        default=["auto"],
    )
    root: str = option("where data sets lie", default="data")
    out: str = option("folder of the manifests", default="manifests")
    batch_size: int = option("images in one forward pass", default=64, rare=True)
    workers: int = option("threads that decode; 0 takes all cores", default=0, rare=True)
    max_bad: float = option("share of damaged images to go on without", default=0.01, rare=True)
    precision: str = option(
        "auto runs networks in half precision on a GPU",
        default="auto",
        choices=("auto", "full"),
        rare=True,
    )
    engine: str = option(
        "where images are encoded", default="local", choices=("local", "ray"), rare=True
    )

    @property
    def name(self) -> str:
        """The data sets without their variants, as files are named after them."""
        return "+".join(names_of(self.source))

    def check(self) -> None:
        """Raise `BadInput` for values that nothing can be done with."""
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
    damaged: Mapping[str, str] = field(default_factory=dict)  # path -> what is wrong with it


def read_sources(options: ImageOptions) -> list[ImageList]:
    """The images of the split, source by source."""
    from nontrivial.builders.reid.sources import read_source

    return [read_source(spec, options.root, options.split) for spec in options.source]


def embed(frame: pl.DataFrame, encoders: Sequence[Encoder], options: ImageOptions) -> Embedded:
    """Vectors of all images of `frame` that can be decoded, from the cache where it has them.

    Raises `BadInput` that lists the damaged images when they are over `max_bad` of all.
    """
    import numpy as np
    import polars as pl

    root, paths = Path(options.root), frame["path"].to_list()
    keys = [file_key(root, path) for path in paths]
    caches = {encoder.name: VectorCache(options.out, encoder) for encoder in encoders}
    damaged: dict[str, str] = {}

    def leave_out(path: str, reason: str) -> None:
        damaged[path] = reason
        problems = list(damaged.values())
        check_share(problems, len(paths), options.max_bad, "images are damaged")

    for lacking, rows in _missing(keys, encoders, caches):
        pending = [(keys[row], paths[row]) for row in rows]
        _fill(pending, root, lacking, caches, options, leave_out)
    for reason in damaged.values():
        logger.warning("left out: %s", reason)
    whole = np.array([path not in damaged for path in paths])
    wanted = list(itertools.compress(keys, whole))
    vectors = {name: cache.read(wanted) for name, cache in caches.items()}
    return Embedded(frame.filter(pl.Series(whole)), vectors, damaged)


def embeddings_table(parts: Sequence[Embedded]) -> pa.Table:
    """The embeddings table of the contract, sorted by source and path.

    It knows no distractors: they are gallery images of an identity that nobody asks for.
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
    """`map(work, items)` by threads that keep up to `window` results ready, in order."""
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


def _missing(
    keys: Sequence[str], encoders: Sequence[Encoder], caches: Mapping[str, VectorCache]
) -> list[tuple[list[Encoder], list[int]]]:
    """Rows that lack vectors, grouped by the encoders they lack: each image is decoded once."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, key in enumerate(keys):
        lacking = tuple(encoder.name for encoder in encoders if key not in caches[encoder.name])
        if lacking:
            groups.setdefault(lacking, []).append(row)
    by_name = {encoder.name: encoder for encoder in encoders}
    return [([by_name[name] for name in names], rows) for names, rows in groups.items()]


def _fill(
    pending: Sequence[tuple[str, str]],
    root: Path,
    encoders: Sequence[Encoder],
    caches: Mapping[str, VectorCache],
    options: ImageOptions,
    leave_out: Callable[[str, str], None],
) -> None:
    """Decode and encode the (key, path) items into the caches, a shard at a time."""
    import numpy as np
    from tqdm import tqdm

    label = " + ".join(encoder.name for encoder in encoders)
    engine = {"local": _here, "ray": _on_ray}[options.engine]
    with tqdm(total=len(pending), desc=label, unit="image") as bar:
        batches = engine(pending, root, encoders, options, leave_out, bar.update)
        while shard := list(itertools.islice(batches, max(1, SHARD // options.batch_size))):
            keys = [key for batch, _ in shard for key in batch]
            for number, encoder in enumerate(encoders):
                vectors = np.concatenate([vectors[number] for _, vectors in shard])
                caches[encoder.name].write(keys, vectors)


def _here(
    pending: Sequence[tuple[str, str]],
    root: Path,
    encoders: Sequence[Encoder],
    options: ImageOptions,
    leave_out: Callable[[str, str], None],
    progress: Callable[[int], Any],
) -> Iterator[tuple[Sequence[str], list[np.ndarray]]]:
    """Keys and vectors (B, width) for each encoder, batch by batch.

    Threads decode while an accelerator encodes. Where the processor encodes it has nothing to spare
    for that, and they decode a batch in between. A batch holds whole images only, so a run that
    goes on after a kill forms the same batches as one that was never killed.
    """
    workers, size = options.workers or os.cpu_count() or 1, options.batch_size
    prepare = partial(_prepare, root, encoders)
    stretch = max(1, len(pending)) if _on_gpu(encoders) else size

    def whole() -> Iterator[tuple[str, list[np.ndarray]]]:
        for low in range(0, len(pending), stretch):
            items = pending[low : low + stretch]
            for key, path, arrays in ahead(items, prepare, workers, window=4 * size):
                progress(1)
                if isinstance(arrays, str):
                    leave_out(path, arrays)
                else:
                    yield key, arrays

    decoded = whole()
    while batch := list(itertools.islice(decoded, size)):
        keys, arrays = zip(*batch, strict=True)
        yield keys, _encode(encoders, arrays)


def _on_ray(
    pending: Sequence[tuple[str, str]],
    root: Path,
    encoders: Sequence[Encoder],
    options: ImageOptions,
    leave_out: Callable[[str, str], None],
    progress: Callable[[int], Any],
) -> Iterator[tuple[Sequence[str], list[np.ndarray]]]:
    """The same by workers of Ray Data, batches in any order.

    Every worker sees the files under the same root and loads the encoders itself: its digests have
    to be ours. A batch that has a damaged image is smaller here, which may change the last bit.
    """
    import numpy as np

    data = require("ray.data", "ray", "--engine ray")
    size = options.batch_size
    rows = [{"batch": pending[low : low + size]} for low in range(0, len(pending), size)]
    wanted = {encoder.spec: encoder.digest for encoder in encoders}
    made = data.from_items(rows, override_num_blocks=len(rows)).map(
        _RayWorker,
        fn_constructor_args=(str(root.absolute()), wanted, options.precision),
        concurrency=(1, options.workers or os.cpu_count() or 1),
        num_gpus=1 if _on_gpu(encoders) else None,
    )
    for row in made.iter_rows():
        progress(len(row["keys"]) + len(row["damaged"]))
        for path, reason in row["damaged"]:
            leave_out(path, reason)
        if len(row["keys"]):
            vectors = (np.asarray(row[f"vectors{n}"], np.float32) for n in range(len(encoders)))
            yield list(row["keys"]), list(vectors)


class _RayWorker:
    """Decodes and encodes one batch after the other with encoders of its own."""

    def __init__(self, root: str, wanted: Mapping[str, str], precision: str) -> None:
        from nontrivial.models.encoders import load_encoders

        self.root, self.encoders = Path(root), load_encoders(list(wanted), precision=precision)
        found = [encoder.digest for encoder in self.encoders]
        if found != list(wanted.values()):
            raise BadInput(
                f"a Ray worker has other weights of {' '.join(wanted)} than this machine"
            )

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        prepared = [_prepare(self.root, self.encoders, tuple(item)) for item in row["batch"]]
        damaged = [(path, arrays) for _, path, arrays in prepared if isinstance(arrays, str)]
        whole = [(key, arrays) for key, _, arrays in prepared if not isinstance(arrays, str)]
        made: dict[str, Any] = {"keys": [key for key, _ in whole], "damaged": damaged}
        encoded = _encode(self.encoders, [arrays for _, arrays in whole]) if whole else []
        return made | {f"vectors{n}": vectors for n, vectors in enumerate(encoded)}


def _prepare(
    root: Path, encoders: Sequence[Encoder], item: tuple[str, str]
) -> tuple[str, str, list[np.ndarray] | str]:
    """Key, path, and an array for each encoder, or what is wrong with the image."""
    from nontrivial.manifests.media import MediaError, decode_image, resolve

    key, path = item
    try:
        image = decode_image(resolve(root, path))
    except MediaError as error:
        return key, path, str(error)
    return key, path, [encoder.preprocess(image) for encoder in encoders]


def _on_gpu(encoders: Sequence[Encoder]) -> bool:
    return any(getattr(encoder, "device", "cpu") != "cpu" for encoder in encoders)


def _encode(
    encoders: Sequence[Encoder], arrays: Sequence[Sequence[np.ndarray]]
) -> list[np.ndarray]:
    """Vectors (B, width) of one batch for each encoder."""
    return [
        encoder.encode(batch)
        for encoder, batch in zip(encoders, zip(*arrays, strict=True), strict=True)
    ]
