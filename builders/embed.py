"""Images -> unit vectors, written as an embeddings table that ranking and mining read.

  python -m builders.embed --source market1501 --split test
      -> manifests/embeddings/market1501_test.parquet

Vectors are kept in a cache of small shards, keyed by the encoder (weights and preprocessing) and by
the image file (path, size, time of change). A killed run goes on after its last whole shard, and
`builders.reid_hard` finds the same vectors.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from builders.sources import SOURCES
from manifests.command import guard, option, parse, table
from manifests.errors import BadInput, require

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa

    from builders.sources.data_set import Images
    from models.encoders import Encoder

SHARD = 1024  # images; what a killed run loses at most
CACHE = "embeddings/.cache"
Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


@dataclass
class Options:
    """What images, what encoders; `builders.reid_hard` adds its own."""

    source: list[str] = option("data sets", default=["market1501"], choices=tuple(SOURCES))
    split: str = option("identities to take", default="train", choices=("train", "test"))
    encoder: list[str] = option(
        "auto, stripes, osnet_x1_0[=FILE], openclip:MODEL@TAG, openclip:MODEL=FILE; several count "
        "alike",
        default=["auto"],
    )
    root: str = option("where data sets lie", default="data")
    out: str = option("folder of the manifests", default="manifests")
    batch_size: int = option("images in one forward pass", default=64)
    workers: int = option("threads that decode; 0 takes all cores", default=0)
    max_bad: float = option("share of damaged images at which to give up", default=0.01)
    precision: str = option(
        "auto runs networks in half precision on a GPU", default="auto", choices=("auto", "full")
    )
    engine: str = option("where images are encoded", default="local", choices=("local", "ray"))
    market1501_500k: bool = option("add the 500,000 distractors of market1501", default=False)
    msmt17_val: bool = option("train on msmt17's validation list, too", default=False)
    cuhk03_boxes: str = option(
        "boxes of cuhk03", default="detected", choices=("detected", "labeled")
    )
    table: str | None = option("csv or parquet that `--source table` lists", default=None)
    folder_pattern: str | None = option(
        "regular expression with groups pid and camid for the paths of `--source folder`",
        default=None,
    )


@dataclass(frozen=True)
class Embedded:
    """Images with their vectors: row i of `frame` has the unit vectors `vectors[name][i]`."""

    frame: pl.DataFrame
    vectors: Mapping[str, np.ndarray]  # (N, width) float32 for each encoder
    damaged: Mapping[str, str] = field(default_factory=dict)  # path -> what is wrong with it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return guard(run, parse(Options, argv, prog="builders.embed", description=__doc__))


def run(options: Options) -> None:
    from manifests.parquet import claim, write_table
    from manifests.schema import validate_embeddings
    from models.encoders import load_encoders

    check(options)
    target = Path(options.out, "embeddings", f"{'+'.join(options.source)}_{options.split}.parquet")
    with claim(target):
        sources = read_sources(options)
        encoders = load_encoders(options.encoder, precision=options.precision)
        parts = [embed(images.frame, encoders, options) for images in sources]
        content = embeddings_table(parts)
        validate_embeddings(content, str(target))
        about = {
            "builder": "builders.embed",
            "options": asdict(options),
            "media_root": options.root,
            "encoders": {encoder.name: encoder.digest for encoder in encoders},
            "counts": {
                "images": len(content),
                "damaged": sum(len(part.damaged) for part in parts),
                "ignored": [dict(images.ignored) for images in sources],
            },
            "differences": [text for images in sources for text in images.differences],
        }
        digest = write_table(content, target, about)
    _report(content, parts, about, target, digest)


def check(options: Options) -> None:
    """Raise `BadInput` for values that nothing can be done with."""
    if not options.source or len(set(options.source)) < len(options.source):
        raise BadInput(f"--source {' '.join(options.source)}: needs each data set once")
    for name, least in (("batch_size", 1), ("workers", 0), ("max_bad", 0)):
        if not getattr(options, name) >= least:
            raise BadInput(f"--{name} {getattr(options, name)}: needs at least {least}")


def read_sources(options: Options) -> list[Images]:
    """The images of the split, source by source."""
    from builders.sources import read_source
    from builders.sources.data_set import Variants

    variants = Variants(**{f.name: getattr(options, f.name) for f in fields(Variants)})
    return [read_source(name, options.root, options.split, variants) for name in options.source]


def embed(frame: pl.DataFrame, encoders: Sequence[Encoder], options: Options) -> Embedded:
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
        if len(damaged) > options.max_bad * len(paths):
            raise BadInput(_too_many(damaged, options.max_bad))

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

    from builders.sources.data_set import DISTRACTOR, GALLERY
    from manifests.schema import VECTOR, embeddings_schema

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


def file_key(root: Path, path: str) -> str:
    """Identifies a version of an image file: its path, size and time of change."""
    try:
        stat = os.stat(root / path)
        version = f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}"
    except OSError:  # listed, but gone or out of reach: decoding says why
        version = f"{path}\0missing"
    return hashlib.sha256(version.encode()).hexdigest()[:32]


class VectorCache:
    """Vectors of one encoder on disk, in shards that are written whole or not at all."""

    def __init__(self, out: str | os.PathLike, encoder: Encoder) -> None:
        self.width = encoder.width
        self.folder = Path(out, CACHE, f"{encoder.name}-{encoder.digest[:16]}")
        self._places: dict[str, tuple[Path, int]] = {}
        for shard in sorted(self.folder.glob("*.parquet")):
            self._note(shard, _shard_keys(shard))

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def write(self, keys: Sequence[str], vectors: np.ndarray) -> None:
        """Add a shard of (n, width) vectors."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from manifests.parquet import atomic_path

        shard = self.folder / f"{hashlib.sha256(''.join(keys).encode()).hexdigest()[:32]}.parquet"
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.width)
        with atomic_path(shard) as temporary:
            pq.write_table(pa.table({"key": list(keys), "vector": column}), temporary)
        self._note(shard, keys)

    def read(self, keys: Sequence[str]) -> np.ndarray:
        """The vectors of cached `keys`, (n, width) float32."""
        import numpy as np

        from manifests.parquet import read_table

        vectors = np.empty((len(keys), self.width), np.float32)
        by_shard: dict[Path, list[tuple[int, int]]] = {}
        for row, key in enumerate(keys):
            shard, place = self._places[key]
            by_shard.setdefault(shard, []).append((row, place))
        for shard, pairs in by_shard.items():
            column = read_table(shard, columns=["vector"]).column("vector").combine_chunks()
            held = column.flatten().to_numpy().reshape(-1, self.width)
            rows, places = map(list, zip(*pairs, strict=True))
            vectors[rows] = held[places]
        return vectors

    def _note(self, shard: Path, keys: Iterable[str]) -> None:
        self._places.update((key, (shard, place)) for place, key in enumerate(keys))


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
    options: Options,
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
    options: Options,
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
    options: Options,
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
        from models.encoders import load_encoders

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
    from manifests.media import MediaError, decode_image, resolve

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


def _shard_keys(shard: Path) -> list[str]:
    from manifests.parquet import read_table

    return read_table(shard, columns=["key"]).column("key").to_pylist()


def _too_many(damaged: Mapping[str, str], max_bad: float) -> str:
    listed = "\n".join(f"  {path}: {reason}" for path, reason in list(damaged.items())[:10])
    return (
        f"over {max_bad:.2%} of the images are damaged:\n{listed}\n"
        "mend or remove them, or raise --max_bad"
    )


def _report(
    content: pa.Table,
    parts: Sequence[Embedded],
    about: Mapping[str, Any],
    target: Path,
    digest: str,
) -> None:
    roles = content.column("role").value_counts().to_pylist()
    rows = [(f"images, {item['values']}", item["counts"]) for item in roles]
    rows += [("damaged, left out", about["counts"]["damaged"])]
    rows += [
        (reason, count) for part in about["counts"]["ignored"] for reason, count in part.items()
    ]
    rows += [(f"width of {name}", x.shape[1]) for name, x in parts[0].vectors.items()]
    print(table(rows))
    for text in about["differences"]:
        print(f"note: {text}")
    print(f"{target}: content digest {digest[:16]}")


if __name__ == "__main__":
    sys.exit(main())
