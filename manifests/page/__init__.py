"""One self-contained HTML page of cards: filters, search, paging, keyboard; works from a file.

Data lie in the page as JSON and reach the screen as text nodes only; a content security policy lets
nothing but the page's own script run, and nothing be fetched. Images are thumbnails under a budget.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.media import (
    MediaError,
    encode_image,
    read_image,
    sample_frames,
    source_of,
)

if TYPE_CHECKING:
    from PIL.Image import Image

PER_PAGE = 24
THUMBNAIL = (160, 160)  # pixels at most
FRAMES = 4  # of a clip
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Card:
    """One thing to look at: `facets` are filtered by value, `numbers` by range and order."""

    title: str
    blocks: Sequence[Mapping[str, Any]]
    facets: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float | None] = field(default_factory=dict)


class Thumbnails:
    """Small JPEGs of images and clips, each once, until their budget is spent.

    `problems` says which media could not be read, `left_out` counts those beyond the budget.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.left_out = budget, 0
        self.data: list[str] = []
        self.problems: dict[str, str] = {}
        self._known: dict[tuple[Any, ...], list[int]] = {}

    def image(self, item: Mapping[str, Any], root: str | os.PathLike | None) -> int | None:
        """The place of an image's thumbnail, or None where it has none."""
        key = ("image", str(root), item.get("path"), _digest(item))
        places = self._remember(key, lambda: [read_image(item, root)])
        return places[0] if places else None

    def clip(
        self,
        item: Mapping[str, Any],
        root: str | os.PathLike | None,
        seconds: tuple[float, float] | None = None,
    ) -> list[int]:
        """The places of a few frames of a clip; empty where it has none."""
        key = ("clip", str(root), item.get("path"), seconds, _digest(item))
        return self._remember(key, lambda: _frames(item, root, seconds))

    def _remember(self, key: tuple[Any, ...], read: Any) -> list[int]:
        if key not in self._known:
            self._known[key] = self._add(key, read)
        return self._known[key]

    def _add(self, key: tuple[Any, ...], read: Any) -> list[int]:
        if self.budget <= 0:
            self.left_out += 1
            return []
        try:
            images = read()
        except MediaError as error:
            self.problems[str(key[2])] = str(error)
            return []
        places = []
        for image in images:
            text = base64.b64encode(_shrink(image)).decode()
            self.budget -= len(text)
            places.append(len(self.data))
            self.data.append(text)
        return places


def images_block(items: Iterable[tuple[int | None, str, str]]) -> dict[str, Any]:
    """A row of images: (place of the thumbnail, caption, mark), mark is right, wrong or empty."""
    keys = ("image", "caption", "mark")
    return {"type": "images", "items": [dict(zip(keys, item, strict=True)) for item in items]}


def question_block(
    title: str, text: str, options: Iterable[tuple[str, str, bool]]
) -> dict[str, Any]:
    """A question with its options: (letter, text, right)."""
    return {"type": "question", "title": title, "text": text, "options": list(options)}


def text_block(
    title: str, content: str, mark: str = "", tokens: Sequence[tuple[str, float]] | None = None
) -> dict[str, Any]:
    """A passage; with `tokens` (text, weight) each is shaded by its weight."""
    shown = list(tokens) if tokens else None
    return {"type": "text", "title": title, "text": content, "mark": mark, "tokens": shown}


def beside(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Blocks in columns."""
    return {"type": "beside", "parts": list(parts)}


def summary(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """A table of texts above the cards."""
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
) -> str:
    """The whole page as HTML."""
    data = {
        "cards": [asdict(card) for card in cards],
        "images": thumbnails.data,
        "tables": list(tables),
        "charts": list(charts),
        "per_page": PER_PAGE,
    }
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    noted = "".join(f'<p class="note">{html.escape(note)}</p>\n' for note in notes)
    policy = f"default-src 'none'; img-src data:; style-src {_allow(style)}; "
    policy += f"script-src {_allow(script)}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{style}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
{noted}<p class="note">keys: / search, n and p pages, j and k cards</p>
<div id="tables"></div>
<form id="filters" aria-label="filters">
<button type="button" id="before">previous</button>
<button type="button" id="after">next</button>
<output id="count" aria-live="polite"></output>
</form>
<main id="cards"></main>
<noscript>This page needs JavaScript; it runs from the file and fetches nothing.</noscript>
<script type="application/json" id="data">{as_json(data)}</script>
<script>{script}</script>
</body>
</html>
"""


def as_json(data: Any) -> str:
    """JSON that no HTML parser can read as the end of its script.

    >>> as_json({"a": "</script><!--"})
    '{"a":"\\\\u003c/script\\\\u003e\\\\u003c!--"}'
    """
    written = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    written = written.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    # A lone surrogate, which JSON may hold, is no UTF-8.
    return written.encode("utf-8", "backslashreplace").decode()


def _allow(source: str) -> str:
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _shrink(image: Image) -> bytes:
    image.thumbnail(THUMBNAIL)
    return encode_image(image, "JPEG", quality=80)


def _frames(
    item: Mapping[str, Any], root: str | os.PathLike | None, seconds: tuple[float, float] | None
) -> list[Image]:
    from PIL import Image

    sampled = sample_frames(source_of(item, root), nframes=FRAMES, clip=seconds)
    return [Image.fromarray(frame) for frame in sampled.frames]


def _digest(item: Mapping[str, Any]) -> bytes | None:
    data = item.get("bytes")
    return None if data is None else hashlib.sha256(data).digest()
