"""TempCompass, multi-choice: options are lines of the question's own text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nontrivial.builders.qa.benches import Bench, Place, Question, Unusable
from nontrivial.builders.qa.benches.question import by_text, text
from nontrivial.manifests.answers import unlabel


def records(content: Any, folder: Path) -> Iterator[Any]:
    """`{video: {dimension: [question]}}` as one record a question; the Hub's form is a list."""
    if not isinstance(content, Mapping):
        yield from content
        return
    for video, dimensions in content.items():
        for dimension, questions in (
            dimensions.items() if isinstance(dimensions, Mapping) else [("", [None])]
        ):
            for number, item in enumerate(questions if isinstance(questions, list) else [None]):
                known = {"video_id": video, "dim": dimension, "number": number}
                yield {**item, **known} if isinstance(item, Mapping) else item


def parse(record: Mapping[str, Any], place: Place) -> Question:
    """One record. Edited versions of a clip (`…_reverse`) belong to the clip's own group."""
    video, dimension = text(record, "video_id"), text(record, "dim")
    question, *lines = [line.strip() for line in text(record, "question").split("\n")]
    labelled = [line for line in lines if line]
    options = unlabel(labelled)
    if not labelled or options == labelled:
        raise Unusable("the question has no lines of lettered options", damaged=False)
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


_FILES = ("multi-choice.json",)
BENCH = Bench(
    folders=("tempcompass", "TempCompass"),
    files={"train": _FILES, "validation": _FILES, "test": _FILES},
    layout="tempcompass/multi-choice.json, {video: {dimension: [{question, answer}]}}, and "
    "tempcompass/videos/<video>.mp4",
    origin="https://github.com/llyx97/TempCompass; --hub lmms-lab/TempCompass:multi-choice",
    parse=parse,
    records=records,
)
