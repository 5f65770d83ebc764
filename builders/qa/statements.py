"""Statements: several questions about one clip become one question with many right options.

Each option is a question with one of its own options, "Why did he fall? — he slipped", true or
false by itself. The number of true ones is drawn evenly from none to all, so no count and no NOT
gives an answer away. Every question is shown with a right option as often as with a wrong one. Of
its wrong options one is drawn that is right elsewhere as often as possible, and questions whose
right option is right more often than it could be shown wrong ("yes" in some files) are thinned out,
so that an option's usual truth tells nothing either.

A question takes part if its wrong options are certainly wrong: they exclude the right one
(`exclusion`), by their wording or by the benchmark's construction.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nontrivial.builders.qa.benches.question import EXCLUSIVE, INDEPENDENT, SINGLE
from nontrivial.builders.qa.exclusion import DEFAULT, Exclusion, NotExclusive, exclusive_options
from nontrivial.builders.qa.inversion import shuffled, uniform

if TYPE_CHECKING:
    import polars as pl

FAMILY = RULE = "statements"
QUESTION = (
    "Each option is a question about the video and an answer to it. "
    "Select every option whose answer is right."
)
SIZE = 4  # statements of a question
FEWEST = 3  # with fewer, guessing earns too much
REPEATED = 20  # from so many right answers of one text on, its usual truth could be learned


@dataclass(frozen=True)
class Asked:
    """A question that can be shown with a right and with a wrong option.

    clip   video, start and end
    right  positions of its right options; `wrong` of those that are certainly wrong
    facts  as in the table of questions
    """

    id: str
    group: str
    clip: tuple[str, float | None, float | None]
    family: str
    question: str
    options: Sequence[str]
    right: Sequence[int]
    wrong: Sequence[int]
    facts: Sequence[str] | None
    is_independent: bool


def state(
    frame: pl.DataFrame, *, seed: int, size: int = SIZE, rules: Exclusion = DEFAULT
) -> pl.DataFrame:
    """Return one row for each question of statements, as `questions.decide` returns them.

    `parents` holds the id of each option's question. A clip with fewer than `FEWEST` questions that
    take part has none.
    """
    import polars as pl

    asked_once = taking_part(frame.sort("id"), replace(rules, statements=True))
    pool = list(balanced(asked_once, seed))
    wrong_of = _Wrong(pool)
    clips: defaultdict[Any, list[Asked]] = defaultdict(list)
    for asked in pool:
        clips[asked.clip].append(asked)
    rows = []
    for questions in clips.values():
        for chosen in _chunks(questions, size, seed):
            rows.append(_row(f"{chosen[0].id}/{RULE}", chosen, wrong_of, seed))
    schema: dict[str, Any] = {
        **frame.schema,
        **dict.fromkeys(("new_question", "rule", "reason"), pl.String),
        **dict.fromkeys(("inverted", "eligible"), pl.Boolean),
        **dict.fromkeys(("left_out", "parents"), pl.List(pl.String)),
        "order": pl.List(pl.Int32),
        "doubt": pl.Float32,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def taking_part(frame: pl.DataFrame, rules: Exclusion) -> Iterator[Asked]:
    """Yield the questions whose wrong options are certainly wrong, each wording once a clip."""
    columns = (
        *("id", "group", "video", "start", "end", "family"),
        *("question", "options", "right", "kind", "facts"),
    )
    seen = set()
    for row in frame.select(columns).iter_rows():
        name, group, video, start, end, family, question, options, truth, kind, facts = row
        clip = (video, start, end)
        if kind not in (INDEPENDENT, EXCLUSIVE, SINGLE) or (clip, question.casefold()) in seen:
            continue
        right = [place for place, is_right in enumerate(truth) if is_right]
        wrong = [place for place, is_right in enumerate(truth) if not is_right]
        if kind == SINGLE:
            if len(right) != 1:
                continue
            kept = exclusive_options(question, options, right[0], rules)
            if isinstance(kept, NotExclusive):
                continue
            wrong = [place for place in kept.positions if place != right[0]]
        if right and wrong:
            seen.add((clip, question.casefold()))
            yield Asked(
                *(name, group, clip, family, question, options, right, wrong, facts),
                is_independent=kind == INDEPENDENT,
            )


def balanced(questions: Iterable[Asked], seed: int) -> Iterator[Asked]:
    """Leave out questions whose right option is right more often than it would be shown wrong."""
    pool = list(questions)
    wrong_of = _Wrong(pool)
    for asked in pool:
        text = _text(asked, asked.right[0])
        right, shown = wrong_of.right[text], wrong_of.shown[text]
        is_rare = asked.is_independent or right < REPEATED or shown >= right
        if is_rare or uniform(f"{seed}/{asked.id}", "thin") < shown / right:
            yield asked


class _Wrong:
    """How often each text is right in a pool, and would be shown wrong; draws wrong options.

    right  number of questions whose right option has a family and text
    shown  expected number of questions that show it as wrong
    """

    def __init__(self, pool: Sequence[Asked]) -> None:
        self.right = Counter(_text(asked, place) for asked in pool for place in asked.right)
        self._wrong = Counter(_text(asked, place) for asked in pool for place in asked.wrong)
        self.shown: defaultdict[tuple[str, str], float] = defaultdict(float)
        for asked in pool:
            weights = self._weights(asked)
            for place, weight in zip(asked.wrong, weights, strict=True):
                self.shown[_text(asked, place)] += weight / sum(weights)

    def draw(self, asked: Asked, key: str) -> int:
        """Draw one wrong option (Efraimidis and Spirakis: the largest log(u)/weight)."""
        drawn = [
            math.log(1 - uniform(key, "wrong", str(place))) / weight
            for place, weight in zip(asked.wrong, self._weights(asked), strict=True)
        ]
        return asked.wrong[drawn.index(max(drawn))]

    def _weights(self, asked: Asked) -> list[float]:
        texts = [_text(asked, place) for place in asked.wrong]
        return [(self.right[text] + 0.1) / self._wrong[text] for text in texts]


def _text(asked: Asked, place: int) -> tuple[str, str]:
    return asked.family, asked.options[place].casefold().strip(" .")


def _chunks(questions: Sequence[Asked], size: int, seed: int) -> Iterator[list[Asked]]:
    """Split a clip's questions, in an order that a hash draws, into parts of nearly equal size."""
    ordered = sorted(questions, key=lambda asked: uniform(f"{seed}/{asked.id}", "statements"))
    parts = max(round(len(ordered) / size), 1)
    for part in range(parts):
        chosen = ordered[part::parts][: max(size, FEWEST)]
        if len(chosen) >= FEWEST:
            yield chosen


