"""The command: from annotation files to a manifest that keeps the contract."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from nontrivial.builders import qa_invert
from nontrivial.manifests.answers import NONE
from nontrivial.manifests.parquet import read_about, read_samples
from tests.builders.qa.questions import clevrer_scene, video_r1, write_clevrer, write_json
from tests.reference.inversion_faults import is_doubly_negated, is_unchanged, negates_a_clause


def build(root: Path, *more: object, bench: str = "clevrer", status: int = 0) -> Path:
    """Run the command with `root` as its folder of data; returns the manifest's path."""
    words = ["--bench", bench, "--root", root, "--out", root / "manifests", *more]
    assert qa_invert.main([str(word) for word in words]) == status
    return root / "manifests" / f"{bench}_qa_invert.parquet"


def samples(path: Path) -> list[dict]:
    return read_samples(path).to_pylist()


def texts(row: dict, letters: list[str]) -> set[str]:
    return {
        option
        for letter, option in zip("ABCDEFGH", row["options"], strict=False)
        if letter in letters
    }


def originals(row: dict) -> tuple[set[str], set[str]]:
    """The old right and wrong option texts."""
    qa = row["qa"]
    labelled = dict(zip("ABCDEFGH", qa["original_options"], strict=False))
    right = {labelled[letter] for letter in qa["original_answer"]}
    return right, set(qa["original_options"]) - right


def test_labels_are_the_complement_of_the_source(tmp_path):
    write_clevrer(tmp_path)
    for row in samples(build(tmp_path, "--ratio", "0.6")):
        right, wrong = originals(row)
        expected = wrong & set(row["options"]) if row["qa"]["inverted"] else right
        assert texts(row, row["answer"]) == (expected or {NONE})
        assert (row["question"] != row["qa"]["original_question"]) == row["qa"]["inverted"]


def test_ratio_one_inverts_every_choice_question_and_zero_none(tmp_path):
    write_clevrer(tmp_path)
    rows = samples(build(tmp_path, "--ratio", 1))
    chosen = [row for row in rows if row["qa"]["family"] != "descriptive"]
    assert all(row["qa"]["inverted"] for row in chosen)
    assert not any(row["qa"]["inverted"] for row in samples(build(tmp_path, "--ratio", 0)))


def test_where_nothing_is_right_an_explicit_option_is(tmp_path):
    write_clevrer(tmp_path)
    rows = samples(build(tmp_path, "--ratio", 0))
    empty = [row for row in rows if row["qa"]["original_answer"] == []]
    assert empty
    assert all(texts(row, row["answer"]) == {NONE} for row in empty)
    wrong = [row for row in rows if NONE in row["options"] and row["qa"]["original_answer"]]
    assert len(wrong) > len(empty) / 2  # its presence gives nothing away


