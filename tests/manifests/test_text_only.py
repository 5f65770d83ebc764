"""Blind strategies find what is planted for them, and nothing where nothing is."""

from __future__ import annotations

import doctest
import random
from collections.abc import Callable
from math import comb

import pytest

from nontrivial.manifests import text_only
from nontrivial.manifests.answers import exact_score, letters, soft_score
from nontrivial.manifests.text_only import best_blind

Made = tuple[str, list[str], list[bool]]


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(text_only).failed == 0


def ask(make: Callable[[random.Random], Made], count: int = 300, seed: int = 0):
    """`best_blind` on `count` made questions, each in a group of its own."""
    rng = random.Random(seed)
    made = [make(rng) for _ in range(count)]
    questions, options, right = zip(*made, strict=True)
    return best_blind(questions, options, right, [f"{i:05d}" for i in range(count)])


def texts(rng: random.Random, count: int = 4) -> list[str]:
    return [
        f"{kind} {'x' * n}" for n, kind in rng.sample(list(enumerate(["good", "poor"] * 6)), count)
    ]


def planted(strategy: str) -> Callable[[random.Random], Made]:
    def make(rng: random.Random) -> Made:
        options = texts(rng)
        lengths = [len(option) for option in options]
        says_not = rng.random() < 0.5
        right = {
            "letter": [False, True, True, False],
            "longest": [length == max(lengths) for length in lengths],
            "shortest": [length != max(lengths) for length in lengths],
            "likely texts": ["good" in option for option in options],
            "reading NOT": [says_not == (place == 0) for place in range(4)],
        }[strategy]
        if not any(right):
            return make(rng)
        return "Which is not it?" if says_not else "Which is it?", options, right

    return make


@pytest.mark.parametrize(
    "strategy", ["letter", "longest", "shortest", "likely texts", "reading NOT"]
)
def test_each_shortcut_that_is_planted_is_found(strategy):
    best = ask(planted(strategy))
    for score in ("soft", "strict"):
        assert best[score].score > 0.97
        assert strategy in best[score].strategy


def test_where_nothing_is_planted_blind_strategies_get_chance():
    def coin(rng: random.Random) -> Made:
        verdict = rng.random() < 0.5
        return "Same?", ["Yes", "No"], [verdict, not verdict]

    assert ask(coin, 4000)["soft"].score == pytest.approx(0.5, abs=0.03)


def test_texts_that_never_repeat_cannot_be_learned_by_heart():
    def unique(rng: random.Random) -> Made:
        right = rng.randrange(4)
        return "Which?", [f"{rng.random():.9f}" for _ in range(4)], [i == right for i in range(4)]

    assert ask(unique, 2000)["soft"].score < 0.3


def test_groups_are_never_split_between_learning_and_scoring():
    """Every text comes twice, both times in the same group: nothing can be learned from it."""
    rng = random.Random(0)
    options, right, groups = [], [], []
    for group in range(1000):
        place = rng.randrange(4)
        options += [[f"{group} {i}" for i in range(4)]] * 2
        right += [[i == place for i in range(4)]] * 2
        groups += [f"{group:04d}"] * 2
    assert best_blind(["Which?"] * 2000, options, right, groups)["soft"].score < 0.3


def test_the_scores_of_the_first_k_are_the_scores_of_their_letters():
    rng = random.Random(1)
    for _ in range(200):
        count = rng.randint(2, 6)
        right = [rng.random() < 0.5 for _ in range(count)]
        right[rng.randrange(count)] = True
        truth = {letter for letter, good in zip(letters(count), right, strict=True) if good}
        flat = text_only._Flat.of([["x"] * count], [right])
        scores = text_only._scores(flat, -text_only.np.arange(float(count)))
        for k in range(1, count + 1):
            chosen = letters(count)[:k]
            assert scores["soft"][0, k - 1] == pytest.approx(soft_score(chosen, truth))
            assert scores["strict"][0, k - 1] == exact_score(chosen, truth)


@pytest.mark.parametrize(("right", "count"), [(1, 4), (3, 4), (2, 5), (4, 5), (5, 5)])
def test_random_right_options_earn_what_picking_k_at_random_earns(right, count):
    def make(rng: random.Random) -> Made:
        kept = rng.sample(range(count), right)
        return (
            "Which?",
            [f"{rng.random():.9f}" for _ in range(count)],
            [i in kept for i in range(count)],
        )

    best_k = max(
        comb(right, k) / comb(count, k) * k / right for k in range(1, count + 1) if k <= right
    )
    assert ask(make, 3000)["soft"].score == pytest.approx(best_k, abs=0.03)


def test_a_single_question_has_a_score():
    best = best_blind(["Which?"], [["x", "y"]], [[True, False]], ["g"])
    assert best["soft"].score in (0.0, 1.0)


def words(rng: random.Random) -> Made:
    """Every option is another text; the right one has one of three words."""
    options = [f"{rng.choice('pqr')} {rng.random():.9f}" for _ in range(3)]
    right = rng.randrange(4)
    options.insert(right, f"{rng.choice('xyz')} {rng.random():.9f}")
    return "Which?", options, [place == right for place in range(4)]


def test_a_bag_of_words_finds_what_no_named_strategy_can():
    best = ask(words, 600)["strict"]
    assert best.strategy == "bag of words"
    assert best.score > 0.95


def test_a_bag_of_words_reads_not():
    def turned(rng: random.Random) -> Made:
        question, options, right = words(rng)
        if rng.random() < 0.5:
            return question, options, right
        return "Which is NOT?", options, [not truth for truth in right]

    assert ask(turned, 1200)["strict"].score > 0.95


def test_few_questions_have_no_learned_rule():
    assert ask(words, 150)["strict"].strategy != "bag of words"


def test_a_bag_of_words_is_fitted_on_a_sample_that_the_order_does_not_change(monkeypatch):
    monkeypatch.setattr(text_only.bag_of_words, "FITTED", 400)
    rng = random.Random(1)
    made = [words(rng) for _ in range(500)]
    groups = [f"{i // 2:05d}" for i in range(500)]

    def learn(order: list[int]) -> dict[int, float]:
        questions, options, right = zip(*(made[i] for i in order), strict=True)
        found = text_only.learn(questions, options, right, [groups[i] for i in order])
        assert 150 <= len(found.rows) <= 200
        return {order[row]: score for row, score in zip(found.rows, found.strict, strict=True)}

    assert learn(list(range(500))) == learn(list(range(499, -1, -1)))
