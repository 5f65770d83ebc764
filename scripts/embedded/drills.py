"""Text-only questions with many options about worlds that are told, not shown.

A question of a manifest looks a few objects up in the list of what is seen, mostly in the order of
that list, and a small network learns the order. These ask for six to ten objects or pairs in any
order, some of them more than once, each time about another world: only looking them up helps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from nontrivial.builders.qa.questions import option_by_option
from nontrivial.builders.synthetic import clips
from nontrivial.manifests.answers import NONE, letters

FEWEST, MOST = 6, 10  # options of a question
PRESENT = 0.75  # probability that an option names an object of the world
WITH_NONE = 0.2  # probability of offering "None of the options" where another one is right
PAIRS = "Which of these collisions happen?"


def drills(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield rows as a manifest has them, but without media, each about a world of its own."""
    for number in range(count):
        rng = np.random.default_rng([seed, 7, number])
        yield drill(*clips.draw_world(rng), rng)


def drill(world: clips.World, motion: clips.Motion, rng: np.random.Generator) -> dict[str, Any]:
    """Return one question about a world, with its answer and the reasons for it."""
    asked = clips.selections(motion)
    question = [*asked, PAIRS][int(rng.integers(len(asked) + 1))]
    pick = _pair if question == PAIRS else _object
    picked = [
        pick(world, motion, rng, *asked.get(question, ()))
        for _ in range(int(rng.integers(FEWEST, MOST + 1)))
    ]
    alone = not any(right for _, _, right in picked)
    if alone or rng.random() < WITH_NONE:
        picked.append((NONE, "none", alone))
    options, facts, right = zip(*picked, strict=True)
    answer = list(itertools.compress(letters(len(options)), right))
    return {
        "task": "video_qa",
        "question": question,
        "options": list(options),
        "answer": answer,
        "rationale": f"seen {clips.states(world, motion)} so\n{option_by_option(facts, answer)}",
        "images": [],
        "videos": [],
    }


def _object(
    world: clips.World,
    motion: clips.Motion,
    rng: np.random.Generator,
    selected: np.ndarray,
    words: tuple[str, str],
) -> tuple[str, str, bool]:
    """Return an option that names an object, its fact, and whether it is right."""
    if rng.random() >= PRESENT:
        name = clips.absent(world, rng)
        return f"The {name}", f"{name} absent", False
    k = int(rng.integers(len(world.names)))
    name, right = world.names[k], bool(selected[k])
    return f"The {name}", f"{name} {words[0 if right else 1]}", right


def _pair(
    world: clips.World, motion: clips.Motion, rng: np.random.Generator
) -> tuple[str, str, bool]:
    """Return an option that names two objects; one in two names two that collide."""
    hits = clips.pairs_of(clips.seen_hits(motion))
    pairs = list(itertools.combinations(range(len(world.names)), 2))
    wanted = rng.random() < 0.5
    pool = [pair for pair in pairs if (pair in hits) == wanted]
    i, j = pool[int(rng.integers(len(pool)))]
    first, second = (world.names[k] for k in ((i, j) if rng.random() < 0.5 else (j, i)))
    fact = f"{first} {second} {'hit' if wanted else 'miss'}"
    return f"The {first} collides with the {second}", fact, wanted
