"""`python -m train.warmup`: the target is learned, the prompt is not, and GRPO goes on from it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nontrivial.models.policy import load_policy
from nontrivial.train import grpo
from nontrivial.train.data import StandIns, Stock
from nontrivial.train.targets import TargetCollator, balanced
from nontrivial.train.warmup import main
from tests.train.conftest import pairs, videos


@pytest.fixture
def run(tiny_policy_dir, tmp_path, monkeypatch):
    """Call the command with options for a tiny run; returns its exit status."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str, steps: int = 4, output: str = "run") -> int:
        fixed = {
            "model_name_or_path": tiny_policy_dir,
            "output_dir": output,
            "max_steps": steps,
            "save_steps": 2,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "dtype": "float32",
            "logging_steps": 1,
            "freeze_vision": "false",
        }
        given = {word.split("=")[0] for word in words}
        options = [f"--{k}={v}" for k, v in fixed.items() if f"--{k}" not in given]
        return main([*words, *options])

    return call


@pytest.fixture
def prompts(make_encoder):
    return make_encoder(nframes=4)


def learned(prompts, rows, **options) -> list[str]:
    """The text whose tokens carry labels, of each row."""
    batch = TargetCollator(Stock(prompts, rows), **options)(rows)
    tokenizer = prompts.processor.tokenizer
    texts = []
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        chosen = labels != -100
        assert torch.equal(ids[chosen], labels[chosen])
        texts.append(tokenizer.decode(ids[chosen]))
    return texts


def test_only_the_target_is_learned(prompts, with_root):
    rows = with_root([*pairs(1), *videos(1, rationale="the cube moves")])
    end = prompts.processor.tokenizer.eos_token
    assert learned(prompts, rows) == [
        f"<think></think><answer>A</answer>{end}",
        f"<think>the cube moves</think><answer>B,D</answer>{end}",
    ]
    assert learned(prompts, rows, answer_only=True) == [
        f"<answer>A</answer>{end}",
        f"<answer>B,D</answer>{end}",
    ]


def test_a_batch_holds_the_pixels_of_all_its_samples(prompts, with_root):
    rows = with_root([*pairs(2), *videos(1)])
    batch = TargetCollator(Stock(prompts, rows))(rows)
    assert len(batch["image_grid_thw"]) == 4
    assert len(batch["video_grid_thw"]) == 1


def test_stand_ins_bring_their_media_and_teach_nothing(prompts, with_root, tiny_policy_dir):
    rows = with_root(pairs(2))
    stand_ins = StandIns(prompts, [*rows, *with_root(videos(1))])
    batch = TargetCollator(Stock(prompts, rows), stand_ins=stand_ins)(rows)
    plain = TargetCollator(Stock(prompts, rows))(rows)
    assert "pixel_values_videos" in batch
    assert (batch["labels"][2] == -100).all()
    model, _ = load_policy(str(tiny_policy_dir))
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).loss, model(**plain).loss)


def test_both_verdicts_are_seen_equally_often_whatever_their_letters():
    def pair(options: str, letter: str) -> dict:
        return {"task": "reid_pair", "options": options.split(), "answer": [letter]}

    rows = [pair("Yes No", "A"), pair("No Yes", "A"), pair("Yes No", "B"), pair("No Yes", "A")]
    rows += [{"task": "video_qa", "options": ["a", "b"], "answer": ["B"]}]
    verdicts = [
        row["options"]["AB".index(row["answer"][0])]
        for row in balanced(rows)
        if row["task"] == "reid_pair"
    ]
    assert verdicts.count("Yes") == verdicts.count("No") == 3
    assert balanced(rows)[-1] is rows[-1]


def test_supervision_lowers_the_loss_and_grpo_goes_on_from_it(run, write_manifest, capsys):
    manifests = [write_manifest(pairs(4), "pairs"), write_manifest(videos(2), "videos")]
    assert run(*manifests, steps=12) == 0
    log = json.loads(Path("run/checkpoint-12/trainer_state.json").read_text())["log_history"]
    losses = [entry["loss"] for entry in log]
    assert losses[-1] < losses[0] - 1
    assert "loss, last" in capsys.readouterr().out
    assert list(Path("run").glob("**/events.out.tfevents.*"))
    short = ["--max_steps=1", "--max_completion_length=4", "--per_device_train_batch_size=8"]
    words = ["--model_name_or_path=run", "--output_dir=next", *short]
    assert grpo.main([*manifests, *words]) == 0


@pytest.mark.parametrize("adapter", [(), ("--use_peft", "--lora_r", "4")], ids=["full", "lora"])
def test_a_run_that_was_cut_ends_bit_equal_to_one_that_was_not(run, write_manifest, adapter):
    manifests = [write_manifest(pairs(4), "pairs"), write_manifest(videos(2), "videos")]
    assert run(*manifests, *adapter, output="whole") == 0
    assert run(*manifests, *adapter, steps=2, output="cut") == 0
    left = [Path("cut/.tmpAb12Cd"), *([Path("cut/adapter/.tmp12AbcD")] if adapter else [])]
    for file in left:
        file.write_text("half")
    if adapter:  # the kill came while the card was written
        os.truncate("cut/adapter/README.md", 40)
    assert run(*manifests, *adapter, output="cut") == 0
    assert not any(file.exists() for file in left)
    if adapter:
        cards = [Path(f"{folder}/adapter/README.md").read_text() for folder in ("cut", "whole")]
        assert cards[0] == cards[1]
    found, expected = (load_file(f"{folder}/model.safetensors") for folder in ("cut", "whole"))
    assert found.keys() == expected.keys()
    assert [name for name in expected if not found[name].equal(expected[name])] == []
