"""Prompts are numbered as the weights were trained: text starts behind a clip's last position."""

from __future__ import annotations

from importlib import import_module
from types import MethodType, SimpleNamespace

import numpy as np
import pytest
import torch

from nontrivial.manifests.frames import Clip
from nontrivial.models.inputs import encode
from nontrivial.models.positions import (
    prompt_positions,
    start_text_behind_clips,
    starts_text_behind_clips,
)
from tests import tiny_policy
from tests.reference import positions as naive

# Prompts: lengths of text, images as a grid, clips as a grid and the seconds between its frames.
IMAGE, SHORT, LONG = ((1, 3, 2), 0), ((4, 2, 2), 1.25), ((4, 3, 2), 75.0)
PROMPTS = {
    "text": [7],
    "images": [2, IMAGE, 1, IMAGE, 4],
    "a short clip": [1, SHORT, 5],
    "a long clip": [1, LONG, 5],
    "clips and images": [3, LONG, 2, IMAGE, 1, SHORT, 2, LONG, 6],
    "side by side": [1, LONG, IMAGE, 2],
    "a clip at the end": [2, LONG],
}


@pytest.fixture(params=["Qwen2-VL", "Qwen2.5-VL"])
def body(request):
    model, _ = tiny_policy.build()
    if request.param == "Qwen2-VL":
        from transformers import Qwen2VLConfig, Qwen2VLModel

        sizes = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2}
        text = model.config.text_config.to_dict() | {"model_type": "qwen2_vl_text"}
        return Qwen2VLModel(Qwen2VLConfig(text_config=text, vision_config=sizes))
    return model.model


def tensors(prompts) -> dict[str, torch.Tensor]:
    """The features of prompts that number them, padded on the left."""
    kinds, grids = [], {"image": [], "video": []}
    seconds = []
    for parts in prompts:
        row = []
        for part in parts:
            if isinstance(part, int):
                row += [0] * part
                continue
            (frames, rows, columns), step = part
            row += [2 if step else 1] * (frames * rows * columns)
            grids["video" if step else "image"].append([frames, 2 * rows, 2 * columns])
            seconds += [step] if step else []
        kinds.append(row)
    longest = max(map(len, kinds))
    padded = torch.tensor([[0] * (longest - len(row)) + row for row in kinds])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in kinds])
    media = {f"{kind}_grid_thw": torch.tensor(grid) for kind, grid in grids.items() if grid}
    if seconds:
        media["second_per_grid_ts"] = torch.tensor(seconds)
    ids = torch.zeros_like(padded)
    return {"input_ids": ids, "mm_token_type_ids": padded, "attention_mask": mask, **media}


def steps(body, parts) -> tuple[list, float]:
    """The parts and tokens per second of a policy: Qwen2-VL does not know how long a step takes."""
    rate = getattr(body.config.vision_config, "tokens_per_second", None)
    if rate:
        return parts, rate
    return [part if isinstance(part, int) else (part[0], bool(part[1])) for part in parts], 1


@pytest.mark.parametrize("name", [*PROMPTS, "all at once"])
def test_positions_are_the_published_ones(body, name):
    prompts = list(PROMPTS.values()) if name == "all at once" else [PROMPTS[name]]
    start_text_behind_clips(body)
    features = tensors(prompts)
    found = prompt_positions(body, features)
    if len(features) > 3:  # there are media
        names = set(features) - {"input_ids"}
        given = {each: features[each] for each in names}
        _, deltas = body.get_rope_index(features["input_ids"], **given)
    for row, parts in enumerate(prompts):
        expected = torch.tensor(naive.positions(*steps(body, parts))).T
        length = expected.shape[1]
        assert torch.equal(found[:, row, -length:], expected), parts
        if len(features) > 3:
            assert deltas[row].item() == expected.max() + 1 - length


def test_a_body_that_counts_right_is_left_alone(body):
    start_text_behind_clips(body)
    assert starts_text_behind_clips(body)
    numbering = body.get_rope_index
    start_text_behind_clips(body)
    assert body.get_rope_index is numbering


@pytest.mark.parametrize("seconds", [5, 60, 300])
def test_clips_of_real_length_are_numbered_as_published(seconds, real_processor):
    """With the processor of Qwen2.5-VL, from frames to positions."""
    processor = real_processor()
    model, _ = tiny_policy.build(processor=processor)
    start_text_behind_clips(model.model)
    clip = Clip(np.zeros((16, 84, 112, 3), np.uint8), np.arange(16), fps=16 / seconds, total=16)
    turn = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What moves?"}]}
    prompt = encode(processor, [[turn]], [[]], [[clip]])
    found = prompt_positions(model.model, prompt)[:, 0]
    kinds = prompt["mm_token_type_ids"][0]
    frames, rows, columns = prompt["video_grid_thw"][0].tolist()
    before, inside = int((kinds == 2).int().argmax()), int((kinds == 2).sum())
    grid = (frames, rows // 2, columns // 2)
    parts = [before, (grid, 2 * seconds / 16), len(kinds) - before - inside]
    assert torch.equal(found, torch.tensor(naive.positions(parts, 2)).T)


def test_vllm_numbers_prompts_alike(body):
    pytest.importorskip("vllm", reason="needs vllm")
    family = type(body).__name__.removesuffix("Model")
    module = {"Qwen2VL": "qwen2_vl", "Qwen2_5_VL": "qwen2_5_vl"}[family]
    served = import_module(f"vllm.model_executor.models.{module}")
    network = getattr(served, f"{family}ForConditionalGeneration")
    theirs = SimpleNamespace(config=body.config)
    theirs.iter_mm_grid_thw = MethodType(network.iter_mm_grid_thw, theirs)
    start_text_behind_clips(body)
    for parts in PROMPTS.values():
        media, offset = [], 0
        for part in steps(body, parts)[0]:
            if isinstance(part, int):
                offset += part
                continue
            (frames, rows, columns), seconds = part
            kind = "video" if seconds else "image"
            data = {f"{kind}_grid_thw": torch.tensor([frames, 2 * rows, 2 * columns])}
            if seconds and module == "qwen2_5_vl":
                data["second_per_grid_ts"] = torch.tensor(seconds)
            place = SimpleNamespace(offset=offset, length=frames * rows * columns)
            boxed = {name: SimpleNamespace(data=value) for name, value in data.items()}
            media.append(SimpleNamespace(modality=kind, mm_position=place, data=boxed))
            offset += place.length
        found = prompt_positions(body, tensors([parts]))[:, 0]
        expected, _ = network.get_mrope_input_positions(theirs, [0] * offset, media)
        assert torch.equal(found, expected), parts
