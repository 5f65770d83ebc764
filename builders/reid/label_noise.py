"""Label doubts: pairs that seem hard because a label may be wrong.

Mining looks for errors of the first stage, and wrong labels are among their causes. So a doubt
needs more than an error: it needs one that is unusual for the encoder at hand, in deviations of
the similarities within an identity between two cameras (`builders.reid.usual`). There are four
signs, each with the reason it is reported under:

    same person      a and n carry different identities but are each other's nearest negative, and
                     s(a, n) − max_p s(a, p) exceeds what is usual (its median, if that is positive)
                     by `UNUSUAL` deviations: a is mislabelled
    near-duplicate   two identities share what looks like one frame
    two people       the images of one identity look like two people (`merged_identities`)
    split identity   two identities look like one person (`split_identities`)

Where there are several encoders, each of them has to see the sign. An image doubted under the first
two is in no pair. A doubt about two identities closes every pair of the two, and one about two
people in one identity the pairs between them. Images are compared in the same clothes where these
are known: a change of clothes is no reason to doubt a label.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from nontrivial.builders.reid.merged_identities import find_merged_identities
from nontrivial.builders.reid.space import Pairs, Space, best_by_row, similarity
from nontrivial.builders.reid.split_identities import find_split_identities
from nontrivial.builders.reid.usual import Usual, spread
from nontrivial.manifests.schema import NOBODY

SAME_PERSON, NEAR_DUPLICATE = "same person", "near-duplicate"
TWO_PEOPLE, SPLIT_IDENTITY = "two people", "split identity"
UNUSUAL = 3.5  # deviations
SAMPLED = 20_000  # positives that tell what is usual for an encoder


@dataclass(frozen=True)
class Doubts:
    """Images and pairs with doubtful labels.

    frame   anchor, candidate (rows), reason, similarity, margin; one row per doubt
    images  (N,) bool: rows that are in no pair
    pids    (N,) int64 identities
    closed  identities that are not paired with each other, as keys of `_keys`
    apart   rows that are not paired with each other, as keys of `_keys`
    """

    frame: pl.DataFrame
    images: np.ndarray
    pids: np.ndarray
    closed: np.ndarray
    apart: np.ndarray

    def believes(self, anchor: np.ndarray, candidate: np.ndarray) -> np.ndarray:
        """Mask the pairs beyond doubt; both are rows, of shapes that broadcast."""
        beyond = ~(self.images[anchor] | self.images[candidate])
        if len(self.closed):
            beyond &= ~np.isin(_keys(self.pids[anchor], self.pids[candidate]), self.closed)
        if len(self.apart):
            beyond &= ~np.isin(_keys(anchor, candidate), self.apart)
        return beyond


def find_doubts(
    space: Space,
    nearest: np.ndarray,
    values: np.ndarray,
    positives: Pairs,
    *,
    least: float = UNUSUAL,
    duplicate: float,
) -> Doubts:
    """Find doubts among the nearest negatives (A, k), similarities `values`, and all positives.

    `least` is in deviations; `duplicate` is the cosine from which two images are one frame.
    """
    first = Pairs(space.anchors, nearest[:, 0], values[:, 0]).where(nearest[:, 0] != NOBODY)
    known = alike(space, positives)
    best_positive, best_negative = (best_by_row(x, len(space.pids)) for x in (known, first))
    within = Usual.of(known.similarity, space.cameras(known))
    merged = known.where(find_merged_identities(space, known, best_negative, within, least))
    halves, margin = find_split_identities(space, nearest, values, known)
    frame = pl.concat(
        [
            _same_person(space, first, best_positive, within, least),
            _near_duplicates(space, first, best_positive, duplicate),
            _doubts(TWO_PEOPLE, merged, best_negative[merged.anchor] - merged.similarity),
            _doubts(SPLIT_IDENTITY, halves, margin),
        ]
    ).sort("anchor", "candidate", "reason")
    for single in _single(space):
        frame = frame.filter(pl.Series(_seen_by(single, frame, known, duplicate)))
    return _as_doubts(frame, space.pids)


def no_doubts(pids: np.ndarray) -> Doubts:
    """Return that every label is believed; pids (N,) int64."""
    nobody = np.empty(0, np.int64)
    return _as_doubts(_doubts(SAME_PERSON, Pairs(nobody, nobody, nobody), nobody), pids)


def _as_doubts(frame: pl.DataFrame, pids: np.ndarray) -> Doubts:
    within = frame["reason"] == TWO_PEOPLE
    inside, between = frame.filter(within), frame.filter(~within)
    images = np.zeros(len(pids), bool)
    images[between.filter(pl.col("reason") != SPLIT_IDENTITY)["anchor"].to_numpy()] = True
    apart = _keys(*(inside[side].to_numpy() for side in ("anchor", "candidate")))
    closed = _keys(*(pids[between[side].to_numpy()] for side in ("anchor", "candidate")))
    return Doubts(frame, images, pids, np.unique(closed), np.unique(apart))


def _keys(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a number for each unordered pair of numbers below 2^31."""
    low, high = np.minimum(a, b).astype(np.int64), np.maximum(a, b).astype(np.int64)
    return (low << 31) | high


