"""Use the policy as a verifier: P(same person) of pairs of images.

direct     one forward pass: the logits of the two letters after an empty think block
reasoned   the policy thinks first, greedily; then the logits of the letters after its reasoning
votes      the share of Yes among the sampled completions that give an answer

Each pair is asked as (query, candidate) with Yes first and, with `swap`, as (candidate, query) with
No first, so that a preference for a place or a letter cancels out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nontrivial.eval.generation import Generator, Media, Sample, load_batch
from nontrivial.manifests.answers import LETTERS, read_answer
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.runs import JsonLines, read_records
from nontrivial.models.inputs import encode
from nontrivial.models.prompts import NO, SAME_PERSON, YES, messages

if TYPE_CHECKING:
    import torch

NO_THOUGHT = "<think></think><answer>"


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
        tokens = [generator.processor.tokenizer.encode(c, add_special_tokens=False) for c in "AB"]
        if any(len(token) != 1 for token in tokens):
            raise BadInput("the policy's tokenizer splits single letters; use --judge votes")
        self._letters = [token[0] for token in tokens]

    def ask(self, samples: Sequence[Sample], media: Sequence[Media]) -> list[tuple[float, str]]:
        """Return (P(same), reasoning) of each pair."""
        if self.judge == "votes":
            return self._count_votes(samples, media)
        texts = [""] * len(samples)
        if self.judge == "reasoned":
            texts = self.generator.complete(samples, media)
        prefixes = [until_answer(text) for text in texts]
        return list(zip(self._p_same(samples, media, prefixes), texts, strict=True))

    def _p_same(
        self, samples: Sequence[Sample], media: Sequence[Media], prefixes: Sequence[str]
    ) -> list[float]:
        import torch

        model, processor = self.generator.model, self.generator.processor
        images, clips = zip(*media, strict=True)
        turns = [messages(sample) for sample in samples]
        options: dict[str, Any] = {
            "targets": prefixes,
            "open_turn": True,
            **self.generator.view.limits,
        }
        batch = encode(processor, turns, images, clips, **options).to(model.device)
        with torch.inference_mode():
            logits: torch.Tensor = model(**batch, logits_to_keep=1).logits[:, -1]  # (B, V)
        letters = logits[:, self._letters].float().softmax(-1).tolist()  # (B, 2): P(A), P(B)
        return [p[s["options"].index(YES)] for p, s in zip(letters, samples, strict=True)]

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
    if not text:
        return NO_THOUGHT
    before, tag, _ = text.rpartition("<answer>")
    if tag:
        return before + tag
    return text + ("<answer>" if "</think>" in text else "</think><answer>")


def judge_pairs(
    verifier: Verifier,
    pairs: Sequence[tuple[str, str]],
    store: JsonLines,
    *,
    media_root: str | None,
    swap: bool,
) -> list[str]:
    """Judge one batch of pairs of paths; append verdicts to `store`, return what went wrong."""
    began = time.perf_counter()
    samples, view = [pair_sample(*pair) for pair in pairs], verifier.generator.view
    good, media, problems = load_batch(samples, media_root, view)
    if not good:
        return problems
    answers = verifier.ask(good, media)
    others: Sequence[tuple[float | None, str]] = [(None, "")] * len(good)
    if swap:
        paths = [[image["path"] for image in sample["images"]] for sample in good]
        turned = [pair_sample(*pair, swapped=True) for pair in paths]
        others = verifier.ask(turned, [(images[::-1], clips) for images, clips in media])
    seconds = (time.perf_counter() - began) / len(good)
    parts = zip(good, answers, others, strict=True)
    store.append(*(Judged(s["id"], p, q, text, seconds) for s, (p, text), (q, _) in parts))
    return problems


def read_judged(store: JsonLines) -> dict[str, Judged]:
    """Return the verdicts so far by id; remove a last line that was cut off by a kill."""
    store.mend()
    return {judged.id: judged for judged in read_records(store.path, Judged)}
