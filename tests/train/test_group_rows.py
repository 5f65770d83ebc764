"""A group in one row gives the values and gradients of its rows, at the cost of its tokens."""

from __future__ import annotations

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from nontrivial.models.policy import load_policy
from nontrivial.models.positions import prompt_positions, start_text_behind_clips
from nontrivial.train import group_rows
from nontrivial.train.group_rows import accept_group_rows, hidden_states, scoring
from tests import tiny_policy

PAD, MEDIA = 0, 250
FAMILIES = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]


def policy(family: str):
    """A policy of random weights with a vocabulary of 320, in train mode."""
    torch.manual_seed(0)
    ours, _ = tiny_policy.build()
    if family == "qwen2_5_vl":
        model = ours
    else:
        from transformers import (
            Qwen2VLConfig,
            Qwen2VLForConditionalGeneration,
            Qwen3VLConfig,
            Qwen3VLForConditionalGeneration,
        )

        text = {
            "vocab_size": 320,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 1, 1],
            },
        }
        vision = {"depth": 2, "num_heads": 2, "hidden_size": 32, "out_hidden_size": 32}
        if family == "qwen2_vl":
            sizes = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2}
            config = Qwen2VLConfig(text_config=text, vision_config=sizes)
            model = Qwen2VLForConditionalGeneration(config)
        else:
            vision |= {"deepstack_visual_indexes": [0, 1], "intermediate_size": 64}
            vision |= {"num_position_embeddings": 64}
            config = Qwen3VLConfig(text_config=text, vision_config=vision)
            model = Qwen3VLForConditionalGeneration(config)
    model.config.image_token_id, model.config.video_token_id = MEDIA, MEDIA + 1
    add_fused_lm_head(model, temperature=0.9, outputs=("log_probs", "entropy"))
    start_text_behind_clips(model.base_model)
    return model.train()


