"""Policies load with neutral settings, and know the tokens they must not emit."""

from __future__ import annotations

import json

from nontrivial.models.policy import freeze_vision, load_policy, vision_token_ids
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
