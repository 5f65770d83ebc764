"""Pedestrians with known attributes in six cameras, in the Market-1501 layout.

An identity is a combination of attributes; two identities that differ in one attribute look alike.
The worlds share no identity: `public` is for data sets, `pretraining` for the embedded policy. Nor
do the train and test identities of one world overlap.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 64, 128
COLOURS = {
    "red": (200, 40, 40),
    "yellow": (220, 200, 50),
    "green": (50, 150, 60),
    "blue": (50, 80, 200),
    "purple": (130, 50, 160),
    "white": (230, 230, 230),
    "black": (35, 35, 40),
    "brown": (120, 75, 40),
    "blond": (225, 195, 110),
}
ATTRIBUTES = {
    "shirt": [f"{c} shirt" for c in ("red", "yellow", "green", "blue", "purple", "white", "black")],
    "pattern": ["plain", "striped", "checked"],
    "trousers": [f"{c} trousers" for c in ("blue", "black", "white", "brown", "green")],
    "hair": [f"{c} hair" for c in ("black", "brown", "blond", "red")],
    "bag": ["bag", "no bag"],
    "build": ["slim", "wide"],
}
WORLDS = ("public", "pretraining")
SKIN, BAG, SHOES = (210, 170, 140), (235, 120, 20), (40, 30, 30)
DISTRACTOR, JUNK = 0, -1

_Y, _X = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)


class Camera(NamedTuple):
    """A camera: its brightness, colour cast, blur, background, and crop shift in pixels."""

    gain: float
    cast: tuple[float, float, float]
    blur: bool
    background: tuple[int, int, int]
    shift: int


CAMERAS = (
    Camera(1.00, (1.00, 1.00, 1.00), False, (120, 130, 120), 3),
    Camera(0.75, (1.00, 1.00, 1.12), False, (80, 85, 100), 3),
    Camera(1.20, (1.08, 1.00, 0.92), False, (180, 170, 150), 4),
    Camera(0.90, (0.92, 1.06, 0.95), True, (90, 120, 90), 3),
    Camera(1.10, (1.00, 0.95, 1.08), True, (150, 150, 165), 4),
    Camera(0.65, (1.05, 1.00, 0.95), False, (60, 55, 50), 3),
)


@dataclass(frozen=True)
class Shot:
    """One image of the data set before it is written."""

    folder: str  # bounding_box_train | query | bounding_box_test
    name: str
    attributes: tuple[str, ...]
    camera: int
    seed: tuple[int, ...]
    junk: bool = False


def identities(world: str) -> list[tuple[str, ...]]:
    """Return all attribute combinations of a world, in a fixed order."""
    combinations = list(itertools.product(*ATTRIBUTES.values()))
    order = np.random.default_rng(1501).permutation(len(combinations))
    half = len(order) // 2
    chosen = order[:half] if world == "public" else order[half:]
    return [combinations[i] for i in chosen]


def plan(world: str, seed: int, train: int, test: int, images_per_identity: int) -> Iterator[Shot]:
    """Yield every image of a data set; `draw` renders it."""
    people = identities(world)
    if train + test > len(people):
        raise ValueError(f"{train} + {test} identities; the {world} world has {len(people)}")
    # The test identities do not depend on the seed, so that no training set holds one of them.
    held_out, rest = people[:test], people[test:]
    chosen = np.random.default_rng([seed, 1]).permutation(len(rest))[:train]
    for number, index in enumerate(chosen):
        pid = 2 * number + 2
        for photo in _shots(pid, rest[index], seed, images_per_identity):
            yield Shot("bounding_box_train", *photo)
    for number, person in enumerate(held_out):
        yield from _test_shots(2 * number + 1, person, seed, images_per_identity)
    yield from _noise_shots(rest, seed, count=test // 2)


def draw(photo: Shot) -> np.ndarray:
    """Render a photo, (128, 64, 3) uint8 RGB."""
    rng = np.random.default_rng(photo.seed)
    camera = CAMERAS[photo.camera]
    image = _background(camera, rng)
    # Junk is a bad crop: most of the person lies outside.
    far = (rng.choice([-26, 26]), rng.choice([-60, 60])) if photo.junk else (0, 0)
    dx, dy = (int(d) for d in rng.integers(-camera.shift, camera.shift + 1, 2) + far)
    _draw_person(image, dict(zip(ATTRIBUTES, photo.attributes, strict=True)), dx, dy, rng)
    if rng.random() < 0.25:
        _occlude(image, rng)
    return _expose(image, camera, rng)


def _shots(pid: int, person: tuple[str, ...], seed: int, count: int) -> Iterator[tuple]:
    """Yield `count` photos of one person, spread evenly over the cameras."""
    rng = np.random.default_rng([seed, 2, pid])
    cameras = np.resize(rng.permutation(len(CAMERAS)), count)
    frames = np.sort(rng.choice(90_000, count, replace=False)) + 1
    for shot, (camera, frame) in enumerate(zip(np.sort(cameras), frames, strict=True)):
        name = f"{pid:04d}_c{camera + 1}s1_{frame:06d}_{shot % 4:02d}.jpg"
        yield name, person, int(camera), (seed, 3, pid, shot)


def _test_shots(pid: int, person: tuple[str, ...], seed: int, count: int) -> Iterator[Shot]:
    """Yield queries and gallery by turns: with two photos per camera, each camera has one query, as
    in Market-1501."""
    for shot, photo in enumerate(_shots(pid, person, seed, count)):
        yield Shot("bounding_box_test" if shot % 2 else "query", *photo)


def _noise_shots(rest: list[tuple[str, ...]], seed: int, count: int) -> Iterator[Shot]:
    """Yield distractors (pid 0000, people without query) and junk (pid −1, bad crops)."""
    rng = np.random.default_rng([seed, 4])
    for pid, word in ((JUNK, "-1"), (DISTRACTOR, "0000")):
        for shot in range(count):
            camera = int(rng.integers(len(CAMERAS)))
            name = f"{word}_c{camera + 1}s1_{shot + 1:06d}_00.jpg"
            person = rest[int(rng.integers(len(rest)))]
            noise = (seed, 5, pid + 1, shot)
            yield Shot("bounding_box_test", name, person, camera, noise, junk=pid == JUNK)


def _background(camera: Camera, rng: np.random.Generator) -> np.ndarray:
    image = np.empty((HEIGHT, WIDTH, 3), np.float32)
    image[:] = camera.background
    image += 12 * np.sin(_Y / rng.uniform(7, 16) + rng.uniform(0, 6))[..., None]
    return image + rng.normal(0, 4, (HEIGHT, WIDTH, 1)).astype(np.float32)


def _draw_person(
    image: np.ndarray, wears: dict[str, str], dx: int, dy: int, rng: np.random.Generator
) -> None:
    width = (10.5 if wears["build"] == "slim" else 17.0) + rng.uniform(-1, 1)
    x, y = _X - WIDTH / 2 - dx, _Y - 7 - dy
    _draw_legs(image, x, y, width, _colour(wears["trousers"]), rng.uniform(0, 3))
    torso = (y >= 23) & (y < 66) & (np.abs(x) < width)
    arms = (y >= 25) & (y < 59) & (np.abs(np.abs(x) - width - 3) < 2.6)
    base = _colour(wears["shirt"])
    image[torso | arms] = base
    image[torso & _pattern(wears["pattern"], rng)] = _second_colour(base)
    image[(y >= 59) & (y < 64) & (np.abs(np.abs(x) - width - 3) < 2.3)] = SKIN
    image[((x / 7) ** 2 + ((y - 11.5) / 9) ** 2) < 1] = SKIN
    image[(((x / 8) ** 2 + ((y - 9) / 10.5) ** 2) < 1) & (y < 8)] = _colour(wears["hair"])
    if wears["bag"] == "bag":
        image[(y >= 34) & (y < 57) & (x > width * 0.5) & (x < width + 9)] = BAG
        image[(np.abs(x * 0.9 + (y - 36) * 0.8) < 1.9) & torso] = BAG


def _draw_legs(
    image: np.ndarray, x: np.ndarray, y: np.ndarray, width: float, colour: np.ndarray, sway: float
) -> None:
    lean = sway * (y - 64) / 46
    left = np.abs(x + width * 0.45 + lean) < width * 0.4
    right = np.abs(x - width * 0.45 - lean) < width * 0.4
    image[(y >= 64) & (y < 109) & (left | right)] = colour
    image[(y >= 109) & (y < 114) & (np.abs(np.abs(x) - width * 0.5) < width * 0.45)] = SHOES


def _pattern(name: str, rng: np.random.Generator) -> np.ndarray:
    """Return the mask of a shirt's second colour, (128, 64) bool."""
    phase = rng.integers(0, 10)
    rows, columns = ((_Y + phase) // 5) % 2 == 0, ((_Y + phase) // 7 + (_X + phase) // 7) % 2 == 0
    return {"plain": np.zeros_like(rows), "striped": rows, "checked": columns}[name]


def _second_colour(base: np.ndarray) -> np.ndarray:
    if base.max() < 60:
        return np.array((170, 170, 170), np.float32)
    bright = base[:2].min() > 180
    return base * 0.45 if bright else base * 0.65 + (255 - base) * 0.35


def _colour(words: str) -> np.ndarray:
    return np.array(COLOURS[words.split()[0]], np.float32)


def _occlude(image: np.ndarray, rng: np.random.Generator) -> None:
    """Hide the lower legs or one side, as carts and posts do."""
    shade = rng.uniform(60, 190)
    if rng.random() < 0.5:
        image[HEIGHT - int(rng.integers(8, 22)) :] = shade
    else:
        edge = int(rng.integers(4, 10))
        image[:, (slice(0, edge) if rng.random() < 0.5 else slice(WIDTH - edge, WIDTH))] = shade


def _expose(image: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    image = image * (camera.gain * rng.uniform(0.9, 1.1)) * np.array(camera.cast, np.float32)
    if camera.blur:
        around = (np.roll(image, s, axis) for axis in (0, 1) for s in (1, -1))
        image = (image + sum(around)) / 5
    return np.clip(image, 0, 255).astype(np.uint8)
