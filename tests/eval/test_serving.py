"""`eval.qa --server`: a local server that speaks OpenAI's protocol and asks a tiny policy."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nontrivial.eval.generation import Generator, Sampling, View, load_batch
from nontrivial.eval.qa import main
from nontrivial.eval.serving import Served
from nontrivial.manifests.errors import BadInput, WorkFailed
from nontrivial.manifests.frames import Clip
from nontrivial.manifests.parquet import write_samples
from nontrivial.manifests.schema import samples_table
from tests.media_files import write_clip, write_image
from tests.rows import media, reid_pair, video_question

SAMPLING = Sampling(max_new_tokens=6)


class Server(ThreadingHTTPServer):
    """Answers as `generator` does; keeps the requests it got."""

    def __init__(self, generator: Generator) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.generator, self.requests, self.lock = generator, [], threading.Lock()
        self.models, self.broken, self.refuses = ["tiny"], None, None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._reply({"data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        if self.server.refuses and self.server.refuses in json.dumps(body):
            return self._send(400, b"I do not look at these")
        if self.server.broken is not None:
            status, text = self.server.broken
            return self._send(status, text)
        with self.server.lock:
            text = answer(self.server.generator, body)
        return self._reply({"choices": [{"message": {"role": "assistant", "content": text}}]})

    def _reply(self, content: dict) -> None:
        self._send(200, json.dumps(content).encode())

    def _send(self, status: int, text: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


def answer(generator: Generator, body: dict) -> str:
    """What the policy says to a request, its media decoded from the request alone."""
    from nontrivial.models.inputs import encode

    images, clips = decoded(body)
    [turn] = body["messages"]
    kinds = {"image_url": {"type": "image"}, "video_url": {"type": "video"}}
    turns = [{**turn, "content": [kinds.get(part["type"], part) for part in turn["content"]]}]
    batch = encode(generator.processor, [turns], [images], [clips])
    tokens = generator.model.generate(**batch, **generator._settings())
    new = tokens[:, batch["input_ids"].shape[1] :]
    return generator.processor.batch_decode(new, skip_special_tokens=True)[0]


def decoded(body: dict) -> tuple[list[Image.Image], list[Clip]]:
    parts = body["messages"][0]["content"]
    images = [opened(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"]
    clips = []
    for part in (part for part in parts if part["type"] == "video_url"):
        head, frames = part["video_url"]["url"].split(";base64,")
        assert head == "data:video/jpeg"
        drawn = np.stack([np.asarray(opened(f";base64,{frame}")) for frame in frames.split(",")])
        rate = body["media_io_kwargs"]["video"]["fps"]
        clips.append(Clip(drawn, np.arange(len(drawn)), rate, len(drawn)))
    return images, clips


def opened(url: str) -> Image.Image:
    content = base64.b64decode(url.split(";base64,")[1])
    return Image.open(io.BytesIO(content)).convert("RGB")


@pytest.fixture(scope="module")
def generator(tiny_policy_dir: Path) -> Generator:
    return Generator(str(tiny_policy_dir), SAMPLING, View(), dtype="float32", device="cpu")


@pytest.fixture
def server(generator: Generator) -> Iterator[Server]:
    made = Server(generator)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def rows(tmp_path: Path) -> list[dict]:
    for i in range(3):
        write_image(tmp_path / f"{i}.jpg", seed=i)
    write_clip(tmp_path / "clip.mp4")
    pairs = [
        reid_pair(f"pair{i}", split="test", images=[media("0.jpg"), media(f"{i}.jpg")])
        for i in range(3)
    ]
    return [*pairs, video_question("clip", split="test", videos=[media("clip.mp4")])]


@pytest.fixture
def manifest(rows: list[dict], tmp_path: Path) -> Path:
    path = tmp_path / "mixed.parquet"
    write_samples(samples_table(rows), path, {"media_root": str(tmp_path)})
    return path


def served(server: Server, model: str | None = None) -> Served:
    return Served(server.url, model, SAMPLING, View(), at_once=2, timeout=30)


def test_what_is_served_equals_what_is_loaded(server, generator, rows, tmp_path):
    pairs, loaded, _ = load_batch(samples_table(rows).to_pylist()[1:], str(tmp_path), View())
    alone = [generator.complete([s], [m])[0] for s, m in zip(pairs, loaded, strict=True)]
    assert served(server).complete(pairs, loaded) == alone


def test_a_clip_travels_as_the_frames_the_policy_would_see(server, rows, tmp_path):
    [sample], [(_, clips)], _ = load_batch(
        samples_table(rows).to_pylist()[:1], str(tmp_path), View(nframes=4)
    )
    request = served(server).request(sample, [], clips)
    _, [clip] = decoded(request)
    assert clip.frames.shape == clips[0].frames.shape
    assert np.abs(clip.frames.astype(int) - clips[0].frames).mean() < 6
    assert clip.fps == clips[0].sampled_fps


def test_no_default_of_the_server_is_left_standing(server, rows, tmp_path):
    [sample], [(images, _)], _ = load_batch(
        samples_table(rows).to_pylist()[1:2], str(tmp_path), View()
    )
    request = served(server).request(sample, images, [])
    assert request["temperature"] == 0.0
    assert (request["top_k"], request["top_p"], request["repetition_penalty"]) == (-1, 1.0, 1.0)
    assert request["max_tokens"] == SAMPLING.max_new_tokens
    kinds = [part["type"] for part in request["messages"][0]["content"]]
    assert kinds == ["image_url", "image_url", "text"]


def test_a_manifest_is_answered_by_a_server_and_only_once(server, manifest, tmp_path):
    words = [str(manifest), "--server", server.url, "--out", str(tmp_path / "out")]
    words += ["--max_new_tokens", "6", "--nframes", "2", "--batch_size", "2"]
    assert main(words) == 0
    lines = json.loads((tmp_path / "out/summary.json").read_text())["manifests"]["mixed"]
    assert {line["task"]: line["n"] for line in lines} == {"reid_pair": 3, "video_qa": 1}
    assert len(server.requests) == 4
    assert main(words) == 0
    assert len(server.requests) == 4


def test_a_server_of_several_models_asks_for_a_name(server):
    server.models = ["one", "two"]
    with pytest.raises(BadInput, match=r"\['one', 'two'\].*--model_name_or_path"):
        served(server)
    assert served(server, "two").model == "two"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((400, b"prompt too long"), "prompt too long"),
        ((200, b"<html>"), "not JSON"),
        ((200, b"[]"), "no object"),
        ((200, b'{"choices": []}'), "no completion"),
    ],
)
def test_a_bad_reply_says_what_it_was(server, rows, tmp_path, reply, said):
    server.broken = reply
    samples, loaded, _ = load_batch(samples_table(rows).to_pylist()[1:2], str(tmp_path), View())
    [failed] = served(server).complete(samples, loaded)
    assert isinstance(failed, WorkFailed)
    assert said in str(failed)


def test_what_the_server_refuses_is_counted_and_the_rest_is_kept(
    server, manifest, tmp_path, capsys
):
    """The only clip is refused: one of four, then again with another share tolerated."""
    server.refuses = "video_url"
    words = [str(manifest), "--server", server.url, "--out", str(tmp_path / "out")]
    words += ["--max_new_tokens", "6", "--nframes", "2", "--batch_size", "1"]
    assert main([*words, "--max_bad", "0.2"]) == 2
    assert "clip: http" in capsys.readouterr().err
    assert main([*words, "--max_bad", "0.5"]) == 0
    assert "1 of 4 samples are skipped" in capsys.readouterr().err
    lines = json.loads((tmp_path / "out/summary.json").read_text())["manifests"]["mixed"]
    assert {line["task"]: line["n"] for line in lines} == {"reid_pair": 3}


def test_nobody_there_says_how_to_start_a_server(manifest, tmp_path, capsys):
    words = [str(manifest), "--out", str(tmp_path / "out"), "--server"]
    assert main([*words, "http://127.0.0.1:9/v1"]) == 1
    assert "vllm serve" in capsys.readouterr().err
    assert main([*words, "file:///etc/passwd"]) == 2
