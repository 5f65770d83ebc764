"""CMC, mAP and mINP by counting the ranks of true matches: no sort, no matrix of all distances.

For a query with matches of scores t_1 >= … >= t_m in a gallery, after the protocol has dropped its
junk, the i-th match stands at

    rank_i = i + #{wrong g: s_g >= t_i}

so a wrong image that scores exactly as a match stands before it: a collapsed encoder gets the worst
numbers, never the best. Scores come in blocks of queries, so any gallery fits.

    AP   mean over i of i / rank_i        (without interpolation)
    INP  m / rank_m                       (Ye et al., TPAMI 2021)
    CMC  share of queries with rank_1 <= k
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.schema import NOBODY

BLOCK_BYTES = 256 << 20  # of scores that are held at once
GALLERY_BLOCK = 65_536  # gallery images that are on the device at once


@dataclass(frozen=True)
class Labels:
    """Whom images show and where: (N,) int64 each; clothes below 0 are unknown."""

    pids: np.ndarray
    camids: np.ndarray
    clothes: np.ndarray

    def __len__(self) -> int:
        return len(self.pids)


@dataclass(frozen=True)
class Protocol:
    """Which images of the queried identity a ranking counts.

    clothes   "any"; "changed" drops those in the query's clothes, "same" those in other clothes
    cameras   only queries and gallery images of these
    draws     0 ranks the whole gallery, else the mean of so many draws of one image an identity

    Images of the query's identity and camera are always dropped. A query that is left without a
    match is left out, so PRCC's two query sets part by themselves.
    """

    name: str
    clothes: str = "any"
    cameras: tuple[int, ...] = ()
    draws: int = 0


STANDARD = (Protocol("standard"),)
PROTOCOLS = {
    "prcc": (
        Protocol("same clothes, multi-shot", "same"),
        Protocol("changed clothes, multi-shot", "changed"),
        Protocol("same clothes, single-shot", "same", draws=10),
        Protocol("changed clothes, single-shot", "changed", draws=10),
    ),
    "ltcc": (
        Protocol("general"),
        Protocol("same clothes", "same"),
        Protocol("changed clothes", "changed"),
    ),
    "vc_clothes": (
        Protocol("general"),
        Protocol("same clothes, cameras 2 and 3", cameras=(2, 3)),
        Protocol("changed clothes, cameras 3 and 4", cameras=(3, 4)),
    ),
}


@dataclass(frozen=True)
class Ranked:
    """Where the matches of each query stand, and who leads its list.

    ranks     one ascending int64 array a query, empty where it has no match
    leaders   (Q, k) gallery rows, best first; -1 where the list is shorter
    scores    (Q, k) float32 of the leaders
    """

    ranks: list[np.ndarray]
    leaders: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Scores:
    """Means over the queries that have a match; `cmc[k - 1]` is the rank-k rate."""

    queries: int
    skipped: int
    mean_ap: float
    mean_inp: float
    cmc: np.ndarray


def protocols_of(source: str) -> tuple[Protocol, ...]:
    """The protocols a data set is reported by; CUHK03 means its new protocol (767 / 700)."""
    return PROTOCOLS.get(source, STANDARD)


def hit_ranks(scores: np.ndarray, matches: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """Ranks of the `matches` among one query's scores (G,) without the `dropped`, ascending.

    >>> hit_ranks(np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, 3]), np.array([0]))
    array([1, 3])
    >>> hit_ranks(np.array([0.5, 0.5]), np.array([0]), np.array([], int))  # a tie
    array([2])
    """
    if not len(matches):
        return np.empty(0, np.int64)
    thresholds = -np.sort(-scores[matches])
    wrong = scores.copy()
    wrong[matches] = wrong[dropped] = -np.inf
    # Only what stands before the last match counts, which is little where the ranking is good.
    before = np.sort(wrong[wrong >= thresholds[-1]])
    better = len(before) - np.searchsorted(before, thresholds)
    return np.arange(1, len(thresholds) + 1) + better


def leaders(scores: np.ndarray, matches: np.ndarray, dropped: np.ndarray, k: int) -> np.ndarray:
    """The first `k` of one query's list under the same rule for ties, best first.

    >>> leaders(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1]), np.array([0]), 2)
    array([2, 1])
    """
    kept = scores.copy()
    kept[dropped] = -np.inf
    least = np.partition(kept, len(kept) - k)[len(kept) - k] if k < len(kept) else -np.inf
    left = np.flatnonzero((kept >= least) & np.isfinite(kept))
    is_match = np.isin(left, matches)
    return left[np.lexsort((left, is_match, -scores[left]))][:k]


def rank(
    blocks: Iterable[np.ndarray],
    query: Labels,
    gallery: Labels,
    protocol: Protocol,
    *,
    seed: int = 0,
    keep: int = 0,
) -> list[Ranked]:
    """Rank every query under one protocol, once for each draw; see `rank_all`."""
    return rank_all(blocks, query, gallery, [protocol], seed=seed, keep=keep)[0]


def rank_all(
    blocks: Iterable[np.ndarray],
    query: Labels,
    gallery: Labels,
    protocols: Sequence[Protocol],
    *,
    seed: int = 0,
    keep: int = 0,
) -> list[list[Ranked]]:
    """Rank every query under several protocols in one pass over the scores.

    blocks   (b, G) float32 scores of consecutive queries, larger is more alike
    keep     how many leaders of each list to return

    Raises `BadInput` for an empty gallery. Ranks of a drawn gallery are ranks within the draw.
    """
    if not len(gallery):
        raise BadInput("the gallery is empty; a ranking needs images of role gallery")
    runs = [
        [_Run(query, gallery, p, shown) for shown in _draws(gallery, p, seed)] for p in protocols
    ]
    start = 0
    for block in blocks:
        for row, scores in enumerate(block, start):
            for run in (run for of in runs for run in of):
                run.add(row, scores, keep)
        start += len(block)
    if start != len(query):
        raise ValueError(f"scores of {start} queries for {len(query)} labels")
    return [[run.ranked(keep) for run in of] for of in runs]


def summarise(ranks: Sequence[np.ndarray], max_rank: int = 50) -> Scores:
    """mAP, mINP and CMC of lists of ranks; raises `BadInput` where no query has a match.

    >>> scores = summarise([np.array([1, 4]), np.array([2]), np.array([], int)], max_rank=2)
    >>> scores.queries, scores.skipped, round(scores.mean_ap, 4), scores.mean_inp, scores.cmc
    (2, 1, 0.625, 0.5, array([0.5, 1. ]))
    """
    found = [r for r in ranks if len(r)]
    if not found:
        raise BadInput(
            f"none of {len(ranks)} queries has a match that its protocol counts: the gallery needs "
            "images of the same identities from other cameras"
        )
    first = np.array([r[0] for r in found])
    return Scores(
        queries=len(found),
        skipped=len(ranks) - len(found),
        mean_ap=float(np.mean([average_precision(r) for r in found])),
        mean_inp=float(np.mean([len(r) / r[-1] for r in found])),
        cmc=np.array([np.mean(first <= k) for k in range(1, max_rank + 1)]),
    )


def mean_scores(draws: Sequence[Scores]) -> Scores:
    """The mean of the scores of several draws."""
    return Scores(
        queries=draws[0].queries,
        skipped=draws[0].skipped,
        mean_ap=float(np.mean([d.mean_ap for d in draws])),
        mean_inp=float(np.mean([d.mean_inp for d in draws])),
        cmc=np.mean([d.cmc for d in draws], axis=0),
    )


def average_precision(ranks: np.ndarray) -> float:
    """Mean precision at the hits of one query's ascending ranks (m,), m > 0.

    >>> float(average_precision(np.array([1, 4])))
    0.75
    """
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))


def similarity_blocks(
    query: np.ndarray, gallery: np.ndarray, *, device: str = "cpu", block_bytes: int = BLOCK_BYTES
) -> Iterator[np.ndarray]:
    """Dot products of (Q, D) and (G, D) float32 as blocks (b, G) of consecutive queries.

    The gallery passes through the device a part at a time; a block holds `block_bytes` at most.
    """
    import torch

    rows = max(1, min(len(query), block_bytes // max(1, 4 * len(gallery))))
    for start in range(0, len(query), rows):
        some = torch.from_numpy(query[start : start + rows]).to(device)
        scores = np.empty((len(some), len(gallery)), np.float32)
        for left in range(0, len(gallery), GALLERY_BLOCK):
            part = torch.from_numpy(gallery[left : left + GALLERY_BLOCK]).to(device)
            scores[:, left : left + GALLERY_BLOCK] = (some @ part.T).cpu().numpy()
        yield scores


class _Run:
    """One protocol over one drawn gallery: ranks of the queries so far."""

    def __init__(
        self, query: Labels, gallery: Labels, protocol: Protocol, shown: np.ndarray | None
    ) -> None:
        self.query, self.gallery, self.protocol = query, gallery, protocol
        self.shown = shown  # gallery rows, or None for all
        pids = gallery.pids if shown is None else gallery.pids[shown]
        self._order = np.argsort(pids, kind="stable")
        self._sorted = pids[self._order]
        self.ranks: list[np.ndarray] = []
        self.led: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, row: int, scores: np.ndarray, keep: int) -> None:
        scores = scores if self.shown is None else scores[self.shown]
        matches, dropped = self._parts(row)
        self.ranks.append(hit_ranks(scores, matches, dropped))
        if keep:
            first = leaders(scores, matches, dropped, keep)
            rows = first if self.shown is None else self.shown[first]
            self.led.append((rows, scores[first]))

    def ranked(self, keep: int) -> Ranked:
        rows = np.full((len(self.ranks), keep), -1, np.int64)
        scores = np.full((len(self.ranks), keep), -np.inf, np.float32)
        for i, (led, values) in enumerate(self.led):
            rows[i, : len(led)], scores[i, : len(led)] = led, values
        return Ranked(self.ranks, rows, scores)

    def _parts(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the matches of a query, and of what its protocol drops."""
        nothing, query, cameras = np.empty(0, np.int64), self.query, self.protocol.cameras
        pid = query.pids[row]
        if pid == NOBODY or (cameras and query.camids[row] not in cameras):
            return nothing, nothing
        own = self._order[slice(*np.searchsorted(self._sorted, [pid, pid + 1]))]
        rows = own if self.shown is None else self.shown[own]
        drop = self.gallery.camids[rows] == query.camids[row]
        alike = self.gallery.clothes[rows] == query.clothes[row]
        if self.protocol.clothes != "any":
            drop |= alike if self.protocol.clothes == "changed" else ~alike
        return own[~drop], own[drop]


def _draws(gallery: Labels, protocol: Protocol, seed: int) -> list[np.ndarray | None]:
    """Gallery rows of each draw; None is the whole gallery."""
    rows = np.arange(len(gallery))
    if protocol.cameras:
        rows = rows[np.isin(gallery.camids, protocol.cameras)]
    if not protocol.draws:
        return [None if len(rows) == len(gallery) else rows]
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(protocol.draws):
        shuffled = rng.permutation(rows)
        _, first = np.unique(gallery.pids[shuffled], return_index=True)
        drawn.append(np.sort(shuffled[first]))
    return drawn
