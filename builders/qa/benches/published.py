"""Benchmarks whose records differ in their columns alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nontrivial.builders.qa.benches import SHORT, Bench
from nontrivial.builders.qa.benches.columns import FIVE, INDEX0, LETTER, TEXT, Columns, reader
from nontrivial.builders.qa.benches.files import read, records_of_a_list
from nontrivial.manifests.errors import BadInput


def with_answers(content: Any, folder: Path) -> Iterator[Any]:
    """Yield EgoSchema's questions with the answers of `subset_answers.json` beside them."""
    path = folder / "subset_answers.json"
    answers = read(path) if path.is_file() else {}
    if not isinstance(answers, Mapping):
        raise BadInput(f"{path}: needs a mapping of q_uid to the answer's index")
    for record in records_of_a_list(content, folder):
        if isinstance(record, Mapping) and not {"answer", "truth"} & set(record):
            yield {**record, "answer": answers.get(str(record.get("q_uid")))}
        else:
            yield record


INTENTQA = Bench(
    folders=("intentqa", "IntentQA"),
    files={split: (f"{short}.csv",) for split, short in SHORT.items()},
    layout="intentqa/{train,val,test}.csv (video_id, question, answer, qid, type, a0 … a4) and "
    "intentqa/videos/<video_id>.mp4",
    origin="https://github.com/JoseponLee/IntentQA",
    parse=reader(
        "intentqa",
        Columns(
            id=("{video_id}/{qid}",),
            video=("videos/{video_id}.mp4",),
            options=FIVE,
            answer_is=INDEX0,
            family=("type",),
        ),
    ),
)
MLVU = Bench(
    folders=("mlvu", "MLVU"),
    files=dict.fromkeys(SHORT, ("json/[0-9]_*.json", "[0-9]_*.json")),
    several=True,
    layout="mlvu/json/<number>_<task>.json, lists of {video, question, candidates, answer}, and "
    "mlvu/video/<number>_<task>/<video>",
    origin="https://github.com/JUNJIE99/MLVU",
    parse=reader(
        "mlvu",
        Columns(
            video=("video/{file}/{video}",),
            options=("candidates",),
            answer_is=TEXT,
            family=("question_type",),
            asked={
                "question_type": (
                    *("plotqa", "needle", "findneedle", "needleqa", "ego", "count", "order"),
                    *("anomaly_reco", "topic_reasoning", "sportsqa", "tutorialqa"),
                )
            },
        ),
    ),
)
TOMATO = Bench(
    folders=("tomato", "TOMATO"),
    files=dict.fromkeys(SHORT, ("data/*.json", "*.json")),
    several=True,
    layout="tomato/data/<task>.json, {number: {question, options, answer, key, "
    "demonstration_type}}, and tomato/videos/<demonstration_type>/<key>.mp4",
    origin="https://github.com/yale-nlp/TOMATO",
    parse=reader(
        "tomato",
        Columns(
            video=("videos/{demonstration_type}/{key}.mp4", "video_path"),
            answer_is=INDEX0,
            family=("motion_type", "reason_type"),
        ),
    ),
)
TGIF_QA = Bench(
    folders=("tgif_qa", "tgif-qa", "TGIF-QA"),
    files={
        "train": ("Train_*[an]_question.csv", "dataset/Train_*[an]_question.csv"),
        "test": ("Test_*[an]_question.csv", "dataset/Test_*[an]_question.csv"),
    },
    several=True,
    layout="tgif_qa/{Train,Test}_{action,transition}_question.csv, separated by tabs (gif_name, "
    "question, a1 … a5, answer, vid_id), and tgif_qa/gifs/<gif_name>.gif",
    origin="https://github.com/YunseokJANG/tgif-qa",
    parse=reader(
        "tgif_qa",
        Columns(
            id=("vid_id",),
            video=("gifs/{gif_name}.gif",),
            options=("a1", "a2", "a3", "a4", "a5"),
            answer_is=INDEX0,
            family=("file",),
        ),
    ),
)
SOCIAL_IQ2 = Bench(
    folders=("social_iq2", "siq2", "Social-IQ-2.0"),
    files={
        split: (f"qa/qa_{short}.json", f"qa_{short}.json", f"siq2/qa/qa_{short}.json")
        for split, short in SHORT.items()
    },
    layout="social_iq2/qa/qa_{train,val}.json, JSON Lines of {qid, q, vid_name, answer_idx, "
    "a0 … a3}, and social_iq2/video/<vid_name>.mp4",
    origin="https://github.com/abwilf/Social-IQ-2.0-Challenge",
    parse=reader(
        "social_iq2",
        Columns(
            id=("qid",),
            question=("q",),
            video=("video/{vid_name}.mp4",),
            options=FIVE[:4],
            answer=("answer_idx",),
            answer_is=INDEX0,
        ),
    ),
)
EGOSCHEMA = Bench(
    folders=("egoschema", "EgoSchema"),
    files={"test": ("questions.json", "fullset_anno.json", "subset_anno.json")},
    layout='egoschema/questions.json, a list of {q_uid, question, "option 0" … "option 4"}, '
    "egoschema/subset_answers.json (the 500 published answers), and egoschema/videos/<q_uid>.mp4",
    origin="https://github.com/egoschema/EgoSchema; --hub lmms-lab/egoschema:Subset",
    records=with_answers,
    parse=reader(
        "egoschema",
        Columns(
            id=("q_uid", "question_idx", "key"),
            video=("videos/{q_uid}.mp4", "videos/{video_idx}.mp4", "videos/{key}.mp4"),
            options=("option",),
            answer=("answer", "truth"),
            answer_is=INDEX0,
        ),
    ),
)
CINEPILE = Bench(
    folders=("cinepile", "CinePile"),
    files={
        split: (f"data/{short}-*.parquet", f"{short}*.parquet") for split, short in SHORT.items()
    },
    several=True,
    layout="cinepile/data/{train,test}-*.parquet (question, choices, answer_key_position, videoID) "
    "and cinepile/videos/<videoID>.mp4",
    origin="https://huggingface.co/datasets/tomg-group-umd/cinepile; "
    "--hub tomg-group-umd/cinepile:v2",
    parse=reader(
        "cinepile",
        Columns(
            video=("videos/{videoID}.mp4",),
            options=("choices",),
            answer=("answer_key_position",),
            answer_is=INDEX0,
            family=("question_category",),
        ),
    ),
)
VSI_BENCH = Bench(
    folders=("vsi_bench", "VSI-Bench"),
    files={"test": ("test*.jsonl", "test*.json", "test*.parquet")},
    layout="vsi_bench/test.jsonl, lines of {id, dataset, scene_name, question_type, question, "
    "options, ground_truth}, and vsi_bench/<dataset>/<scene_name>.mp4",
    origin="https://huggingface.co/datasets/nyu-visionx/VSI-Bench; --hub nyu-visionx/VSI-Bench",
    parse=reader(
        "vsi_bench",
        Columns(
            id=("id",),
            video=("{dataset}/{scene_name}.mp4",),
            answer=("ground_truth",),
            answer_is=LETTER,
            family=("question_type",),
            asked={
                "question_type": (
                    *(f"object_rel_direction_{level}" for level in ("easy", "medium", "hard")),
                    *("object_rel_distance", "route_planning", "obj_appearance_order"),
                )
            },
        ),
    ),
)
MINERVA = Bench(
    folders=("minerva", "MINERVA", "neptune"),
    files={"test": ("minerva.json", "neptune_*.json", "*.json")},
    layout="minerva/minerva.json, a list of {key, video_id, question, answer_choice_0 … 4, "
    "answer_id}, and minerva/videos/<video_id>.mp4",
    origin="https://github.com/google-deepmind/neptune",
    parse=reader(
        "minerva",
        Columns(
            id=("key",),
            video=("videos/{video_id}.mp4",),
            options=tuple(f"answer_choice_{number}" for number in range(5)),
            answer=("answer_id",),
            answer_is=INDEX0,
            family=("question_type", "question type"),
        ),
    ),
)
VIDEO_HOLMES = Bench(
    folders=("video_holmes", "Video-Holmes"),
    files={
        "train": ("train_Video-Holmes.json",),
        "test": ("test_Video-Holmes.json", "eval_video_holmes.json"),
    },
    layout='video_holmes/test_Video-Holmes.json, a list of {"video ID", "Question ID", "Question", '
    '"Options", "Answer"}, and video_holmes/videos/<video ID>.mp4',
    origin="https://github.com/TencentARC/Video-Holmes",
    parse=reader(
        "video_holmes",
        Columns(
            id=("{video ID}/{Question ID}",),
            question=("Question",),
            video=("videos/{video ID}.mp4",),
            options=("Options",),
            answer=("Answer",),
            answer_is=LETTER,
            family=("Question Type",),
        ),
    ),
)
LONGVIDEOBENCH = Bench(
    folders=("longvideobench", "LongVideoBench"),
    files={"validation": ("lvb_val.json",), "test": ("lvb_test_wo_gt.json",)},
    layout="longvideobench/lvb_val.json, a list of {id, video_path, question, candidates, "
    "correct_choice}, and longvideobench/videos/<video_path>",
    origin="https://github.com/longvideobench/LongVideoBench; --hub longvideobench/LongVideoBench",
    parse=reader(
        "longvideobench",
        Columns(
            id=("id",),
            video=("videos/{video_path}",),
            options=("candidates",),
            answer=("correct_choice",),
            answer_is=INDEX0,
            family=("question_category",),
        ),
    ),
)
CG_BENCH = Bench(
    folders=("cg_bench", "CG-Bench"),
    files={"test": ("cgbench.json", "cgbench_mini.json")},
    layout="cg_bench/cgbench.json, a list of {qid, video_uid, question, choices, right_answer}, "
    "and cg_bench/videos/<video_uid>.mp4",
    origin="https://github.com/CG-Bench/CG-Bench",
    parse=reader(
        "cg_bench",
        Columns(
            id=("qid",),
            video=("videos/{video_uid}.mp4",),
            options=("choices",),
            answer=("right_answer",),
            answer_is=LETTER,
            family=("sub_category",),
        ),
    ),
)
