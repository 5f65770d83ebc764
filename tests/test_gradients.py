"""The meter of gradients: its statistics are those of their definitions, its arms what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import sums
from benchmarks.gradients import (
    CREDITS,
    DIMENSIONS,
    PRIOR,
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
    options_of,
    signal_to_noise,
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


def test_a_branch_is_compared_with_those_who_wrote_the_same_before_it():
    tokens = torch.tensor([[[1, 2, 3], [1, 2, 4], [1, 5, 6], [7, 8, 9]]])
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.5]])
    none = torch.zeros(1)
    groups = Groups(tokens, tokens > 0, none, None, (none, None), {}, {}, none, none, none, list)
    found = branches(groups, rewards)[0]
    for i in range(4):
        others = [j for j in range(4) if j != i]
        prior = PRIOR * rewards[0, others].mean()
        for place in range(3):
            same = [j for j in others if tokens[0, j, :place].equal(tokens[0, i, :place])]
            base = (rewards[0, same].sum() + prior) / (len(same) + PRIOR)
            assert found[i, place] == pytest.approx((rewards[0, i] - base).item(), abs=1e-6)


def test_credit_by_option_adds_up_to_the_reward_of_all_options(groups):
    """Summed over options, what each is credited with is the advantage of the whole reward."""
    right = torch.rand(4, 5, sums.OPTIONS, generator=torch.Generator().manual_seed(0)).round()
    about = torch.arange(sums.OPTIONS + 1).expand(4, 5, -1) - 1  # one token of each, after another
    formed = torch.zeros(4, 5)
    asked = replace(groups, options=about, right=right, formed=formed)
    advantages = by_option(asked, right.mean(2))
    torch.testing.assert_close(advantages[..., 1:].sum(2), advantages[..., 0])


def test_tokens_are_about_the_option_that_their_line_begins_with():
    pieces = ["<think>", "seen", " so", "\n", "A", " red", " no;\n", "B", " blue", "</think>"]
    pieces += ["<answer>", "B", ",", "C", "</answer>"]
    about = options_of([pieces], (1, 1, len(pieces)))[0, 0].tolist()
    assert about == [-1, -1, -1, -1, 0, 0, 0, 1, 1, -1, -1, 1, -1, 2, -1]


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
    weightings, rewards, credit = measured(batches, list(policy.parameters()), 3)
    assert [line.arm for line in weightings] == [name for name in WEIGHTINGS if name != "visual"]
    assert weightings[0].difference == 0
    assert {line.arm for line in rewards} >= {"soft_accuracy", "exact_accuracy"}
    assert weightings[0].weight["all"] == pytest.approx(1)
    assert [line.arm for line in credit] == list(CREDITS)
    assert all(np.isfinite(line.snr_error) for line in [*weightings, *rewards])
