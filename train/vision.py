"""Encode images and clips once where the vision tower does not learn.

Sampling, scoring, the reference and all micro-batches then read the same features, in place of the
pixels. They are kept over steps and epochs, the most recently used ones up to `vision_cache_mb`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nontrivial.models.positions import FAMILIES
from nontrivial.train.data import (
    BYTES,
    FEATURES,
    GRIDS,
    NORMS,
    PIXELS,
    Prompt,
    Recent,
    with_pixels,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Features = dict[str, Tensor]  # FEATURES (tokens, H) of a prompt's media


class FrozenVision:
    """The features of prompts' media by the tower of `body`, up to `limit` bytes of them."""

    def __init__(self, body: PreTrainedModel, limit: int) -> None:
        self.body = body
        self.kept: Recent[Features] = Recent(limit)

    @torch.no_grad()
    def __call__(self, keys: Sequence[int], prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return prompts with features in place of pixels; one object for each key."""
        asked = dict(zip(keys, prompts, strict=True))
        known = {key: kept for key in asked if (kept := self.kept.get(key)) is not None}
        missing = {key: prompt for key, prompt in asked.items() if key not in known}
        known |= self._encode(missing)
        seen = {key: _without_pixels(prompt) | known[key] for key, prompt in asked.items()}
        self.kept.keep({key: known[key] for key in asked})
        return [seen[key] for key in keys]

    def _encode(self, prompts: Mapping[int, Prompt]) -> dict[int, Features]:
        encoded: dict[int, Features] = {key: {} for key in prompts}
        prompts = {key: with_pixels(each, self.body.device) for key, each in prompts.items()}
        for kind, pixels in PIXELS.items():
            having = {key: prompt for key, prompt in prompts.items() if pixels in prompt}
            if not having:
                continue
            grids = [prompt[GRIDS[kind]] for prompt in having.values()]
            features = getattr(self.body, f"get_{kind}_features")(
                torch.cat([prompt[pixels] for prompt in having.values()]),
                torch.cat(grids).to(self.body.device),
                return_dict=True,
            ).pooler_output  # one (tokens, H) for each image or clip
            items = iter(features)
            for key, grid in zip(having, grids, strict=True):
                encoded[key][FEATURES[kind]] = torch.cat([next(items) for _ in grid])
        return encoded


def can_be_kept(body: PreTrainedModel) -> bool:
    """True if no weight of the tower is trained, and its family takes features for pixels."""
    learning = any(parameter.requires_grad for parameter in body.visual.parameters())
    return body.config.model_type in FAMILIES and not learning


def _without_pixels(prompt: Prompt) -> dict[str, Tensor]:
    left_out = {*PIXELS.values(), *BYTES.values(), *NORMS.values()}
    return {name: value for name, value in prompt.items() if name not in left_out}
