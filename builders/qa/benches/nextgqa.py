"""NExT-GQA: NExT-QA with grounded answers, as VideoChat-R1 and TW-GRPO use it."""

from __future__ import annotations

from nontrivial.builders.qa.benches import SHORT, Bench, Place, Question
from nontrivial.builders.qa.benches.question import Record, by_letters, choices, kind_of, text
from nontrivial.manifests.answers import read_letters


def parse(record: Record, place: Place) -> Question:
    """Read one record; the clip stays whole, because the grounding belongs to the answer."""
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


BENCH = Bench(
    folders=("nextgqa", "NExT-GQA", "NExTGQA"),
    files={split: (f"*{short}*.json",) for split, short in SHORT.items()},
    layout='nextgqa/*{train,val,test}*.json, a list of {id, video, question, options ["(A) …"], '
    'type, answer "(C)"}, and nextgqa/videos/<video>',
    origin="https://github.com/doc-doc/NExT-GQA",
    parse=parse,
)
