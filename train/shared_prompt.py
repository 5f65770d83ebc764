"""Sample from a prompt that is encoded once: its completions share vision features and KV cache.

GRPO samples G completions of every prompt. The plain way sends G copies of its images and tokens
through the network. Here all but the last token of each distinct prompt is prefilled once, and its
cache is selected for each of its rows. Results equal those of the plain way to float tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nontrivial.train.data import TOKENWISE, Prompt, collate, distinct

if TYPE_CHECKING:
    from transformers import Cache, GenerationConfig, PreTrainedModel


def collate_distinct(
    prompts: Sequence[Prompt],
    pad_token_id: int,
    device: Any = None,
    *,
    unasked: Sequence[Prompt] = (),
) -> tuple[dict[str, Any], Tensor]:
    """Return the distinct objects among `prompts` as one batch, and each row's index (B,) in it.

    `unasked` prompts (train.data.StandIns) join the batch without a row.
    """
    objects, rows = distinct(prompts)
    batch = collate([*objects, *unasked], pad_token_id, device)
    return batch, torch.tensor(rows, device=device)


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    config: GenerationConfig,
    *,
    share: bool = True,
    keep_hidden: bool = False,
    unasked: Sequence[Prompt] = (),
) -> tuple[Tensor, Tensor | None]:
    """Sample one completion per row: tokens (B, T) and, if kept, hidden states (B, T, H).

    `prompts` has one entry per row; with `share` entries that are the same object are encoded once.
    `unasked` prompts (train.data.StandIns) are encoded too, and their completions left out.
    `hidden[:, t]` is the state that predicted token t.
    """
    body = backbone(model)
    if share:
        batch, rows = collate_distinct(prompts, config.pad_token_id, body.device, unasked=unasked)
        inputs: dict[str, Any] = {
            name: batch[name][rows] for name in ("input_ids", "attention_mask")
        }
        inputs["past_key_values"] = _prefill(body, batch, rows)
        inputs["position_ids"] = batch["position_ids"][:, rows]
    else:
        inputs = collate([*prompts, *unasked], config.pad_token_id, body.device)
    with caught_states(body, keep_hidden, last=1) as caught:
        tokens = model.generate(**inputs, generation_config=config)
    asked = slice(len(prompts))
    hidden = torch.cat(caught, dim=1)[asked] if keep_hidden else None
    return tokens[asked, inputs["input_ids"].shape[1] :], hidden


@contextmanager
def caught_states(body: PreTrainedModel, keep: bool, *, last: int = 0) -> Iterator[list[Tensor]]:
    """Collect hidden states (B, L, H) of each pass through `body`, or of its `last` positions."""
    caught: list[Tensor] = []

    def catch(_module: Any, _inputs: Any, output: Any) -> None:
        caught.append(output.last_hidden_state[:, -last:])

    hook = body.register_forward_hook(catch) if keep else None
    try:
        yield caught
    finally:
        if hook is not None:
            hook.remove()


def backbone(model: PreTrainedModel) -> PreTrainedModel:
    """Return the network below the head, also from inside an adapter."""
    return without_adapter(model).base_model


def without_adapter(model: PreTrainedModel) -> PreTrainedModel:
    """Return the policy that an adapter wraps, or a policy without one as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _prefill(body: PreTrainedModel, prompts: Prompt, rows: Tensor) -> Cache:
    """Return the cache of each row's prompt without its last token."""
    from transformers import DynamicCache

    inputs = {
        name: value[..., :-1] if name in TOKENWISE else value for name, value in prompts.items()
    }
    cache = DynamicCache(config=body.config.get_text_config())
    body(**inputs, past_key_values=cache, use_cache=True)
    cache.batch_select_indices(rows)
    return cache
