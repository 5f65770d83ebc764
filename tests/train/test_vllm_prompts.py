"""vLLM is handed what the trainer scores; where vLLM is installed it samples, and both agree."""

from __future__ import annotations

import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from nontrivial.models.policy import EMBEDDED_DIR, load_policy
from nontrivial.models.positions import runs_of
from nontrivial.train import vllm_prompts
from nontrivial.train.config import TokenWeightedGRPOConfig
from nontrivial.train.data import BYTES, PIXELS, PromptEncoder, with_pixels
from nontrivial.train.options import DataOptions
from nontrivial.train.trainer import TokenWeightedGRPOTrainer
from tests.train.conftest import pairs, videos


@pytest.fixture
def encode(make_encoder):
    return make_encoder(nframes=4)


@pytest.mark.parametrize("sample", [pairs(1), videos(1)], ids=["image", "video"])
def test_raw_pixels_are_the_bytes_that_were_normalised(encode, with_root, sample):
    [prompt] = encode(with_root(sample))
    [kind] = [kind for kind, raw in BYTES.items() if raw in prompt]
    processor = getattr(encode.processor, f"{kind}_processor")
    values, raw = with_pixels(prompt)[PIXELS[kind]], prompt[BYTES[kind]]
    assert raw.dtype == torch.uint8
    assert len(raw.unique()) > 3  # a picture, not one colour
    mean, std = (
        torch.tensor(each)[:, None] for each in (processor.image_mean, processor.image_std)
    )
    again = (raw.view(len(raw), 3, -1) * processor.rescale_factor - mean) / std
    torch.testing.assert_close(again.view(values.shape), values, rtol=0, atol=1e-6)


def test_positions_are_those_of_the_trainer(encode, with_root, tiny_policy_dir):
    body = load_policy(str(tiny_policy_dir))[0].base_model
    both = pairs(1)[0] | {"videos": videos(1)[0]["videos"], "clips": videos(1)[0]["clips"]}
    [prompt] = encode(with_root([both]))
    ids = prompt["input_ids"][0]
    media = [
        SimpleNamespace(
            modality=kind,
            mm_position=SimpleNamespace(offset=offset, length=length),
            data={
                name: SimpleNamespace(data=prompt[name][number])
                for name in (f"{kind}_grid_thw", *(["second_per_grid_ts"] * (kind == "video")))
            },
        )
        for kind in PIXELS
        for number, (offset, length) in enumerate(
            runs_of(getattr(body.config, f"{kind}_token_id"), ids)
        )
    ]
    assert len(media) == 3
    found, offset = vllm_prompts.positions(body, ids.tolist(), media[::-1])
    given = {name: prompt[name] for name in prompt if "grid" in name}
    expected, deltas = body.get_rope_index(
        prompt["input_ids"], mm_token_type_ids=prompt["mm_token_type_ids"], **given
    )
    assert torch.equal(found, expected[:, 0])
    assert offset == deltas.item() != 0


def test_what_cannot_be_sampled_as_it_is_trained_is_refused(tiny_policy_dir):
    vllm_prompts.check(load_policy(str(tiny_policy_dir))[0].config)
    with pytest.raises(ValueError, match="a qwen3_vl"):
        vllm_prompts.check(SimpleNamespace(model_type="qwen3_vl"))


def test_a_server_reads_the_features_that_are_sent(encode, with_root):
    """Decoded by vLLM's own reader, they are what the engine beside the trainer is given."""
    pytest.importorskip("vllm", reason="needs vllm")
    sent = pytest.importorskip("vllm.entrypoints.scale_out.token_in_token_out.mm_features")
    model, processor = load_policy(str(EMBEDDED_DIR))
    encode = PromptEncoder(processor, model.base_model, DataOptions(), longest=4000)
    [prompt] = encode(with_root(pairs(1)))
    features = vllm_prompts.MediaFeatures(model.config, processor, lambda: 3, raw=True)
    [told] = features.of_rows([[prompt]])
    told = sent.MultiModalFeatures.model_validate_json(json.dumps(told))
    here = features.of_engine(prompt)
    assert told.mm_hashes == here["mm_hashes"]
    [places] = [[(p.offset, p.length) for p in each] for each in told.mm_placeholders.values()]
    assert places == [(p.offset, p.length) for p in here["mm_placeholders"]["image"]]
    decoded = sent.mm_kwargs_from_features(told)["image"]
    assert len(decoded) == len(here["mm_kwargs"]["image"]) == 2
    for item, expected in zip(decoded, here["mm_kwargs"]["image"], strict=True):
        assert item.keys() == expected.keys() == {"pixel_values", "image_grid_thw"}
        for name in item:
            assert torch.equal(item[name].data, expected[name].data)


def unpacked(layer: torch.nn.Module, remove_weight: bool) -> None:
    layer.cpu_linear = torch.nn.functional.linear


@pytest.fixture
def in_float32(monkeypatch):
    """vLLM as it has to be on a CPU to be compared: exact, and with weights that can be replaced.

    It would take bfloat16 there, and pack the weights of linear layers once and for all.
    """
    vllm = pytest.importorskip("vllm", reason="needs vllm")
    packing = "vllm.model_executor.layers.utils.dispatch_cpu_unquantized_gemm"
    monkeypatch.setattr(packing, unpacked)
    exact = partial(vllm.LLM, dtype="float32", enforce_eager=True)
    monkeypatch.setattr("trl.generation.vllm_generation.LLM", exact)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")


def test_vllm_samples_from_the_policy_that_is_trained(in_float32, with_root, tmp_path):
    """Two steps: what vLLM says of its samples is what the trainer scores, before and after."""
    model, processor = load_policy(str(EMBEDDED_DIR))
    trainer = TokenWeightedGRPOTrainer(
        model,
        args=TokenWeightedGRPOConfig(
            output_dir=str(tmp_path / "run"),
            use_vllm=True,
            vllm_importance_sampling_mode="token_truncate",
            per_device_train_batch_size=16,
            num_generations=4,
            max_completion_length=12,
            max_steps=2,
            learning_rate=1e-2,
            gradient_checkpointing=False,
            freeze_vision=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            log_completions=False,
            disable_tqdm=True,
            nframes=4,
        ),
        train_dataset=with_root(pairs(2) + videos(2)),
        processing_class=processor,
        reward_funcs=lambda completions, **_: [len(each[0]["content"]) / 9 for each in completions],
    )
    scored = []

    def compared(batch, flight, weigh=trainer.token_weights):
        again = trainer._hidden_of_forward(batch, flight.prompts)
        live = batch["completion_mask"].bool()
        torch.testing.assert_close(flight.hidden[live], again[live], rtol=1e-4, atol=1e-4)
        scored.append(live.sum())
        return weigh(batch, flight)

    trainer.token_weights = compared
    before = trainer.model.get_output_embeddings().weight.clone()
    trainer.train()
    assert len(scored) == 2
    assert not torch.equal(before, trainer.model.get_output_embeddings().weight)
    told = [each for each in trainer.state.log_history if "reward" in each]
    assert len(told) == 2
    for entry in told:
        assert entry["sampling/sampling_logp_difference/max"] < 1e-3
        assert entry["token_weight/std"] > 0
