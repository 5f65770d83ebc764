"""The room that caps leave when pairs are chosen one after the other."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from nontrivial.manifests.schema import NOBODY


class Room:
    """How often images and identities may still be paired."""

    def __init__(self, pids: np.ndarray, per_image: int, per_identity: int) -> None:
        self.per_image, self.per_identity = per_image, per_identity
        self.person = np.unique(pids, return_inverse=True)[1]
        self.images: Counter[int] = Counter()
        self.identities: Counter[int] = Counter()
        self.taken: set[tuple[int, int]] = set()
        self.full_images = np.zeros(len(pids), bool)
        self.full_people = np.zeros(len(pids), bool)

    def open(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Mask the pairs (n,) that no cap rules out so far; `has` checks one pair exactly."""
        full = self.full_images[low] | self.full_images[high]
        return ~(full | self.full_people[self.person[low]] | self.full_people[self.person[high]])

    def has(self, *pairs: tuple[int, int]) -> bool:
        """True if all pairs may be taken: within the caps, and none before in either order."""
        members = Counter(itertools.chain.from_iterable(pairs))
        people = Counter(itertools.chain.from_iterable(self._people(*pair) for pair in pairs))
        return (
            self.taken.isdisjoint((min(pair), max(pair)) for pair in pairs)
            and all(self.images[row] + new <= self.per_image for row, new in members.items())
            and all(self.identities[p] + new <= self.per_identity for p, new in people.items())
        )

    def take(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Count the pairs as taken."""
        for a, b in pairs:
            self.taken.add((min(a, b), max(a, b)))
            self.images.update((a, b))
            self.identities.update(self._people(a, b))
            for row in (a, b):
                person = int(self.person[row])
                self.full_images[row] = self.images[row] >= self.per_image
                self.full_people[person] = self.identities[person] >= self.per_identity

    def first(
        self, places: Sequence[int], pairs: Sequence[tuple[int, int]], count: int, beside: int = 0
    ) -> list[int]:
        """Return the first `count` places with room for their pairs, after `beside` other pairs."""
        anchor = self.person[pairs[places[0]][0]] if places else NOBODY
        free = self.per_identity - self.identities[int(anchor)] - beside
        kept = (place for place in places if self.has(pairs[place]))
        return list(itertools.islice(kept, max(0, min(count, free))))

    def _people(self, a: int, b: int) -> set[int]:
        return {int(self.person[a]), int(self.person[b])}
