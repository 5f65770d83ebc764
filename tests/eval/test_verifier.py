"""The verifier reads P(same person) with any tokenizer, for images of any size."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from nontrivial.eval.generation import Generator, Sampling, load_batch
from nontrivial.eval.verifier import NO_THOUGHT, Verifier, branches, pair_sample
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.prompts import messages
from nontrivial.models.inputs import View, continued, encode
from tests import tiny_policy
from tests.media_files import write_image

ALWAYS_A = "<think>red</think><answer>A</answer>"
TOKENIZERS = ("bytes, whole tags", "joined letters", "Qwen2.5-VL")


def policy(tokenizer: str, real_processor) -> tuple:
    """A policy of random weights with one of the tokenizers."""
    if tokenizer == "Qwen2.5-VL":
        return tiny_policy.build(processor=real_processor())
    return tiny_policy.build(whole_tags=tokenizer == "bytes, whole tags")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("people")
    for number in range(4):
        write_image(root / f"{number}.jpg", seed=number, size=(56, 56 + 28 * number))
    return root


def asked(images: Path, *, swapped: bool) -> tuple[list, list]:
    samples = [pair_sample(f"{a}.jpg", f"{b}.jpg", swapped=swapped) for a, b in pairwise(range(4))]
    good, media, problems = load_batch(samples, str(images), View())
    assert not problems
    return good, media


def teach(model, processor, images: Path, target: str) -> None:
    """Train until the policy answers every pair with `target`."""
    samples, media = asked(images, swapped=False)
    pictures, clips = zip(*media, strict=True)
    prompts = encode(processor, [messages(sample) for sample in samples], pictures, clips)
    target += processor.tokenizer.eos_token
    answer = processor.tokenizer(target, add_special_tokens=False)["input_ids"]
    batch = continued(prompts, [answer] * len(samples), processor.tokenizer.pad_token_id)
    labels = torch.tensor([answer] * len(samples))
    optimizer, loss, steps = torch.optim.AdamW(model.parameters(), 1e-2), torch.tensor(9.0), 0
    while loss > 0.01:
        assert steps < 500
        logits = model(**batch, logits_to_keep=len(answer) + 1).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_policy_that_always_says_a_is_read_so(tokenizer, images, tmp_path, real_processor):
    model, processor = policy(tokenizer, real_processor)
    teach(model, processor, images, ALWAYS_A)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    sampling = Sampling(max_new_tokens=24)
    generator = Generator(str(tmp_path), sampling, View(), dtype="float32", device="cpu")
    for judge in ("direct", "reasoned"):
        verifier = Verifier(generator, judge)
        for swapped in (False, True):  # A says Yes, then No
            for p_same, text in verifier.ask(*asked(images, swapped=swapped)):
                assert p_same < 0.01 if swapped else p_same > 0.99
                assert text == (ALWAYS_A if judge == "reasoned" else "")


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_verdicts_are_those_of_each_answer_scored_by_itself(
    tokenizer, images, tmp_path, real_processor, monkeypatch
):
    model, processor = policy(tokenizer, real_processor)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    generator = Generator(str(tmp_path), Sampling(), View(), dtype="float32", device="cpu")
    verifier = Verifier(generator, "direct")
    samples, media = asked(images, swapped=False)
    found = [p for p, _ in verifier.ask(samples, media)]
    expected = []
    for sample, (pictures, clips) in zip(samples, media, strict=True):
        scores = []
        for letter in "AB":
            tail = processor.tokenizer(NO_THOUGHT["think"] + letter, add_special_tokens=False)
            prompt = encode(processor, [messages(sample)], [pictures], [clips])
            batch = continued(prompt, [tail["input_ids"]], processor.tokenizer.pad_token_id)
            with torch.no_grad():
                log_probs = generator.model(**batch).logits[0].log_softmax(-1)
            ids = batch["input_ids"][0]
            start = len(ids) - len(tail["input_ids"])
            scores.append(sum(log_probs[at - 1, ids[at]] for at in range(start, len(ids))))
        expected.append(torch.stack(scores).softmax(0)[0].item())
    assert found == pytest.approx(expected, abs=1e-5)
    # The same where an answer takes several tokens.
    own = branches

    def longer(encodings):
        before, endings = own(encodings)
        return before[:-1], [before[-1:] + ending for ending in endings]

    monkeypatch.setattr("nontrivial.eval.verifier.branches", longer)
    assert [p for p, _ in verifier.ask(samples, media)] == pytest.approx(expected, abs=1e-5)


def test_branches_split_where_answers_differ():
    tokens = tiny_policy.tokenizer(whole_tags=False)
    encoded = tokens(["<answer>A", "<answer>B"])["input_ids"]
    before, endings = branches(encoded)
    assert tokens.convert_ids_to_tokens(before) == ["<", "answer"]
    assert [tokens.convert_ids_to_tokens(ending) for ending in endings] == [[">A"], [">B"]]
    with pytest.raises(BadInput, match="can't tell A from B"):
        branches([[1, 2], [1, 2]])


def test_tokens_go_behind_each_prompt(images):
    _, processor = tiny_policy.build()
    samples, media = asked(images, swapped=False)
    pictures, clips = zip(*media, strict=True)
    prompts = encode(processor, [messages(sample) for sample in samples], pictures, clips)
    pad, tails = processor.tokenizer.pad_token_id, [[5], [6, 7, 8], []]
    batch = continued(prompts, tails, pad)
    for row, tail in enumerate(tails):
        live = prompts["attention_mask"][row].bool()
        whole = batch["attention_mask"][row].bool()
        expected = prompts["input_ids"][row][live].tolist() + tail
        assert batch["input_ids"][row][whole].tolist() == expected
        assert (batch["input_ids"][row][~whole] == pad).all()
        assert whole[-1]
        assert batch["mm_token_type_ids"][row].sum() == prompts["mm_token_type_ids"][row].sum()
    assert batch["pixel_values"] is prompts["pixel_values"]
