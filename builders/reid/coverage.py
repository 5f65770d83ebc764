"""Statistics of chosen pairs: their ranks, difficulty, cameras, identities and bursts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import polars as pl

RANKS = (1, 2, 5, 10, 20, 50, 100)
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


def coverage(
    pairs: pl.DataFrame, pids: np.ndarray, camids: np.ndarray, bursts: np.ndarray | None = None
) -> dict[str, Mapping[str, float]]:
    """Summarise pairs (anchor, candidate, difficulty, rank) by title; the rest is by row.

    A pair counts for both its cameras, and once for each of its identities.
    """
    members = pairs.select("anchor", "candidate").to_numpy()
    cameras = Counter(camids[members].ravel().tolist())
    people = Counter(pid for row in pids[members].tolist() for pid in set(row))
    per_person = np.array(sorted(people.values()) or [0])
    anchors = pairs["anchor"].to_numpy()
    return {
        "rank": rank_histogram(pairs["rank"].to_numpy()),
        "difficulty": quantiles(pairs["difficulty"].to_numpy()),
        "pairs of a camera": {str(camera): count for camera, count in sorted(cameras.items())},
        "pairs of an identity": {
            "identities": len(people),
            "of": len(np.unique(pids)),
            "median": float(np.median(per_person)),
            "most": int(per_person[-1]),
        },
        "anchors": {
            "images": len(np.unique(anchors)),
            "identities": len(np.unique(pids[anchors])),
            "of": len(np.unique(pids)),
        },
        "bursts of anchors": {}
        if bursts is None
        else {"bursts": len(np.unique(bursts[anchors])), "of": len(np.unique(bursts))},
    }


def rank_histogram(ranks: np.ndarray) -> dict[str, int]:
    """Count the ranks up to each of `RANKS` and above the one before it.

    >>> rank_histogram(np.array([1, 1, 4, 300]))
    {'1': 2, '3-5': 1, '101-': 1}
    """
    places = Counter(np.searchsorted(RANKS, ranks, side="left").tolist())
    lows = [1, *(bound + 1 for bound in RANKS)]
    bounds = zip(lows, RANKS, strict=False)
    names = [str(low) if low == high else f"{low}-{high}" for low, high in bounds]
    names.append(f"{lows[-1]}-")
    return {names[place]: count for place, count in sorted(places.items())}


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Return quantiles of the finite values.

    >>> quantiles(np.array([0.0, 1.0, np.inf]))
    {'0%': 0.0, '25%': 0.25, '50%': 0.5, '75%': 0.75, '100%': 1.0}
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {}
    at = np.quantile(finite, QUANTILES)
    return {f"{q:.0%}": round(float(v), 4) for q, v in zip(QUANTILES, at, strict=True)}
