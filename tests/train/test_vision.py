"""A frozen tower encodes each prompt once, and nothing else changes."""

from __future__ import annotations

import pytest
import torch

from nontrivial.train import trl_hooks
from nontrivial.train.data import BYTES, with_pixels
from tests.train.conftest import pairs, videos
from tests.train.test_trainer import assert_equal, parameters


def patches_seen(trainer) -> list[int]:
    """The patches of each call of the vision tower, from now on."""
    seen: list[int] = []
    tower = trainer.model.base_model.visual
    tower.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    return seen


def patches(trainer) -> int:
    """The patches of all samples."""
    names = BYTES.values()
    prompts = trainer._encode(trainer._samples)
    return sum(len(prompt[name]) for prompt in prompts for name in names if name in prompt)


@pytest.mark.parametrize("options", [{}, {"beta": 0.04, "num_iterations": 2}], ids=["", "beta"])
def test_features_give_the_update_of_pixels(make_trainer, monkeypatch, options):
    results = []
    for once in (True, False):
        if not once:
            monkeypatch.setattr(trl_hooks, "can_be_kept", lambda body: False)
        trainer = make_trainer(
            pairs(2) + videos(2),
            freeze_vision=True,
            max_steps=2,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=2,
            **options,
        )
        trainer.train()
        results.append(parameters(trainer))
    assert_equal(*results, tolerance=1e-7)


@pytest.mark.parametrize(("mib", "epochs"), [(64, 1), (0, 3)], ids=["kept", "not kept"])
def test_each_prompt_is_encoded_once(make_trainer, mib, epochs):
    """In a step; with memory for its features, in all epochs."""
    trainer = make_trainer(
        pairs(2) + videos(2),
        freeze_vision=True,
        max_steps=3,
        beta=0.04,
        vision_cache_mb=mib,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
    )
    seen = patches_seen(trainer)
    trainer.train()
    assert sum(seen) == epochs * patches(trainer)


def test_the_memory_of_features_is_bounded(make_trainer):
    trainer = make_trainer(pairs(4), freeze_vision=True)
    keys, prompts = range(4), trainer._encode(trainer._samples)
    vision = trainer._vision
    first = vision(keys, prompts)
    size = vision.kept.size
    assert size == sum(prompt["image_features"].nbytes for prompt in first) > 0
    vision.kept.limit = size // 2
    vision(keys, prompts)
    assert 0 < vision.kept.size <= size // 2
    assert all("image_bytes" not in prompt for prompt in first)
    assert len({id(prompt) for prompt in vision([0, 0, 1], [prompts[0]] * 2 + [prompts[1]])}) == 2


def test_a_tower_that_learns_sees_pixels(make_trainer):
    trainer = make_trainer(pairs(4), freeze_vision=False)
    assert trainer._vision is None
    trainer.model.base_model.visual.requires_grad_(False)
    assert trl_hooks.can_be_kept(trainer.model.base_model)
    next(trainer.model.base_model.visual.parameters()).requires_grad_(True)
    assert not trl_hooks.can_be_kept(trainer.model.base_model)


def test_features_are_those_of_the_tower(make_trainer):
    trainer = make_trainer(pairs(1) + videos(1), freeze_vision=True)
    [pair, video] = map(with_pixels, trainer._encode(trainer._samples[:2]))
    seen = trainer._vision([0, 1], [pair, video])
    body = trainer.model.base_model
    with torch.no_grad():
        image = body.get_image_features(pair["pixel_values"], pair["image_grid_thw"])
        clip = body.get_video_features(video["pixel_values_videos"], video["video_grid_thw"])
    torch.testing.assert_close(seen[0]["image_features"], torch.cat(image.pooler_output))
    torch.testing.assert_close(seen[1]["video_features"], torch.cat(clip.pooler_output))
