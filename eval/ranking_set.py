"""Read the queries and the gallery of each data set of an embeddings table."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from nontrivial.eval.ranking import Labels
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.parquet import read_table
from nontrivial.manifests.schema import NOBODY, VECTOR, validate_embeddings


@dataclass(frozen=True)
class RankingSet:
    """Queries and gallery of one data set, with the unit vectors of one encoder.

    query_vectors, gallery_vectors   (Q, D) and (G, D) float32
    camids, pids                     camera (None: unknown) and identity of each image, by path
    """

    source: str
    encoder: str
    query_paths: list[str]
    gallery_paths: list[str]
    query: Labels
    gallery: Labels
    query_vectors: np.ndarray
    gallery_vectors: np.ndarray
    camids: dict[str, int | None]
    pids: dict[str, str]


def read_images(path: Path, encoders: Sequence[str], limit: int | None) -> Iterator[RankingSet]:
    """Yield one ranking set for each data set of a table and each of `encoders` (none: all).

    `limit` picks the same queries every time, whatever else the table holds. Raises `BadInput` for
    an encoder the table does not have, and for a data set without queries or gallery.
    """
    content = read_table(path)
    validate_embeddings(content, str(path))
    names = [n.removeprefix(VECTOR) for n in content.column_names if n.startswith(VECTOR)]
    unknown = sorted(set(encoders) - set(names))
    if unknown:
        raise BadInput(f"{path}: has no vectors of {', '.join(unknown)}; it has {', '.join(names)}")
    sources = content.column("source").to_pylist()
    for source in sorted(set(sources)):
        part = content.filter([name == source for name in sources])
        for name in encoders or names:
            yield _ranking_set(part, source, name, path, limit)


def _ranking_set(
    content: pa.Table, source: str, encoder: str, path: Path, limit: int | None
) -> RankingSet:
    columns = (content.column(name).to_pylist() for name in ("path", "pid", "camid"))
    paths, pids, camids = columns
    roles = np.array(content.column("role").to_pylist())
    codes = np.unique(pids, return_inverse=True)[1]
    codes[roles == "distractor"] = NOBODY
    worn = np.array([c or "" for c in content.column("clothes").to_pylist()])
    clothes = np.unique(worn, return_inverse=True)[1]
    clothes[worn == ""] = -1  # unknown
    column = content.column(VECTOR + encoder).combine_chunks()
    vectors = column.flatten().to_numpy().reshape(len(content), -1)
    query = np.flatnonzero(roles == "query")
    query = np.array(sorted(query, key=lambda i: zlib.crc32(paths[i].encode()))[:limit], np.int64)
    gallery = np.flatnonzero(np.isin(roles, ["gallery", "distractor"]))
    if not len(query) or not len(gallery):
        raise BadInput(
            f"{path}: {source} has {len(query)} queries and {len(gallery)} gallery images; a "
            "ranking needs both: nontrivial embed --split test"
        )

    def labels(rows: np.ndarray) -> Labels:
        cameras = np.array([camids[i] if camids[i] is not None else -1 for i in rows], np.int64)
        return Labels(codes[rows], cameras, clothes[rows])

    return RankingSet(
        source,
        encoder,
        [paths[i] for i in query],
        [paths[i] for i in gallery],
        labels(query),
        labels(gallery),
        vectors[query],
        vectors[gallery],
        dict(zip(paths, camids, strict=True)),
        dict(zip(paths, pids, strict=True)),
    )