def _row(name: str, chosen: Sequence[Asked], wrong_of: _Wrong, seed: int) -> dict[str, Any]:
    key = f"{seed}/{name}"
    true = int(uniform(key, "true") * (len(chosen) + 1))
    places = []
    for number, asked in enumerate(chosen):
        of_this = f"{key}/{asked.id}"
        drawn = int(uniform(of_this, "right") * len(asked.right))
        places.append(asked.right[drawn] if number < true else wrong_of.draw(asked, of_this))
    pairs = list(zip(chosen, places, strict=True))
    video, start, end = chosen[0].clip
    return {
        "id": name,
        "group": chosen[0].group,
        "video": video,
        "start": start,
        "end": end,
        "family": FAMILY,
        "question": QUESTION,
        "options": [_statement(asked, place) for asked, place in pairs],
        "right": [place in asked.right for asked, place in pairs],
        "kind": INDEPENDENT,
        "facts": _facts(pairs),
        "new_question": QUESTION,
        "rule": RULE,
        "inverted": False,
        "order": shuffled(range(len(pairs)), key),
        "eligible": False,
        "parents": [asked.id for asked in chosen],
    }


def _statement(asked: Asked, place: int) -> str:
    end = "" if asked.question.endswith(("?", ".", "!", ":")) else "?"
    return f"{asked.question}{end} — {asked.options[place]}"


def _facts(pairs: Sequence[tuple[Asked, int]]) -> list[str] | None:
    """Return what is seen, no conclusion, and each statement's fact, if all carry their truth."""
    facts: list[str] = []
    for asked, place in pairs:
        known = list(asked.facts or [])
        if len(known) != 2 + (len(asked.options) if asked.is_independent else 0):
            return None
        facts = facts or [known[0], ""]
        facts.append(known[2 + place] if asked.is_independent else known[1])
    return facts
