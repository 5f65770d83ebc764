"""The policy in the package: small, honest about itself, able to read a picture and to say why."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

from nontrivial.builders.synthetic import people
from nontrivial.manifests.answers import exact_score, is_formatted, read_answer
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.prompts import messages
from nontrivial.models import policy
from nontrivial.models.inputs import encode

PAIRS = 60


@pytest.fixture(scope="module")
def embedded():
    model, processor = policy.load_policy()
    return model.eval(), processor


@pytest.fixture(scope="module")
def answers(embedded):
    """Greedy completions on random pairs of identities that were never trained on."""
    model, processor = embedded
    rng = np.random.default_rng(0)
    samples, pictures = zip(*(random_pair(rng) for _ in range(PAIRS)), strict=True)
    inputs = encode(processor, [messages(s) for s in samples], pictures, [[]] * PAIRS)
    out = model.generate(**inputs, max_new_tokens=64, do_sample=False)
    texts = processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return list(zip(samples, texts, strict=True))


def random_pair(rng: np.random.Generator) -> tuple[dict, list[Image.Image]]:
    held_out = people.identities("public")[:150]
    first, second = rng.choice(len(held_out), 2, replace=False)
    same = rng.random() < 0.5
    cameras = rng.choice(6, 2, replace=False)
    shown = (held_out[first], held_out[first if same else second])
    photos = [
        people.Shot("query", "", attributes, int(camera), (int(rng.integers(1e6)),))
        for attributes, camera in zip(shown, cameras, strict=True)
    ]
    options = ["Yes", "No"] if rng.random() < 0.5 else ["No", "Yes"]
    sample = {
        "task": "reid_pair",
        "question": "Do both images show the same person?",
        "options": options,
        "answer": ["AB"[options.index("Yes" if same else "No")]],
        "images": [{}, {}],
        "videos": None,
    }
    return sample, [Image.fromarray(people.draw(photo)) for photo in photos]


def test_it_fits_into_the_package():
    assert sum(file.stat().st_size for file in policy.EMBEDDED_DIR.iterdir()) <= 8 * 2**20
    assert "What it scores" in (policy.EMBEDDED_DIR / "README.md").read_text(encoding="utf-8")


def test_it_says_what_it_is(caplog):
    with caplog.at_level(logging.WARNING):
        path = policy.locate(policy.EMBEDDED)
    assert path == str(policy.EMBEDDED_DIR)
    assert "stand-in" in caplog.text


def test_it_answers_in_the_format_it_is_asked_for(answers):
    assert np.mean([is_formatted(text) for _, text in answers]) >= 0.95


def test_it_tells_random_pairs_apart(answers):
    right = [exact_score(read_answer(t, s["options"]), s["answer"]) for s, t in answers]
    assert np.mean(right) >= 0.85


def test_its_reasons_are_readable(answers):
    words = {word for words in people.ATTRIBUTES.values() for word in words}
    for _, text in answers:
        reason = text.partition("<think>")[2].partition("</think>")[0]
        assert any(word in reason for word in words), text


def test_a_missing_folder_is_named():
    with pytest.raises(BadInput, match="no/such/folder"):
        policy.load_policy("no/such/folder")


def test_another_family_is_refused(tmp_path):
    from transformers import GPT2Config

    GPT2Config(n_layer=1, n_head=1, n_embd=8).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="gpt2"):
        policy.load_policy(str(tmp_path))
