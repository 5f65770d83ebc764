"""Held-out samples are scored as a run goes, and the best policy is kept."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nontrivial.manifests.answers import exact_score, read_answer, soft_score
from nontrivial.manifests.runs import JsonLines
from nontrivial.models.policy import load_policy, vision_token_ids
from nontrivial.train import grpo
from nontrivial.train.data import Stock, with_pixels
from nontrivial.train.evaluation import scores
from tests.train.conftest import pairs, videos


def alone(own: int = 0, count: int = 1) -> SimpleNamespace:
    """One of several processes, whose sums are not added up."""
    return SimpleNamespace(
        process_index=own,
        num_processes=count,
        is_main_process=True,
        device="cpu",
        reduce=lambda value, reduction: value,
    )


def test_every_sample_counts_once_whatever_the_batches(make_encoder, with_root):
    samples = with_root(pairs(5))
    stock = Stock(make_encoder(), samples)

    def right_if_even(rows, prompts):
        assert len(rows) == len(prompts)
        texts = ("A" if row["key"] % 2 == 0 else "C" for row in rows)
        return [f"<think></think><answer>{text}</answer>" for text in texts]

    for size in (1, 2, 8):
        found = scores(stock, right_if_even, alone(), size)
        assert found["eval_samples"] == 5
        assert found["eval_exact_accuracy"] == pytest.approx(3 / 5)
        parts = [scores(stock, right_if_even, alone(own, 2), size) for own in (0, 1)]
        assert [part["eval_samples"] for part in parts] == [3, 2]


def test_processes_complete_equally_often(make_encoder, with_root):
    stock = Stock(make_encoder(), with_root(pairs(5)))
    calls = []
    for own in (0, 1, 2):
        sizes: list[int] = []
        scores(
            stock,
            lambda rows, _, s=sizes: s.append(len(rows)) or [""] * len(rows),
            alone(own, 3),
            1,
        )
        calls.append(sizes)
    assert calls == [[1, 1]] * 3


def greedy(trainer, row) -> str:
    """What the policy says to one sample, by transformers alone."""
    model, processor = trainer.model, trainer.processing_class
    [prompt] = trainer._encode([row])
    inputs = {k: v for k, v in with_pixels(prompt).items() if k != "position_ids"}
    tokens = model.generate(
        **inputs, do_sample=False, max_new_tokens=10, suppress_tokens=vision_token_ids(model)
    )
    told = tokens[0, inputs["input_ids"].shape[1] :]
    return processor.tokenizer.decode(told, skip_special_tokens=True)


@pytest.mark.parametrize("frozen", [True, False])
def test_scores_are_those_of_greedy_answers(make_trainer, with_root, frozen):
    held_out = with_root(pairs(2) + videos(3))
    trainer = make_trainer(pairs(4), eval_dataset=held_out, freeze_vision=frozen)
    said = []
    complete = trainer._answered
    trainer._answered = lambda *args: said.extend(complete(*args)) or said[-len(args[0]) :]
    state = torch.get_rng_state()
    found = trainer.evaluate()
    assert torch.equal(state, torch.get_rng_state())
    assert trainer.model.training
    expected = [greedy(trainer, row) for row in trainer._held_out.samples]
    assert said == expected
    for name, score in (("soft", soft_score), ("exact", exact_score)):
        earned = [
            score(read_answer(text, row["options"]), row["answer"])
            for text, row in zip(expected, held_out, strict=True)
        ]
        assert found[f"eval_{name}_accuracy"] == pytest.approx(sum(earned) / 5)


def test_evaluating_changes_nothing_of_the_training(make_trainer, with_root):
    results = []
    for options in ({}, {"eval_strategy": "steps", "eval_steps": 1}):
        held_out = {"eval_dataset": with_root(videos(2))} if options else {}
        trainer = make_trainer(pairs(4), max_steps=3, **options, **held_out)
        trainer.train()
        results.append([p.detach() for p in trainer.model.parameters()])
    assert all(a.equal(b) for a, b in zip(*results, strict=True))
    logged = [entry for entry in trainer.state.log_history if "eval_exact_accuracy" in entry]
    assert [entry["step"] for entry in logged] == [1, 2, 3]
    assert all(entry["eval_runtime"] > 0 for entry in logged)


def test_what_contradicts_itself_is_refused(make_trainer):
    with pytest.raises(ValueError, match="give eval_dataset, too"):
        make_trainer(pairs(4), eval_strategy="steps", eval_steps=1)
    with pytest.raises(ValueError, match="give --eval_manifests"):
        make_trainer(pairs(4), keep_best=True)


COMMON = (
    "--max_steps=6",
    "--save_steps=2",
    "--eval_steps=1",
    "--keep_best",
    "--per_device_train_batch_size=8",
    "--num_generations=4",
    "--max_completion_length=8",
    "--learning_rate=1e-2",
    "--lr_scheduler_type=constant",
    "--logging_steps=1",
    "--dtype=float32",
    "--save_total_limit=1",
    "--reward_funcs=tests.train.conftest.distinct_letters",
)


@pytest.mark.parametrize("adapter", [(), ("--use_peft", "--lora_r=4")], ids=["full", "lora"])
def test_the_best_checkpoint_is_kept_and_written(
    write_manifest, tiny_policy_dir, tmp_path, monkeypatch, adapter
):
    """Scores are made up: step 2 is the best of the evaluated steps, 1 to 6."""
    from nontrivial.train import evaluation

    made_up = iter([0.3, 0.9, 0.1, 0.4, 0.2, 0.5])
    monkeypatch.setattr(evaluation, "scores", lambda *_: {"eval_exact_accuracy": next(made_up)})
    monkeypatch.chdir(tmp_path)
    held_out = write_manifest(pairs(2, split="test", group="others"), "held_out")
    words = [write_manifest(pairs(4)), f"--eval_manifests={held_out}", *COMMON, *adapter]
    assert grpo.main([*words, f"--model_name_or_path={tiny_policy_dir}", "--output_dir=run"]) == 0
    assert sorted(p.name for p in Path("run").glob("checkpoint-*")) == [
        "checkpoint-2",
        "checkpoint-6",
    ]
    state = json.loads(Path("run/trainer_state.json").read_text())
    assert (state["best_global_step"], state["best_metric"]) == (2, 0.9)
    written, best = (load_policy(p)[0] for p in ("run", "run/checkpoint-2"))
    last, _ = load_policy("run/checkpoint-6")
    for found, expected in zip(written.parameters(), best.parameters(), strict=True):
        torch.testing.assert_close(found, expected)
    assert any(not a.equal(b) for a, b in zip(written.parameters(), last.parameters(), strict=True))


def test_held_out_rows_are_those_of_other_splits(
    write_manifest, tiny_policy_dir, tmp_path, capsys, caplog, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    tested = [row | {"split": "test", "id": f"held {row['id']}"} for row in pairs(3)]
    held_out = write_manifest(tested, "held_out")
    words = [
        write_manifest(pairs(4)),
        f"--eval_manifests={held_out}",
        "--eval_limit=2",
        *COMMON[2:],
        "--max_steps=2",
        "--save_steps=2",
    ]
    assert grpo.main([*words, f"--model_name_or_path={tiny_policy_dir}", "--output_dir=run"]) == 0
    said = capsys.readouterr().out
    assert "evaluating on 2 held-out samples" in said
    assert "best, kept" in said
    assert "2 of 2 held-out samples are about a video or a person that is trained on" in caplog.text
    log = [entry for entry in JsonLines("run/log.jsonl") if "eval_exact_accuracy" in entry]
    assert [entry["step"] for entry in log] == [1, 2]
    assert all(entry["eval_samples"] == 2 for entry in log)
