"""Test whether soft rewards and token weights help the embedded policy.

  python -m benchmarks.claims --jobs 2   # two hours on two cores; continues where it was stopped

Four ways of training are compared over several seeds:

    binary GRPO            a completion is right or wrong
    soft GRPO              partly right answers earn part of the reward
    TW-GRPO, divergence    soft, with tokens weighted by the exact disagreement of their group
    TW-GRPO, official      soft, with the weights of the published code

All start from one warm-up and see the same questions: questions on videos, half of them inverted,
and choices among four people, of whom none to several are right. Pairs with a single answer are
left out, because soft and binary rewards are the same on them. Held-out questions are answered
greedily after the last step. Intervals are two standard errors over the seeds. The learning rate is
one at which plain GRPO was stable.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nontrivial.manifests.command import guard, option, parse, table
from scripts.demo import step

# All ways log all rewards; the weights say which of them train.
REWARDS = ("soft_accuracy", "exact_accuracy", "format")
SOFT, BINARY = ("1", "0", "0.5"), ("0", "1", "0.5")
ARMS = {
    "binary GRPO": (BINARY, "none"),
    "soft GRPO": (SOFT, "none"),
    "TW-GRPO, divergence": (SOFT, "divergence"),
    "TW-GRPO, official": (SOFT, "official"),
}
# Held-out manifests and their names in the table.
ASKED = {
    "market1501_reid_hard_choice_test": "choices",
    "clevrer_qa_invert_val": "videos",
}
LAST = 20  # steps averaged for the end of training
CURVES = {
    "rewards/soft_accuracy/mean": "soft accuracy",
    "rewards/exact_accuracy/mean": "strict accuracy",
    "frac_reward_zero_std": "share of groups without variance",
    "completions/mean_length": "tokens of a completion",
}


@dataclass
class Options:
    """Options of `python -m benchmarks.claims`."""

    out: str = option("folder for everything that is made", default="runs/claims")
    picture: str = option("file of the curves", default="docs/claims.png")
    seeds: int = option("seeds of each way of training", default=5)
    steps: int = option("steps of GRPO", default=100)
    warmup_steps: int = option("steps of the shared warm-up", default=120)
    limit: int = option("most held-out questions of each kind", default=500)
    jobs: int = option(
        "trainings at a time, sharing the cores; they log to files if over 1", default=1
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="benchmarks.claims", description=__doc__))


def run(options: Options) -> None:
    """Run what is missing; print the table and draw the curves."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    make(options, out)
    runs = {arm: [folder(out, arm, seed) for seed in range(options.seeds)] for arm in ARMS}
    start = [out / "warmup"]
    lines = [("best blind rule", *scores(start, blind=True), "", "")]
    lines += [("warmed up", *scores(start), "", "")]
    lines += [(arm, *scores(folders), *ends(folders)) for arm, folders in runs.items()]
    asked = [f"{kind}, {score}" for kind in ASKED.values() for score in ("soft", "strict")]
    print(f"\nMeans of {options.seeds} seeds, two standard errors in brackets.\n")
    print(table(lines, header=("", *asked, "zero variance", "tokens")))
    draw(runs, Path(options.picture))
    print(f"\ncurves: {options.picture}")


def make(options: Options, out: Path) -> None:
    """Run what is missing, seed by seed, so that an early stop leaves whole seeds."""
    done = out / ".done"
    for command in [*preparations(options), evaluation(options, out / "warmup")]:
        step(command, done)
    runs = {
        folder(out, arm, seed): [
            grpo(options, arm, seed),
            evaluation(options, folder(out, arm, seed)),
        ]
        for seed in range(options.seeds)
        for arm in ARMS
    }
    run_all(runs, done, options.jobs)


