"""Audits: somebody reads a sample of a manifest's rows and marks each of them.

The sample takes the same number of rows from each rule of inversion, or kind of pair, in an order
that a hash of the ids draws. Marks lie beside the manifest, in `<manifest>.audit.jsonl`, one line a
mark; the last one of a row counts.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nontrivial.manifests.intervals import wilson
from nontrivial.manifests.runs import JsonLines

MARKS = ("sound", "stiff", "ambiguous", "wrong", "ungrammatical")
ERRORS = frozenset(("ambiguous", "wrong", "ungrammatical"))
Row = Mapping[str, Any]


def marks_file(manifest: Path) -> Path:
    """Return where the marks of a manifest lie.

    >>> marks_file(Path("manifests/some.parquet")).as_posix()
    'manifests/some.audit.jsonl'
    """
    return manifest.with_suffix(".audit.jsonl")


def read_marks(manifest: Path) -> dict[str, str]:
    """Return the mark of each row that was read, by id."""
    lines = JsonLines(marks_file(manifest))
    return {
        line["id"]: line["mark"]
        for line in lines
        if isinstance(line.get("id"), str) and line.get("mark") in MARKS
    }


def stratum(row: Row) -> str:
    """Return the rule of an inverted question, the kind of a pair, or the task."""
    if row["qa"]:
        return row["qa"]["rule"] or row["task"]
    return (row["reid"] or {}).get("kind") or row["task"]


def sample(rows: Iterable[Row], count: int) -> list[Row]:
    """Return at most `count` rows, by turns from each stratum, in the order of hashes of ids."""
    ordered = sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    seen: Counter[str] = Counter()
    turns = []
    for row in ordered:
        name = stratum(row)
        turns.append((seen[name], name))
        seen[name] += 1
    places = sorted(range(len(ordered)), key=turns.__getitem__)[:count]
    return [ordered[place] for place in places]


def error_rates(rows: Sequence[Row], marks: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return a line for each stratum and for all: rows read, each mark's count, share of errors.

    An error is a row that is ambiguous, wrong or ungrammatical; beside the share its 95 % interval.
    """
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        if row["id"] in marks:
            for name in (stratum(row), "all"):
                counts.setdefault(name, Counter())[marks[row["id"]]] += 1
    names = [*sorted(counts.keys() - {"all"}), *(["all"] if counts else [])]
    return [_line(name, counts[name]) for name in names]


def _line(name: str, marks: Counter[str]) -> tuple[str, ...]:
    read = marks.total()
    wrong = sum(marks[mark] for mark in ERRORS)
    low, high = wilson(wrong, read)
    share = f"{wrong / read:.1%} ({low:.1%}–{high:.1%})"
    return name, str(read), *(str(marks[mark]) for mark in MARKS), share
