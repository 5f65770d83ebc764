"""Every benchmark is read from its own files; what is no question is named with its reason."""

from __future__ import annotations

import csv
import doctest
import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from nontrivial.builders.qa import benches
from nontrivial.builders.qa.benches import NAMES, PUBLISHED, clevrer, files, load, question
from nontrivial.manifests.errors import BadInput
from tests.builders.qa.questions import clevrer_scene, video_r1, write_clevrer, write_json
from tests.fuzz.damage import limited

ASKED = "What does the cook do next?"
OPTIONS = ["peel a carrot", "open the oven", "call a friend", "leave", "sit"]
LABELLED = [f"({letter}) {text}" for letter, text in zip("ABCDE", OPTIONS, strict=True)]

# One record in each benchmark's own form; the right option is always the second.
RECORDS = {
    "nextgqa": [
        {
            "id": "7_1",
            "video": "11/7.mp4",
            "question": ASKED,
            "options": LABELLED,
            "type": "TN",
            "answer": "(B)",
        }
    ],
    "star": [
        {
            "question_id": "Prediction_T1_5",
            "video_id": "AB12C",
            "start": 1.5,
            "end": "7.25",
            "question": ASKED,
            "answer": OPTIONS[1],
            "choices": [{"choice_id": k, "choice": text} for k, text in enumerate(OPTIONS)],
        }
    ],
    "mvbench": [{"video": "7.mp4", "question": ASKED, "candidates": OPTIONS, "answer": OPTIONS[1]}],
    "mmvu": [
        {
            "id": "validation_7",
            "video": "https://host/repo/videos/Art/7.mp4",
            "question_type": "multiple-choice",
            "question": ASKED,
            "choices": dict(zip("ABCDE", OPTIONS, strict=True)),
            "answer": "B",
        },
        {"id": "validation_8", "question_type": "open-ended", "question": ASKED, "answer": "x"},
    ],
    "tempcompass": {
        "7": {
            "order": [
                {
                    "question": "\n".join(
                        [ASKED, *(f"{label[1]}. {label[4:]}" for label in LABELLED)]
                    ),
                    "answer": f"B. {OPTIONS[1]}",
                }
            ]
        }
    },
    "videomme": [
        {
            "question_id": "7-1",
            "videoID": "abc",
            "question": ASKED,
            "options": [f"{label[1]}. {label[4:]}" for label in LABELLED],
            "answer": "B",
        }
    ],
    "perception_test": {
        "video_7": {
            "mc_question": [
                {"id": 0, "question": ASKED, "options": OPTIONS, "answer_id": 1, "area": "physics"}
            ]
        }
    },
    "video_r1": [video_r1(7, problem=ASKED, options=LABELLED)],
    "table": [{"id": "7", "video": "7.mp4", "question": ASKED, "options": OPTIONS, "answer": "B"}],
}


def read(
    tmp_path: Path, name: str, content: object, suffix: str = "json", **more
) -> benches.Loaded:
    path = tmp_path / f"annotations.{suffix}"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return load(name, tmp_path, "train", annotations=path, **more)


def test_examples_hold():
    for module in (question, clevrer, benches):
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", RECORDS)
def test_each_benchmark_is_read_from_its_own_form(tmp_path, name):
    row = read(tmp_path, name, RECORDS[name]).frame.row(0, named=True)
    assert row["question"] == ASKED
    assert row["options"] == OPTIONS
    assert row["right"] == [False, True, False, False, False]
    assert not row["video"].startswith("/")
    assert row["id"].split("/")[0] in (name, "video_r1")


def test_every_name_has_a_form_or_a_test_of_its_own():
    assert set(NAMES) == set(RECORDS) | set(PUBLISHED) | {"clevrer", "nextqa"}


def test_nextqa_is_read_from_its_csv_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "nextqa" / "val.csv"
    path.parent.mkdir()
    columns = ["video", "frame_count", "width", "height", "question", "answer", "qid", "type"]
    columns += [f"a{k}" for k in range(5)]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerow([7, 100, 640, 480, "what, then", 1, 3, "TN", *OPTIONS])
        writer.writerow([8, 100, 640, 480, "what, then", 9, 3, "TN", *OPTIONS])
    loaded = load("nextqa", tmp_path, "validation")
    assert loaded.frame["id"].to_list() == ["nextqa/validation/7/3"]
    assert loaded.frame["video"].to_list() == ["nextqa/videos/7.mp4"]
    assert "position 9" in loaded.refused[0].reason


