"""Rows of manifests as cards of a page: pairs side by side, inverted questions beside originals.

A quarantine file (pairs with doubtful labels) is shown, too, with the reason for each doubt.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.answers import LETTERS
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.page import (
    Card,
    Thumbnails,
    beside,
    images_block,
    question_block,
    render,
    summary,
    text_block,
)
from nontrivial.manifests.parquet import read_about, read_samples, read_table
from nontrivial.manifests.schema import is_embeddings, iterate

if TYPE_CHECKING:
    import pyarrow as pa

QUARANTINE = ("anchor_path", "candidate_path", "reason")


def gallery_page(
    paths: Sequence[Path],
    *,
    rows: int,
    budget: int,
    media_root: str | None = None,
    show_progress: bool = True,
) -> tuple[str, Thumbnails]:
    """The page of some manifests, and its thumbnails with what was wrong with the media.

    rows     of each file at most, evenly spread over it
    budget   bytes of thumbnails at most
    """
    from tqdm import tqdm

    thumbnails = Thumbnails(budget)
    cards: list[Card] = []
    counts = []
    for path in paths:
        content, card_of = _read(path)
        root = media_root or read_about(path).get("media_root")
        chosen = _spread(content, rows)
        bar = tqdm(total=len(chosen), unit="row", desc=path.stem, disable=not show_progress)
        with bar:
            for row in iterate(chosen, batch=64):
                cards.append(card_of(row, path.stem, root, thumbnails))
                bar.update()
        counts.append((str(path), len(content), len(chosen)))
    notes = thumbnail_notes(thumbnails)
    tables = [summary("files", ("file", "rows", "shown"), counts)]
    return render("gallery", cards, thumbnails, notes=notes, tables=tables), thumbnails


def sample_card(
    row: Mapping[str, Any], file: str, root: str | os.PathLike | None, thumbnails: Thumbnails
) -> Card:
    """A row of the samples table."""
    reid, qa = row["reid"] or {}, row["qa"] or {}
    facets = {
        "file": file,
        "task": row["task"],
        "split": row["split"],
        "kind": reid.get("kind"),
        "family": qa.get("family"),
        "rule": qa.get("rule"),
        "inverted": None if not qa else "yes" if qa["inverted"] else "no",
    }
    numbers = {"difficulty": row["difficulty"]}
    if reid.get("similarity"):
        numbers["similarity"] = reid["similarity"][0]
    blocks = sample_blocks(row, root, thumbnails)
    return Card(row["id"], blocks, {k: v for k, v in facets.items() if v is not None}, numbers)


def sample_blocks(
    row: Mapping[str, Any], root: str | os.PathLike | None, thumbnails: Thumbnails
) -> list[dict[str, Any]]:
    """A row's media, its question beside the original, its rationale."""
    blocks = [images_block(_media(row, row["reid"] or {}, root, thumbnails))]
    blocks.append(_asked(row, row["qa"] or {}))
    if row["rationale"]:
        blocks.append(text_block("rationale", row["rationale"]))
    return blocks


def doubt_card(
    row: Mapping[str, Any], file: str, root: str | os.PathLike | None, thumbnails: Thumbnails
) -> Card:
    """A row of a quarantine table: two images and why their labels are doubted."""
    items = []
    for side in ("anchor", "candidate"):
        place = thumbnails.image({"bytes": None, "path": row[f"{side}_path"]}, root)
        caption = _caption(side, row.get(f"{side}_pid"), row.get(f"{side}_camid"))
        items.append((place, caption, ""))
    numbers = {k: row[k] for k in ("similarity", "margin") if isinstance(row.get(k), float)}
    facets = {"file": file, "reason": str(row["reason"])}
    title = f"{row['anchor_path']} ~ {row['candidate_path']}"
    return Card(title, [images_block(items)], facets, _finite(numbers))


def thumbnail_notes(thumbnails: Thumbnails) -> list[str]:
    """What a page should say about media it doesn't show."""
    notes = []
    if thumbnails.problems:
        notes.append(f"{len(thumbnails.problems)} media could not be read")
    if thumbnails.left_out:
        notes.append(f"{thumbnails.left_out} media have no thumbnail: raise --max_mb for more")
    return notes


def _read(path: Path) -> tuple[pa.Table, Any]:
    """A file's rows, and what makes cards of them."""
    content = read_table(path)
    if set(QUARANTINE) <= set(content.column_names):
        return content, doubt_card
    if is_embeddings(content):
        raise BadInput(
            f"{path}: is an embeddings table; name samples (manifests/*.parquet) or a quarantine"
        )
    return read_samples(path), sample_card


def _spread(content: pa.Table, rows: int) -> pa.Table:
    """At most `rows` rows, evenly spread: the rows are sorted by id, and neighbours much alike."""
    if len(content) <= rows:
        return content
    return content.take([i * len(content) // rows for i in range(rows)])


def _media(
    row: Mapping[str, Any],
    reid: Mapping[str, Any],
    root: str | os.PathLike | None,
    thumbnails: Thumbnails,
) -> Iterator[tuple[int | None, str, str]]:
    """Thumbnails of a row's images, captioned by what `reid` says, and frames of its clips."""
    for place, item in enumerate(row["images"] or []):
        caption, mark = _described(reid, place)
        yield thumbnails.image(item, root), caption or item["path"] or "image", mark
    clips = row["clips"] or [None] * len(row["videos"] or [])
    for item, clip in zip(row["videos"] or [], clips, strict=True):
        frames = thumbnails.clip(item, root, (clip["start"], clip["end"]) if clip else None)
        yield from ((frame, "", "") for frame in frames or [None])


def _described(reid: Mapping[str, Any], place: int) -> tuple[str, str]:
    """Caption and mark of the query (place 0) or of a candidate."""
    if not reid:
        return "", ""
    if place == 0:
        return _caption("query", reid["query_pid"], reid["query_camid"]), ""
    each = {
        name: values[place - 1]
        for name, values in reid.items()
        if isinstance(values, list) and len(values) >= place
    }
    pid = each.get("candidate_pids")
    caption = _caption("candidate", pid, each.get("candidate_camids"))
    if each.get("similarity") is not None:
        caption += f"\nsimilarity {each['similarity']:.3f}"
    if each.get("rank") is not None:
        caption += f"\nrank {each['rank']}"
    known = pid is not None and reid["query_pid"] is not None
    return caption, ("right" if pid == reid["query_pid"] else "wrong") if known else ""


def _caption(role: str, pid: str | None, camid: int | None) -> str:
    """The identity without its namespace, and the camera."""
    lines = [role]
    if pid is not None:
        lines.append(pid.rsplit("/", 1)[-1])
    if camid is not None:
        lines.append(f"camera {camid}")
    return "\n".join(lines)


def _asked(row: Mapping[str, Any], qa: Mapping[str, Any]) -> dict[str, Any]:
    """The question, beside its original where it is inverted."""
    now = question_block("asked", row["question"], _options(row["options"], row["answer"]))
    if not qa.get("inverted"):
        return now
    names = ("original_options", "original_answer")
    before = _options(*(qa[name] or [] for name in names))
    return beside(now, question_block("original", qa["original_question"] or "", before))


def _options(options: Sequence[str], answer: Sequence[str]) -> list[tuple[str, str, bool]]:
    return [(a, option, a in answer) for a, option in zip(LETTERS, options, strict=False)]


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if abs(value) < float("inf")}
