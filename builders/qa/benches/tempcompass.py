"""TempCompass, multiple choice: the options are lines of the question's text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nontrivial.builders.qa.benches import (
    SHORT,
    Bench,
    Place,
    Question,
    Unusable,
    records_of_a_list,
)
from nontrivial.builders.qa.benches.question import Record, by_text, text
from nontrivial.manifests.answers import unlabel


def records(content: Any, folder: Path) -> Iterator[Any]:
    """Yield one record per question of `{video: {dimension: [question]}}`, or of the Hub's list."""
    if not isinstance(content, Mapping):
        yield from records_of_a_list(content, folder)
        return
    for video, dimensions in content.items():
        known = dimensions if isinstance(dimensions, Mapping) else {"": None}
        for dimension, questions in known.items():
            for number, item in enumerate(questions if isinstance(questions, list) else [None]):
                names = {"video_id": video, "dim": dimension, "number": number}
                yield {**item, **names} if isinstance(item, Mapping) else item


def parse(record: Record, place: Place) -> Question:
    """Read one record; edited versions of a clip (`…_reverse`) share the clip's group."""
    video, dimension = text(record, "video_id"), text(record, "dim")
    question, *lines = [line.strip() for line in text(record, "question").split("\n")]
    labelled = [line for line in lines if line]
    options = unlabel(labelled)
    if not labelled or options == labelled:
        raise Unusable("the question has no lines of lettered options")
    number = record.get("number", text(record, "question").replace("\n", " "))
    return Question(
        id=f"tempcompass/{video}/{dimension}/{number}",
        video=place.video("videos", f"{video}.mp4"),
        group=f"tempcompass/{video.split('_')[0]}",
        family=dimension,
        question=question,
        options=options,
        right=by_text(options, text(record, "answer")),
    )


BENCH = Bench(
    folders=("tempcompass", "TempCompass"),
    files=dict.fromkeys(SHORT, ("multi-choice.json",)),
    layout="tempcompass/multi-choice.json, {video: {dimension: [{question, answer}]}}, and "
    "tempcompass/videos/<video>.mp4",
    origin="https://github.com/llyx97/TempCompass; --hub lmms-lab/TempCompass:multi-choice",
    parse=parse,
    records=records,
)
