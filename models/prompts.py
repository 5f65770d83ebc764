"""Prompts of the policy, and its supervised answers.

The prompt is the question, one option a line as `A text`, and an instruction to think inside
`<think> </think>` and answer inside `<answer> </answer>`; one instruction for each task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nontrivial.manifests.answers import format_answer, lettered

SAME_PERSON = "Do both images show the same person?"
DESCRIBED_PERSON = "Does the image show the person who is described? Description: {text}"
YES, NO = "Yes", "No"
_THINK = "Think about what you see inside <think> </think>, then answer inside <answer> </answer> "
INSTRUCTIONS = {
    "reid_pair": _THINK + "with one letter.",
    "reid_text": _THINK + "with one letter.",
    "reid_choice": _THINK + "with the letter of every right candidate, separated by commas.",
    "video_qa": _THINK + "with the letter of every right option, separated by commas.",
}


def question_text(question: str, options: Sequence[str], task: str) -> str:
    """Return the text of a prompt.

    >>> print(question_text("Same person?", ["Yes", "No"], "reid_pair"))  # doctest: +ELLIPSIS
    Same person?
    A Yes
    B No
    Think ...
    """
    return "\n".join([question, lettered(options), INSTRUCTIONS[task]])


def messages(sample: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a sample as chat messages: a placeholder for each image and video, then the text.

    The placeholders hold no media: the processor receives images and frames separately.
    """
    media = [{"type": "image"} for _ in sample["images"] or []]
    media += [{"type": "video"} for _ in sample["videos"] or []]
    text = question_text(sample["question"], sample["options"], sample["task"])
    return [{"role": "user", "content": [*media, {"type": "text", "text": text}]}]


def target_text(answer: Iterable[str], rationale: str | None = None) -> str:
    """Return the supervised completion; without a rationale its think block is empty.

    >>> target_text(["A"], "same shirt")
    '<think>same shirt</think><answer>A</answer>'
    """
    return f"<think>{rationale or ''}</think>{format_answer(answer)}"
