"""Pairs of images as questions, in three forms.

pair         a query and a candidate, "Yes" or "No", with each letter right equally often
description  the same with a sentence about the query in its place
choice       a query and several candidates: select all that show the person, or none
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
from nontrivial.manifests.prompts import DESCRIBED_PERSON, NO, SAME_PERSON, YES

CHOICE = "Which of the candidates show the person in the first image?"
Row = Mapping[str, Any]  # of a table: an image, or a pair of images


@dataclass(frozen=True)
class Wording:
    """Settings shared by all rows of a table.

    kind   part of the ids, so that tables of different kinds can be trained on together
    truth  image path -> its visible attributes in words, where the source knows them
    """

    kind: str
    encoder: str
    seed: int
    truth: Mapping[str, Sequence[str]]


def pair_samples(
    pairs: pl.DataFrame, frame: pl.DataFrame, wording: Wording, *, both_orders: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield a row of the samples table per pair, with `both_orders` a second one turned round.

    pairs   anchor, candidate (rows of `frame`), similarity, difficulty, kind, twin, rank
    frame   the images: path, source, name, pid, camid, clothes, split

    A pair turned round has the options and the numbers of the pair. Pairs with one number in `twin`
    name each other. Where images have `descriptions`, a hash chooses the one that stands for the
    query.
    """
    image = partial(_image, frame)
    rows = list(pairs.iter_rows(named=True))
    members = [(image(row["anchor"]), image(row["candidate"])) for row in rows]
    names = [_sample_id(wording, query, [candidate]) for query, candidate in members]
    verdicts = [YES if row["kind"] in POSITIVES else NO for row in rows]
    first = first_options(dict(zip(names, verdicts, strict=True)), wording.seed)
    twin = _twins(names, [row["twin"] for row in rows])
    for name, row, pair, verdict in zip(names, rows, members, verdicts, strict=True):
        options = [YES, NO] if first[name] == YES else [NO, YES]
        for query, candidate in (pair, pair[::-1]) if both_orders else (pair,):
            sample = _sample("reid_pair", row["kind"], query, [candidate], [row], wording)
            sample["reid"]["twin"] = twin.get(sample["id"])
            yield {
                "question": SAME_PERSON,
                **sample,
                **_told(query, sample, wording),
                "options": options,
                "answer": [letters(2)[options.index(verdict)]],
                "rationale": _compared(query, candidate, verdict, wording),
            }


def description(image: Row, seed: int) -> str | None:
    """Return the description that stands for an image, drawn by a hash; None without any."""
    texts = image.get("descriptions")
    if not texts:
        return None
    return " ".join(min(texts, key=lambda text: _hash(seed, image["name"], text)).split())


def _told(query: Row, sample: Mapping[str, Any], wording: Wording) -> dict[str, Any]:
    """Return what differs if a description takes the place of the query's image."""
    text = description(query, wording.seed)
    if text is None:
        return {}
    question = DESCRIBED_PERSON.format(text=text)
    return {"task": "reid_text", "question": question, "images": sample["images"][1:]}


def _twins(names: Sequence[str], numbers: Sequence[int | None]) -> dict[str, str]:
    """Return the name of each pair's twin, the one with the same number.

    >>> _twins(["a", "b", "c"], [1, 1, None])
    {'a': 'b', 'b': 'a'}
    """
    members: dict[int, list[str]] = {}
    for name, number in zip(names, numbers, strict=True):
        if number is not None:
            members.setdefault(number, []).append(name)
    return {name: other for a, b in members.values() for name, other in ((a, b), (b, a))}


def choice_samples(
    sets: pl.DataFrame, frame: pl.DataFrame, wording: Wording
) -> Iterator[dict[str, Any]]:
    """Yield a row of the samples table for each anchor with its candidates.

    `sets` has the columns of `pair_samples`, the rows of an anchor together. A hash orders the
    candidates, and the last option is always that none is right.
    """
    image = partial(_image, frame)
    for anchor, group in itertools.groupby(sets.iter_rows(named=True), lambda row: row["anchor"]):
        query = image(anchor)
        drawn = [(image(row["candidate"]), row) for row in group]
        drawn.sort(key=lambda item: _hash(wording.seed, query["name"], item[0]["name"]))
        candidates, rows = zip(*drawn, strict=True)
        right = [row["kind"] in POSITIVES for row in rows]
        labels = letters(len(rows) + 1)
        compared = [
            _compared(query, candidate, YES if same else NO, wording)
            for candidate, same in zip(candidates, right, strict=True)
        ]
        steps = [f"{label} {text};" for label, text in zip(labels[:-1], compared, strict=True)]
        yield {
            **_sample("reid_choice", f"{wording.kind}_choice", query, candidates, rows, wording),
            "question": CHOICE,
            "options": [f"Candidate {number}" for number, _ in enumerate(rows, 1)] + [NONE],
            "answer": list(itertools.compress(labels, right)) or labels[-1:],
            "rationale": None if None in compared else " ".join(steps),
        }


def first_options(verdicts: Mapping[str, str], seed: int) -> dict[str, str]:
    """Return the first option of each row, drawn by a hash of the seed and the row's id.

    Rows of one verdict alternate in the order of their hashes, so that each letter is right equally
    often, give or take one.

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
    """Compare two images attribute by attribute, then give the verdict.

    >>> comparison(["red shirt", "slim"], ["red shirt", "wide"], "No")
    'red shirt red shirt same; slim wide differ; No'
    """
    steps = [
        f"{a} {b} {'same' if a == b else 'differ'};" for a, b in zip(query, candidate, strict=True)
    ]
    return " ".join([*steps, verdict])


def _image(frame: pl.DataFrame, row: int) -> Row:
    return frame.row(row, named=True)


def _hash(seed: int, *names: str) -> bytes:
    return hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()


def _sample_id(wording: Wording, query: Row, candidates: Sequence[Row]) -> str:
    names = "~".join(image["name"] for image in (query, *candidates))
    return f"{query['source']}/{query['split']}/{wording.kind}/{names}"


def _sample(
    task: str,
    kind: str,
    query: Row,
    candidates: Sequence[Row],
    rows: Sequence[Row],
    wording: Wording,
) -> dict[str, Any]:
    """Return the columns that both forms fill alike; `rows` are the pairs of the candidates."""
    known = [row["difficulty"] for row in rows if row["difficulty"] is not None]
    known = [value for value in known if math.isfinite(value)]
    reid = {
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
    return {
        "id": _sample_id(wording, query, candidates),
        "task": task,
        "source": query["source"],
        "split": query["split"],
        "group": query["pid"],
        "images": [{"bytes": None, "path": image["path"]} for image in (query, *candidates)],
        "difficulty": fmean(known) if known else None,
        "reid": reid,
    }


def _compared(query: Row, candidate: Row, verdict: str, wording: Wording) -> str | None:
    """Return the reasoning about a pair, or None if the source doesn't know both images."""
    first, second = (wording.truth.get(image["path"]) for image in (query, candidate))
    return comparison(first, second, verdict) if first and second else None
