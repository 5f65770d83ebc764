"""NExT-QA, multiple choice: a csv row a question, five options a0 … a4, the answer's position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nontrivial.builders.qa.benches import Bench, Place, Question, Unusable
from nontrivial.builders.qa.benches.question import marked, text


def parse(record: Mapping[str, Any], place: Place) -> Question:
    video = text(record, "video")
    options = [text(record, f"a{position}") for position in range(5)]
    answer = text(record, "answer")
    if not answer.isdecimal():
        raise Unusable(f"field 'answer' is {answer[:30]!r}, not a position")
    return Question(
        id=f"nextqa/{place.split}/{video}/{text(record, 'qid')}",
        video=place.video("videos", f"{video}.mp4"),
        group=f"nextqa/{video}",
        family=text(record, "type"),
        question=text(record, "question"),
        options=options,
        right=marked(options, {int(answer)}),
    )


BENCH = Bench(
    folders=("nextqa", "NExT-QA", "NExTQA"),
    files={
        "train": ("train.csv", "*/train.csv"),
        "validation": ("val.csv", "*/val.csv"),
        "test": ("test.csv", "*/test.csv"),
    },
    layout="nextqa/{train,val,test}.csv (video, question, answer, qid, type, a0 … a4) and "
    "nextqa/videos/<video>.mp4 (--media_by_name where the videos keep VidOR's folders)",
    origin="https://github.com/doc-doc/NExT-QA (MIT); on the Hub: --hub lmms-lab/NExTQA:MC",
    parse=parse,
)
