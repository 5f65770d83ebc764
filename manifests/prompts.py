"""Prompts of the policy, and its supervised answers.

The prompt is the question, one option a line as `A text`, and an instruction to think inside
`<think> </think>` and answer inside `<answer> </answer>`; one instruction for each task. The style
`answer` asks for the answer alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nontrivial.manifests.answers import format_answer, lettered

SAME_PERSON = "Do both images show the same person?"
DESCRIBED_PERSON = "Does the image show the person who is described? Description: {text}"
YES, NO = "Yes", "No"
STYLES = {
    "think": "Think about what you see inside <think> </think>, then answer inside "
    "<answer> </answer> ",
    "answer": "Answer inside <answer> </answer> ",
}
TASKS = {
    "reid_pair": "with one letter.",
    "reid_text": "with one letter.",
    "reid_choice": "with the letter of every right candidate, separated by commas.",
    "video_qa": "with the letter of every right option, separated by commas.",
}
INSTRUCTIONS = {task: STYLES["think"] + ending for task, ending in TASKS.items()}


def question_text(question: str, options: Sequence[str], task: str, style: str = "think") -> str:
    """Return the text of a prompt, in one of `STYLES`.

    >>> print(question_text("Same person?", ["Yes", "No"], "reid_pair"))  # doctest: +ELLIPSIS
    Same person?
    A Yes
    B No
    Think ...
    """
    return "\n".join([question, lettered(options), STYLES[style] + TASKS[task]])


def messages(sample: Mapping[str, Any], style: str = "think") -> list[dict[str, Any]]:
    """Return a sample as chat messages: a placeholder for each image and video, then the text.

    The placeholders hold no media: the processor receives images and frames separately.
    """
    media = [{"type": "image"} for _ in sample["images"] or []]
    media += [{"type": "video"} for _ in sample["videos"] or []]
    text = question_text(sample["question"], sample["options"], sample["task"], style)
    return [{"role": "user", "content": [*media, {"type": "text", "text": text}]}]


def target_text(answer: Iterable[str], rationale: str | None = None, style: str = "think") -> str:
    """Return the supervised completion; without a rationale its think block is empty.

    >>> target_text(["A"], "same shirt")
    '<think>same shirt</think><answer>A</answer>'
    """
    thought = f"<think>{rationale or ''}</think>" if style == "think" else ""
    return thought + format_answer(answer)
