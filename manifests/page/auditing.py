"""The page of an audit, served to this machine alone, and the marks that it sends back."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from nontrivial.manifests.audit import MARKS, marks_file, read_marks
from nontrivial.manifests.media import Root
from nontrivial.manifests.page import Thumbnails, render
from nontrivial.manifests.page.gallery import sample_card
from nontrivial.manifests.runs import JsonLines

HOST = "127.0.0.1"
LONGEST = 10_000  # bytes of a mark


def audit_server(
    manifest: Path, rows: Sequence[Mapping[str, Any]], root: Root, budget: int, port: int = 0
) -> tuple[ThreadingHTTPServer, str]:
    """Return a server of the rows to read, and its address with the secret that it asks for.

    It listens on this machine only, and appends marks to the manifest's file as they come. `budget`
    is in bytes of thumbnails.
    """
    thumbnails = Thumbnails(budget)
    cards = [sample_card(row, manifest.stem, root, thumbnails) for row in rows]
    secret = secrets.token_urlsafe(16)
    lines = JsonLines(marks_file(manifest))
    lines.mend()

    def page() -> str:
        marks = read_marks(manifest)
        marked = [
            replace(card, facets={"mark": marks.get(card.title, ""), **card.facets})
            for card in cards
        ]
        audit = {"secret": secret, "marks": list(MARKS)}
        return render(f"audit of {manifest.name}", marked, thumbnails, audit=audit)

    handler = _handler(page, secret, {card.title for card in cards}, lines.append)
    server = ThreadingHTTPServer((HOST, port), handler)
    return server, f"http://{HOST}:{server.server_port}/?{secret}"


def _handler(
    page: Callable[[], str], secret: str, known: set[str], keep: Callable[..., None]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answer GET /?secret with the page, and POST /mark with nothing."""

        def do_GET(self) -> None:
            if self.path != f"/?{secret}":
                self.send_error(403)
                return
            body = page().encode("utf-8", "backslashreplace")
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            mark = self._mark()
            if mark is None:
                self.send_error(403)
                return
            keep(mark)
            self.send_response(204)
            self.end_headers()

        def _mark(self) -> dict[str, str] | None:
            """Return the mark that was sent; None if anything about it is out of order."""
            if self.path != "/mark" or self.headers.get("X-Secret") != secret:
                return None
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or len(length) > 9 or int(length) > LONGEST:
                return None
            try:
                sent = json.loads(self.rfile.read(int(length)))
            except (ValueError, RecursionError):
                return None
            if not isinstance(sent, dict) or not all(isinstance(x, str) for x in sent.values()):
                return None
            fits = sent.get("id") in known and sent.get("mark") in MARKS
            return {"id": sent["id"], "mark": sent["mark"]} if fits else None

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the page tells what is saved."""

    return Handler
