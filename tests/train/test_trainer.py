"""The trainer's update is the policy gradient, weighted as promised, with all pixels in it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nontrivial.manifests.errors import BadInput, WorkFailed
from nontrivial.models.policy import load_policy, vision_token_ids
from nontrivial.train.config import ROW_MEANS, TOKEN_MEANS
from tests.reference import importance as naive_importance
from tests.reference import policy_gradient as naive
from tests.train.conftest import GROUP, distinct_letters, pairs, videos

KINDS = {
    "images": lambda: pairs(4),
    "videos": lambda: videos(4),
    "mixed": lambda: pairs(2) + videos(2),
}


def parameters(trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def assert_equal(found, expected, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            found[name], expected[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def spy(trainer, name: str) -> list[Any]:
    """What a method of the trainer returns, call by call."""
    returned, method = [], getattr(trainer, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        returned.append(method(*args, **kwargs))
        return returned[-1]

    setattr(trainer, name, call)
    return returned


def assert_update_is_naive(trainer) -> None:
    """Train; the update must be the naive weighted policy gradient of what was sampled.

    With `drop_zero_variance`, of the groups whose advantages are not all zero.
    """
    rollouts = spy(trainer, "_generate_and_score_completions")
    before = parameters(trainer)
    trainer.train()
    [rollout] = rollouts
    reference, _ = load_policy(trainer.model.config._name_or_path)
    scores, advantages = [], []
    for row, prompt in enumerate(rollout["prompts"]):
        live = rollout["completion_mask"][row] > 0
        group = row // GROUP * GROUP
        dull = not rollout["advantages"][group : group + GROUP].any()
        if dull and trainer.args.drop_zero_variance:
            continue
        scores.append(
            naive.log_probs(
                reference,
                prompt,
                rollout["completion_ids"][row, live],
                forbidden=vision_token_ids(reference),
            )
        )
        advantages.append(rollout["advantages"][row, live])
    longest = trainer.args.max_completion_length
    loss = naive.loss(scores, advantages, trainer.args.loss_type, longest=longest)
    loss.backward()
    moved = parameters(trainer)
    rate = trainer.args.learning_rate
    for name, parameter in reference.named_parameters():
        step = torch.zeros_like(before[name]) if parameter.grad is None else rate * parameter.grad
        torch.testing.assert_close(before[name] - moved[name], step, rtol=1e-2, atol=2e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_update_is_the_naive_weighted_policy_gradient(make_trainer, kind):
    assert_update_is_naive(make_trainer(KINDS[kind]()))


@pytest.mark.parametrize("measure", ["divergence", "geometric", "entropy", "official"])
def test_weights_are_those_of_the_logits_that_sampled(make_trainer, measure):
    trainer = make_trainer(pairs(4), alpha=2.5, token_weighting=measure)
    rollouts, hidden = spy(trainer, "_generate_and_score_completions"), []
    weigh = trainer.token_weights

    def keep(batch, flight):
        hidden.append(flight.hidden.double())
        return weigh(batch, flight)

    trainer.token_weights = keep
    head = trainer.model.get_output_embeddings().weight.detach().double().clone()
    allowed = [i for i in range(len(head)) if i not in vision_token_ids(trainer.model)]
    trainer.train()
    [rollout], [states] = rollouts, hidden
    plain = torch.tensor(list(trainer._logs["advantages"]))
    mask = rollout["completion_mask"]
    for start in range(0, 16, GROUP):
        rows = slice(start, start + GROUP)
        if measure == "official":
            w, _ = naive_importance.official(states[rows] @ head.T, mask[rows], 2.5)
        else:
            score = getattr(naive_importance, measure)
            d = score(states[rows].numpy(), mask[rows].numpy(), head[allowed].numpy())
            w = torch.tensor(naive_importance.weights(d, mask[rows].numpy(), 2.5))
        expected = plain[rows, None] * w.float()
        # Entropies under random weights are nearly equal, and scaling to 0–1 magnifies rounding.
        torch.testing.assert_close(rollout["advantages"][rows], expected, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_training_forward_sees_the_pixels(make_trainer, kind):
    trainer = make_trainer(KINDS[kind]())
    seen = []
    trainer.model.base_model.visual.register_forward_pre_hook(
        lambda module, args: seen.append(args[0]) if torch.is_grad_enabled() else None
    )
    before = parameters(trainer)
    trainer.train()
    expected = {"images": 1, "videos": 1, "mixed": 2}[kind]
    assert len(seen) == expected
    prompts = trainer._encode(trainer._samples)
    for pixels, name in zip(seen, ("image_bytes", "video_bytes"), strict=False):
        name = "video_bytes" if kind == "videos" else name
        assert len(pixels) == sum(len(prompt[name]) for prompt in prompts if name in prompt)
    vision = [name for name in before if "visual.blocks" in name]
    moved = parameters(trainer)
    assert any(not torch.equal(before[name], moved[name]) for name in vision)


def test_other_pixels_give_another_update(make_trainer, with_root):
    updates = []
    for shift in (0, 30):
        trainer = make_trainer(videos(4))
        for prompt in trainer._encode(trainer._samples):
            prompt["video_bytes"].add_(shift)
        trainer.train()
        updates.append(parameters(trainer))
    assert any(not torch.equal(updates[0][name], updates[1][name]) for name in updates[0])


@pytest.mark.parametrize("kind", KINDS)
def test_sharing_prompts_changes_speed_only(make_trainer, kind):
    results = []
    for share in (True, False):
        trainer = make_trainer(KINDS[kind](), share_prompt=share, beta=0.04, max_steps=2)
        trainer.train()
        results.append(parameters(trainer))
    assert_equal(*results, tolerance=1e-6)


def test_gradient_checkpointing_changes_memory_only(make_trainer):
    results = []
    for checkpointing in (True, False):
        trainer = make_trainer(pairs(2) + videos(2), gradient_checkpointing=checkpointing)
        trainer.train()
        results.append(parameters(trainer))
    assert_equal(*results, tolerance=1e-6)


def test_a_frozen_vision_tower_stays_as_it_is(make_trainer):
    trainer = make_trainer(videos(4), freeze_vision=True)
    before = parameters(trainer)
    trainer.train()
    moved = {name for name, value in parameters(trainer).items() if not value.equal(before[name])}
    assert moved
    assert not any("visual" in name for name in moved)


def test_alpha_one_is_no_weighting(make_trainer):
    results = []
    for options in ({"alpha": 1.0}, {"token_weighting": "none"}):
        trainer = make_trainer(pairs(2) + videos(2), **options)
        trainer.train()
        results.append(parameters(trainer))
    assert_equal(*results, tolerance=1e-7)


@pytest.mark.parametrize("loss_type", ["dapo", "dr_grpo"])
def test_micro_batches_of_any_size_give_one_update(make_trainer, loss_type):
    results = []
    for rows in (16, 8, 1):
        trainer = make_trainer(
            pairs(2) + videos(2),
            loss_type=loss_type,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=16 // rows,
        )
        trainer.train()
        results.append(parameters(trainer))
    assert_equal(results[1], results[0], tolerance=1e-6)
    assert_equal(results[2], results[0], tolerance=1e-6)


def test_rows_of_a_group_stay_in_one_micro_batch(make_trainer):
    trainer = make_trainer(
        pairs(4), per_device_train_batch_size=GROUP, gradient_accumulation_steps=4
    )
    batches = spy(trainer, "_micro_batch")
    trainer.train()
    assert len(batches) == 4
    assert all(len({id(prompt) for prompt in batch["prompts"]}) == 1 for batch in batches)


def dull_pair_1(completions, id, **_) -> list[float]:
    """A reward that is the same for all completions of one of the samples."""
    varied = distinct_letters(completions)
    return [0.5 if name == "pair-1" else r for name, r in zip(id, varied, strict=True)]


def test_groups_without_variance_are_dropped_whole(make_trainer):
    trainer = make_trainer(pairs(4), dull_pair_1, drop_zero_variance=True)
    rows = []
    score = trainer._get_per_token_logps_and_entropies

    def watch(model, input_ids, *args, **kwargs):
        rows.append(len(input_ids))
        return score(model, input_ids, *args, **kwargs)

    trainer._get_per_token_logps_and_entropies = watch
    trainer.train()
    assert rows == [3 * GROUP]
    assert trainer.state.log_history[0]["frac_reward_zero_std"] == 0.25


def a_third(completions, **_) -> list[float]:
    """A reward whose mean over eight completions is another number in float32."""
    return [1 / 3] * len(completions)


@pytest.mark.parametrize("scale_rewards", ["group", "none"])
def test_rewards_that_are_equal_but_for_rounding_have_no_variance(make_trainer, scale_rewards):
    trainer = make_trainer(
        pairs(4),
        a_third,
        num_generations=8,
        scale_rewards=scale_rewards,
        max_redraws=2,
        token_weighting="none",
    )
    asked = spy(trainer, "rollout")
    trainer.train()
    assert len(asked) == 3
    for batch in asked:
        assert not batch["varied"].any()
        assert not batch["advantages"].any()
    log = trainer.state.log_history[0]
    assert log["frac_reward_zero_std"] == log["redraw/frac_reward_zero_std"] == 1
    assert log["grad_norm"] == 0


@pytest.mark.parametrize("rows", [16, GROUP])
@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "bnpo", "dapo"])
def test_dropped_groups_are_in_no_mean(make_trainer, loss_type, rows):
    trainer = make_trainer(
        pairs(4),
        dull_pair_1,
        drop_zero_variance=True,
        loss_type=loss_type,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=16 // rows,
    )
    assert_update_is_naive(trainer)


@pytest.mark.parametrize("loss_type", [*ROW_MEANS, *TOKEN_MEANS, "bnpo"])
def test_masking_groups_without_variance_equals_dropping_them(make_trainer, monkeypatch, loss_type):
    results = []
    for processes in (1, 2):
        trainer = make_trainer(
            pairs(4), dull_pair_1, drop_zero_variance=True, loss_type=loss_type, beta=0.04
        )
        if processes == 2:  # what each of several processes does
            monkeypatch.setattr("nontrivial.train.batches.only_varied", lambda batch: batch)
        trainer.train()
        results.append(parameters(trainer))
    assert_equal(*results, tolerance=1e-6)


def test_nothing_to_learn_moves_nothing(make_trainer):
    trainer = make_trainer(
        pairs(4),
        lambda completions, **_: [1.0] * len(completions),
        drop_zero_variance=True,
        beta=0.04,
    )
    before = parameters(trainer)
    trainer.train()
    assert_equal(parameters(trainer), before, tolerance=0)


def test_an_entropy_bonus_is_not_rescaled(make_trainer):
    with pytest.raises(ValueError, match="rescale the entropy bonus"):
        make_trainer(pairs(4), drop_zero_variance=True, entropy_coef=0.1, loss_type="grpo")
    make_trainer(pairs(4), drop_zero_variance=True, entropy_coef=0.1, loss_type="dapo")


@pytest.mark.parametrize("measure", ["official", "divergence"])
def test_only_the_published_measure_weights_the_divergence_from_the_reference(
    make_trainer, measure
):
    trainer = make_trainer(pairs(4), alpha=3.0, token_weighting=measure, beta=0.5)
    batches = spy(trainer, "_micro_batch")
    compute, losses = trainer._compute_loss, []

    def with_other_reference(model, inputs):
        inputs = {**inputs, "advantages": torch.zeros_like(inputs["advantages"])}
        inputs["ref_per_token_logps"] = inputs["ref_per_token_logps"] + 0.3
        losses.append(compute(model, inputs))
        return losses[-1]

    trainer._compute_loss = with_other_reference
    trainer.train()
    [batch] = batches
    mask = batch["completion_mask"]
    apart = torch.tensor(0.3)  # the reference is this far from the policy, at every token
    weights = batch["token_weights"] if measure == "official" else torch.ones(mask.shape)
    expected = 0.5 * (apart.exp() - apart - 1) * (weights * mask).sum() / mask.sum()
    torch.testing.assert_close(losses[0], expected, rtol=1e-4, atol=1e-6)
    assert batch["token_weights"].max() > 2


def test_a_policy_with_an_adapter_is_trained_on(make_trainer, write_adapter, tmp_path):
    _, folder = write_adapter(tmp_path / "adapter")
    model, _ = load_policy(str(folder))
    trainer = make_trainer(pairs(4), model=model, processor=None)
    before = parameters(trainer)
    trainer.train()
    assert any(not value.equal(before[name]) for name, value in parameters(trainer).items())
    with pytest.raises(BadInput, match="can't be the reference"):
        make_trainer(pairs(4), model=model, processor=None, beta=0.04)


def test_several_passes_over_one_batch_use_the_weights_of_its_sampling(make_trainer):
    trainer = make_trainer(pairs(4), num_iterations=2, max_steps=2)
    rollouts, batches = (
        spy(trainer, "_generate_and_score_completions"), spy(trainer, "_micro_batch"),
    )  # fmt: skip
    trainer.train()
    assert len(rollouts) == 1
    assert torch.equal(batches[0]["advantages"], batches[1]["advantages"])


def test_the_largest_weight_warms_in(make_trainer):
    trainer = make_trainer(pairs(4), alpha=2.0, alpha_warmup_steps=4, max_steps=3)
    rollouts = spy(trainer, "_generate_and_score_completions")
    trainer.train()
    largest = [rollout["token_weights"].max().item() for rollout in rollouts]
    assert largest == pytest.approx([1.25, 1.5, 1.75])


def test_normalized_weights_keep_the_scale_of_the_loss(make_trainer):
    trainer = make_trainer(pairs(4), alpha=4.0, normalize_weights=True)
    rollouts = spy(trainer, "_generate_and_score_completions")
    trainer.train()
    weights, mask = rollouts[0]["token_weights"], rollouts[0]["completion_mask"]
    mean = (weights * mask).view(-1, GROUP, mask.shape[1]).sum((1, 2))
    torch.testing.assert_close(
        mean / mask.view(-1, GROUP, mask.shape[1]).sum((1, 2)), torch.ones(4)
    )


def test_a_policy_that_caps_its_logits_is_refused(make_trainer):
    with pytest.raises(ValueError, match="final_logit_softcapping = 30"):
        make_trainer(pairs(4), logit_cap=30.0)
    make_trainer(pairs(4), logit_cap=30.0, token_weighting="none")


def test_the_weights_of_a_forward_pass_are_those_of_sampling(make_trainer):
    trainer = make_trainer(pairs(2) + videos(2), per_device_train_batch_size=16)
    weigh, found = trainer.token_weights, []

    def both(batch, flight):
        found.append(weigh(batch, flight))
        flight.hidden = None  # as if sampled elsewhere
        found.append(weigh(batch, flight))
        return found[0]

    trainer.token_weights = both
    trainer.train()
    assert found[0].std() > 0.05
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-5)


def test_groups_without_variance_are_drawn_anew(make_trainer):
    def reward(completions, id, **_):
        varied = distinct_letters(completions)
        return [0.5 if name == "pair-1" else r for name, r in zip(id, varied, strict=True)]

    trainer = make_trainer(pairs(4), reward, max_redraws=8)
    rollouts, asked = spy(trainer, "_generate_and_score_completions"), spy(trainer, "rollout")
    trainer.train()
    [batch] = rollouts
    assert len(asked) >= 2
    assert batch["varied"].all()
    number = {id(prompt): n for n, prompt in enumerate(trainer._encode(trainer._samples))}
    names = [number[id(prompt)] for prompt in batch["prompts"]]
    assert 1 not in names
    for start in range(0, 16, GROUP):
        assert len(set(names[start : start + GROUP])) == 1
    first = asked[0]
    same = first["varied"].nonzero()[:, 0]
    width = first["completion_ids"].shape[1]
    for name in ("completion_ids", "advantages"):
        assert torch.equal(batch[name][same][:, :width], first[name][same])
    log = trainer.state.log_history[0]
    assert log["frac_reward_zero_std"] == 0.25  # of the first draw
    assert log["redraw/frac_reward_zero_std"] == 0
    assert batch["num_items_in_batch"] == batch["completion_mask"].sum()


def test_redrawing_ends_at_its_limit(make_trainer):
    trainer = make_trainer(
        pairs(4), lambda completions, **_: [1.0] * len(completions), max_redraws=2
    )
    asked = spy(trainer, "rollout")
    before = parameters(trainer)
    trainer.train()
    assert [len(batch["prompts"]) for batch in asked] == [16, 16, 16]
    assert trainer.state.log_history[0]["redraw/frac_reward_zero_std"] == 1
    assert_equal(parameters(trainer), before, tolerance=0)


def test_a_checkpoint_waits_until_its_completions_are_used_up(make_trainer, tmp_path):
    """Two steps to a sampling: the third step's checkpoint comes after the fourth."""
    options = {"num_iterations": 2, "max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    whole = make_trainer(pairs(4), **options)
    whole.train()
    assert sorted(folder.name for folder in (tmp_path / "run").glob("checkpoint-*")) == [
        "checkpoint-4",
        "checkpoint-6",
    ]
    resumed = make_trainer(pairs(4), **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    assert_equal(parameters(resumed), parameters(whole), tolerance=0)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_old_scores_are_those_of_the_policy_that_sampled(make_trainer, checkpointing):
    trainer = make_trainer(
        pairs(2) + videos(2),
        num_iterations=2,
        max_steps=2,
        gradient_checkpointing=checkpointing,
    )
    rollouts, scores = (
        spy(trainer, "_generate_and_score_completions"),
        spy(trainer, "_get_per_token_logps_and_entropies"),
    )
    trainer.train()
    assert len(rollouts) == 1
    scored = next(log_probs for log_probs, _, _ in scores if log_probs.requires_grad)
    kept = trainer._buffered_inputs[0]
    mask = kept["completion_mask"].bool()
    torch.testing.assert_close(
        scored.detach()[mask], kept["old_per_token_logps"][mask], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token_weighting": "loudness"}, "token_weighting is 'loudness'"),
        ({"use_vllm": True}, "pip install"),
        ({"use_transformers_continuous_batching": True}, "takes text only"),
        ({"max_redraws": 1, "scale_rewards": "batch"}, "would change with what is redrawn"),
        ({"max_tokens_per_micro_batch": 99, "entropy_coef": 0.1}, "look at a whole"),
        ({"per_device_train_batch_size": 6}, "take a multiple of num_generations, 4"),
    ],
)
def test_options_that_cannot_work_are_refused(make_trainer, options, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(pairs(4), **options)


@pytest.mark.parametrize(
    ("broken", "part", "remedy"),
    [
        (
            "train.shared_prompt.generate",
            "sampling",
            "--steps_per_generation 1, or shorter answers",
        ),
        ("train.group_rows.scoring", "training", "--max_tokens_per_micro_batch"),
    ],
)
def test_out_of_memory_says_where_and_what_would_fit(
    make_trainer, monkeypatch, broken, part, remedy
):
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer = make_trainer(
        pairs(4),
        gradient_accumulation_steps=2,
        per_device_train_batch_size=8,
        token_weighting="none",
    )
    monkeypatch.setattr(f"nontrivial.{broken}", full)
    with pytest.raises(WorkFailed) as error:
        trainer.train()
    told = str(error.value)
    assert f"out of memory in {part}: {16 if part == 'sampling' else 8} rows" in told
    assert remedy in told
    assert "--dry_run" in told


def test_other_errors_are_left_alone(make_trainer, monkeypatch):
    trainer = make_trainer(pairs(4))
    monkeypatch.setattr(trainer, "_compute_loss", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
