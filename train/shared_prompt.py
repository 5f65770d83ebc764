"""Encode a prompt once: its completions share vision features and KV cache.

GRPO samples G completions of every prompt. The plain way sends G copies of its images and tokens
through the network, once to sample and again to score. Here all but the last token of each distinct
prompt is prefilled once, its cache is selected for each of its rows, and only the last prompt token
and the completion run per row. Gradients flow back through the one prefill. Results equal those of
the plain way to float tolerance.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from nontrivial.models.positions import positions_behind
from nontrivial.train.data import TOKENWISE, Prompt, collate
from nontrivial.train.head import head_without

if TYPE_CHECKING:
    from transformers import Cache, GenerationConfig, PreTrainedModel


def collate_distinct(
    prompts: Sequence[Prompt],
    pad_token_id: int,
    device: Any = None,
    *,
    unasked: Sequence[Prompt] = (),
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the distinct objects among `prompts` as one batch, and each row's index (B,) in it.

    `unasked` prompts (train.data.StandIns) join the batch without a row.
    """
    order: dict[int, int] = {}
    rows = [order.setdefault(id(prompt), len(order)) for prompt in prompts]
    objects = {id(prompt): prompt for prompt in prompts}
    batch = collate([*(objects[key] for key in order), *unasked], pad_token_id, device)
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
    with caught_states(body, 1 if keep_hidden else 0) as caught:
        tokens = model.generate(**inputs, generation_config=config)
    asked = slice(len(prompts))
    hidden = torch.cat(caught, dim=1)[asked] if keep_hidden else None
    return tokens[asked, inputs["input_ids"].shape[1] :], hidden


@contextmanager
def caught_states(body: PreTrainedModel, last: int) -> Iterator[list[Tensor]]:
    """Collect hidden states (B, ≤ last, H) of the last positions of each pass through `body`."""
    caught: list[Tensor] = []

    def catch(_module: Any, _inputs: Any, output: Any) -> None:
        caught.append(output.last_hidden_state[:, -last:])

    hook = body.register_forward_hook(catch) if last else None
    try:
        yield caught
    finally:
        if hook is not None:
            hook.remove()


@torch.no_grad()
def hidden_states(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    completions: Tensor,
    mask: Tensor,
    pad_token_id: int,
    *,
    unasked: Sequence[Prompt] = (),
) -> Tensor:
    """Return the states (B, T, H) that predict completions (B, T), by one forward pass.

    They equal those that `generate` keeps; use it for completions that were sampled elsewhere.
    """
    body = backbone(model)
    batch, rows = collate_distinct(prompts, pad_token_id, completions.device, unasked=unasked)
    cache, seen = _prefill(body, batch, rows), mask[:, :-1]
    before = batch["attention_mask"][rows]
    output = body(
        input_ids=torch.cat([batch["input_ids"][rows, -1:], completions[:, :-1]], dim=1),
        attention_mask=torch.cat([before, seen.to(before.dtype)], dim=1),
        position_ids=_row_positions(batch, rows, seen),
        past_key_values=cache,
    )
    return output.last_hidden_state


def scoring_inputs(
    prompts: Sequence[Prompt],
    completions: Tensor,
    mask: Tensor,
    pad_token_id: int,
    *,
    share: bool = True,
    unasked: Sequence[Prompt] = (),
) -> dict[str, Any]:
    """Return the arguments to score completions (B, T) by a model that `accept_shared_prompts`.

    `mask` (B, T) is 1 at tokens. The output's `log_probs[:B, -T:]` and `entropy[:B, -T:]` belong to
    the completions; both are 0 where the mask is.
    """
    if unasked and not share:
        prompts = [*prompts, *unasked]
        none = (0, 0, 0, len(unasked))
        completions, mask = pad(completions, none, value=pad_token_id), pad(mask, none)
    labels = completions.masked_fill(mask == 0, -100)
    if share:
        batch, rows = collate_distinct(prompts, pad_token_id, completions.device, unasked=unasked)
        first = batch["input_ids"][rows, -1:]
        inputs: dict[str, Any] = {"prompts": batch, "rows": rows}
        before, positions = batch["attention_mask"][rows], _row_positions(batch, rows, mask)
    else:
        inputs = collate(prompts, pad_token_id, completions.device)
        first, before = inputs["input_ids"], inputs["attention_mask"]
        types, asked = inputs["mm_token_type_ids"], inputs["position_ids"]
        inputs["mm_token_type_ids"] = torch.cat([types, types.new_zeros(mask.shape)], dim=1)
        positions = torch.cat([asked, positions_behind(asked, mask)], dim=2)
    unscored = torch.full_like(first, -100)
    return inputs | {
        "input_ids": torch.cat([first, completions], dim=1),
        "attention_mask": torch.cat([before, mask.to(before.dtype)], dim=1),
        "position_ids": positions,
        "labels": torch.cat([unscored, labels], dim=1),
        "fused_lm_head": True,
    }


def accept_shared_prompts(model: PreTrainedModel, forbidden_tokens: Sequence[int]) -> None:
    """Let `model(**scoring_inputs(…))` prefill its prompts once, and score without some tokens.

    `model` already has TRL's fused head. The `forbidden_tokens` can't be sampled, so they are left
    out of the scored distribution too: sampled and scored log-probabilities agree.
    """
    plain_forward = model.forward

    @functools.wraps(type(model).forward)  # generate() checks its arguments by the signature
    def forward(
        self: PreTrainedModel, *args: Any, prompts: Any = None, rows: Any = None, **kwargs: Any
    ) -> Any:
        if not kwargs.get("fused_lm_head"):
            return plain_forward(*args, **kwargs)
        if prompts is not None:
            kwargs["past_key_values"] = _prefill(self.base_model, prompts, rows)
        head = head_without(self, forbidden_tokens)
        self.get_output_embeddings = lambda: head
        try:
            return plain_forward(*args, **kwargs)
        finally:
            del self.get_output_embeddings

    model.forward = MethodType(forward, model)


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


def _row_positions(prompts: Prompt, rows: Tensor, mask: Tensor) -> Tensor:
    """Return positions (3, B, 1 + T) of each row's last prompt token and completion (B, T)."""
    last = prompts["position_ids"][:, rows, -1:]
    return torch.cat([last, positions_behind(last, mask)], dim=2)
