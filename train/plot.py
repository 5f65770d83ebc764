"""Draw the curves of training runs, side by side.

    python -m train.plot runs/grpo
    python -m train.plot runs/a runs/b --out compared.png
    python -m train.plot runs/grpo --group group.png
    python -m train.plot runs/grpo --follow      # a page that goes on with the run

Reads the log.jsonl of each run, or its trainer_state.json where there is no log. There is a panel
for each of reward, groups without variance, length, token weights and loss that some run logged: a
thin line through all steps, and a running mean over it. The last panel shows where the time of the
first run's steps went. `--group` draws the last sampled group of the first run: each completion
with its rewards, and its tokens shaded by their weight.

`--follow` writes a page of the curves and of the last sampled groups beside the picture, again and
again until the runs have ended; a browser that shows it loads it by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nontrivial.manifests.command import guard, option, parse, say, table
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.files import atomic_path
from nontrivial.manifests.runs import GROUPS, JsonLines
from nontrivial.train.curves import PANELS, read_log, running_mean, series, shares
from nontrivial.train.watch import follow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
WIDTH = 110  # characters of a line of tokens


@dataclass
class Options:
    """Options of `python -m train.plot`."""

    runs: list[str] = option("folders of runs", positional=True)
    out: str | None = option("picture; by default curves.png in the first folder", default=None)
    group: str | None = option("picture of the last sampled group's tokens", default=None)
    smooth: int = option("steps of the running mean", default=10)
    follow: bool = option(
        "write a page again whenever a run has logged more, until all end or ctrl-C", default=False
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="train.plot", description=__doc__))


def run(options: Options) -> None:
    """Draw the curves, and print the first and the last means."""
    picture = Path(options.out or Path(options.runs[0], "curves.png"))
    if options.follow:
        follow(options.runs, picture.with_suffix(".html"), smooth=options.smooth)
    plot(options.runs, picture, smooth=options.smooth)
    say(table(summary(options.runs, options.smooth), header=("run", "logged", "first", "last")))
    say(f"\ncurves: {picture}")
    if options.group:
        plot_group(options.runs[0], options.group)
        say(f"a group's tokens: {options.group}")


def plot(runs: Sequence[str | Path], picture: str | Path, *, smooth: int = 10) -> None:
    """Draw the curves of runs into one PNG, one colour per run.

    Raises `FileNotFoundError` for a folder without a log, `BadInput` where no run logged a metric.
    """
    from matplotlib.figure import Figure

    histories = {str(folder): read_log(folder) for folder in runs}
    shown = [name for name in PANELS if any(series(h, name)[0] for h in histories.values())]
    if not shown:
        raise BadInput(f"{', '.join(histories)}: logged none of {', '.join(PANELS)}")
    steps, parts = shares(next(iter(histories.values())))
    timed = bool(steps)
    columns = min(COLUMNS, len(shown) + timed)
    rows = -(-(len(shown) + timed) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, name in zip(grid.flat, shown, strict=False):
        width = 1 if name.startswith("eval_") else smooth  # evaluations are few, and far between
        _draw(axes, {label: series(h, name) for label, h in histories.items()}, width)
        axes.set(title=PANELS[name], xlabel="step")
    if timed:
        axes = grid.flat[len(shown)]
        smoothed = [running_mean(values, smooth) for values in parts.values()]
        axes.stackplot(steps, *smoothed, labels=parts, alpha=0.8)
        axes.legend(fontsize="x-small", loc="lower left")
        axes.set(title="shares of a step's time", xlabel="step", ylim=(0, 1))
    for axes in grid.flat[len(shown) + timed :]:
        axes.remove()
    if len(histories) > 1:
        grid.flat[0].legend(fontsize="small")
    with atomic_path(picture) as whole:  # a page may be showing it
        figure.savefig(whole, format="png", dpi=140)


def plot_group(run: str | Path, picture: str | Path, *, task: str | None = None) -> None:
    """Draw the last sampled group of a run, of a `task` if there is one, into a PNG.

    Completions stand in the order of their rewards. A token is the darker the larger its weight is
    among those of the group. Raises `FileNotFoundError` where no group was sampled.
    """
    from matplotlib.figure import Figure

    groups = list(JsonLines(Path(run, GROUPS)))
    if not groups:
        raise FileNotFoundError(f"{run}: sampled no group")
    group = ([group for group in groups if group["task"] == task] or groups)[-1]
    completions = sorted(group["completions"], key=lambda c: -sum(c["rewards"].values()))
    weights = [weight for one in completions for weight in one["weights"]]
    low, spread = min(weights), max(max(weights) - min(weights), 1e-9)
    rows: list[tuple[str, list[tuple[int, str, float]]]] = []
    for one in completions:
        rewards = " ".join(f"{value:.2f}" for value in one["rewards"].values())
        shades = [(weight - low) / spread for weight in one["weights"]]
        lines = _wrapped(one["tokens"], shades)
        rows += [(rewards if number == 0 else "", line) for number, line in enumerate(lines)]
    figure = Figure(figsize=(0.06 * (WIDTH + 14), 0.17 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-14, WIDTH), ylim=(len(rows), -0.2))
    axes.axis("off")
    answer, names = ",".join(group["answer"]), ", ".join(completions[0]["rewards"])
    title = f"step {group['step']}: {group['question'][:80]} (right: {answer}); {names}"
    axes.set_title(title, fontsize=8, loc="left", parse_math=False)
    for place, (rewards, line) in enumerate(rows):
        axes.text(-14, place, rewards, fontsize=7, family="monospace", va="top")
        for start, text, shade in line:
            colour = (1, 1 - 0.55 * shade, 1 - 0.9 * shade)
            axes.text(
                start,
                place,
                text,
                fontsize=7,
                family="monospace",
                va="top",
                parse_math=False,
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.6},
            )
    with atomic_path(picture) as whole:
        figure.savefig(whole, format="png", dpi=140)


def _wrapped(tokens: Sequence[str], shades: Sequence[float]) -> list[list[tuple[int, str, float]]]:
    """Return lines of at most `WIDTH` characters: where each token begins, its text and shade."""
    lines: list[list[tuple[int, str, float]]] = [[]]
    column = 0
    for token, shade in zip(tokens, shades, strict=True):
        text = token.replace("\n", "⏎")
        if column + len(text) > WIDTH and column:
            lines.append([])
            column = 0
        lines[-1].append((column, text, shade))
        column += len(text)
    return lines


def summary(runs: Sequence[str | Path], smooth: int) -> list[tuple[str, str, float, float]]:
    """Return (run, metric, mean of the first, mean of the last `smooth` values)."""
    rows = []
    for folder in runs:
        history = read_log(folder)
        for name in PANELS:
            if values := series(history, name)[1]:
                first, last = values[:smooth], values[-smooth:]
                rows.append((str(folder), name, sum(first) / len(first), sum(last) / len(last)))
    return rows


def _draw(axes: Axes, curves: dict[str, tuple[list[int], list[float]]], smooth: int) -> None:
    for label, (steps, values) in curves.items():
        [line] = axes.plot(steps, running_mean(values, smooth), linewidth=1.8, label=label)
        axes.plot(steps, values, linewidth=0.6, alpha=0.35, color=line.get_color())
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(main())
