"""Measure the speed and memory of counting ReID metrics.

  python -m benchmarks.ranking                        # Market-1501's size; ours and two peers
  python -m benchmarks.ranking --distractors 500000   # also with 500k distractors, ours only
  python -m benchmarks.ranking --k_reciprocal         # re-ranking, against torchreid's dense one

The peers are torchreid's `evaluate_rank` from PyPI, and sorting everything at once. Each runs in a
process of its own on the same vectors. Time includes the products of the vectors; memory is the
growth of the process after its imports and the drawing of the vectors.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from nontrivial.manifests.command import guard, option, parse, table
from nontrivial.manifests.errors import WorkFailed, require

if TYPE_CHECKING:
    import numpy as np

    from nontrivial.eval.ranking import Labels

Outcome = tuple[float, float, float, float]  # mAP, rank-1, seconds, MiB
TOLERANCE = {False: 1e-6, True: 1e-4}  # rounding breaks ties of k-reciprocal neighbours


@dataclass
class Options:
    """Options of `python -m benchmarks.ranking`; the default sizes are Market-1501's."""

    queries: int = option("query images", default=3_368)
    gallery: int = option("gallery images, including distractors", default=15_913)
    width: int = option("dimensions of a vector", default=512)
    pids: int = option("identities", default=750)
    distractors: int = option("distractors to add, for a second line", default=0)
    spread: float = option("noise added to the vector of an identity", default=3.0)
    peers: bool = option("run the peers as well; torchreid takes minutes", default=True)
    k_reciprocal: bool = option("time k-reciprocal re-ranking instead", default=False)
    seed: int = option("seed of the vectors", default=0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="benchmarks.ranking", description=__doc__))


def run(options: Options) -> None:
    """Time every way in a process of its own; raise `WorkFailed` if results differ."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    if options.k_reciprocal:
        ways, peers = {"ours": sparse}, {"torchreid, dense": dense}
    else:
        ways, peers = {"ours": ours}, {"argsort": argsort, "torchreid (PyPI)": torchreid}
    if options.peers:
        ways |= peers
    outcomes = {name: apart(way, options, 0) for name, way in ways.items()}
    mean_ap, first, seconds, _ = outcomes["ours"]
    if options.distractors:
        outcomes["ours, with distractors"] = apart(ways["ours"], options, options.distractors)
    print(
        table(
            [
                (n, f"{m:.6f}", f"{f:.6f}", f"{s:.2f}", f"{s / seconds:.1f}", f"{mib:.0f}")
                for n, (m, f, s, mib) in outcomes.items()
            ],
            header=("", "mAP", "rank-1", "seconds", "× ours", "MiB"),
        )
    )
    tolerance = TOLERANCE[options.k_reciprocal]
    for name in ways:
        if max(abs(outcomes[name][0] - mean_ap), abs(outcomes[name][1] - first)) > tolerance:
            raise WorkFailed(f"{name} differs from ours by over {tolerance:g}")


def apart(way: Callable[..., tuple[float, float]], options: Options, distractors: int) -> Outcome:
    """Run one way in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (way, options, distractors))


def measured(
    way: Callable[..., tuple[float, float]], options: Options, distractors: int
) -> Outcome:
    """Return mAP, rank-1, seconds and MiB of one way, without the imports and the drawing."""
    import torch  # noqa: F401  imported before the measurement starts

    if way in (torchreid, dense):
        _torchreid("metrics")
    inputs = draw(options, distractors)
    before, began = _peak(), time.perf_counter()
    mean_ap, first = way(*inputs)
    return mean_ap, first, time.perf_counter() - began, _peak() - before


def draw(options: Options, distractors: int) -> tuple[np.ndarray, np.ndarray, Labels, Labels]:
    """Draw unit vectors around a centre for each identity; an eighth of the gallery is nobody."""
    import numpy as np

    from nontrivial.eval.ranking import NOBODY, Labels

    rng = np.random.default_rng(options.seed)
    centres = rng.standard_normal((options.pids, options.width), np.float32)

    def images(pids: np.ndarray) -> tuple[np.ndarray, Labels]:
        vectors = rng.standard_normal((len(pids), options.width), np.float32)
        vectors *= options.spread
        known = pids >= 0
        vectors[known] += centres[pids[known]]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        cameras = rng.integers(1, 7, len(pids))
        return vectors, Labels(pids, cameras, np.full(len(pids), -1))

    query, query_labels = images(rng.integers(0, options.pids, options.queries))
    nobody = options.gallery // 8
    pids = rng.integers(0, options.pids, options.gallery - nobody)
    pids = np.concatenate([pids, np.full(nobody + distractors, NOBODY)])
    gallery, gallery_labels = images(pids)
    return query, gallery, query_labels, gallery_labels


def ours(
    query: np.ndarray, gallery: np.ndarray, query_labels: Labels, gallery_labels: Labels
) -> tuple[float, float]:
    from nontrivial.eval.ranking import Protocol, rank, similarity_blocks, summarise

    blocks = similarity_blocks(query, gallery)
    ranked = rank(blocks, query_labels, gallery_labels, Protocol("standard"))[0]
    scores = summarise(ranked.ranks)
    return scores.mean_ap, float(scores.cmc[0])


def argsort(
    query: np.ndarray, gallery: np.ndarray, query_labels: Labels, gallery_labels: Labels
) -> tuple[float, float]:
    from tests.reference.ranking import metrics_by_argsort

    return metrics_by_argsort(query @ gallery.T, query_labels, gallery_labels)


def torchreid(
    query: np.ndarray, gallery: np.ndarray, query_labels: Labels, gallery_labels: Labels
) -> tuple[float, float]:
    cmc, mean_ap = _torchreid("metrics").evaluate_rank(
        1 - query @ gallery.T,
        query_labels.pids,
        gallery_labels.pids,
        query_labels.camids,
        gallery_labels.camids,
        use_cython=False,
    )
    return float(mean_ap), float(cmc[0])


def sparse(
    query: np.ndarray, gallery: np.ndarray, query_labels: Labels, gallery_labels: Labels
) -> tuple[float, float]:
    """Re-rank by k-reciprocal neighbours without holding all distances."""
    from nontrivial.eval.kreciprocal import reciprocal_blocks
    from nontrivial.eval.ranking import Protocol, rank, summarise

    blocks = reciprocal_blocks(query, gallery)
    scores = summarise(rank(blocks, query_labels, gallery_labels, Protocol("standard"))[0].ranks)
    return scores.mean_ap, float(scores.cmc[0])


def dense(
    query: np.ndarray, gallery: np.ndarray, query_labels: Labels, gallery_labels: Labels
) -> tuple[float, float]:
    """Re-rank by torchreid's `re_ranking` on three whole matrices, and rank by sorting."""
    import numpy as np

    from tests.reference.ranking import metrics_by_argsort

    pairs = ((query, gallery), (query, query), (gallery, gallery))
    far = (np.sqrt(np.maximum(2 - 2 * a @ b.T, 0)) for a, b in pairs)  # torchreid squares them
    distances = _torchreid("utils.rerank").re_ranking(*far)
    return metrics_by_argsort(-distances, query_labels, gallery_labels)


def _torchreid(module: str) -> ModuleType:
    return require(f"torchreid.reid.{module}", "reid", "comparing with torchreid")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
