"""Measure the speed and memory of mining twins, its false negatives and what pairs give away.

  python -m benchmarks.mining --scale reid_r      # four data sets, 68,445 images, 14,305 pairs
  python -m benchmarks.mining --scale 500k        # one gallery of 500,000 and some of its queries
  python -m benchmarks.mining --scale market      # the smallest of the four

Vectors are drawn with the identity and camera counts of the real data sets, and with images of
uneven quality, so that the first stage errs about half of the queries. Every part runs in a process
of its own, which measures seconds, and memory beyond what it holds after its imports and the
drawing of the vectors. The parts take turns, and the fastest run of each counts, because other load
on the machine can only slow them down. `bare search` is only FAISS's exact search for the same
number of neighbours of the same vectors, across all cameras.

On the vectors of market1501 there are peers: the rule of MUSE (the most similar strangers and the
least similar images of the same person, without a rule about cameras) in our own code, and, if
sentence-transformers is installed, its `mine_hard_negatives`. It leaves out the positives that it
is given: one for each anchor, as in its examples, or all. `shortcut` is how many pairs the best
threshold on the similarity, or on the popularity of the candidate, answers.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.alone import alone
from nontrivial.manifests.command import guard, option, parse, table
from nontrivial.manifests.errors import WorkFailed

if TYPE_CHECKING:
    import numpy as np


class Size(NamedTuple):
    """Images, identities and cameras of a training set."""

    images: int
    identities: int
    cameras: int


REID_R = {
    "market1501": Size(12_936, 751, 6),
    "msmt17": Size(30_248, 1_041, 15),
    "cuhk03": Size(7_365, 767, 2),
    "prcc": Size(17_896, 150, 3),
}
SCALES = {
    "reid_r": REID_R,
    "market": {"market1501": REID_R["market1501"]},
    "500k": {"gallery": Size(500_000, 25_000, 20)},
}
SUBSET = 8_000  # queries of a larger gallery than WHOLE
WHOLE = 100_000  # images of the largest gallery whose images are all queries
PARTS = ("bare", "ours", "extreme", "similar", "peer", "peer, told all")
FIRST = 2_000  # queries that R-1 is taken of
LATENT = 32  # dimensions in which identities differ, so that some look alike
# Lengths of the vectors added to an identity's, which has length 1; the noise's varies by image.
CAMERA, NOISE, UNEVEN = 0.6, 1.0, 0.35


@dataclass
class Options:
    """Options of `python -m benchmarks.mining`."""

    scale: str = option("number of vectors", default="reid_r", choices=tuple(SCALES))
    width: int = option("dimensions of a vector", default=512)
    top_k: int = option("neighbours of an anchor", default=50)
    repeats: int = option("measurements of each part, in turns; the fastest counts", default=3)
    threads: int = option("threads; 0 takes all cores", default=0)
    seed: int = option("seed of the vectors", default=0)
    part: str | None = option("measure only this part, here, as JSON", default=None, choices=PARTS)


class Drawn(NamedTuple):
    """Vectors (N, width) float32 of length 1, identities and cameras (N,) int64."""

    vectors: np.ndarray
    pids: np.ndarray
    camids: np.ndarray


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="benchmarks.mining", description=__doc__))


def run(options: Options) -> None:
    """Measure one part here, or all parts in processes of their own; print JSON or a table."""
    if options.part:
        print(json.dumps(MEASURED[options.part](options)))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    sizes = SCALES[options.scale].values()
    images = sum(size.images for size in sizes)
    print(f"{images:,} vectors of {options.width} in {len(sizes)} data sets\n")
    runs = [(measure("bare", options), measure("ours", options)) for _ in range(options.repeats)]
    bare, ours = (min(part, key=lambda run: run["seconds"]) for part in zip(*runs, strict=True))
    kept = images * options.width * 4
    largest = max(size.images for size in sizes) * options.width * 4
    result = bare["result"]
    needed = kept + largest + result
    print(
        table(
            [
                ("bare search", bare["seconds"], bare["peak"] / 2**20, ""),
                ("mining", ours["seconds"], ours["peak"] / 2**20, ours["pairs"]),
            ],
            header=("", "seconds", "MiB beyond the vectors", "pairs"),
        )
    )
    print(f"\ntime: {ours['seconds'] / bare['seconds']:.2f} × the bare search")
    print(
        f"memory: {(kept + ours['peak']) / needed:.2f} × embeddings + index + result "
        f"({kept >> 20} + {largest >> 20} + {result >> 20} MiB)"
    )
    print(f"negatives of the anchor's own identity: {ours['false']}")
    print(f"answered by a shortcut: {ours['shortcut']:.3f}; first stage's R-1: {ours['r1']:.3f}")
    if ours["queries"] < images:
        print(
            f"measured on {ours['queries']:,} of {images:,} queries; projected for all: "
            f"{ours['seconds'] * images / ours['queries'] / 60:.0f} minutes"
        )
    elif options.scale != "500k":
        report_peer(options)


def report_peer(options: Options) -> None:
    """Compare with other choices on market1501's vectors; print why if one cannot run."""
    from dataclasses import replace

    market = replace(options, scale="market")
    parts = {
        "twins": "ours",
        "--pairs extreme": "extreme",
        "MUSE's rule": "similar",
        "mine_hard_negatives, a positive each": "peer",
        "mine_hard_negatives, all positives": "peer, told all",
    }
    rows = []
    for name, part in parts.items():
        try:
            cost = measure(part, market)
        except WorkFailed as error:
            print(f"no {name}: {error}")
            continue
        share = cost["false"] / max(1, cost["negatives"])
        rows.append((name, cost["seconds"], f"{share:.1%}", f"{cost['shortcut']:.3f}"))
    header = ("on market1501 alone", "seconds", "same identity", "shortcut")
    print("\n" + table(rows, header=header))


