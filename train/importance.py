"""How much a group of completions disagrees at each token, and the weight this gives the token.

The completions of one prompt disagree where the policy is undecided. TW-GRPO (arXiv 2505.24718)
weights the loss of a token by that disagreement. Here it is a true divergence over the members that
are still writing, taken from the hidden states that generation has already made: one product with
the head, tile by tile, and never a (G, T, V) tensor.

    weights = token_weights(hidden, mask, head.weight, alpha=1.7)       # (N, T)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear, log_softmax

# Elements of one (tile, G, V) block of logits; a few such float32 blocks are alive at once.
TILE_ELEMENTS = 1 << 24

# Divergences closer to each other than this are rounding noise, not to be stretched to [0, 1].
MIN_SPREAD = 1e-5


def token_weights(
    hidden: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    alpha: float = 1.7,
    temperature: float = 1.0,
    tile: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Weights and divergences of the positions of N groups, both (N, T) float32 without gradient.

    hidden (N, G, T, H) predicted the tokens, mask (N, G, T) is 1 where a member has a token, weight
    (V, H) and bias (V,) are the head. See `group_divergence` and `scale_to_alpha`.
    """
    divergence = group_divergence(hidden, mask, weight, bias, temperature=temperature, tile=tile)
    return scale_to_alpha(divergence, mask.bool().sum(1) >= 2, alpha), divergence


@torch.no_grad()
def group_divergence(
    hidden: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    temperature: float = 1.0,
    tile: int | None = None,
) -> Tensor:
    """Generalised Jensen–Shannon divergence of each position's live members, (N, T) float32, nats.

    D_t = mean_i KL(p_i ‖ mean_j p_j),  p_i = softmax((W h_i + b) / temperature),

    over the members i, j that have a token at t; 0 where fewer than two do. Shapes as in
    `token_weights`; `tile` is the number of positions whose (G, V) logits exist at once. Logits
    must be finite: forbid a token by a large negative bias, not by −inf.
    """
    groups, members, length, width = hidden.shape
    if mask.shape != (groups, members, length):
        raise ValueError(f"mask is {tuple(mask.shape)}, hidden is {tuple(hidden.shape)}")
    columns = hidden.transpose(1, 2).reshape(groups * length, members, width)
    live = mask.bool().transpose(1, 2).reshape(groups * length, members)
    divergence = torch.zeros(groups * length, dtype=torch.float32, device=hidden.device)
    shared = (live.sum(1) >= 2).nonzero()[:, 0]
    tile = tile or max(1, TILE_ELEMENTS // (members * weight.shape[0]))
    for chosen in shared.split(tile):
        logits = _logits(columns[chosen], weight, bias)
        divergence[chosen] = _jensen_shannon(logits / temperature, live[chosen]).float()
    return divergence.view(groups, length)


def scale_to_alpha(divergence: Tensor, shared: Tensor, alpha: float) -> Tensor:
    """Stretch each group's divergences over [1, alpha]; (N, T) to (N, T).

    w_t = 1 + (alpha − 1) · (D_t − min D) / (max D − min D), minimum and maximum over the positions
    in `shared` (N, T), which at least two members reached; 1 elsewhere.

    >>> scale_to_alpha(torch.tensor([[0.0, 0.5, 2.0, 0.0]]), torch.tensor([[1, 1, 1, 0]]) > 0, 2.0)
    tensor([[1.0000, 1.2500, 2.0000, 1.0000]])
    """
    low = divergence.masked_fill(~shared, torch.inf).amin(-1, keepdim=True)
    high = divergence.masked_fill(~shared, -torch.inf).amax(-1, keepdim=True)
    scaled = (divergence - low) / (high - low).clamp_min(MIN_SPREAD)
    return torch.where(shared, 1 + (alpha - 1) * scaled, 1.0)


def _jensen_shannon(logits: Tensor, live: Tensor) -> Tensor:
    """(C, G, V) logits and (C, G) live members -> (C,).

    Written as a sum of KL terms: the difference of two entropies would cancel where p_i ≈ mean p.
    """
    log_p = log_softmax(logits, dim=-1)
    share = live.to(log_p.dtype) / live.sum(1, keepdim=True)
    p = log_p.exp() * share[..., None]
    log_mean = p.sum(1, keepdim=True).clamp_min(torch.finfo(log_p.dtype).tiny).log()
    return (p * log_p.sub_(log_mean)).sum((1, 2)).clamp_min(0)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The head's product in float32 or better, from inputs of any precision."""
    if weight.dtype in (torch.float32, torch.float64):
        return linear(hidden.to(weight.dtype), weight, bias)
    flat = hidden.reshape(-1, hidden.shape[-1]).to(weight.dtype)
    if weight.is_cuda:
        logits = torch.mm(flat, weight.t(), out_dtype=torch.float32)
    else:  # a few rows of the head at a time: a float32 copy of a whole one would be large
        parts = [linear(flat.float(), rows.float()) for rows in weight.split(1 << 14)]
        logits = torch.cat(parts, dim=-1)
    logits = logits if bias is None else logits + bias.float()
    return logits.view(*hidden.shape[:-1], -1)
