"""Perception Test, multiple choice: a mapping of videos to their annotations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nontrivial.builders.qa.benches import Bench, Place, Question, records_of_a_list
from nontrivial.builders.qa.benches.question import Record, choices, marked, position, text


def records(content: Any, folder: Path) -> Iterator[Any]:
    """Yield one record per question; the Hub's form is such a list already."""
    if not isinstance(content, Mapping):
        yield from records_of_a_list(content, folder)
        return
    for video, known in content.items():
        questions = known.get("mc_question") if isinstance(known, Mapping) else None
        for item in questions if isinstance(questions, list) else [None]:
            yield {**item, "video_name": video} if isinstance(item, Mapping) else item


def parse(record: Record, place: Place) -> Question:
    video = text(record, "video_name")
    options = choices(record, "options")
    answer = position(record, "answer_id")
    return Question(
        id=f"perception_test/{place.split}/{video}/{text(record, 'id', 'question_id')}",
        video=place.video("videos", f"{video}.mp4"),
        group=f"perception_test/{video}",
        family=str(record.get("area") or "perception_test"),
        question=text(record, "question"),
        options=options,
        right=marked(options, {answer}),
    )


BENCH = Bench(
    folders=("perception_test", "perception-test"),
    files={
        "train": ("all_train.json", "*train*.json"),
        "validation": ("all_valid.json", "*valid*.json"),
    },
    layout="perception_test/all_{train,valid}.json, {video: {mc_question: [{id, question, options, "
    "answer_id}]}}, and perception_test/videos/<video>.mp4",
    origin="https://github.com/google-deepmind/perception_test",
    parse=parse,
    records=records,
)
