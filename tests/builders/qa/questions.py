"""Small annotation files in the benchmarks' own forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COLLISIONS = ("The red cube hits the ball", "The ball hits the ring", "The ring hits the red cube")


def clevrer_scene(index: int = 0, **changes: Any) -> dict[str, Any]:
    """One scene with a question of each type; the second counterfactual has no right choice."""
    truths = {
        "What will happen next?": (True, False, False),
        "What will happen without the ring?": (True, True, False),
        "Which event will not happen if the ball is removed?": (False, False, False),
    }
    questions: list[dict[str, Any]] = [
        _described(0, "How many moving objects are there?", "2"),
        _described(1, "What color is the moving cube?", "red"),
        _described(2, "Are there any moving cubes?", "yes"),
        _chosen(
            3,
            "explanatory",
            "Which of the following is responsible for the crash between the cube and the ball?",
            (True, False, True),
        ),
    ]
    for number, (text, truth) in enumerate(truths.items(), len(questions)):
        kind = "predictive" if "next" in text else "counterfactual"
        questions.append(_chosen(number, kind, text, truth))
    name = f"video_{index:05d}.mp4"
    return {"scene_index": index, "video_filename": name, "questions": questions, **changes}


def write_clevrer(root: Path, scenes: int = 20, split: str = "train") -> Path:
    """`<root>/clevrer/<split>.json`; no clips."""
    first = {"train": 0, "validation": 10_000}[split]
    path = root / "clevrer" / f"{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [clevrer_scene(first + number) for number in range(scenes)]
    path.write_text(json.dumps(made), encoding="utf-8")
    return path


def video_r1(number: int = 0, **changes: Any) -> dict[str, Any]:
    """One record of the Video-R1 schema."""
    record = {
        "problem_id": number,
        "problem": "What does the cook do after washing the pan?",
        "data_type": "video",
        "problem_type": "multiple choice",
        "options": ["A. peels a carrot", "B. opens the oven", "C. calls a friend", "D. leaves"],
        "solution": "<answer>B</answer>",
        "video": f"/kitchen/{number:04d}.mp4",
    }
    return record | changes


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _described(number: int, text: str, answer: str) -> dict[str, Any]:
    return {
        "question_id": number,
        "question": text,
        "question_type": "descriptive",
        "program": [],
        "answer": answer,
    }


def _chosen(number: int, kind: str, text: str, truth: tuple[bool, ...]) -> dict[str, Any]:
    choices = [
        {"choice_id": k, "choice": c, "program": [], "answer": "correct" if right else "wrong"}
        for k, (c, right) in enumerate(zip(COLLISIONS, truth, strict=True))
    ]
    return {
        "question_id": number,
        "question": text,
        "question_type": kind,
        "program": [],
        "choices": choices,
    }
