"""Clips of colliding discs and questions about them, in the CLEVRER layout.

Objects are discs of equal mass that move straight, bounce off the borders and collide elastically,
so the motion between two events is exact. A spark shows where two collide. Simulating a world again
without one of its objects gives the truth of counterfactual and explanatory questions; they are
asked where the collisions seen tell that truth, too. Predictive questions ask what happens after
the clip ends.

Two kinds of questions are not CLEVRER's. Selective ones ask which objects move, rest or collide.
Chained ones ask which steps of a chain of collisions happen: a step happens only if the one before
it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, compress, pairwise, permutations
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
SELECTIONS = 2  # selective questions per clip
OBJECTS = 4
MAX_HITS = 3  # collisions during a clip, each of another pair
APART = 6.0  # frames between two collisions
LONE = 0.6  # probability of passing over a world with one collision
SPEEDS = 1.8, 2.8  # pixels per frame
MIN_PATH = 9.0  # pixels; shorter motion would be invisible
SPARK = 2.5  # frames before and after a collision that show its spark

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
    """Draw a world whose objects start clearly apart, move visibly or not at all, and collide."""
    while True:
        x, y = rng.uniform(14, WIDTH - 14, OBJECTS), rng.uniform(14, HEIGHT - 14, OBJECTS)
        start = np.stack([x, y], 1)
        gaps = np.linalg.norm(start[:, None] - start[None], axis=-1) + np.eye(OBJECTS) * 1e3
        if gaps.min() < 2.6 * RADIUS:
            continue
        velocity = _velocities(start, rng)
        motion = simulate(start, velocity, FRAMES + AFTER)
        seen = np.linalg.norm(np.diff(motion.positions[:FRAMES], axis=0), axis=-1).sum(0)
        if not ((seen > 0) & (seen < MIN_PATH)).any() and _can_be_told(motion, rng):
            colours = rng.permutation(list(COLOURS))[:OBJECTS]
            names = tuple(f"{colour} {SHAPES[int(rng.integers(3))]}" for colour in colours)
            return World(names, start, velocity), motion


def _can_be_told(motion: Motion, rng: np.random.Generator) -> bool:
    """True if collisions are few, of different pairs and apart in time; seldom for a lone one."""
    hits = seen_hits(motion)
    if not 0 < len(hits) <= MAX_HITS or len(pairs_of(hits)) < len(hits):
        return False
    if len(hits) == 1:
        return rng.random() >= LONE
    return bool(np.diff([moment for moment, _, _ in hits]).min() >= APART)


def _velocities(start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw velocities: most objects rest, and often one is aimed at another."""
    count = len(start)
    angle, speed = rng.uniform(0, 2 * np.pi, count), rng.uniform(*SPEEDS, count)
    velocity = np.stack([np.cos(angle), np.sin(angle)], 1) * speed[:, None]
    velocity[rng.random(count) < 0.6] = 0
    if rng.random() < 0.8:
        i, j = rng.choice(count, 2, replace=False)
        way = start[j] - start[i]
        velocity[i] = way / np.linalg.norm(way) * rng.uniform(*SPEEDS)
        velocity[j] = 0
    return velocity


def seen_hits(motion: Motion) -> list[tuple[float, int, int]]:
    """Return the collisions during the clip, ascending in time."""
    return [hit for hit in motion.collisions if hit[0] < FRAMES - 1]


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
    for lit, where, _ in sparks(motion):
        x, y = _X - where[0], _Y - where[1]
        spark = np.abs(x * y) < 6
        spark &= x * x + y * y < (0.9 * RADIUS) ** 2
        for number in np.flatnonzero(lit):
            frames[number][spark] = 255
    frames += rng.normal(0, 3, (FRAMES, HEIGHT, WIDTH, 1)).astype(np.float32)
    return np.clip(frames, 0, 255).astype(np.uint8)


def sparks(motion: Motion) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[int, int]]]:
    """Yield the frames that show a collision seen, (32,) bool, its place, and the pair."""
    for moment, i, j in seen_hits(motion):
        lit = np.abs(np.arange(FRAMES) - moment) <= SPARK
        yield lit, motion.positions[round(moment), [i, j]].mean(0), (i, j)


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
    """A question with its truth: what follows from what is seen, and a fact for each choice."""

    kind: str  # descriptive | selective | explanatory | predictive | counterfactual | chained
    text: str
    concluded: str = ""
    facts: tuple[str, ...] = ()
    choices: tuple[tuple[str, bool], ...] = ()
    answer: str = ""
    subtype: str = ""


