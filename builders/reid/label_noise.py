"""Label doubts: pairs whose labels, not whose looks, are what seems to be hard.

Mining looks for what a first stage gets wrong, and wrong labels are what it gets wrong most. Four
signs, each with the reason it is reported under:

    same person      a and n carry different identities, yet each is the other's nearest negative,
                     and n is closer to a than a's best positive by a wide margin: a is mislabelled
    near-duplicate   two identities share what looks like one frame
    two people       the images of one identity look like two people (`merged_identities`)
    split identity   two identities look like one person (`split_identities`)

An image doubted under the first two takes part in no pair. Of two people in one identity, and of
the halves of a split one, only pairs between the two are left out. Looks are compared in the same
clothes, as far as these are known: a change of clothes is no reason to doubt a label.
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
    """What is not to be trusted.

    frame    anchor, candidate (rows), reason, similarity, margin; one row for each doubt
    images   (N,) bool: rows that take part in no pair
    partner  (N,) int64: the identity that seems to be the same person, −1 where there is none
    """

    frame: pl.DataFrame
    images: np.ndarray
    partner: np.ndarray

    def clear(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """The pairs that no doubt touches."""
        anchor, candidate = pairs["anchor"].to_numpy(), pairs["candidate"].to_numpy()
        doubted = self.images[anchor] | self.images[candidate]
        return pairs.filter(~pl.Series(doubted)).join(
            self.apart(), on=["anchor", "candidate"], how="anti", maintain_order="left"
        )

    def apart(self) -> pl.DataFrame:
        """Pairs of rows, in both orders, of which only the pair is in doubt."""
        pairs = self.frame.filter(pl.col("reason").is_in(OF_PAIRS)).select("anchor", "candidate")
        return pl.concat([pairs, pairs.select(anchor="candidate", candidate="anchor")]).unique(
            maintain_order=True
        )

    def believed_negatives(self, space: Space, nearest: np.ndarray) -> np.ndarray:
        """Which nearest negatives (A, k) of the anchors are beyond doubt."""
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
    """Doubts among the nearest negatives (A, k), their similarities `values` and all positives.

    `wide` is in standard deviations of the anchor's similarities; `duplicate` is the cosine,
    averaged over encoders, from which two images are one frame.
    """
    known = alike(space, positives)
    best_positive = best_by_row(known, len(space.pids))
    best_negative = np.full(len(space.pids), -np.inf, np.float32)
    best_negative[space.anchors] = values[:, 0]
    halves, partner = _split_identities(space, nearest, values, known)
    frame = pl.concat(
        [
            _same_person(space, nearest, values, best_positive, wide),
            _near_duplicates(space, nearest, values, best_positive, duplicate),
            _two_people(space, known, best_negative),
            halves,
        ]
    ).sort("anchor", "candidate", "reason")
    images = np.zeros(len(space.pids), bool)
    whole = frame.filter(~pl.col("reason").is_in(OF_PAIRS))
    images[whole["anchor"].to_numpy()] = True
    return Doubts(frame, images, partner)


def no_doubts(images: int) -> Doubts:
    """Every label of `images` rows is believed."""
    nobody = np.empty(0, np.int64)
    frame = _doubts(nobody, nobody, SAME_PERSON, nobody, nobody)
    return Doubts(frame, np.zeros(images, bool), np.full(images, NOBODY))


def best_by_row(pairs: Pairs, rows: int) -> np.ndarray:
    """The highest similarity of each row as an anchor, (rows,) float32; −inf where it has none."""
    best = np.full(rows, -np.inf, np.float32)
    np.maximum.at(best, pairs.anchor, pairs.similarity)
    return best


def alike(space: Space, pairs: Pairs) -> Pairs:
    """Pairs in the same clothes, or where the clothes of one are unknown."""
    return pairs.where(~_changed(space, pairs) | _unknown(space, pairs))


def changed(space: Space, pairs: Pairs) -> Pairs:
    """Pairs in different clothes, or where the clothes of one are unknown."""
    return pairs.where(_changed(space, pairs) | _unknown(space, pairs))


def _changed(space: Space, pairs: Pairs) -> np.ndarray:
    return space.clothes[pairs.anchor] != space.clothes[pairs.candidate]


def _unknown(space: Space, pairs: Pairs) -> np.ndarray:
    return np.minimum(space.clothes[pairs.anchor], space.clothes[pairs.candidate]) < 0


def _same_person(
    space: Space, nearest: np.ndarray, values: np.ndarray, best_positive: np.ndarray, wide: float
) -> pl.DataFrame:
    first = np.full(len(space.pids), NOBODY)
    first[space.anchors] = nearest[:, 0]
    anchor, candidate, value = space.anchors, nearest[:, 0], values[:, 0]
    closer = np.isfinite(best_positive[anchor]) & (value > best_positive[anchor])
    closer &= (candidate != NOBODY) & (first[candidate] == anchor)
    anchor, candidate, value = anchor[closer], candidate[closer], value[closer]
    margin = value - best_positive[anchor]
    far = margin > wide * deviation(space, anchor)
    return _doubts(anchor[far], candidate[far], SAME_PERSON, value[far], margin[far])


def _near_duplicates(
    space: Space, nearest: np.ndarray, values: np.ndarray, best_positive: np.ndarray, least: float
) -> pl.DataFrame:
    real = nearest[:, 0] != NOBODY
    anchor, candidate, value = space.anchors[real], nearest[real, 0], values[real, 0]
    # The similarity of a single encoder is its cosine.
    cosine = value if len(space.vectors) == 1 else _cosine(space, anchor, candidate)
    same = cosine >= least
    anchor, candidate, value = anchor[same], candidate[same], value[same]
    return _doubts(anchor, candidate, NEAR_DUPLICATE, value, value - best_positive[anchor])


def _two_people(space: Space, positives: Pairs, best_negative: np.ndarray) -> pl.DataFrame:
    found = positives.where(find_merged_identities(space, positives, best_negative))
    anchor, candidate, value = found.anchor, found.candidate, found.similarity
    return _doubts(anchor, candidate, TWO_PEOPLE, value, best_negative[anchor] - value)


def _split_identities(
    space: Space, nearest: np.ndarray, values: np.ndarray, positives: Pairs
) -> tuple[pl.DataFrame, np.ndarray]:
    """Doubts between the halves of split identities, and each row's other half (N,)."""
    found = find_split_identities(space, nearest, values, positives)
    anchor, candidate = found["anchor"].to_numpy(), found["candidate"].to_numpy()
    other = np.full(int(space.pids.max()) + 1, NOBODY)
    other[space.pids[anchor]] = space.pids[candidate]
    value, margin = found["similarity"].to_numpy(), found["margin"].to_numpy()
    return _doubts(anchor, candidate, SPLIT_IDENTITY, value, margin), other[space.pids]


def _cosine(space: Space, anchor: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Cosine averaged over encoders, (P,) float32."""
    even = np.full_like(space.weight, 1 / space.weight.shape[1])
    return similarity(space.reweighted(even, np.zeros_like(space.offset)), anchor, candidate)


def _doubts(
    anchor: np.ndarray,
    candidate: np.ndarray,
    reason: str,
    value: np.ndarray,
    margin: np.ndarray,
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "anchor": anchor.astype(np.int64),
            "candidate": candidate.astype(np.int64),
            "reason": pl.Series([reason] * len(anchor), dtype=pl.String),
            "similarity": value.astype(np.float32),
            "margin": margin.astype(np.float32),
        }
    )
