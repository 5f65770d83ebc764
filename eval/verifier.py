"""Use the policy as a verifier: P(same person) of pairs of images.

direct     the probabilities of the two letters after an empty think block
reasoned   the policy thinks first, greedily; then the probabilities after its reasoning
votes      the share of Yes among the sampled completions that give an answer

A tokenizer may join a letter with what is before it: Qwen's splits `<answer>A` into `<`, `answer`,
`>A`. So answers are encoded with the text before them, and compared from the first token that
differs.

Each pair is asked as (query, candidate) with Yes first and, with `swap`, as (candidate, query) with
No first, so that a preference for a place or a letter cancels out.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nontrivial.eval.generation import Generator, Media, Sample, load_batch
from nontrivial.manifests.answers import LETTERS, read_answer
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.prompts import NO, SAME_PERSON, YES, messages
from nontrivial.manifests.runs import JsonLines, read_records
from nontrivial.models.inputs import continued, encode

if TYPE_CHECKING:
    import torch

Ids = list[int]  # token ids

# What an answer without reasoning begins with, by the style of the prompt.
NO_THOUGHT = {"think": "<think></think><answer>", "answer": "<answer>"}


@dataclass(frozen=True)
class Judged:
    """The verdict on a pair; `swapped` is P(same) in the other order, None if it was not asked."""

    id: str
    p_same: float
    swapped: float | None
    reasoning: str
    seconds: float

    @property
    def mean(self) -> float:
        """P(same), averaged over both orders if both were asked."""
        return self.p_same if self.swapped is None else (self.p_same + self.swapped) / 2


class Verifier:
    """A loaded policy that gives the probability that two images show one person."""

    def __init__(self, generator: Generator, judge: str, votes: int = 5) -> None:
        self.generator, self.judge, self.votes = generator, judge, votes

    def ask(self, samples: Sequence[Sample], media: Sequence[Media]) -> list[tuple[float, str]]:
        """Return (P(same), reasoning) of each pair."""
        if self.judge == "votes":
            return self._count_votes(samples, media)
        texts = [""] * len(samples)
        if self.judge == "reasoned":
            texts = self.generator.complete(samples, media)
        direct = NO_THOUGHT[self.generator.view.prompt]
        prefixes = [until_answer(text) if text else direct for text in texts]
        return list(zip(self._p_same(samples, media, prefixes), texts, strict=True))

    def _p_same(
        self, samples: Sequence[Sample], media: Sequence[Media], prefixes: Sequence[str]
    ) -> list[float]:
        import torch

        processor, view = self.generator.processor, self.generator.view
        images, clips = zip(*media, strict=True)
        turns = [messages(sample, view.prompt) for sample in samples]
        prompts = encode(processor, turns, images, clips, **view.limits)
        answers = [
            processor.tokenizer([prefix + letter for letter in "AB"], add_special_tokens=False)
            for prefix in prefixes
        ]
        befores, endings = zip(*(branches(both["input_ids"]) for both in answers), strict=True)
        if all(len(ending) == 1 for both in endings for ending in both):
            firsts = torch.tensor(endings)[..., 0]  # (B, 2)
            scores = self._log_probs(prompts, befores, 1)[:, 0].gather(1, firsts)
        else:
            scores = torch.stack(
                [
                    self._sums(prompts, befores, of_letter)
                    for of_letter in zip(*endings, strict=True)
                ],
                dim=1,
            )
        letters = scores.softmax(-1).tolist()  # (B, 2): P(A), P(B)
        return [p[s["options"].index(YES)] for p, s in zip(letters, samples, strict=True)]

    def _sums(self, prompts: Any, befores: Sequence[Ids], endings: Sequence[Ids]) -> torch.Tensor:
        """Return log-probabilities (B,) of endings behind the prompts and the tokens before."""
        import torch

        longest = max(map(len, endings))
        tails = [before + ending[:-1] for before, ending in zip(befores, endings, strict=True)]
        log_probs = self._log_probs(prompts, tails, longest)  # (B, longest, V)
        sums = [
            row[-len(ending) :].gather(1, torch.tensor(ending)[:, None]).sum()
            for row, ending in zip(log_probs, endings, strict=True)
        ]
        return torch.stack(sums)

    def _log_probs(self, prompts: Any, tails: Sequence[Ids], last: int) -> torch.Tensor:
        """Return float32 log-probabilities (B, last, V) of what follows each of the last tokens."""
        import torch

        model, tokenizer = self.generator.model, self.generator.processor.tokenizer
        batch = continued(prompts, tails, tokenizer.pad_token_id).to(model.device)
        with torch.inference_mode():
            logits = model(**batch, logits_to_keep=last).logits
            return logits.float().log_softmax(-1).cpu()

    def _count_votes(
        self, samples: Sequence[Sample], media: Sequence[Media]
    ) -> list[tuple[float, str]]:
        """Return the shares of Yes, 0.5 for a pair without a readable vote, and the first votes."""
        ballots = [self._draw(samples, media, vote) for vote in range(self.votes)]
        results = []
        for sample, texts in zip(samples, zip(*ballots, strict=True), strict=True):
            yes = LETTERS[sample["options"].index(YES)]
            answers = [read_answer(text, sample["options"]) for text in texts]
            votes = [answer == {yes} for answer in answers if len(answer) == 1]
            results.append((sum(votes) / len(votes) if votes else 0.5, texts[0]))
        return results

    def _draw(self, samples: Sequence[Sample], media: Sequence[Media], vote: int) -> list[str]:
        """Sample one completion of each pair; the id seeds the generator."""
        return self.generator.complete([{**s, "id": f"{s['id']}#{vote}"} for s in samples], media)


def branches(encodings: Sequence[Ids]) -> tuple[Ids, list[Ids]]:
    """Split encodings into the tokens before the first difference, and the rest of each.

    >>> branches([[5, 7, 1], [5, 7, 2]])
    ([5, 7], [[1], [2]])
    """
    columns = enumerate(zip(*encodings, strict=False))
    common = next((at for at, tokens in columns if len(set(tokens)) > 1), None)
    if common is None:
        raise BadInput("the policy's tokenizer can't tell A from B; use --judge votes")
    return encodings[0][:common], [encoding[common:] for encoding in encodings]


def pair_id(query: str, candidate: str) -> str:
    """Return the id of a pair of image paths."""
    return f"{query}~{candidate}"


def pair_sample(query: str, candidate: str, *, swapped: bool = False) -> dict[str, Any]:
    """Return a pair of image paths as a sample.

    >>> pair_sample("a.jpg", "b.jpg", swapped=True)["options"]
    ['No', 'Yes']
    """
    step = -1 if swapped else 1
    return {
        "id": pair_id(query, candidate) + ("~swapped" if swapped else ""),
        "task": "reid_pair",
        "question": SAME_PERSON,
        "options": [YES, NO][::step],
        "images": [{"bytes": None, "path": path} for path in (query, candidate)[::step]],
        "videos": [],
        "clips": [],
    }


def until_answer(text: str) -> str:
    """Return a completion up to its answer, so that the letter comes next.

    >>> until_answer("<think>red, red</think><answer>A</answer>"), until_answer("hm")
    ('<think>red, red</think><answer>', 'hm</think><answer>')
    """
    before, tag, _ = text.rpartition("<answer>")
    if tag:
        return before + tag
    return text + ("<answer>" if "</think>" in text else "</think><answer>")


def judge_pairs(
    verifier: Verifier,
    pairs: Sequence[tuple[str, str]],
    store: JsonLines,
    done: Collection[str],
    *,
    media_root: str | None,
    swap: bool,
) -> list[str]:
    """Judge one batch of pairs of paths; return what went wrong.

    Appends the verdicts to `store`, but those of the ids in `done`, which it has.
    """
    began = time.perf_counter()
    samples, view = [pair_sample(*pair) for pair in pairs], verifier.generator.view
    good, media, problems = load_batch(samples, media_root, view)
    if all(sample["id"] in done for sample in good):
        return problems
    answers = verifier.ask(good, media)
    others: Sequence[tuple[float | None, str]] = [(None, "")] * len(good)
    if swap:
        paths = [[image["path"] for image in sample["images"]] for sample in good]
        turned = [pair_sample(*pair, swapped=True) for pair in paths]
        others = verifier.ask(turned, [(images[::-1], clips) for images, clips in media])
    seconds = (time.perf_counter() - began) / len(good)
    parts = zip(good, answers, others, strict=True)
    verdicts = (Judged(s["id"], p, q, text, seconds) for s, (p, text), (q, _) in parts)
    store.append(*(verdict for verdict in verdicts if verdict.id not in done))
    return problems


def read_judged(store: JsonLines) -> dict[str, Judged]:
    """Return the verdicts so far by id; remove a last line that was cut off by a kill."""
    store.mend()
    return {judged.id: judged for judged in read_records(store.path, Judged)}
