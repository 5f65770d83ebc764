"""Token weights are exact, and depend on nothing but what the live members predict."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.reference import importance as naive
from train.importance import group_divergence, scale_to_alpha, token_weights

GROUPS, MEMBERS, LENGTH, WIDTH, VOCABULARY = 3, 5, 11, 16, 97


@pytest.fixture
def group() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states (N, G, T, H), a ragged mask (N, G, T) and a head (V, H), float32."""
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(GROUPS, MEMBERS, LENGTH, WIDTH, generator=draw)
    hidden[:, :, 0] = hidden[:, :1, 0]  # all members predict the first token alike
    lengths = torch.randint(1, LENGTH + 1, (GROUPS, MEMBERS), generator=draw)
    lengths[0] = torch.tensor([11, 7, 3, 1, 1])
    mask = torch.arange(LENGTH) < lengths[..., None]
    return hidden, mask, torch.randn(VOCABULARY, WIDTH, generator=draw)


def test_weights_equal_the_naive_float64_ones(group):
    hidden, mask, head = group
    found, divergence = token_weights(hidden, mask, head, alpha=1.7, temperature=0.8)
    for n in range(GROUPS):
        exact = naive.divergence(hidden[n].numpy(), mask[n].numpy(), head.numpy(), temperature=0.8)
        np.testing.assert_allclose(divergence[n], exact, rtol=1e-5, atol=1e-6)
        exact = naive.weights(exact, mask[n].numpy(), 1.7)
        np.testing.assert_allclose(found[n], exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loses_no_more_than_its_rounded_inputs(group, dtype):
    hidden, mask, head = group
    hidden, head = hidden.to(dtype), head.to(dtype)
    found = group_divergence(hidden, mask, head)
    exact = naive.divergence(hidden[0].double().numpy(), mask[0].numpy(), head.double().numpy())
    np.testing.assert_allclose(found[0], exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tile", [1, 2, 7, 1000])
def test_the_tile_size_changes_nothing(group, tile):
    hidden, mask, head = group
    expected = group_divergence(hidden, mask, head)
    found = group_divergence(hidden, mask, head, tile=tile)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_the_order_of_members_changes_nothing(group):
    hidden, mask, head = group
    order = torch.tensor([3, 0, 4, 2, 1])
    expected, _ = token_weights(hidden, mask, head)
    found, _ = token_weights(hidden[:, order], mask[:, order], head)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_padding_and_ended_members_change_nothing(group):
    hidden, mask, head = group
    expected, _ = token_weights(hidden, mask, head)
    hidden = torch.where(mask[..., None], hidden, 1e4)  # whatever ended members hold
    padded = torch.nn.functional.pad(hidden, (0, 0, 0, 6), value=-1e4)
    found, _ = token_weights(padded, torch.nn.functional.pad(mask, (0, 6)), head)
    torch.testing.assert_close(found[:, :LENGTH], expected)
    assert torch.equal(found[:, LENGTH:], torch.ones(GROUPS, 6))


def test_groups_do_not_touch_each_other(group):
    hidden, mask, head = group
    together, _ = token_weights(hidden, mask, head)
    for n in range(GROUPS):
        alone, _ = token_weights(hidden[n : n + 1], mask[n : n + 1], head)
        torch.testing.assert_close(together[n], alone[0])


def test_weights_span_one_to_alpha_where_members_disagree(group):
    hidden, mask, head = group
    found, divergence = token_weights(hidden, mask, head, alpha=3.0)
    assert divergence[:, 0].abs().max() < 1e-6
    assert found[0].min() == 1
    assert found[0].max() == 3
    assert torch.equal(found[0, 7:], torch.ones(4))  # one member is left there


def test_members_that_agree_leave_every_weight_at_one(group):
    hidden, mask, head = group
    found, _ = token_weights(hidden[:, :1].expand_as(hidden), mask, head)
    torch.testing.assert_close(found, torch.ones(GROUPS, LENGTH), rtol=0, atol=0.02)
    scaled = scale_to_alpha(torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool), 1.7)
    assert torch.equal(scaled, torch.ones(1, 4))


def test_extreme_logits_stay_finite(group):
    hidden, mask, head = group
    bias = torch.zeros(VOCABULARY)
    bias[:3] = -3e4
    found, divergence = token_weights(hidden * 1e3, mask, head, bias)
    assert found.isfinite().all()
    assert divergence.isfinite().all()


def test_forbidden_tokens_take_no_part(group):
    hidden, mask, head = group
    bias = torch.zeros(VOCABULARY)
    bias[:3] = -3e4
    expected = group_divergence(hidden, mask, head[3:])
    torch.testing.assert_close(group_divergence(hidden, mask, head, bias), expected)


def test_weights_carry_no_gradient(group):
    hidden, mask, head = group
    found, _ = token_weights(hidden.requires_grad_(), mask, head.requires_grad_())
    assert not found.requires_grad


def test_a_mask_of_another_shape_is_named(group):
    hidden, mask, head = group
    with pytest.raises(ValueError, match=r"mask is \(3, 5, 10\), hidden is \(3, 5, 11, 16\)"):
        token_weights(hidden, mask[..., 1:], head)
