"""Sample with vLLM from encoded prompts: the tokens and pixels of training.

TRL gives vLLM images to process again, and no videos. Here vLLM gets encoded prompts, so it samples
from exactly the prompts that are scored. They take the place of TRL's images: in the engine beside
the trainer (`--vllm_mode colocate`), or as the features that TRL's client sends to a server
(`--vllm_mode server`). Weights, devices and processes are left to TRL.

Both number a prompt alike (models.positions). The engine is given the trainer's positions, so that
rounding of a clip's times is the same too.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nontrivial.manifests.errors import BadInput
from nontrivial.models.positions import FAMILIES, runs_of
from nontrivial.train.data import BYTES, GRIDS, PIXELS, Prompt, with_pixels

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, ProcessorMixin
    from trl.generation.vllm_generation import VLLMGeneration
    from vllm import LLM, RequestOutput, SamplingParams
    from vllm.inputs import MultiModalInput
    from vllm.multimodal.inputs import MultiModalFeatureSpec, MultiModalKwargsItems

# Bias on the logit of a token that must not be sampled.
NEVER = -100.0


def check(config: PretrainedConfig) -> None:
    """Raise `ValueError` for a policy whose prompts vLLM encodes unlike the trainer."""
    if config.model_type not in FAMILIES:
        raise ValueError(
            f"use_vllm: supports {' and '.join(FAMILIES)} policies, this one is "
            f"a {config.model_type}; leave --use_vllm off"
        )


def take_encoded_prompts(
    backend: VLLMGeneration, body: PreTrainedModel, version: Callable[[], int]
) -> None:
    """Let `backend.generate` take an encoded prompt in place of the images of a row.

    `body` is the policy below its head. `version` returns the version of its vision tower, because
    vLLM caches the features of media. Raises `ValueError` for an engine whose weights can't be
    updated.
    """
    features = MediaFeatures(body.config, backend.processing_class, version)
    if backend.mode == "colocate":
        media = backend.llm.model_config.multimodal_config
        features.raw = getattr(media, "mm_device_do_normalize", False)
        served = backend.llm.llm_engine.model_executor.driver_worker.model_runner.model
        if any(parameter.numel() == 0 for parameter in served.parameters()):
            raise ValueError(
                "use_vllm: on a CPU vLLM packs its weights, and they can't be updated; leave it off"
            )
        served.get_mrope_input_positions = partial(positions, body)
        backend.llm = Engine(backend.llm, features)
    elif hasattr(backend, "vllm_client"):  # on the main process, which samples for all
        media = backend.vllm_client.get_server_info()["model_config"].get("multimodal_config")
        features.raw = (media or {}).get("mm_device_do_normalize", False)
        backend.vllm_client.image_features = features.of_rows
        backend._place_features = lambda placed, _tokens: placed


@dataclass
class MediaFeatures:
    """Converts the media of encoded prompts to vLLM's inputs.

    `raw` is true where vLLM takes pixels as bytes and normalises them itself.
    """

    config: PretrainedConfig
    processor: ProcessorMixin
    version: Callable[[], int]
    raw: bool = False

    def of_engine(self, prompt: Prompt) -> MultiModalInput:
        """Return an encoded prompt as the engine's input."""
        from vllm.inputs import MultiModalInput
        from vllm.multimodal.inputs import PlaceholderRange

        items, ids = self.items(prompt), prompt["input_ids"][0]
        tokens = {kind: getattr(self.config, f"{kind}_token_id") for kind in items}
        return MultiModalInput(
            type="multimodal",
            prompt_token_ids=ids.tolist(),
            mm_kwargs=items,
            mm_hashes=self._names(items),
            mm_placeholders={
                kind: [PlaceholderRange(*place) for place in runs_of(token, ids)]
                for kind, token in tokens.items()
            },
        )

    def of_rows(self, rows: Sequence[Sequence[Prompt]]) -> list[dict[str, Any]]:
        """Return the media of encoded prompts, one per row, as vLLM's server takes them."""
        from vllm.v1.serial_utils import MsgpackEncoder

        encoder = MsgpackEncoder(size_threshold=1 << 62)  # all in one piece

        def encoded(item: Any) -> str:
            return base64.b64encode(encoder.encode(item)[0]).decode()

        media = [self.of_engine(prompt) for [prompt] in rows]
        return [
            {
                "mm_hashes": row["mm_hashes"],
                "mm_placeholders": {
                    kind: [{"offset": place.offset, "length": place.length} for place in places]
                    for kind, places in row["mm_placeholders"].items()
                },
                "kwargs_data": {
                    kind: [encoded(item) for item in items]
                    for kind, items in row["mm_kwargs"].items()
                },
            }
            for row in media
        ]

    def items(self, prompt: Prompt) -> MultiModalKwargsItems:
        """Return the processor's tensors of a prompt, one item per image and video."""
        from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems

        tensors, fields = dict(with_pixels(prompt)), {}
        for kind, pixels in PIXELS.items():
            grid = GRIDS[kind]
            if grid not in prompt:
                continue
            patches = prompt[grid].prod(-1)
            fields[pixels] = MultiModalFieldConfig.flat_from_sizes(kind, patches)
            fields[grid] = MultiModalFieldConfig.batched(kind, keep_on_cpu=True)
            if self.raw:
                if BYTES[kind] not in prompt:
                    raise BadInput(
                        "use_vllm: vLLM normalises pixels itself, and those of this processor are "
                        "no bytes; start it without mm_device_do_normalize"
                    )
                tensors[pixels] = prompt[BYTES[kind]]
        if "second_per_grid_ts" in prompt:
            fields["second_per_grid_ts"] = MultiModalFieldConfig.batched("video", keep_on_cpu=True)
        return MultiModalKwargsItems.from_hf_inputs(tensors, fields)

    def _names(self, items: MultiModalKwargsItems) -> dict[str, list[str]]:
        """Return a digest of each item and of the version of the vision tower."""
        names: dict[str, list[str]] = {}
        for kind, of_kind in items.items():
            for item in of_kind:
                digest = hashlib.sha256(str(self.version()).encode())
                for part, element in sorted(item.items()):
                    digest.update(part.encode() + element.data.contiguous().numpy().data)
                names.setdefault(kind, []).append(digest.hexdigest())
        return names