def ask(world: World, motion: Motion, rng: np.random.Generator) -> list[ClipQuestion]:
    """Ask questions of all kinds about one clip; kinds that do not apply are left out."""
    makers: list[Callable[..., Iterator[ClipQuestion]]] = [
        *(_describe, _select, _explain, _predict, _remove, _chain),
    ]
    return [question for make in makers for question in make(world, motion, rng)]


def _describe(world: World, motion: Motion, rng: np.random.Generator) -> Iterator[ClipQuestion]:
    questions = list(_descriptions(world, motion, rng))
    yield from (questions[k] for k in rng.permutation(len(questions))[:DESCRIPTIONS])


def _descriptions(world: World, motion: Motion, rng: np.random.Generator) -> Iterator[ClipQuestion]:
    """Yield one question per subtype; the conclusion names the objects meant and the answer."""
    moving = motion_of(motion)
    state = bool(rng.integers(2))
    word, which = ("moving", moving) if state else ("stationary", ~moving)
    chosen = _names(world, which)

    def question(subtype: str, text: str, meant: list[str], answer: str) -> ClipQuestion:
        concluded = f"{' '.join(meant or ['none'])}; {answer}"
        return ClipQuestion("descriptive", text, concluded, answer=answer, subtype=subtype)

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


def _select(world: World, motion: Motion, rng: np.random.Generator) -> Iterator[ClipQuestion]:
    """Ask which objects move, rest or collide, among all of them and one that is not there."""
    asked = selections(motion)
    texts = list(asked)
    for k in rng.permutation(len(texts))[:SELECTIONS]:
        right, words = asked[texts[k]]
        truths = [(name, bool(is_right)) for name, is_right in zip(world.names, right, strict=True)]
        facts = {name: words[0 if is_right else 1] for name, is_right in truths}
        truths.append((absent(world, rng), False))
        truths = [truths[o] for o in rng.permutation(len(truths))]
        yield ClipQuestion(
            "selective",
            texts[k],
            facts=tuple(f"{name} {facts.get(name, 'absent')}" for name, _ in truths),
            choices=tuple((f"The {name}", is_right) for name, is_right in truths),
        )


def selections(motion: Motion) -> dict[str, tuple[np.ndarray, tuple[str, str]]]:
    """Return, by question, the objects it selects, (n,) bool, and the words for them and others."""
    moving = motion_of(motion)
    hit = np.isin(np.arange(len(moving)), [k for _, *pair in seen_hits(motion) for k in pair])
    return {
        "Which of these objects move?": (moving, ("moves", "rests")),
        "Which of these objects stay where they are?": (~moving, ("rests", "moves")),
        "Which of these objects collide with another one?": (hit, ("hit", "untouched")),
    }


def absent(world: World, rng: np.random.Generator) -> str:
    """Draw the name of an object whose colour is not in the world."""
    colours = sorted(set(COLOURS) - {name.split()[0] for name in world.names})
    return f"{colours[int(rng.integers(len(colours)))]} {SHAPES[int(rng.integers(3))]}"


def _explain(world: World, motion: Motion, rng: np.random.Generator) -> Iterator[ClipQuestion]:
    """Ask what is responsible for a collision: a third object without which it does not happen."""
    hits = seen_hits(motion)
    for number, (_, i, j) in enumerate(hits):
        others = [int(k) for k in rng.permutation(len(world.names)) if k not in (i, j)]
        needed = [(i, j) not in without(world, k).hits(0, FRAMES) for k in others]
        causes, steps = causes_of(hits[: number + 1])
        if [k in causes for k in others] != needed or (i, j) in pairs_of(hits[:number]):
            continue
        if not any(needed) and rng.random() > RARE:
            continue
        parts = list(zip([world.names[k] for k in others], needed, strict=True))
        parts.insert(int(rng.integers(len(parts) + 1)), (absent(world, rng), False))
        facts = tuple(f"{name} {'needed' if right else 'idle'}" for name, right in parts)
        yield ClipQuestion(
            "explanatory",
            "Which of the following is responsible for the collision between "
            f"the {world.names[i]} and the {world.names[j]}?",
            "; ".join(f"{_pair(world, pair)} {word}" for pair, word in steps) or "none",
            facts,
            tuple((f"The presence of the {name}", right) for name, right in parts),
        )


