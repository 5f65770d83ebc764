"""CLEVRER: questions on videos of colliding objects.

The choices of explanatory, predictive and counterfactual questions are true or false each by
itself. Descriptive answers come from closed vocabularies and become single-choice questions here.
Their distractors are drawn from the answers in the same file, with the same frequencies, so that no
option is known to be wrong because its word is never right.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from nontrivial.builders import truth
from nontrivial.builders.qa.benches import Bench, Place, Question, Unusable, records_of_a_list
from nontrivial.builders.qa.benches.question import EXCLUSIVE, INDEPENDENT, Record, text

VOCABULARIES = {
    "exist": ("yes", "no"),
    "color": ("gray", "red", "blue", "green", "brown", "cyan", "purple", "yellow"),
    "shape": ("cube", "sphere", "cylinder"),
    "material": ("metal", "rubber"),
    "count": tuple(str(count) for count in range(11)),
}
OPTIONS = 5  # of a descriptive question, if its vocabulary has that many words
_RNG = random.Random()  # seeded again for each question: faster than constructing one each time
_KNOWN = {word: name for name, words in VOCABULARIES.items() for word in words}


def records(content: Any, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield one record per question, with the answer frequencies and facts of the whole file."""
    scenes = list(records_of_a_list(content, folder))
    entries = [item for scene in scenes for item in _questions(scene) if isinstance(item, Mapping)]
    frequency = Counter(str(entry.get("answer")) for entry in entries)
    facts = truth.of_clips(folder)
    for scene in scenes:
        shared = {"frequency": frequency, "facts": facts}
        for key in ("scene_index", "video_filename"):
            shared[key] = scene.get(key) if isinstance(scene, Mapping) else None
        for question in _questions(scene):
            yield {**question, **shared} if isinstance(question, Mapping) else question


def parse(record: Record, place: Place) -> Question:
    """Read one question of one scene; test annotations have no answers and are refused."""
    scene = _number(record, "scene_index")
    number = _number(record, "question_id")
    name = f"clevrer/{place.split}/{scene:05d}/{number}"
    video = _video(place, scene, text(record, "video_filename"))
    family = text(record, "question_type")
    facts = record["facts"].get((scene, number))
    shared: dict[str, Any] = {
        "id": name,
        "video": video,
        "group": f"clevrer/{scene:05d}",
        "family": family,
    }
    shared |= {"question": text(record, "question"), "facts": facts}
    if family == "descriptive":
        answer = text(record, "answer")
        options = vocabulary_options(answer, record["frequency"], f"{place.seed}/{name}")
        right = [option == answer for option in options]
        return Question(**shared, options=options, right=right, kind=EXCLUSIVE)
    options, right = _choices(record)
    return Question(**shared, options=options, right=right, kind=INDEPENDENT)


def vocabulary_options(answer: str, frequency: Mapping[str, int], key: str) -> list[str]:
    """Place the answer among words of its closed vocabulary, in an order set by `key` alone.

    The others are drawn without replacement, weighted by their frequencies (Efraimidis and
    Spirakis: the largest log(u)/weight).

    >>> sorted(vocabulary_options("metal", {"metal": 3, "rubber": 1}, "0/a"))
    ['metal', 'rubber']
    """
    if answer not in _KNOWN:
        raise Unusable(f"the answer {answer!r} is in no closed vocabulary", damaged=False)
    _RNG.seed(key)
    others = [word for word in VOCABULARIES[_KNOWN[answer]] if word != answer]
    weights = [frequency.get(word, 0) for word in others]
    # Words that are never an answer come last, and only where there would be no choice.
    drawn = {
        word: math.log(1 - _RNG.random()) / weight if weight else -math.inf
        for word, weight in zip(others, weights, strict=True)
    }
    used = len(weights) - weights.count(0)
    count = max(min(OPTIONS - 1, used), min(2, len(others)))
    options = [answer, *sorted(others, key=drawn.__getitem__, reverse=True)[:count]]
    _RNG.shuffle(options)
    return options


def _questions(scene: Any) -> list[Any]:
    if not isinstance(scene, Mapping):
        return [scene]
    questions = scene.get("questions")
    return questions if isinstance(questions, list) else [None]


def _choices(record: Record) -> tuple[list[str], list[bool]]:
    choices = record.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Unusable("field 'choices' is missing or empty")
    if not all(isinstance(choice, Mapping) for choice in choices):
        raise Unusable("a choice is not a record")
    truths = [choice.get("answer") for choice in choices]
    if not all(truth in ("correct", "wrong") for truth in truths):
        raise Unusable("a choice is neither correct nor wrong")
    return [text(choice, "choice") for choice in choices], [t == "correct" for t in truths]


@lru_cache(maxsize=1)  # the questions of a scene follow each other
def _video(place: Place, scene: int, name: str) -> str:
    """Locate a clip: the scene number determines the split and the folder of 1,000 videos."""
    split = "train" if scene < 10_000 else "validation" if scene < 15_000 else "test"
    low = scene - scene % 1000
    return place.video(f"video_{split}", f"video_{low:05d}-{low + 1000:05d}", name)


def _number(record: Record, name: str) -> int:
    value = record.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Unusable(f"field {name!r} is missing or not a number")
    return value


BENCH = Bench(
    folders=("clevrer", "CLEVRER"),
    files={"train": ("train.json",), "validation": ("validation.json",), "test": ("test.json",)},
    layout="clevrer/{train,validation}.json (a list of scenes with scene_index, video_filename and "
    "questions) and clevrer/video_train/video_00000-01000/video_00000.mp4",
    origin="http://clevrer.csail.mit.edu (questions and videos, CC0)",
    parse=parse,
    records=records,
)
