"""Token weights of one group, position by position, in float64."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def divergence(
    hidden: np.ndarray,
    mask: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | float = 0.0,
    temperature: float = 1.0,
) -> np.ndarray:
    """mean_i KL(p_i ‖ mean p) over live members; hidden (G, T, H), mask (G, T) -> (T,)."""

    def score(p: np.ndarray) -> float:
        return np.mean([_kl(row, p.mean(0)) for row in p])

    return _of_live_members(score, hidden, mask, weight, bias, temperature)


def geometric(
    hidden: np.ndarray,
    mask: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | float = 0.0,
    temperature: float = 1.0,
) -> np.ndarray:
    """mean_i KL(q ‖ p_i), q the normalised geometric mean of the live members' p_i; (T,)."""

    def score(p: np.ndarray) -> float:
        q = np.exp(np.log(p).mean(0))
        return np.mean([_kl(q / q.sum(), row) for row in p])

    return _of_live_members(score, hidden, mask, weight, bias, temperature)


def entropy(
    hidden: np.ndarray,
    mask: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | float = 0.0,
    temperature: float = 1.0,
) -> np.ndarray:
    """mean_i H(p_i) over live members; (T,)."""

    def score(p: np.ndarray) -> float:
        return -np.mean(np.sum(p * np.log(p), axis=1))

    return _of_live_members(score, hidden, mask, weight, bias, temperature)


def weights(scores: np.ndarray, mask: np.ndarray, alpha: float) -> np.ndarray:
    """1 + (alpha − 1) · min–max of D over positions with at least two live members; 1 elsewhere."""
    result = np.ones_like(scores)
    shared = mask.sum(0) >= 2
    if shared.any():
        low, high = scores[shared].min(), scores[shared].max()
        if high > low:
            result[shared] = 1 + (alpha - 1) * (scores[shared] - low) / (high - low)
    return result


def official(logits: Tensor, mask: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Weights and scores (T,) as the published code has them, in the precision of `logits`.

    logits (G, T, V), mask (G, T); several tensors as large as the logits exist at once. Rows of
    ended sequences become uniform, the divergence is an unweighted sum over the vocabulary, and
    positions that nobody reached take part in the minimum and maximum.
    """
    log_p = logits.log_softmax(-1)
    uniform = torch.full_like(log_p, -math.log(logits.shape[-1]))
    log_p = torch.where(mask[..., None].bool(), log_p, uniform)
    d = torch.clamp(log_p.mean(0, keepdim=True) - log_p, -11, 11)
    scores = (torch.exp(d) - d - 1).sum(-1).mean(0)
    scaled = (scores - scores.min()) / (scores.max() - scores.min() + 1e-8)
    return 1 + (alpha - 1) * scaled, scores


def _of_live_members(score, hidden, mask, weight, bias, temperature) -> np.ndarray:
    """`score` of the live members' probabilities (live, V) at each position; 0 below two."""
    result = np.zeros(hidden.shape[1])
    for t in range(hidden.shape[1]):
        live = np.flatnonzero(mask[:, t])
        if len(live) >= 2:
            logits = np.stack([weight @ hidden[i, t] + bias for i in live]) / temperature
            result[t] = score(_softmax(logits.astype(np.float64)))
    return result


def _kl(p: np.ndarray, q: np.ndarray) -> float:
    return float(np.sum(p * (np.log(p) - np.log(q))))


def _softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)
