"""Rotary positions of prompts with images and clips.

Qwen2-VL and Qwen2.5-VL were trained with text that starts behind the last position of a clip, over
time, height and width. vLLM counts so too. transformers from 5.3 to at least 5.23 starts it behind
the clip's larger side, which for a long clip is among the positions of its frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Policies that number the tokens of a clip as one block.
FAMILIES = ("qwen2_vl", "qwen2_5_vl")

# The kind of token in `mm_token_type_ids`: 0 is text, 1 an image.
CLIP = 2

# Features of a prompt's media that determine its positions.
GRIDS = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")


def start_text_behind_clips(body: PreTrainedModel) -> None:
    """Let `body.get_rope_index` number prompts as the weights were trained.

    Nothing changes where it does so already.
    """
    if body.config.model_type in FAMILIES and not starts_text_behind_clips(body):
        body.get_rope_index = MethodType(_rope_index, body)


def starts_text_behind_clips(body: PreTrainedModel) -> bool:
    """Ask `body` for the positions of a clip of eight frames, one token each, and a word."""
    merge = body.config.vision_config.spatial_merge_size
    kinds = torch.tensor([[CLIP] * 8 + [0]])
    positions, _ = body.get_rope_index(
        torch.zeros_like(kinds),
        mm_token_type_ids=kinds,
        video_grid_thw=torch.tensor([[8, merge, merge]]),
        second_per_grid_ts=torch.ones(1),
    )
    return bool(positions[0, 0, -1] == positions[..., :-1].max() + 1)


def prompt_positions(body: PreTrainedModel, prompt: Mapping[str, Tensor]) -> Tensor:
    """Return the positions (3, B, L) of encoded prompts, int64: time, height and width."""
    mask, media = prompt["attention_mask"], {n: prompt[n] for n in GRIDS if n in prompt}
    if not media:
        return (mask.cumsum(1) - 1).clamp_min(0).expand(3, -1, -1)
    positions, _ = body.get_rope_index(
        prompt["input_ids"],
        mm_token_type_ids=prompt["mm_token_type_ids"],
        attention_mask=mask,
        **media,
    )
    return positions


def with_text_behind(positions: Tensor, mask: Tensor) -> Tensor:
    """Return the positions (3, B, L + T) of prompts (3, B, L) and text with a mask (B, T)."""
    return torch.cat([positions, positions[..., -1:] + mask.cumsum(1)], dim=2)


def behind_clips(positions: Tensor, kinds: Tensor) -> Tensor:
    """Return positions (3, L) with what follows a clip moved behind its last position.

    >>> clip, word = [[0, 9], [0, 0], [0, 0]], [[1]] * 3
    >>> positions = torch.tensor([[*c, *w] for c, w in zip(clip, word)])
    >>> behind_clips(positions, torch.tensor([2, 2, 0]))[:, -1]
    tensor([10, 10, 10])
    """
    positions = positions.clone()
    for start, length in runs_of(CLIP, kinds):
        stop = start + length
        if stop < positions.shape[1]:
            last = positions[:, start:stop].max()
            positions[:, stop:] += last + 1 - positions[0, stop]
    return positions


def runs_of(value: int, row: Tensor) -> list[tuple[int, int]]:
    """Return start and length of each unbroken run of a value in a row (L,).

    >>> runs_of(7, torch.tensor([7, 7, 1, 7, 2]))
    [(0, 2), (3, 1)]
    """
    change = pad((row == value).int(), (1, 1)).diff()
    starts, ends = (change == 1).nonzero()[:, 0], (change == -1).nonzero()[:, 0]
    return list(zip(starts.tolist(), (ends - starts).tolist(), strict=True))


def _rope_index(
    self: PreTrainedModel,
    input_ids: Tensor,
    mm_token_type_ids: Tensor,
    *,
    attention_mask: Tensor | None = None,
    **grids: Any,
) -> tuple[Tensor, Tensor]:
    """Number as the library does, then move text behind its clips; see its `get_rope_index`."""
    positions, deltas = type(self).get_rope_index(
        self, input_ids, mm_token_type_ids, attention_mask=attention_mask, **grids
    )
    for row, kinds in enumerate(mm_token_type_ids):
        live = torch.ones_like(kinds).bool() if attention_mask is None else attention_mask[row] > 0
        positions[:, row, live] = behind_clips(positions[:, row, live], kinds[live])
        deltas[row] = positions[:, row].max() + 1 - live.sum()
    return positions, deltas
