"""Which pairs of images are non-trivial, and why.

For an anchor a and images of other cameras, with similarity s of a first stage:

    hard negative n   another identity inside the anchor's top k
    hard positive p   the same identity, ranked below at least one other identity
    margin            s(a, n) − max_p s(a, p)   of a negative, by how much it looks more like a than
                      the best positive; max_n s(a, n) − s(a, p)   of a positive, by how much
                      somebody else looks more like a

The larger the margin, the harder the pair. ReID-R style: its exact rule is not public.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl

HARD_NEGATIVE, HARD_POSITIVE = "hard_negative", "hard_positive"
POSITIVE = "positive"  # a positive that the first stage ranks first
RANDOM_NEGATIVE, RANDOM_POSITIVE = "random_negative", "random_positive"
POSITIVES = (HARD_POSITIVE, POSITIVE, RANDOM_POSITIVE)

BUDGET = 0.209  # of a source's training images, ReID-R's share
EVEN_SHARES = 4  # an image or an identity may come up to this many times its even share
REDRAWS = 100


def negatives(
    anchors: np.ndarray, index: np.ndarray, similarity: np.ndarray, best_positive: np.ndarray
) -> pl.DataFrame:
    """Hard negatives: each anchor against its nearest negatives.

    anchors (A,) rows; index (A, k) rows, −1 where there is none; similarity (A, k); best_positive
    (N,) by row, −inf where an anchor has no positive in another camera: no margin is defined then
    and none of its negatives is taken. Returns columns anchor, candidate, similarity, margin, kind.
    """
    anchor = np.broadcast_to(anchors[:, None], index.shape)
    real = (index >= 0) & np.isfinite(best_positive[anchor])
    anchor, candidate, values = anchor[real], index[real], similarity[real]
    return _pairs(anchor, candidate, values, values - best_positive[anchor], HARD_NEGATIVE)


def positives(
    anchor: np.ndarray, candidate: np.ndarray, similarity: np.ndarray, best_negative: np.ndarray
) -> pl.DataFrame:
    """All positives (P,) with their margins against best_negative (N,) by row; hard ones marked.

    Returns columns anchor, candidate, similarity, margin, kind.
    """
    margin = best_negative[anchor] - similarity
    kind = np.where(margin > 0, HARD_POSITIVE, POSITIVE)
    real = np.isfinite(margin)
    return _pairs(anchor[real], candidate[real], similarity[real], margin[real], kind[real])


def choose(
    pairs: pl.DataFrame,
    pids: np.ndarray,
    budget: int,
    *,
    per_image: int | None = None,
    per_identity: int | None = None,
) -> pl.DataFrame:
    """The hardest pairs within a budget, half of them positives; pids (N,) by row.

    Greedy by margin, ties by row. No pair is taken twice in either order, and no image or identity
    more often than its cap (by default four times its even share). If either half comes short, so
    does the other.
    """
    ordered = _hardest_first(pairs)
    images = np.union1d(ordered["low"].to_numpy(), ordered["high"].to_numpy())
    caps = (
        per_image or _default_cap(budget, len(images)),
        per_identity or _default_cap(budget, len(np.unique(pids[images]))),
    )
    quota = {True: budget // 2, False: budget - budget // 2}
    chosen = _take(ordered, pids, quota, caps)
    right = chosen["kind"].is_in(POSITIVES).sum()
    if chosen.height < budget:
        half = min(right, chosen.height - right)
        chosen = _take(ordered, pids, {True: half, False: half}, caps)
    return chosen.select(pairs.columns)


def draw_alike(
    pairs: pl.DataFrame,
    anchors: np.ndarray,
    candidates: np.ndarray,
    pids: np.ndarray,
    camids: np.ndarray,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Random pairs with the labels and the cameras of `pairs`, one for one.

    Each has the anchor's camera, the candidate's camera and the label of the pair it stands for. It
    is drawn evenly from all such pairs, none twice in either order. anchors (A,) and candidates
    (C,) are rows, pids and camids (N,) by row. Returns columns anchor, candidate, kind.
    """
    wanted = pairs.select(
        pl.Series("asks", camids[pairs["anchor"].to_numpy()]),
        pl.Series("answers", camids[pairs["candidate"].to_numpy()]),
        pl.Series("positive", pairs["kind"].is_in(POSITIVES)),
    )
    counts = wanted.group_by(pl.all()).len().sort("asks", "answers", "positive")
    seen: set[tuple[int, int]] = set()
    drawn: list[tuple[int, int, str]] = []
    for asks, answers, positive, count in counts.rows():
        asking = anchors[camids[anchors] == asks]
        answering = candidates[camids[candidates] == answers]
        draw = _all_positives if positive else _draws_of_negatives
        kind = RANDOM_POSITIVE if positive else RANDOM_NEGATIVE
        found = _first_new(draw(asking, answering, pids, count, rng), count, seen)
        drawn += [(anchor, candidate, kind) for anchor, candidate in found]
    schema = {"anchor": pl.Int64, "candidate": pl.Int64, "kind": pl.String}
    return pl.DataFrame(drawn, schema=schema, orient="row")


