"""Token weights are exact, and depend on nothing but what the live members predict."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nontrivial.train.importance import MEASURES, scale_to_alpha, token_scores, token_weights
from tests.reference import importance as naive

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


@pytest.mark.parametrize("measure", ["divergence", "geometric", "entropy"])
@pytest.mark.parametrize("with_bias", [False, True], ids=["", "bias"])
def test_weights_equal_the_naive_float64_ones(group, measure, with_bias):
    hidden, mask, head = group
    bias = torch.randn(VOCABULARY) if with_bias else None
    found, scores = token_weights(
        hidden, mask, head, bias, measure=measure, alpha=1.7, temperature=0.8
    )
    for n in range(GROUPS):
        exact = getattr(naive, measure)(
            hidden[n].numpy(),
            mask[n].numpy(),
            head.numpy(),
            bias=bias.numpy() if with_bias else 0.0,
            temperature=0.8,
        )
        np.testing.assert_allclose(scores[n], exact, rtol=1e-5, atol=2e-6)
        exact = naive.weights(exact, mask[n].numpy(), 1.7)
        np.testing.assert_allclose(found[n], exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [0.05, 1.0, 4.0])
def test_official_equals_the_published_formula_on_ragged_groups(group, scale):
    """At `scale` 0.05 ended members dominate, at 4 the clamp bites."""
    hidden, mask, head = group
    hidden = scale * hidden
    found, scores = token_weights(hidden, mask, head, measure="official", alpha=1.7)
    for n in range(GROUPS):
        exact, exact_scores = naive.official(hidden[n].double() @ head.double().T, mask[n], 1.7)
        np.testing.assert_allclose(scores[n], exact_scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[n], exact, rtol=0, atol=1e-5)


def test_visual_weights_are_what_the_media_change(group):
    hidden, mask, head = group
    blind = hidden.clone()
    blind[:, :, 4] = hidden.roll(1, 1)[:, :, 4] + 1  # only here the media matter
    _, scores = token_weights(hidden, mask, head, measure="visual", blind=blind)
    seen, unseen = ((h.double() @ head.double().T).log_softmax(-1) for h in (hidden, blind))
    change = (seen.exp() * (seen - unseen)).sum(-1) * mask
    shared = mask.sum(1) >= 2
    exact = torch.where(shared, change.sum(1) / mask.sum(1).clamp_min(1), 0.0)
    np.testing.assert_allclose(scores, exact, rtol=1e-4, atol=1e-5)
    assert scores[0].argmax() == 4


@pytest.mark.parametrize("measure", ["visual", "divergence"])
def test_states_without_media_are_for_visual_weights_only(group, measure):
    hidden, mask, head = group
    blind = None if measure == "visual" else hidden
    with pytest.raises(ValueError, match="without media"):
        token_weights(hidden, mask, head, measure=measure, blind=blind)


def test_official_follows_length_where_divergence_does_not(group):
    """The defect that `official` is there to show: ended members alone raise its weights."""
    hidden, mask, head = group
    alike = hidden[:1, :1].expand(1, MEMBERS, LENGTH, WIDTH) * 0.3  # all predict the same
    official, _ = token_weights(alike, mask[:1], head, measure="official")
    divergence, _ = token_weights(alike, mask[:1], head)
    assert official[0, 3:7].mean() > 1.3  # three of five members ended
    torch.testing.assert_close(divergence, torch.ones(1, LENGTH), rtol=0, atol=0.02)


def test_the_geometric_measure_of_unclamped_logits_has_its_closed_form(group):
    """mean_i L_i − logsumexp(W h̄), without any member's logits."""
    hidden, _, head = (tensor.double() for tensor in group)
    everyone = torch.ones(GROUPS, MEMBERS, LENGTH)
    closed = (hidden @ head.T).logsumexp(-1).mean(1) - (hidden.mean(1) @ head.T).logsumexp(-1)
    found = token_scores(hidden, everyone, head, measure="geometric")
    torch.testing.assert_close(found.double(), closed, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("measure", ["divergence", "geometric", "entropy"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loses_no_more_than_its_rounded_inputs(group, dtype, measure):
    hidden, mask, head = group
    hidden, head, bias = hidden.to(dtype), head.to(dtype), torch.randn(VOCABULARY).to(dtype)
    found = token_scores(hidden, mask, head, bias, measure=measure)
    exact = getattr(naive, measure)(
        hidden[0].double().numpy(),
        mask[0].numpy(),
        head.double().numpy(),
        bias=bias.double().numpy(),
    )
    np.testing.assert_allclose(found[0], exact, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("tile", [1, 7, 1000])
def test_the_tile_size_changes_nothing(group, tile, measure):
    hidden, mask, head = group
    expected = token_scores(hidden, mask, head, measure=measure)
    found = token_scores(hidden, mask, head, measure=measure, tile=tile)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_order_of_members_changes_nothing(group, measure):
    hidden, mask, head = group
    order = torch.tensor([3, 0, 4, 2, 1])
    expected, _ = token_weights(hidden, mask, head, measure=measure)
    found, _ = token_weights(hidden[:, order], mask[:, order], head, measure=measure)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("measure", MEASURES)
def test_normalized_weights_average_one_over_the_tokens_of_each_group(group, measure):
    hidden, mask, head = group
    found, _ = token_weights(hidden, mask, head, measure=measure, alpha=3.0, normalize=True)
    tokens = found[:, None].expand(mask.shape) * mask
    torch.testing.assert_close(tokens.sum((1, 2)) / mask.sum((1, 2)), torch.ones(GROUPS))
    plain, _ = token_weights(hidden, mask, head, measure=measure, alpha=3.0)
    torch.testing.assert_close(found / found[:, :1], plain / plain[:, :1])


@pytest.mark.parametrize("measure", ["divergence", "geometric", "entropy"])
def test_padding_and_ended_members_change_nothing(group, measure):
    hidden, mask, head = group
    expected, _ = token_weights(hidden, mask, head, measure=measure)
    hidden = torch.where(mask[..., None], hidden, 1e4)  # whatever ended members hold
    padded = torch.nn.functional.pad(hidden, (0, 0, 0, 6), value=-1e4)
    mask = torch.nn.functional.pad(mask, (0, 6))
    found, _ = token_weights(padded, mask, head, measure=measure)
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


@pytest.mark.parametrize("measure", MEASURES)
def test_extreme_logits_stay_finite(group, measure):
    hidden, mask, head = group
    bias = torch.zeros(VOCABULARY)
    bias[:3] = -3e4
    found, scores = token_weights(hidden * 1e3, mask, head, bias, measure=measure)
    assert found.isfinite().all()
    assert scores.isfinite().all()


@pytest.mark.parametrize("measure", ["divergence", "geometric", "entropy"])
def test_forbidden_tokens_take_no_part(group, measure):
    hidden, mask, head = group
    bias = torch.zeros(VOCABULARY)
    bias[:3] = -3e4
    expected = token_scores(hidden, mask, head[3:], measure=measure)
    found = token_scores(hidden, mask, head, bias, measure=measure)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_group_that_wrote_nothing_has_weights_of_one(group, measure):
    hidden, mask, head = group
    empty = torch.zeros_like(mask)
    for normalize in (False, True):
        found, scores = token_weights(hidden, empty, head, measure=measure, normalize=normalize)
        assert torch.equal(found, torch.ones(GROUPS, LENGTH))
        assert torch.equal(scores, torch.zeros(GROUPS, LENGTH))


@pytest.mark.parametrize("measure", MEASURES)
def test_weights_carry_no_gradient(group, measure):
    hidden, mask, head = group
    found, _ = token_weights(hidden.requires_grad_(), mask, head.requires_grad_(), measure=measure)
    assert not found.requires_grad


def test_an_unknown_measure_is_named(group):
    with pytest.raises(ValueError, match="measure is 'loudness'; one of divergence, geometric"):
        token_weights(*group, measure="loudness")


def test_a_mask_of_another_shape_is_named(group):
    hidden, mask, head = group
    with pytest.raises(ValueError, match=r"mask is \(3, 5, 10\), hidden is \(3, 5, 11, 16\)"):
        token_weights(hidden, mask[..., 1:], head)
