"""A server may do what it likes: each request ends in an answer, another try, or a clear error."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from nontrivial.eval import client as module
from nontrivial.eval.client import Client, Refused
from nontrivial.eval.serving import _completion
from nontrivial.manifests.errors import BadInput, WorkFailed

GOOD = {"choices": [{"message": {"content": "<answer>A</answer>"}}]}


class Server:
    """Reads each request whole, then lets `behave(connection, number)` answer it."""

    def __init__(self, behave: Callable[[socket.socket, int], None]) -> None:
        self.behave, self.requests = behave, []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(20)
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            lengths = [
                line.partition(b":")[2]
                for line in head.lower().splitlines()
                if line.startswith(b"content-length")
            ]
            while len(body) < (int(lengths[0]) if lengths else 0):
                body += connection.recv(65536)
            self.requests.append(head.decode())
            self.behave(connection, len(self.requests))


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers = []

    def make(behave: Callable[[socket.socket, int], None]) -> Server:
        servers.append(Server(behave))
        return servers[-1]

    yield make
    for server in servers:
        server.listening.close()


def http(
    status: int | str = 200, body: bytes = b"", *headers: str, length: int | None = None
) -> bytes:
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {size}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def say(content: object) -> bytes:
    return http(200, json.dumps(content).encode())


def first(*replies: bytes) -> Callable[[socket.socket, int], None]:
    """Send the replies in turn, and a good one after them."""

    def behave(connection: socket.socket, number: int) -> None:
        connection.sendall(replies[number - 1] if number <= len(replies) else say(GOOD))

    return behave


def reset(connection: socket.socket, number: int) -> None:
    if number > 1:
        return connection.sendall(say(GOOD))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    return connection.close()


def drip(connection: socket.socket, _: int) -> None:
    connection.sendall(http(200, b"", length=10**6))
    for _ in range(200):
        connection.sendall(b" ")
        time.sleep(0.05)


def hang(_connection: socket.socket, _: int) -> None:
    time.sleep(5)


def flood(connection: socket.socket, _: int) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        connection.sendall(b"[" * 65536)


def endless_head(connection: socket.socket, _: int) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-More: " + b"x" * 60000 + b"\r\n")


GZIP = "Content-Encoding: gzip"
BOMB = gzip.compress(b" " * (1 << 26))
AGAIN = {  # the second try is answered
    "busy": first(http(503)),
    "too many": first(http(429, b"slow down")),
    "too many, says when": first(http(429, b"", "Retry-After: 1")),
    "says when as a date": first(http(429, b"", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT")),
    "says when as nonsense": first(http(429, b"", "Retry-After: soon")),
    "says a negative time": first(http(503, b"", "Retry-After: -5")),
    "says not a number": first(http(503, b"", "Retry-After: nan")),
    "broken inside": first(http(500, b"oops")),
    "bad gateway": first(http(502)),
    "gateway timeout": first(http(504)),
    "request timeout": first(http(408)),
    "too early": first(http(425)),
    "several times busy": first(*[http(503)] * 4),
    "resets the connection": reset,
    "closes without a word": first(b""),
    "half a reply": first(http(200, b'{"choices"', length=500)),
    "half a head": first(b"HTTP/1.1 200 OK\r\nContent-"),
    "speaks no HTTP": first(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "a status that is none": first(b"HTTP/1.1 abc OK\r\n\r\n"),
    "two lengths": first(http(200, b"{}", "Content-Length: 7")),
    "a chunk of wrong size": first(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n"
    ),
    "no gzip": first(http(200, b"plain", GZIP)),
}
REFUSED = {  # of this request alone
    "prompt too long": (http(400, b"prompt too long"), "prompt too long"),
    "too large": (http(413, b"too large"), "413"),
    "unprocessable": (http(422, b"{}"), "422"),
    "HTML": (http(200, b"<html>"), "not JSON"),
    "nothing": (http(200, b""), "not JSON"),
    "a list": (http(200, b"[]"), "no object"),
    "a number": (http(200, b"1e999"), "no object"),
    "no UTF-8": (http(200, b'{"a": "\xff\xfe"}'), "not JSON"),
    "deep nesting": (http(200, b"[" * 100_000), "not JSON"),
    "no choices": (say({}), "no completion"),
    "empty choices": (say({"choices": []}), "no completion"),
    "choices are null": (say({"choices": None}), "no completion"),
    "choices are a word": (say({"choices": "A"}), "no completion"),
    "a message that is a list": (say({"choices": [{"message": []}]}), "no completion"),
    "content is a list": (say({"choices": [{"message": {"content": ["A"]}}]}), "no completion"),
    "content is a number": (say({"choices": [{"message": {"content": 7}}]}), "no completion"),
    "a bomb": (http(200, BOMB, GZIP), "over"),
}
FAILED = {  # of all requests
    "no key": (http(401, b"who are you"), "OPENAI_API_KEY"),
    "wrong key": (http(403), "OPENAI_API_KEY"),
    "nothing there": (http(404, b"no such page"), "no such page"),
    "wrong method": (http(405), "405"),
    "teapot": (http(418), "418"),
    "moved": (http(301, b"", "Location: http://127.0.0.1:9/"), "leads elsewhere"),
    "found elsewhere": (http(302, b"", "Location: http://127.0.0.1:9/"), "leads elsewhere"),
    "see another": (http(303, b"", "Location: /other"), "leads elsewhere"),
    "redirects to a file": (http(307, b"", "Location: file:///etc/passwd"), "leads elsewhere"),
    "redirects nowhere": (http(308), "leads elsewhere"),
    "control characters": (http(404, b"\x1b]0;owned\x07\x1b[2J"), r"404: +\]0;owned +\[2J"),
    "always busy": (http(503, b"later"), r"no answer \(status 503: later\)"),
}


def ask(server: Server, timeout: float = 10.0) -> str:
    asking = Client(server.url, timeout=timeout, sleep=lambda seconds: time.sleep(seconds / 50))
    return _completion(asking.call("chat/completions", {"model": "m"}), server.url)


def test_there_are_more_than_forty_ways():
    assert len(AGAIN) + len(REFUSED) + len(FAILED) + 4 >= 50


@pytest.mark.parametrize("way", AGAIN)
def test_what_may_pass_is_tried_again(serve, way):
    server = serve(AGAIN[way])
    assert ask(server) == "<answer>A</answer>"
    assert len(server.requests) >= 2


@pytest.mark.parametrize("way", REFUSED)
def test_what_one_request_is_refused_is_counted(serve, way):
    reply, said = REFUSED[way]
    server = serve(lambda connection, _: connection.sendall(reply))
    with pytest.raises(Refused, match=said):
        ask(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize("way", FAILED)
def test_what_holds_for_all_requests_is_an_error(serve, way):
    reply, said = FAILED[way]
    server = serve(lambda connection, _: connection.sendall(reply))
    with pytest.raises(WorkFailed, match=said) as error:
        ask(server)
    assert not isinstance(error.value, Refused)


@pytest.mark.parametrize("slow", [drip, hang])
def test_no_request_takes_longer_than_it_may(serve, slow):
    server, began = serve(slow), time.monotonic()
    with pytest.raises(WorkFailed, match="no answer"):
        ask(server, timeout=0.5)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("much", [flood, endless_head])
def test_no_reply_fills_the_memory(serve, much, monkeypatch):
    monkeypatch.setattr(module, "TRIES", 1)
    with pytest.raises(WorkFailed, match=r"over|no answer"):
        ask(serve(much))


def test_the_key_goes_to_the_named_host_alone(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-mine")
    other = serve(first())
    for status in (301, 302, 303, 307, 308):
        reply = http(status, b"", f"Location: {other.url}/chat/completions")
        named = serve(lambda connection, _, reply=reply: connection.sendall(reply))
        with pytest.raises(WorkFailed, match="leads elsewhere"):
            ask(named)
        assert "secret-of-mine" in named.requests[0]
    assert other.requests == []


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "localhost:8000", "http://", "http://[::1", ""]
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(BadInput, match="needs an address"):
        Client(url, timeout=1)


def test_half_a_character_can_be_written():
    reply = {"choices": [{"message": {"content": "A\ud800"}}]}
    assert _completion(reply, "x").encode() == b"A?"


def test_a_reply_without_words_is_an_empty_completion():
    assert _completion({"choices": [{"message": {"content": None}}]}, "x") == ""
