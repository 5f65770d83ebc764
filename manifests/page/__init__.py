"""One self-contained HTML page of cards, with filters, search, paging, marks and keys.

The page works from a file, in light and in dark, as cards or as a sheet of many at a glance. Its
data are JSON that is shown as text nodes only; a content security policy allows its own script
alone and no fetching. Images are thumbnails within a budget. Marks stay in the reader's browser.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.decoders import sample_frames
from nontrivial.manifests.guarded import Apart
from nontrivial.manifests.media import (
    Item,
    MediaError,
    Root,
    encode_image,
    read_image,
    source_of,
)

if TYPE_CHECKING:
    from PIL.Image import Image

PER_PAGE = 24
THUMBNAIL = (160, 160)  # pixels at most
FRAMES = 4  # of a clip
SCRIPTS = ("charts.js", "marks.js", "page.js")  # one script; the last one begins
KEYS = {
    "/": "search",
    "n, p": "next, previous page",
    "j, k, → ←": "next, previous card",
    "↓ ↑": "in a sheet: down, up",
    "m, enter": "open the card, close it (or click its title or images)",
    "s": "sheet or cards",
    "?": "these keys",
}
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Card:
    """One card: `facets` can be filtered by value, `numbers` by range, and sorted.

    One with an `id` can be marked.
    """

    title: str
    blocks: Sequence[Mapping[str, Any]]
    facets: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    id: str | None = None


class Thumbnails:
    """Small JPEGs of images and clips, each stored once, of `budget` bytes of base64 together.

    `problems` names media that could not be read, `left_out` counts those beyond the budget. Clips
    are decoded in a process of their own, where a crash is a problem of one clip.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.left_out = budget, 0
        self.data: list[str] = []
        self.problems: dict[str, str] = {}
        self._places: dict[tuple[Any, ...], list[int]] = {}
        self._frames = Apart(_frames)

    def image(self, item: Item, root: Root) -> int | None:
        """Return the place of an image's thumbnail in `data`, or None where it has none."""
        key = ("image", str(root), item.get("path"), _digest(item))
        places = self._places_of(key, lambda: [_shrink(read_image(item, root))])
        return places[0] if places else None

    def clip(self, item: Item, root: Root, seconds: tuple[float, float] | None = None) -> list[int]:
        """Return the places of a few frames of a clip; empty where it has none."""
        key = ("clip", str(root), item.get("path"), seconds, _digest(item))
        return self._places_of(key, lambda: self._frames_of(item, root, seconds))

    def _frames_of(self, *clip: Any) -> list[bytes]:
        try:
            return self._frames(*clip)
        except ValueError as error:
            raise MediaError(str(error)) from error

    def _places_of(self, key: tuple[Any, ...], read: Callable[[], list[bytes]]) -> list[int]:
        if key in self._places:
            return self._places[key]
        places = self._places[key] = []
        if self.budget <= 0:
            self.left_out += 1
            return places
        try:
            images = read()
        except MediaError as error:
            self.problems[str(key[2])] = str(error)
            return places
        for image in images:
            text = base64.b64encode(image).decode()
            self.budget -= len(text)
            places.append(len(self.data))
            self.data.append(text)
        return places


def images_block(items: Iterable[tuple[int | None, str, str]]) -> dict[str, Any]:
    """Make a row of images (place of the thumbnail, caption, mark: right, wrong or empty)."""
    keys = ("image", "caption", "mark")
    return {"type": "images", "items": [dict(zip(keys, item, strict=True)) for item in items]}


def question_block(
    title: str, text: str, options: Iterable[tuple[str, str, bool]]
) -> dict[str, Any]:
    """Make a question with its options (letter, text, right)."""
    return {"type": "question", "title": title, "text": text, "options": list(options)}


def text_block(
    title: str, content: str, mark: str = "", tokens: Sequence[tuple[str, float]] | None = None
) -> dict[str, Any]:
    """Make a passage of text; `tokens` (text, weight) are shaded by weight."""
    shown = list(tokens) if tokens else None
    return {"type": "text", "title": title, "text": content, "mark": mark, "tokens": shown}


