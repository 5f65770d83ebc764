"""`python -m train.grpo`: from manifests to a policy, resumed exactly, with errors that help."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch import distributed

from nontrivial.manifests import decoders
from nontrivial.manifests.files import claim
from nontrivial.manifests.runs import OPTIONS, PARTS, SHARE, JsonLines, read_json, write_json
from nontrivial.models.policy import load_policy
from nontrivial.train import launch, saving
from nontrivial.train.checkpoints import ENTROPY, checkpoints, is_whole, rotate
from nontrivial.train.grpo import main
from nontrivial.train.journal import Journal
from nontrivial.train.launch import is_embedded
from nontrivial.train.resume import StrictResume
from tests import rows
from tests.train.conftest import pairs, videos


@pytest.fixture
def run(tiny_policy_dir, tmp_path, monkeypatch):
    """Call the command with options for a tiny run; returns its exit status."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str, steps: int = 2, output: str = "run") -> int:
        fixed = {
            "model_name_or_path": tiny_policy_dir,
            "output_dir": output,
            "max_steps": steps,
            "save_steps": 2,
            "per_device_train_batch_size": 8,
            "num_generations": 4,
            "max_completion_length": 8,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "constant",
            "dtype": "float32",
            "logging_steps": 1,
            "gradient_checkpointing": "false",
            "freeze_vision": "false",
            "reward_funcs": "tests.train.conftest.distinct_letters",
        }
        given = {word.split("=")[0] for word in words}
        options = [f"--{k}={v}" for k, v in fixed.items() if f"--{k}" not in given]
        return main([*words, *options])

    return call


def weights(folder: str | Path) -> dict:
    return load_file(Path(folder, "model.safetensors"))


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not found[name].equal(expected[name])] == []


def test_a_mixed_run_trains_logs_and_leaves_a_policy(run, write_manifest, tiny_policy_dir, capsys):
    manifests = [write_manifest(pairs(4), "pairs"), write_manifest(videos(2), "videos")]
    assert run(*manifests) == 0
    model, _ = load_policy("run")
    before = weights(tiny_policy_dir)
    assert any(not tensor.equal(before[name]) for name, tensor in weights("run").items())
    assert sum(p.numel() for p in model.parameters()) == sum(t.numel() for t in before.values())
    assert list(Path("run").glob("**/events.out.tfevents.*"))
    completions = pq.read_table(Path("run/completions/completions_00002.parquet"))
    assert completions.num_rows == 8
    assert {"prompt", "completion", "advantage"} <= set(completions.column_names)
    log = json.loads(Path("run/checkpoint-2/trainer_state.json").read_text())["log_history"]
    assert {"reward", "frac_reward_zero_std", "token_weight/mean", "loss"} <= set(log[-1])
    shown = capsys.readouterr()
    assert "reid_pair samples" in shown.out
    assert "reward, last" in shown.out
    assert decoders.named() in shown.err


@pytest.mark.parametrize(
    "adapter",
    [(), ("--use_peft", "--lora_r", "4", "--vision_cache_mb=0")],  # for any number of threads
    ids=["full", "lora"],
)
def test_a_run_that_was_cut_ends_bit_equal_to_one_that_was_not(run, write_manifest, adapter):
    manifests = [write_manifest(pairs(4), "pairs"), write_manifest(videos(4), "videos")]
    adapter = (*adapter, "--sample_every=3")
    assert run(*manifests, *adapter, steps=8, output="whole") == 0
    assert run(*manifests, *adapter, steps=6, output="cut") == 0  # in the second epoch
    (Path("cut/checkpoint-7")).mkdir()  # the next checkpoint was begun when it was killed
    assert run(*manifests, *adapter, steps=8, output="cut") == 0
    assert_same(weights("cut"), weights("whole"))
    for name in ("log.jsonl", "samples.jsonl"):
        told = [[entry["step"] for entry in JsonLines(Path(run, name))] for run in ("whole", "cut")]
        assert told[0] == sorted(set(told[0])) != []
        assert told[1] == told[0]


