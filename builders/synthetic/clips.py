"""Clips of colliding discs and questions about them, in the CLEVRER layout.

Objects are discs of equal mass that move straight, bounce off the borders and collide elastically,
so the motion between two events is exact. Simulating a world again without one of its objects gives
the truth of counterfactual and explanatory questions. Predictive questions ask what happens after
the clip ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, compress
from typing import Any

import numpy as np

WIDTH, HEIGHT, FPS, FRAMES = 128, 96, 8, 32
AFTER = 16  # frames that predictive questions look ahead
RADIUS = 10.0
COLOURS = {
    "red": (210, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (230, 210, 40),
    "purple": (150, 50, 180),
    "cyan": (50, 200, 210),
}
SHAPES = ("sphere", "cube", "cylinder")
RARE = 0.2  # probability of asking a question to which nothing is right
DESCRIPTIONS = 2  # descriptive questions per clip
MIN_PATH = 9.0  # pixels; shorter motion would be invisible

_Y, _X = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)


@dataclass(frozen=True)
class World:
    """Objects and their motion at the start.

    names       n distinct names, "colour shape"
    start       (n, 2) float64 pixels
    velocity    (n, 2) float64 pixels per frame
    """

    names: tuple[str, ...]
    start: np.ndarray
    velocity: np.ndarray


@dataclass(frozen=True)
class Motion:
    """A simulated stretch of a world.

    positions   (frames, n, 2) float64 pixels
    collisions  (frame, i, j) with i < j, ascending in time
    """

    positions: np.ndarray
    collisions: tuple[tuple[float, int, int], ...]

    def hits(self, start: float = 0, end: float = np.inf) -> set[tuple[int, int]]:
        """Return the pairs that collide at a frame in [start, end)."""
        return {(i, j) for frame, i, j in self.collisions if start <= frame < end}


def simulate(start: np.ndarray, velocity: np.ndarray, frames: int) -> Motion:
    """Simulate equal discs with elastic collisions, event by event, exact in between."""
    position, velocity = start.astype(np.float64).copy(), velocity.astype(np.float64).copy()
    pairs = list(combinations(range(len(position)), 2))
    positions, collisions = np.empty((frames, *position.shape)), []
    now, shown = 0.0, 0
    while shown < frames:
        step, event = _next_event(position, velocity, pairs)
        while shown < frames and shown <= now + step:
            positions[shown] = position + velocity * (shown - now)
            shown += 1
        step = min(step, frames - 1 - now) if shown == frames else step
        position = position + velocity * step
        now += step
        if shown < frames and event is not None:
            _bounce(position, velocity, event)
            if event[0] == "pair":
                collisions.append((now, *event[1]))
    return Motion(positions, tuple(collisions))


def _next_event(position: np.ndarray, velocity: np.ndarray, pairs: list[tuple[int, int]]) -> tuple:
    """Return the frames until the next bounce or collision, and that event."""
    best: float = np.inf
    event: tuple | None = None
    for axis, limit in ((0, WIDTH), (1, HEIGHT)):
        for k in np.flatnonzero(velocity[:, axis]):
            v = velocity[k, axis]
            border = limit - RADIUS if v > 0 else RADIUS
            wait = max((border - position[k, axis]) / v, 0.0)
            if wait < best:
                best, event = wait, ("border", (int(k), axis))
    for i, j in pairs:
        wait = _meeting(position[j] - position[i], velocity[j] - velocity[i])
        if wait < best:
            best, event = wait, ("pair", (i, j))
    return best, event


def _meeting(gap: np.ndarray, closing: np.ndarray) -> float:
    """Return the frames until two discs touch; infinite if they part or miss."""
    along = float(gap @ closing)
    speed = float(closing @ closing)
    if along >= 0 or speed == 0:
        return np.inf
    inside = along**2 - speed * (float(gap @ gap) - 4 * RADIUS**2)
    return np.inf if inside <= 0 else max((-along - inside**0.5) / speed, 0.0)


def _bounce(position: np.ndarray, velocity: np.ndarray, event: tuple) -> None:
    kind, (i, j) = event
    if kind == "border":
        velocity[i, j] = -velocity[i, j]
        return
    normal = position[j] - position[i]
    normal /= np.linalg.norm(normal)
    exchange = ((velocity[i] - velocity[j]) @ normal) * normal
    velocity[i] -= exchange
    velocity[j] += exchange


def draw_world(rng: np.random.Generator) -> tuple[World, Motion]:
    """Draw a world whose objects start clearly apart and move visibly or not at all."""
    while True:
        count = 3 if rng.random() < 0.3 else 4
        x, y = rng.uniform(14, WIDTH - 14, count), rng.uniform(14, HEIGHT - 14, count)
        start = np.stack([x, y], 1)
        gaps = np.linalg.norm(start[:, None] - start[None], axis=-1) + np.eye(count) * 1e3
        if gaps.min() < 2.6 * RADIUS:
            continue
        velocity = _velocities(start, rng)
        motion = simulate(start, velocity, FRAMES + AFTER)
        seen = np.linalg.norm(np.diff(motion.positions[:FRAMES], axis=0), axis=-1).sum(0)
        if not ((seen > 0) & (seen < MIN_PATH)).any() and motion.collisions:
            colours = rng.permutation(list(COLOURS))[:count]
            names = tuple(f"{colour} {SHAPES[int(rng.integers(3))]}" for colour in colours)
            return World(names, start, velocity), motion


def _velocities(start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw velocities: half of the objects rest, and often one is aimed at another."""
    count = len(start)
    angle, speed = rng.uniform(0, 2 * np.pi, count), rng.uniform(1.6, 2.6, count)
    velocity = np.stack([np.cos(angle), np.sin(angle)], 1) * speed[:, None]
    velocity[rng.random(count) < 0.5] = 0
    if rng.random() < 0.7:
        i, j = rng.choice(count, 2, replace=False)
        way = start[j] - start[i]
        velocity[i] = way / np.linalg.norm(way) * rng.uniform(1.6, 2.6)
        velocity[j] = 0
    return velocity


