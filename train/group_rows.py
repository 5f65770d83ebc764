"""Score a group as one row: its prompt once, then its completions.

    [prompt, c_1, …, c_G]

Every completion sees the prompt and itself, and positions start again behind the prompt. So a row
gives the log-probabilities and gradients of G rows, [prompt, c_1] to [prompt, c_G], at the cost of
its tokens, and needs no cache: gradient checkpointing may be on. Rows of several groups, and of
parts of groups, follow each other without padding.

A token is predicted at the token before it. So the part of a completion begins with the prompt's
last token, and ends before its own last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from nontrivial.models.positions import with_text_behind
from nontrivial.train.data import Prompt, collate, distinct, joined_media

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "group_rows"  # of the attention, beside transformers' own
PLAIN = "sdpa"  # the attention that it extends
UNSCORED = -100
OF_HEAD = ("shift_labels", "fused_lm_head")  # arguments of TRL's fused head


@dataclass(frozen=True)
class Group:
    """Where a prompt and its completions lie in the row.

    prompt  the prompt without its last token
    places  (G, T) int64, the place of each token of each completion; 0 where there is none
    told    (tokens,) int64, the flattened places that hold a token
    seen    (T, P + T) bool: the prompt and, up to itself, the completion
    """

    prompt: slice
    places: Tensor
    told: Tensor
    seen: Tensor


@dataclass(frozen=True)
class Scoring:
    """Arguments of a forward pass over completions (B, T), and where its results are.

    `places` (B, T) points into the flattened positions of the output; `live` (B, T) is bool.
    """

    inputs: dict[str, Any]
    places: Tensor
    live: Tensor

    def of_tokens(self, values: Tensor) -> Tensor:
        """Return the values (B, T, …) that belong to the completions; 0 where there is no token."""
        found = values.flatten(0, 1)[self.places]
        return found * self.live.view(*self.live.shape, *[1] * (found.ndim - 2))


def scoring(
    prompts: Sequence[Prompt],
    completions: Tensor,
    mask: Tensor,
    pad_token_id: int,
    *,
    share: bool = True,
    unasked: Sequence[Prompt] = (),
) -> Scoring:
    """Lay out completions (B, T), of which `mask` (B, T) says how long they are.

    With `share`, rows whose prompt is the same object become one; without it, all have a copy of
    their prompt. `unasked` prompts (train.data.StandIns) join without completions.
    """
    if share:
        return _grouped(prompts, completions, mask, unasked)
    return _plain(prompts, completions, mask, unasked, pad_token_id)


@torch.no_grad()
def hidden_states(body: PreTrainedModel, wanted: Scoring) -> Tensor:
    """Return the states (B, T, H) that predict completions (B, T), by one forward pass.

    `body` is the policy below its head. The states equal those that `shared_prompt.generate` keeps;
    this is for completions that were sampled elsewhere.
    """
    inputs = {name: wanted.inputs[name] for name in wanted.inputs if name not in OF_HEAD}
    return wanted.of_tokens(body(**inputs, use_cache=False).last_hidden_state)


def _plain(
    prompts: Sequence[Prompt],
    completions: Tensor,
    mask: Tensor,
    unasked: Sequence[Prompt],
    pad_token_id: int,
) -> Scoring:
    """Lay out each completion behind a copy of its prompt, padded on both sides."""
    inputs = collate([*prompts, *unasked], pad_token_id, completions.device)
    more = (0, 0, 0, len(unasked))
    told, seen = pad(completions, more, value=pad_token_id), pad(mask, more)
    ids, kinds, positions = (
        inputs[name] for name in ("input_ids", "mm_token_type_ids", "position_ids")
    )
    before, length = ids.shape[1], completions.shape[1]
    unscored = torch.full_like(ids[:, 1:], UNSCORED)
    inputs |= {
        "input_ids": torch.cat([ids, told[:, :-1]], dim=1),
        "attention_mask": torch.cat([inputs["attention_mask"], seen[:, :-1]], dim=1),
        "mm_token_type_ids": pad(kinds, (0, length - 1)),
        "position_ids": with_text_behind(positions, seen[:, :-1]),
        "shift_labels": torch.cat([unscored, told.masked_fill(seen == 0, UNSCORED)], dim=1),
        "fused_lm_head": True,
    }
    times = torch.arange(before - 1, before - 1 + length, device=mask.device)
    rows = torch.arange(len(prompts), device=mask.device)[:, None]
    return Scoring(inputs, rows * (before + length - 1) + times, mask.bool())


def _grouped(
    prompts: Sequence[Prompt], completions: Tensor, mask: Tensor, unasked: Sequence[Prompt]
) -> Scoring:
    """Lay out all completions in one row, behind their prompts."""
    device, lengths = completions.device, mask.sum(1).tolist()
    objects, of_row = distinct(prompts)
    asked = [*objects, *unasked]
    ids, positions, labels, groups = [], [], [], []
    places = torch.zeros(mask.shape, dtype=torch.long, device=device)
    end = 0
    for number, prompt in enumerate(asked):
        rows = [row for row, place in enumerate(of_row) if place == number]
        tokens, numbers = prompt["input_ids"][0].to(device), prompt["position_ids"][:, 0].to(device)
        ids.append(tokens[:-1])
        positions.append(numbers[:, :-1])
        labels.append(torch.full_like(tokens[:-1], UNSCORED))
        start, end = end, end + len(tokens) - 1
        group = slice(start, end)
        for row in rows:
            length = lengths[row]
            told = completions[row, :length]
            ids.append(torch.cat([tokens[-1:], told])[:length])
            positions.append(numbers[:, -1:] + torch.arange(length, device=device))
            labels.append(told)
            places[row, :length] = torch.arange(end, end + length, device=device)
            end += length
        groups.append(_group(group, places[rows], [lengths[row] for row in rows]))
    inputs = {
        "input_ids": torch.cat(ids)[None],
        "attention_mask": torch.ones(1, end, dtype=torch.long, device=device),
        "position_ids": torch.cat(positions, dim=1)[:, None],
        "shift_labels": torch.cat(labels)[None],
        "group_rows": groups,
        "fused_lm_head": True,
        **joined_media(asked, device),
    }
    return Scoring(inputs, places, mask.bool())


def accept_group_rows(model: PreTrainedModel) -> None:
    """Let the language model of `model` read group rows, if its attention is `sdpa`."""
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

    if model.config.get_text_config()._attn_implementation == PLAIN:
        AttentionInterface.register(NAME, attention)
        # Without a mask function of the same name, plain rows would silently get no mask.
        AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS[PLAIN])
        model.set_attn_implementation({"text_config": NAME})


def accepted_by(body: PreTrainedModel) -> bool:
    """True if `accept_group_rows` has prepared a policy, given below its head."""
    return body.config.get_text_config()._attn_implementation == NAME


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    group_rows: Sequence[Group] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend as `sdpa` does, or within groups, for query, key and value (1, heads, L, D)."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if group_rows is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    parts = []
    for group in group_rows:
        q, k, v = (part[:, :, group.prompt] for part in (query, key, value))
        parts.append(sdpa_attention_forward(module, q, k, v, None, **kwargs)[0])
        if not len(group.told):
            continue
        own = [part[0][:, group.places].transpose(0, 1) for part in (query, key, value)]
        seen_k, seen_v = (
            torch.cat([shared.expand(len(mine), -1, -1, -1), mine], dim=2)
            for shared, mine in ((k, own[1]), (v, own[2]))
        )
        mask = group.seen[None, None]
        found, _ = sdpa_attention_forward(module, own[0], seen_k, seen_v, mask, **kwargs)
        parts.append(found.flatten(0, 1)[None, group.told])  # (1, tokens, heads, D)
    return torch.cat(parts, dim=1), None


def _group(prompt: slice, places: Tensor, lengths: Sequence[int]) -> Group:
    longest = max(lengths, default=0)
    times = torch.arange(longest, device=places.device)
    before = torch.ones(longest, prompt.stop - prompt.start, dtype=torch.bool, device=places.device)
    seen = torch.cat([before, times <= times[:, None]], dim=1)
    live = [row * longest + time for row, n in enumerate(lengths) for time in range(n)]
    told = torch.tensor(live, dtype=torch.long, device=places.device)
    return Group(prompt, places[:, :longest], told, seen)