def test_any_benchmark_may_come_in_the_video_r1_schema(tmp_path):
    plain = read(tmp_path, "video_r1", RECORDS["video_r1"]).frame
    assert read(tmp_path, "star", RECORDS["video_r1"]).frame.equals(plain)


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "parquet"])
def test_a_table_reads_the_same_from_every_format(tmp_path, suffix):
    record = {"id": "7", "video": "7.mp4", "question": ASKED, "answer": OPTIONS[1]}
    record |= dict(zip("ABCDE", OPTIONS, strict=True))
    path = tmp_path / f"mine.{suffix}"
    frame = pl.DataFrame([record])
    {
        "json": lambda: path.write_text(json.dumps([record])),
        "jsonl": lambda: path.write_text("\n".join([json.dumps(record)] * 2)),
        "csv": lambda: frame.write_csv(path),
        "parquet": lambda: frame.write_parquet(path),
    }[suffix]()
    loaded = load("table", tmp_path, "train", annotations=path)
    assert loaded.frame["options"].to_list() == [OPTIONS]
    assert loaded.frame["right"].to_list() == [[False, True, False, False, False]]
    assert len(loaded.refused) == (suffix == "jsonl")  # the same id twice


def test_the_hub_form_is_read_from_a_local_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "NExTQA"
    folder.mkdir()
    row = {"video": 7, "question": "what", "answer": 1, "qid": 3, "type": "TN"}
    row |= {f"a{k}": text for k, text in enumerate(OPTIONS)}
    pl.DataFrame([row]).write_parquet(folder / "test-0000.parquet")
    loaded = load("nextqa", tmp_path, "test", hub=str(folder))
    assert loaded.frame["id"].to_list() == ["nextqa/test/7/3"]


def test_an_unknown_hub_name_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="cannot be loaded"):
        load("nextqa", tmp_path, "test", hub=str(tmp_path / "nowhere"))


def test_clip_ranges_are_seconds(tmp_path):
    row = read(tmp_path, "star", RECORDS["star"]).frame.row(0, named=True)
    assert (row["start"], row["end"]) == (1.5, 7.25)


def test_versions_of_one_clip_share_a_group(tmp_path):
    item = RECORDS["tempcompass"]["7"]
    loaded = read(tmp_path, "tempcompass", {"7": item, "7_reverse": item})
    assert loaded.frame["group"].unique().to_list() == ["tempcompass/7"]


def test_clevrer_has_all_four_types(tmp_path):
    write_clevrer(tmp_path, 1)
    frame = load("clevrer", tmp_path, "train").frame
    kinds = dict(frame.select("family", "kind").unique().iter_rows())
    assert kinds == {
        "descriptive": "exclusive",
        "explanatory": "independent",
        "predictive": "independent",
        "counterfactual": "independent",
    }
    assert frame["video"][0] == "clevrer/video_train/video_00000-01000/video_00000.mp4"


def test_clevrer_videos_of_the_validation_set_lie_in_their_thousands(tmp_path):
    write_clevrer(tmp_path, 1, "validation")
    frame = load("clevrer", tmp_path, "val").frame
    assert frame["video"][0] == "clevrer/video_validation/video_10000-11000/video_10000.mp4"


def test_distractors_of_a_vocabulary_are_words_that_are_answers_too():
    frequency = {"red": 5, "blue": 3, "green": 1}
    drawn = {
        word
        for number in range(50)
        for word in clevrer.vocabulary_options("red", frequency, f"0/{number}")
    }
    assert drawn == set(frequency)
    assert set(clevrer.vocabulary_options("no", {"no": 1}, "0/1")) == {"yes", "no"}


def test_truth_beside_the_questions_becomes_facts(tmp_path):
    write_clevrer(tmp_path, 1)
    rows = [
        {"scene_index": 0, "question_id": 4, "choice_id": k, "fact": f"fact {k}"} for k in (2, 0, 1)
    ]
    pl.DataFrame(rows).write_parquet(tmp_path / "clevrer" / "truth.parquet")
    frame = load("clevrer", tmp_path, "train").frame
    facts = frame.filter(pl.col("id").str.ends_with("/4"))["facts"].to_list()
    assert facts == [["fact 0", "fact 1", "fact 2"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"scene_index": 0, "question_id": 4, "choice_id": 0}], "no str in 'fact'"),
        ([{"scene_index": "0", "question_id": 4, "choice_id": 0, "fact": "x"}], "no int in 'sce"),
        (None, "not a readable Parquet file"),
    ],
)
def test_a_truth_that_is_none_is_named(tmp_path, content, message):
    file = write_clevrer(tmp_path, 1).with_name("truth.parquet")
    pl.DataFrame(content or []).write_parquet(file)
    if content is None:
        file.write_bytes(b"PAR1 and no more")
    with pytest.raises(BadInput, match=rf"truth\.parquet: .*{message}"):
        load("clevrer", tmp_path, "train")


