"""Compute CMC, mAP and mINP by counting the ranks of true matches.

Lists are not sorted and no matrix of all distances is held: scores come in blocks of queries, so
any gallery fits. Let t_1 >= … >= t_m be the scores of a query's matches, once its protocol has
dropped some images. The i-th match has

    rank_i = i + #{wrong g: s_g >= t_i}

A wrong image with the same score as a match goes before it, so a collapsed encoder gets the worst
numbers and never the best.

    AP   mean over i of i / rank_i        (without interpolation)
    INP  m / rank_m                       (Ye et al., TPAMI 2021)
    CMC  share of queries with rank_1 <= k
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.schema import NOBODY

BLOCK_BYTES = 256 << 20  # of scores held at once
GALLERY_BLOCK = 65_536  # gallery images on the device at once


@dataclass(frozen=True)
class Labels:
    """Identity, camera and clothes of images: (N,) int64 each.

    Cameras and clothes below 0 are unknown. An unknown camera is the same as no other.
    """

    pids: np.ndarray
    camids: np.ndarray
    clothes: np.ndarray

    def __len__(self) -> int:
        return len(self.pids)


@dataclass(frozen=True)
class Protocol:
    """A rule for the images of the query's identity that a ranking counts as matches.

    clothes   "any"; "changed" drops those in the query's clothes, "same" those in other clothes
    cameras   if given, only queries and gallery images of these cameras count
    draws     0 ranks the whole gallery; else scores are means over so many draws of one gallery
              image for each identity

    Images of the query's identity and camera are always dropped, unless the camera is unknown. A
    query without a match is left out; this separates the two query sets of PRCC.
    """

    name: str
    clothes: str = "any"
    cameras: tuple[int, ...] = ()
    draws: int = 0


STANDARD = (Protocol("standard"),)
PROTOCOLS = {
    "prcc": (
        Protocol("same-clothes, multi-shot", "same"),
        Protocol("clothes-changing, multi-shot", "changed"),
        Protocol("same-clothes, single-shot", "same", draws=10),
        Protocol("clothes-changing, single-shot", "changed", draws=10),
    ),
    "ltcc": (
        Protocol("general"),
        Protocol("same-clothes", "same"),
        Protocol("clothes-changing", "changed"),
    ),
    "vc_clothes": (
        Protocol("general"),
        Protocol("same-clothes, cameras 2 and 3", cameras=(2, 3)),
        Protocol("clothes-changing, cameras 3 and 4", cameras=(3, 4)),
    ),
}


@dataclass(frozen=True)
class Ranked:
    """Ranks of the matches of each query, and the head of its list.

    ranks     one ascending int64 array for each query, empty if it has no match
    leaders   (Q, k) int64 gallery rows, best first; -1 where the list is shorter
    scores    (Q, k) float32 scores of the leaders
    """

    ranks: list[np.ndarray]
    leaders: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Scores:
    """Means over the queries with a match; `cmc[k - 1]` is the rank-k rate."""

    queries: int
    skipped: int
    mean_ap: float
    mean_inp: float
    cmc: np.ndarray


def protocols_of(source: str) -> tuple[Protocol, ...]:
    """Return the usual protocols of a data set; CUHK03 means its new protocol (767 / 700).

    The settings of data sets with changed clothes have the names of Gu et al. (CVPR 2022).
    """
    return PROTOCOLS.get(source, STANDARD)


def hit_ranks(scores: np.ndarray, matches: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """Return ascending ranks of `matches` among one query's scores (G,) without the `dropped`.

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
    # Sort only what is ahead of the last match: a small part if the ranking is good.
    before = np.sort(wrong[wrong >= thresholds[-1]])
    better = len(before) - np.searchsorted(before, thresholds)
    return np.arange(1, len(thresholds) + 1) + better


def leaders(scores: np.ndarray, matches: np.ndarray, dropped: np.ndarray, k: int) -> np.ndarray:
    """Return the first `k` of one query's list, best first; a wrong image leads in a tie.

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
    blocks: Iterable[np.ndarray], query: Labels, gallery: Labels, protocol: Protocol, **options: int
) -> list[Ranked]:
    """Rank every query under one protocol with the options of `rank_all`; one item a draw."""
    return rank_all(blocks, query, gallery, [protocol], **options)[0]


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

    blocks   (b, G) float32 scores of consecutive queries, larger for more similar images
    seed     of the draws of single-shot galleries; ranks are ranks within a draw
    keep     number of leaders of each list to return

    Returns one list for each protocol, with one `Ranked` for each draw. Raises `BadInput` for an
    empty gallery, and `ValueError` for scores of another number of queries than `query`.
    """
    if not len(gallery):
        raise BadInput("the gallery is empty; a ranking needs images of role gallery")
    runs = [
        [_Run(query, gallery, p, shown, keep) for shown in _draws(gallery, p, seed)]
        for p in protocols
    ]
    start = 0
    for block in blocks:
        for row, scores in enumerate(block, start):
            for run in itertools.chain(*runs):
                run.add(row, scores)
        start += len(block)
    if start != len(query):
        raise ValueError(f"scores of {start} queries for {len(query)} labels")
    return [[run.ranked() for run in draws] for draws in runs]


