"""Weights of tokens from the disagreement of a group's predictions.

The completions of one prompt disagree where the policy is undecided. TW-GRPO (arXiv 2505.24718)
weights the loss of a token by that disagreement. Here it is a true divergence over the members that
have not ended. It is computed from hidden states, which generation has already made, by one product
with the head, tile by tile: no (G, T, V) tensor is ever held.

    weights, scores = token_weights(hidden, mask, head.weight, alpha=1.7)       # both (N, T)

The measures share that product and differ in the score of a position's logits:

divergence  mean_i KL(p_i ‖ mean_j p_j), the generalised Jensen–Shannon divergence (the default)
geometric   mean_i KL(q ‖ p_i) = mean_i L_i − logsumexp(mean_i z_i), q the normalised geometric mean
entropy     mean_i H(p_i): the uncertainty of the members, whether or not they disagree
official    the score of the published code, which is no divergence and tracks length; for parity
visual      mean_i KL(p_i ‖ p_i without the media): how much a prediction rests on what is seen; it
            needs the states `blind` of a pass over prompts without media
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear, log_softmax

# Elements of one (tile, G, V) block of logits; a few such float32 blocks are alive at once.
TILE_ELEMENTS = 1 << 24

# A smaller spread of scores is rounding noise, and is not stretched to [0, 1].
MIN_SPREAD = 1e-5

# Constants of the published code.
OFFICIAL_CLAMP, OFFICIAL_EPSILON = 11.0, 1e-8

VISUAL = "visual"


def token_weights(
    hidden: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    measure: str = "divergence",
    alpha: float = 1.7,
    temperature: float = 1.0,
    normalize: bool = False,
    tile: int | None = None,
    blind: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return weights and scores of the positions of N groups, (N, T) float32 without gradient.

    `hidden` (N, G, T, H) predicted the tokens, `mask` (N, G, T) is 1 where a member has a token,
    `weight` (V, H) and `bias` (V,) are the head, `blind` (N, G, T, H) are the states without media
    that `visual` needs. Scores are scaled to weights by `scale_to_alpha`,
    or by `scale_as_published` for the measure `official`; with `normalize` the weights average 1
    over the tokens of each group. Raises `ValueError` for an unknown measure or mismatched shapes.
    """
    scores = token_scores(
        hidden,
        mask,
        weight,
        bias,
        measure=measure,
        temperature=temperature,
        tile=tile,
        blind=blind,
    )
    live = mask.bool().sum(1)
    if measure == "official":
        weights = scale_as_published(scores, alpha)
    else:
        weights = scale_to_alpha(scores, live >= 2, alpha)
    return normalized(weights, live) if normalize else weights, scores