def test_answers_of_egoschema_that_are_no_mapping_are_named(tmp_path):
    folder = tmp_path / "egoschema"
    folder.mkdir()
    write_json(folder / "questions.json", [{"q_uid": "7", "question": ASKED}])
    write_json(folder / "subset_answers.json", [1, 2])
    with pytest.raises(BadInput, match=r"subset_answers\.json: needs a mapping"):
        load("egoschema", tmp_path, "test")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"options": None}, "'options' is missing"),
        ({"options": ["A. only"], "solution": "<answer>A</answer>"}, "fewer than two options"),
        ({"solution": "<answer>E</answer>"}, "position 4"),
        ({"solution": "<answer></answer>"}, "no right option"),
        ({"solution": None}, "'solution' is missing"),
        ({"options": ["A. x", "B. x", "C. y"]}, "appears twice"),
        ({"options": ["A. x", "B. ", "C. y"], "solution": "<answer>A</answer>"}, None),
        ({"options": ["x", "", "y"]}, "is missing or not a text"),
        ({"problem": "a" * 10_000_000}, "over 4000 characters"),
        ({"problem_type": "free-form"}, "not 'multiple choice'"),
        ({"start": "soon"}, "not a time"),
        ({"start": 10**400, "end": 10**401}, "not a time"),
        ({"start": 5, "end": 3}, "no range of seconds"),
        ({"start": 5}, "no range of seconds"),
        ({"start": float("nan"), "end": 3}, "no range of seconds"),
        ({"video": "/"}, "names no video"),
        ({"problem": "\ud800?"}, "lone surrogate"),
        ({"options": [str(n) for n in range(30)]}, "more than can be lettered"),
        ({"options": [1.5, 2, "three"]}, None),
        ({"problem": "<script>ünïcode 漢字</script>?"}, None),
    ],
)
def test_odd_records_are_refused_by_name_and_the_good_ones_stay(tmp_path, change, reason):
    loaded = read(tmp_path, "video_r1", [video_r1(1), video_r1(2, **change), video_r1(3)])
    assert len(loaded.frame) == (3 if reason is None else 2)
    if reason is not None:
        assert reason in loaded.refused[0].reason
        assert loaded.refused[0].id == "record 2 (2)"


@pytest.mark.parametrize(
    "record", [None, 3, "text", [], {}, {"questions": 3}, {"questions": [None]}]
)
def test_a_scene_that_is_none_is_refused(tmp_path, record):
    content = [clevrer_scene(0), record]
    loaded = read(tmp_path, "clevrer", content)
    assert len(loaded.frame) == len(clevrer_scene(0)["questions"])
    assert loaded.refused[0].damaged


def test_a_broken_line_is_one_record(tmp_path):
    lines = [json.dumps(video_r1(1)), "{broken", json.dumps(video_r1(2))]
    loaded = read(tmp_path, "video_r1", "\n".join(lines), "jsonl")
    assert len(loaded.frame) == 2
    assert loaded.refused[0].reason == "is not JSON"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ("{nonsense", "neither JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": 1}', "needs a list"),
    ],
)
def test_a_file_that_is_none_is_bad_input(tmp_path, content, message):
    with pytest.raises(BadInput, match=message):
        read(tmp_path, "video_r1", content)


@pytest.mark.parametrize(
    "content",
    [
        {"version": 2, "questions": [video_r1(1), video_r1(2)]},
        {"a": video_r1(1), "b": video_r1(2)},
        {"a": [video_r1(1)], "b": [video_r1(2)]},
    ],
)
def test_records_may_lie_below_a_name_or_beside_keys(tmp_path, content):
    assert len(read(tmp_path, "video_r1", content).frame) == 2


def test_packed_files_are_read_and_bombs_are_not(tmp_path):
    text = json.dumps([video_r1(1)]).encode()
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(text[:9]) + gzip.compress(text[9:]))
    assert len(load("video_r1", tmp_path, "train", annotations=path).frame) == 1
    path.write_bytes(gzip.compress(text)[:-9])
    with pytest.raises(BadInput, match="middle of its packed data"):
        files.read(path)
    path.write_bytes(b"no gzip")
    with pytest.raises(BadInput, match="not a readable gzip"):
        files.read(path)
    path.write_bytes(gzip.compress(b"[" + b" " * 2**27))
    with pytest.raises(BadInput, match="unpacks to more than 64 MiB"):
        files.read(path)


def test_a_csv_line_with_too_many_cells_is_one_bad_record(tmp_path):
    lines = ["id,video,question,A,B,answer", "1,v.mp4,which?,x,y,A", "2,v.mp4,which,one?,x,y,A"]
    loaded = read(tmp_path, "table", "\n".join(lines), "csv")
    assert loaded.frame["id"].to_list() == ["table/1"]
    assert loaded.refused[0].reason == "line 3: more cells than the header"