def first_stage_auc(similarity: np.ndarray, same: np.ndarray) -> float:
    """P(s(positive) > s(negative)) over all pairs of a positive and a negative, ties half.

    >>> float(first_stage_auc(np.array([0.9, 0.2, 0.5]), np.array([True, True, False])))
    0.5
    """
    positive, negative = similarity[same], np.sort(similarity[~same])
    if not len(positive) or not len(negative):
        return float("nan")
    below = np.searchsorted(negative, positive, side="left")
    not_above = np.searchsorted(negative, positive, side="right")
    return float((below + not_above).mean() / 2 / len(negative))


def quotas(budget: float, sizes: Sequence[int]) -> list[int]:
    """Pairs for each source: a share (≤ 1) of its images, or its part of a total (> 1).

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


def _pairs(
    anchor: np.ndarray,
    candidate: np.ndarray,
    similarity: np.ndarray,
    margin: np.ndarray,
    kind: str | np.ndarray,
) -> pl.DataFrame:
    frame = pl.DataFrame(
        {"anchor": anchor, "candidate": candidate, "similarity": similarity, "margin": margin}
    )
    return frame.with_columns(kind=pl.lit(kind) if isinstance(kind, str) else pl.Series(kind))


def _hardest_first(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs by falling margin, the harder order of each pair only, with `low` < `high` rows."""
    sided = pairs.with_columns(
        low=pl.min_horizontal("anchor", "candidate"), high=pl.max_horizontal("anchor", "candidate")
    )
    keys = ["margin", "low", "high", "anchor"]
    ordered = sided.sort(keys, descending=[True, False, False, False])
    return ordered.unique(["low", "high"], keep="first", maintain_order=True)


def _take(
    ordered: pl.DataFrame, pids: np.ndarray, quota: Mapping[bool, int], caps: tuple[int, int]
) -> pl.DataFrame:
    """Go through pairs in order and take what quota and caps leave room for."""
    per_image, per_identity = caps
    left = dict(quota)
    images: dict[int, int] = {}
    identities: dict[int, int] = {}
    kept = []
    columns = (ordered["low"], ordered["high"], ordered["kind"].is_in(POSITIVES))
    for place, (low, high, positive) in enumerate(zip(*columns, strict=True)):
        people = {int(pids[low]), int(pids[high])}
        if left[positive] <= 0 or any(identities.get(p, 0) >= per_identity for p in people):
            continue
        if images.get(low, 0) >= per_image or images.get(high, 0) >= per_image:
            continue
        left[positive] -= 1
        kept.append(place)
        for row in (low, high):
            images[row] = images.get(row, 0) + 1
        for person in people:
            identities[person] = identities.get(person, 0) + 1
        if not any(left.values()):
            break
    return ordered[kept]


def _default_cap(budget: int, members: int) -> int:
    """Each pair has two members."""
    return max(EVEN_SHARES, -(-EVEN_SHARES * 2 * budget // max(1, members)))


def _all_positives(
    asking: np.ndarray,
    answering: np.ndarray,
    pids: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> Iterable[tuple[int, int]]:
    """Every pair of one identity, in random order."""
    by_pid: dict[int, list[int]] = {}
    for row in answering.tolist():
        by_pid.setdefault(int(pids[row]), []).append(row)
    pairs = [(a, c) for a in asking.tolist() for c in by_pid.get(int(pids[a]), ())]
    return (pairs[i] for i in rng.permutation(len(pairs)))


def _draws_of_negatives(
    asking: np.ndarray,
    answering: np.ndarray,
    pids: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> Iterable[tuple[int, int]]:
    """Draws of two identities, `count` at a time until far more were drawn than can be needed."""
    for _ in range(REDRAWS):
        anchor, candidate = rng.choice(asking, count), rng.choice(answering, count)
        apart = pids[anchor] != pids[candidate]
        yield from zip(anchor[apart].tolist(), candidate[apart].tolist(), strict=True)


def _first_new(
    draws: Iterable[tuple[int, int]], count: int, seen: set[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The first `count` draws that were not seen in either order; from now on they are."""
    found: list[tuple[int, int]] = []
    for anchor, candidate in draws:
        key = (min(anchor, candidate), max(anchor, candidate))
        if key not in seen:
            seen.add(key)
            found.append((anchor, candidate))
        if len(found) == count:
            break
    return found
