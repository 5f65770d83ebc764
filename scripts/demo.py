"""Run the whole pipeline on drawn data with the embedded policy.

Draw data, run both builders, warm up, train with GRPO, and evaluate after each stage. The warm-up
sees random pairs alone, so that the policy first learns to reason about easy cases; it is short,
and leaves the rest to GRPO, which sees twins, and questions on clips, half of those that can be
inverted. Evaluation is on held-out identities and clips: greedy answers, the best of eight samples,
and rankings whose first five candidates the policy judges again. Everything is written to one
folder; a demo that was killed continues after its last finished step.
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

STAGES = {"start": "embedded", "warmed up": "{out}/warmup", "GRPO": "{out}/grpo"}
CLIPS = "clevrer_qa_invert_val"
QUESTIONS = {
    "market1501_reid_hard_test": "twins of people",
    "market1501_reid_random_test": "random pairs of people",
    "market1501_reid_top_test": "first five of each ranking",
    CLIPS: "questions on clips",
}
DRAWS = 8
TOKENS = "112"  # most tokens of a completion


@dataclass
class Options:
    """Options of `python -m scripts.demo`."""

    out: str = option("folder for everything the demo makes", default="runs/demo")
    seed: int = option("seed of everything random", default=0)
    warmup_steps: int = option("steps of the supervised warm-up", default=4)
    grpo_steps: int = option("steps of GRPO", default=300)
    limit: int = option("most evaluation samples of each kind", default=800)
    drawn: int = option("questions on clips that are answered eight times", default=100)
    queries: int = option("most queries whose rankings are judged again", default=100)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="scripts.demo", description=__doc__))


def run(options: Options) -> None:
    """Run every step that is left; print the scores and draw the reward curve."""
    from nontrivial.train.plot import plot, plot_group

    out, began = Path(options.out), time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    for command in commands(options):
        step(command, out / ".done")
    print("\nHeld-out identities and clips, with 95 % intervals.\n")
    print(table(results(out), header=("asked", "n", "without looking", *STAGES)))
    curves, tokens = out / "reward.png", out / "group.png"
    plot([out / "grpo"], curves)
    plot_group(out / "grpo", tokens, task="video_qa")
    print(f"\ncurves: {curves}\na group's tokens: {tokens}\nanswers: {out / 'report.html'}")
    print(f"in {(time.monotonic() - began) / 60:.1f} minutes")


def commands(options: Options) -> list[list[str]]:
    """Return every command of the demo, as a user would type it after `python -m`."""
    out, seed = options.out, ["--seed", str(options.seed)]
    data, tables = f"{out}/data", f"{out}/manifests"
    built = ["--root", data, "--out", tables, *seed]
    people = ["--source", "market1501", "--encoder", "stripes"]
    reid = ["builders.reid_hard", *people, *built]
    train = [f"{tables}/market1501_reid_hard.parquet", f"{tables}/clevrer_qa_invert.parquet"]
    asked = [f"{tables}/eval/{name}.parquet" for name in QUESTIONS]
    stages = {name: path.format(out=out) for name, path in STAGES.items()}
    sizes = ["--batch_size", "125", "--max_new_tokens", TOKENS]
    judged = [f"{out}/eval/{name}" for name in STAGES]

    def evaluate(stage: str) -> list[list[str]]:
        model, to = ["--model_name_or_path", stages[stage], *sizes], f"{out}/eval/{stage}"
        drawn = ["--draws", str(DRAWS), "--limit", str(options.drawn)]
        ranked = f"{tables}/embeddings/market1501_test.parquet"
        judge = ["--judge", "reasoned", "--swap", "false", "--limit", str(options.queries)]
        return [
            ["eval.qa", *asked, "--limit", str(options.limit), *model, "--out", to],
            ["eval.qa", asked[-1], *drawn, *model, "--out", f"{to}/drawn"],
            ["eval.reid", ranked, *judge, *model, "--out", f"{to}/ranked"],
        ]

    return [
        ["builders.synthetic", "--out", data, *seed],
        [*reid, "--pairs", "random", "--budget", "1200"],
        [*reid, "--budget", "1200"],
        ["builders.qa_invert", "--bench", "clevrer", *built],
        [*reid, "--split", "test", "--pairs", "random", "--budget", str(options.limit)],
        [*reid, "--split", "test", "--budget", str(options.limit)],
        [*reid, "--split", "test", "--pairs", "top", "--top_k", "5"],
        ["builders.embed", *people, "--root", data, "--out", tables, "--split", "test"],
        ["builders.qa_invert", "--bench", "clevrer", "--split", "validation", *built],
        *evaluate("start"),
        [
            "train.warmup",
            f"{tables}/market1501_reid_random.parquet",
            *("--max_steps", str(options.warmup_steps), "--learning_rate", "1.5e-4"),
            *("--output_dir", stages["warmed up"], *seed),
        ],
        *evaluate("warmed up"),
        [
            "train.grpo",
            *train,
            *("--model_name_or_path", stages["warmed up"]),
            *("--max_steps", str(options.grpo_steps), "--reward_weights", "1", "0.5"),
            *("--learning_rate", "5e-5"),
            *("--output_dir", stages["GRPO"], *seed),
        ],
        *evaluate("GRPO"),
        ["eval.report", *judged, stages["GRPO"], "--out", f"{out}/report.html"],
    ]


def step(command: Sequence[str], done: Path, log: Path | None = None) -> None:
    """Run one command unless its marker in `done` says that it has run; write the marker last.

    Its output goes to the terminal, or to the end of `log` if several commands run at once. Raises
    `WorkFailed` if it fails.
    """
    marker = marker_of(command, done)
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
        where = f"; see {log}" if log else ""
        raise WorkFailed(f"python -m {command[0]} ended with status {status}{where}")
    done.mkdir(exist_ok=True)
    marker.write_text(f"{shown}\n{time.monotonic() - began:.1f} s\n", encoding="utf-8")


def marker_of(command: Sequence[str], done: Path) -> Path:
    """Return the file that is in `done` once a command has run."""
    return done / hashlib.sha256("\0".join(command).encode()).hexdigest()[:16]


def results(out: Path) -> list[tuple[str, ...]]:
    """Return a row for each score: title, n, the best rule's score and the stages'."""
    lines = {stage: answers(out / "eval" / stage) for stage in STAGES}
    rows = []
    for name, title in QUESTIONS.items():
        first = lines["start"][name]
        without = max(first["blind_soft"], first["shortcut_score"] or 0)
        fields = {"soft": without, "strict": first["blind_strict"]} if name == CLIPS else {}
        for field, blind in (fields or {"strict": without}).items():
            scores = [_score(lines[stage][name], field) for stage in STAGES]
            shown = f"{title}, {field}" if fields else title
            rows.append((shown, str(first["n"]), f"{blind:.3f}", *scores))
    drawn = [answers(out / "eval" / stage / "drawn")[CLIPS] for stage in STAGES]
    best = [f"{line['pass_at_draws']:.3f}" for line in drawn]
    rows.append((f"{QUESTIONS[CLIPS]}, best of {DRAWS}", str(drawn[0]["n"]), "", *best))
    ranked = [rankings(out / "eval" / stage / "ranked") for stage in STAGES]
    judged = [f"{line['policy']:.3f}" for line in ranked]
    queries = str(ranked[0]["queries"])
    rows.append(("re-judged rankings, mAP", queries, f"{ranked[0]['first']:.3f}", *judged))
    return rows


def answers(folder: Path) -> dict[str, dict]:
    """Return the scores that `eval.qa` wrote into a folder, over all questions of each manifest."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {name: scores[0] for name, scores in summary["manifests"].items()}


def rankings(folder: Path) -> dict[str, float]:
    """Return the mAP of the first stage and of the policy, and the number of queries."""
    lines = json.loads((folder / "reid.json").read_text(encoding="utf-8"))["lines"]
    policy = next(line["scores"] for line in lines if line["ranking"].startswith("policy"))
    first = lines[0]["scores"]
    return {
        "first": first["mean_ap"],
        "policy": policy["mean_ap"],
        "queries": policy["queries"],
    }


def _score(line: dict, field: str) -> str:
    low, high = line[f"{field}_interval"]
    return f"{line[field]:.3f} ({low:.3f}–{high:.3f})"


if __name__ == "__main__":
    sys.exit(main())