class Engine:
    """vLLM's engine behind the interface that TRL calls, for encoded prompts."""

    def __init__(self, llm: LLM, features: MediaFeatures) -> None:
        self._llm, self._features = llm, features

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    def generate(
        self,
        prompts: Sequence[Mapping[str, Any]],
        sampling_params: SamplingParams,
        use_tqdm: bool = False,
    ) -> list[RequestOutput]:
        """Return one output per prompt, in order; the encoded prompt is in place of its image."""
        from vllm.sampling_params import RequestOutputKind

        engine = self._llm.llm_engine
        sampling_params.output_kind = RequestOutputKind.FINAL_ONLY
        # Rows of one group are the same object, and converted once.
        encoded: dict[int, MultiModalInput] = {}
        for number, row in enumerate(prompts):
            prompt = row["multi_modal_data"]["image"]
            if id(prompt) not in encoded:
                encoded[id(prompt)] = self._features.of_engine(prompt)
            engine.add_request(str(number), encoded[id(prompt)], sampling_params)
        finished: dict[int, RequestOutput] = {}
        while engine.has_unfinished_requests():
            finished |= {int(out.request_id): out for out in engine.step() if out.finished}
        return [finished[number] for number in range(len(prompts))]


def positions(
    body: PreTrainedModel, tokens: Sequence[int], media: Sequence[MultiModalFeatureSpec]
) -> tuple[Tensor, int]:
    """Return a prompt's rotary positions (3, L) in `body`, and the offset of the text behind it."""
    kinds = torch.zeros(1, len(tokens), dtype=torch.long)
    parts: dict[str, list[Tensor]] = {}
    for item in sorted(media, key=lambda item: item.mm_position.offset):
        start, stop = item.mm_position.offset, item.mm_position.offset + item.mm_position.length
        kinds[0, start:stop] = 1 + list(PIXELS).index(item.modality)
        for name in (GRIDS[item.modality], "second_per_grid_ts"):
            if name in item.data:
                parts.setdefault(name, []).append(item.data[name].data)
    ids = torch.tensor([tokens])
    grids = {name: torch.stack(values) for name, values in parts.items()}
    rotary, offset = body.get_rope_index(ids, mm_token_type_ids=kinds, **grids)
    return rotary[:, 0], int(offset)
