"""Ask a server over HTTP as one that may be slow, busy, wrong or hostile.

A request is tried again where that may help, within one limit of time. Nothing is followed
elsewhere: a redirect is an error, so the key of the API goes to the named host alone. Replies are
read up to a limit, and their form is checked before they are used.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.errors import BadInput, WorkFailed, first_line

if TYPE_CHECKING:
    import httpx2

MAX_REPLY = 2**24  # bytes; no completion is longer
CONNECT = 20.0  # seconds to reach a server
TRIES = 6
PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between tries; each pause is twice the one before
# Statuses that may pass: too early, too many, and what servers and proxies say when they are busy.
PASSING = {408, 425, 429, 500, 502, 503, 504}
# Statuses that say that this one request can't be answered; others mean all requests.
REFUSED = {400, 413, 422}


class Refused(WorkFailed):
    """A server does not answer this request; it may answer others."""


class Client:
    """Sends JSON to a server and returns its JSON; each call ends within `timeout` seconds.

    The environment variable OPENAI_API_KEY may hold a key. Raises `BadInput` for a `url` that is no
    address.
    """

    def __init__(
        self, url: str, *, timeout: float, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        import httpx2

        parts = _parsed(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.host:
            raise BadInput(f"--server {url}: needs an address like http://localhost:8000/v1")
        self.url, self.timeout, self._sleep = url.rstrip("/"), timeout, sleep
        self._stopped = False
        key = os.environ.get("OPENAI_API_KEY")
        self._http = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else None,
            follow_redirects=False,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
        )

    def call(
        self, path: str, body: Mapping[str, Any] | None = None, *, tries: int = TRIES
    ) -> dict[str, Any]:
        """Return the reply to a GET, or to a POST of `body`.

        Raises `Refused` where the server can't answer this request, `WorkFailed` where it answers
        none.
        """
        import httpx2

        ends = time.monotonic() + self.timeout
        reason, pause = "", PAUSE
        for number in range(tries):
            wait = pause * random.uniform(0.5, 1)
            try:
                status, headers, content = self._send(path, body, ends)
            except httpx2.RequestError as error:
                reason = first_line(error)
            else:
                if status < 300:
                    return self._object(path, content)
                reason = self._explained(path, status, headers, content)
                wait = max(wait, _seconds(headers.get("retry-after")))
            if number + 1 == tries or time.monotonic() + wait > ends or self._stopped:
                break
            self._sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)
        raise WorkFailed(
            f"--server {self.url}: no answer ({reason}); start it with `vllm serve MODEL`. "
            "Answers so far are kept: the same command continues from them"
        )

    def stop(self) -> None:
        """End the calls of other threads, too."""
        self._stopped = True
        self._http.close()

    def _send(
        self, path: str, body: Mapping[str, Any] | None, ends: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and content; raise a `TransportError` when the time is over."""
        import httpx2

        left = max(ends - time.monotonic(), 0.001)
        request: dict[str, Any] = {"timeout": httpx2.Timeout(left, connect=min(CONNECT, left))}
        if body is not None:
            request["json"] = body
        method = "GET" if body is None else "POST"
        with self._http.stream(method, f"{self.url}/{path}", **request) as reply:
            content = bytearray()
            for part in reply.iter_bytes():
                content += part
                if len(content) > MAX_REPLY:
                    raise Refused(f"{self.url}/{path}: the reply is over {MAX_REPLY} bytes")
                if time.monotonic() > ends:  # a server that sends byte after byte
                    raise httpx2.ReadTimeout(f"the reply took more than {self.timeout:.0f} s")
            return reply.status_code, reply.headers, bytes(content)

    def _explained(self, path: str, status: int, headers: Mapping[str, str], content: bytes) -> str:
        """Return why a request failed, if it may pass; raise otherwise."""
        said = _printable(content[:2000].decode("utf-8", "replace")).strip()
        told = f"{self.url}/{path}: status {status}{': ' if said else ''}{said}"
        if status in PASSING:
            return f"status {status}{': ' if said else ''}{said[:200]}"
        if status in REFUSED:
            raise Refused(told)
        if 300 <= status < 400:
            raise WorkFailed(
                f"{self.url}/{path}: leads elsewhere ({_printable(headers.get('location', ''))}), "
                "and is not followed; give the address that answers"
            )
        if status in (401, 403):
            raise WorkFailed(f"{told}; OPENAI_API_KEY may hold a key")
        raise WorkFailed(told)

    def _object(self, path: str, content: bytes) -> dict[str, Any]:
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Refused(f"{self.url}/{path}: the reply is not JSON ({error})") from error
        if not isinstance(found, dict):
            raise Refused(f"{self.url}/{path}: the reply is no object")
        return found


def _parsed(url: str) -> httpx2.URL | None:
    import httpx2

    try:
        return httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        return None


def _seconds(retry_after: str | None) -> float:
    """Return what a server asks to wait, if it says so in seconds."""
    try:
        return max(0.0, min(float(retry_after or 0), 600.0))
    except ValueError:
        return 0.0


def _printable(text: str) -> str:
    """Return text without control characters, which a terminal would obey."""
    return "".join(char if char.isprintable() or char == " " else " " for char in text)
