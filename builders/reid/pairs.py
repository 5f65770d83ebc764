"""Pairs of images: their kinds, and how many to choose.

hard      twins: pairs that the first stage knows nothing about (`builders.reid.twins`)
extreme   pairs that it errs about most (`builders.reid.extreme`)
random    pairs with the labels and cameras of chosen ones (`builders.reid.alike`)
ranked    the head of each anchor's ranking
"""

from __future__ import annotations

from collections.abc import Sequence

HARD_NEGATIVE, HARD_POSITIVE = "hard_negative", "hard_positive"
EXTREME_NEGATIVE, EXTREME_POSITIVE = "extreme_negative", "extreme_positive"
POSITIVE = "positive"  # ranked first by the first stage
RANDOM_NEGATIVE, RANDOM_POSITIVE = "random_negative", "random_positive"
RANKED_NEGATIVE, RANKED_POSITIVE = "ranked_negative", "ranked_positive"
POSITIVES = (HARD_POSITIVE, EXTREME_POSITIVE, POSITIVE, RANDOM_POSITIVE, RANKED_POSITIVE)

BUDGET = 0.209  # pairs per training image of a source, as in ReID-R
EVEN_SHARES = 4  # cap on the pairs of an image or identity, in multiples of its even share


def even_caps(budget: int, images: int, identities: int) -> tuple[int, int]:
    """Return the caps on pairs of an image and of an identity, `EVEN_SHARES` times an even share.

    Each pair has two members.

    >>> even_caps(2704, 12936, 751)
    (4, 29)
    """
    image, identity = (
        max(EVEN_SHARES, -(-EVEN_SHARES * 2 * budget // max(1, n))) for n in (images, identities)
    )
    return image, identity


def quotas(budget: float, sizes: Sequence[int]) -> list[int]:
    """Return the pairs of each source: a share (≤ 1) of its images, or its part of a total (> 1).

    >>> quotas(0.209, [12936, 30248, 7365, 17896])
    [2704, 6322, 1539, 3740]
    >>> quotas(100, [1, 2])
    [33, 67]
    """
    if budget <= 1:
        return [round(budget * size) for size in sizes]
    total, parts = round(budget), [budget * size / sum(sizes) for size in sizes]
    counts = [int(part) for part in parts]
    by_remainder = sorted(range(len(sizes)), key=lambda i: counts[i] - parts[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts
