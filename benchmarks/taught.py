"""Train the embedded policy on kinds of pairs, and ask what helped where it is used.

  python -m benchmarks.taught --jobs 2   # about an hour on two cores; continues where it stopped

From one warm-up on random pairs, GRPO sees twins, extreme pairs or random ones of the same people:
equal budgets, equal steps, several seeds. Held-out pairs of each kind and the first five of each
query's ranking are answered greedily, and rankings are judged again. Natural are the last two.
Intervals are two standard errors over the seeds. Below each kind of pairs stands its difference to
the warm-up.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.claims import folder, run_all, with_error
from nontrivial.manifests.command import guard, option, parse, table
from scripts.demo import step

ARMS = {"twins": "hard", "extreme": "extreme", "random": "random"}
ASKED = {"hard": "twins", "extreme": "extreme", "random": "random", "top": "first five"}


@dataclass
class Options:
    """Options of `python -m benchmarks.taught`."""

    out: str = option("folder for everything that is made", default="runs/taught")
    seeds: int = option("seeds of each kind of pairs", default=5)
    steps: int = option("steps of GRPO", default=250)
    warmup_steps: int = option("steps of the shared warm-up", default=30)
    budget: int = option("training pairs of each kind", default=1200)
    limit: int = option("most held-out pairs of each kind", default=1000)
    queries: int = option("most queries whose rankings are judged", default=300)
    learning_rate: float = option("of GRPO", default=3e-5)
    max_redraws: int = option("draws of other prompts for groups without variance", default=3)
    jobs: int = option("trainings at a time, sharing the cores", default=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="benchmarks.taught", description=__doc__))


def run(options: Options) -> None:
    """Run what is missing, seed by seed, and print the table of what is there."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    done = out / ".done"
    for command in [*preparations(options), *evaluations(options, out / "warmup")]:
        step(command, done)
    runs = {
        folder(out, arm, seed): [
            grpo(options, arm, seed),
            *evaluations(options, folder(out, arm, seed)),
        ]
        for seed in range(options.seeds)
        for arm in ARMS
    }
    run_all(runs, done, options.jobs)
    report(options, out)


def report(options: Options, out: Path) -> None:
    """Print means over seeds, and the differences to the warm-up."""
    before = scores(out / "warmup")
    rows = [("warmed up", *(f"{value:.3f}" for value in before.values()))]
    for arm in ARMS:
        after = [scores(folder(out, arm, seed)) for seed in range(options.seeds)]
        rows.append((arm, *(with_error([one[name] for one in after]) for name in before)))
        gains = [[one[name] - before[name] for one in after] for name in before]
        rows.append(("  − warmed up", *map(with_error, gains)))
    print(f"\nMeans of {options.seeds} seeds, two standard errors in brackets.\n")
    print(table(rows, header=("GRPO on", *before)))


def preparations(options: Options) -> list[list[str]]:
    """Return the commands that all arms share."""
    out, people = options.out, ["--source", "market1501", "--encoder", "stripes"]
    built = [*people, "--root", f"{out}/data", "--out", f"{out}/manifests"]
    mined = ["builders.reid_hard", *built, "--pairs"]
    held_out = ["--split", "test", "--budget", str(options.limit)]
    return [
        ["builders.synthetic", "--only", "market1501", "--out", f"{out}/data"],
        *([*mined, kind, "--budget", str(options.budget)] for kind in ARMS.values()),
        *([*mined, kind, *held_out] for kind in ARMS.values()),
        [*mined, "top", "--split", "test", "--top_k", "5"],
        ["builders.embed", *built, "--split", "test"],
        [
            *("train.warmup", training_table(out, "random"), "--learning_rate", "3e-4"),
            *("--max_steps", str(options.warmup_steps), "--output_dir", f"{out}/warmup"),
        ],
    ]


def training_table(out: str, kind: str) -> str:
    """Return the path of a training manifest."""
    return f"{out}/manifests/market1501_reid_{kind}.parquet"


def grpo(options: Options, arm: str, seed: int) -> list[str]:
    """Return the command of one training."""
    return [
        *("train.grpo", training_table(options.out, ARMS[arm])),
        *("--model_name_or_path", f"{options.out}/warmup", "--max_steps", str(options.steps)),
        *("--reward_weights", "1", "0.5", "--seed", str(seed)),
        *("--learning_rate", str(options.learning_rate)),
        *("--max_redraws", str(options.max_redraws)),
        *("--output_dir", str(folder(Path(options.out), arm, seed))),
    ]


def evaluations(options: Options, run: Path) -> list[list[str]]:
    """Return the commands that ask the policy of a run about held-out pairs and rankings."""
    tables = f"{options.out}/manifests"
    model = ["--model_name_or_path", str(run)]
    return [
        [
            *("eval.qa", *(f"{tables}/eval/market1501_reid_{kind}_test.parquet" for kind in ASKED)),
            *(*model, "--out", str(run / "held_out"), "--limit", str(options.limit)),
            *("--batch_size", "125", "--max_new_tokens", "64"),
        ],
        [
            *("eval.reid", f"{tables}/embeddings/market1501_test.parquet", *model),
            *("--judge", "reasoned", "--swap", "false", "--limit", str(options.queries)),
            *("--out", str(run / "ranked"), "--batch_size", "125", "--max_new_tokens", "64"),
        ],
    ]


def scores(run: Path) -> dict[str, float]:
    """Return accuracy on each kind of held-out pair, and mAP and R-1 of the judged ranking."""
    answers = json.loads((run / "held_out" / "summary.json").read_text(encoding="utf-8"))
    found = {
        title: answers["manifests"][f"market1501_reid_{kind}_test"][0]["strict"]
        for kind, title in ASKED.items()
    }
    lines = json.loads((run / "ranked" / "reid.json").read_text(encoding="utf-8"))["lines"]
    judged = next(line["scores"] for line in lines if line["ranking"].startswith("policy"))
    return found | {"mAP": judged["mean_ap"], "R-1": judged["cmc"][0]}


if __name__ == "__main__":
    sys.exit(main())
