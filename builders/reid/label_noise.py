"""Label doubts: pairs that seem hard because a label may be wrong.

Mining looks for errors of the first stage, and wrong labels cause most of these. There are four
signs, each with the reason it is reported under:

    same person      a and n carry different identities but are each other's nearest negative, and
                     n is closer to a than a's best positive by a wide margin: a is mislabelled
    near-duplicate   two identities share what looks like one frame
    two people       the images of one identity look like two people (`merged_identities`)
    split identity   two identities look like one person (`split_identities`)

An image doubted under the first two is in no pair. For two people in one identity, and for the
halves of a split one, only pairs between the two are left out. Images are compared in the same
clothes where these are known: a change of clothes is no reason to doubt a label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from nontrivial.builders.reid.merged_identities import find_merged_identities
from nontrivial.builders.reid.space import Pairs, Space, deviation, similarity
from nontrivial.builders.reid.split_identities import find_split_identities
from nontrivial.manifests.schema import NOBODY

SAME_PERSON, NEAR_DUPLICATE = "same person", "near-duplicate"
TWO_PEOPLE, SPLIT_IDENTITY = "two people", "split identity"
OF_PAIRS = (TWO_PEOPLE, SPLIT_IDENTITY)


@dataclass(frozen=True)
class Doubts:
    """Images and pairs with doubtful labels.

    frame    anchor, candidate (rows), reason, similarity, margin; one row per doubt
    images   (N,) bool: rows that are in no pair
    partner  (N,) int64: the identity that seems to be the same person, −1 where there is none
    """

    frame: pl.DataFrame
    images: np.ndarray
    partner: np.ndarray

    def clear(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """Return the pairs without any doubt."""
        anchor, candidate = pairs["anchor"].to_numpy(), pairs["candidate"].to_numpy()
        doubted = self.images[anchor] | self.images[candidate]
        pairs, key = pairs.filter(~pl.Series(doubted)), ["anchor", "candidate"]
        return pairs.join(self.apart(), key, how="anti", maintain_order="left")

    def apart(self) -> pl.DataFrame:
        """Return the pairs of rows, in both orders, of which only the pair is in doubt."""
        pairs = self.frame.filter(pl.col("reason").is_in(OF_PAIRS)).select("anchor", "candidate")
        swapped = pairs.select(anchor="candidate", candidate="anchor")
        return pl.concat([pairs, swapped]).unique(maintain_order=True)

    def believed_negatives(self, space: Space, nearest: np.ndarray) -> np.ndarray:
        """Mask the anchors' nearest negatives (A, k) that are beyond doubt, (A, k) bool."""
        partner = self.partner[space.anchors, None]
        return (nearest != NOBODY) & ~self.images[nearest] & (space.pids[nearest] != partner)


def find_doubts(
    space: Space,
    nearest: np.ndarray,
    values: np.ndarray,
    positives: Pairs,
    *,
    wide: float,
    duplicate: float,
) -> Doubts:
    """Find doubts among the nearest negatives (A, k), similarities `values`, and all positives.

    `wide` is in standard deviations of the anchor's similarities; `duplicate` is the cosine,
    averaged over encoders, from which two images are one frame.
    """
    first = Pairs(space.anchors, nearest[:, 0], values[:, 0]).where(nearest[:, 0] != NOBODY)
    known = alike(space, positives)
    best_positive, best_negative = (best_by_row(x, len(space.pids)) for x in (known, first))
    merged = known.where(find_merged_identities(space, known, best_negative))
    halves, margin = find_split_identities(space, nearest, values, known)
    partner = np.full(int(space.pids.max()) + 1, NOBODY)
    partner[space.pids[halves.anchor]] = space.pids[halves.candidate]
    frame = pl.concat(
        [
            _same_person(space, first, best_positive, wide),
            _near_duplicates(space, first, best_positive, duplicate),
            _doubts(TWO_PEOPLE, merged, best_negative[merged.anchor] - merged.similarity),
            _doubts(SPLIT_IDENTITY, halves, margin),
        ]
    ).sort("anchor", "candidate", "reason")
    images = np.zeros(len(space.pids), bool)
    images[frame.filter(~pl.col("reason").is_in(OF_PAIRS))["anchor"].to_numpy()] = True
    return Doubts(frame, images, partner[space.pids])


def no_doubts(images: int) -> Doubts:
    """Return that every label of `images` rows is believed."""
    nobody = np.empty(0, np.int64)
    frame = _doubts(SAME_PERSON, Pairs(nobody, nobody, nobody), nobody)
    return Doubts(frame, np.zeros(images, bool), np.full(images, NOBODY))


def best_by_row(pairs: Pairs, rows: int) -> np.ndarray:
    """Return the highest similarity of each row as an anchor, (rows,) float32; −inf without one."""
    best = np.full(rows, -np.inf, np.float32)
    np.maximum.at(best, pairs.anchor, pairs.similarity)
    return best


def alike(space: Space, pairs: Pairs) -> Pairs:
    """Return the pairs in the same clothes, or with unknown clothes of either image."""
    anchor, candidate = space.clothes[pairs.anchor], space.clothes[pairs.candidate]
    return pairs.where((anchor == candidate) | (np.minimum(anchor, candidate) < 0))


def changed(space: Space, pairs: Pairs) -> Pairs:
    """Return the pairs in different clothes, or with unknown clothes of either image."""
    anchor, candidate = space.clothes[pairs.anchor], space.clothes[pairs.candidate]
    return pairs.where((anchor != candidate) | (np.minimum(anchor, candidate) < 0))


def _same_person(
    space: Space, first: Pairs, best_positive: np.ndarray, wide: float
) -> pl.DataFrame:
    nearest = np.full(len(space.pids), NOBODY)
    nearest[first.anchor] = first.candidate
    best = best_positive[first.anchor]
    closer = np.isfinite(best) & (first.similarity > best)
    closer = first.where(closer & (nearest[first.candidate] == first.anchor))
    margin = closer.similarity - best_positive[closer.anchor]
    far = margin > wide * deviation(space, closer.anchor)
    return _doubts(SAME_PERSON, closer.where(far), margin[far])


def _near_duplicates(
    space: Space, first: Pairs, best_positive: np.ndarray, least: float
) -> pl.DataFrame:
    # The similarity of a single encoder is its cosine.
    cosine = first.similarity if len(space.vectors) == 1 else _cosine(space, first)
    same = first.where(cosine >= least)
    return _doubts(NEAR_DUPLICATE, same, same.similarity - best_positive[same.anchor])


def _cosine(space: Space, pairs: Pairs) -> np.ndarray:
    """Return the cosine averaged over encoders, (P,) float32."""
    even = np.full_like(space.weight, 1 / space.weight.shape[1])
    plain = space.reweighted(even, np.zeros_like(space.offset))
    return similarity(plain, pairs.anchor, pairs.candidate)


def _doubts(reason: str, pairs: Pairs, margin: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({**vars(pairs), "margin": margin}).select(
        pl.col("anchor", "candidate").cast(pl.Int64),
        pl.lit(reason).alias("reason"),
        pl.col("similarity", "margin").cast(pl.Float32),
    )
