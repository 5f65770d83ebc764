"""Let a policy behind a server complete samples, over OpenAI's chat protocol.

    vllm serve runs/grpo --generation-config vllm
    python -m eval.qa manifests/eval/*.parquet --server http://localhost:8000/v1

The server runs in its own environment, with the chat template of the policy's folder. It has to
accept vLLM's `top_k` and `repetition_penalty`, because its defaults would change the answers.
Images are sent without loss. Clips are sent as the frames that `transformers` would see, but as
JPEG, the only form in which vLLM takes frames, so answers about clips can differ slightly.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from nontrivial.eval.client import Client, Refused
from nontrivial.manifests.errors import BadInput, WorkFailed
from nontrivial.manifests.media import encode_image
from nontrivial.manifests.prompts import messages

if TYPE_CHECKING:
    from PIL.Image import Image

    from nontrivial.eval.generation import Media, Sample, Sampling
    from nontrivial.manifests.frames import Clip
    from nontrivial.models.inputs import View

JPEG_QUALITY = 95


class Served:
    """A policy on a server, asked by `at_once` requests at a time, each of at most `timeout` s.

    `model` is the name it is served under; None takes the only model of the server. Raises
    `BadInput` for a `url` that is no address and for a server of several models without `model`.
    """

    def __init__(
        self,
        url: str,
        model: str | None,
        sampling: Sampling,
        view: View,
        *,
        at_once: int,
        timeout: float = 600.0,
    ) -> None:
        self.client, self.at_once = Client(url, timeout=timeout), at_once
        self.url = self.client.url
        self.sampling, self.view = sampling, view
        self.model = model or self._only_model()

    def complete(self, samples: Sequence[Sample], media: Sequence[Media]) -> list[str | WorkFailed]:
        """Return one completion for each sample, or why there is none.

        `media` holds decoded images and clips. A `Refused` speaks of its sample alone; another
        `WorkFailed` of the server. An interrupt ends all requests.
        """
        pool = ThreadPoolExecutor(self.at_once)
        try:
            return list(pool.map(self._complete_one, samples, media))
        except BaseException:
            self.client.stop()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _complete_one(self, sample: Sample, media: Media) -> str | WorkFailed:
        try:
            reply = self.client.call("chat/completions", self.request(sample, *media))
            return _completion(reply, self.url)
        except WorkFailed as error:
            return error

    def request(
        self, sample: Sample, images: Sequence[Image], clips: Sequence[Clip]
    ) -> dict[str, Any]:
        """Return the body of one request; it overrides all defaults of the server."""
        sampling = self.sampling
        body: dict[str, Any] = {
            "model": self.model,
            "messages": with_media(messages(sample, self.view.prompt), images, clips),
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature if sampling.sample else 0.0,
            "top_p": sampling.top_p if sampling.sample else 1.0,
            "seed": sampling.seed ^ zlib.crc32(sample["id"].encode()),
            "top_k": -1,
            "repetition_penalty": 1.0,
        }
        if self.view.limits:
            body["mm_processor_kwargs"] = self.view.limits
        if clips:
            body["media_io_kwargs"] = {"video": {"num_frames": -1, "fps": clips[0].sampled_fps}}
        return body

    def _only_model(self) -> str:
        listed = self.client.call("models", tries=2).get("data")
        listed = listed if isinstance(listed, list) else []
        names = [str(entry.get("id")) for entry in listed if isinstance(entry, Mapping)]
        if len(names) != 1:
            message = f"--server {self.url} serves {names}: name one with --model_name_or_path"
            raise BadInput(message)
        return names[0]


def _completion(reply: Mapping[str, Any], url: str) -> str:
    """Return the text of a reply; raise `Refused` for a reply of another form."""
    try:
        text = reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        text = 0
    if text is not None and not isinstance(text, str):
        raise Refused(f"{url}: the reply holds no completion: {reply!r:.300}")
    # Half a character, which JSON can hold, could not be written.
    return (text or "").encode("utf-8", "replace").decode()


def with_media(
    turns: Sequence[Mapping[str, Any]], images: Sequence[Image], clips: Sequence[Clip]
) -> list[dict[str, Any]]:
    """Replace the placeholders of chat messages by images and clips, in their order."""
    encoded = {"image": map(_image_part, images), "video": map(_clip_part, clips)}

    def filled(part: Mapping[str, Any]) -> Mapping[str, Any]:
        return next(encoded[part["type"]]) if part["type"] in encoded else part

    return [{**turn, "content": [filled(part) for part in turn["content"]]} for turn in turns]


def _image_part(image: Image) -> dict[str, Any]:
    url = f"data:image/png;base64,{_base64(encode_image(image, 'PNG'))}"
    return {"type": "image_url", "image_url": {"url": url}}


def _clip_part(clip: Clip) -> dict[str, Any]:
    from PIL import Image

    frames = (Image.fromarray(np.ascontiguousarray(frame)) for frame in clip.frames)
    files = (encode_image(frame, "JPEG", quality=JPEG_QUALITY) for frame in frames)
    joined = ",".join(map(_base64, files))
    return {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{joined}"}}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
