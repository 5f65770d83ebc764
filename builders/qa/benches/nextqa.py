"""NExT-QA, multiple choice: one csv row per question, with options a0 … a4."""

from __future__ import annotations

from nontrivial.builders.qa.benches import SHORT, Bench, Place, Question
from nontrivial.builders.qa.benches.question import Record, marked, position, text


def parse(record: Record, place: Place) -> Question:
    video = text(record, "video")
    options = [text(record, f"a{number}") for number in range(5)]
    answer = position(record, "answer")
    return Question(
        id=f"nextqa/{place.split}/{video}/{text(record, 'qid')}",
        video=place.video("videos", f"{video}.mp4"),
        group=f"nextqa/{video}",
        family=text(record, "type"),
        question=text(record, "question"),
        options=options,
        right=marked(options, {answer}),
    )


BENCH = Bench(
    folders=("nextqa", "NExT-QA", "NExTQA"),
    files={split: (f"{short}.csv", f"*/{short}.csv") for split, short in SHORT.items()},
    layout="nextqa/{train,val,test}.csv (video, question, answer, qid, type, a0 … a4) and "
    "nextqa/videos/<video>.mp4 (--media_by_name where the videos keep VidOR's folders)",
    origin="https://github.com/doc-doc/NExT-QA (MIT); on the Hub: --hub lmms-lab/NExTQA:MC",
    parse=parse,
)
