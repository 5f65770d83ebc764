"""Measure what kinds of pairs teach a linear probe, by asking it about natural pairs.

  python -m benchmarks.pairs                                # drawn people, stripes
  python -m benchmarks.pairs --source cuhk03 --root data --encoder osnet_x0_25=weights.pth

The probe sees what the first stage sees, |a − b| and a · b of two vectors, so it can only learn how
to use that. It is asked about random test pairs and about the first five of each query's ranking,
where the first stage itself decides badly. Scores are AUC: .5 knows nothing, and below .5 it orders
pairs the wrong way round. `similar` takes, without a rule about cameras, the most similar strangers
and the least similar images of the same person, as published recipes do.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nontrivial.builders.reid.vectors import ImageOptions
from nontrivial.manifests.command import guard, option, parse, table

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from nontrivial.builders.reid.space import Space

FIRST = 5
L2 = 0.03  # of standardised features


@dataclass
class Options(ImageOptions):
    """Options of `python -m benchmarks.pairs`."""

    root: str | None = option("folder of the data sets; none draws people", default=None)
    out: str | None = option("folder of cached vectors; none forgets them", default=None)
    budget: float = option("pairs: a share of the images, or a number", default=0.209)
    identities: int = option("people drawn for each split", default=400, rare=True)
    seed: int = option("seed of the random pairs", default=0)


class Asked(NamedTuple):
    """Rows of anchors and candidates, (P,), and whether they are the same person, (P,) bool."""

    anchor: np.ndarray
    candidate: np.ndarray
    same: np.ndarray


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="benchmarks.pairs", description=__doc__))


def run(options: Options) -> None:
    """Fit and ask a probe on each kind of pairs, and print a table."""
    with tempfile.TemporaryDirectory() as folder:
        out = options.out or folder
        if options.root is None:
            options = replace(
                options, root=draw(options, Path(folder, "data")), encoder=["stripes"]
            )
        spaces = {s: space_of_split(replace(options, split=s, out=out)) for s in ("train", "test")}
    asked = natural(spaces["test"], options.seed)
    rows = [("the first stage itself", "", *scores(spaces["test"], asked, first_stage))]
    for name, pairs in kinds(spaces["train"], options).items():
        ask = probe(spaces["train"], pairs)
        rows.append((name, str(len(pairs.same)), *scores(spaces["test"], asked, ask)))
    print(table(rows, header=("fitted on", "pairs", *asked)))


def draw(options: Options, root: Path) -> str:
    """Draw people under `root`; return it."""
    from nontrivial.builders.synthetic.__main__ import main as synthetic

    words = {"identities": options.identities, "test_identities": options.identities}
    words |= {"only": "market1501", "out": str(root), "seed": options.seed}
    if synthetic([f"--{name}={value}" for name, value in words.items()]):
        raise RuntimeError("the people could not be drawn")
    return str(root)


def space_of_split(options: ImageOptions) -> Space:
    """Embed the images of a split; return their space."""
    from nontrivial.builders.reid.vectors import embed, read_sources
    from nontrivial.builders.reid_hard import space_of
    from nontrivial.models.encoders import load_encoders

    (images,) = read_sources(options)
    encoders = load_encoders(options.encoder, precision=options.precision)
    return space_of(embed(images.frame, encoders, options))


def kinds(space: Space, options: Options) -> dict[str, Asked]:
    """Choose pairs of each kind within one budget."""
    from nontrivial.builders.reid.mining import Rules, mine
    from nontrivial.builders.reid.pairs import quotas

    (budget,) = quotas(options.budget, [len(space.anchors)])
    rules = Rules(budget, seed=options.seed)
    twins, extreme = mine(space, rules), mine(space, replace(rules, extreme=True))
    return {
        "twins": of_frame(space, twins.hard),
        "extreme": of_frame(space, extreme.hard),
        "similar": similar_pairs(space, budget, options.seed),
        "random": of_frame(space, twins.random),
    }


def similar_pairs(space: Space, budget: int, seed: int, k: int = 1) -> Asked:
    """Take the k least similar images of the anchor's identity and the k most similar others.

    Anchors are drawn at random, without a rule about cameras: MUSE's rule, as we read it.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    anchors = rng.permutation(space.anchors)[: -(-budget // (2 * k))]
    value = np.mean([x[anchors] @ x[space.candidates].T for x in space.vectors], axis=0)
    same = space.pids[anchors][:, None] == space.pids[space.candidates]
    same &= anchors[:, None] != space.candidates
    other = space.pids[anchors][:, None] != space.pids[space.candidates]
    right = np.argsort(np.where(same, value, np.inf), axis=1)[:, :k]
    wrong = np.argsort(np.where(other, -value, np.inf), axis=1)[:, :k]
    at = np.concatenate([right, wrong], axis=1)
    kept = np.take_along_axis(same | other, at, axis=1)
    anchor = np.broadcast_to(anchors[:, None], at.shape)[kept]
    candidate = space.candidates[at[kept]]
    return Asked(anchor, candidate, space.pids[anchor] == space.pids[candidate])


def natural(space: Space, seed: int) -> dict[str, Asked]:
    """Return random pairs of a test split, and the first of each query's ranking."""
    from nontrivial.builders.reid.mining import Rules, first_ranked, mine

    drawn = mine(space, Rules(budget=2000, trust_labels=True, seed=seed)).random
    first = of_frame(space, first_ranked(space, FIRST))
    return {"random pairs": of_frame(space, drawn), f"first {FIRST}": first}


def of_frame(space: Space, pairs: pl.DataFrame) -> Asked:
    """Return the pairs of a table with their truth."""
    anchor, candidate = (pairs[name].to_numpy() for name in ("anchor", "candidate"))
    return Asked(anchor, candidate, space.pids[anchor] == space.pids[candidate])


def features(space: Space, pairs: Asked) -> np.ndarray:
    """Return |a − b| and a · b of the vectors of pairs, (P, 2 D)."""
    import numpy as np

    both = [(x[pairs.anchor], x[pairs.candidate]) for x in space.vectors]
    return np.concatenate([part for a, b in both for part in (np.abs(a - b), a * b)], axis=1)


def first_stage(space: Space, pairs: Asked) -> np.ndarray:
    """Return the first stage's similarity of pairs, (P,)."""
    from nontrivial.builders.reid.space import similarity

    return similarity(space, pairs.anchor, pairs.candidate)


def probe(space: Space, pairs: Asked) -> Callable[[Space, Asked], np.ndarray]:
    """Return a linear probe fitted on pairs."""
    from nontrivial.manifests.probes import logistic, probability

    weights = logistic(features(space, pairs), pairs.same.astype(float), L2)
    return lambda other, asked: probability(features(other, asked), weights)


def scores(
    space: Space, asked: Mapping[str, Asked], ask: Callable[[Space, Asked], np.ndarray]
) -> list[str]:
    """Return the AUC on each kind of natural pairs, as text."""
    from nontrivial.manifests.probes import auc

    return [f"{auc(ask(space, pairs), pairs.same):.3f}" for pairs in asked.values()]


if __name__ == "__main__":
    sys.exit(main())
