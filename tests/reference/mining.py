"""Mining by the definitions: loops over all pairs, float64, no index."""

from __future__ import annotations

from collections import Counter

import numpy as np

from nontrivial.builders.reid.space import Space


def fused_similarity(space: Space, anchor: int, candidate: int) -> float:
    """Cosine of a single encoder; of several the mean z-score among the anchor's candidates."""
    scores = []
    for vectors in space.vectors:
        x = vectors.astype(np.float64)
        score = x[candidate] @ x[anchor]
        if len(space.vectors) > 1:
            all_scores = x[others(space, anchor)] @ x[anchor]
            score = (score - all_scores.mean()) / all_scores.std()
        scores.append(score)
    return float(np.mean(scores))


def others(space: Space, anchor: int) -> list[int]:
    """Candidates of other cameras."""
    return [int(c) for c in space.candidates if space.camids[c] != space.camids[anchor]]


def negatives(space: Space, anchor: int) -> list[tuple[float, int]]:
    """All negatives of an anchor as (similarity, row), best first."""
    rows = [c for c in others(space, anchor) if space.pids[c] != space.pids[anchor]]
    return sorted(((fused_similarity(space, anchor, c), c) for c in rows), key=lambda n: -n[0])


def positives(space: Space, anchor: int) -> list[int]:
    return [c for c in others(space, anchor) if space.pids[c] == space.pids[anchor]]


def rank(space: Space, anchor: int, candidate: int, tolerance: float) -> tuple[int, int]:
    """The least and the largest rank, if similarities may be off by the tolerance."""
    own = fused_similarity(space, anchor, candidate)
    rivals = [s for s, c in negatives(space, anchor) if c != candidate]
    best, worst = (sum(s > own + shift for s in rivals) for shift in (tolerance, -tolerance))
    return 1 + best, 1 + worst


def choose(
    pairs: list[tuple[int, int, float, bool]],
    pids: np.ndarray,
    quota: dict[bool, int],
    per_image: int,
    per_identity: int,
) -> list[tuple[int, int]]:
    """Greedy by falling margin over (anchor, candidate, margin, positive), ties by lower rows."""
    taken: list[tuple[int, int]] = []
    images: Counter[int] = Counter()
    people: Counter[int] = Counter()
    left = dict(quota)
    for a, c, _, positive in sorted(
        pairs, key=lambda p: (-p[2], min(p[0], p[1]), max(p[0], p[1]), p[0])
    ):
        seen = (a, c) in taken or (c, a) in taken
        full = max(images[a], images[c]) >= per_image
        full |= max(people[pids[a]], people[pids[c]]) >= per_identity
        if seen or full or not left[positive]:
            continue
        taken.append((a, c))
        left[positive] -= 1
        images.update((a, c))
        people.update({pids[a], pids[c]})
    return taken


def auc(similarity: np.ndarray, same: np.ndarray) -> float:
    wins = [float(p > n) + 0.5 * float(p == n) for p in similarity[same] for n in similarity[~same]]
    return float(np.mean(wins))
