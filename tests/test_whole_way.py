"""Warm-up, GRPO, answers and verdicts with tokenizers that split tags as Qwen's does.

Images and a clip, by the commands. Once with a tokenizer of our own, once with Qwen2.5-VL's.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nontrivial.eval import qa, reid
from nontrivial.eval.generation import Generator, Sampling, load_batch
from nontrivial.manifests.parquet import read_samples, write_samples
from nontrivial.manifests.runs import JsonLines
from nontrivial.manifests.schema import samples_table
from nontrivial.models.inputs import View
from nontrivial.models.policy import load_policy, vision_token_ids
from nontrivial.train import grpo, warmup
from tests import media_files, tiny_policy
from tests.eval.test_reid import rows_of, write_embeddings
from tests.train.conftest import pairs, videos

MODEL = "--model_name_or_path"
STEPS = {
    "--per_device_train_batch_size": "8",
    "--lr_scheduler_type": "constant",
    "--logging_steps": "1",
    "--save_strategy": "no",
    "--freeze_vision": "false",
    "--gradient_checkpointing": "false",
    "--nframes": "4",
}


def words(options: dict[str, str]) -> list[str]:
    return [word for pair in options.items() for word in pair]


@pytest.fixture(scope="module", params=["joined letters", "Qwen2.5-VL"])
def world(request, tmp_path_factory, real_processor) -> Path:
    """A folder with an untrained policy, a manifest of pairs and questions, and ranked images."""
    folder = tmp_path_factory.mktemp("world")
    processor = real_processor() if request.param == "Qwen2.5-VL" else None
    for part in tiny_policy.build(whole_tags=False, processor=processor):
        part.save_pretrained(folder / "policy")
    for number in range(12):
        media_files.write_image(folder / f"{number}.jpg", seed=number, size=(56, 84))
    for number in range(2):
        media_files.write_clip(folder / f"{number}.mp4", frames=12)
    asked = samples_table([*pairs(6, rationale="a red coat"), *videos(2, rationale="it falls")])
    write_samples(asked, folder / "samples.parquet", {"media_root": str(folder)})
    ranked = rows_of(20)
    for number, row in enumerate(ranked):
        media_files.write_image(folder / row["path"], seed=number % 3)
    write_embeddings(folder / "market.parquet", ranked, folder)
    manifest = str(folder / "samples.parquet")
    steps, batch = ("60", "4") if request.param == "Qwen2.5-VL" else ("80", "8")
    learning = {MODEL: str(folder / "policy"), "--max_steps": steps, "--learning_rate": "1e-2"}
    learning["--per_device_train_batch_size"] = batch
    options = STEPS | learning | {"--output_dir": str(folder / "warm")}
    assert warmup.main([manifest, *words(options)]) == 0
    sampled = {MODEL: str(folder / "warm"), "--max_steps": "2", "--learning_rate": "1e-4"}
    sampled |= {"--num_generations": "4", "--max_completion_length": "32", "--temperature": "1.2"}
    options = STEPS | sampled | {"--output_dir": str(folder / "grpo")}
    assert grpo.main([manifest, *words(options)]) == 0
    return folder


def test_answers_are_learned_found_and_weighted(world):
    """The warmed-up policy answers; logs see its answer blocks, whatever tokens they consist of."""
    log = list(JsonLines(world / "grpo" / "log.jsonl"))
    assert len([entry for entry in log if "reward" in entry]) == 2
    assert all(entry["rewards/format/mean"] > 0 for entry in log if "reward" in entry)
    for name in ("answer", "think"):
        assert all(e[f"token_weight/{name}_share"] > 0 for e in log if "reward" in e), name


def test_questions_are_answered(world):
    out = world / "answers"
    options = {MODEL: str(world / "grpo"), "--out": str(out), "--nframes": "4"}
    assert qa.main([str(world / "samples.parquet"), *words(options), "--max_new_tokens=32"]) == 0
    lines = json.loads((out / "summary.json").read_text())["manifests"]["samples"]
    assert [line["n"] for line in lines] == [6, 2]
    assert all(line["format"] > 0.5 for line in lines)


@pytest.mark.parametrize("judge", ["direct", "reasoned"])
def test_pairs_are_judged(world, judge):
    out = world / judge
    options = {MODEL: str(world / "grpo"), "--judge": judge, "--out": str(out), "--top_k": "2"}
    table = str(world / "market.parquet")
    assert reid.main([table, *words(options), "--max_new_tokens=32", "--encoder=one"]) == 0
    [store] = out.glob("*.judged.jsonl")
    verdicts = [json.loads(line) for line in store.read_text().splitlines()]
    assert len(verdicts) >= 10
    told = [verdict["p_same"] for verdict in verdicts]
    assert all(0 <= p <= 1 for p in told)
    assert any(verdict["reasoning"] for verdict in verdicts) == (judge == "reasoned")


def test_no_vision_token_is_sampled_even_by_a_policy_that_likes_them(world):
    sampling = Sampling(max_new_tokens=12, sample=True)
    generator = Generator(str(world / "grpo"), sampling, View(), dtype="float32", device="cpu")
    vision = vision_token_ids(generator.model)
    names = generator.processor.tokenizer.convert_ids_to_tokens(vision)
    assert set(tiny_policy.VISION) <= set(names)
    head = generator.model.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.zeros(len(head.weight)))
    head.bias.data[vision] = 100.0
    sampled, generate = [], generator.model.generate

    def kept(**inputs):
        sampled.append(generate(**inputs)[:, inputs["input_ids"].shape[1] :])
        return torch.cat([inputs["input_ids"], sampled[-1]], dim=1)

    generator.model.generate = kept
    samples = read_samples(world / "samples.parquet").to_pylist()
    for kind in (samples[:2], samples[-1:]):
        good, media, _ = load_batch(kind, str(world), View(nframes=4))
        generator.complete(good, media)
    assert len(sampled) == 2
    assert not any(torch.isin(tokens, torch.tensor(vision)).any() for tokens in sampled)


def test_the_policy_that_is_written_loads_by_its_folder(world):
    before, _ = load_policy(str(world / "warm"))
    after, _ = load_policy(str(world / "grpo"))
    both = zip(before.parameters(), after.parameters(), strict=True)
    assert any(not a.equal(b) for a, b in both)
