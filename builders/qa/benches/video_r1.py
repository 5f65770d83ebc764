"""The JSON schema of Video-R1 and TW-GRPO, solutions as `<answer>A,C</answer>`."""

from __future__ import annotations

from nontrivial.builders.qa.benches import SHORT, Bench, Place, Question, Unusable
from nontrivial.builders.qa.benches.question import (
    Record,
    by_letters,
    choices,
    kind_of,
    seconds,
    text,
)
from nontrivial.manifests.answers import read_answer


def parse(record: Record, place: Place) -> Question:
    """Read one record; other media and free-form problems are out of scope."""
    for name, needed in (("data_type", "video"), ("problem_type", "multiple choice")):
        if record.get(name) not in (None, needed):
            raise Unusable(f"{name} is {str(record[name])[:30]!r}, not {needed!r}", damaged=False)
    video = text(record, "video", "path")
    options = choices(record, "options")
    answer = read_answer(text(record, "solution"))
    return Question(
        id=f"video_r1/{video.strip('/')}/{text(record, 'problem_id', 'id', 'question_id')}",
        video=place.video(video),
        group=f"video_r1/{video.strip('/')}",
        family=str(record.get("original_question_type") or "") or "multiple choice",
        question=text(record, "question", "problem"),  # a problem may end in its options
        options=options,
        right=by_letters(options, answer),
        kind=kind_of(record),
        start=seconds(record, "start"),
        end=seconds(record, "end"),
    )


BENCH = Bench(
    folders=("video_r1", "Video-R1", "."),
    files={split: (f"{split}.json", f"*_{short}.json") for split, short in SHORT.items()},
    layout="video_r1/train.json, a list of {problem_id, problem, options, solution, video|path}; "
    "media under the root",
    origin="https://github.com/tulerfeng/Video-R1, https://github.com/longmalongma/TW-GRPO",
    parse=parse,
)
