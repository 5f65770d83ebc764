"""Do soft rewards and token weights help? Four ways to train the embedded policy, seed by seed.

  python -m benchmarks.claims --jobs 2   # two hours on two cores; goes on where it was stopped

    binary GRPO            a completion is right or wrong
    soft GRPO              partly right answers earn a part
    TW-GRPO, divergence    soft, and tokens weighted by how much a group disagrees (exactly)
    TW-GRPO, official      soft, and the weights of the published code

All start from one warm-up and see the same questions on videos, half of them inverted, and choices
among four people with none to several right. On single-answer pairs soft and binary are the same,
so there are none. Held-out questions are answered greedily after the last step. Interval: two
standard errors over the seeds. The learning rate is the one at which plain GRPO was stable.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
from collections.abc import Sequence
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
# What is asked, as the table calls it; the start and the best blind rule stand beside the ways.
ASKED = {
    "market1501_reid_hard_choice_test": "choices",
    "clevrer_qa_invert_val": "videos",
}
LAST = 20  # steps whose mean stands for the end of training
CURVES = {
    "rewards/soft_accuracy/mean": "soft accuracy",
    "rewards/exact_accuracy/mean": "strict accuracy",
    "frac_reward_zero_std": "share of groups without variance",
    "completions/mean_length": "tokens of a completion",
}


@dataclass
class Options:
    out: str = option("folder of everything that is made", default="runs/claims")
    picture: str = option("the curves", default="docs/claims.png")
    seeds: int = option("seeds of each way", default=5)
    steps: int = option("steps of GRPO", default=100)
    warmup_steps: int = option("steps of the common warm-up", default=120)
    limit: int = option("held-out questions of each kind", default=500)
    jobs: int = option("trainings at a time, which share the cores; logs beside them", default=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return guard(run, parse(Options, argv, prog="benchmarks.claims", description=__doc__))


def run(options: Options) -> None:
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
    """Run what is missing, seed by seed: whoever stops early has all ways for the seeds so far."""
    done = out / ".done"
    for command in [*preparations(options), evaluation(options, out / "warmup")]:
        step(command, done)
    if options.jobs > 1:
        share = max(1, (os.cpu_count() or 1) // options.jobs)
        os.environ["OMP_NUM_THREADS"] = str(share)

    def one(arm: str, seed: int) -> None:
        log = folder(out, arm, seed).with_suffix(".log") if options.jobs > 1 else None
        for command in (grpo(options, arm, seed), evaluation(options, folder(out, arm, seed))):
            step(command, done, log)

    with ThreadPoolExecutor(options.jobs) as pool:
        waiting = [pool.submit(one, arm, seed) for seed in range(options.seeds) for arm in ARMS]
        try:
            for each in waiting:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def preparations(options: Options) -> list[list[str]]:
    """What all ways share, as a user would type it after `python -m`."""
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
    """What is trained on."""
    names = ("market1501_reid_hard_choice", "clevrer_qa_invert")
    return [f"{out}/manifests/{name}.parquet" for name in names]


def grpo(options: Options, arm: str, seed: int) -> list[str]:
    """One run of training."""
    weights, weighting = ARMS[arm]
    return [
        *("train.grpo", *training_tables(options.out)),
        *("--model_name_or_path", f"{options.out}/warmup"),
        *("--reward_funcs", *REWARDS, "--reward_weights", *weights),
        *("--token_weighting", weighting, "--max_steps", str(options.steps)),
        *("--seed", str(seed), "--output_dir", str(folder(Path(options.out), arm, seed))),
    ]


def evaluation(options: Options, where: Path) -> list[str]:
    """Greedy answers of the policy in a folder."""
    return [
        *("eval.qa", *(f"{options.out}/manifests/eval/{name}.parquet" for name in ASKED)),
        *("--model_name_or_path", str(where), "--out", str(where / "held_out")),
        *("--limit", str(options.limit), "--batch_size", "125", "--max_new_tokens", "64"),
    ]


def folder(out: Path, arm: str, seed: int) -> Path:
    """Where a run keeps its policy and log."""
    return out / f"{arm.lower().replace(',', '').replace(' ', '_')}_{seed}"


def scores(folders: Sequence[Path], *, blind: bool = False) -> list[str]:
    """Soft and strict accuracy on each kind of held-out questions; `blind`, of the blind rule."""
    files = [where / "held_out" / "summary.json" for where in folders]
    found = [json.loads(file.read_text(encoding="utf-8"))["manifests"] for file in files]
    names = ("blind_soft", "blind_strict") if blind else ("soft", "strict")
    return [
        with_error([manifests[kind][0][name] for manifests in found])
        for kind in ASKED
        for name in names
    ]


def ends(folders: Sequence[Path]) -> list[str]:
    """The share of groups without variance and the length of completions, at the end."""
    from nontrivial.train.plot import read_log, series

    histories = [read_log(where) for where in folders]
    return [
        with_error([statistics.mean(series(history, name)[1][-LAST:]) for history in histories])
        for name in ("frac_reward_zero_std", "completions/mean_length")
    ]


def with_error(values: Sequence[float]) -> str:
    """Mean and two standard errors.

    >>> with_error([1.0, 2.0, 3.0])
    '2.000 (±1.155)'
    """
    if len(values) < 2:
        return f"{values[0]:.3f}"
    error = 2 * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.3f} (±{error:.3f})"


def draw(runs: dict[str, list[Path]], picture: Path) -> None:
    """A panel a curve: each way's mean over its seeds and the band between lowest and highest."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from nontrivial.train.plot import read_log, running_mean, series

    figure, panels = plt.subplots(1, len(CURVES), figsize=(16, 3.6), layout="constrained")
    for axes, (name, title) in zip(panels, CURVES.items(), strict=True):
        for arm, folders in runs.items():
            curves: list[Any] = [series(read_log(where), name) for where in folders]
            steps = curves[0][0]
            smooth = [running_mean(values, LAST) for _, values in curves]
            columns = list(zip(*smooth, strict=True))
            [drawn] = axes.plot(steps, [statistics.mean(each) for each in columns], label=arm)
            low, high = [min(each) for each in columns], [max(each) for each in columns]
            axes.fill_between(steps, low, high, alpha=0.15, color=drawn.get_color(), linewidth=0)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=140)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