def run_all(runs: Mapping[Path, Sequence[Sequence[str]]], done: Path, jobs: int) -> None:
    """Run the commands of each run in turn, `jobs` runs at a time, in the order given.

    Several at a time share the cores and log to `<run>.log`. The first failure ends all.
    """
    if jobs > 1:
        os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))

    def train(run: Path, commands: Sequence[Sequence[str]]) -> None:
        for command in commands:
            step(command, done, run.with_suffix(".log") if jobs > 1 else None)

    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(train, *run) for run in runs.items()]
        try:
            for training in waiting:
                training.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def preparations(options: Options) -> list[list[str]]:
    """Return the commands all ways share, as a user would type them after `python -m`."""
    out = options.out
    built = ["--root", f"{out}/data", "--out", f"{out}/manifests"]
    reid = ["builders.reid_hard", "--source", "market1501", "--encoder", "stripes", *built]
    choice = [*reid, "--form", "choice"]
    return [
        ["builders.synthetic", "--out", f"{out}/data", "--videos", "600", "--test_videos", "300"],
        [*choice, "--budget", "1200"],
        [*choice, "--split", "test", "--budget", str(options.limit)],
        ["builders.qa_invert", "--bench", "clevrer", *built],
        ["builders.qa_invert", "--bench", "clevrer", "--split", "validation", *built],
        [
            *("train.warmup", *training_tables(out), "--max_steps", str(options.warmup_steps)),
            *("--learning_rate", "3e-4", "--output_dir", f"{out}/warmup"),
        ],
    ]


def training_tables(out: str) -> list[str]:
    """Return the paths of the training manifests."""
    names = ("market1501_reid_hard_choice", "clevrer_qa_invert")
    return [f"{out}/manifests/{name}.parquet" for name in names]


def grpo(options: Options, arm: str, seed: int) -> list[str]:
    """Return the command of one training."""
    weights, weighting = ARMS[arm]
    return [
        *("train.grpo", *training_tables(options.out)),
        *("--model_name_or_path", f"{options.out}/warmup"),
        *("--reward_funcs", *REWARDS, "--reward_weights", *weights),
        *("--token_weighting", weighting, "--max_steps", str(options.steps)),
        *("--seed", str(seed), "--output_dir", str(folder(Path(options.out), arm, seed))),
    ]


def evaluation(options: Options, run: Path) -> list[str]:
    """Return the command that lets the policy of a run answer the held-out questions greedily."""
    return [
        *("eval.qa", *(f"{options.out}/manifests/eval/{name}.parquet" for name in ASKED)),
        *("--model_name_or_path", str(run), "--out", str(run / "held_out")),
        *("--limit", str(options.limit), "--batch_size", "125", "--max_new_tokens", "64"),
    ]


def folder(out: Path, arm: str, seed: int) -> Path:
    """Return the folder of a run."""
    return out / f"{arm.lower().replace(',', '').replace(' ', '_')}_{seed}"


def scores(folders: Sequence[Path], *, blind: bool = False) -> list[str]:
    """Return soft and strict accuracy on each kind of held-out question, or of the blind rule."""
    files = [run / "held_out" / "summary.json" for run in folders]
    summaries = [json.loads(file.read_text(encoding="utf-8"))["manifests"] for file in files]
    names = ("blind_soft", "blind_strict") if blind else ("soft", "strict")
    return [
        with_error([manifests[kind][0][name] for manifests in summaries])
        for kind in ASKED
        for name in names
    ]


def ends(folders: Sequence[Path]) -> list[str]:
    """Return the share of groups without variance and the completion length at the end."""
    from nontrivial.train.plot import read_log, series

    histories = [read_log(run) for run in folders]
    return [
        with_error([statistics.mean(series(history, name)[1][-LAST:]) for history in histories])
        for name in ("frac_reward_zero_std", "completions/mean_length")
    ]


def with_error(values: Sequence[float]) -> str:
    """Return the mean and two standard errors as text; the mean alone for one value.

    >>> with_error([1.0, 2.0, 3.0])
    '2.000 (±1.155)'
    """
    if len(values) < 2:
        return f"{values[0]:.3f}"
    error = 2 * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.3f} (±{error:.3f})"


def draw(runs: dict[str, list[Path]], picture: Path) -> None:
    """Draw a panel for each curve: the mean of each way over its seeds, and the range as a band."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from nontrivial.train.plot import read_log, running_mean, series

    figure, panels = plt.subplots(1, len(CURVES), figsize=(16, 3.6), layout="constrained")
    for axes, (name, title) in zip(panels, CURVES.items(), strict=True):
        for arm, folders in runs.items():
            curves: list[Any] = [series(read_log(run), name) for run in folders]
            steps = curves[0][0]
            smooth = [running_mean(values, LAST) for _, values in curves]
            columns = list(zip(*smooth, strict=True))
            [line] = axes.plot(steps, list(map(statistics.mean, columns)), label=arm)
            low, high = list(map(min, columns)), list(map(max, columns))
            axes.fill_between(steps, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=140)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