def summarise(ranks: Sequence[np.ndarray], max_rank: int = 50) -> Scores:
    """Return mAP, mINP and CMC of lists of ranks; raise `BadInput` if no query has a match.

    >>> scores = summarise([np.array([1, 4]), np.array([2]), np.array([], int)], max_rank=2)
    >>> scores.queries, scores.skipped, round(scores.mean_ap, 4), scores.mean_inp, scores.cmc
    (2, 1, 0.625, 0.5, array([0.5, 1. ]))
    """
    matched = [r for r in ranks if len(r)]
    if not matched:
        raise BadInput(
            f"none of {len(ranks)} queries has a match that its protocol counts: the gallery needs "
            "images of the same identities from other cameras"
        )
    first = np.array([r[0] for r in matched])
    return Scores(
        queries=len(matched),
        skipped=len(ranks) - len(matched),
        mean_ap=float(np.mean([average_precision(r) for r in matched])),
        mean_inp=float(np.mean([len(r) / r[-1] for r in matched])),
        cmc=np.array([np.mean(first <= k) for k in range(1, max_rank + 1)]),
    )


def mean_scores(draws: Sequence[Scores]) -> Scores:
    """Return the mean of the scores of several draws."""
    return replace(
        draws[0],
        mean_ap=float(np.mean([d.mean_ap for d in draws])),
        mean_inp=float(np.mean([d.mean_inp for d in draws])),
        cmc=np.mean([d.cmc for d in draws], axis=0),
    )


def average_precision(ranks: np.ndarray) -> float:
    """Return the average precision of one query from its ascending ranks (m,), m > 0.

    >>> float(average_precision(np.array([1, 4])))
    0.75
    """
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))


def similarity_blocks(
    query: np.ndarray, gallery: np.ndarray, *, device: str = "cpu", block_bytes: int = BLOCK_BYTES
) -> Iterator[np.ndarray]:
    """Yield dot products of (Q, D) and (G, D) float32 as blocks (b, G) of consecutive queries.

    The device holds a part of the gallery at a time; a block takes `block_bytes` at most.
    """
    import torch

    rows = max(1, min(len(query), block_bytes // max(1, 4 * len(gallery))))
    for start in range(0, len(query), rows):
        queries = torch.from_numpy(query[start : start + rows]).to(device)
        scores = np.empty((len(queries), len(gallery)), np.float32)
        for left in range(0, len(gallery), GALLERY_BLOCK):
            part = torch.from_numpy(gallery[left : left + GALLERY_BLOCK]).to(device)
            scores[:, left : left + GALLERY_BLOCK] = (queries @ part.T).cpu().numpy()
        yield scores


class _Run:
    """One protocol over one drawn gallery: ranks and leaders of the queries so far."""

    def __init__(
        self,
        query: Labels,
        gallery: Labels,
        protocol: Protocol,
        shown: np.ndarray | slice,
        keep: int,
    ) -> None:
        self.query, self.gallery, self.protocol = query, gallery, protocol
        self.shown, self.keep = shown, keep
        self.rows = np.arange(len(gallery))[shown]
        pids = gallery.pids[shown]
        self._order = np.argsort(pids, kind="stable")
        self._sorted = pids[self._order]
        self.ranks: list[np.ndarray] = []
        self.heads: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, row: int, scores: np.ndarray) -> None:
        scores = scores[self.shown]
        matches, dropped = self._parts(row)
        self.ranks.append(hit_ranks(scores, matches, dropped))
        if self.keep:
            head = leaders(scores, matches, dropped, self.keep)
            self.heads.append((self.rows[head], scores[head]))

    def ranked(self) -> Ranked:
        rows = np.full((len(self.ranks), self.keep), -1, np.int64)
        scores = np.full(rows.shape, -np.inf, np.float32)
        for i, (head, values) in enumerate(self.heads):
            rows[i, : len(head)], scores[i, : len(head)] = head, values
        return Ranked(self.ranks, rows, scores)

    def _parts(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return positions of the matches of a query, and of the images its protocol drops."""
        nothing, query, cameras = np.empty(0, np.int64), self.query, self.protocol.cameras
        pid = query.pids[row]
        if pid == NOBODY or (cameras and query.camids[row] not in cameras):
            return nothing, nothing
        same = self._order[slice(*np.searchsorted(self._sorted, [pid, pid + 1]))]
        rows = self.rows[same]
        camid = query.camids[row]
        drop = (self.gallery.camids[rows] == camid) & (camid >= 0)
        alike = self.gallery.clothes[rows] == query.clothes[row]
        if self.protocol.clothes != "any":
            drop |= alike if self.protocol.clothes == "changed" else ~alike
        return same[~drop], same[drop]


def _draws(gallery: Labels, protocol: Protocol, seed: int) -> list[np.ndarray | slice]:
    """Return the gallery rows of each draw, or a slice that is the whole gallery."""
    rows = np.arange(len(gallery))
    if protocol.cameras:
        rows = rows[np.isin(gallery.camids, protocol.cameras)]
    if not protocol.draws:
        return [slice(None) if len(rows) == len(gallery) else rows]
    rng = np.random.default_rng(seed)
    draws: list[np.ndarray | slice] = []
    for _ in range(protocol.draws):
        shuffled = rng.permutation(rows)
        _, first = np.unique(gallery.pids[shuffled], return_index=True)
        draws.append(np.sort(shuffled[first]))
    return draws
