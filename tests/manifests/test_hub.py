"""Names on the Hub: where it can't be reached, only the cache is asked, and soon."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nontrivial.manifests import hub


@pytest.fixture(autouse=True)
def anew(monkeypatch):
    """Forget what was found, and go online again."""
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    hub.reachable.cache_clear()
    yield
    hub.reachable.cache_clear()


def at(monkeypatch, port: int) -> None:
    """Let the Hub be at a port of this machine."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")


def offline() -> tuple[bool, bool]:
    import datasets
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE


def test_a_hub_that_is_silent_is_given_up(monkeypatch, caplog):
    monkeypatch.setattr(hub, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at(monkeypatch, silent.getsockname()[1])
        hub.prepare("some/policy")
    assert offline() == (True, True)
    assert "only what is cached" in caplog.text


def test_a_hub_that_refuses_connections_is_given_up(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    at(monkeypatch, port)
    hub.prepare("some/policy")
    assert offline() == (True, True)


@pytest.mark.parametrize("status", [200, 404, 503])
def test_any_answer_will_do(monkeypatch, status):
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    at(monkeypatch, server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        hub.prepare("some/policy")
    finally:
        server.shutdown()
        server.server_close()
    assert offline() == (False, False)


def test_a_local_folder_asks_nobody(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "urlopen", lambda *args, **kwargs: pytest.fail("asked"))
    hub.prepare(str(tmp_path))
    assert offline() == (False, False)


def test_a_policy_that_is_not_cached_fails_at_once_and_says_what_to_do(monkeypatch, tmp_path):
    from huggingface_hub import constants

    from nontrivial.manifests.errors import BadInput
    from nontrivial.models.policy import load_processor

    with socket.create_server(("127.0.0.1", 0)) as free:
        at(monkeypatch, free.getsockname()[1])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BadInput, match="cached or reachable"):
        load_processor("nobody/has-this-policy")