@pytest.mark.parametrize(
    "asked",
    [
        f"{ASKED}\n" + "\n".join(LABELLED),
        f"{ASKED} Options: " + " ".join(f"{label[1]}. {label[4:]}" for label in LABELLED),
        f"{ASKED}\n" + "\n".join(f"{label[1]} {label[4:]}" for label in LABELLED),
        f"{ASKED}\n" + "\n".join(LABELLED) + "\nAnswer with the option's letter.",
        f"{ASKED}\n" + "\n".join(OPTIONS),
    ],
)
def test_option_lines_leave_the_question(tmp_path, asked):
    record = video_r1(7, problem=asked, options=LABELLED)
    assert read(tmp_path, "video_r1", [record]).frame["question"].to_list() == [ASKED]


@pytest.mark.parametrize("between", [" ", "\n", "the ", "options: ", "A ", "(A) "])
def test_a_long_text_before_the_options_is_read_at_once(between):
    asked = f"What {between * (3800 // len(between))}x?"
    listed = f"{asked} The options are: (A) a cup (B) a hat"
    with limited(repr(between)):
        assert question.without_options(listed, ["a cup", "a hat"]) == asked


def test_option_lines_that_are_not_the_options_refuse_the_question(tmp_path):
    record = video_r1(7, problem=f"{ASKED}\nA. run\nB. hide", options=LABELLED)
    loaded = read(tmp_path, "video_r1", [record, video_r1(8)])
    assert "lettered lines that are not its options" in loaded.refused[0].reason


def test_questions_that_are_negated_already_say_so(tmp_path):
    answer = "<answer>A,C</answer>"
    record = video_r1(7, is_negated=True, question="what doesn't he do", solution=answer)
    frame = read(tmp_path, "video_r1", [record]).frame
    assert frame.select("question", "kind").row(0) == ("what doesn't he do", "negated")


def test_all_files_of_a_benchmark_with_several_are_read(tmp_path):
    for name, record in (("1_plotQA", "a"), ("4_count", "b")):
        path = tmp_path / "mlvu" / "json" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        item = {"video": f"{record}.mp4", "question": ASKED, "candidates": OPTIONS}
        write_json(path, [item | {"answer": OPTIONS[1], "question_type": "count"}])
    videos = load("mlvu", tmp_path, "test").frame["video"].to_list()
    assert videos == ["mlvu/video/1_plotQA/a.mp4", "mlvu/video/4_count/b.mp4"]


def test_binary_content_is_bad_input(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(BadInput, match="UTF-8"):
        files.read(path)


def test_missing_data_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        load("clevrer", tmp_path, "train")
    message = str(caught.value)
    for needed in (
        "clevrer/train.json",
        "CLEVRER/train.json",
        "csail.mit.edu",
        "nontrivial synthetic",
        "video_00000",
    ):
        assert needed in message
    with pytest.raises(FileNotFoundError, match="no such file"):
        load("clevrer", tmp_path, "train", annotations=tmp_path / "no.json")


def test_a_split_that_a_benchmark_lacks_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="mmvu has validation, test"):
        load("mmvu", tmp_path, "train")


def test_real_files_are_read_whole(shared_data, tmp_path):
    expected = {
        ("nextqa", "nextqa_val_1500.csv"): (1500, 0),
        ("nextgqa", "nextgqa_val_1500.json"): (1500, 0),
        ("star", "mvbench_star_300.json"): (300, 0),
        ("mvbench", "mvbench_clevrer_500.json"): (498, 2),
        ("tempcompass", "tempcompass_multi_choice_100.json"): (572, 0),
        ("mmvu", "mmvu_validation_100.json"): (68, 32),
        ("mmvu", "video_r1_mmvu_100.json"): (100, 0),
        ("videomme", "video_r1_videomme_100.json"): (100, 0),
    }
    for (name, file), counts in expected.items():
        loaded = load(name, tmp_path, "validation", annotations=shared_data / file)
        assert (len(loaded.frame), len(loaded.refused)) == counts, file
        damaged = sum(refused.damaged for refused in loaded.refused)
        assert damaged <= 0.01 * loaded.records  # the default of --max_bad


@pytest.mark.parametrize(
    ("bench", "content"),
    [("clevrer", {"scenes": 3}), ("tempcompass", 1), ("perception_test", "questions")],
)
def test_a_list_is_required_where_a_list_is_read(tmp_path, bench, content):
    path = write_json(tmp_path / "x.json", content)
    with pytest.raises(BadInput, match=f"{bench} annotations are"):
        load(bench, tmp_path, "train", annotations=path)
