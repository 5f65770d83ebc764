"""`python -m train.plot`: one picture and one table of what runs logged."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from nontrivial.manifests.runs import JsonLines
from nontrivial.train import plot
from nontrivial.train.curves import running_mean, series
from nontrivial.train.plot import main


@pytest.fixture
def make_run(tmp_path):
    """A folder with a log of 30 steps, one metric only in some of them."""

    def make(name: str, **metrics: float):
        log = JsonLines(tmp_path / name / "log.jsonl")
        for step in range(1, 31):
            values = {key: value * step for key, value in metrics.items() if step % 2}
            log.append({"step": step, "reward": 0.01 * step} | values)
        return tmp_path / name

    return make


def test_several_runs_are_drawn_into_one_picture_and_one_table(make_run, tmp_path, capsys):
    picture = tmp_path / "out" / "curves.png"
    runs = [make_run("a", loss=0.1), make_run("b", frac_reward_zero_std=0.02)]
    assert main([*map(str, runs), "--out", str(picture), "--smooth", "5"]) == 0
    drawn = np.asarray(Image.open(picture).convert("RGB"))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 50
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-2:] for line in lines if " reward " in line] == [["0.030", "0.280"]] * 2
    assert sum("frac_reward_zero_std" in line for line in lines) == 1


def test_another_run_beside_it_changes_the_picture(make_run, tmp_path):
    first, second = make_run("a"), make_run("b", reward=0.5)
    assert main([str(first)]) == 0
    assert main([str(first), str(second), "--out", str(tmp_path / "both.png")]) == 0
    alone, both = (Image.open(path) for path in (first / "curves.png", tmp_path / "both.png"))
    assert alone.tobytes() != both.tobytes()


def test_a_run_without_a_journal_is_read_from_its_last_state(tmp_path, capsys):
    history = [{"step": 1, "reward": 0.25}, {"step": 2, "train_loss": 1.0}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    assert main([str(tmp_path)]) == 0
    assert "0.250" in capsys.readouterr().out


def test_a_line_that_a_kill_cut_is_no_line(make_run):
    run = make_run("a")
    with open(run / "log.jsonl", "a") as file:
        file.write('{"step": 31, "rew')
    log = JsonLines(run / "log.jsonl")
    assert [record["step"] for record in log] == list(range(1, 31))
    log.cut(12)
    assert [record["step"] for record in log] == list(range(1, 13))


def test_a_folder_without_a_run_is_named(tmp_path, capsys):
    assert main([str(tmp_path / "nothing")]) == 2
    assert "nothing: holds neither log.jsonl" in capsys.readouterr().err
    JsonLines(tmp_path / "log.jsonl").append({"step": 1})
    assert main([str(tmp_path)]) == 2
    assert "logged none of reward" in capsys.readouterr().err


@pytest.mark.parametrize("width", [1, 3, 100])
def test_running_means_are_those_of_the_last_values(width):
    values = np.random.default_rng(0).normal(size=20)
    expected = [values[max(0, i - width + 1) : i + 1].mean() for i in range(20)]
    np.testing.assert_allclose(running_mean(values.tolist(), width), expected)


def test_values_that_are_missing_or_null_leave_gaps():
    assert series([{"step": 1, "a": None}, {"step": 2, "a": 0.0}], "a") == ([2], [0.0])


def a_group(task: str, step: int) -> dict:
    told = {"tokens": ["<think>", "red $x", "\n", "</think>"] * 12, "advantage": 0.0}
    completions = [
        told | {"weights": [1.0, 1.7, 1.2, 1.0] * 12, "rewards": {"soft": k / 4, "format": 1.0}}
        for k in range(4)
    ]
    return {
        "step": step,
        "id": "a",
        "task": task,
        "question": "Which of $these$?",
        "options": ["red", "blue"],
        "answer": ["A"],
        "token_weighting": "divergence",
        "completions": completions,
    }


def test_the_last_group_of_a_task_is_drawn_with_its_tokens_shaded(make_run, tmp_path, capsys):
    run = make_run("a", loss=0.1)
    JsonLines(run / "samples.jsonl").append(a_group("video_qa", 5), a_group("reid_pair", 9))
    picture = tmp_path / "group.png"
    assert main([str(run), "--group", str(picture)]) == 0
    assert str(picture) in capsys.readouterr().out
    drawn = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3).astype(int)
    orange = (drawn[:, 0] > 240) & (drawn[:, 2] < 60)
    assert orange.sum() > 100  # the heaviest token
    clip, other = tmp_path / "clip.png", tmp_path / "other.png"
    plot.plot_group(run, clip, task="video_qa")
    plot.plot_group(run, other, task="reid_choice")  # there is none: the last of any task
    assert other.read_bytes() == picture.read_bytes() != clip.read_bytes()


def test_a_run_without_groups_says_so(make_run, tmp_path, capsys):
    assert main([str(make_run("a")), "--group", str(tmp_path / "group.png")]) == 2
    assert "sampled no group" in capsys.readouterr().err
