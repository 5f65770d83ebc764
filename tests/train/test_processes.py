"""Runs that are killed or spread over processes end where one undisturbed process ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from nontrivial.manifests.runs import JsonLines
from nontrivial.models.policy import load_policy
from tests.train.conftest import pairs, videos
from tests.train.fixed_rollouts import SHARDING

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
ALONE = {"PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}

pytestmark = pytest.mark.slow


def weights(folder: Path) -> dict:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "bnpo", "dapo"])
def test_two_processes_take_the_step_of_one(tiny_policy_dir, media_root, tmp_path, loss_type):
    steps = [
        one_step(tiny_policy_dir, media_root, tmp_path / str(processes), processes, loss_type)
        for processes in (1, 2)
    ]
    assert_same_step(weights(tiny_policy_dir), *steps)


@pytest.mark.parametrize("sharding", ["fsdp2", "zero3"])
def test_two_processes_that_share_the_weights_take_the_step_of_one(
    tiny_policy_dir, media_root, tmp_path, sharding
):
    """One of them has two pairs, the other a pair and a video: both kinds, one kind."""
    assert_sharing_changes_nothing(tiny_policy_dir, media_root, tmp_path, sharding)


@pytest.mark.parametrize("sharding", ["fsdp2", "zero3"])
def test_an_adapter_of_shared_weights_is_written_as_one_process_writes_it(
    tiny_policy_dir, media_root, tmp_path, sharding
):
    """By itself and merged; both load as one policy."""
    assert_sharing_changes_nothing(tiny_policy_dir, media_root, tmp_path, sharding, "lora")
    ids = torch.arange(12)[None]
    for way in ("none", sharding):
        merged, again = (load_policy(str(tmp_path / way / part))[0] for part in ("", "adapter"))
        with torch.no_grad():
            torch.testing.assert_close(again(ids).logits, merged(ids).logits)


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dapo"])
def test_two_processes_split_micro_batches_alike(tiny_policy_dir, media_root, tmp_path, loss_type):
    steps = [
        one_step(tiny_policy_dir, media_root, tmp_path / str(processes), processes, *options)
        for processes, options in ((1, [loss_type]), (2, [loss_type, "none", "parts"]))
    ]
    assert_same_step(weights(tiny_policy_dir), *steps)


@pytest.mark.parametrize("sharding", ["fsdp2", "zero3"])
def test_processes_that_share_the_weights_split_micro_batches_alike(
    tiny_policy_dir, media_root, tmp_path, sharding
):
    assert_sharing_changes_nothing(tiny_policy_dir, media_root, tmp_path, sharding, "parts")


def assert_sharing_changes_nothing(
    policy: Path, media: Path, folder: Path, sharding: str, *options: str
) -> None:
    """Two processes that share the weights take the step of one that has them all."""
    if sharding == "zero3":
        pytest.importorskip("deepspeed", reason="needs deepspeed")
    steps = [
        one_step(policy, media, folder / way, processes, "dapo", way, *options)
        for processes, way in ((1, "none"), (2, sharding))
    ]
    assert_same_step(weights(policy), *steps)


def one_step(policy: Path, media: Path, out: Path, processes: int, *options: str) -> dict:
    """The weights after the step of tests.train.fixed_rollouts, by so many processes."""
    launch = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    module = ["-m", "tests.train.fixed_rollouts"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, *module, str(policy), str(media), str(out), *options],
        env=os.environ | ALONE,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return weights(out)


def assert_same_step(before: dict, one: dict, other: dict) -> None:
    """Two steps from `before` moved, and end at the same weights under the same names."""
    assert before.keys() == one.keys() == other.keys()
    assert max((one[name] - before[name]).abs().max() for name in before) > 1e-4
    assert max((one[name] - other[name]).abs().max() for name in before) < 1e-6


@pytest.mark.parametrize("adapter", [(), ("--use_peft", "--lora_r=4")], ids=["full", "lora"])
def test_two_kills_leave_no_trace(write_manifest, tiny_policy_dir, tmp_path, adapter):
    """The run evaluates, too, and ends with its best policy."""
    manifests = [write_manifest(pairs(6), "pairs"), write_manifest(videos(2), "videos")]
    command = [
        *(sys.executable, "-m", "train.grpo", *manifests, *adapter),
        f"--eval_manifests={held_out(write_manifest)}",
        "--eval_steps=5",
        "--keep_best",
        "--metric_for_best_model=eval_soft_accuracy",
        f"--model_name_or_path={tiny_policy_dir}",
        "--max_steps=40",
        "--save_steps=5",
        "--per_device_train_batch_size=8",
        "--num_generations=4",
        "--max_completion_length=8",
        "--learning_rate=1e-3",
        "--logging_steps=1",
        "--gradient_checkpointing=false",
        "--freeze_vision=false",
        "--dtype=float32",
        "--reward_funcs=tests.train.conftest.distinct_letters",
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for reached in (7, 23):
        kill_after(reached, [*command, f"--output_dir={killed}"], killed)
    for folder in (killed, whole):
        with open(tmp_path / "output", "w") as output:
            subprocess.run(
                [*command, f"--output_dir={folder}"],
                env=os.environ | ALONE,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=900,
                check=True,
            )
    expected, found = weights(whole), weights(killed)
    assert [name for name in expected if not expected[name].equal(found[name])] == []
    before = weights(tiny_policy_dir)
    assert any(not expected[name].equal(before[name]) for name in before)
    logs = [list(JsonLines(run / "log.jsonl")) for run in (whole, killed)]
    told = [[entry["step"] for entry in log if "loss" in entry] for log in logs]
    assert told == [list(range(1, 41))] * 2
    held = [[(e["step"], e[SCORE]) for e in log if SCORE in e] for log in logs]
    assert held[0] == held[1]
    assert [step for step, _ in held[0]] == list(range(5, 41, 5))


SCORE = "eval_soft_accuracy"


def held_out(write_manifest) -> str:
    """A manifest of other pairs and videos than those that are trained on."""
    rows = pairs(5, split="test", group="others") + videos(2, split="test", group="others")
    return write_manifest([row | {"id": f"held {row['id']}"} for row in rows], "held_out")


@pytest.mark.parametrize("sharding", [None, "fsdp2", "zero3"])
def test_two_processes_evaluate_as_one(write_manifest, tiny_policy_dir, tmp_path, sharding):
    """Seven samples, before the first step: one process has four of them, the other three."""
    if sharding == "zero3":
        pytest.importorskip("deepspeed", reason="needs deepspeed")
    manifest, others = write_manifest(pairs(4)), held_out(write_manifest)
    scores = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            f"--nproc_per_node={processes}",
            *("-m", "train.grpo", manifest, f"--eval_manifests={others}", "--eval_on_start"),
            f"--model_name_or_path={tiny_policy_dir}",
            f"--output_dir={out}",
            "--max_steps=1",
            "--per_device_train_batch_size=8",
            "--num_generations=4",
            "--max_completion_length=8",
            "--per_device_eval_batch_size=2",
            "--dtype=float32",
        ]
        if sharding and processes == 2:
            for name, value in SHARDING[sharding].items():
                given = "full_shard" if value is True else json.dumps(value)
                command.append(f"--{name}={given}")
        done = subprocess.run(
            command,
            env=os.environ | ALONE,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        [first, *_] = [e for e in JsonLines(out / "log.jsonl") if SCORE in e]
        scores.append({n: v for n, v in first.items() if n.startswith("eval_") and "time" not in n})
    assert scores[0]["eval_samples"] == 7
    assert scores[0] == scores[1]


def two_processes(write_manifest, policy: Path, media: Path, out: Path, *options: str):
    """Start a run of two processes on media of its own; returns it, once it has taken a step."""
    manifest = write_manifest(pairs(6))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        *("-m", "train.grpo", manifest, f"--media_root={media}", f"--output_dir={out}"),
        f"--model_name_or_path={policy}",
        "--max_steps=400",
        "--per_device_train_batch_size=4",
        "--num_generations=4",
        "--max_completion_length=8",
        "--logging_steps=1",
        "--save_strategy=no",
        "--media_cache_mb=0",
        "--dtype=float32",
        "--reward_funcs=tests.train.conftest.distinct_letters",
        *options,
    ]
    run = subprocess.Popen(
        command,
        env=os.environ | ALONE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = time.monotonic() + 300
    while not any(entry["step"] >= 2 for entry in JsonLines(out / "log.jsonl")):
        assert run.poll() is None, run.stderr.read()[-2000:]
        assert time.monotonic() < limit
        time.sleep(0.05)
    return run


def children(run: subprocess.Popen) -> list[psutil.Process]:
    """The processes that train, by rank."""
    found = [p for p in psutil.Process(run.pid).children() if "train.grpo" in p.cmdline()]
    return sorted(found, key=lambda p: int(p.environ()["RANK"]))


def test_a_killed_process_ends_the_other(write_manifest, tiny_policy_dir, media_root, tmp_path):
    run = two_processes(write_manifest, tiny_policy_dir, media_root, tmp_path / "run")
    first, second = children(run)
    second.kill()
    began = time.monotonic()
    _, said = run.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert run.returncode != 0
    assert not first.is_running()
    assert "Signal 9 (SIGKILL)" in said


@pytest.mark.parametrize("tolerated", [True, False])
def test_media_that_vanish_are_named_and_their_group_replaced(
    write_manifest, tiny_policy_dir, media_root, tmp_path, tolerated
):
    media, out = tmp_path / "media", tmp_path / "run"
    shutil.copytree(media_root, media)
    share, steps = ("0.5", "40") if tolerated else ("0.01", "400")
    options = [f"--max_bad={share}", f"--max_steps={steps}"]
    run = two_processes(write_manifest, tiny_policy_dir, media, out, *options)
    (media / "3.jpg").unlink()  # of one sample in six
    began = time.monotonic()
    _, said = run.communicate(timeout=200)
    assert "3.jpg" in said
    log = list(JsonLines(out / "log.jsonl"))
    if tolerated:
        assert run.returncode == 0, said[-2000:]
        assert "another sample takes its place" in said
        assert log[-1]["step"] == 40
        assert log[-1]["data/lost"] > 0
    else:
        assert run.returncode != 0
        assert time.monotonic() - began < 30
        assert "samples can't be shown" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="it starts as many as asked with GPUs")
@pytest.mark.parametrize("asked", ["words", "file"])
def test_one_process_in_place_of_two_is_an_error(write_manifest, tmp_path, asked):
    (tmp_path / "two.yaml").write_text("num_processes: 2\ndistributed_type: 'NO'\nuse_cpu: true\n")
    words = {"words": ["--num_processes", "2"], "file": ["--config_file", tmp_path / "two.yaml"]}
    started = [sys.executable, "-m", "accelerate.commands.launch", *map(str, words[asked])]
    training = ["-m", "train.grpo", write_manifest(pairs(4)), "--max_steps", "1"]
    run = subprocess.run(
        [*started, *training], env=os.environ | ALONE, capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode != 0
    assert "torchrun --nproc_per_node 2" in run.stderr


def kill_after(step: int, command: list[str], folder: Path) -> None:
    """Start a run and kill -9 it as soon as its log has reached `step`."""
    with open(folder.with_suffix(".out"), "w") as output:
        process = subprocess.Popen(
            command, env=os.environ | ALONE, stdout=output, stderr=subprocess.STDOUT
        )
        limit = time.monotonic() + 600
        while not any(entry["step"] >= step for entry in JsonLines(folder / "log.jsonl")):
            assert process.poll() is None, "the run ended before it was killed"
            assert time.monotonic() < limit
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