@pytest.mark.parametrize("state", ["", '{"global_step": 4', "[]", '{"global_step": 2}', None])
def test_a_torn_checkpoint_is_removed_by_name(run, write_manifest, caplog, state):
    manifest = write_manifest(pairs(4))
    assert run(manifest, steps=4, output="whole") == 0
    assert run(manifest, steps=4) == 0
    torn = Path("run/checkpoint-4/trainer_state.json")
    torn.write_text(state) if state is not None else torn.unlink()
    Path("run/trainer_state.json").write_text('{"global_')  # and so is the state of the whole run
    caplog.clear()
    assert run(manifest, steps=4) == 0
    assert "checkpoint-4 is not whole, and removed" in caplog.text
    assert_same(weights("run"), weights("whole"))


def test_an_older_policy_is_not_taken_for_that_of_a_run_begun_anew(run, write_manifest):
    """It ends in the same folder after as many steps, killed before it writes its own."""
    manifest = write_manifest(pairs(4))
    assert run(manifest) == 0
    shutil.rmtree("run/checkpoint-2")
    anew = (manifest, "--seed=7")
    assert run(*anew, output="whole") == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "write", _interrupted)
        assert run(*anew) == 130
    assert run(*anew) == 0
    assert_same(weights("run"), weights("whole"))


def _interrupted(*_) -> None:
    raise KeyboardInterrupt


