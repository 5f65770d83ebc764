"""Label doubts: pairs whose labels, not whose looks, are what seems to be hard.

Mining looks for what a first stage gets wrong, and wrong labels are what it gets wrong most. Three
signs, each with the reason it is reported under:

    same person      a and n carry different identities, yet each is the other's nearest negative,
                     and n is closer to a than a's best positive by a wide margin: a is mislabelled
    near-duplicate   two identities share what looks like one frame
    two people       a and p carry one identity, yet look less alike than a and the average image,
                     while each of them ranks another image of the identity first

A doubted image takes part in no pair; of two people in one identity only the pair is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from builders.neighbors import NOBODY, Pairs, Space, similarity, spread

SAME_PERSON, NEAR_DUPLICATE, TWO_PEOPLE = "same person", "near-duplicate", "two people"


@dataclass(frozen=True)
class Doubts:
    """What is not to be trusted.

    frame   anchor, candidate (rows), reason, similarity, margin; one row for each doubt
    images  (N,) bool: rows that take part in no pair
    """

    frame: pl.DataFrame
    images: np.ndarray

    def clear(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """The pairs that no doubt touches."""
        anchor, candidate = pairs["anchor"].to_numpy(), pairs["candidate"].to_numpy()
        doubted = self.images[anchor] | self.images[candidate]
        apart = self.frame.filter(pl.col("reason") == TWO_PEOPLE).select("anchor", "candidate")
        either = pl.concat([apart, apart.select(anchor="candidate", candidate="anchor")])
        return pairs.filter(~pl.Series(doubted)).join(
            either, on=["anchor", "candidate"], how="anti", maintain_order="left"
        )


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
    mean, deviation = spread(space)
    best_positive = best_by_row(positives, len(space.vectors))
    best_negative = np.full(len(space.vectors), -np.inf, np.float32)
    best_negative[space.anchors] = values[:, 0]
    frame = pl.concat(
        [
            _same_person(space, nearest, values, best_positive + wide * deviation, best_positive),
            _near_duplicates(space, nearest, values, best_positive, duplicate),
            _two_people(positives, mean, best_positive > best_negative, best_negative),
        ]
    ).sort("anchor", "candidate", "reason")
    images = np.zeros(len(space.vectors), bool)
    images[frame.filter(pl.col("reason") != TWO_PEOPLE)["anchor"].to_numpy()] = True
    return Doubts(frame, images)


def no_doubts(images: int) -> Doubts:
    """Every label of `images` rows is believed."""
    nobody = np.empty(0, np.int64)
    return Doubts(_doubts(nobody, nobody, SAME_PERSON, nobody, nobody), np.zeros(images, bool))


def best_by_row(pairs: Pairs, rows: int) -> np.ndarray:
    """The highest similarity of each row as an anchor, (rows,) float32; −inf where it has none."""
    best = np.full(rows, -np.inf, np.float32)
    np.maximum.at(best, pairs.anchor, pairs.similarity)
    return best


def _same_person(
    space: Space,
    nearest: np.ndarray,
    values: np.ndarray,
    threshold: np.ndarray,
    best_positive: np.ndarray,
) -> pl.DataFrame:
    first = np.full(len(space.vectors), NOBODY)
    first[space.anchors] = nearest[:, 0]
    anchor, candidate = space.anchors, nearest[:, 0]
    doubted = np.isfinite(threshold[anchor]) & (values[:, 0] > threshold[anchor])
    doubted &= (candidate != NOBODY) & (first[candidate] == anchor)
    anchor, candidate, value = anchor[doubted], candidate[doubted], values[doubted, 0]
    return _doubts(anchor, candidate, SAME_PERSON, value, value - best_positive[anchor])


def _near_duplicates(
    space: Space, nearest: np.ndarray, values: np.ndarray, best_positive: np.ndarray, least: float
) -> pl.DataFrame:
    real = nearest[:, 0] != NOBODY
    anchor, candidate, value = space.anchors[real], nearest[real, 0], values[real, 0]
    same = _cosine(space, anchor, candidate) >= least
    anchor, candidate, value = anchor[same], candidate[same], value[same]
    return _doubts(anchor, candidate, NEAR_DUPLICATE, value, value - best_positive[anchor])


def _two_people(
    positives: Pairs, mean: np.ndarray, recognised: np.ndarray, best_negative: np.ndarray
) -> pl.DataFrame:
    anchor, candidate, value = positives.anchor, positives.candidate, positives.similarity
    apart = (value < mean[anchor]) & recognised[anchor] & recognised[candidate]
    anchor, candidate, value = anchor[apart], candidate[apart], value[apart]
    return _doubts(anchor, candidate, TWO_PEOPLE, value, best_negative[anchor] - value)


def _cosine(space: Space, anchor: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Cosine averaged over encoders, (P,) float32."""
    even = np.full_like(space.weight, 1 / len(space.widths))
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
