"""Policies load with neutral settings, and know the tokens they must not emit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from nontrivial.manifests.command import RECIPES
from nontrivial.manifests.errors import BadInput
from nontrivial.models.inputs import View, encode
from nontrivial.models.policy import (
    freeze_vision,
    load_policy,
    load_processor,
    vision_token_ids,
    weight_files,
)
from tests import tiny_policy


def test_settings_of_generation_become_neutral(tiny_policy_dir, tmp_path):
    model, processor = load_policy(str(tiny_policy_dir))
    folder = tmp_path / "policy"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    end = processor.tokenizer.eos_token_id
    own = {"eos_token_id": [end, 0], "pad_token_id": 0, "repetition_penalty": 1.05}
    own |= {"temperature": 1e-6, "do_sample": True, "top_k": 1}
    (folder / "generation_config.json").write_text(json.dumps(own))
    model, _ = load_policy(str(folder))
    assert model.generation_config.eos_token_id == [end, 0]
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert saved["eos_token_id"] == [end, 0]
    assert saved.get("repetition_penalty", 1.0) == 1.0
    assert saved.get("temperature", 1.0) == 1.0
    assert not saved.get("do_sample", False)


def test_every_vision_token_is_known():
    model, processor = tiny_policy.build()
    known = processor.tokenizer.convert_tokens_to_ids(list(tiny_policy.VISION))
    assert sorted(vision_token_ids(model)) == sorted(known)
    model.config.vision_token_id = 7  # as Qwen2.5-VL's configuration names its padding of media
    assert 7 in vision_token_ids(model)
    model.config.vision_start_token_id = 151652  # the default of a config without an entry
    assert 151652 not in vision_token_ids(model)


def test_only_the_vision_tower_is_frozen():
    model, _ = tiny_policy.build()
    freeze_vision(model)
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if ".visual." in name}


def test_the_folder_of_an_adapter_is_a_policy(tiny_policy_dir, write_adapter, tmp_path):
    adapted, folder = write_adapter(tmp_path / "run" / "adapter")
    ids = torch.arange(9)[None]
    with torch.no_grad():
        expected = adapted(ids).logits
        own = load_policy(str(tiny_policy_dir))[0](ids).logits
    assert (own - expected).abs().max() > 1e-3
    for name in (folder, folder.parent):
        model, processor = load_policy(str(name))
        with torch.no_grad():
            torch.testing.assert_close(model(ids).logits, expected, rtol=1e-4, atol=1e-5)
        assert processor.tokenizer.padding_side == "left"
        assert [file for file, _, _ in weight_files(str(name))] == ["adapter_model.safetensors"]


def test_an_adapter_on_an_adapter_is_a_policy(write_adapter, tmp_path):
    _, first = write_adapter(tmp_path / "first")
    adapted, second = write_adapter(tmp_path / "second")
    config = json.loads((second / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(first)
    (second / "adapter_config.json").write_text(json.dumps(config))
    ids = torch.arange(9)[None]
    with torch.no_grad():
        once, twice = (load_policy(str(folder))[0](ids).logits for folder in (first, second))
        alone = adapted(ids).logits
    assert (once - twice).abs().max() > 1e-3
    assert (alone - twice).abs().max() > 1e-3
    config["base_model_name_or_path"] = str(second)
    (second / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="names no base"):
        load_policy(str(second))


def test_an_adapter_without_its_base_is_refused(write_adapter, tmp_path):
    _, folder = write_adapter(tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    for base, message in (("no/such/base", "no/such/base: cannot be loaded"), (None, "names no")):
        changed = config | {"base_model_name_or_path": base}
        (folder / "adapter_config.json").write_text(json.dumps(changed))
        with pytest.raises(BadInput, match=message):
            load_policy(str(folder))


@pytest.mark.parametrize("recipe", ["reid_r", "reid_r_warmup", "joint"])
def test_recipes_give_a_crop_128_tokens(recipe, real_processor):
    options = yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8"))
    view = View(min_pixels=options["min_pixels"], max_pixels=options["max_pixels"])
    turn = {"role": "user", "content": [{"type": "image"}]}
    for size in ((64, 128), (48, 160), (128, 256), (300, 900)):
        crop = Image.new("RGB", size)
        batch = encode(real_processor(), [[turn]], [[crop]], [[]], **view.limits)
        limit = options["max_pixels"] // 28**2
        assert 128 <= batch["image_grid_thw"].prod() // 4 <= limit, size


def test_the_pixels_of_long_clips_are_capped_unless_the_processor_says_otherwise(tmp_path: Path):
    _, processor = tiny_policy.build()
    for own, loaded in ((None, True), (True, True), (False, False)):
        processor.video_processor.cap_pixels_per_frame = own
        processor.save_pretrained(tmp_path / str(own))
        known = load_processor(str(tmp_path / str(own)))
        assert known.video_processor.cap_pixels_per_frame is loaded
