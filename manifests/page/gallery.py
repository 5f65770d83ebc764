"""Galleries: rows of manifests as cards of a page.

Pairs stand side by side, inverted questions beside their originals. A quarantine file (pairs with
doubtful labels) can be shown, too, with the reason for each doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.answers import LETTERS
from nontrivial.manifests.command import printable
from nontrivial.manifests.errors import BadInput, ManifestError
from nontrivial.manifests.left_out import is_listable
from nontrivial.manifests.media import Root
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
from nontrivial.manifests.parquet import read_about, read_samples, read_table, rows_in
from nontrivial.manifests.roots import media_root as root_of
from nontrivial.manifests.runs import settings_digest
from nontrivial.manifests.schema import is_embeddings, iterate

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]  # of a table
PART = 20_000  # rows of a page
QUARANTINE = ("anchor_path", "candidate_path", "reason")


def gallery_pages(
    paths: Sequence[Path], out: Path, *, rows: int, budget: int, media_root: str | None = None
) -> Iterator[tuple[Path, str, Thumbnails]]:
    """Yield the pages of some manifests: file, content, and thumbnails with unreadable media.

    They show at most `rows` of each file, evenly spread, at most `PART` rows a page, with `budget`
    bytes of thumbnails each. The first page is `out`, the second one is named `-2`, and so on.
    """
    counts = [(str(path), rows_in(path)) for path in paths]
    shown = [(path, count, min(count, rows)) for path, count in counts]
    parts = _names(out, sum(number for *_, number in shown))
    tables = [summary("files", ("file", "rows", "shown"), shown)]
    digests = sorted(str(read_about(path).get("content_digest")) for path in paths)
    links = [part.name for part in parts] if len(parts) > 1 else []
    cards = _cards(paths, rows, media_root)
    for number, part in enumerate(parts, 1):
        thumbnails = Thumbnails(budget)
        some = [make(thumbnails) for make in islice(cards, PART)]
        notes = thumbnail_notes(thumbnails)
        if links:
            notes.append(f"part {number} of {len(parts)}: filters and search look at this part")
        page = render(
            "gallery",
            some,
            thumbnails,
            notes=notes,
            tables=tables,
            marks=settings_digest({"content": digests}),
            parts=links,
        )
        yield part, page, thumbnails


def _names(out: Path, rows: int) -> list[Path]:
    """Return the files of the parts.

    >>> [name.as_posix() for name in _names(Path("some/gallery.html"), 2 * PART)]
    ['some/gallery.html', 'some/gallery-2.html']
    """
    others = range(2, -(-rows // PART) + 1)
    return [out, *(out.with_name(f"{out.stem}-{number}{out.suffix}") for number in others)]


def _cards(
    paths: Sequence[Path], rows: int, media_root: str | None
) -> Iterator[Callable[[Thumbnails], Card]]:
    """Yield what makes the card of each row that is shown."""
    from tqdm import tqdm

    for path in paths:
        content, card_of = _read(path)
        root = root_of(path, media_root)
        chosen = _spread(content, rows)
        shown = iterate(chosen, batch=64)
        for row in tqdm(shown, total=len(chosen), unit="row", desc=printable(path.stem)):
            yield partial(card_of, row, path.stem, root)


def sample_card(row: Row, file: str, root: Root, thumbnails: Thumbnails) -> Card:
    """Make the card of a row of the samples table."""
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
    known = {name: value for name, value in facets.items() if value is not None}
    name = row["id"]
    return Card(name, blocks, known, numbers, id=name if is_listable(name) else None)


def sample_blocks(row: Row, root: Root, thumbnails: Thumbnails) -> list[dict[str, Any]]:
    """Make the blocks of a row: its media, its question beside the original, its rationale."""
    blocks = [images_block(_media(row, root, thumbnails)), _asked(row)]
    if row["rationale"]:
        blocks.append(text_block("rationale", row["rationale"]))
    return blocks


def doubt_card(row: Row, file: str, root: Root, thumbnails: Thumbnails) -> Card:
    """Make the card of a row of a quarantine: two images and the reason to doubt their labels."""
    items = []
    for side in ("anchor", "candidate"):
        place = thumbnails.image({"bytes": None, "path": row[f"{side}_path"]}, root)
        caption = _caption(side, row.get(f"{side}_pid"), row.get(f"{side}_camid"))
        items.append((place, caption, ""))
    known = {name: row.get(name) for name in ("similarity", "margin")}
    # JSON has neither infinity nor NaN.
    numbers = {k: v for k, v in known.items() if isinstance(v, float) and abs(v) < float("inf")}
    facets = {"file": file, "reason": str(row["reason"])}
    title = f"{row['anchor_path']} ~ {row['candidate_path']}"
    return Card(title, [images_block(items)], facets, numbers)


def thumbnail_notes(thumbnails: Thumbnails) -> list[str]:
    """Return notes on the media that a page does not show."""
    notes = []
    if thumbnails.problems:
        notes.append(f"{len(thumbnails.problems)} media could not be read")
    if thumbnails.left_out:
        notes.append(f"{thumbnails.left_out} media have no thumbnail: raise --max_mb for more")
    return notes


def _read(path: Path) -> tuple[pa.Table, Any]:
    """Return the rows of a file, and the function that makes their cards."""
    content = read_table(path)
    if set(QUARANTINE) <= set(content.column_names):
        return _doubts(content, path), doubt_card
    if is_embeddings(content):
        raise BadInput(
            f"{path}: is an embeddings table; name samples (manifests/*.parquet) or a quarantine"
        )
    return read_samples(path), sample_card


def _doubts(content: pa.Table, path: Path) -> pa.Table:
    """Return a quarantine; raise `ManifestError` where a path or a reason is no text."""
    for name in QUARANTINE:
        if content.column_names.count(name) > 1:
            raise ManifestError(f"{path}: column {name!r} comes twice")
        if not str(content.schema.field(name).type).endswith("string"):
            raise ManifestError(f"{path}: column {name!r} does not hold texts")
        if content.column(name).null_count:
            raise ManifestError(f"{path}: column {name!r} has rows without a text")
    return content


def _spread(content: pa.Table, rows: int) -> pa.Table:
    """Take at most `rows` rows, evenly spread: rows are sorted by id, so neighbours are alike."""
    if len(content) <= rows:
        return content
    return content.take([i * len(content) // rows for i in range(rows)])


def _media(row: Row, root: Root, thumbnails: Thumbnails) -> Iterator[tuple[int | None, str, str]]:
    """Yield a row's images, captioned from `reid`, and frames of its clips, for `images_block`."""
    first = int(row["task"] == "reid_text")  # whose images are all candidates
    for place, item in enumerate(row["images"] or [], first):
        caption, mark = _described(row["reid"] or {}, place)
        yield thumbnails.image(item, root), caption or item["path"] or "image", mark
    clips = row["clips"] or [None] * len(row["videos"] or [])
    for item, clip in zip(row["videos"] or [], clips, strict=True):
        frames = thumbnails.clip(item, root, (clip["start"], clip["end"]) if clip else None)
        places: list[int | None] = [*frames] or [None]
        yield from ((frame, "", "") for frame in places)


