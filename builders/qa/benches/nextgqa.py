"""NExT-GQA as VideoChat-R1 and TW-GRPO use it: NExT-QA with the grounding of each answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nontrivial.builders.qa.benches import Bench, Place, Question
from nontrivial.builders.qa.benches.question import by_letters, choices, text
from nontrivial.manifests.answers import read_letters


def parse(record: Mapping[str, Any], place: Place) -> Question:
    """The clip stays whole: the grounding is part of an answer, not of the question."""
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
    )


BENCH = Bench(
    folders=("nextgqa", "NExT-GQA", "NExTGQA"),
    files={
        "train": ("*train*.json",),
        "validation": ("*val*.json",),
        "test": ("*test*.json",),
    },
    layout='nextgqa/*{train,val,test}*.json, a list of {id, video, question, options ["(A) …"], '
    'type, answer "(C)"}, and nextgqa/videos/<video>',
    origin="https://github.com/doc-doc/NExT-GQA",
    parse=parse,
)
