"""`python -m eval.qa` from manifests to numbers: a tiny random policy, and published logs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from nontrivial.eval.qa import main
from nontrivial.manifests import decoders
from nontrivial.manifests.parquet import write_samples
from nontrivial.manifests.schema import samples_table
from nontrivial.models.inputs import load_media
from tests.media_files import write_clip, write_image
from tests.rows import media, reid_pair, video_question


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Six pairs of images and two questions on a clip."""
    for i in range(4):
        write_image(tmp_path / f"data/{i}.jpg", seed=i)
    write_clip(tmp_path / "data/clip.mp4")
    rows = [
        reid_pair(
            f"pair{i}",
            group=f"p{i}",
            split="test",
            images=[media("0.jpg"), media(f"{i % 4}.jpg")],
            question="Is it the same person" + " as before" * i + "?",
        )
        for i in range(6)
    ]
    rows += [video_question(f"clip{i}", split="test", videos=[media("clip.mp4")]) for i in range(2)]
    path = tmp_path / "mixed.parquet"
    write_samples(samples_table(rows), path, {"media_root": str(tmp_path / "data")})
    return path


@pytest.fixture
def evaluate(manifest: Path, tiny_policy_dir: Path, tmp_path: Path):
    """Run the command on the manifest; returns its status."""

    def run(*words: str, out: str = "out") -> int:
        fixed = ["--out", str(tmp_path / out), "--model_name_or_path", str(tiny_policy_dir)]
        return main([str(manifest), *fixed, "--max_new_tokens", "6", "--nframes", "2", *words])

    return run


def completions(folder: Path) -> dict[str, str]:
    (store,) = (file for file in folder.glob("mixed-*.jsonl"))
    lines = [json.loads(line) for line in store.read_text(encoding="utf-8").splitlines()]
    assert len({line["id"] for line in lines}) == len(lines)
    return {line["id"]: line["completion"] for line in lines}