def _predict(world: World, motion: Motion, rng: np.random.Generator) -> Iterator[ClipQuestion]:
    """Ask which pairs that have not collided yet will collide after the clip."""
    happened, coming = motion.hits(0, FRAMES), motion.hits(FRAMES)
    pairs = combinations(range(len(world.names)), 2)
    others = [pair for pair in pairs if pair not in happened]
    if not coming.intersection(others) and rng.random() > RARE:
        return
    text = ("What will happen next?", "Which event will happen next?")[int(rng.integers(2))]
    yield from _events("predictive", text, world, others, coming, rng)


def _remove(world: World, motion: Motion, rng: np.random.Generator) -> Iterator[ClipQuestion]:
    """Ask which collisions happen, or do not happen, without one of the objects."""
    hits = seen_hits(motion)
    gone = int(rng.choice([k for _, *pair in hits for k in pair]))
    left = without(world, gone).hits(0, FRAMES)
    kept, steps = without_causes(hits, gone)
    if left != kept:
        return
    pairs = [pair for pair in combinations(range(len(world.names)), 2) if gone not in pair]
    removed = world.names[gone]
    negated = bool(rng.integers(2))
    templates = (
        f"Which event will {'not ' * negated}happen if the {removed} is removed?",
        f"What will {'not ' * negated}happen without the {removed}?",
    )
    text = templates[int(rng.integers(2))]
    concluded = "; ".join(f"{_pair(world, pair)} {word}" for pair, word in steps)
    yield from _events(
        "counterfactual", text, world, pairs, left, rng, concluded=concluded, negated=negated
    )


def _chain(world: World, motion: Motion, rng: np.random.Generator) -> Iterator[ClipQuestion]:
    """Ask which steps of a chain of collisions happen, each after the one before it."""
    hits = seen_hits(motion)
    chains: dict[int, list[tuple[int, ...]]] = {}
    for path in permutations(range(len(world.names))):
        chains.setdefault(steps_done(path, hits), []).append(path)
    reached = list(chains)[int(rng.integers(len(chains)))]
    paths = chains[reached]
    # Where a step is missing, a later one that happens by itself makes the chain worth following.
    tempting = [path for path in paths if _later(path, reached, hits)] or paths
    path = tempting[int(rng.integers(len(tempting)))]
    choices, facts = [], []
    for step, (a, b) in enumerate(pairwise(path)):
        happens = step < reached
        then = "then the" if step else "The"
        text = f"{then} {world.names[a]} collides with the {world.names[b]}"
        choices.append((text, happens))
        facts.append(f"{world.names[a]} {world.names[b]} {'hit' if happens else 'broken'}")
    text = "Which steps of this chain happen, one after the other?"
    yield ClipQuestion("chained", text, facts=tuple(facts), choices=tuple(choices))


def steps_done(path: Sequence[int], hits: Sequence[tuple[float, int, int]]) -> int:
    """Return how many steps of a chain happen, each later than the one before it.

    >>> steps_done((2, 0, 1), [(3.0, 0, 2), (9.0, 0, 1)]), steps_done((1, 0, 2), [(3.0, 0, 2)])
    (2, 0)
    """
    done, now = 0, -1.0
    for step in pairwise(path):
        later = [t for t, *pair in hits if t > now and tuple(pair) == tuple(sorted(step))]
        if not later:
            break
        done, now = done + 1, later[0]
    return done


def _later(path: Sequence[int], reached: int, hits: Sequence[tuple[float, int, int]]) -> bool:
    """True if a collision happens that the chain names behind its first missing step."""
    behind = {tuple(sorted(step)) for step in list(pairwise(path))[reached + 1 :]}
    return bool(behind & pairs_of(hits))


