"""The policy as a verifier: P(same person) of pairs of images.

direct     one forward pass: the logits of the two letters after an empty think block
reasoned   the policy thinks first, greedily; then the logits of the letters after its own reasoning
votes      the share of drawn completions that answer Yes, of those that answer at all

Each pair is asked as (query, candidate) with Yes first and, with `swap`, as (candidate, query) with
No first, so that a liking for a place or a letter cancels out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.eval.generation import Generator, Media, Sample, load_batch
from nontrivial.manifests.answers import LETTERS, read_answer
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.runs import JsonLines, read_records
from nontrivial.models.inputs import View, encode
from nontrivial.models.prompts import NO, SAME_PERSON, YES, messages

if TYPE_CHECKING:
    import torch

NO_THOUGHT = "<think></think><answer>"


@dataclass(frozen=True)
class Judged:
    """What a verifier said about a pair; `swapped` is P(same) of the other order, if asked."""

    id: str
    p_same: float
    swapped: float | None
    reasoning: str
    seconds: float

    @property
    def mean(self) -> float:
        """P(same), over both orders where both were asked."""
        return self.p_same if self.swapped is None else (self.p_same + self.swapped) / 2


class Verifier:
    """A loaded policy that says how likely two images show one person."""

    def __init__(self, generator: Generator, judge: str, votes: int = 5) -> None:
        self.generator, self.judge, self.votes = generator, judge, votes
        tokens = [generator.processor.tokenizer.encode(c, add_special_tokens=False) for c in "AB"]
        if any(len(token) != 1 for token in tokens):
            raise BadInput("the policy's tokenizer splits single letters; use --judge votes")
        self._letters = [token[0] for token in tokens]

    def ask(self, samples: Sequence[Sample], media: Sequence[Media]) -> list[tuple[float, str]]:
        """(P(same), reasoning) of each pair."""
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
        limits = self.generator.limits
        batch = encode(
            processor, turns, images, clips, targets=prefixes, open_turn=True, **limits
        ).to(model.device)
        with torch.inference_mode():
            logits: torch.Tensor = model(**batch, logits_to_keep=1).logits[:, -1]  # (B, V)
        chances = logits[:, self._letters].float().softmax(-1)  # (B, 2): of A and of B
        return [
            float(row[sample["options"].index(YES)])
            for row, sample in zip(chances, samples, strict=True)
        ]

    def _count_votes(
        self, samples: Sequence[Sample], media: Sequence[Media]
    ) -> list[tuple[float, str]]:
        """Drawn completions; a pair about which none can be read gets 0.5."""
        ballots = [self._draw(samples, media, vote) for vote in range(self.votes)]
        results = []
        for sample, texts in zip(samples, zip(*ballots, strict=True), strict=True):
            yes = LETTERS[sample["options"].index(YES)]
            read = [read_answer(text, sample["options"]) for text in texts]
            valid = [answer == {yes} for answer in read if len(answer) == 1]
            results.append((sum(valid) / len(valid) if valid else 0.5, texts[0]))
        return results

    def _draw(self, samples: Sequence[Sample], media: Sequence[Media], vote: int) -> list[str]:
        """One completion each; the id is what a draw is seeded by."""
        return self.generator.complete([{**s, "id": f"{s['id']}#{vote}"} for s in samples], media)


def pair_sample(query: str, candidate: str, *, swapped: bool = False) -> dict[str, Any]:
    """A pair of image paths as a sample.

    >>> pair_sample("a.jpg", "b.jpg", swapped=True)["options"]
    ['No', 'Yes']
    """
    paths, options = [query, candidate], [YES, NO]
    return {
        "id": f"{query}~{candidate}" + ("~swapped" if swapped else ""),
        "task": "reid_pair",
        "question": SAME_PERSON,
        "options": options[::-1] if swapped else options,
        "images": [{"bytes": None, "path": p} for p in (paths[::-1] if swapped else paths)],
        "videos": [],
        "clips": [],
    }


def until_answer(text: str) -> str:
    """A completion up to its answer, so that the letter comes next.

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
    store: Path,
    *,
    media_root: str | None,
    view: View,
    batch_size: int,
    swap: bool,
) -> Iterator[str]:
    """Append a line to `store` for each pair of paths; yields what is wrong with the others."""
    for start in range(0, len(pairs), batch_size):
        some = pairs[start : start + batch_size]
        began = time.perf_counter()
        good, media, problems = load_batch([pair_sample(*pair) for pair in some], media_root, view)
        yield from problems
        if not good:
            continue
        answers = verifier.ask(good, media)
        others: list[tuple[float | None, str]] = [(None, "")] * len(good)
        if swap:
            paths = [[image["path"] for image in sample["images"]] for sample in good]
            turned = [pair_sample(*both, swapped=True) for both in paths]
            others = verifier.ask(turned, [(images[::-1], clips) for images, clips in media])
        seconds = (time.perf_counter() - began) / len(good)
        JsonLines(store).append(
            *(
                Judged(sample["id"], p, q, text, seconds)
                for sample, (p, text), (q, _) in zip(good, answers, others, strict=True)
            )
        )


def read_judged(store: Path) -> dict[str, Judged]:
    """What has been judged so far; a last line that a kill cut off is removed."""
    JsonLines(store).mend()
    return {judged.id: judged for judged in read_records(store, Judged)}