def render(world: World, motion: Motion, rng: np.random.Generator) -> np.ndarray:
    """Render the clip, (32, 96, 128, 3) uint8 RGB."""
    backdrop = np.empty((HEIGHT, WIDTH, 3), np.float32)
    backdrop[:] = rng.uniform(110, 160) + rng.uniform(-8, 8, 3)
    backdrop += (_Y * rng.uniform(-0.2, 0.2))[..., None]
    frames = np.repeat(backdrop[None], FRAMES, 0)
    for index, name in enumerate(world.names):
        colour, shape = name.split()
        for frame in range(FRAMES):
            x, y = (plane - motion.positions[frame, index, k] for k, plane in enumerate((_X, _Y)))
            body, light = _drawing(shape, x, y)
            frames[frame][body] = COLOURS[colour]
            frames[frame][light] = np.array(COLOURS[colour]) * 0.5 + 127
    frames += rng.normal(0, 3, (FRAMES, HEIGHT, WIDTH, 1)).astype(np.float32)
    return np.clip(frames, 0, 255).astype(np.uint8)


def _drawing(shape: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the body of an object at the origin and its highlight, (H, W) bool each."""
    if shape == "sphere":
        shine = (x + 0.3 * RADIUS) ** 2 + (y + 0.35 * RADIUS) ** 2
        return x * x + y * y < RADIUS**2, shine < (0.3 * RADIUS) ** 2
    half = RADIUS * (0.88 if shape == "cube" else 0.55)
    body = (np.abs(x) < half) & (np.abs(y) < max(half, RADIUS * (shape == "cylinder")))
    return body, body & (y < -0.5 * RADIUS) & (shape == "cube")


@dataclass(frozen=True)
class ClipQuestion:
    """A question with its truth: a fact per choice, or one fact if there are no choices."""

    kind: str  # descriptive | explanatory | predictive | counterfactual
    text: str
    facts: tuple[str, ...]
    choices: tuple[tuple[str, bool], ...] = ()
    answer: str = ""
    subtype: str = ""


def ask(world: World, motion: Motion, rng: np.random.Generator) -> list[ClipQuestion]:
    """Ask questions of all four types about one clip; types that do not apply are left out."""
    makers: list[Callable[..., Iterator[ClipQuestion]]] = [_describe, _explain, _predict, _remove]
    return [question for make in makers for question in make(world, motion, rng)]


def _describe(world: World, motion: Motion, rng: np.random.Generator) -> Iterator[ClipQuestion]:
    questions = list(_descriptions(world, motion, rng))
    yield from (questions[k] for k in rng.permutation(len(questions))[:DESCRIPTIONS])


def _descriptions(world: World, motion: Motion, rng: np.random.Generator) -> Iterator[ClipQuestion]:
    """Yield one question per subtype; its fact names the objects meant and the answer."""
    moving = motion_of(motion)
    state = bool(rng.integers(2))
    word, which = ("moving", moving) if state else ("stationary", ~moving)
    chosen = _names(world, which)

    def question(subtype: str, text: str, meant: list[str], answer: str) -> ClipQuestion:
        fact = f"{' '.join(meant or ['none'])}; {answer}"
        return ClipQuestion("descriptive", text, (fact,), (), answer, subtype)

    shape = SHAPES[int(rng.integers(3))]
    alike = [name for name in chosen if name.endswith(shape)]
    text = f"Are there any {word} {shape}s?"
    yield question("exist", text, alike, "yes" if alike else "no")
    yield question("count", f"How many {word} objects are there?", chosen, str(len(chosen)))
    shapes = [name.split()[1] for name in chosen]
    alone = [name for name in chosen if shapes.count(name.split()[1]) == 1]
    if alone:
        name = alone[int(rng.integers(len(alone)))]
        colour, shape = name.split()
        yield question("query_color", f"What color is the {word} {shape}?", [name], colour)
    name = world.names[int(rng.integers(len(world.names)))]
    colour, shape = name.split()
    yield question("query_shape", f"What shape is the {colour} object?", [name], shape)


def _explain(world: World, motion: Motion, rng: np.random.Generator) -> Iterator[ClipQuestion]:
    """Ask what is responsible for a collision: a third object without which it does not happen."""
    for i, j in sorted(motion.hits(0, FRAMES)):
        others = [int(k) for k in rng.permutation(len(world.names)) if k not in (i, j)]
        needed = [(i, j) not in without(world, k).hits(0, FRAMES) for k in others]
        if len(others) < 2 or not (any(needed) or rng.random() < RARE):
            continue
        parts = list(zip([world.names[k] for k in others], needed, strict=True))
        choices = [(f"The presence of the {name}", right) for name, right in parts]
        facts = [f"{name} {'needed' if right else 'idle'}" for name, right in parts]
        pair = f"the {world.names[i]} and the {world.names[j]}"
        text = f"Which of the following is responsible for the collision between {pair}?"
        yield ClipQuestion("explanatory", text, tuple(facts), tuple(choices))


def _predict(world: World, motion: Motion, rng: np.random.Generator) -> Iterator[ClipQuestion]:
    """Ask which pairs that have not collided yet will collide after the clip."""
    happened, coming = motion.hits(0, FRAMES), motion.hits(FRAMES)
    pairs = combinations(range(len(world.names)), 2)
    others = [pair for pair in pairs if pair not in happened]
    if not coming.intersection(others) and rng.random() > RARE:
        return
    text = ("What will happen next?", "Which event will happen next?")[int(rng.integers(2))]
    yield from _events("predictive", text, world, others, coming, rng, most=3)


def _remove(world: World, motion: Motion, rng: np.random.Generator) -> Iterator[ClipQuestion]:
    """Ask which collisions happen, or do not happen, without one of the objects."""
    gone = int(rng.integers(len(world.names)))
    hits = without(world, gone).hits(0, FRAMES)
    pairs = [pair for pair in combinations(range(len(world.names)), 2) if gone not in pair]
    removed = world.names[gone]
    negated = bool(rng.integers(2))
    templates = (
        f"Which event will {'not ' * negated}happen if the {removed} is removed?",
        f"What will {'not ' * negated}happen without the {removed}?",
    )
    text = templates[int(rng.integers(2))]
    yield from _events("counterfactual", text, world, pairs, hits, rng, most=4, negated=negated)


def _events(
    kind: str,
    text: str,
    world: World,
    pairs: list[tuple[int, int]],
    hits: set[tuple[int, int]],
    rng: np.random.Generator,
    *,
    most: int,
    negated: bool = False,
) -> Iterator[ClipQuestion]:
    """Yield a question whose choices are collisions, if there are two pairs to choose from."""
    if len(pairs) < 2:
        return
    chosen = [pairs[o] for o in rng.permutation(len(pairs))]
    chosen.sort(key=lambda pair: pair not in hits)  # collisions are rare: select them first
    chosen = [chosen[o] for o in rng.permutation(min(most, len(chosen)))]
    choices, facts = [], []
    for pair in chosen:
        first, second = (world.names[k] for k in (pair if rng.random() < 0.5 else pair[::-1]))
        happens = pair in hits
        choices.append((f"The {first} collides with the {second}", happens != negated))
        facts.append(f"{first} {second} {'hit' if happens else 'miss'}")
    yield ClipQuestion(kind, text, tuple(facts), tuple(choices))


def without(world: World, gone: int) -> Motion:
    """Simulate a world without one object, parked out of reach so that indices stay the same."""
    start, velocity = world.start.copy(), world.velocity.copy()
    start[gone], velocity[gone] = (-1e6, -1e6), 0
    return simulate(start, velocity, FRAMES)


def motion_of(motion: Motion) -> np.ndarray:
    """Return (n,) bool: the objects that move during the clip."""
    seen = np.diff(motion.positions[:FRAMES], axis=0)
    return np.linalg.norm(seen, axis=-1).sum(0) > 0


def states(world: World, motion: Motion) -> str:
    """Describe what is seen: the objects that move and those that do not."""
    moving = motion_of(motion)
    moves, still = (" ".join(_names(world, which) or ["none"]) for which in (moving, ~moving))
    return f"moves {moves}; still {still};"


def _names(world: World, which: np.ndarray) -> list[str]:
    """Return the names of the objects in `which`, (n,) bool, in the order of their colours."""
    return sorted(compress(world.names, which), key=lambda n: list(COLOURS).index(n.split()[0]))


def scene(
    index: int, filename: str, seen: str, questions: list[ClipQuestion]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return an entry of a CLEVRER question file and its rows of truth; choice −1 is `seen`."""
    entries, truth, truths = [], [], {True: "correct", False: "wrong"}
    for number, question in enumerate(questions):
        entry: dict[str, Any] = {
            "question_id": number,
            "question": question.text,
            "question_type": question.kind,
            "program": [],
        }
        facts = [seen, *question.facts]
        if question.choices:
            entry["choices"] = [
                {"choice_id": k, "choice": text, "program": [], "answer": truths[right]}
                for k, (text, right) in enumerate(question.choices)
            ]
        else:
            entry.update(question_subtype=question.subtype, answer=question.answer)
        truth += [
            {"scene_index": index, "question_id": number, "choice_id": k, "fact": fact}
            for k, fact in enumerate(facts, start=-1)
        ]
        entries.append(entry)
    return {"scene_index": index, "video_filename": filename, "questions": entries}, truth
