"""Images of people as an ideal encoder sees them: the identity's own vector plus a little noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nontrivial.builders.reid.space import Space, build_space


@dataclass(frozen=True)
class World:
    """vectors: of each encoder (N, width); pids as labelled, people as they are; camids (N,);
    clothes (N,) where they are known."""

    vectors: list[np.ndarray]
    pids: np.ndarray
    people: np.ndarray
    camids: np.ndarray
    clothes: np.ndarray | None = None

    def space(
        self, anchors: np.ndarray | None = None, candidates: np.ndarray | None = None
    ) -> Space:
        rows = np.arange(len(self.pids))
        return build_space(
            self.vectors,
            self.pids,
            self.camids,
            rows if anchors is None else anchors,
            rows if candidates is None else candidates,
            self.clothes,
        )


def world(
    seed: int = 0,
    identities: int = 20,
    images: int = 6,
    cameras: int = 3,
    widths: tuple[int, ...] = (32,),
    noise: float = 0.3,
) -> World:
    """`images` pictures of each person over the cameras; noise is the length added to length 1."""
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(identities), images)
    camids = np.tile(np.arange(images) % cameras, identities)
    vectors = []
    for width in widths:
        centres = unit(rng.normal(size=(identities, width)))
        vectors.append(near(centres[people], noise, rng))
    return World(vectors, people.copy(), people, camids)


def lookalikes(
    base: World, pairs: int, distance: float, seed: int = 0
) -> tuple[World, set[frozenset[int]]]:
    """The same world where each of the first 2·`pairs` people resembles one other.

    Returns the pairs of pids, too.
    """
    rng = np.random.default_rng([seed, 1])
    twins = {frozenset((2 * i, 2 * i + 1)) for i in range(pairs)}
    vectors = []
    for x in base.vectors:
        x = x.copy()
        for i in range(pairs):
            centre = unit(rng.normal(size=(1, x.shape[1])))
            step = unit(rng.normal(size=(1, x.shape[1]))) * distance
            for person, middle in ((2 * i, centre), (2 * i + 1, centre + step)):
                mine = base.people == person
                x[mine] = near(np.repeat(unit(middle), mine.sum(), axis=0), 0.1, rng)
        vectors.append(x)
    return replace(base, vectors=vectors), twins


def near(centres: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    return unit(centres + noise * unit(rng.normal(size=centres.shape))).astype(np.float32)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def shuffled(base: World, seed: int) -> tuple[World, np.ndarray]:
    """The same images in another order, and the order: new row i is old row order[i]."""
    order = np.random.default_rng(seed).permutation(len(base.pids))
    columns = (base.pids[order], base.people[order], base.camids[order])
    return World([x[order] for x in base.vectors], *columns), order
