"""Credit by option: what a verdict changed, for the words that are about it."""

from __future__ import annotations

import doctest
import statistics

import pytest
import torch

from nontrivial.manifests import answers
from nontrivial.train import credit
from nontrivial.train.credit import SCORES, Verdicts, by_option, of_each_option, options_told
from nontrivial.train.rewards import REWARDS
from tests.train.conftest import GROUP, videos

LETTERS = "ABCD"
REFERENCES = {
    "soft_accuracy": lambda chosen, right, _: answers.soft_score(chosen, right),
    "exact_accuracy": lambda chosen, right, _: answers.exact_score(chosen, right),
    "per_option": answers.per_option_score,
    "balanced_options": answers.balanced_score,
}


def drawn(seed: int = 0) -> Verdicts:
    """Four groups of five; some answers can't be read, one question has three options."""
    rng = torch.Generator().manual_seed(seed)
    chosen = torch.rand(4, 5, 4, generator=rng) < 0.6
    right = torch.rand(4, 4, generator=rng) < 0.5
    asked = torch.ones(4, 4, dtype=torch.bool)
    chosen[0, 0] = chosen[1, :, 3] = right[1, 3] = asked[1, 3] = False
    right[:, 0] = True
    return Verdicts(chosen, right, asked)


def named(row: list[bool]) -> set[str]:
    return {letter for letter, is_in in zip(LETTERS, row, strict=True) if is_in}


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(credit).failed == 0


@pytest.mark.parametrize("name", SCORES)
def test_a_score_is_that_of_the_reward(name):
    verdicts = drawn()
    found = verdicts.earned(SCORES[name])
    for row in range(4):
        right, count = named(verdicts.right[row].tolist()), int(verdicts.asked[row].sum())
        options = [["a"] * count] * 5
        told = [named(each) for each in verdicts.chosen[row].tolist()]
        written = [f"<answer>{','.join(sorted(each))}</answer>" for each in told]
        expected = REWARDS[name](completions=written, answer=[sorted(right)] * 5, options=options)
        assert found[row].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", SCORES)
def test_one_verdict_is_left_to_the_group(name):
    """What is earned, less the mean of what it would be with each member's verdict."""
    verdicts = drawn()
    found = of_each_option(SCORES[name], verdicts)
    for row in range(4):
        right, count = named(verdicts.right[row].tolist()), int(verdicts.asked[row].sum())
        told = [named(each) for each in verdicts.chosen[row].tolist()]
        read = [each for each in told if each]
        for member, mine in enumerate(told):
            for option, letter in enumerate(LETTERS[:count]):
                others = [mine - {letter} | each & {letter} for each in read]
                score = [REFERENCES[name](each, right, count) for each in (mine, *others)]
                expected = score[0] - statistics.mean(score[1:])
                if mine:
                    assert found[row, member, option] == pytest.approx(expected, abs=1e-6)


def test_only_words_about_an_option_are_credited_with_it():
    verdicts = drawn()
    own, whole = torch.rand(4, 5, 4), torch.rand(4, 5)
    about = torch.arange(-1, 4).expand(4, 5, -1)
    found = by_option(own, whole, about, verdicts)
    expected = torch.cat([whole[..., None], own], 2)
    unread = ~verdicts.readable
    expected[unread] = whole[unread][:, None]
    expected[1, :, 4] = whole[1]  # is not asked
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (
            ["<", "think", ">\n", "Option", " A", ":", " no", "\n\n", "Option", " B", ":", " yes"],
            [-1, -1, -1, -1, -1, 0, 0, 0, 0, -1, 1, 1],
        ),
        (["<think>", "A", " man", " walks", ".\n", "So", " B"], [-1] * 7),
        (
            ["<think>", "- **A", ".**", " no\n(", "B", ") yes", "</think>"],
            [-1, -1, 0, 0, -1, 1, -1],
        ),
        (["<think>", "A", " no\n", "E", " yes\n", "B", " no"], [-1, -1, 0, 0, 0, -1, 1]),
    ],
    ids=["real tokens", "an article", "lists", "a letter too many"],
)
def test_words_are_about_the_option_that_their_line_begins_with(pieces, expected):
    assert options_told(pieces, 3) == expected


@pytest.fixture
def write(make_trainer):
    """Make a trainer whose completions of one question are given; return it and its batch."""

    def sampled(texts, *rewards):
        trainer = make_trainer(
            videos(4),
            [REWARDS[name] for name in rewards],
            credit="option",
            scale_rewards="none",
            token_weighting="none",
            max_completion_length=100,
        )
        tokens = [trainer._tokenizer(text)["input_ids"] for text in texts]
        trainer._generate_single_turn = lambda *_, **__: (tokens, None)
        trainer.model.train()
        return trainer, trainer.rollout([0] * GROUP)

    return sampled


def test_a_trainer_credits_words_about_an_option_with_its_verdict(write):
    texts = [
        "<think>A no\nB yes</think><answer>B,D</answer>",
        "<think>A no\nB no</think><answer>D</answer>",
        "<think>A yes\nB yes</think><answer>A,B,D</answer>",
        "no answer",
    ]
    trainer, batch = write(texts, "per_option", "format")
    told = [options_told(trainer._texts(ids), 4) for ids in batch["completion_ids"].tolist()]
    # B is chosen by two of the three that can be read; the others' verdicts stay as they are.
    own = [1 - (2 * 1 + 0.75) / 3, 0.75 - (2 * 1 + 0.75) / 3, 0.75 - (2 * 0.75 + 0.5) / 3]
    whole = [2 - 1.375, 1.75 - 1.375, 1.75 - 1.375, -1.375]
    for row, about in enumerate(told):
        live = batch["completion_mask"][row].tolist()
        assert (1 in about) == (row < 3)
        for option, is_live, found in zip(about, live, batch["advantages"][row], strict=True):
            if is_live and option in (-1, 1):
                expected = own[row] + 0.25 if option == 1 else whole[row]  # a quarter for the form
                assert found == pytest.approx(expected, abs=1e-5)


def test_a_group_with_equal_rewards_and_other_verdicts_has_something_to_learn(write):
    texts = ["<think>A no\nB no</think><answer>D</answer>"] * 2
    texts += ["<think>A yes\nB yes</think><answer>A,B,D</answer>"] * 2
    trainer, batch = write(texts, "per_option")
    assert len({*trainer._logs["rewards"]["per_option"]}) == 1
    assert batch["varied"].all()


def test_credit_by_option_needs_rewards_of_options_as_they_are(make_trainer):
    with pytest.raises(ValueError, match="give one of the rewards soft_accuracy"):
        make_trainer(videos(4), credit="option", scale_rewards="none")
    with pytest.raises(ValueError, match="credit is 'none'; one of whole, option"):
        make_trainer(videos(4), credit="none")
    with pytest.raises(ValueError, match="give scale_rewards none"):
        make_trainer(videos(4), [REWARDS["per_option"]], credit="option")
