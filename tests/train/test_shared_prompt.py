"""Encoding a prompt once for its group gives what encoding it for every row gives."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from transformers import GenerationConfig
from trl.trainer.utils import add_fused_lm_head

from nontrivial.manifests.schema import samples_table
from nontrivial.models.policy import load_policy, vision_token_ids
from nontrivial.train.data import PromptEncoder, StandIns
from nontrivial.train.group_rows import accept_group_rows, accepted_by, scoring
from nontrivial.train.head import leave_out
from nontrivial.train.options import DataOptions
from nontrivial.train.rows import as_sample
from nontrivial.train.shared_prompt import collate_distinct, generate
from tests import media_files, rows, tiny_policy
from tests.reference import policy_gradient as naive
from tests.train.conftest import pairs, videos

GROUP, LENGTH = 4, 9


def shared(folder) -> tuple:
    """The policy in a folder as the trainer prepares it, and its processor."""
    model, processor = load_policy(str(folder))
    add_fused_lm_head(model, temperature=0.9, outputs=("log_probs", "entropy"))
    leave_out(model, vision_token_ids(model))
    accept_group_rows(model)
    assert accepted_by(model.base_model)
    return model.eval(), processor


@pytest.fixture
def policy(tiny_policy_dir):
    return shared(tiny_policy_dir)


@pytest.fixture(params=["images", "videos", "mixed"])
def prompts(request, make_encoder, with_root):
    """Encoded prompts of different lengths, each asked by a group of rows."""
    samples = {"images": pairs(3), "videos": videos(2), "mixed": pairs(2) + videos(2)}
    encode = make_encoder(nframes=4)
    return encode([row for row in with_root(samples[request.param]) for _ in range(GROUP)])


@pytest.fixture
def config(policy):
    return sampling(*policy)


def sampling(model, processor) -> GenerationConfig:
    return GenerationConfig(
        do_sample=True,
        temperature=0.9,
        max_new_tokens=LENGTH,
        suppress_tokens=vision_token_ids(model),
        pad_token_id=processor.tokenizer.pad_token_id,
        eos_token_id=processor.tokenizer.eos_token_id,
    )


@pytest.fixture
def rollout(policy, prompts, config):
    """Completions (B, T), their mask and the hidden states that predicted them."""
    torch.manual_seed(0)
    tokens, hidden = generate(policy[0], prompts, config, keep_hidden=True)
    ends = tokens == config.eos_token_id
    return tokens, ((ends.cumsum(1) - ends.int()) == 0).long(), hidden


def test_rows_of_one_sample_share_one_object(make_encoder, with_root):
    encode = make_encoder()
    row, other = with_root(pairs(2))
    batch, index = collate_distinct(encode([row, other, row]), pad_token_id=0)
    assert index.tolist() == [0, 1, 0]
    assert len(batch["input_ids"]) == 2
    assert len(batch["image_grid_thw"]) == 4


@pytest.mark.parametrize("completed", [False, True], ids=["as asked", "with stand-ins"])
def test_the_same_tokens_are_sampled_as_without_sharing(
    policy, prompts, config, rollout, make_encoder, with_root, completed
):
    missing = StandIns(make_encoder(), with_root(pairs(1) + videos(1)) if completed else ())
    seen, visual = [], policy[0].base_model.visual
    visual.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    unasked, config.do_sample = missing(prompts), not completed  # more rows draw other tokens
    expected = generate(policy[0], prompts, config, keep_hidden=True) if completed else rollout
    torch.manual_seed(0)
    seen.clear()
    tokens, hidden = generate(
        policy[0], prompts, config, share=False, keep_hidden=True, unasked=unasked
    )
    kinds = {name for prompt in [*prompts, *unasked] for name in prompt if "bytes" in name}
    assert len(seen) == len(kinds) >= 1 + completed
    assert torch.equal(tokens, expected[0])
    torch.testing.assert_close(hidden, expected[-1], rtol=1e-4, atol=1e-5)


def test_hidden_states_of_sampling_are_those_of_a_forward_pass(policy, prompts, rollout):
    model, _ = policy
    tokens, mask, hidden = rollout
    head = model.get_output_embeddings()
    for row, prompt in enumerate(prompts):
        live = tokens[row, mask[row] > 0]
        logits = head(hidden[row, : len(live)]) / 0.9
        logits[:, vision_token_ids(model)] = -torch.inf
        found = logits.log_softmax(-1).gather(1, live[:, None])[:, 0]
        with torch.no_grad():
            expected = naive.log_probs(
                model, prompt, live, temperature=0.9, forbidden=vision_token_ids(model)
            )
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("completed", [False, True], ids=["as asked", "with stand-ins"])
@pytest.mark.parametrize("share", [True, False])
def test_scores_and_gradients_equal_those_of_single_samples(
    policy, prompts, rollout, make_encoder, with_root, share, completed
):
    model, processor = policy
    tokens, mask, _ = rollout
    weights = torch.linspace(-1, 1, tokens.numel()).view(tokens.shape) * mask
    pad = processor.tokenizer.pad_token_id
    stand_ins = StandIns(make_encoder(), with_root(pairs(1) + videos(1)) if completed else ())
    unasked = stand_ins(prompts)
    wanted = scoring(prompts, tokens, mask, pad, share=share, unasked=unasked)
    if completed:  # both kinds of media are seen, whatever was asked
        assert {"pixel_values", "pixel_values_videos"} <= wanted.inputs.keys()
    found = wanted.of_tokens(model(**wanted.inputs).log_probs)
    (found * weights).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    for row, prompt in enumerate(prompts):
        live = mask[row] > 0
        expected = naive.log_probs(
            model, prompt, tokens[row, live], temperature=0.9, forbidden=vision_token_ids(model)
        )
        torch.testing.assert_close(found[row, live], expected, rtol=1e-4, atol=1e-5)
        (expected * weights[row, live]).sum().backward()
    assert any("visual" in name for name in gradients)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seconds", [5, 60, 300])
@pytest.mark.parametrize("tokenizer", ["bytes", "Qwen2.5-VL"])
def test_long_clips_are_sampled_and_scored_alike(tokenizer, seconds, tmp_path, real_processor):
    """However the prompt is shared, in sampling and in scoring, and by a plain forward pass."""
    own = real_processor() if tokenizer == "Qwen2.5-VL" else None
    for part in tiny_policy.build(processor=own):
        part.save_pretrained(tmp_path)
    model, processor = shared(tmp_path)
    media_files.write_clip(tmp_path / "clip.mp4", frames=20, fps=Fraction(20, seconds))
    row = rows.video_question("v", videos=[rows.media("clip.mp4")])
    sample = as_sample(samples_table([row]).to_pylist()[0], 0, str(tmp_path))
    options = DataOptions(nframes=16, max_pixels=64 * 28 * 28)
    prompts = PromptEncoder(processor, model.base_model, options, longest=4000)([sample] * GROUP)
    assert prompts[0]["position_ids"].max() >= 2 * seconds * 14 // 16
    config, forbidden = sampling(model, processor), vision_token_ids(model)
    torch.manual_seed(0)
    tokens, _ = generate(model, prompts, config)
    mask, head = torch.ones_like(tokens), model.get_output_embeddings()
    expected = torch.stack(
        [
            naive.log_probs(model, prompt, row, temperature=0.9, forbidden=forbidden)
            for prompt, row in zip(prompts, tokens, strict=True)
        ]
    ).detach()
    for share in (True, False):
        torch.manual_seed(0)
        again, hidden = generate(model, prompts, config, share=share, keep_hidden=True)
        assert torch.equal(again, tokens)
        logits = head(hidden) / 0.9
        logits[..., forbidden] = -torch.inf
        told = logits.log_softmax(-1).gather(2, tokens[..., None])[..., 0].detach()
        wanted = scoring(prompts, tokens, mask, config.pad_token_id, share=share)
        with torch.no_grad():
            scored = wanted.of_tokens(model(**wanted.inputs).log_probs)
        torch.testing.assert_close(told, expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(scored, expected, rtol=0, atol=1e-4)


def test_any_order_of_rows_is_scored_alike(policy, prompts, rollout):
    model, processor = policy
    tokens, mask, _ = rollout
    pad = processor.tokenizer.pad_token_id
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = scoring(prompts, tokens, mask, pad)
        expected = wanted.of_tokens(model(**wanted.inputs).log_probs)[order]
        shuffled = [prompts[row] for row in order.tolist()]
        wanted = scoring(shuffled, tokens[order], mask[order], pad)
        found = wanted.of_tokens(model(**wanted.inputs).log_probs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_vision_tokens_are_never_sampled(policy, prompts, config):
    model, _ = policy
    with torch.no_grad():  # a policy that would like to write nothing else
        head = model.get_output_embeddings()
        head.weight[vision_token_ids(model)] = 20 * head.weight.abs().max()
    tokens, _ = generate(model, prompts, config)
    assert not torch.isin(tokens, torch.tensor(vision_token_ids(model))).any()
