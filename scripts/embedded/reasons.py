"""Reasons of several kinds for one sample, so that reinforcement learning has something to select.

careful   the builder's own: everything that is seen, then every option
hasty     "quickly": two attributes of a pair; of options, none behind the first that seems right.
          The answer follows from that, right or wrong
wordy     "well": the careful one, seen twice
at once   the right answer alone, to the prompt that asks for it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nontrivial.manifests.answers import letters
from nontrivial.manifests.prompts import NO, YES, target_text

GLANCES = 2  # attributes that a hasty comparison looks at
# A policy that is greedy is hasty; one that samples is careful often enough to be rewarded for it.
CAREFUL = "careful"
SHARES = {CAREFUL: 0.38, "hasty": 0.42, "wordy": 0.1, "at once": 0.1}


@dataclass(frozen=True)
class Reasoned:
    """A completion, and the style of the prompt that asks for it."""

    completion: str
    prompt: str = "think"


def reasoned(row: Mapping[str, Any], kind: str) -> Reasoned:
    """Return the completion of one kind of reasons for a row of a manifest."""
    answer, careful = row["answer"], row["rationale"]
    if kind == "at once":
        return Reasoned(target_text(answer, style="answer"), "answer")
    if kind == "hasty":
        answer, careful = hasty(row)
    elif kind == "wordy":
        careful = wordy(careful)
    return Reasoned(target_text(answer, careful))


def hasty(row: Mapping[str, Any]) -> tuple[list[str], str]:
    """Return the answer that too few looks give, and the reasons that tell of them."""
    if row["task"] == "video_qa":
        lines = row["rationale"].partition("\n")[2].split("\n")
        right = [line.endswith(" yes;") for line in lines]
        last = right.index(True) if True in right else len(lines) - 1
        return [letters(last + 1)[-1]], "quickly\n" + "\n".join(lines[: last + 1])
    looks = row["rationale"].split("; ")[:GLANCES]
    verdict = YES if all(look.endswith(" same") for look in looks) else NO
    letter = letters(len(row["options"]))[row["options"].index(verdict)]
    return [letter], "quickly " + "; ".join([*looks, verdict])


def wordy(careful: str) -> str:
    """Return the reasons with everything seen told twice.

    >>> wordy("red shirt red shirt same; bag bag same; Yes")
    'well red shirt red shirt same; bag bag same; again red shirt red shirt same; bag bag same; Yes'
    >>> wordy("seen moves red cube; so\\nA red cube moves yes;")
    'well seen moves red cube; again seen moves red cube; so\\nA red cube moves yes;'
    """
    seen, so, rest = careful.partition(" so")
    if not so:
        seen, _, verdict = careful.rpartition(" ")
        rest = f" {verdict}"
    return f"well {seen} again {seen}{so}{rest}"
