"""What is trained is float32, or has a float32 copy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from nontrivial.manifests.errors import BadInput
from nontrivial.models.policy import load_policy
from nontrivial.train import launch
from nontrivial.train.config import TokenWeightedGRPOConfig
from nontrivial.train.grpo import main as grpo
from nontrivial.train.rewards import soft_accuracy
from nontrivial.train.trainer import TokenWeightedGRPOTrainer
from nontrivial.train.warmup import main as warm_up
from tests.train.conftest import pairs


@pytest.fixture
def words(write_manifest, tiny_policy_dir, tmp_path, monkeypatch) -> list[str]:
    """A command line that trains on pairs, into the folder `run`."""
    monkeypatch.chdir(tmp_path)
    policy = f"--model_name_or_path={tiny_policy_dir}"
    return [write_manifest(pairs(2)), policy, "--output_dir=run", "--per_device_train_batch_size=8"]


@pytest.fixture
def make_trainer(with_root, tmp_path):
    def make(model, processor) -> TokenWeightedGRPOTrainer:
        options = {"num_generations": 2, "per_device_train_batch_size": 2, "report_to": "none"}
        args = TokenWeightedGRPOConfig(output_dir=str(tmp_path), **options)
        rows = with_root(pairs(1))
        return TokenWeightedGRPOTrainer(
            model, soft_accuracy, args, rows, processing_class=processor
        )

    return make


@pytest.mark.parametrize("train", [grpo, warm_up])
def test_half_precision_weights_are_refused_with_the_remedy(train, words, capsys):
    assert train([*words, "--dtype=bfloat16", "--max_steps=1"]) == 2
    message = capsys.readouterr().err
    assert "the weights to train are torch.bfloat16" in message
    assert "--dtype float32" in message


@pytest.mark.slow
def test_500_small_steps_move_the_weights(words, tiny_policy_dir):
    rate, steps = 1e-6, 500
    options = [f"--learning_rate={rate}", f"--max_steps={steps}", "--lr_scheduler_type=constant"]
    assert warm_up([*words, *options, "--freeze_vision=false", "--logging_steps=500"]) == 0
    before, after = (load_file(Path(d, "model.safetensors")) for d in (tiny_policy_dir, "run"))
    name = next(key for key in before if key.endswith("layers.0.mlp.up_proj.weight"))
    moved = (after[name] - before[name]).abs()
    assert after[name].dtype == torch.float32
    assert (moved > 0).float().mean() > 0.95
    assert 0.05 * rate * steps < moved.mean() < rate * steps


def test_an_adapter_is_float32_on_bfloat16_weights(words, monkeypatch):
    types = {}
    finish = launch.finish

    def watched(trainer, job, **options):
        types.update({p.requires_grad: p.dtype for p in trainer.model.parameters()})
        finish(trainer, job, **options)

    monkeypatch.setattr(launch, "finish", watched)
    assert warm_up([*words, "--use_peft", "--lora_r=2", "--max_steps=1"]) == 0
    assert types == {True: torch.float32, False: torch.bfloat16}
    assert load_policy("run")[0].dtype == torch.bfloat16


def test_the_embedded_policy_stays_float32_under_an_adapter(write_manifest, monkeypatch):
    jobs = []
    monkeypatch.setattr(launch, "finish", lambda trainer, job, **_: jobs.append(job))
    assert warm_up([write_manifest(pairs(2)), "--use_peft"]) == 0
    assert jobs[0].model_args.dtype == "float32"


def test_an_adapter_that_was_rounded_is_float32_again(tiny_policy_dir, make_trainer):
    model, processor = load_policy(str(tiny_policy_dir), dtype="bfloat16")
    model.requires_grad_(False)
    settings = LoraConfig(r=2, target_modules=launch.LORA_TARGETS[0])
    adapted = get_peft_model(model, settings, autocast_adapter_dtype=False)
    assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.bfloat16}
    trainer = make_trainer(adapted, processor)
    assert {p.dtype for p in trainer.model.parameters() if p.requires_grad} == {torch.float32}


def test_a_policy_in_half_precision_is_refused_from_python(tiny_policy_dir, make_trainer):
    with pytest.raises(BadInput, match="small steps round to nothing"):
        make_trainer(*load_policy(str(tiny_policy_dir), dtype="bfloat16"))
