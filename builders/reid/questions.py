"""The forms in which pairs of images become questions.

pair    a query and a candidate, "Yes" or "No", both letters right equally often
choice  a query and several candidates: select every one that shows the person, or none
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import polars as pl

from nontrivial.builders.reid.pairs import POSITIVES
from nontrivial.manifests.answers import NONE, letters
from nontrivial.models.prompts import NO, SAME_PERSON, YES

CHOICE = "Which of the candidates show the person in the first image?"


@dataclass(frozen=True)
class Wording:
    """What all rows of a table have in common.

    kind   enters the ids, so that tables of different kinds can be trained on together
    truth  what an image shows, in words, by its path, where the source knows
    """

    kind: str
    encoder: str
    seed: int
    truth: Mapping[str, Sequence[str]]


def pair_samples(
    pairs: pl.DataFrame, frame: pl.DataFrame, wording: Wording, *, twins: bool = False
) -> Iterator[dict[str, Any]]:
    """Rows of the samples table, one for each pair; with `twins` a second in the other order.

    pairs   anchor, candidate (rows of `frame`), similarity, margin, kind, rank
    frame   the images: path, source, name, pid, camid, clothes, split

    A twin has the same options and the same numbers as the pair it comes from.
    """
    image = partial(frame.row, named=True)
    rows = list(pairs.iter_rows(named=True))
    members = [(image(row["anchor"]), image(row["candidate"])) for row in rows]
    names = [_sample_id(wording, query, [candidate]) for query, candidate in members]
    verdicts = [YES if row["kind"] in POSITIVES else NO for row in rows]
    first = first_options(dict(zip(names, verdicts, strict=True)), wording.seed)
    for name, row, pair, verdict in zip(names, rows, members, verdicts, strict=True):
        options = [YES, NO] if first[name] == YES else [NO, YES]
        for query, candidate in (pair, pair[::-1]) if twins else (pair,):
            yield {
                **_sample("reid_pair", query, [candidate], [row], wording),
                "question": SAME_PERSON,
                "options": options,
                "answer": [letters(2)[options.index(verdict)]],
                "reid": _reid(row["kind"], [row], query, [candidate], wording),
                "rationale": _compared(query, candidate, verdict, wording),
            }


def choice_samples(
    sets: pl.DataFrame, frame: pl.DataFrame, wording: Wording
) -> Iterator[dict[str, Any]]:
    """Rows of the samples table, one for each anchor with its candidates.

    `sets` has the columns of `pair_samples`, the rows of an anchor together. Candidates come in an
    order drawn by a hash, and the last option is always that none is right.
    """
    image = partial(frame.row, named=True)
    for anchor, group in itertools.groupby(sets.iter_rows(named=True), lambda row: row["anchor"]):
        query = image(anchor)
        rows = sorted(group, key=lambda row: _drawn(wording, query, image(row["candidate"])))
        candidates = [image(row["candidate"]) for row in rows]
        right = [row["kind"] in POSITIVES for row in rows]
        labels = letters(len(rows) + 1)
        answer = list(itertools.compress(labels, right)) or labels[-1:]
        verdicts = [YES if same else NO for same in right]
        yield {
            **_sample("reid_choice", query, candidates, rows, wording),
            "question": CHOICE,
            "options": [f"Candidate {number}" for number, _ in enumerate(rows, 1)] + [NONE],
            "answer": answer,
            "reid": _reid(f"{wording.kind}_choice", rows, query, candidates, wording),
            "rationale": _all_compared(query, candidates, verdicts, wording),
        }


def first_options(verdicts: Mapping[str, str], seed: int) -> dict[str, str]:
    """Which option comes first in each row, drawn by a hash of the seed and the row's id.

    In the order of their hashes the rows of one verdict take turns, so that each letter is right
    equally often, give or take one.

    >>> sorted(first_options({"a": "Yes", "b": "Yes"}, seed=0).values())
    ['No', 'Yes']
    """
    first = {}
    for verdict in (YES, NO):
        names = (name for name, v in verdicts.items() if v == verdict)
        ordered = sorted(names, key=lambda name: _hash(seed, name))
        first.update({name: (YES, NO)[place % 2] for place, name in enumerate(ordered)})
    return first


def comparison(query: Sequence[str], candidate: Sequence[str], verdict: str) -> str:
    """Attribute by attribute, what both images show, then the verdict.

    >>> comparison(["red shirt", "slim"], ["red shirt", "wide"], "No")
    'red shirt red shirt same; slim wide differ; No'
    """
    steps = [
        f"{a} {b} {'same' if a == b else 'differ'};" for a, b in zip(query, candidate, strict=True)
    ]
    return " ".join([*steps, verdict])


def _hash(seed: int, *names: str) -> bytes:
    return hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()


def _drawn(wording: Wording, query: Mapping[str, Any], candidate: Mapping[str, Any]) -> bytes:
    return _hash(wording.seed, query["name"], candidate["name"])


def _sample_id(
    wording: Wording, query: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]]
) -> str:
    names = "~".join(image["name"] for image in (query, *candidates))
    return f"{query['source']}/{query['split']}/{wording.kind}/{names}"


def _sample(
    task: str,
    query: Mapping[str, Any],
    candidates: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    wording: Wording,
) -> dict[str, Any]:
    """The columns that all forms fill alike."""
    margins = [row["margin"] for row in rows if math.isfinite(row["margin"])]
    return {
        "id": _sample_id(wording, query, candidates),
        "task": task,
        "source": query["source"],
        "split": query["split"],
        "group": query["pid"],
        "images": [{"bytes": None, "path": image["path"]} for image in (query, *candidates)],
        "difficulty": fmean(margins) if margins else None,
    }


def _reid(
    kind: str,
    rows: Sequence[Mapping[str, Any]],
    query: Mapping[str, Any],
    candidates: Sequence[Mapping[str, Any]],
    wording: Wording,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "query_pid": query["pid"],
        "candidate_pids": [image["pid"] for image in candidates],
        "query_camid": query["camid"],
        "candidate_camids": [image["camid"] for image in candidates],
        "query_clothes": query["clothes"],
        "candidate_clothes": [image["clothes"] for image in candidates],
        "similarity": [row["similarity"] for row in rows],
        "rank": [row["rank"] for row in rows],
        "encoder": wording.encoder,
    }


def _compared(
    query: Mapping[str, Any], candidate: Mapping[str, Any], verdict: str, wording: Wording
) -> str | None:
    """Reasoning about one pair, where the source knows both images."""
    shown = [wording.truth.get(image["path"]) for image in (query, candidate)]
    return comparison(*shown, verdict) if all(shown) else None


def _all_compared(
    query: Mapping[str, Any],
    candidates: Sequence[Mapping[str, Any]],
    verdicts: Sequence[str],
    wording: Wording,
) -> str | None:
    """Reasoning about each candidate in turn, where the source knows all images."""
    compared = [
        _compared(query, candidate, verdict, wording)
        for candidate, verdict in zip(candidates, verdicts, strict=True)
    ]
    if None in compared:
        return None
    labels = letters(len(compared))
    return " ".join(f"{a} {text};" for a, text in zip(labels, compared, strict=True))