def test_checkpoints_beyond_the_limit_are_removed_state_first(tmp_path, monkeypatch):
    for step in (8, 10, 12, 14):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        for name in ("a", "trainer_state.json", "z"):
            (checkpoint / name).write_text(f'{{"global_step": {step}}}')
    (tmp_path / "checkpoint-best").mkdir()
    best, last = "checkpoint-8", "checkpoint-14"
    rotate(tmp_path, None, {last})
    assert list(checkpoints(tmp_path)) == [8, 10, 12, 14]
    rotate(tmp_path, 3, {best, last})
    assert list(checkpoints(tmp_path)) == [8, 12, 14]
    monkeypatch.setattr(shutil, "rmtree", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        rotate(tmp_path, 1, {best, last})
    assert [step for step, path in checkpoints(tmp_path).items() if is_whole(path, step)] == [8, 14]
    assert (tmp_path / "checkpoint-best").is_dir()


def test_a_checkpoint_that_lacks_the_coefficient_of_the_entropy_is_not_whole(tmp_path):
    (tmp_path / "trainer_state.json").write_text('{"global_step": 2}')
    assert is_whole(tmp_path, 2)
    for content in (None, "", '{"entropy'):
        if content is not None:
            (tmp_path / ENTROPY).write_text(content)
        assert not is_whole(tmp_path, 2, adaptive=True)
    (tmp_path / ENTROPY).write_text('{"entropy_coef": 0.1}')
    assert is_whole(tmp_path, 2, adaptive=True)


@pytest.mark.parametrize("part", ["optimizer.pt", "rng_state.pth"])
def test_a_checkpoint_without_all_its_parts_is_no_other_run(run, write_manifest, capsys, part):
    manifest = write_manifest(pairs(4))
    assert run(manifest) == 0
    Path("run/checkpoint-2", part).unlink()
    assert run(manifest, steps=4) == 2
    assert "checkpoint-2 holds no" in capsys.readouterr().err


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("iterations", [1, 2])
def test_a_signal_ends_a_run_with_a_checkpoint(
    run, write_manifest, capsys, monkeypatch, sent, iterations
):
    """After the step at hand, or once what was sampled is used up; the same command goes on."""
    words = [write_manifest(pairs(4)), f"--num_iterations={iterations}", "--save_steps=100"]
    assert run(*words, steps=6, output="whole") == 0
    logged = Journal.on_log

    def interrupt(self, args, state, control, **kwargs):
        logged(self, args, state, control, **kwargs)
        if state.global_step == 2 and not Path("run/checkpoint-3").exists():
            signal.raise_signal(sent)

    monkeypatch.setattr(Journal, "on_log", interrupt)
    before = signal.getsignal(sent)
    assert run(*words, steps=6) == 1
    assert signal.getsignal(sent) is before
    last = 4 if iterations == 2 else 3
    assert f"stopped by {sent.name} after step {last}, with a checkpoint" in capsys.readouterr().err
    assert [path.name for path in Path("run").glob("checkpoint-*")] == [f"checkpoint-{last}"]
    monkeypatch.setattr(Journal, "on_log", logged)
    assert run(*words, steps=6) == 0
    assert_same(weights("run"), weights("whole"))


def test_sampled_groups_are_told_token_by_token(run, write_manifest, tiny_policy_dir):
    assert run(write_manifest(pairs(4)), "--sample_every=1", "--alpha=3", steps=2) == 0
    told = list(JsonLines("run/samples.jsonl"))
    assert [group["step"] for group in told] == [1, 2]
    entries = {entry["step"]: entry for entry in JsonLines("run/log.jsonl")}
    assert {"reward", "token_weight/think_share", "token_weight/std"} <= set(entries[1])
    for entry in entries.values():
        shares = {name: entry[SHARE.format(name)] for name in PARTS}
        assert sum(shares.values()) == pytest.approx(1)
        assert min(shares[name] for name in ("sampling", "scoring", "training")) > 0
    written = pq.read_table("run/completions/completions_00002.parquet").to_pylist()
    for completion, row in zip(told[1]["completions"], written, strict=False):
        assert len(completion["tokens"]) == len(completion["weights"])
        assert 1 <= min(completion["weights"]) <= max(completion["weights"]) <= 3
        assert completion["rewards"]["distinct_letters"] == pytest.approx(row["distinct_letters"])
        assert completion["advantage"] == pytest.approx(row["advantage"], abs=1e-3)
        plain = "".join(completion["tokens"]).replace("<|im_end|>", "")
        assert row["completion"][0]["content"].strip("\ufffd")[:2] in plain or "\ufffd" in plain


def test_a_run_is_not_made_longer_where_its_rates_follow_its_length(run, write_manifest, capsys):
    manifest = write_manifest(pairs(4))
    assert run(manifest, "--lr_scheduler_type=linear", steps=2) == 0
    assert run(manifest, "--lr_scheduler_type=linear", steps=4) == 2
    assert "max_steps: 2 -> 4" in capsys.readouterr().err
    assert run(manifest, "--lr_scheduler_type=linear", steps=2) == 0


def test_an_adapter_is_merged_into_a_policy_that_loads(run, write_manifest, tiny_policy_dir):
    assert run(write_manifest(pairs(4)), "--use_peft", "--lora_r", "4") == 0
    load_policy("run")
    assert Path("run/adapter/adapter_model.safetensors").is_file()
    before, after = weights(tiny_policy_dir), weights("run")
    changed = {name for name in before if not after[name].equal(before[name])}
    assert changed
    assert all("_proj" in name and "visual" not in name for name in changed)
    merged = load_policy("run")[0].state_dict()
    for folder in ("run/adapter", "run/checkpoint-2"):
        again = load_policy(folder)[0].state_dict()
        for name, value in merged.items():
            torch.testing.assert_close(again[name], value, msg=lambda m, n=name: f"{n}: {m}")


def test_the_frozen_vision_tower_does_not_move(run, write_manifest, tiny_policy_dir):
    assert run(write_manifest(videos(4)), "--freeze_vision=true") == 0
    before, after = weights(tiny_policy_dir), weights("run")
    changed = {name for name in before if not after[name].equal(before[name])}
    assert changed
    assert not any("visual" in name for name in changed)


def test_one_missing_image_and_one_corrupt_clip_are_named_and_the_run_finishes(
    run, write_manifest, media_root, tmp_path, capsys
):
    root = tmp_path / "media"
    shutil.copytree(media_root, root)
    (root / "0.jpg").unlink()
    (root / "1.mp4").write_bytes(b"\0" * 999)
    manifests = [write_manifest(pairs(4), "pairs"), write_manifest(videos(2), "videos")]
    assert run(*manifests, f"--media_root={root}", "--max_bad=0.5", steps=1) == 0
    shown = capsys.readouterr().out
    assert "pair-0: " in shown
    assert "video-1: " in shown
    assert run(*manifests, f"--media_root={root}", "--restart") == 2
    assert "2 of 6 samples have damaged media" in capsys.readouterr().err


def test_fewer_samples_than_a_batch_has_prompts_are_asked_several_times(run, write_manifest):
    assert run(write_manifest(pairs(1)), steps=1) == 0
    state = json.loads(Path("run/trainer_state.json").read_text())
    assert state["global_step"] == 1


def test_a_real_clip_reaches_the_training_forward(run, write_manifest, shared_data, monkeypatch):
    from nontrivial.train import group_rows

    seen = []
    collect = group_rows.scoring

    def watch(prompts, *args, **kwargs):
        if torch.is_grad_enabled():
            seen.extend(prompts)
        return collect(prompts, *args, **kwargs)

    monkeypatch.setattr(group_rows, "scoring", watch)
    clip = rows.media("video_12176.mp4")
    manifest = write_manifest([rows.video_question("12176", videos=[clip], clips=[None])])
    root = f"--media_root={shared_data / 'videos'}"
    assert run(manifest, root, "--nframes=4", steps=3) == 0
    assert len(seen) == 3 * 8
    assert seen[0]["video_grid_thw"].tolist()[0][0] == 2  # two grids of two frames
    assert seen[0]["video_bytes"].float().std() > 10


def test_two_processes_do_not_write_to_one_folder(run, write_manifest, capsys):
    with claim("run"):
        assert run(write_manifest(pairs(4))) == 2
    assert "another process is writing it" in capsys.readouterr().err


def test_changed_questions_are_another_run(run, write_manifest, capsys):
    assert run(write_manifest(pairs(4), "pairs")) == 0
    changed = [row | {"question": "Is it the same person?"} for row in pairs(4)]
    assert run(write_manifest(changed, "pairs"), steps=4) == 2
    assert "checkpoints of another run (samples: " in capsys.readouterr().err


def test_options_that_an_earlier_version_did_not_have_count_as_their_defaults(
    run, write_manifest, capsys
):
    manifest = write_manifest(pairs(4))
    assert run(manifest) == 0
    known = read_json(Path("run", OPTIONS))
    earlier = {name: value for name, value in known.items() if name not in ("credit", "alpha")}
    write_json(Path("run", OPTIONS), earlier)
    assert run(manifest, "--alpha=1.5", steps=4) == 2
    assert "another run (alpha: 1.7 -> 1.5)" in capsys.readouterr().err
    assert run(manifest, steps=4) == 0
    assert "resuming from" in capsys.readouterr().out
    assert read_json(Path("run", OPTIONS)) == known


def test_other_exclusions_are_another_run_and_the_same_ids_are_not(run, write_manifest, capsys):
    manifest = write_manifest(pairs(4), "pairs")
    Path("ids.txt").write_text("pair-1\nnobody\n")
    assert run(manifest, "--exclude=ids.txt") == 0
    told = capsys.readouterr().out
    assert "reid_pair samples        3" in told
    assert "left out 1 samples; 1 of its 2 ids name no sample" in told
    Path("same.txt").write_text("\npair-1\n")
    assert run(manifest, "--exclude=same.txt", steps=4) == 0
    assert "resuming from" in capsys.readouterr().out
    Path("ids.txt").write_text("pair-2")
    for words in ((), ("--exclude=ids.txt",)):
        assert run(manifest, *words, steps=6) == 2
        assert "checkpoints of another run (samples: " in capsys.readouterr().err


@pytest.mark.parametrize("adapter", [(), ("--use_peft", "--lora_r", "4")], ids=["full", "lora"])
def test_a_finished_run_is_finished(run, write_manifest, capsys, adapter):
    manifest = write_manifest(pairs(4), "pairs")
    assert run(manifest, *adapter) == 0
    expected, log = weights("run"), Path("run/log.jsonl").read_bytes()
    written = Path("run/model.safetensors").stat().st_mtime_ns
    for _ in range(2):
        assert run(manifest, *adapter) == 0
        assert "finished after 2 steps, nothing was trained" in capsys.readouterr().out
    assert Path("run/model.safetensors").stat().st_mtime_ns == written
    assert Path("run/log.jsonl").read_bytes() == log
    # Stopped between its last checkpoint and its end, it only writes its policy.
    Path("run/trainer_state.json").unlink()
    Path("run/model.safetensors").unlink()
    assert run(manifest, *adapter) == 0
    assert_same(weights("run"), expected)
    assert run(manifest, *adapter, steps=4) == 0
    assert json.loads(Path("run/trainer_state.json").read_text())["global_step"] == 4
    # Stopped before it removed a checkpoint beyond the limit, it does so.
    assert list(checkpoints(Path("run"))) == [2, 4]
    assert run(manifest, *adapter, "--save_total_limit=1", steps=4) == 0
    assert list(checkpoints(Path("run"))) == [4]
    assert run(manifest, *adapter, "--restart=true") == 0
    assert_same(weights("run"), expected)


def test_an_adapter_that_is_not_merged_leaves_no_older_policy_beside_it(
    run, write_manifest, monkeypatch
):
    words = (write_manifest(pairs(4)), "--use_peft", "--lora_r=4")
    assert run(*words) == 0
    assert Path("run/config.json").exists()
    monkeypatch.setattr(StrictResume, "sharded", True)
    monkeypatch.setattr(saving, "HEADROOM", 1e9)
    assert run(*words, steps=4) == 0
    assert not Path("run/config.json").exists()
    assert not list(Path("run").glob("model*"))
    latest = load_file("run/checkpoint-4/adapter_model.safetensors")
    assert_same(load_file("run/adapter/adapter_model.safetensors"), latest)


def test_a_policy_is_not_overwritten_by_the_one_trained_from_it(run, write_manifest, capsys):
    assert run(write_manifest(pairs(4)), "--model_name_or_path=./run", "--max_steps=1") == 2
    assert "--output_dir run is the policy to train from, too" in capsys.readouterr().err


def test_clips_without_a_decoder_are_bad_input(run, write_manifest, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    assert run(write_manifest(videos(2))) == 2
    assert "pip install 'nontrivial[video]'" in capsys.readouterr().err


def test_how_an_evaluation_is_batched_is_no_other_run(run, write_manifest, capsys):
    held_out = write_manifest(videos(2, split="test"), "held_out")
    words = (write_manifest(pairs(4)), f"--eval_manifests={held_out}")
    assert run(*words) == 0
    assert run(*words, "--per_device_eval_batch_size=3", steps=4) == 0
    assert "resuming from" in capsys.readouterr().out


def test_checkpoints_of_another_run_are_not_continued(run, write_manifest, capsys):
    manifest = write_manifest(pairs(4))
    assert run(manifest) == 0
    assert run(manifest, "--learning_rate=1e-4", steps=4) == 2
    message = capsys.readouterr().err
    assert "learning_rate: 0.001 -> 0.0001" in message
    assert "--restart" in message
    assert run(manifest, "--learning_rate=1e-4", "--restart", steps=1) == 0
    assert not Path("run/checkpoint-2").exists()


def test_a_config_file_sets_defaults_and_flags_win(run, write_manifest, tmp_path, capsys):
    config = tmp_path / "recipe.yaml"
    config.write_text("alpha: 1.2\nseed: 7\nmax-bad: 0.5\n")
    assert run(write_manifest(pairs(4)), f"--config={config}", "--seed=8", steps=1) == 0
    record = json.loads(Path("run/run.json").read_text())
    assert (record["alpha"], record["seed"]) == ("1.2", "8")
    config.write_text("alhpa: 1.2\n")
    assert run(write_manifest(pairs(4)), f"--config={config}") == 2
    assert "alhpa" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no manifest is given"),
        (["nothing/*.parquet"], "the pattern matched nothing"),
        (["{manifest}", "--reward_funcs=praise"], "--reward_funcs praise"),
        (["{manifest}", "--reward_weights", "1", "2"], "2 weights for 1 rewards"),
        (["{manifest}", "--num_generations=3"], "take a multiple of num_generations, 3"),
        (["{manifest}", "--no_such_option=3"], "--no_such_option=3"),
        (["{manifest}", "--model_name_or_path=nowhere"], "--model_name_or_path nowhere"),
    ],
)
def test_a_users_mistake_exits_with_2_and_says_what_to_do(
    run, write_manifest, capsys, words, message
):
    manifest = write_manifest(pairs(4))
    assert run(*(word.format(manifest=manifest) for word in words)) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_a_policy_trained_from_the_embedded_one_keeps_the_options_made_for_it(
    run, write_manifest, tiny_policy_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr("nontrivial.models.policy.EMBEDDED_DIR", tiny_policy_dir)
    manifest = write_manifest(pairs(4))
    assert not is_embedded(str(tiny_policy_dir))
    assert run(manifest, "--model_name_or_path=embedded", steps=1, output="first") == 0
    assert is_embedded("first")
    assert run(manifest, "--model_name_or_path=first", steps=1, output="second") == 0
    assert is_embedded("second")
    assert json.loads(Path("second/run.json").read_text())["drop_zero_variance"] == "True"


def test_a_run_leaves_its_group_of_processes_before_it_ends(run, write_manifest, one_process):
    assert distributed.is_initialized()
    assert run(write_manifest(pairs(4)), "--dry_run") == 0
    assert not distributed.is_initialized()
