"""Video-MME: four lettered options, videos by their YouTube id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nontrivial.builders.qa.benches import Bench, Place, Question
from nontrivial.builders.qa.benches.question import by_letters, choices, text
from nontrivial.manifests.answers import read_letters


def parse(record: Mapping[str, Any], place: Place) -> Question:
    video = text(record, "videoID", "video_id")
    options = choices(record, "options")
    return Question(
        id=f"videomme/{text(record, 'question_id')}",
        video=place.video("data", f"{video}.mp4"),
        group=f"videomme/{video}",
        family=str(record.get("task_type") or "videomme"),
        question=text(record, "question"),
        options=options,
        right=by_letters(options, read_letters(text(record, "answer"))),
    )


_FILES = ("videomme.json", "test.json", "*.parquet", "*.json")
BENCH = Bench(
    folders=("videomme", "Video-MME", "videoMME"),
    files={"train": _FILES, "validation": _FILES, "test": _FILES},
    layout='videomme/videomme.json, a list of {question_id, videoID, question, options ["A. …"], '
    "answer}, and videomme/data/<videoID>.mp4",
    origin="https://github.com/MME-Benchmarks/Video-MME; --hub lmms-lab/Video-MME",
    parse=parse,
)