def alike(space: Space, pairs: Pairs) -> Pairs:
    """Return the pairs in the same clothes, or with unknown clothes of either image."""
    return pairs.where(_clothes(space, pairs, np.equal))


def changed(space: Space, pairs: Pairs) -> Pairs:
    """Return the pairs in different clothes, or with unknown clothes of either image."""
    return pairs.where(_clothes(space, pairs, np.not_equal))


def _clothes(space: Space, pairs: Pairs, compare: np.ufunc) -> np.ndarray:
    """Mask the pairs (P,) whose clothes compare so, or are unknown of either image."""
    if (space.clothes < 0).all():
        return np.ones(len(pairs.anchor), bool)
    anchor, candidate = space.clothes[pairs.anchor], space.clothes[pairs.candidate]
    return compare(anchor, candidate) | (np.minimum(anchor, candidate) < 0)


def _same_person(
    space: Space, first: Pairs, best_positive: np.ndarray, within: Usual, least: float
) -> pl.DataFrame:
    nearest = np.full(len(space.pids), NOBODY)
    nearest[first.anchor] = first.candidate
    first = first.where(np.isfinite(best_positive[first.anchor]))
    margin = first.similarity - best_positive[first.anchor]
    _, deviation = within.at(space.cameras(first))
    usual, _ = spread(margin)
    doubted = margin - max(0.0, usual) > least * deviation
    doubted &= nearest[first.candidate] == first.anchor
    return _doubts(SAME_PERSON, first.where(doubted), margin[doubted])


def _near_duplicates(
    space: Space, first: Pairs, best_positive: np.ndarray, least: float
) -> pl.DataFrame:
    """Return the pairs whose cosine under the first encoder is at least `least`."""
    single = next(_single(space), None)
    cosine = similarity(single, first.anchor, first.candidate) if single else first.similarity
    same = first.where(cosine >= least)
    return _doubts(NEAR_DUPLICATE, same, same.similarity - best_positive[same.anchor])


def _single(space: Space) -> Iterator[Space]:
    """Yield the space of each encoder alone, good for `similarity`; none if there is only one."""
    if len(space.vectors) > 1:
        even, nothing = np.ones((len(space.pids), 1), np.float32), np.zeros_like(space.offset)
        for x in space.vectors:
            index = np.empty((0, x.shape[1]), np.float32)
            yield replace(space, vectors=(x,), index=index, weight=even, offset=nothing)


def _seen_by(single: Space, frame: pl.DataFrame, known: Pairs, duplicate: float) -> np.ndarray:
    """Mask the doubts (n,) that one encoder alone shares."""
    anchor, candidate, reason = (frame[x].to_numpy() for x in ("anchor", "candidate", "reason"))
    value = similarity(single, anchor, candidate)
    mine = known.where(np.isin(known.anchor, anchor))
    mine = Pairs(mine.anchor, mine.candidate, similarity(single, mine.anchor, mine.candidate))
    best = best_by_row(mine, len(single.pids))[anchor]
    usual, deviation = spread(_sampled(single, known))
    people = [single.pids[rows] for rows in (anchor, candidate)]
    both = frame.select(
        "reason", low=pl.Series(np.minimum(*people)), high=pl.Series(np.maximum(*people))
    )
    mean = (
        both.with_columns(value=pl.Series(value))
        .select(pl.col("value").mean().over("reason", "low", "high"))["value"]
        .to_numpy()
    )
    shared = {
        SAME_PERSON: value > best,
        NEAR_DUPLICATE: value >= duplicate,
        TWO_PEOPLE: mean < usual - deviation,
        SPLIT_IDENTITY: mean > usual - 2 * deviation,
    }
    return np.select([reason == name for name in shared], list(shared.values()), False)


def _sampled(single: Space, known: Pairs) -> np.ndarray:
    """Return similarities of evenly spread positives."""
    at = np.linspace(0, len(known.anchor) - 1, min(SAMPLED, len(known.anchor))).astype(np.int64)
    return similarity(single, known.anchor[at], known.candidate[at])


def _doubts(reason: str, pairs: Pairs, margin: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({**vars(pairs), "margin": margin}).select(
        pl.col("anchor", "candidate").cast(pl.Int64),
        pl.lit(reason).alias("reason"),
        pl.col("similarity", "margin").cast(pl.Float32),
    )