def causes_of(hits: Sequence[tuple[float, int, int]]) -> tuple[set[int], list]:
    """Return the objects that earlier hits tie to the last one, and each step back in time.

    >>> causes_of([(1.0, 0, 1), (2.0, 2, 3), (5.0, 1, 2)])
    ({0, 1, 2, 3}, [((2, 3), 'leads'), ((0, 1), 'leads')])
    """
    *earlier, (_, *last) = hits
    tied, steps = set(last), []
    for _, *pair in reversed(earlier):
        leads = bool(tied & set(pair))
        tied |= set(pair) if leads else set()
        steps.append((tuple(pair), "leads" if leads else "apart"))
    return tied, steps


def without_causes(hits: Sequence[tuple[float, int, int]], gone: int) -> tuple[set, list]:
    """Return the pairs that still collide without an object, and each collision in turn.

    A collision is gone if an object takes part whose motion an earlier change has touched.

    >>> without_causes([(1.0, 0, 1), (2.0, 2, 3), (5.0, 1, 2)], 0)
    ({(2, 3)}, [((0, 1), 'gone'), ((2, 3), 'stays'), ((1, 2), 'gone')])
    """
    touched, kept, steps = {gone}, set(), []
    for _, *pair in hits:
        stays = not touched & set(pair)
        if stays:
            kept.add(tuple(pair))
        else:
            touched |= set(pair)
        steps.append((tuple(pair), "stays" if stays else "gone"))
    return kept, steps


def pairs_of(hits: Sequence[tuple[float, int, int]]) -> set[tuple[int, int]]:
    """Return the pairs that collide."""
    return {(i, j) for _, i, j in hits}


def _events(
    kind: str,
    text: str,
    world: World,
    pairs: list[tuple[int, int]],
    hits: set[tuple[int, int]],
    rng: np.random.Generator,
    *,
    concluded: str = "",
    negated: bool = False,
) -> Iterator[ClipQuestion]:
    """Yield a question whose choices are up to three collisions, if there are two pairs."""
    if len(pairs) < 2:
        return
    chosen = [pairs[o] for o in rng.permutation(len(pairs))]
    chosen.sort(key=lambda pair: pair not in hits)  # collisions are rare: select them first
    chosen = [chosen[o] for o in rng.permutation(min(3, len(chosen)))]
    choices, facts = [], []
    for pair in chosen:
        first, second = (world.names[k] for k in (pair if rng.random() < 0.5 else pair[::-1]))
        happens = pair in hits
        choices.append((f"The {first} collides with the {second}", happens != negated))
        facts.append(f"{first} {second} {'hit' if happens else 'miss'}")
    yield ClipQuestion(kind, text, concluded, tuple(facts), tuple(choices))


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
    """Describe what is seen: the objects that move, those that do not, and who hits whom."""
    moving = motion_of(motion)
    moves, still = (" ".join(_names(world, which) or ["none"]) for which in (moving, ~moving))
    hits = "; ".join(_pair(world, pair) for _, *pair in seen_hits(motion))
    return f"moves {moves}; still {still}; hits {hits};"


def _pair(world: World, pair: Sequence[int]) -> str:
    """Name two objects in the order of their colours."""
    return " ".join(_names(world, np.isin(np.arange(len(world.names)), pair)))


def _names(world: World, which: np.ndarray) -> list[str]:
    """Return the names of the objects in `which`, (n,) bool, in the order of their colours."""
    return sorted(compress(world.names, which), key=lambda n: list(COLOURS).index(n.split()[0]))


def scene(
    index: int, filename: str, seen: str, questions: list[ClipQuestion]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return an entry of a CLEVRER question file and its rows of truth.

    Choice −2 is what is seen, choice −1 what the question concludes from it.
    """
    entries, truth, truths = [], [], {True: "correct", False: "wrong"}
    for number, question in enumerate(questions):
        entry: dict[str, Any] = {
            "question_id": number,
            "question": question.text,
            "question_type": question.kind,
            "program": [],
        }
        facts = [seen, question.concluded, *question.facts]
        if question.choices:
            entry["choices"] = [
                {"choice_id": k, "choice": text, "program": [], "answer": truths[right]}
                for k, (text, right) in enumerate(question.choices)
            ]
        else:
            entry.update(question_subtype=question.subtype, answer=question.answer)
        truth += [
            {"scene_index": index, "question_id": number, "choice_id": k, "fact": fact}
            for k, fact in enumerate(facts, start=-2)
        ]
        entries.append(entry)
    return {"scene_index": index, "video_filename": filename, "questions": entries}, truth
