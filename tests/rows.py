"""Rows of the samples table that keep every rule, for tests to change one thing at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def reid_pair(id: str = "pair", **changes: Any) -> dict[str, Any]:
    """Two people, two options, one right."""
    row = {
        "id": id,
        "task": "reid_pair",
        "source": "market1501",
        "split": "train",
        "group": "market1501:2",
        "question": "Do both images show the same person?",
        "options": ["Yes", "No"],
        "answer": ["B"],
        "images": [media("a/0002_c1s1.jpg"), media("a/0007_c3s1.jpg")],
        "videos": [],
        "clips": [],
        "reid": {
            "kind": "hard_negative",
            "query_pid": "market1501:2",
            "candidate_pids": ["market1501:7"],
            "query_camid": 1,
            "candidate_camids": [3],
            "similarity": [0.8],
            "rank": [2],
            "encoder": "stripes",
        },
        "difficulty": 0.25,
    }
    return row | changes


def video_question(id: str = "question", **changes: Any) -> dict[str, Any]:
    """One clip, four options, two right."""
    row = {
        "id": id,
        "task": "video_qa",
        "source": "clevrer",
        "split": "train",
        "group": "clevrer:video_00001",
        "question": "Which of these does not happen?",
        "options": ["the cube moves", "the ball stops", "both collide", "nothing enters"],
        "answer": ["B", "D"],
        "images": [],
        "videos": [media("video_00001.mp4")],
        "clips": [None],
        "qa": {
            "family": "predictive",
            "rule": "complement",
            "inverted": True,
            "parent_id": "clevrer:1:2",
            "original_question": "Which of these happens?",
            "original_options": ["the cube moves", "the ball stops", "both collide"],
            "original_answer": ["A", "C"],
        },
    }
    return row | changes


def media(path: str | None = None, data: bytes | None = None) -> dict[str, Any]:
    """An item of the `images` and `videos` columns."""
    return {"bytes": data, "path": path}


def many(count: int, maker: Any = reid_pair, **changes: Any) -> Sequence[dict[str, Any]]:
    """`count` rows of one kind with ids of their own."""
    return [maker(f"row{i:05d}", **changes) for i in range(count)]
