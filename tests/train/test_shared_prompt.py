"""Encoding a prompt once for its group gives what encoding it for every row gives."""

from __future__ import annotations

import pytest
import torch
from transformers import GenerationConfig
from trl.trainer.utils import add_fused_lm_head

from nontrivial.models.policy import load_policy, vision_token_ids
from nontrivial.train.data import PromptEncoder, StandIns
from nontrivial.train.options import DataOptions
from nontrivial.train.shared_prompt import (
    accept_shared_prompts,
    collate_distinct,
    generate,
    scoring_inputs,
)
from tests.reference import policy_gradient as naive
from tests.train.conftest import pairs, videos

GROUP, LENGTH = 4, 9


@pytest.fixture
def policy(tiny_policy_dir):
    model, processor = load_policy(str(tiny_policy_dir))
    add_fused_lm_head(model, temperature=0.9, outputs=("log_probs", "entropy"))
    accept_shared_prompts(model, vision_token_ids(model))
    return model.eval(), processor


@pytest.fixture(params=["images", "videos", "mixed"])
def prompts(request, policy, with_root):
    """Encoded prompts of different lengths, each asked by a group of rows."""
    samples = {"images": pairs(3), "videos": videos(2), "mixed": pairs(2) + videos(2)}
    encode = PromptEncoder(policy[1], DataOptions(nframes=4), longest=4000)
    return encode([row for row in with_root(samples[request.param]) for _ in range(GROUP)])


@pytest.fixture
def config(policy):
    model, processor = policy
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


def test_rows_of_one_sample_share_one_object(policy, with_root):
    encode = PromptEncoder(policy[1], DataOptions(), longest=4000)
    row, other = with_root(pairs(2))
    batch, index = collate_distinct(encode([row, other, row]), pad_token_id=0)
    assert index.tolist() == [0, 1, 0]
    assert len(batch["input_ids"]) == 2
    assert len(batch["image_grid_thw"]) == 4


def test_the_same_tokens_are_sampled_as_without_sharing(policy, prompts, config, rollout):
    torch.manual_seed(0)
    tokens, hidden = generate(policy[0], prompts, config, share=False, keep_hidden=True)
    assert torch.equal(tokens, rollout[0])
    torch.testing.assert_close(hidden, rollout[2], rtol=1e-4, atol=1e-5)


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
    policy, prompts, rollout, with_root, share, completed
):
    model, processor = policy
    tokens, mask, _ = rollout
    weights = torch.linspace(-1, 1, tokens.numel()).view(tokens.shape) * mask
    pad = processor.tokenizer.pad_token_id
    stand_ins = StandIns(processor, with_root(pairs(1) + videos(1)) if completed else ())
    unasked = stand_ins(prompts)
    inputs = scoring_inputs(prompts, tokens, mask, pad, share=share, unasked=unasked)
    if completed:  # both kinds of media are seen, whatever was asked
        assert {"pixel_values", "pixel_values_videos"} <= inputs.get("prompts", inputs).keys()
    output = model(**inputs)
    found = output.log_probs[: len(prompts), -tokens.shape[1] :]
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


def test_any_order_of_rows_is_scored_alike(policy, prompts, rollout):
    model, processor = policy
    tokens, mask, _ = rollout
    pad = processor.tokenizer.pad_token_id
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(**scoring_inputs(prompts, tokens, mask, pad)).log_probs[order]
        shuffled = [prompts[row] for row in order.tolist()]
        found = model(**scoring_inputs(shuffled, tokens[order], mask[order], pad)).log_probs
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_vision_tokens_are_never_sampled(policy, prompts, config):
    model, _ = policy
    with torch.no_grad():  # a policy that would like to write nothing else
        head = model.get_output_embeddings()
        head.weight[vision_token_ids(model)] = 20 * head.weight.abs().max()
    tokens, _ = generate(model, prompts, config)
    assert not torch.isin(tokens, torch.tensor(vision_token_ids(model))).any()
