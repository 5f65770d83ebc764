"""Parts of a micro-batch are as even as they can be, and have its gradient."""

from __future__ import annotations

import doctest
from itertools import combinations

import numpy as np
import pytest
import torch

from nontrivial.train import micro_batches
from nontrivial.train.config import ROW_MEANS, TOKEN_MEANS
from nontrivial.train.micro_batches import Row, needed, split
from tests.train.conftest import GROUP, distinct_letters, pairs, videos


def drawn(seed: int) -> list[Row]:
    """Two groups of completions, some of them empty."""
    draw = np.random.default_rng(seed)
    before = draw.integers(1, 30, 2)
    return [Row(n // 4, before[n // 4], int(draw.integers(0, 20))) for n in range(8)]


def tokens(rows: list[Row], share: bool) -> int:
    """What one forward pass over the rows reads."""
    if share:
        return sum({r.prompt: r.before for r in rows}.values()) + sum(r.length for r in rows)
    return len(rows) * (max(r.before for r in rows) + max(r.length for r in rows))


def best(rows: list[Row], count: int, share: bool) -> int:
    """The smallest possible size of the largest of `count` runs of rows, by trying all."""
    ways = combinations(range(1, len(rows)), count - 1)
    runs = (zip([0, *way], [*way, len(rows)], strict=True) for way in ways)
    return min(max(tokens(rows[a:b], share) for a, b in way) for way in runs)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_the_largest_part_is_as_small_as_it_can_be(seed, share):
    rows = drawn(seed)
    for count in range(1, len(rows) + 1):
        parts = split(rows, count, share=share)
        found = [row for part in parts for row in rows[part]]
        assert found == rows
        assert [bool(rows[part]) for part in parts] == [True] * count
        assert max(tokens(rows[part], share) for part in parts) == best(rows, count, share)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_no_fewer_parts_would_do(seed, share):
    rows = drawn(seed)
    longest = max(row.before + row.length for row in rows)
    for limit in range(longest, 2 * longest):
        count = needed(rows, limit, share=share)
        assert best(rows, count, share) <= limit
        assert count == 1 or best(rows, count - 1, share) > limit


def test_a_row_beyond_the_limit_is_alone():
    rows = [Row(0, 5, 5), Row(0, 5, 90), Row(0, 5, 5)]
    assert needed(rows, 20) == 3
    assert needed(rows, 1) == 3


def test_examples():
    assert doctest.testmod(micro_batches).failed == 0


def trained(make_trainer, samples, **options) -> tuple[dict, list[int]]:
    """The parameters after a step on ragged completions, and the tokens of each forward pass."""
    torch.manual_seed(0)
    trainer = make_trainer(samples, **options)
    lengths = torch.randint(1, 11, (16,), generator=torch.Generator().manual_seed(1))

    def sample(ids, *_):
        draw = torch.Generator().manual_seed(len(ids))
        return [torch.randint(0, 200, (int(n),), generator=draw).tolist() for n in lengths], None

    trainer._generate_single_turn = sample
    sizes = []
    trainer.model.base_model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(kwargs["inputs_embeds"].shape[1]),
        with_kwargs=True,
    )
    trainer.train()
    return {name: p.detach() for name, p in trainer.model.named_parameters()}, sizes


@pytest.mark.parametrize("dropped", [False, True], ids=["all", "varied"])
@pytest.mark.parametrize("loss_type", [*ROW_MEANS, *TOKEN_MEANS, "bnpo"])
def test_parts_have_the_gradient_of_the_whole(make_trainer, loss_type, dropped):
    def dull(completions, id, **_):
        varied = distinct_letters(completions)
        return [0.5 if name == "pair-1" else r for name, r in zip(id, varied, strict=True)]

    samples = pairs(2) + videos(2)
    options = {
        "loss_type": loss_type,
        "reward": dull,
        "drop_zero_variance": dropped,
        "beta": 0.1,
        "alpha": 3.0,
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 2 * GROUP,
    }
    whole, sizes = trained(make_trainer, samples, **options)
    limit = 310  # between the tokens of one group and of two
    parts, smaller = trained(make_trainer, samples, **options, max_tokens_per_micro_batch=limit)
    assert max(smaller) <= limit < max(sizes)
    assert len(smaller) > len(sizes)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=0, atol=1e-6)


def test_parts_are_counted_once(make_trainer):
    """A step of two micro-batches in several parts is one step, with one rollout."""
    trainer = make_trainer(pairs(4), gradient_accumulation_steps=2, max_tokens_per_micro_batch=300)
    trainer.train()
    assert (trainer.state.global_step, trainer._step) == (1, 2)
    assert trainer.state.log_history[0]["step_time"] > 0
