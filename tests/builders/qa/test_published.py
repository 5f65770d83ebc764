"""Benchmarks are read by their published columns, each with what it has of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nontrivial.builders.qa.benches import PUBLISHED, load
from tests.builders.qa.questions import write_json

ASKED = "What does the cook do next?"
OPTIONS = ["peel a carrot", "open the oven", "call a friend", "leave", "sit"]
IN_COLUMNS = {f"a{place}": text for place, text in enumerate(OPTIONS)}

# The path of a file below its folder, its content, and the split; the right option is the second.
FILES: dict[str, tuple[str, Any, str]] = {
    "cg_bench": (
        "cgbench.json",
        [
            {
                "qid": 14,
                "video_uid": "3Zp-2",
                "question": ASKED,
                "answer": OPTIONS[1],
                "choices": OPTIONS,
                "right_answer": "B",
            }
        ],
        "test",
    ),
    "cinepile": (
        "train-0000.parquet",
        [
            {
                "question": ASKED,
                "choices": OPTIONS,
                "answer_key": OPTIONS[1],
                "answer_key_position": 1,
                "videoID": "x_1",
                "question_category": "Setting and\nTechnical Analysis",
            }
        ],
        "train",
    ),
    "egoschema": (
        "questions.json",
        [
            {"q_uid": "0019-34", "question": ASKED}
            | {f"option {place}": text for place, text in enumerate(OPTIONS)}
        ],
        "test",
    ),
    "intentqa": (
        "val.csv",
        [{"video_id": 138, "question": ASKED, "answer": 1, "qid": 7, "type": "CH", **IN_COLUMNS}],
        "val",
    ),
    "longvideobench": (
        "lvb_val.json",
        [
            {
                "id": "9PD_0",
                "video_path": "9PD.mp4",
                "question": ASKED,
                "candidates": OPTIONS,
                "correct_choice": 1,
            }
        ],
        "validation",
    ),
    "minerva": (
        "minerva.json",
        [
            {"key": "v:1", "video_id": "v", "question": ASKED, "answer_id": 1, "question type": "x"}
            | {f"answer_choice_{place}": text for place, text in enumerate(OPTIONS)}
        ],
        "test",
    ),
    "mlvu": (
        "json/4_count.json",
        [
            {
                "video": "c1.mp4",
                "question": ASKED,
                "candidates": OPTIONS,
                "answer": OPTIONS[1],
                "question_type": "count",
            }
        ],
        "test",
    ),
    "social_iq2": (
        "qa/qa_val.json",
        [
            {"qid": "-3_q1", "q": ASKED, "vid_name": "-3", "answer_idx": 1}
            | dict(list(IN_COLUMNS.items())[:4]),
            {"qid": "-3_q2", "q": ASKED, "vid_name": "-3", "answer_idx": 1}
            | dict(list(IN_COLUMNS.items())[:4]),
        ],
        "val",
    ),
    "tgif_qa": (
        "Test_action_question.csv",
        [
            {"gif_name": "tumblr_1", "question": ASKED}
            | {f"a{place}": text for place, text in enumerate(OPTIONS, 1)}
            | {"answer": 1, "vid_id": "ACTION4", "key": 26}
        ],
        "test",
    ),
    "tomato": (
        "data/count.json",
        {
            "0": {
                "question": ASKED,
                "options": OPTIONS,
                "answer": 1,
                "key": "0209-03",
                "demonstration_type": "human",
                "motion_type": "count",
            }
        },
        "test",
    ),
    "video_holmes": (
        "test_Video-Holmes.json",
        [
            {
                "video ID": "RSm",
                "Question ID": 1,
                "Question Type": "SR",
                "Question": ASKED,
                "Options": dict(zip("ABCDE", OPTIONS, strict=True)),
                "Answer": "B",
            }
        ],
        "test",
    ),
    "vsi_bench": (
        "test.jsonl",
        [
            {
                "id": 957,
                "dataset": "arkitscenes",
                "scene_name": "41",
                "question_type": "route_planning",
                "question": ASKED,
                "ground_truth": "B",
                "options": [
                    f"{letter}. {text}" for letter, text in zip("ABCDE", OPTIONS, strict=True)
                ],
            },
            {
                "id": 958,
                "dataset": "arkitscenes",
                "scene_name": "41",
                "question_type": "object_counting",
                "question": ASKED,
                "ground_truth": "4",
                "options": None,
            },
        ],
        "test",
    ),
}
VIDEOS = {
    "cg_bench": "videos/3Zp-2.mp4",
    "cinepile": "videos/x_1.mp4",
    "egoschema": "videos/0019-34.mp4",
    "intentqa": "videos/138.mp4",
    "longvideobench": "videos/9PD.mp4",
    "minerva": "videos/v.mp4",
    "mlvu": "video/4_count/c1.mp4",
    "social_iq2": "video/-3.mp4",
    "tgif_qa": "gifs/tumblr_1.gif",
    "tomato": "videos/human/0209-03.mp4",
    "video_holmes": "videos/RSm.mp4",
    "vsi_bench": "arkitscenes/41.mp4",
}


def write(root: Path, name: str) -> str:
    """Write a benchmark as it is published; returns the split."""
    file, content, split = FILES[name]
    path = root / name / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        between = "\t" if name == "tgif_qa" else ","
        rows = [list(content[0]), *(list(record.values()) for record in content)]
        path.write_text("\n".join(between.join(map(str, row)) for row in rows), "utf-8")
    elif path.suffix == ".parquet":
        import polars as pl

        pl.DataFrame(content).write_parquet(path)
    elif path.suffix == ".jsonl" or name == "social_iq2":  # JSON Lines under either name
        path.write_text("\n".join(map(json.dumps, content)), "utf-8")
    else:
        write_json(path, content)
    if name == "egoschema":
        write_json(path.with_name("subset_answers.json"), {content[0]["q_uid"]: 1})
    return split


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_benchmark_is_read_by_its_published_columns(tmp_path, name):
    loaded = load(name, tmp_path, write(tmp_path, name))
    row = loaded.frame.row(0, named=True)
    options = OPTIONS[:4] if name == "social_iq2" else OPTIONS
    assert (row["question"], row["options"]) == (ASKED, options)
    assert row["right"] == [text == OPTIONS[1] for text in options]
    assert row["video"] == f"{name}/{VIDEOS[name]}"
    assert row["id"].startswith(f"{name}/")
    assert not any(refused.damaged for refused in loaded.refused)


def one(tmp_path: Path, name: str, **changes: Any):
    """Read the first record of a benchmark with some fields changed."""
    record = FILES[name][1][0] | changes
    path = write_json(tmp_path / "x.json", [record])
    return load(name, tmp_path, FILES[name][2], annotations=path)


def test_fillers_of_option_columns_are_no_options_and_an_index_counts_them(tmp_path):
    columns = {"candidates": None, "option0": "run", "option1": "", "option2": "hide"}
    columns |= {"option3": "eat", "option4": "N/A"}
    frame = one(tmp_path, "longvideobench", **columns, correct_choice=2).frame
    assert frame["options"].to_list() == [["run", "hide", "eat"]]
    assert frame["right"].to_list() == [[False, True, False]]


@pytest.mark.parametrize("answer", [-1, "NA", None, ""])
def test_answers_that_are_not_published_damage_nothing(tmp_path, answer):
    loaded = one(tmp_path, "longvideobench", correct_choice=answer)
    assert loaded.refused[0].reason == "its answer is not published"
    assert not loaded.refused[0].damaged


def test_an_index_among_numbers_is_an_index(tmp_path):
    path = write_json(
        tmp_path / "x.json",
        {"0": FILES["tomato"][1]["0"] | {"options": ["2", "1", "3", "4"], "answer": 2}},
    )
    frame = load("tomato", tmp_path, "test", annotations=path).frame
    assert frame["right"].to_list() == [[False, False, True, False]]


def test_nextgqa_has_a_csv_whose_answer_is_a_text(tmp_path):
    path = tmp_path / "nextgqa" / "val.csv"
    path.parent.mkdir()
    columns = ["video_id", "frame_count", "question", "answer", "qid", "type", *IN_COLUMNS]
    row = [488, 2697, ASKED, OPTIONS[1], 1, "CW", *OPTIONS]
    path.write_text("\n".join(",".join(map(str, line)) for line in (columns, row)), "utf-8")
    row = load("nextgqa", tmp_path, "val").frame.row(0, named=True)
    assert (row["id"], row["video"]) == ("nextgqa/val/488_1", "nextgqa/videos/488.mp4")
    assert row["right"] == [False, True, False, False, False]


def test_a_wrong_type_is_declared_open_and_damages_nothing(tmp_path):
    loaded = one(tmp_path, "mlvu", question_type="summary")
    assert "no question with options" in loaded.refused[0].reason
    assert not loaded.refused[0].damaged
