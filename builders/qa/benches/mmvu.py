"""MMVU: expert-level questions, multiple choice; options keyed by letter."""

from __future__ import annotations

from collections.abc import Mapping

from nontrivial.builders.qa.benches import Bench, Place, Question, Unusable
from nontrivial.builders.qa.benches.question import Record, marked, text
from nontrivial.manifests.answers import read_letters


def parse(record: Record, place: Place) -> Question:
    if text(record, "question_type") != "multiple-choice":
        raise Unusable("an open-ended question", damaged=False)
    given = record.get("choices")
    if not isinstance(given, Mapping):
        reason = "field 'choices' is missing or not a mapping of letters to texts"
        raise Unusable(reason)
    letters = [letter for letter in sorted(given) if given[letter] not in ("", None)]
    options = [text(given, letter) for letter in letters]
    answer = read_letters(text(record, "answer"))
    video = text(record, "video").partition("/videos/")[2] or text(record, "video")
    return Question(
        id=f"mmvu/{text(record, 'id')}",
        video=place.video("videos", video),
        group=f"mmvu/{video}",
        family=video.partition("/")[0],
        question=text(record, "question"),
        options=options,
        right=marked(
            options, {letters.index(one) if one in letters else len(options) for one in answer}
        ),
    )


BENCH = Bench(
    folders=("mmvu", "MMVU"),
    files={"validation": ("validation.json", "*.json"), "test": ("test.json",)},
    layout="mmvu/validation.json, a list of {id, video, question_type, question, choices {A … E}, "
    "answer}, and mmvu/videos/<subject>/<number>.mp4",
    origin="https://huggingface.co/datasets/yale-nlp/MMVU; --hub yale-nlp/MMVU",
    parse=parse,
)
