"""Credit what reasons say about an option with what its verdict alone has changed.

Reasons that judge option by option, `A … yes`, then `B … no`, earn one reward together. What the
other verdicts earned or lost is noise to the words about one of them. So these are compared with
the same answer in which that one verdict is left to the group: to the share of its members that
choose the option. The baseline does not depend on the verdict, hence the gradient's mean stays the
same, as far as verdicts do not depend on each other and answers repeat what reasons say.

It is COMA's counterfactual baseline (arXiv 1705.08926), with options in place of agents.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from nontrivial.manifests.answers import LETTERS, letters, read_answer
from nontrivial.train.journal import spans

# A line about an option: `B red cube`, `(B) …`, `- **B.** …`, `Option B: …`
_LINE = re.compile(r"^[ \t>#*-]*(?:(?i:option) )?[(\[*]*([A-Z])(?=[)\].:* \t])", re.MULTILINE)


@dataclass(frozen=True)
class Verdicts:
    """What N groups of G answers choose of at most K options.

    chosen  (N, G, K) bool, all false where an answer can't be read
    right   (N, K) bool
    asked   (N, K) bool: the options that a question has; none if no option is right
    """

    chosen: Tensor
    right: Tensor
    asked: Tensor

    @classmethod
    def read(
        cls,
        texts: Sequence[str],
        options: Sequence[Sequence[str]],
        answers: Sequence[Sequence[str]],
        group: int,
    ) -> Verdicts:
        """Read completions (B), beside the options and right letters of each."""
        most = max(map(len, options))
        told = [
            letters(len(each) if right else 0) for each, right in zip(options, answers, strict=True)
        ]
        chosen = marked(list(map(read_answer, texts, options)), most)
        return cls(
            chosen.view(-1, group, most),
            marked(answers[::group], most),
            marked(told[::group], most),
        )

    def to(self, device: torch.device) -> Verdicts:
        """Return them on another device."""
        return Verdicts(self.chosen.to(device), self.right.to(device), self.asked.to(device))

    def earned(self, score: Score) -> Tensor:
        """Return what the answers earn, (N, G) float32."""
        return score(self.chosen, self.right[:, None], self.asked[:, None])

    @property
    def readable(self) -> Tensor:
        """Which answers choose something, (N, G) bool."""
        return self.chosen.any(2)


# What chosen options earn: (…, K) bool of those chosen, right and asked -> (…) float32.
Score = Callable[[Tensor, Tensor, Tensor], Tensor]


def soft(chosen: Tensor, right: Tensor, asked: Tensor) -> Tensor:
    """Return |S| / |T| of chosen options S that are all among the right T, else 0."""
    return chosen.sum(-1) / right.sum(-1).clip(1) * ~(chosen & ~right).any(-1)


def exact(chosen: Tensor, right: Tensor, asked: Tensor) -> Tensor:
    """Return 1 where just the right options are chosen, else 0."""
    return (chosen == right).all(-1).float()


def per_option(chosen: Tensor, right: Tensor, asked: Tensor) -> Tensor:
    """Return the share of verdicts that are right, 0 where nothing is chosen."""
    rightly = ((chosen == right) & asked).sum(-1)
    return rightly / asked.sum(-1).clip(1) * chosen.any(-1)


def balanced(chosen: Tensor, right: Tensor, asked: Tensor) -> Tensor:
    """Return the shares of right options chosen and of wrong ones left, minus one."""
    wrong = asked & ~right
    wrongly = (chosen & wrong).sum(-1) / wrong.sum(-1).clip(1)
    return (chosen & right).sum(-1) / right.sum(-1).clip(1) - wrongly


# The rewards of `train.rewards` that are made of verdicts, for many answers at once.
SCORES: Mapping[str, Score] = {
    "soft_accuracy": soft,
    "exact_accuracy": exact,
    "per_option": per_option,
    "balanced_options": balanced,
}


def of_each_option(score: Score, verdicts: Verdicts) -> Tensor:
    """Return what each verdict has earned, against the group's on that option: (N, G, K) float32.

    Answers that can't be read are not among the group's.
    """
    chosen, right, asked = verdicts.chosen, verdicts.right[:, None], verdicts.asked[:, None]
    readable = verdicts.readable
    share = chosen.sum(1) / readable.sum(1, keepdim=True).clip(1)
    earned = verdicts.earned(score)
    found = []
    for one in torch.eye(chosen.shape[2], dtype=torch.bool, device=chosen.device):
        with_it, without = score(chosen | one, right, asked), score(chosen & ~one, right, asked)
        found.append(earned - without - share[:, one] * (with_it - without))
    return torch.stack(found, 2)


def by_option(own: Tensor, whole: Tensor, about: Tensor, verdicts: Verdicts) -> Tensor:
    """Return the credit (N, G, T) of tokens that are `about` (N, G, T) an option, −1 for none.

    It is that option's part of `own` (N, G, K). Tokens about none, and all of an answer that can't
    be read, are credited with the `whole` (N, G).
    """
    option = about.clip(0)
    asked = verdicts.asked[:, None].expand_as(own).gather(2, option)
    known = (about >= 0) & asked & verdicts.readable[..., None]
    return torch.where(known, own.gather(2, option), whole[..., None])


def options_told(pieces: Sequence[str], count: int) -> list[int]:
    """Return which of `count` options each token of a completion is about, −1 for none.

    `pieces` are the texts of its tokens. In the think block, a line that begins with an option's
    letter is about that option, up to the next such line. The letter itself is not: it decides what
    is judged next, and what is not. Where lines tell of fewer than two options, such as one that
    begins with "A man", no token is about any.

    >>> options_told(["<think>", "A", " red", " no;\\n", "B", " blue", "</think>", "B"], 2)
    [-1, -1, 0, 0, -1, 1, -1, -1]
    """
    inside = spans(pieces)["think"]
    texts = pieces[inside.start : inside.stop]
    lines = [
        (line.start(1), LETTERS.index(line[1]))
        for line in _LINE.finditer("".join(texts))
        if line[1] in LETTERS[:count]
    ]
    about = [-1] * len(pieces)
    if len({option for _, option in lines}) < 2:
        return about
    places = [place for place, _ in lines]
    ends = accumulate(map(len, texts), initial=0)
    for number, (start, end) in enumerate(pairwise(ends)):
        before, after = bisect_left(places, start), bisect_left(places, end)
        if before == after and before:
            about[inside.start + number] = lines[before - 1][1]
    return about


def marked(named: Sequence[Collection[str]], count: int) -> Tensor:
    """Return which of `count` options letters name, (B, count) bool.

    >>> marked([["A", "C"], []], 3).int().tolist()
    [[1, 0, 1], [0, 0, 0]]
    """
    return torch.tensor([[letter in each for letter in LETTERS[:count]] for each in named])