@torch.no_grad()
def token_scores(
    hidden: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    measure: str = "divergence",
    temperature: float = 1.0,
    tile: int | None = None,
    blind: Tensor | None = None,
) -> Tensor:
    """Score the disagreement of each position's members by `measure`: (N, T) float32, in nats.

    p_i = softmax((W h_i + b) / temperature) over the members i that have a token at t; the score is
    0 where fewer than two do. (`official` takes members that ended as uniform, and is 0 only where
    all have.) Shapes are those of `token_weights`; `tile` is the number of positions whose (G, V)
    logits exist at once. Logits must be finite: forbid a token by a large negative bias, not −inf.
    """
    groups, members, length, width = hidden.shape
    if mask.shape != (groups, members, length):
        raise ValueError(f"mask is {tuple(mask.shape)}, hidden is {tuple(hidden.shape)}")
    if measure not in (*MEASURES, VISUAL):
        raise ValueError(f"measure is {measure!r}; one of {', '.join((*MEASURES, VISUAL))}")
    if (measure == VISUAL) != (blind is not None):
        raise ValueError(f"the states without media (blind) are for the measure {VISUAL}, and only")

    def by_position(states: Tensor) -> Tensor:
        return states.transpose(1, 2).reshape(groups * length, members, width)

    def log_p(states: Tensor) -> Tensor:
        return log_softmax(_logits(states, weight, bias).div_(temperature), dim=-1)

    columns, unseen = by_position(hidden), None if blind is None else by_position(blind)
    live = mask.bool().transpose(1, 2).reshape(groups * length, members)
    scores = torch.zeros(groups * length, dtype=torch.float32, device=hidden.device)
    least = 1 if measure == "official" else 2
    scored = (live.sum(1) >= least).nonzero()[:, 0]
    tile = tile or max(1, TILE_ELEMENTS // (members * weight.shape[0]))
    for chosen in scored.split(tile):
        seen, shared = log_p(columns[chosen]), live[chosen]
        if unseen is None:
            scores[chosen] = MEASURES[measure](seen, shared).float()
        else:
            scores[chosen] = _visual(seen, log_p(unseen[chosen]), shared).float()
    return scores.view(groups, length)


def scale_to_alpha(scores: Tensor, shared: Tensor, alpha: float) -> Tensor:
    """Scale each group's scores (N, T) to weights (N, T) in [1, alpha].

    w_t = 1 + (alpha − 1) · (D_t − min D) / (max D − min D), minimum and maximum over the positions
    in `shared` (N, T) bool, which at least two members reached; 1 elsewhere.

    >>> scale_to_alpha(torch.tensor([[0.0, 0.5, 2.0, 0.0]]), torch.tensor([[1, 1, 1, 0]]) > 0, 2.0)
    tensor([[1.0000, 1.2500, 2.0000, 1.0000]])
    """
    low = scores.masked_fill(~shared, torch.inf).amin(-1, keepdim=True)
    high = scores.masked_fill(~shared, -torch.inf).amax(-1, keepdim=True)
    scaled = (scores - low) / (high - low).clamp_min(MIN_SPREAD)
    return torch.where(shared, 1 + (alpha - 1) * scaled, 1.0)


def scale_as_published(scores: Tensor, alpha: float) -> Tensor:
    """Return w_t = 1 + (alpha − 1) · (D_t − min D) / (max D − min D + 1e-8), over all T positions.

    Padding counts, as in the published code.

    >>> scale_as_published(torch.tensor([[1.0, 3.0, 0.0]]), 4.0)
    tensor([[2., 4., 1.]])
    """
    low, high = scores.amin(-1, keepdim=True), scores.amax(-1, keepdim=True)
    return 1 + (alpha - 1) * (scores - low) / (high - low + OFFICIAL_EPSILON)


def normalized(weights: Tensor, live: Tensor) -> Tensor:
    """Divide weights (N, T) by their mean over a group's tokens; `live` (N, T) counts the tokens.

    The loss keeps its scale, and weighting only moves it between tokens.

    >>> normalized(torch.tensor([[1.0, 3.0, 1.0]]), torch.tensor([[2, 2, 0]]))
    tensor([[0.5000, 1.5000, 0.5000]])
    """
    mean = (weights * live).sum(-1, keepdim=True) / live.sum(-1, keepdim=True).clamp_min(1)
    return torch.where(mean > 0, weights / mean, weights)


def warmed_alpha(alpha: float, step: int, warmup_steps: int) -> float:
    """Return the largest weight at a step (from 0): 1 + (alpha − 1) · min(1, (step + 1) / n).

    >>> [round(warmed_alpha(1.8, step, 4), 2) for step in (0, 1, 3, 9)], warmed_alpha(1.8, 0, 0)
    ([1.2, 1.4, 1.8, 1.8], 1.8)
    """
    reached = min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0
    return 1 + (alpha - 1) * reached


def _divergence(log_p: Tensor, live: Tensor) -> Tensor:
    """Return mean_i KL(p_i ‖ mean_j p_j) (C,) of log-probabilities (C, G, V), live (C, G).

    A sum of KL terms: a difference of two entropies would cancel where p_i ≈ mean p.
    """
    p = log_p.exp() * _share(live, log_p)
    log_mean = p.sum(1, keepdim=True).clamp_min(torch.finfo(log_p.dtype).tiny).log()
    return (p * log_p.sub_(log_mean)).sum((1, 2)).clamp_min(0)


def _geometric(log_p: Tensor, live: Tensor) -> Tensor:
    """Return mean_i KL(q ‖ p_i) = −log Σ_v exp(mean_i log p_i(v)): the terms with q cancel."""
    return -(log_p * _share(live, log_p)).sum(1).logsumexp(-1).clamp_max(0)


def _entropy(log_p: Tensor, live: Tensor) -> Tensor:
    """Return mean_i H(p_i) = −mean_i Σ_v p_i(v) log p_i(v)."""
    return -(log_p.exp() * log_p * _share(live, log_p)).sum((1, 2))


def _official(log_p: Tensor, live: Tensor) -> Tensor:
    """Return mean_i Σ_v (e^d − d − 1), d = mean_j log p_j − log p_i in ±11, ended p_i uniform."""
    log_p = log_p.masked_fill(~live[..., None], -math.log(log_p.shape[-1]))
    d = (log_p.mean(1, keepdim=True) - log_p).clamp_(-OFFICIAL_CLAMP, OFFICIAL_CLAMP)
    return (d.expm1() - d).sum(-1).mean(1)


def _visual(log_p: Tensor, log_unseen: Tensor, live: Tensor) -> Tensor:
    """Return mean_i KL(p_i ‖ p_i without the media), (C,)."""
    p = log_p.exp() * _share(live, log_p)
    return (p * (log_p - log_unseen)).sum((1, 2)).clamp_min(0)


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "divergence": _divergence,
    "geometric": _geometric,
    "official": _official,
    "entropy": _entropy,
}


def _share(live: Tensor, like: Tensor) -> Tensor:
    """Return (C, G, 1): one over the number of live members, 0 for ended ones; live (C, G)."""
    return (live.to(like.dtype) / live.sum(1, keepdim=True))[..., None]


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return W h + b in float32 or better, from inputs of any precision."""
    if weight.dtype in (torch.float32, torch.float64):
        return linear(hidden.to(weight.dtype), weight, bias)
    flat = hidden.reshape(-1, hidden.shape[-1]).to(weight.dtype)
    if weight.is_cuda:
        logits = torch.mm(flat, weight.t(), out_dtype=torch.float32)
    else:  # a few rows of the head at a time: a float32 copy of all would be large
        parts = [linear(flat.float(), rows.float()) for rows in weight.split(1 << 14)]
        logits = torch.cat(parts, dim=-1)
    logits = logits if bias is None else logits + bias.float()
    return logits.view(*hidden.shape[:-1], -1)
