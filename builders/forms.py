"""The forms in which pairs of images become questions.

pair   a query and a candidate, "Yes" or "No", both letters right equally often
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from builders.pairs import POSITIVES
from builders.rationales import comparison

QUESTION = "Do both images show the same person?"
YES, NO = "Yes", "No"


def pair_samples(
    pairs: pl.DataFrame,
    frame: pl.DataFrame,
    *,
    encoder: str,
    seed: int,
    truth: Mapping[str, Sequence[str]],
) -> Iterator[dict[str, Any]]:
    """Rows of the samples table, one for each pair.

    pairs   anchor, candidate (rows of `frame`), similarity, margin, kind, rank
    frame   the images: path, source, name, pid, camid, clothes, split
    truth   what an image shows, in words, by its path, where the source knows
    """
    images = frame.rows(named=True)
    found = {
        _pair_id(images[row["anchor"]], images[row["candidate"]]): row
        for row in pairs.iter_rows(named=True)
    }
    verdicts = {name: YES if row["kind"] in POSITIVES else NO for name, row in found.items()}
    first = first_options(verdicts, seed)
    for name, row in found.items():
        query, candidate = images[row["anchor"]], images[row["candidate"]]
        shown = [truth.get(image["path"]) for image in (query, candidate)]
        yield {
            "id": name,
            "task": "reid_pair",
            "source": query["source"],
            "split": query["split"],
            "group": query["pid"],
            "question": QUESTION,
            "options": [YES, NO] if first[name] == YES else [NO, YES],
            "answer": ["A" if first[name] == verdicts[name] else "B"],
            "images": [{"bytes": None, "path": image["path"]} for image in (query, candidate)],
            "reid": _reid(row, query, [candidate], encoder),
            "difficulty": row["margin"] if math.isfinite(row["margin"]) else None,
            "rationale": comparison(*shown, verdicts[name]) if all(shown) else None,
        }


def first_options(verdicts: Mapping[str, str], seed: int) -> dict[str, str]:
    """Which option comes first in each row, drawn by a hash of the seed and the row's id.

    In the order of their hashes the rows of one verdict take turns, so that each letter is right
    equally often, give or take one.

    >>> sorted(first_options({"a": "Yes", "b": "Yes"}, seed=0).values())
    ['No', 'Yes']
    """

    def drawn(name: str) -> bytes:
        return hashlib.sha256(f"{seed}\0{name}".encode()).digest()

    first = {}
    for verdict in (YES, NO):
        names = sorted((name for name, v in verdicts.items() if v == verdict), key=drawn)
        first.update({name: (YES, NO)[place % 2] for place, name in enumerate(names)})
    return first


def _pair_id(query: Mapping[str, Any], candidate: Mapping[str, Any]) -> str:
    return f"{query['source']}/{query['split']}/{query['name']}~{candidate['name']}"


def _reid(
    row: Mapping[str, Any],
    query: Mapping[str, Any],
    candidates: Sequence[Mapping[str, Any]],
    encoder: str,
) -> dict[str, Any]:
    return {
        "kind": row["kind"],
        "query_pid": query["pid"],
        "candidate_pids": [image["pid"] for image in candidates],
        "query_camid": query["camid"],
        "candidate_camids": [image["camid"] for image in candidates],
        "query_clothes": query["clothes"],
        "candidate_clothes": [image["clothes"] for image in candidates],
        "similarity": [row["similarity"]],
        "rank": [row["rank"]],
        "encoder": encoder,
    }
