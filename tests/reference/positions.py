"""The published numbering of Qwen2-VL and Qwen2.5-VL, token by token, in float64."""

from __future__ import annotations

from collections.abc import Sequence

Grid = tuple[int, int, int]  # frames, rows and columns, in tokens


def positions(
    parts: Sequence[int | tuple[Grid, float]], tokens_per_second: float
) -> list[tuple[int, int, int]]:
    """(time, row, column) of each token of a prompt.

    `parts` are lengths of text, and media as grid and seconds between frames (0: not a clip).
    """
    found: list[tuple[int, int, int]] = []
    for part in parts:
        start = max((max(token) for token in found), default=-1) + 1
        if isinstance(part, int):
            found += [(start + n,) * 3 for n in range(part)]
            continue
        (frames, rows, columns), seconds = part
        found += [
            (start + int(t * seconds * tokens_per_second), start + y, start + x)
            for t in range(frames)
            for y in range(rows)
            for x in range(columns)
        ]
    return found
