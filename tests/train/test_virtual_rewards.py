"""Virtual rewards: what they change, where, and what that is in the mean."""

from __future__ import annotations

import doctest
import itertools
import statistics

import pytest
import torch

from nontrivial.train import virtual_rewards
from nontrivial.train.rewards import REWARDS
from nontrivial.train.virtual_rewards import Outcome, Shares, corrected
from tests.train.conftest import GROUP, distinct_letters, videos

SHARES = Shares(0.0625, 0.03125)
RIGHT = "<think>so</think><answer>B,D</answer>"
BARE = "<answer>B,D</answer>"  # right, without the format
HALF = "<think>so</think><answer>B</answer>"
WRONG = "<think>so</think><answer>A</answer>"
UNREAD = "no answer"


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(virtual_rewards).failed == 0


def outcome(accuracy: list[float], formed: list[float]) -> Outcome:
    earned = {"soft_accuracy": torch.tensor([accuracy]), "format": torch.tensor([formed])}
    return Outcome.read(earned, {"soft_accuracy": 1.0, "format": 1.0})


def scaled(rewards: list[float], *others: float) -> list[float]:
    """GRPO's advantages of `rewards`, with `others` counted among them."""
    mean, deviation = statistics.mean([*rewards, *others]), statistics.stdev([*rewards, *others])
    return [(reward - mean) / (deviation + 1e-4) for reward in rewards]


@pytest.mark.parametrize(
    ("accuracy", "formed", "other", "share"),
    [
        ([1, 1, 1, 1], [1, 1, 1, 1], 1.5, SHARES.right),
        ([0, 0, 0, 0], [1, 1, 1, 1], 2.0, SHARES.wrong),
        ([0, 0, 0, 0], [1, 0, 1, 1], 2.0, SHARES.wrong),
        ([1, 1, 1, 1], [1, 1, 0, 1], None, 0),
        ([1, 1, 0.5, 1], [1, 1, 1, 1], None, 0),
        ([0, 0, 0.5, 0], [0, 0, 0, 0], None, 0),
    ],
    ids=["all right", "all wrong", "wrong, form varies", "form varies", "one half", "a half"],
)
def test_groups_all_right_or_all_wrong_move_to_the_virtual_reward(accuracy, formed, other, share):
    told = outcome(accuracy, formed)
    [rewards] = told.rewards.tolist()
    expected = before = scaled(rewards)
    if other is not None:
        after = scaled(rewards, other)
        expected = [b + share * (a - b) for a, b in zip(after, before, strict=True)]
    found = corrected(torch.tensor([before]), told, SHARES, scaled=True)
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_the_order_of_answers_stays_and_the_group_moves_down():
    told = outcome([0, 0, 0, 0], [1, 0, 1, 1])
    before = torch.tensor([scaled(told.rewards[0].tolist())])
    found = corrected(before, told, Shares(0, 1.0), scaled=True)
    assert found.argsort().equal(before.argsort())
    assert found.mean() < before.mean() - 0.1


def test_unscaled_advantages_move_by_the_distance_to_the_mean():
    told = outcome([1, 1, 1, 1], [1, 1, 1, 1])
    found = corrected(torch.zeros(1, 4), told, Shares(0.5, 0), scaled=False)
    torch.testing.assert_close(found, torch.full((1, 4), 0.5 * (2 - (4 * 2 + 1.5) / 5)))


def test_in_the_mean_it_is_the_gradient_of_the_chance_that_all_are_right():
    """Every group of three right or wrong answers, weighted by its chance."""
    chance = torch.tensor(0.4, requires_grad=True)
    total = torch.zeros(())
    for drawn in itertools.product((1.0, 0.0), repeat=3):
        told = outcome(list(drawn), [1.0] * 3)
        moved = corrected(torch.zeros(1, 3), told, Shares(1.0, 0), scaled=False)[0]
        log_p = torch.stack([chance.log() if right else (1 - chance).log() for right in drawn])
        total = total + log_p.sum().exp().detach() * (moved * log_p).sum()
    [found] = torch.autograd.grad(total, chance)
    [expected] = torch.autograd.grad(chance**3, chance)
    advantage = 2 - (3 * 2 + 1.5) / 4
    torch.testing.assert_close(found, advantage * expected)


@pytest.fixture
def rollout(make_trainer):
    """Return the batch of a trainer whose completions of one question are given."""

    def sampled(texts, **options):
        rewards = [REWARDS[name] for name in ("soft_accuracy", "format")]
        settings = {"token_weighting": "none", "max_completion_length": 100, **options}
        trainer = make_trainer(videos(4), rewards, **settings)
        tokens = [trainer._tokenizer(text)["input_ids"] for text in texts]
        trainer._generate_single_turn = lambda *_, **__: (tokens, None)
        trainer.model.train()
        return trainer.rollout([0] * GROUP)

    return sampled


def test_a_trainer_learns_from_groups_that_are_all_right_or_all_wrong(rollout):
    shares = {"virtual_right": 0.5, "virtual_wrong": 0.25}
    right = rollout([RIGHT] * GROUP, **shares)
    expected = 0.5 * scaled([2.0] * GROUP, 1.5)[0]
    assert right["advantages"].tolist() == pytest.approx([expected] * GROUP, rel=1e-4)
    assert right["varied"].all()
    wrong = rollout([WRONG] * (GROUP - 1) + [UNREAD], **shares)
    rewards = [1.0] * (GROUP - 1) + [0.0]
    before, after = scaled(rewards), scaled(rewards, 2.0)
    expected = [b + 0.25 * (a - b) for a, b in zip(after, before, strict=True)]
    assert wrong["advantages"].tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("texts", [[RIGHT, BARE], [HALF, HALF], [WRONG, HALF]])
def test_other_groups_stay_as_they_are(rollout, texts):
    texts = texts * (GROUP // 2)
    found = rollout(texts, virtual_right=1.0, virtual_wrong=1.0)
    plain = rollout(texts)
    assert found["advantages"].equal(plain["advantages"])
    assert found["varied"].equal(plain["varied"])


def test_words_about_an_option_keep_their_credit_and_move_with_their_group(rollout):
    options = {"credit": "option", "scale_rewards": "none"}
    texts = ["<think>A no\nB yes</think><answer>B,D</answer>"] * GROUP
    found = rollout(texts, virtual_right=1.0, **options)["advantages"]
    moved = 2 - (GROUP * 2 + 1.5) / (GROUP + 1)
    torch.testing.assert_close(found, torch.full_like(found, moved))


def test_virtual_rewards_need_to_know_right_and_wrong(make_trainer):
    accuracy = REWARDS["soft_accuracy"]
    with pytest.raises(ValueError, match="give one of the rewards soft_accuracy"):
        make_trainer(videos(4), virtual_right=0.1)
    with pytest.raises(ValueError, match="leave out distinct_letters, which"):
        make_trainer(videos(4), [accuracy, distinct_letters], virtual_wrong=0.1)
    with pytest.raises(ValueError, match=r"virtual_right is 1\.5; give 0 to 1"):
        make_trainer(videos(4), [accuracy], virtual_right=1.5)
    with pytest.raises(ValueError, match="give scale_rewards group or none"):
        make_trainer(videos(4), [accuracy], virtual_right=0.1, scale_rewards="batch")
