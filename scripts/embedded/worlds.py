"""Draw the worlds that the embedded policy is pre-trained on.

Manifests are built with the commands a user calls. The vision tower has to learn the contents of
every cell, which no manifest holds: `Truth` reads them from the truth of the drawing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nontrivial.builders.synthetic import __main__ as synthetic
from nontrivial.builders.synthetic import clips, people
from nontrivial.manifests.parquet import read_table

CELL = 32  # pixels a side of the area behind one output token of the vision tower
MARGIN = 5  # pixels: an object whose centre, or a spark, is this close to a cell reaches into it
STATES = ("moves", "still")
HIT = "hit"
WORDS = [
    *(word for words in people.ATTRIBUTES.values() for word in words),
    *clips.COLOURS,
    *clips.SHAPES,
    *STATES,
    HIT,
]


@dataclass(frozen=True)
class Size:
    """Size of a drawn world."""

    identities: int = 700
    videos: int = 2000
    pairs: int = 6000


def draw(folder: Path, seed: int, size: Size) -> None:
    """Draw people and clips of the pre-training world, unless they exist."""
    if (folder / "clevrer" / "truth.parquet").is_file():
        return
    arguments = {
        "world": "pretraining",
        "seed": seed,
        "identities": size.identities,
        "test_identities": 140,
        "videos": size.videos,
        "test_videos": 150,
    }
    words = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    call(synthetic.main, [*words, "--out", str(folder)])


def manifests(folder: Path, seed: int, size: Size) -> list[Path]:
    """Build half-inverted questions and random pairs of people; return the paths of manifests."""
    from nontrivial.builders import qa_invert, reid_hard

    common = ["--root", str(folder), "--out", str(folder / "manifests"), "--seed", str(seed)]
    pairs = ["--pairs", "random", "--budget", str(size.pairs), "--encoder", "stripes"]
    call(reid_hard.main, ["--source", "market1501", *pairs, *common])
    call(qa_invert.main, ["--bench", "clevrer", *common])
    return sorted((folder / "manifests").glob("*.parquet"))


class Truth:
    """The words that each vision token of a file shows, as 0 and 1 over `WORDS`."""

    def __init__(self, folder: Path, seed: int, frames: Sequence[int]) -> None:
        rows = read_table(folder / synthetic.MARKET / "truth.parquet").to_pylist()
        self.people = {f"{synthetic.MARKET}/{row.pop('path')}": list(row.values()) for row in rows}
        self.seed, self.frames = seed, list(frames)

    def __call__(self, path: str) -> torch.Tensor:
        """Return (tokens, W) float32 for one image or clip."""
        if path in self.people:
            return torch.from_numpy(self._person(path))
        return torch.from_numpy(self._clip(int(Path(path).stem.split("_")[1])))

    def _person(self, path: str) -> np.ndarray:
        """Mark all attributes of a person at every token."""
        tokens = (people.WIDTH // CELL) * (people.HEIGHT // CELL)
        shown = np.zeros((tokens, len(WORDS)), np.float32)
        shown[:, [WORDS.index(word) for word in self.people[path]]] = 1
        return shown

    def _clip(self, number: int) -> np.ndarray:
        """Mark the objects that reach into the cell of a token, their state, and collisions."""
        world, motion = clips.draw_world(np.random.default_rng([self.seed, 6, number]))
        rows, columns = clips.HEIGHT // CELL, clips.WIDTH // CELL
        shown = np.zeros((len(self.frames) // 2, rows, columns, len(WORDS)), np.float32)
        corners = np.stack(np.meshgrid(range(columns), range(rows)), -1) * CELL
        for pair, frames in enumerate(zip(self.frames[::2], self.frames[1::2], strict=True)):
            for index, name in enumerate(world.names):
                places = motion.positions[list(frames), index]
                state = STATES[0] if np.abs(places[1] - places[0]).sum() > 1 else STATES[1]
                words = np.isin(WORDS, (*name.split(), state))
                for place in places:
                    shown[pair][_reached(corners, place)] += words
        for lit, meeting, (i, j) in clips.sparks(motion):
            # A spark shows who meets there, and hides who else is near.
            cells = _reached(corners, meeting)
            words = np.isin(WORDS, (*world.names[i].split(), *world.names[j].split(), HIT))
            for pair in np.unique(np.flatnonzero(lit[self.frames]) // 2):
                shown[pair][cells] = words
        return shown.clip(max=1).reshape(-1, len(WORDS))


def _reached(corners: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Mark the cells, given by corners (rows, columns, xy), that something at `place` reaches."""
    near = (corners - MARGIN < place) & (place < corners + CELL + MARGIN)
    return near.all(-1)


def call(command: Callable[[list[str]], int], words: list[str]) -> None:
    """Run a command as a user would; exit with its status if it fails."""
    status = command(words)
    if status:
        raise SystemExit(status)
