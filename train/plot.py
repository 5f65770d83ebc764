"""Draw the curves of training runs, side by side.

    python -m train.plot runs/grpo
    python -m train.plot runs/a runs/b --out compared.png
    python -m train.plot runs/grpo --group group.png
    python -m train.plot runs/grpo --follow      # draws again as the run goes on

Reads the log.jsonl of each run, or its trainer_state.json where there is no log. There is a panel
for each of reward, groups without variance, length, token weights and loss that some run logged: a
thin line through all steps, and a running mean over it. The last panel shows where the time of the
first run's steps went. `--group` draws the last sampled group of the first run: each completion
with its rewards, and its tokens shaded by their weight.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.command import guard, option, parse, say, table
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.files import atomic_path
from nontrivial.manifests.runs import GROUPS, LOG, PARTS, SHARE, STATE, JsonLines, read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Metrics and the titles of their panels, in order; a panel that no run logged is left out.
PANELS = {
    "reward": "mean reward",
    "rewards/soft_accuracy/mean": "soft accuracy",
    "frac_reward_zero_std": "share of groups without variance",
    "completions/mean_length": "tokens of a completion",
    "token_weight/mean": "mean token weight",
    "token_weight/std": "spread of token weights",
    "token_weight/think_share": "share of weight on think tokens",
    "token_weight/answer_share": "share of weight on answer tokens",
    "loss": "loss",
    "eval_exact_accuracy": "held out: exactly right",
    "eval_soft_accuracy": "held out: soft accuracy",
    "eval_format": "held out: well formed",
}
COLUMNS = 3
WIDTH = 110  # characters of a line of tokens
FOLLOWED = 5.0  # seconds between looks at a log
PAGE = """<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="{every:.0f}">
<title>curves</title><img src="{picture}" alt="curves of the runs" style="max-width: 100%">
"""

History = list[dict[str, Any]]


@dataclass
class Options:
    """Options of `python -m train.plot`."""

    runs: list[str] = option("folders of runs", positional=True)
    out: str | None = option("picture; by default curves.png in the first folder", default=None)
    group: str | None = option("picture of the last sampled group's tokens", default=None)
    smooth: int = option("steps of the running mean", default=10)
    follow: bool = option("draw again whenever a run has logged more, until ctrl-C", default=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="train.plot", description=__doc__))


def run(options: Options) -> None:
    """Draw the curves, and print the first and the last means."""
    picture = Path(options.out or Path(options.runs[0], "curves.png"))
    if options.follow:
        follow(options.runs, picture, smooth=options.smooth)
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
    parts = {name: series(next(iter(histories.values())), SHARE.format(name)) for name in PARTS}
    timed = any(steps for steps, _ in parts.values())
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
        steps, shares = (
            parts[PARTS[0]][0],
            [running_mean(part[1], smooth) for part in parts.values()],
        )
        axes.stackplot(steps, *shares, labels=PARTS, alpha=0.8)
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


def follow(
    runs: Sequence[str | Path], picture: Path, *, smooth: int, every: float = FOLLOWED
) -> None:
    """Draw the curves whenever a log has grown, until the user interrupts; return then.

    A page beside the picture shows it, and loads it again as it changes.
    """
    page = picture.with_suffix(".html")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(PAGE.format(picture=html.escape(picture.name, quote=True), every=every))
    say(f"following {', '.join(map(str, runs))}: {page}; ctrl-C ends it")
    drawn: list[int] = []
    try:
        while True:
            sizes = [file.stat().st_size if file.is_file() else 0 for file in _logs(runs)]
            if sizes != drawn and any(sizes):
                drawn = sizes
                with suppress(BadInput, FileNotFoundError):  # a run that has logged nothing yet
                    plot(runs, picture, smooth=smooth)
            time.sleep(every)
    except KeyboardInterrupt:
        return


def _logs(runs: Sequence[str | Path]) -> list[Path]:
    return [Path(folder, LOG) for folder in runs]


def read_log(folder: str | Path) -> History:
    """Read the logs of a run, one dict each, with its `step`."""
    log, state = Path(folder, LOG), read_json(Path(folder, STATE))
    if log.is_file():
        return list(JsonLines(log))
    if state is not None:
        return state["log_history"]
    raise FileNotFoundError(f"{folder}: holds neither {LOG} nor {STATE}; give a run's folder")


def series(history: History, name: str) -> tuple[list[int], list[float]]:
    """Return steps and values of one metric.

    >>> series([{"step": 1, "loss": 2.0}, {"step": 2}, {"step": 3, "loss": None}], "loss")
    ([1], [2.0])
    """
    pairs = [(entry["step"], entry[name]) for entry in history if entry.get(name) is not None]
    return [step for step, _ in pairs], [value for _, value in pairs]


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """Return means over the last `width` values, or fewer at the beginning.

    >>> running_mean([1, 3, 5, 7], 2)
    [1.0, 2.0, 4.0, 6.0]
    """
    return [
        sum(values[max(0, i - width + 1) : i + 1]) / min(i + 1, width) for i in range(len(values))
    ]


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