def beside(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Put blocks side by side."""
    return {"type": "beside", "parts": list(parts)}


def summary(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """Make a table of texts that stands above the cards."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    return {"title": title, "header": list(header), "rows": cells}


def render(
    title: str,
    cards: Sequence[Card],
    thumbnails: Thumbnails,
    *,
    notes: Sequence[str] = (),
    tables: Sequence[Mapping[str, Any]] = (),
    charts: Sequence[Mapping[str, Any]] = (),
    audit: Mapping[str, Any] | None = None,
    marks: str | None = None,
    parts: Sequence[str] = (),
    reload: float | None = None,
) -> str:
    """Return the whole page as HTML.

    With `audit` (`secret` and `marks`) it shows one card at a time, and the digits send a mark to
    the server that the page came from. `marks` is the name under which a browser keeps the marks of
    cards; without it none can be marked. `parts` are the files of a whole of which this is one. The
    page loads itself again every `reload` seconds.
    """
    data = {
        "cards": [vars(card) for card in cards],
        "images": thumbnails.data,
        "tables": list(tables),
        "charts": list(charts),
        "per_page": 1 if audit else PER_PAGE,
        "audit": audit,
        "marks": marks,
        "reload": reload,
        "keys": _keys(audit, marks),
    }
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    script = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    noted = "".join(f'<p class="note">{html.escape(note)}</p>\n' for note in notes)
    allowed = f"img-src data:; style-src {_allow(style)}; script-src {_allow(script)}"
    if audit:
        allowed += "; connect-src 'self'"
    links = "".join(
        f'<a href="{html.escape(name, quote=True)}">{number}</a>\n'
        for number, name in enumerate(parts, 1)
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; {allowed}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{style}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
{noted}<div id="tables"></div>
{f'<nav aria-label="parts">parts: {links}</nav>' if parts else ""}
<form id="filters" aria-label="filters">
<button type="button" id="before">previous</button>
<button type="button" id="after">next</button>
<output id="count" aria-live="polite"></output>
</form>
<main id="cards"></main>
<dialog id="opened" aria-label="one card"></dialog>
<dialog id="keys" aria-label="keys"></dialog>
<dialog id="export" aria-label="marked samples"></dialog>
<noscript>This page needs JavaScript; it runs from the file and fetches nothing.</noscript>
<script type="application/json" id="data">{as_json(data)}</script>
<script>{script}</script>
</body>
</html>
"""


def as_json(data: Any) -> str:
    """Write JSON in which no HTML parser can find the end of its script.

    >>> as_json({"a": "</script><!--"})
    '{"a":"\\\\u003c/script\\\\u003e\\\\u003c!--"}'
    """
    written = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    written = written.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    # JSON may hold lone surrogates, which UTF-8 cannot encode.
    return written.encode("utf-8", "backslashreplace").decode()


def _keys(audit: Mapping[str, Any] | None, marks: str | None) -> dict[str, str]:
    """Return what each key of a page does."""
    keys = dict(KEYS)
    if marks:
        keys["x"] = "mark the card, or take the mark away"
    if audit:
        keys = {str(number): mark for number, mark in enumerate(audit["marks"], 1)} | keys
        del keys["s"], keys["↓ ↑"]
    return keys


def _allow(source: str) -> str:
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _shrink(image: Image) -> bytes:
    image.thumbnail(THUMBNAIL)
    return encode_image(image, "JPEG", quality=80)


def _frames(item: Item, root: Root, seconds: tuple[float, float] | None) -> list[bytes]:
    """Return JPEGs of a few frames of a clip's span."""
    from PIL import Image

    sampled = sample_frames(source_of(item, root), nframes=FRAMES, clip=seconds)
    return [_shrink(Image.fromarray(frame)) for frame in sampled.frames]


def _digest(item: Item) -> bytes | None:
    data = item.get("bytes")
    return None if data is None else hashlib.sha256(data).digest()
