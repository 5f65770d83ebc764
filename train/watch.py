"""The page of runs that go on: their curves, and the last groups with each token's weight."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from nontrivial.manifests.command import say
from nontrivial.manifests.files import write_text
from nontrivial.manifests.page import Thumbnails, render, summary
from nontrivial.manifests.page.groups import group_cards
from nontrivial.manifests.runs import GROUPS, LOG, SampledGroup, read_records
from nontrivial.train.checkpoints import steps_of
from nontrivial.train.curves import PANELS, History, read_log, running_mean, shares

EVERY = 5.0  # seconds between looks at a run
LAST = 24  # sampled groups of a run on the page
POINTS = 400  # of a curve, at most


def follow(runs: Sequence[str], page: Path, *, smooth: int, every: float = EVERY) -> None:
    """Write the page whenever a run has logged more, until all have ended or the user interrupts.

    A browser loads it again by itself, the last time when `follow` returns.
    """
    say(f"following {', '.join(runs)}: open {page}; ctrl-C ends it", flush=True)
    written: list[int] | None = None
    try:
        while not all(map(has_ended, runs)):
            sizes = [_size(Path(folder, name)) for folder in runs for name in (LOG, GROUPS)]
            if sizes != written:
                write_page(runs, page, smooth=smooth, reload=every)
                written = sizes
            time.sleep(every)
    except KeyboardInterrupt:
        pass
    write_page(runs, page, smooth=smooth)


def has_ended(folder: str) -> bool:
    """True if a run has written its policy, and has logged no step since."""
    steps, history = steps_of(Path(folder)), _history(folder)
    return steps is not None and all(entry["step"] <= steps for entry in history[-1:])


def write_page(
    runs: Sequence[str], page: Path, *, smooth: int, reload: float | None = None
) -> None:
    """Write the page of some runs; it loads itself again every `reload` seconds."""
    histories = {folder: _history(folder) for folder in runs}
    sampled = (
        group_cards(folder, deque(read_records(Path(folder, GROUPS), SampledGroup), LAST))
        for folder in runs
    )
    rows = [_state(folder, history) for folder, history in histories.items()]
    content = render(
        "runs",
        list(chain.from_iterable(sampled)),
        Thumbnails(0),
        tables=[summary("state", ("run", "step", "epoch", "state"), rows)],
        charts=charts(histories, smooth),
        reload=reload,
    )
    write_text(page, content)


def charts(histories: dict[str, History], smooth: int) -> list[dict[str, Any]]:
    """Return a chart for each panel that some run logged, and of each run's shares of a step."""
    made = []
    for name, title in PANELS.items():
        width = 1 if name.startswith("eval_") else smooth  # evaluations are few, and far between
        curves = [
            _curve(label, points, width)
            for label, history in histories.items()
            if (points := _points(history, name))
        ]
        if curves:
            made.append({"kind": "lines", "title": title, "series": curves})
    for label, history in histories.items():
        steps, parts = shares(history)
        if steps:
            curves = [
                _curve(part, list(zip(steps, values, strict=True)), smooth)
                for part, values in parts.items()
            ]
            smoothed = [curve | {"points": curve["means"]} for curve in curves]
            title = "shares of a step's time" + (f": {label}" if len(histories) > 1 else "")
            made.append({"kind": "stack", "title": title, "series": smoothed})
    return made


def _curve(name: str, points: Sequence[tuple[int, float]], width: int) -> dict[str, Any]:
    """Return a curve and its running mean, of `POINTS` points at most, the last one among them."""
    steps, values = zip(*points, strict=True)
    means = list(zip(steps, running_mean(values, width), strict=True))
    count = len(points)
    chosen = [(place + 1) * count // min(count, POINTS) - 1 for place in range(min(count, POINTS))]
    return {
        "name": name,
        "points": [points[place] for place in chosen],
        "means": [means[place] for place in chosen],
    }


def _points(history: History, name: str) -> list[tuple[int, float]]:
    """Return steps and values of a metric, without those that are no finite number."""
    pairs = ((entry["step"], entry.get(name)) for entry in history)
    return [(step, v) for step, v in pairs if isinstance(v, int | float) and math.isfinite(v)]


def _state(folder: str, history: History) -> tuple[Any, ...]:
    if not history:
        return folder, "", "", "has logged nothing yet"
    last = history[-1]
    epoch = last.get("epoch")
    written = f"{epoch:.2f}" if isinstance(epoch, int | float) else ""
    return folder, last["step"], written, "ended" if has_ended(folder) else "goes on"


def _history(folder: str) -> History:
    """Return what a run has logged; nothing where it has not begun."""
    try:
        return read_log(folder)
    except FileNotFoundError:
        return []


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0