def measure(part: str, options: Options) -> dict[str, Any]:
    """Measure one part in a process of its own."""
    threads = options.threads or os.cpu_count() or 1
    env = dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS"), str(threads))
    return alone("benchmarks.mining", options, env, part=part, threads=threads)


def draw(size: Size, width: int, seed: int) -> Drawn:
    """Draw images as sums of an identity's vector, a camera's and noise, in blocks.

    Identities differ in few dimensions, and half of the noise lies in these.
    """
    import numpy as np

    rng = np.random.default_rng([seed, size.images])
    pids = np.sort(rng.integers(0, size.identities, size.images))
    camids = rng.integers(0, size.cameras, size.images)
    few = rng.standard_normal((LATENT, width), np.float32) / (LATENT * width) ** 0.5
    people = rng.standard_normal((size.identities, LATENT), np.float32) @ few
    length = NOISE / 2**0.5 * np.exp(UNEVEN * rng.standard_normal(size.images, np.float32))
    views = rng.standard_normal((size.cameras, width), np.float32) * (CAMERA / width**0.5)
    vectors = np.empty((size.images, width), np.float32)
    for start in range(0, size.images, 4096):
        part = slice(start, start + 4096)
        block = people[pids[part]] + views[camids[part]]
        noise = rng.standard_normal((len(block), LATENT), np.float32) @ few
        noise += rng.standard_normal(block.shape, np.float32) / np.float32(width**0.5)
        block += noise * length[part, None]
        vectors[part] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return Drawn(vectors, pids, camids)


def measure_bare(options: Options) -> dict[str, Any]:
    """Measure FAISS's exact search of as many neighbours, data set by data set."""
    import faiss

    neighbours = []
    worlds = drawn(options)
    with watched() as seen:
        for world in worlds:
            queries = world.vectors[asking(len(world.pids))]
            neighbours.append(
                faiss.knn(queries, world.vectors, options.top_k, metric=faiss.METRIC_INNER_PRODUCT)
            )
    # A search returns an int64 row and a float32 similarity for each neighbour.
    result = sum(rows.nbytes + values.nbytes for values, rows in neighbours)
    return {**seen, "result": result}


def measure_ours(options: Options) -> dict[str, Any]:
    """Measure mining as in `builders.reid_hard`, from vectors to chosen pairs with their ranks."""
    import numpy as np

    from nontrivial.builders.reid.mining import Rules, mine
    from nontrivial.builders.reid.pairs import BUDGET, quotas
    from nontrivial.builders.reid.space import build_space

    worlds = drawn(options)
    totals: dict[str, float] = {"pairs": 0, "queries": 0, "false": 0, "negatives": 0}
    chosen = []
    with watched() as seen:
        for world in worlds:
            anchors = asking(len(world.pids))
            everybody = np.arange(len(world.pids))
            images = build_space([world.vectors], world.pids, world.camids, anchors, everybody)
            (budget,) = quotas(BUDGET, [len(anchors)])
            extreme = options.part == "extreme"
            mined = mine(images, Rules(budget=budget, top_k=options.top_k, extreme=extreme))
            hard = mined.ranked(images, mined.hard)
            chosen.append((world, len(anchors), hard, mined.nearest))
            del images, mined
    scores = []
    for world, queries, hard, nearest in chosen:
        anchor, candidate = hard["anchor"].to_numpy(), hard["candidate"].to_numpy()
        wrong = hard["kind"].str.ends_with("negative").to_numpy()
        same = world.pids[anchor] == world.pids[candidate]
        totals["false"] += int((same & wrong).sum())
        totals["negatives"] += int(wrong.sum())
        totals["pairs"] += len(hard)
        totals["queries"] += queries
        scores.append(shortcut(world, anchor, candidate, nearest))
    return {**seen, **totals, "shortcut": max(scores), "r1": first_right(worlds[0])}


def measure_similar(options: Options) -> dict[str, Any]:
    """Measure MUSE's rule on the same vectors."""
    import numpy as np

    from benchmarks.pairs import similar_pairs
    from nontrivial.builders.reid.pairs import BUDGET, quotas
    from nontrivial.builders.reid.space import build_space

    (world,) = drawn(options)
    rows = np.arange(len(world.pids))
    with watched() as seen:
        space = build_space([world.vectors], world.pids, world.camids, rows, rows)
        (budget,) = quotas(BUDGET, [len(rows)])
        pairs = similar_pairs(space, budget, options.seed)
    score = shortcut(world, pairs.anchor, pairs.candidate)
    return {**seen, "false": 0, "negatives": int((~pairs.same).sum()), "shortcut": score}


