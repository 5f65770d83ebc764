"""The meter of gradients: its statistics are those of their definitions, its arms what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import sums
from benchmarks.gradients import (
    ADVANTAGES,
    DIMENSIONS,
    PRIOR,
    REWARDS,
    WEIGHTINGS,
    Groups,
    Sketch,
    branches,
    by_option,
    centred,
    cosines,
    entropies,
    measured,
    of_sums,
    signal_to_noise,
    with_virtual,
)
from nontrivial.manifests import answers


@pytest.fixture(scope="module")
def policy() -> sums.SumsPolicy:
    return sums.SumsPolicy()


@pytest.fixture(scope="module")
def groups(policy) -> Groups:
    torch.manual_seed(0)
    return next(of_sums(policy, 0, prompts=4, members=5))


def test_cosines_leave_each_batch_out_of_the_sum():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3, 6, 20)) + 0.5  # arms, batches
    flat = vectors.reshape(18, 20)
    gram = (flat @ flat.T).reshape(3, 6, 3, 6)
    found = cosines(gram, 2, 0)
    for k in range(6):
        others = np.delete(vectors[0], k, 0).sum(0)
        own = vectors[2, k]
        assert found[k] == pytest.approx(
            own @ others / np.linalg.norm(own) / np.linalg.norm(others)
        )


def test_the_signal_is_unbiased_and_its_error_is_the_spread_of_repetitions():
    rng = np.random.default_rng(1)
    mean = np.full(50, 0.3)
    draws = [mean + rng.normal(size=(24, 50)) for _ in range(200)]
    ratios, errors = zip(*(signal_to_noise(x @ x.T) for x in draws), strict=True)
    assert np.mean(ratios) == pytest.approx(mean @ mean / 50, rel=0.05)
    assert np.mean(errors) == pytest.approx(2 * np.std(ratios), rel=0.2)


def test_a_sketch_keeps_inner_products():
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.zeros(300, 400)), torch.nn.Parameter(torch.zeros(7))]
    first = [torch.randn(300, 400), torch.randn(7)]
    second = [0.6 * first[0] + 0.8 * torch.randn(300, 400), None]
    exact = [Sketch(120_007, DIMENSIONS)(parts, parameters) for parts in (first, second)]
    small = [Sketch(120_007, 1 << 14)(parts, parameters) for parts in (first, second)]
    assert len(small[0]) == 1 << 14
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(*small, dim=0) == pytest.approx(cosine(*exact, dim=0).item(), abs=0.03)


def test_arms_without_weights_and_with_them_differ_only_by_weights(groups):
    rewards = torch.rand(4, 5, generator=torch.Generator().manual_seed(0))
    plain = centred(rewards)
    for name in ("divergence", "official", "geometric", "entropy", "own entropy"):
        weights = WEIGHTINGS[name](groups, rewards) / plain[..., None]
        live = weights[groups.mask & (plain[..., None] != 0)]
        assert live.min() >= 1 - 1e-5
        assert live.max() <= 1.7 + 1e-5


def test_top_entropy_keeps_a_fifth_of_the_tokens(groups):
    kept = WEIGHTINGS["top entropy"](groups, torch.arange(20.0).view(4, 5)) != 0
    varied = groups.mask & (centred(torch.arange(20.0).view(4, 5))[..., None] != 0)
    assert (kept & varied).sum() / varied.sum() == pytest.approx(0.2, abs=0.08)
    assert entropies(groups)[~groups.mask].eq(0).all()


def test_a_branch_is_compared_with_those_who_wrote_the_same_before_it(groups):
    tokens = torch.tensor([[[1, 2, 3], [1, 2, 4], [1, 5, 6], [7, 8, 9]]])
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.5]])
    found = branches(replace(groups, tokens=tokens, mask=tokens > 0), rewards)[0]
    for i in range(4):
        others = [j for j in range(4) if j != i]
        prior = PRIOR * rewards[0, others].mean()
        for place in range(3):
            same = [j for j in others if tokens[0, j, :place].equal(tokens[0, i, :place])]
            base = (rewards[0, same].sum() + prior) / (len(same) + PRIOR)
            assert found[i, place] == pytest.approx((rewards[0, i] - base).item(), abs=1e-6)


def test_credit_by_option_adds_the_format_to_every_token(groups):
    other = replace(groups, formed=groups.formed + torch.rand(4, 5))
    found = by_option("per_option", groups)
    changed = by_option("per_option", other) - found
    told = (groups.about >= 0) & groups.verdicts.readable[..., None]
    expected = centred(other.formed - groups.formed)[..., None].expand_as(found)
    torch.testing.assert_close(changed, expected * told)


@pytest.mark.parametrize(("which", "earned"), [("right", 1.0), ("wrong", 0.0)])
def test_virtual_rewards_move_groups_that_are_all_right_or_all_wrong(groups, which, earned):
    formed = torch.full((4, 5), 0.5)
    accuracy = torch.rand(4, 5, generator=torch.Generator().manual_seed(0)) / 2 + 0.25
    accuracy[1] = earned
    rewards = {"soft_accuracy": accuracy + formed}
    told = replace(groups, rewards=rewards, formed=formed)
    found = with_virtual(which, "soft_accuracy", told)
    plain = centred(rewards["soft_accuracy"])[..., None].expand_as(found)
    assert found[[0, 2, 3]].equal(plain[[0, 2, 3]])
    assert (found[1] > 0).all() if which == "right" else (found[1] < 0).all()
    other = "wrong" if which == "right" else "right"
    assert with_virtual(other, "soft_accuracy", told).equal(plain)


def test_the_task_of_sums_is_spelled_and_read_back():
    rng = torch.Generator().manual_seed(0)
    asked, truths = sums.draw(50, rng)
    assert truths.any(1).all()
    digits = asked[:, :-1].view(50, sums.OPTIONS, 5)[..., 1:]
    assert ((digits[..., :2].sum(-1) > digits[..., 2:].sum(-1)) == truths).all()
    for free in (False, True):
        told, formed = sums.answered(sums.spelled(truths, rng, free_order=free))
        assert formed.all()
        assert (told == truths).all()


def test_answers_follow_verdicts_where_they_choose_what_is_said_to_be_right():
    rng = torch.Generator().manual_seed(0)
    _, truths = sums.draw(50, rng)
    told = sums.spelled(truths, rng, free_order=True)
    assert sums.followed(told) == 1
    half = told.clone()
    half[:25] = torch.where(half[:25] == sums.YES, sums.NO, half[:25])
    assert sums.followed(half) == pytest.approx(1 - truths[:25].float().mean().item() / 2)


def test_a_policy_of_sums_samples_what_it_scores(policy):
    rng = torch.Generator().manual_seed(0)
    asked, _ = sums.draw(6, rng)
    sampled = sums.sample(policy, asked, rng)
    scores = policy.head(sampled.hidden).log_softmax(-1)
    told = scores.gather(2, sampled.completions[..., None])[..., 0]
    again = policy.log_probs(asked, sampled.completions)
    torch.testing.assert_close(told[sampled.mask], again[sampled.mask], rtol=1e-4, atol=1e-4)


def test_rewards_of_sums_are_those_of_the_trainer(groups):
    names = answers.letters(sums.OPTIONS)
    assert names == list("ABCDEF")
    assert set(groups.rewards) == {
        "soft_accuracy",
        "exact_accuracy",
        "per_option",
        "balanced_options",
    }
    assert groups.rewards["exact_accuracy"].le(groups.rewards["soft_accuracy"] + 1e-6).all()


def test_the_meter_tells_every_arm(policy):
    """An untrained policy earns nothing, so its rewards are drawn."""
    rng = torch.Generator().manual_seed(0)

    def drawn(groups: Groups) -> Groups:
        made = {name: torch.rand(2, 4, generator=rng) for name in groups.rewards}
        verdicts = {"all": groups.mask}
        return replace(groups, rewards=made, kinds=verdicts)

    batches = map(drawn, of_sums(policy, 1, prompts=2, members=4))
    weightings, rewards, advantages = measured(batches, list(policy.parameters()), 3)
    assert [line.arm for line in weightings] == [name for name in WEIGHTINGS if name != "visual"]
    assert weightings[0].difference == 0
    assert {line.arm for line in rewards} >= {"soft_accuracy", "exact_accuracy"}
    assert weightings[0].weight["all"] == pytest.approx(1)
    arms = [f"{reward}, {name}" for name in ADVANTAGES for reward in REWARDS]
    assert [line.arm for line in advantages] == arms
    assert all(np.isfinite(line.snr_error) for line in [*weightings, *rewards])
