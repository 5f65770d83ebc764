"""Run the whole pipeline on drawn data with the embedded policy.

Draw data, run both builders, warm up, train with GRPO, and evaluate after each stage. Warm-up sees
random pairs and GRPO twins, so that the policy first learns to reason about easy cases.
Both see questions on videos, half of them inverted. Evaluation is on held-out identities and
videos. Everything is written to one folder; a demo that was killed continues after its last
finished step.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from nontrivial.manifests.command import guard, option, parse, table
from nontrivial.manifests.errors import WorkFailed

STAGES = {"pre-trained": "embedded", "warmed up": "{out}/warmup", "GRPO": "{out}/grpo"}
QUESTIONS = {
    "market1501_reid_random_test": "random pairs of people",
    "market1501_reid_hard_test": "twins of people",
    "market1501_reid_top_test": "first five of each ranking",
    "clevrer_qa_invert_val": "questions on videos",
}


@dataclass
class Options:
    """Options of `python -m scripts.demo`."""

    out: str = option("folder for everything the demo makes", default="runs/demo")
    seed: int = option("seed of everything random", default=0)
    warmup_steps: int = option("steps of the supervised warm-up", default=30)
    grpo_steps: int = option("steps of GRPO", default=130)
    limit: int = option("most evaluation samples of each kind", default=1000)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="scripts.demo", description=__doc__))


def run(options: Options) -> None:
    """Run every step that is left; print the scores and draw the reward curve."""
    from nontrivial.train.plot import plot

    out, began = Path(options.out), time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    for command in commands(options):
        step(command, out / ".done")
    rows = results(out)
    print("\nHeld-out identities and videos; soft accuracy with its 95 % interval.\n")
    print(table(rows, header=("asked", "n", "without looking", *STAGES)))
    picture = out / "reward.png"
    plot([out / "grpo"], picture)
    print(f"\nreward curve: {picture}\nin {(time.monotonic() - began) / 60:.1f} minutes")


def commands(options: Options) -> list[list[str]]:
    """Return every command of the demo, as a user would type it after `python -m`."""
    out, seed = options.out, ["--seed", str(options.seed)]
    data, tables = f"{out}/data", f"{out}/manifests"
    built = ["--root", data, "--out", tables, *seed]
    reid = ["builders.reid_hard", "--source", "market1501", "--encoder", "stripes", *built]
    train = [f"{tables}/market1501_reid_hard.parquet", f"{tables}/clevrer_qa_invert.parquet"]
    asked = [f"{tables}/eval/{name}.parquet" for name in QUESTIONS]
    judge = ["eval.qa", *asked, "--limit", str(options.limit), "--batch_size", "125"]
    stages = {name: path.format(out=out) for name, path in STAGES.items()}

    def evaluate(stage: str) -> list[str]:
        model = ["--model_name_or_path", stages[stage]]
        return [*judge, *model, "--out", f"{out}/eval/{stage}", "--max_new_tokens", "64"]

    return [
        ["builders.synthetic", "--out", data, *seed],
        [*reid, "--pairs", "random", "--budget", "1200"],
        [*reid, "--budget", "1200"],
        ["builders.qa_invert", "--bench", "clevrer", *built],
        [*reid, "--split", "test", "--pairs", "random", "--budget", str(options.limit)],
        [*reid, "--split", "test", "--budget", str(options.limit)],
        [*reid, "--split", "test", "--pairs", "top", "--top_k", "5"],
        ["builders.qa_invert", "--bench", "clevrer", "--split", "validation", *built],
        evaluate("pre-trained"),
        [
            "train.warmup",
            f"{tables}/market1501_reid_random.parquet",
            f"{tables}/clevrer_qa_invert.parquet",
            *("--max_steps", str(options.warmup_steps), "--learning_rate", "3e-4"),
            *("--output_dir", stages["warmed up"], *seed),
        ],
        evaluate("warmed up"),
        [
            "train.grpo",
            *train,
            *("--model_name_or_path", stages["warmed up"]),
            *("--max_steps", str(options.grpo_steps), "--reward_weights", "1", "0.5"),
            *("--learning_rate", "3e-5"),
            *("--output_dir", stages["GRPO"], *seed),
        ],
        evaluate("GRPO"),
    ]


def step(command: Sequence[str], done: Path, log: Path | None = None) -> None:
    """Run one command unless its marker in `done` says that it has run; write the marker last.

    Its output goes to the terminal, or to the end of `log` if several commands run at once. Raises
    `WorkFailed` if it fails.
    """
    marker = done / hashlib.sha256("\0".join(command).encode()).hexdigest()[:16]
    shown = " ".join(command)
    if marker.exists():
        print(f"done before: python -m {shown}")
        return
    print(f"\n$ python -m {shown}", flush=True)
    began = time.monotonic()
    with log.open("ab") if log else nullcontext() as out:
        run = subprocess.run([sys.executable, "-m", *command], stdout=out, stderr=out, check=False)
    status = run.returncode
    if status:
        raise WorkFailed(f"python -m {command[0]} ended with status {status}")
    done.mkdir(exist_ok=True)
    marker.write_text(f"{shown}\n{time.monotonic() - began:.1f} s\n", encoding="utf-8")


def results(out: Path) -> list[tuple[str, ...]]:
    """Return a row for each kind of question: title, n, the best rule's score and the stages'."""
    lines = {}
    for stage in STAGES:
        summary = json.loads((out / "eval" / stage / "summary.json").read_text(encoding="utf-8"))
        lines[stage] = {name: scores[0] for name, scores in summary["manifests"].items()}
    rows = []
    for name, title in QUESTIONS.items():
        scores = [_score(lines[stage][name]) for stage in STAGES]
        first = lines["pre-trained"][name]
        without = max(first["blind_soft"], first["shortcut_score"] or 0)
        rows.append((title, str(first["n"]), f"{without:.3f}", *scores))
    return rows


def _score(line: dict) -> str:
    low, high = line["soft_interval"]
    return f"{line['soft']:.3f} ({low:.3f}–{high:.3f})"


if __name__ == "__main__":
    sys.exit(main())
