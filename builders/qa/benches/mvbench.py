"""MVBench: a JSON file for each task, or all tasks merged in the Video-R1 schema."""

from __future__ import annotations

from hashlib import blake2b

from nontrivial.builders.qa.benches import SHORT, Bench, Place, Question
from nontrivial.builders.qa.benches.question import Record, by_text, choices, seconds, text


def parse(record: Record, place: Place) -> Question:
    """Read one record; records have no numbers, so the id is a hash of the words."""
    video, question = text(record, "video"), text(record, "question")
    options = choices(record, "candidates")
    words = "\0".join([question, *options]).encode("utf-8", "replace")
    return Question(
        id=f"mvbench/{video}/{blake2b(words, digest_size=6).hexdigest()}",
        video=place.video("video", video),
        group=f"mvbench/{video}",
        family=str(record.get("task") or record.get("task_type") or record.get("file", "mvbench")),
        question=question,
        options=options,
        right=by_text(options, text(record, "answer")),
        start=seconds(record, "start"),
        end=seconds(record, "end"),
    )


BENCH = Bench(
    folders=("mvbench", "MVBench"),
    files=dict.fromkeys(SHORT, ("mvbench.json", "json/*.json", "*.json")),
    several=True,
    layout="mvbench/json/<task>.json, a list of {video, question, candidates, answer}, or the "
    "tasks merged in the Video-R1 schema, and mvbench/video/<video> "
    "(--media_by_name where the tasks keep folders of their own)",
    origin="https://huggingface.co/datasets/OpenGVLab/MVBench (MIT); "
    "--hub OpenGVLab/MVBench:<task>",
    parse=parse,
)
