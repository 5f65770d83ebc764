"""Supervised targets: the tokens behind a sample's prompt, and their labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nontrivial.manifests.answers import LETTERS, format_answer
from nontrivial.manifests.prompts import target_text
from nontrivial.models.inputs import continued
from nontrivial.models.positions import with_text_behind
from nontrivial.train.data import Prompt, Stock, collate
from nontrivial.train.rows import Sample

VERDICTS = ("reid_pair", "reid_text")  # tasks that are answered by Yes or No


class TargetCollator:
    """A collator of samples into a batch of prompts with their targets, and `labels` (B, L).

    Labels are −100 in prompts and padding, and with `answer_only` also before the answer block.
    `stock` encodes the samples. `stand_ins` returns prompts of missing kinds of media, which join
    the batch without labels.
    """

    def __init__(
        self,
        stock: Stock,
        *,
        answer_only: bool = False,
        stand_ins: Callable[[Sequence[Prompt]], Sequence[Prompt]] = lambda prompts: (),
    ) -> None:
        self.stock, self.answer_only, self.stand_ins = stock, answer_only, stand_ins
        self.tokenizer = stock.encode.processor.tokenizer

    def __call__(self, rows: Sequence[Sample]) -> dict[str, Tensor]:
        answered = list(map(self._answered, *self.stock(rows)))
        blank = map(_unlearned, self.stand_ins(answered))
        return collate([*answered, *blank], self.tokenizer.pad_token_id)

    def _answered(self, row: Sample, prompt: Prompt) -> Prompt:
        style = self.stock.encode.options.prompt
        target = self._tokens(target_text(row["answer"], row["rationale"], style))
        learned = self._tokens(format_answer(row["answer"])) if self.answer_only else target
        answered = dict(continued(prompt, [target], self.tokenizer.pad_token_id))
        labels = answered["input_ids"].clone()
        labels[:, : -len(learned)] = -100
        told = torch.ones(1, len(target), dtype=torch.long)
        positions = with_text_behind(prompt["position_ids"], told)
        return answered | {"labels": labels, "position_ids": positions}

    def _tokens(self, text: str) -> list[int]:
        text += self.tokenizer.eos_token
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def _unlearned(prompt: Prompt) -> dict[str, Tensor]:
    return {**prompt, "labels": torch.full_like(prompt["input_ids"], -100)}


def balanced(rows: Sequence[Sample]) -> list[Sample]:
    """Return the rows with pairs of the rarer verdict repeated, in order, until both are even.

    >>> pairs = [{"task": "reid_pair", "options": ["Yes", "No"], "answer": [a]} for a in "ABBB"]
    >>> "".join(row["answer"][0] for row in balanced(pairs))
    'AAABBB'
    """
    others = [row for row in rows if row["task"] not in VERDICTS]
    verdicts: dict[str, list[Sample]] = {}
    for row in rows:
        if row["task"] in VERDICTS:
            verdict = row["options"][LETTERS.index(row["answer"][0])]
            verdicts.setdefault(verdict, []).append(row)
    most = max(map(len, verdicts.values()), default=0)
    return [same[i % len(same)] for same in verdicts.values() for i in range(most)] + others