def test_excluded_samples_are_not_asked_and_unknown_ids_are_counted(evaluate, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("pair0\r\nclip1\r\nnobody\r\n")
    assert evaluate("--exclude", str(tmp_path / "ids.txt")) == 0
    shown = capsys.readouterr()
    assert "left out 2 samples; 1 of its 3 ids name no sample" in shown.out
    assert decoders.named() in shown.err
    rest = {*(f"pair{i}" for i in range(1, 6)), "clip0"}
    assert completions(tmp_path / "out").keys() == rest
    assert evaluate() == 0  # only those two are left to answer
    assert "6 of 8 are answered already" in capsys.readouterr().out


def test_draws_tell_what_the_policy_could_answer(evaluate, tmp_path, capsys):
    assert evaluate("--draws", "3") == 0
    assert "pass@3" in capsys.readouterr().out
    [pairs, *_] = lines_of(tmp_path / "out", "mixed")
    assert pairs["draws"] == 3
    assert pairs["sampled_strict"] <= pairs["pass_at_draws"] <= 3 * pairs["sampled_strict"]
    stores = sorted((tmp_path / "out").glob("mixed-*.jsonl"))
    assert len(stores) == 4  # the greedy answers, and each draw
    before = {path: path.read_bytes() for path in stores}
    assert evaluate("--draws", "3") == 0
    assert {path: path.read_bytes() for path in stores} == before


def lines_of(folder: Path, name: str) -> list[dict]:
    return json.loads((folder / "summary.json").read_text())["manifests"][name]


def test_a_manifest_is_answered_and_every_number_is_written(evaluate, tmp_path, capsys):
    assert evaluate() == 0
    shown = capsys.readouterr().out
    assert "reid_pair" in shown
    assert "video_qa" in shown
    lines = lines_of(tmp_path / "out", "mixed")
    assert [(line["task"], line["n"]) for line in lines] == [("reid_pair", 6), ("video_qa", 2)]
    scored = (tmp_path / "out/mixed.scored.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in scored] == sorted(completions(tmp_path / "out"))


def test_the_batch_size_changes_no_greedy_answer(evaluate, tmp_path):
    for size in (1, 3, 8):
        assert evaluate("--batch_size", str(size), out=f"b{size}") == 0
    assert completions(tmp_path / "b1") == completions(tmp_path / "b3")
    assert completions(tmp_path / "b1") == completions(tmp_path / "b8")


def test_a_killed_run_goes_on_where_it_was(evaluate, tmp_path, monkeypatch, capsys):
    assert evaluate("--batch_size", "1", out="whole") == 0
    whole = completions(tmp_path / "whole")
    assert evaluate("--batch_size", "1", "--limit", "5") == 0
    (store,) = (tmp_path / "out").glob("mixed-*.jsonl")
    store.write_bytes(store.read_bytes()[:-7])  # the kill came in the middle of a line

    from nontrivial.eval.generation import Generator

    asked = []
    complete = Generator.complete
    monkeypatch.setattr(
        Generator,
        "complete",
        lambda self, samples, given: asked.extend(samples) or complete(self, samples, given),
    )
    assert evaluate("--batch_size", "1") == 0
    assert len(asked) == 4
    assert completions(tmp_path / "out") == whole
    assert "4 of 8 are answered already" in capsys.readouterr().out


@pytest.mark.parametrize("lines", [1, 3, 4])
def test_a_kill_within_a_batch_changes_no_drawn_answer(evaluate, tmp_path, lines):
    """Answers are drawn batch by batch: what is left of one would draw others."""
    words = ("--sample", "true", "--batch_size", "3", "--temperature", "3")
    assert evaluate(*words) == 0
    whole = completions(tmp_path / "out")
    (store,) = (tmp_path / "out").glob("mixed-*.jsonl")
    cut = store.read_bytes().splitlines(keepends=True)[:lines]
    store.write_bytes(b"".join(cut) + b'{"id": "pa')
    assert evaluate(*words) == 0
    assert completions(tmp_path / "out") == whole


def test_a_finished_run_scores_again_without_loading_the_policy(evaluate, tmp_path, monkeypatch):
    assert evaluate() == 0
    before = lines_of(tmp_path / "out", "mixed")
    (tmp_path / "out/summary.json").unlink()
    monkeypatch.setattr("nontrivial.eval.generation.load_policy", None)
    assert evaluate() == 0
    assert lines_of(tmp_path / "out", "mixed") == before


def test_other_settings_do_not_mix_with_earlier_answers(evaluate, tmp_path):
    assert evaluate() == 0
    assert evaluate("--max_new_tokens", "3") == 0
    assert len(list((tmp_path / "out").glob("mixed-*.jsonl"))) == 2


def test_drawn_answers_repeat_with_their_seed(evaluate, tmp_path):
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert evaluate("--sample", "true", "--seed", seed, out=out) == 0
    assert completions(tmp_path / "a") == completions(tmp_path / "b")
    assert completions(tmp_path / "a") != completions(tmp_path / "c")


def test_the_policy_never_emits_placeholders(tiny_policy_dir, monkeypatch):
    import torch
    from PIL import Image

    from nontrivial.eval.generation import Generator, Sampling, View
    from nontrivial.models.policy import vision_token_ids

    generator = Generator(
        str(tiny_policy_dir), Sampling(max_new_tokens=4), View(), dtype="float32", device="cpu"
    )
    placeholders, written = vision_token_ids(generator.model), []

    def prefer_placeholders(module, inputs, logits):
        logits[..., placeholders] += 1e4
        return logits

    generator.model.lm_head.register_forward_hook(prefer_placeholders)
    monkeypatch.setattr(
        generator.processor, "batch_decode", lambda tokens, **_: written.append(tokens)
    )
    photo = Image.new("RGB", (64, 128))
    generator.complete([reid_pair()], [([photo, photo], [])])
    assert written[0].shape == (1, 4)
    assert not torch.isin(written[0], torch.tensor(placeholders)).any()


def test_damaged_media_are_skipped_listed_and_bounded(evaluate, tmp_path, monkeypatch, capsys):
    photo = tmp_path / "data/3.jpg"
    photo.write_bytes(photo.read_bytes()[:300])
    assert evaluate() == 2
    assert "pair3" in capsys.readouterr().err
    assert evaluate("--max_bad", "0.5") == 0
    shown = capsys.readouterr()
    assert "1 of 8 samples are skipped" in shown.err
    assert "3.jpg: is not a readable image" in shown.err
    assert shown.err.count("pair3") == 1
    assert set(completions(tmp_path / "out")) == {
        *(f"pair{i}" for i in (0, 1, 2, 4, 5)),
        "clip0",
        "clip1",
    }
    monkeypatch.setattr("nontrivial.eval.generation.load_policy", None)
    assert evaluate("--max_bad", "0.5") == 0, "nothing is left that the policy could answer"


def crash_at_one(sample, media_root, view):
    """Decode the media of a sample; end the process at that of `pair3`."""
    if sample["id"] == "pair3":
        signal.raise_signal(signal.SIGSEGV)
    return load_media(sample, media_root, view)


def test_a_crash_of_a_decoder_costs_one_question(evaluate, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nontrivial.eval.generation._media_or_reason", crash_at_one)
    assert evaluate("--max_bad", "0.5") == 0
    assert "pair3: the decoder crashed (SIGSEGV)" in capsys.readouterr().err
    assert len(completions(tmp_path / "out")) == 7
    monkeypatch.undo()
    assert evaluate() == 0
    assert len(completions(tmp_path / "out")) == 8


def test_completions_made_elsewhere_are_scored_without_a_policy(manifest, tmp_path, capsys):
    made = tmp_path / "made.jsonl"
    texts = {f"pair{i}": f"<answer>{'AB'[i % 2]}</answer>" for i in range(6)}
    texts |= {"clip0": "<answer>B</answer>", "clip1": "B, D"}
    made.write_text(
        "".join(json.dumps({"id": i, "completion": t}) + "\n" for i, t in texts.items())
    )
    words = [str(manifest), "--predictions", str(made), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    pairs, clips = lines_of(tmp_path / "out", "mixed")
    assert (pairs["right"], clips["right"], clips["soft"]) == (3, 0, 0.25)
    assert main([*words, "--need_block", "false"]) == 0
    assert lines_of(tmp_path / "out", "mixed")[1]["soft"] == 0.75
    made.write_text(json.dumps({"id": "pair0", "completion": "A"}) + "\n")
    assert main(words) == 2
    assert "7 of 8 samples are skipped" in capsys.readouterr().err


def test_the_policy_sees_no_more_of_the_media_than_it_is_told_to(evaluate, monkeypatch):
    from nontrivial.eval import generation

    seen = []
    encode = generation.encode

    def remember(*words, **options):
        batch = encode(*words, **options)
        seen.append(batch["input_ids"].shape[1])
        return batch

    monkeypatch.setattr(generation, "encode", remember)
    for limits in ([], ["--max_pixels", "3136"], ["--fps", "0.5"]):
        assert evaluate("--nframes", "4", *limits) == 0
    clips, pairs, clips_small, pairs_small, clips_slow, _ = seen
    assert pairs_small < pairs
    assert clips_small < clips
    assert clips_slow < clips


@pytest.mark.parametrize(
    ("log", "right", "official"),
    [
        ("eval_log_mmvu_zeroshot_625", 411, 409),
        ("eval_log_nextgqa_zeroshot_1000", 779, 779),
    ],
)
def test_published_logs_get_their_official_score_but_where_tags_were_left_in(
    shared_data, tmp_path, log, right, official
):
    source = shared_data / f"{log}.jsonl"
    assert main(["--predictions", str(source), "--out", str(tmp_path)]) == 0
    assert lines_of(tmp_path, log)[0]["right"] == right
    given = [json.loads(line) for line in source.read_text().splitlines()]
    scored = [json.loads(line) for line in (tmp_path / f"{log}.scored.jsonl").open()]
    assert sum(line["accuracy_score"] for line in given) == official
    for ours, theirs in zip(scored, given, strict=True):
        if ours["strict"] != theirs["accuracy_score"]:
            assert "<answer>" in theirs["model_output"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to score"),
        (["none.parquet"], "none.parquet: no such file"),
        (["--predictions", "none.jsonl"], "none.jsonl"),
        (["--predictions", "bad.jsonl"], "bad.jsonl, line 1: is not JSON"),
        (["--predictions", "list.jsonl"], "list.jsonl, line 1: needs an object"),
        (["--predictions", "mine.jsonl"], "name their manifests too"),
        (["--predictions", "log.jsonl"], "log.jsonl, line 1: needs question.options"),
        (["--predictions", "none_right.jsonl"], "names none of 2 options"),
    ],
)
def test_bad_input_is_named_without_a_traceback(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("bad.jsonl").write_text("{\n")
    Path("list.jsonl").write_text("[1]\n")
    Path("mine.jsonl").write_text('{"id": "a", "completion": "A"}\n')
    Path("log.jsonl").write_text('{"question": {}}\n')
    published = {"question": {"options": ["x", "y"]}, "ground_truth": "F", "model_output": "A"}
    Path("none_right.jsonl").write_text(json.dumps(published) + "\n")
    assert main(words) == 2
    assert message in capsys.readouterr().err
