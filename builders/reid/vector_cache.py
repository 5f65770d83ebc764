"""Vectors on disk, in small shards, keyed by encoder and image file.

A shard is written whole or not at all. The key of an encoder is its name and digest (weights and
preprocessing), the key of a file its path, size and time of change. So a killed run goes on after
its last whole shard, and every builder finds the vectors that another one made.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from nontrivial.models.encoders import Encoder

CACHE = "embeddings/.cache"


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

        from nontrivial.manifests.files import atomic_path

        shard = self.folder / f"{hashlib.sha256(''.join(keys).encode()).hexdigest()[:32]}.parquet"
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.width)
        with atomic_path(shard) as temporary:
            pq.write_table(pa.table({"key": list(keys), "vector": column}), temporary)
        self._note(shard, keys)

    def read(self, keys: Sequence[str]) -> np.ndarray:
        """The vectors of cached `keys`, (n, width) float32."""
        import numpy as np

        from nontrivial.manifests.parquet import read_table

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


def _shard_keys(shard: Path) -> list[str]:
    from nontrivial.manifests.parquet import read_table

    return read_table(shard, columns=["key"]).column("key").to_pylist()
