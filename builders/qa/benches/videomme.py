"""Video-MME: four lettered options, videos named by their YouTube id."""

from __future__ import annotations

from nontrivial.builders.qa.benches import SHORT, Bench, Place, Question
from nontrivial.builders.qa.benches.question import Record, by_letters, choices, text
from nontrivial.manifests.answers import read_letters


def parse(record: Record, place: Place) -> Question:
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


BENCH = Bench(
    folders=("videomme", "Video-MME", "videoMME"),
    files=dict.fromkeys(SHORT, ("videomme.json", "test.json", "*.parquet", "*.json")),
    layout='videomme/videomme.json, a list of {question_id, videoID, question, options ["A. …"], '
    "answer}, and videomme/data/<videoID>.mp4",
    origin="https://github.com/MME-Benchmarks/Video-MME; --hub lmms-lab/Video-MME",
    parse=parse,
)
