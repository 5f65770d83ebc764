"""STAR: situated reasoning about a part of a clip, four options."""

from __future__ import annotations

from collections.abc import Mapping

from nontrivial.builders.qa.benches import SHORT, Bench, Place, Question, Unusable
from nontrivial.builders.qa.benches.question import Record, by_text, seconds, text


def parse(record: Record, place: Place) -> Question:
    """Read one record; choices are `{choice_id, choice}`, the answer is the text of one."""
    video, name = text(record, "video_id"), text(record, "question_id")
    choices = record.get("choices")
    if not isinstance(choices, list) or not all(isinstance(item, Mapping) for item in choices):
        raise Unusable("field 'choices' is missing or not a list of records")
    options = [text(choice, "choice") for choice in choices]
    return Question(
        id=f"star/{place.split}/{name}",
        video=place.video("videos", f"{video}.mp4"),
        group=f"star/{video}",
        family=name.split("_")[0],
        question=text(record, "question"),
        options=options,
        right=by_text(options, text(record, "answer")),
        start=seconds(record, "start"),
        end=seconds(record, "end"),
    )


BENCH = Bench(
    folders=("star", "STAR"),
    files={split: (f"STAR_{short}.json",) for split, short in SHORT.items()},
    layout="star/STAR_{train,val}.json, a list of {question_id, question, video_id, start, end, "
    "answer, choices}, and star/videos/<video_id>.mp4 (Charades_v1_480)",
    origin="https://bobbywu.com/STAR (annotations), https://prior.allenai.org/projects/charades "
    "(videos)",
    parse=parse,
)