def _described(reid: Mapping[str, Any], place: int) -> tuple[str, str]:
    """Return caption and mark of the query (place 0) or of a candidate."""
    if not reid:
        return "", ""
    if place == 0:
        return _caption("query", reid["query_pid"], reid["query_camid"]), ""
    candidate = {
        name: values[place - 1]
        for name, values in reid.items()
        if isinstance(values, list) and len(values) >= place
    }
    pid = candidate.get("candidate_pids")
    caption = _caption("candidate", pid, candidate.get("candidate_camids"))
    if candidate.get("similarity") is not None:
        caption += f"\nsimilarity {candidate['similarity']:.3f}"
    if candidate.get("rank") is not None:
        caption += f"\nrank {candidate['rank']}"
    known = pid is not None and reid["query_pid"] is not None
    return caption, ("right" if pid == reid["query_pid"] else "wrong") if known else ""


def _caption(role: str, pid: str | None, camid: int | None) -> str:
    """Write the identity without its namespace, and the camera."""
    lines = [role]
    if pid is not None:
        lines.append(str(pid).rsplit("/", 1)[-1])
    if camid is not None:
        lines.append(f"camera {camid}")
    return "\n".join(lines)


def _asked(row: Row) -> dict[str, Any]:
    """Make the block of a question, beside its original if it is inverted."""
    now = question_block("asked", row["question"], _options(row["options"], row["answer"]))
    qa = row["qa"] or {}
    if not qa.get("inverted"):
        return now
    before = _options(qa["original_options"] or [], qa["original_answer"] or [])
    return beside(now, question_block("original", qa["original_question"] or "", before))


def _options(options: Sequence[str], answer: Sequence[str]) -> list[tuple[str, str, bool]]:
    return [(a, option, a in answer) for a, option in zip(LETTERS, options, strict=False)]