def test_the_same_seed_gives_the_same_digest_and_another_seed_another_order(tmp_path):
    write_clevrer(tmp_path)
    digests = [read_about(build(tmp_path, "--seed", seed))["content_digest"] for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_the_order_of_the_records_does_not_matter(tmp_path):
    path = write_clevrer(tmp_path)
    scenes = json.loads(path.read_text())
    first = read_about(build(tmp_path))["content_digest"]
    write_json(path, scenes[::-1])
    assert read_about(build(tmp_path))["content_digest"] == first


def test_batches_do_not_change_the_result(tmp_path, monkeypatch):
    write_clevrer(tmp_path)
    first = read_about(build(tmp_path))["content_digest"]
    monkeypatch.setattr(qa_invert, "BATCH", 7)
    assert read_about(build(tmp_path))["content_digest"] == first


def test_ray_gives_the_same_result(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="--engine ray needs the extra `ray`")
    monkeypatch.setattr(qa_invert, "BATCH", 40)
    write_clevrer(tmp_path)
    first = read_about(build(tmp_path))["content_digest"]
    assert read_about(build(tmp_path, "--engine", "ray"))["content_digest"] == first


def test_facts_become_rationales_in_the_order_of_the_options(tmp_path):
    import polars as pl

    write_clevrer(tmp_path, 4)
    rows = [
        {"scene_index": scene, "question_id": 4, "choice_id": k, "fact": f"fact{k}"}
        for scene in range(4)
        for k in range(-2, 3)
    ]
    first = {"scene_index": 0, "question_id": 0}
    rows += [{**first, "choice_id": -2, "fact": "all seen"}]
    rows += [{**first, "choice_id": -1, "fact": "two move"}]
    pl.DataFrame(rows).write_parquet(tmp_path / "clevrer" / "truth.parquet")
    for row in samples(build(tmp_path, "--ratio", 0.5)):
        if row["qa"]["family"] != "predictive":
            seen = "seen all seen so two move;\nA "
            assert row["rationale"] is None or row["rationale"].startswith(seen)
            continue
        seen, *told = row["rationale"].splitlines()
        assert seen == "seen fact-2 so fact-1;"
        said = [line.strip(";").split() for line in told]
        assert [step[0] for step in said] == list("ABCD"[: len(row["options"])])
        assert [step[0] for step in said if step[-1] == "yes"] == row["answer"]
        for (_, fact, _), option in zip(said, row["options"], strict=True):
            known = row["qa"]["original_options"]
            assert fact == ("none" if option == NONE else f"fact{known.index(option)}")


def test_validation_questions_land_in_the_eval_folder(tmp_path):
    write_clevrer(tmp_path, 2, "validation")
    build(tmp_path, "--split", "validation")
    rows = samples(tmp_path / "manifests" / "eval" / "clevrer_qa_invert_val.parquet")
    assert {row["split"] for row in rows} == {"val"}
    assert not list((tmp_path / "manifests").glob("*.parquet"))


def test_a_video_is_on_one_side_of_the_holdout(tmp_path):
    write_clevrer(tmp_path, 40)
    train = {row["group"] for row in samples(build(tmp_path, "--holdout", 0.3))}
    held = tmp_path / "manifests" / "eval" / "clevrer_qa_invert_val.parquet"
    val = {row["group"] for row in samples(held)}
    assert train.isdisjoint(val)
    assert len(train | val) == 40
    assert 4 < len(val) < 20


def test_a_real_clip_with_yes_and_no_goes_through_as_it_was(shared_data, tmp_path):
    path = shared_data / "mvbench_clevrer_video_12176.json"
    more = (
        "--annotations",
        path,
        "--root",
        shared_data / "videos",
        "--media_by_name",
        "--ratio",
        1,
    )
    row = samples(build(tmp_path, *more, bench="video_r1"))[0]
    assert row["videos"][0]["path"] == "video_12176.mp4"
    assert row["options"] == ["not sure", "no", "yes"]
    assert (row["answer"], row["qa"]["inverted"]) == (["C"], False)


def test_media_are_checked_by_path_and_by_name(tmp_path, capsys):
    records = [video_r1(n) for n in range(4)] + [video_r1(4, video="../../etc/passwd")]
    path = write_json(tmp_path / "x.json", records)
    (tmp_path / "kitchen").mkdir()
    (tmp_path / "kitchen" / "0000.mp4").write_bytes(b"clip")
    (tmp_path / "kitchen" / "0001.mp4").touch()
    (tmp_path / "0002.mp4").write_bytes(b"clip")
    more = ("--annotations", path, "--max_bad", 1)
    assert len(samples(build(tmp_path, *more, bench="video_r1"))) == 3
    shown = capsys.readouterr()
    assert "the media file is empty" in shown.err
    assert "leads outside the root" in shown.err
    kept = samples(build(tmp_path, *more, "--require_media", bench="video_r1"))
    assert [row["videos"][0]["path"] for row in kept] == ["kitchen/0000.mp4"]
    more = (*more, "--media_by_name", "--require_media")
    kept = samples(build(tmp_path, *more, bench="video_r1"))
    assert [row["videos"][0]["path"] for row in kept] == ["kitchen/0000.mp4", "0002.mp4"]


def test_an_ambiguous_name_is_an_error(tmp_path, capsys):
    path = write_json(tmp_path / "x.json", [video_r1(0)])
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0000.mp4").write_bytes(b"clip")
    build(tmp_path, "--annotations", path, "--media_by_name", bench="video_r1", status=2)
    assert "ambiguous" in capsys.readouterr().err


def test_damage_beyond_the_limit_stops_the_work_and_below_it_is_skipped(tmp_path, capsys):
    broken = video_r1(50)
    del broken["problem"]
    records = [video_r1(number) for number in range(100)]
    path = write_json(tmp_path / "x.json", [*records[:50], broken, *records[51:]])
    rows = samples(build(tmp_path, "--annotations", path, bench="video_r1"))
    assert len(rows) == 99
    assert "record 51 (50): field 'question' is missing" in capsys.readouterr().err
    write_json(path, [broken | {"problem_id": 1000}, broken, *records[2:]])
    build(tmp_path, "--annotations", path, bench="video_r1", status=2)
    assert "2 of 100 records are damaged" in capsys.readouterr().err


def test_records_without_options_or_answer_count_as_damaged(tmp_path, capsys):
    records = [video_r1(0), video_r1(1, options=None), video_r1(2, solution="<answer>F</answer>")]
    path = write_json(tmp_path / "x.json", records)
    more = ("--annotations", path)
    build(tmp_path, *more, bench="video_r1", status=2)
    shown = capsys.readouterr().err
    assert "record 2 (1): field 'options' is missing" in shown
    assert "record 3 (2): the answer is position 5" in shown
    assert len(samples(build(tmp_path, *more, "--max_bad", 0.7, bench="video_r1"))) == 1


def test_declared_open_questions_count_as_nothing(tmp_path):
    records = [video_r1(0), video_r1(1, problem_type="free-form"), video_r1(2, data_type="image")]
    path = write_json(tmp_path / "x.json", records)
    assert len(samples(build(tmp_path, "--annotations", path, bench="video_r1"))) == 1


def test_bad_usage_and_missing_data_exit_with_two_and_no_traceback(tmp_path, capsys):
    build(tmp_path, status=2)
    shown = capsys.readouterr().err
    assert shown.startswith("error: clevrer: found no")
    assert "Traceback" not in shown
    write_clevrer(tmp_path, 1)
    build(tmp_path, "--ratio", "1.5", status=2)
    build(tmp_path, "--annotations", "a", "--hub", "b", status=2)
    with pytest.raises(SystemExit) as caught:
        build(tmp_path, bench="unknown")
    assert caught.value.code == 2


def test_the_summary_counts_every_record(tmp_path, capsys):
    scenes = [clevrer_scene(number) for number in range(10)]
    scenes[3]["questions"][1]["answer"] = "ultraviolet"
    path = write_json(tmp_path / "x.json", scenes)
    counts = read_about(build(tmp_path, "--annotations", path))["counts"]
    assert counts["records"] == 70 == counts["questions"] + sum(counts["refused"].values())
    assert counts["questions"] == counts["inverted"] + sum(counts["kept_as_they_were"].values())
    assert counts["inverted"] == sum(counts["rules"].values())
    assert "is in no closed vocabulary" in capsys.readouterr().out


def test_what_blind_strategies_earn_is_measured_and_stored(tmp_path):
    write_clevrer(tmp_path, 30)
    measured = read_about(build(tmp_path))["blind"]
    for when in ("before", "after"):
        assert 0 < measured[when]["soft"]["score"] <= 1
        assert measured[when]["strict"]["strategy"]


def test_help_imports_nothing_heavy():
    words = [sys.executable, "-X", "importtime", "-m", "builders.qa_invert", "--help"]
    made = subprocess.run(words, capture_output=True, text=True, check=True)
    imported = {line.split("|")[-1].strip() for line in made.stderr.splitlines()}
    assert "--media_by_name" in made.stdout
    assert "nontrivial.builders.qa.benches" in imported
    assert imported.isdisjoint({"polars", "pyarrow", "torch", "datasets", "numpy"})


@pytest.mark.parametrize(
    ("bench", "file"),
    [
        ("nextqa", "nextqa_val_1500.csv"),
        ("nextgqa", "nextgqa_val_1500.json"),
        ("star", "mvbench_star_300.json"),
    ],
)
def test_real_files_are_covered_without_a_fault(shared_data, tmp_path, bench, file):
    path = build(tmp_path, "--annotations", shared_data / file, "--ratio", 1, bench=bench)
    rows, about = samples(path), read_about(path)
    counts = about["counts"]
    assert counts["inverted"] >= 0.95 * counts["eligible"]
    assert counts["inverted"] >= 0.8 * counts["records"]
    for row in (row for row in rows if row["qa"]["inverted"]):
        assert not is_unchanged(row["qa"]["original_question"], row["question"])
        assert not negates_a_clause(row["question"]), row["question"]
        assert not is_doubly_negated(row["question"]), row["question"]
        right, wrong = originals(row)
        assert texts(row, row["answer"]) <= wrong
        assert set(row["options"]) - texts(row, row["answer"]) == right
    learned, after = about["blind"]["learned"]["inverted"], about["blind"]["after"]
    assert learned["after"] <= learned["before"] + 3 * learned["standard_error"]
    if bench != "star":
        assert after["soft"]["score"] <= 0.32


def test_statements_come_alone_or_beside_the_questions(tmp_path, capsys):
    write_clevrer(tmp_path, 12)
    alone = samples(build(tmp_path, "--form", "statements"))
    assert {row["qa"]["rule"] for row in alone} == {"statements"}
    known = {row["qa"]["parent_id"] or row["id"] for row in samples(build(tmp_path))}
    assert all(set(row["qa"]["parents"]) <= known for row in alone)
    path = build(tmp_path, "--form", "both")
    assert len(samples(path)) == len(alone) + len(known)
    about = read_about(path)
    assert about["counts"]["statements"] == len(alone)
    assert about["counts"]["questions"] == len(known)
    assert set(about["blind"]["statements"]) == {"soft", "strict"}
    assert "statements, several a question" in capsys.readouterr().out


def test_a_clip_with_one_question_has_no_statements(tmp_path, capsys):
    path = write_json(tmp_path / "x.json", [video_r1(0)])
    more = ("--annotations", path, "--form", "statements")
    build(tmp_path, *more, bench="video_r1", status=2)
    assert "no clip has three questions" in capsys.readouterr().err
    build(tmp_path, *more, "--statements", 2, bench="video_r1", status=2)


def test_how_strictly_options_exclude_is_the_users_choice(tmp_path):
    options = ["A. lifts the red cup", "B. lifts the blue cup", "C. sits", "D. runs", "E. eats"]
    records = [video_r1(n, options=options, solution="<answer>A</answer>") for n in range(3)]
    more = ("--annotations", write_json(tmp_path / "x.json", records), "--ratio", 1)
    normal = samples(build(tmp_path, *more, bench="video_r1"))
    path = build(tmp_path, *more, "--exclusive", "strict", bench="video_r1")
    assert {len(row["options"]) for row in normal} == {5}
    assert {round(row["qa"]["doubt"], 2) for row in normal} == {0.67}
    assert {len(row["options"]) for row in samples(path)} == {4}
    counted = read_about(path)["counts"]["options_left_out"]
    assert counted == {"is worded much like the answer": 3}


def test_a_text_encoder_reads_the_options(tmp_path, capsys):
    folder = tiny_text_encoder(tmp_path / "encoder")
    path = write_json(tmp_path / "x.json", [video_r1(n) for n in range(3)])
    more = ("--annotations", path, "--ratio", 1, "--paraphrase_encoder")
    rows = samples(build(tmp_path, *more, folder, bench="video_r1"))
    assert all(0 < row["qa"]["doubt"] <= 1 for row in rows if row["qa"]["inverted"])
    build(tmp_path, *more, tmp_path / "nowhere", bench="video_r1", status=2)
    assert "--paraphrase_encoder" in capsys.readouterr().err


def tiny_text_encoder(folder: Path) -> Path:
    """A BERT of two layers with random weights and words for letters."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    tokens += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(tokens))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def inverted_single(path: Path) -> dict[str, list[str]]:
    rows = [row for row in samples(path) if row["qa"]["inverted"]]
    return {row["id"]: row["options"] for row in rows if row["qa"]["family"] == "descriptive"}


def test_the_same_question_has_the_same_letters_whatever_else_is_in_the_file(tmp_path):
    write_clevrer(tmp_path / "many", 30)
    write_clevrer(tmp_path / "few", 7)
    many, few = (inverted_single(build(tmp_path / name, "--ratio", 1)) for name in ("many", "few"))
    assert few
    assert few.items() <= many.items()


def test_the_wrong_option_may_stand_at_any_letter(tmp_path):
    write_clevrer(tmp_path, 60)
    places: Counter = Counter()
    for row in samples(build(tmp_path, "--ratio", 1)):
        if row["qa"]["inverted"] and row["qa"]["family"] == "descriptive":
            places.update(set("ABCDE"[: len(row["options"])]) - set(row["answer"]))
    assert places["A"] + places["B"] + places["C"] >= 60
    assert max(places[x] for x in "ABC") < 1.6 * min(places[x] for x in "ABC")


def test_excluded_samples_are_left_out_and_all_others_stay_as_they_were(tmp_path, capsys):
    write_clevrer(tmp_path)
    before = samples(build(tmp_path))
    gone = {before[0]["id"], before[-1]["id"]}
    (tmp_path / "ids.txt").write_text("\n".join([*gone, "nobody", ""]))
    path = build(tmp_path, "--exclude", tmp_path / "ids.txt")
    assert samples(path) == [row for row in before if row["id"] not in gone]
    assert "left out 2 samples; 1 of its 3 ids name no sample" in capsys.readouterr().out
    (tmp_path / "ids.txt").write_text("\n".join(row["id"] for row in before))
    build(tmp_path, "--exclude", tmp_path / "ids.txt", status=2)
    assert f"leaves out all {len(before)} samples" in capsys.readouterr().err
