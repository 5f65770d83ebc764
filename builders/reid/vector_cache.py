"""Cache of vectors on disk, in small shards, keyed by encoder and image file.

A shard is written whole or not at all, and named by the digest of its bytes: one that was damaged
later is dropped, and its vectors are made again. The key of an encoder is its name and digest
(weights and preprocessing), the key of a file its path, size and modification time. A killed run
therefore resumes after its last whole shard, and builders share their vectors.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from nontrivial.models.encoders import Encoder

CACHE = "embeddings/.cache"

logger = logging.getLogger(__name__)


def file_key(root: Path, path: str) -> str:
    """Return a digest of an image file's path, size and modification time."""
    try:
        stat = os.stat(root / path)
        version = f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}"
    except (OSError, ValueError):  # missing, or no name of a file: decoding reports why
        version = f"{path}\0missing"
    return hashlib.sha256(version.encode()).hexdigest()[:32]


class VectorCache:
    """The cached vectors of one encoder."""

    def __init__(self, out: str | os.PathLike, encoder: Encoder) -> None:
        import pyarrow.parquet as pq

        self.width = encoder.width
        self.folder = Path(out, CACHE, f"{encoder.name}-{encoder.digest[:16]}")
        self._places: dict[str, tuple[Path, int]] = {}
        for shard in sorted(self.folder.glob("*.parquet")):
            content = shard.read_bytes()
            if shard != self._named_by(content):
                logger.warning("%s: damaged; its vectors are made again", shard)
                shard.unlink()
                continue
            self._note(
                shard, pq.read_table(io.BytesIO(content), columns=["key"])["key"].to_pylist()
            )

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def write(self, keys: Sequence[str], vectors: np.ndarray) -> None:
        """Add a shard of (n, width) vectors."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from nontrivial.manifests.files import atomic_path

        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.width)
        content = io.BytesIO()
        pq.write_table(pa.table({"key": list(keys), "vector": column}), content)
        shard = self._named_by(content.getvalue())
        with atomic_path(shard) as temporary:
            temporary.write_bytes(content.getvalue())
        self._note(shard, keys)

    def read(self, keys: Sequence[str]) -> np.ndarray:
        """Return the vectors of cached `keys`, (n, width) float32."""
        import numpy as np

        from nontrivial.manifests.parquet import read_table

        vectors = np.empty((len(keys), self.width), np.float32)
        by_shard: dict[Path, list[tuple[int, int]]] = {}
        for row, key in enumerate(keys):
            shard, place = self._places[key]
            by_shard.setdefault(shard, []).append((row, place))
        for shard, pairs in by_shard.items():
            column = read_table(shard, columns=["vector"]).column("vector").combine_chunks()
            rows, places = map(list, zip(*pairs, strict=True))
            vectors[rows] = column.flatten().to_numpy().reshape(-1, self.width)[places]
        return vectors

    def _named_by(self, content: bytes) -> Path:
        """Return the path of a shard with these bytes."""
        return self.folder / f"{hashlib.sha256(content).hexdigest()[:32]}.parquet"

    def _note(self, shard: Path, keys: Iterable[str]) -> None:
        self._places.update((key, (shard, place)) for place, key in enumerate(keys))
