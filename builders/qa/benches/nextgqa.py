"""NExT-GQA: NExT-QA with grounded answers, its own csv or the list of VideoChat-R1 and TW-GRPO."""

from __future__ import annotations

from nontrivial.builders.qa.benches import SHORT, Bench, Place, Question
from nontrivial.builders.qa.benches.columns import FIVE, TEXT, Columns, reader
from nontrivial.builders.qa.benches.question import Record, by_letters, choices, kind_of, text
from nontrivial.manifests.answers import read_letters


def parse(record: Record, place: Place) -> Question:
    """Read one record; the clip stays whole, because the grounding belongs to the answer."""
    if "video_id" in record:
        return _of_csv(record, place)
    video = text(record, "video")
    options = choices(record, "options")
    return Question(
        id=f"nextgqa/{place.split}/{text(record, 'id')}",
        video=place.video("videos", video),
        group=f"nextgqa/{video}",
        family=text(record, "type"),
        question=text(record, "question"),
        options=options,
        right=by_letters(options, read_letters(text(record, "answer"))),
        kind=kind_of(record),
    )


_of_csv = reader(
    "nextgqa",
    Columns(
        id=("{video_id}_{qid}",),
        video=("videos/{video_id}.mp4",),
        options=FIVE,
        answer_is=TEXT,  # unlike NExT-QA's csv
        family=("type",),
    ),
)

BENCH = Bench(
    folders=("nextgqa", "NExT-GQA", "NExTGQA"),
    files={split: (f"nextgqa_{short}*.json", f"{short}.csv") for split, short in SHORT.items()},
    layout='nextgqa/nextgqa_{val,test}.json, a list of {id, video, question, options ["(A) …"], '
    'type, answer "(C)"}, or {val,test}.csv, and nextgqa/videos/<video>',
    origin="https://github.com/doc-doc/NExT-GQA",
    parse=parse,
)
