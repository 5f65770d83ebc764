"""Batches of rollouts: rows of one prompt stand together, a group each, and stay together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

# Tensors with one column a token; prompts are padded on the left, everything else on the right.
PROMPT_SIDE = ("prompt_ids", "prompt_mask")

Batch = dict[str, Any]


def take(batch: Batch, rows: Tensor) -> Batch:
    """The rows (B',) of every entry of a batch; entries that are no rows stay as they are."""
    return {name: _take(value, rows) for name, value in batch.items()}


def shuffled_groups(rows: int, group: int) -> Tensor:
    """A permutation of `rows` that keeps each run of `group` rows together and in order."""
    first = torch.randperm(rows // group)[:, None] * group
    return (first + torch.arange(group)).flatten()


def rows_of(groups: Tensor, group: int) -> Tensor:
    """The rows of groups (K,) -> (K · group,).

    >>> rows_of(torch.tensor([2, 0]), 3)
    tensor([6, 7, 8, 0, 1, 2])
    """
    return (groups[:, None] * group + torch.arange(group, device=groups.device)).flatten()


def varied(advantages: Tensor, group: int) -> Tensor:
    """(B,) bool: rows whose group got different rewards, so that there is something to learn."""
    largest = advantages.view(-1, group).abs().amax(1)
    return (largest > 1e-6).repeat_interleave(group)


def with_groups_replaced(batch: Batch, fresh: Batch, group: int, pad_token_id: int) -> Batch:
    """A batch whose groups without variance are replaced by varied groups of another, in order.

    There may be too few of them; the rest stays. Token columns are padded to one length.
    """
    stale = (~batch["varied"][::group]).nonzero()[:, 0]
    useful = fresh["varied"][::group].nonzero()[:, 0]
    count = min(len(stale), len(useful))
    into, out = rows_of(stale[:count], group), rows_of(useful[:count], group)
    result = {}
    for name, value in batch.items():
        if isinstance(value, list):
            result[name] = list(value)
            for row, other in zip(into.tolist(), out.tolist(), strict=True):
                result[name][row] = fresh[name][other]
        elif isinstance(value, Tensor) and value.ndim > 0:
            fill = pad_token_id if name in ("prompt_ids", "completion_ids") else 0
            old, new = _one_width(value, fresh[name], fill, left=name in PROMPT_SIDE)
            result[name] = old.clone()
            result[name][into] = new[out]
        else:
            result[name] = value
    return result


def masked_to_varied(batch: Batch) -> Batch:
    """All rows, so that processes gather equal numbers, but no loss outside varied groups."""
    kept = batch["varied"][:, None].expand_as(batch["completion_mask"]).long()
    return batch | {"tool_mask": kept}


def only_varied(batch: Batch) -> Batch:
    """The rows of varied groups; where there is none one row stays, whose gradient is zero."""
    chosen = batch["varied"].clone()
    chosen[0] |= ~chosen.any()
    return take(batch, chosen.nonzero()[:, 0])


def _take(value: Any, rows: Tensor) -> Any:
    if isinstance(value, list):
        return [value[row] for row in rows.tolist()]
    return value if value is None or value.ndim == 0 else value[rows.to(value.device)]


def _one_width(a: Tensor, b: Tensor, fill: int, *, left: bool) -> tuple[Tensor, Tensor]:
    """Two tensors (B, T) and (B', T') padded to the longer of both; (B,) tensors as they are."""
    if a.ndim == 1:
        return a, b
    width = max(a.shape[1], b.shape[1])
    short = [width - a.shape[1], width - b.shape[1]]
    sides = [(n, 0) if left else (0, n) for n in short]
    return pad(a, sides[0], value=fill), pad(b, sides[1], value=fill)
