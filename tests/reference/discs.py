"""Discs that move and collide, in small steps: slow, plain, approximately right."""

from __future__ import annotations

import numpy as np


def simulate_in_small_steps(
    start: np.ndarray,
    velocity: np.ndarray,
    frames: int,
    radius: float,
    size: tuple[int, int],
    steps: int = 400,
) -> tuple[np.ndarray, set[tuple[int, int]]]:
    """Positions at each frame (frames, n, 2), and the pairs that touched before the last frame."""
    p, v = start.astype(float).copy(), velocity.astype(float).copy()
    shown, hits = [p.copy()], set()
    for _ in range(frames - 1):
        for _ in range(steps):
            p += v / steps
            for axis in (0, 1):
                low, high = p[:, axis] < radius, p[:, axis] > size[axis] - radius
                v[low, axis], v[high, axis] = abs(v[low, axis]), -abs(v[high, axis])
            for i in range(len(p)):
                for j in range(i + 1, len(p)):
                    gap = p[j] - p[i]
                    if gap @ gap < 4 * radius**2 and (v[j] - v[i]) @ gap < 0:
                        unit = gap / np.linalg.norm(gap)
                        exchange = ((v[i] - v[j]) @ unit) * unit
                        v[i], v[j] = v[i] - exchange, v[j] + exchange
                        hits.add((i, j))
        shown.append(p.copy())
    return np.stack(shown), hits
