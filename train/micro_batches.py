"""Split rows into parts of about equally many tokens, so that no part sets the peak of memory.

Rows of one prompt follow each other, and a part reads each of its prompts once (train.group_rows).
Parts are runs of rows: a group is cut only where it must be.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """A completion: which prompt it answers, and the tokens of both."""

    prompt: int
    before: int
    length: int


def needed(rows: Sequence[Row], limit: int, *, share: bool = True) -> int:
    """Return the smallest number of parts that have at most `limit` tokens each.

    A row that is longer than that is a part by itself. Without `share`, every row has its own copy
    of its prompt, and all rows of a part are as long as its longest.

    >>> needed([Row(0, 900, 100), Row(0, 900, 100), Row(1, 900, 100)], limit=1100)
    2
    """
    return len(_filled(rows, limit, 1, share))


def split(rows: Sequence[Row], count: int, *, share: bool = True) -> list[slice]:
    """Return `count` parts, none empty, whose largest has as few tokens as possible.

    >>> split([Row(0, 10, 5), Row(0, 10, 5), Row(0, 10, 50), Row(1, 10, 5)], 2)
    [slice(0, 3, None), slice(3, 4, None)]
    """
    if not 0 < count <= len(rows):
        raise ValueError(f"{len(rows)} rows are no {count} parts")
    everything = sum(row.before + row.length for row in rows) * len(rows)
    capacity = bisect_left(
        range(everything), True, key=lambda limit: needed(rows, limit, share=share) <= count
    )
    starts = _filled(rows, capacity, count, share)
    return [slice(*ends) for ends in zip(starts, [*starts[1:], len(rows)], strict=True)]


def _filled(rows: Sequence[Row], limit: int, least: int, share: bool) -> list[int]:
    """Return where parts begin that take rows up to `limit` tokens, and are at least `least`."""
    starts: list[int] = []
    for place in range(len(rows)):
        must = len(rows) - place <= least - len(starts)
        if not starts or must or _tokens(rows[starts[-1] : place + 1], share) > limit:
            starts.append(place)
    return starts


def _tokens(part: Sequence[Row], share: bool) -> int:
    """Return the number of tokens that a forward pass over a part reads."""
    if share:
        prompts = {row.prompt: row.before for row in part}
        return sum(prompts.values()) + sum(row.length for row in part)
    return len(part) * (max(row.before for row in part) + max(row.length for row in part))