def shortcut(
    world: Drawn, anchor: np.ndarray, candidate: np.ndarray, nearest: np.ndarray | None = None
) -> float:
    """Return how many pairs the best threshold on similarity or popularity answers."""
    import faiss
    import numpy as np

    from nontrivial.builders.reid.twins import popularity
    from nontrivial.manifests.shortcuts import Clues, shortcut_scores

    if nearest is None:
        nearest = faiss.knn(world.vectors, world.vectors, 51, metric=faiss.METRIC_INNER_PRODUCT)[1]
    x = world.vectors
    numbers = {
        "similarity": np.einsum("pd,pd->p", x[anchor], x[candidate]),
        "popularity": popularity(nearest, len(x))[candidate],
    }
    same = world.pids[anchor] == world.pids[candidate]
    groups = world.pids[anchor].astype(str).tolist()
    return max(shortcut_scores(Clues(same, groups, numbers)).values())


def first_right(world: Drawn) -> float:
    """Return R-1 of some queries, ranked as in the benchmarks."""
    import numpy as np

    from nontrivial.builders.reid.mining import first_ranked
    from nontrivial.builders.reid.pairs import RANKED_POSITIVE
    from nontrivial.builders.reid.space import build_space

    count = len(world.pids)
    queries = np.unique(np.linspace(0, count - 1, FIRST).astype(np.int64))
    space = build_space([world.vectors], world.pids, world.camids, queries, np.arange(count))
    return float((first_ranked(space, 1)["kind"] == RANKED_POSITIVE).mean())


def measure_peer(options: Options) -> dict[str, Any]:
    """Measure sentence-transformers on the same vectors.

    The positives of an anchor are the next image of its identity, or all its images, and the anchor
    itself: otherwise it would be its own first negative.
    """
    import numpy as np
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    (world,) = (draw(size, options.width, options.seed) for size in SCALES["market"].values())
    count = len(world.pids)
    anchor, positive = np.nonzero(world.pids[:, None] == world.pids)
    given = np.isin(positive - anchor, (0, 1)) | (options.part == "peer, told all")
    pairs = Dataset.from_dict(
        {
            "anchor": anchor[given].astype(str).tolist(),
            "positive": positive[given].astype(str).tolist(),
        }
    )
    del given, positive
    corpus = [str(i) for i in range(count)]
    with watched() as seen:
        mined = mine_hard_negatives(
            pairs,
            Lookup(world.vectors),
            corpus=corpus,
            num_negatives=1,
            range_max=options.top_k,
            use_faiss=True,
            verbose=False,
        )
    anchor, negative = (np.array(mined[name], int) for name in ("anchor", "negative"))
    same = world.pids[anchor] == world.pids[negative]
    asked = np.concatenate([anchor, anchor])
    shown = np.concatenate([np.array(mined["positive"], int), negative])
    return {
        **seen,
        "false": int(same.sum()),
        "negatives": len(same),
        "shortcut": shortcut(world, asked, shown),
    }


class Lookup:
    """A model for sentence-transformers, whose texts are numbers of vectors."""

    similarity_fn_name, device = "cosine", "cpu"

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def get_embedding_dimension(self) -> int:
        return self.vectors.shape[1]

    def encode(self, texts: Sequence[str], **_: Any) -> np.ndarray:
        import numpy as np

        return self.vectors[np.array(list(texts), int)]

    encode_query = encode_document = encode

    def similarity(self, a: Any, b: Any) -> Any:
        from sentence_transformers.util import cos_sim

        return cos_sim(a, b)

    def similarity_pairwise(self, a: Any, b: Any) -> Any:
        from sentence_transformers.util import pairwise_cos_sim

        return pairwise_cos_sim(a, b)


MEASURED: dict[str, Callable[[Options], dict[str, Any]]] = {
    "bare": measure_bare,
    "ours": measure_ours,
    "extreme": measure_ours,
    "similar": measure_similar,
    "peer": measure_peer,
    "peer, told all": measure_peer,
}


def drawn(options: Options) -> list[Drawn]:
    """Set FAISS's threads and draw the vectors of every data set."""
    import faiss

    faiss.omp_set_num_threads(options.threads or os.cpu_count() or 1)
    sizes = SCALES[options.scale].values()
    return [draw(size, options.width, options.seed) for size in sizes]


def asking(images: int) -> np.ndarray:
    """Return the queries: all images, or evenly spread ones if there are too many."""
    import numpy as np

    if images <= WHOLE:
        return np.arange(images)
    return np.linspace(0, images - 1, SUBSET).astype(np.int64)


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Measure seconds, and peak memory in bytes beyond the start, sampled every 5 ms."""
    seen: dict[str, float] = {}
    before, highest, over = resident(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            highest[0] = max(highest[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        yield seen
    finally:
        seen["seconds"] = time.perf_counter() - began
        over.set()
        watcher.join()
        seen["peak"] = max(highest[0], resident()) - before


def resident() -> int:
    """Return the resident bytes of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
