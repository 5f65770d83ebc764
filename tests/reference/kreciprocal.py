"""k-reciprocal re-ranking on whole matrices, as the paper writes it; for small sets."""

from __future__ import annotations

import numpy as np


def distances(query, gallery, k1=20, k2=6, weight=0.3, verdicts=(), alpha=0.0):
    """Final distances (Q, G) of unit vectors; verdicts are triples (q, g, P(same))."""
    everyone = np.concatenate([query, gallery]).astype(np.float64)
    count = len(everyone)
    original = ((everyone[:, None] - everyone[None]) ** 2).sum(-1)
    original /= original.max(axis=1, keepdims=True)
    for q, g, p_same in verdicts:
        for pair in ((q, len(query) + g), (len(query) + g, q)):
            # From d towards 1 where the verdict is No, towards 0 where it is Yes.
            goal, share = (1, 1 - 2 * p_same) if p_same < 0.5 else (0, 2 * p_same - 1)
            original[pair] += alpha * share * (goal - original[pair])
    order = np.argsort(original, axis=1, kind="stable")

    def reciprocal(i, k):
        return {j for j in order[i, : k + 1] if i in order[j, : k + 1]}

    v = np.zeros((count, count))
    for i in range(count):
        own = reciprocal(i, k1)
        members = set(own)
        for j in own:
            near = reciprocal(j, round(k1 / 2))
            if len(near & own) > 2 / 3 * len(near):
                members |= near
        for j in members:
            v[i, j] = np.exp(-original[i, j])
        v[i] /= v[i].sum()
    v = np.stack([v[order[i, :k2]].mean(axis=0) for i in range(count)])
    shared = np.minimum(v[: len(query), None], v[None, len(query) :]).sum(-1)
    jaccard = 1 - shared / (2 - shared)
    return (1 - weight) * jaccard + weight * original[: len(query), len(query) :]
