"""Batches of rollouts: take, shuffle and replace rows, group by group."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

# Tensors that are padded on the left; all others with one column per token, on the right.
PROMPT_SIDE = ("prompt_ids", "prompt_mask")
LEAST = 1e-6  # difference of two rewards that are not equal

# Tensors (B, …), lists of B values, and values that belong to no row. Rows of one prompt are
# consecutive: its group.
Batch = dict[str, Any]


def take(batch: Batch, rows: Tensor) -> Batch:
    """Return the rows (B',) of every entry of a batch; entries without rows stay as they are."""
    return {name: _take(value, rows) for name, value in batch.items()}


def shuffled_groups(rows: int, group: int) -> Tensor:
    """Return a permutation of `rows` that keeps each run of `group` rows together and in order."""
    return rows_of(torch.randperm(rows // group), group)


def rows_of(groups: Tensor, group: int) -> Tensor:
    """Return the rows (K · group,) of groups (K,).

    >>> rows_of(torch.tensor([2, 0]), 3)
    tensor([6, 7, 8, 0, 1, 2])
    """
    return (groups[:, None] * group + torch.arange(group, device=groups.device)).flatten()


def differ(earned: Tensor, group: int) -> Tensor:
    """Return (B,) bool, true for rows of groups that differ in a column of rewards (B, F).

    NaN is no reward. Of rewards, not of advantages: those of a group of thirds divide the rounding
    of their mean by that of their deviation.
    """
    groups = earned.view(len(earned) // group, group, -1)
    most = groups.nan_to_num(nan=-torch.inf).amax(1)
    least = groups.nan_to_num(nan=torch.inf).amin(1)
    return (most - least > LEAST).any(1).repeat_interleave(group)


def varied(advantages: Tensor, group: int) -> Tensor:
    """Return (B,) bool, true for rows of groups with advantages (B,): those have a gradient."""
    largest = advantages.view(-1, group).abs().amax(1)
    return (largest > LEAST).repeat_interleave(group)


def with_groups_replaced(batch: Batch, fresh: Batch, group: int, pad_token_id: int) -> Batch:
    """Replace groups without variance, in order, by varied groups of the batch `fresh`.

    Where `fresh` has too few, the rest stays. Token columns are padded to one length.
    """
    stale = (~batch["varied"][::group]).nonzero()[:, 0]
    useful = fresh["varied"][::group].nonzero()[:, 0]
    count = min(len(stale), len(useful))
    rows = torch.arange(len(batch["varied"]), device=stale.device)
    rows[rows_of(stale[:count], group)] = rows_of(useful[:count], group) + len(rows)
    both = dict(batch)
    for name, value in batch.items():
        if isinstance(value, list):
            both[name] = value + fresh[name]
        elif isinstance(value, Tensor) and value.ndim > 0:
            fill = pad_token_id if name in ("prompt_ids", "completion_ids") else 0
            both[name] = _joined(value, fresh[name], fill, left=name in PROMPT_SIDE)
    return take(both, rows)


def masked_to_varied(batch: Batch) -> Batch:
    """Mask the loss outside varied groups; rows stay, so that processes gather equal numbers."""
    kept = batch["varied"][:, None].expand_as(batch["completion_mask"]).long()
    return batch | {"tool_mask": kept}


def only_varied(batch: Batch) -> Batch:
    """Return the rows of varied groups; if there are none, one row of another."""
    chosen = batch["varied"].clone()
    chosen[0] |= ~chosen.any()
    return take(batch, chosen.nonzero()[:, 0])


def tokens(batch: Batch) -> Tensor:
    """Return the number of completion tokens that are in the loss."""
    mask = batch["completion_mask"]
    return (mask * batch["tool_mask"]).sum() if "tool_mask" in batch else mask.sum()


def varied_tokens(batch: Batch) -> Tensor:
    """Return the number of completion tokens in varied groups."""
    return (batch["completion_mask"] * batch["varied"][:, None]).sum()


def _take(value: Any, rows: Tensor) -> Any:
    if isinstance(value, list):
        return [value[row] for row in rows.tolist()]
    return value if value is None or value.ndim == 0 else value[rows.to(value.device)]


def _joined(a: Tensor, b: Tensor, fill: int, *, left: bool) -> Tensor:
    """Concatenate tensors (B, T) and (B', T'), padded to the longer of both, or (B,) and (B',)."""
    if a.ndim == 1:
        return torch.cat([a, b])
    missing = [max(a.shape[1], b.shape[1]) - x.shape[1] for x in (a, b)]
    sides = [(n, 0) if left else (0, n) for n in missing]
    return torch.cat([pad(x, side, value=fill) for x, side in zip((a, b), sides, strict=True)])
