"""Token weights of one group, position by position, in float64."""

from __future__ import annotations

import numpy as np


def divergence(
    hidden: np.ndarray, mask: np.ndarray, weight: np.ndarray, temperature: float = 1.0
) -> np.ndarray:
    """mean_i KL(p_i ‖ mean p) over live members; hidden (G, T, H), mask (G, T) -> (T,)."""
    result = np.zeros(hidden.shape[1])
    for t in range(hidden.shape[1]):
        live = np.flatnonzero(mask[:, t])
        if len(live) < 2:
            continue
        p = np.stack([_softmax(weight @ hidden[i, t] / temperature) for i in live])
        mean = p.mean(0)
        result[t] = np.mean([np.sum(row * (np.log(row) - np.log(mean))) for row in p])
    return result


def weights(divergence: np.ndarray, mask: np.ndarray, alpha: float) -> np.ndarray:
    """1 + (alpha − 1) · min–max of D over positions with at least two live members; 1 elsewhere."""
    result = np.ones_like(divergence)
    shared = mask.sum(0) >= 2
    if shared.any():
        low, high = divergence[shared].min(), divergence[shared].max()
        if high > low:
            result[shared] = 1 + (alpha - 1) * (divergence[shared] - low) / (high - low)
    return result


def _softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits.astype(np.float64) - logits.max())
    return e / e.sum()
