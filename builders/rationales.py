"""Reasoning text for samples whose source carries its truth (the synthetic data sets do).

A synthetic data set keeps `truth.parquet` beside its files. For people it holds a row an image:
`path` and one column an attribute, in words. For clips it holds a row a choice: `scene_index`,
`question_id`, `choice_id` and `fact`; choice −1 of every question is what is seen.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from manifests.answers import letters


def comparison(query: Sequence[str], candidate: Sequence[str], verdict: str) -> str:
    """Attribute by attribute, what both images show, then the verdict.

    >>> comparison(["red shirt", "slim"], ["red shirt", "wide"], "No")
    'red shirt red shirt same; slim wide differ; No'
    """
    steps = [
        f"{a} {b} {'same' if a == b else 'differ'};" for a, b in zip(query, candidate, strict=True)
    ]
    return " ".join([*steps, verdict])


def option_by_option(facts: Sequence[str], answer: Collection[str]) -> str:
    """What holds for each option and whether it is right, an option a line.

    >>> print(option_by_option(["red blue hit", "red green miss"], {"A"}))
    A red blue hit yes;
    B red green miss no;
    """
    return "\n".join(
        f"{letter} {fact} {'yes' if letter in answer else 'no'};"
        for letter, fact in zip(letters(len(facts)), facts, strict=True)
    )