def prompt(model, words: int, *, media: str | None, seed: int) -> dict[str, torch.Tensor]:
    """An encoded prompt of words, with an image or a clip in front, or without."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 200, (1, words), generator=draw)
    kinds, features = torch.zeros_like(ids), {}
    if media:
        grid = torch.tensor([[1 if media == "image" else 3, 4, 4]])
        vision = model.config.vision_config
        per_patch = 3 * vision.temporal_patch_size * vision.patch_size**2
        frames = 1 if media == "image" else 3
        tokens = frames * 4
        kind = 1 if media == "image" else 2
        mark = MEDIA + kind - 1
        if media == "video" and model.config.model_type == "qwen3_vl":  # a time before each frame
            parts = [x for n in range(3) for x in ([7 + n], [mark] * 4)]
            head = [x for part in parts for x in part]
        else:
            head = [mark] * tokens
        head = torch.tensor([[5, *head, 6]])
        ids = torch.cat([head, ids], dim=1)
        kinds = torch.where(ids == mark, kind, 0)
        pixels = torch.randn(int(grid.prod()), per_patch, generator=draw)
        name = "pixel_values" if media == "image" else "pixel_values_videos"
        features = {name: pixels, f"{media}_grid_thw": grid}
        if media == "video" and model.config.model_type == "qwen2_5_vl":
            features["second_per_grid_ts"] = torch.tensor([9.0])
    mask = torch.ones_like(ids)
    made = {"input_ids": ids, "attention_mask": mask, "mm_token_type_ids": kinds, **features}
    return made | {"position_ids": prompt_positions(model.base_model, made)}


def rollout(model, groups: list[tuple[str | None, list[int]]]):
    """Prompts, and completions of given lengths for each; mask and weights of the tokens."""
    prompts, lengths = [], []
    for number, (media, of_group) in enumerate(groups):
        asked = prompt(model, 5 + 3 * number, media=media, seed=number)
        prompts += [asked] * len(of_group)
        lengths += of_group
    draw = torch.Generator().manual_seed(9)
    longest = max(lengths)
    completions = torch.randint(1, 200, (len(lengths), longest), generator=draw)
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    weights = torch.randn(mask.shape, generator=draw) * mask
    return prompts, completions.masked_fill(mask == 0, PAD), mask, weights


def scored(model, prompts, completions, mask, weights, *, share: bool):
    """Log-probabilities and entropies of the tokens, and gradients of their weighted sum."""
    wanted = scoring(prompts, completions, mask, PAD, share=share)
    output = model(**wanted.inputs)
    found = wanted.of_tokens(output.log_probs)
    (found * weights).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found.detach(), wanted.of_tokens(output.entropy).detach(), gradients


GROUPS = {
    "text": [(None, [4, 7])],
    "an image": [("image", [6, 1, 3, 0])],
    "a clip": [("video", [2, 5, 5])],
    "several": [("image", [3, 1]), ("video", [5, 2, 4]), (None, [1, 6]), ("image", [2] * 16)],
    "one row": [("image", [5])],
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_group_row_gives_what_its_rows_give(family, groups, checkpointing):
    model = policy(family)
    rows = rollout(model, GROUPS[groups])
    log_probs, entropies, gradients = scored(model, *rows, share=False)
    accept_group_rows(model)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    found, entropy, moved = scored(model, *rows, share=True)
    torch.testing.assert_close(found, log_probs, rtol=0, atol=1e-5)
    torch.testing.assert_close(entropy, entropies, rtol=0, atol=1e-5)
    assert moved.keys() == gradients.keys()
    for name, expected in gradients.items():
        assert (moved[name] - expected).norm() <= 1e-5 * expected.norm() + 1e-7, name
    assert (log_probs != 0).sum() == rows[2].sum()


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_rows_are_attended_to_as_before(family):
    """Left-padded rows, a cache and sampling do not notice that group rows are accepted."""
    model = policy(family).eval()
    ids = torch.randint(1, 200, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).logits
        told = model.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False)
        accept_group_rows(model)
        found = model(input_ids=ids, attention_mask=mask).logits
        again = model.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False)
    assert torch.equal(found[mask > 0], expected[mask > 0])
    assert torch.equal(told, again)


@pytest.mark.parametrize("share", [True, False])
def test_hidden_states_are_those_that_are_scored(share):
    model = policy("qwen2_5_vl").eval()
    prompts, completions, mask, _ = rollout(model, GROUPS["several"])
    accept_group_rows(model)
    laid_out = scoring(prompts, completions, mask, PAD, share=share)
    states = hidden_states(model.base_model, laid_out)
    logits = model.get_output_embeddings()(states) / 0.9
    found = logits.log_softmax(-1).gather(2, completions[..., None])[..., 0] * mask
    wanted = scoring(prompts, completions, mask, PAD)
    with torch.no_grad():
        expected = wanted.of_tokens(model(**wanted.inputs).log_probs)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_no_mask_is_as_large_as_the_row(monkeypatch):
    from transformers.integrations import sdpa_attention

    model = policy("qwen2_5_vl")
    rows = rollout(model, GROUPS["several"])
    accept_group_rows(model)
    shapes, attend = [], sdpa_attention.sdpa_attention_forward

    def watch(module, query, key, value, attention_mask, **kwargs):
        if "group_rows" not in str(kwargs) and type(module).__name__ == "Qwen2_5_VLAttention":
            shapes.append(None if attention_mask is None else tuple(attention_mask.shape))
        return attend(module, query, key, value, attention_mask, **kwargs)

    monkeypatch.setattr(sdpa_attention, "sdpa_attention_forward", watch)
    wanted = scoring(*rows[:3], PAD)
    model(**wanted.inputs)
    length = wanted.inputs["input_ids"].shape[1]
    masks = [shape for shape in shapes if shape is not None]
    assert len(shapes) > len(masks) > 0
    assert all(shape[2] <= 6 and shape[3] < length / 2 for shape in masks)


def test_a_row_holds_each_prompt_once_and_no_padding():
    model = policy("qwen2_5_vl")
    prompts, completions, mask, _ = rollout(model, GROUPS["several"])
    wanted = scoring(prompts, completions, mask, PAD)
    distinct = {id(each): each["input_ids"].shape[1] - 1 for each in prompts}
    assert wanted.inputs["input_ids"].shape == (1, sum(distinct.values()) + int(mask.sum()))
    assert len(wanted.inputs["image_grid_thw"]) == 2


def test_other_attention_is_left_alone(tiny_policy_dir):
    model, _ = load_policy(str(tiny_policy_dir), attn_implementation="eager")
    accept_group_rows(model)
    assert not group_rows.accepted_by(model.base_model)


def test_the_attention_of_group_rows_is_not_saved(tiny_policy_dir, tmp_path):
    model, _ = load_policy(str(tiny_policy_dir))
    accept_group_rows(model)
    model.save_pretrained(tmp_path)
    assert group_rows.NAME not in (tmp_path / "config.json").read_text()
