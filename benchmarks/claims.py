"""Ask what helps, with power: six questions, paired seeds, and what each run could have seen.

  python -m benchmarks.claims --jobs 2           # up to three hours on two cores; it can be stopped
  python -m benchmarks.claims --jobs 2 --quick   # fifteen minutes: two seeds, few steps
  python -m benchmarks.claims --only d --seeds 8 --jobs 2   # more seeds of one question

a  soft rewards against binary and per-option ones
b  inverted questions and statements against the originals
c  token weights, and credit by option (`benchmarks.gradients` measures them first)
d  twins against extreme, random and all pairs
e  thinking against answering at once
f  a virtual reward in groups that are all right or all wrong

Every arm starts from the same warm-up and takes as many steps on as many prompts. Runs of one seed
see the same samples in the same order, so differences are taken seed by seed. Intervals hold 95 %
(Student's t). Beside each difference stands the smallest true one that so many seeds would have
found, four times in five: below it the run can't tell. On the page `docs/claims.md` the sections of
questions that two seeds or more have run are written anew, others stay; that of `--quick` lies in
its own folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.gradients import draw_differences, label_differences
from nontrivial.manifests.command import guard, option, parse, table
from scripts.demo import TOKENS, answers, marker_of, rankings, step

LEVEL, POWER = 0.95, 0.8
LAST = 20  # steps averaged for the end of training
CLIPS = ("originals", "inverted", "statements")  # held-out tables of questions on clips
PAIRS = {"hard": "twins", "random": "random pairs", "top": "first five"}
WARMUP = ("--max_steps", "4", "--learning_rate", "1.5e-4")
CURVES = {
    "reward": "reward",
    "frac_reward_zero_std": "share of groups without variance",
    "completions/mean_length": "tokens of a completion",
}


@dataclass
class Options:
    """Options of `python -m benchmarks.claims`."""

    out: str = option("folder for everything that is made", default="runs/claims")
    page: str = option("page to write; its pictures lie beside it", default="docs/claims.md")
    only: list[str] = option("letters of the questions to ask", default=list("abcdef"))
    quick: bool = option("two seeds, fewer steps and questions", default=False)
    seeds: int = option("seeds of each arm", default=4)
    steps: int = option("steps of GRPO on clips", default=150)
    pair_steps: int = option("steps of GRPO on pairs", default=200)
    limit: int = option("most held-out questions of each kind", default=400)
    queries: int = option("most queries whose rankings are judged", default=150)
    jobs: int = option(
        "trainings at a time, sharing the cores; they log to files if over 1", default=1
    )

    def __post_init__(self) -> None:
        if self.quick:
            self.out = f"{self.out}_quick"
            self.page = f"{self.out}/claims.md"
            self.seeds, self.steps, self.pair_steps = 2, 20, 20
            self.limit, self.queries = 100, 40


@dataclass(frozen=True)
class Arm:
    """A way of training: the tables it sees, and its options of `train.grpo`."""

    name: str
    tables: tuple[str, ...] = ("mixed",)
    words: tuple[str, ...] = ()

    @property
    def on_pairs(self) -> bool:
        """True if it trains on pairs of people."""
        return self.tables[0].startswith("market1501")

    @property
    def prompt(self) -> str:
        """The style of its prompts."""
        return "answer" if "answer" in self.words else "think"

    @property
    def folder(self) -> str:
        """The name of its runs, the same in every question that it takes part in."""
        told = json.dumps([self.tables, self.words]).encode()
        return hashlib.sha256(told).hexdigest()[:8]


@dataclass(frozen=True)
class Measure:
    """A score of held-out answers: the mean over some tables."""

    name: str
    tables: tuple[str, ...]
    field: str

    def of(self, run: Path) -> float:
        """Return the score of a run; NaN for what was sampled before it."""
        if self.field == SAMPLED:
            [trained_on] = self.tables
            return sampled_strict(run, table_of(str(run.parents[1]), trained_on))
        if self.field == "mean_ap":
            return rankings(run / "ranked")["policy"]
        found = (answers(run / "held_out" / name) for name in self.tables)
        return statistics.mean(line[self.field] for one in found for line in one.values())


SAMPLED = "strict, as it learns"


def sampled_strict(run: Path, path: str) -> float:
    """Return how many of all completions that a training sampled were right.

    They are kept as texts beside their prompts. Prompts of the manifest at `path` that have another
    answer for another clip, some fifth of them, are left out. NaN if nothing was sampled.
    """
    import polars as pl

    from nontrivial.manifests.answers import exact_score, read_answer

    known, scores = answered_alike(path), []
    for file in sorted(run.glob("completions/*.parquet")):
        for prompt, completion in pl.read_parquet(file, columns=["prompt", "completion"]).rows():
            asked = known.get(prompt[-1]["content"][-1]["text"])
            if asked is not None:
                options, answer = asked
                scores.append(exact_score(read_answer(completion[-1]["content"], options), answer))
    return statistics.mean(scores) if scores else math.nan


@cache
def answered_alike(path: str) -> dict[str, tuple[list[str], list[str]]]:
    """Return the options and answer of each prompt that has the same ones wherever it stands."""
    import polars as pl

    from nontrivial.manifests.prompts import STYLES, question_text

    found: dict[str, tuple[list[str], list[str]]] = {}
    several = set()
    columns = ["question", "options", "task", "answer"]
    for question, options, task, answer in pl.read_parquet(path, columns=columns).rows():
        for style in STYLES:
            text = question_text(question, options, task, style)
            if found.setdefault(text, (options, answer)) != (options, answer):
                several.add(text)
    return {text: asked for text, asked in found.items() if text not in several}


@dataclass(frozen=True)
class Claim:
    """A question; its arms are compared with the first."""

    letter: str
    question: str
    said: str
    arms: tuple[Arm, ...]
    measures: tuple[Measure, ...]


SOFT = Arm("soft reward, no weights", words=("--token_weighting", "none"))
CLIP_MEASURES = (
    *(Measure(name, ("originals", "inverted"), name) for name in ("strict", "soft")),
    Measure(SAMPLED, ("mixed",), SAMPLED),
)


def pairs_of(kind: str) -> str:
    """Return the name of a table of training pairs."""
    return f"market1501_reid_{kind}"


def with_virtual(strength: int) -> tuple[str, ...]:
    """Return the options of SOVA's virtual rewards, so many times as strong as published."""
    shares = (("right", strength / 16), ("wrong", strength / 32))
    return tuple(word for name, share in shares for word in (f"--virtual_{name}", str(share)))


def weighted(measure: str) -> Arm:
    """Return the arm of a token weighting."""
    return Arm(f"weights: {measure}", words=("--token_weighting", measure))


def rewarded(title: str, *rewards: str) -> Arm:
    """Return the arm of a reward."""
    return Arm(title, words=(*SOFT.words, "--reward_funcs", *rewards, "format"))


# As SOVA has it: groups are scaled, and those with equal rewards stay in the mean of the loss.
SCALED = (*SOFT.words, "--scale_rewards", "group", "--drop_zero_variance", "false")

CLAIMS = (
    Claim(
        "a",
        "Do soft rewards teach more than binary ones, or rewards of each option?",
        "TW-GRPO: soft rewards lower the variance and help (arXiv 2505.24718).",
        (
            rewarded("binary reward", "exact_accuracy"),
            SOFT,
            rewarded("per option", "per_option"),
            rewarded("balanced per option", "balanced_options"),
        ),
        CLIP_MEASURES,
    ),
    Claim(
        "b",
        "Do inverted questions and statements teach more than the originals?",
        "TW-GRPO: questions inverted into multi-choice ones help (arXiv 2505.24718).",
        (
            Arm("originals", ("originals",), SOFT.words),
            Arm("half inverted", ("mixed",), SOFT.words),
            Arm("all inverted", ("inverted",), SOFT.words),
            Arm("statements", ("statements",), SOFT.words),
        ),
        tuple(Measure(f"{name}, strict", (name,), "strict") for name in CLIPS),
    ),
    Claim(
        "c",
        "Do token weights help, or credit by option?",
        "TW-GRPO: weights by a group's disagreement help (arXiv 2505.24718).",
        (
            SOFT,
            weighted("divergence"),
            weighted("entropy"),
            Arm("credit by option", words=(*SOFT.words, "--credit", "option")),
        ),
        CLIP_MEASURES,
    ),
    Claim(
        "d",
        "Do twins teach more than other pairs?",
        "ReID-R: a fifth of the data, chosen to be non-trivial, does it (arXiv 2604.19218).",
        (
            Arm("random pairs", (pairs_of("random"),)),
            Arm("twins", (pairs_of("hard"),)),
            Arm("extreme pairs", (pairs_of("extreme"),)),
            Arm("all of them", tuple(map(pairs_of, ("random", "hard", "extreme")))),
        ),
        (
            *(Measure(title, (kind,), "strict") for kind, title in PAIRS.items()),
            Measure("re-judged mAP", (), "mean_ap"),
        ),
    ),
    Claim(
        "e",
        "Does thinking before the answer help?",
        "Both papers let the policy think; neither trains one that doesn't.",
        (Arm("answer at once", words=(*SOFT.words, "--prompt", "answer")), SOFT),
        CLIP_MEASURES,
    ),
    Claim(
        "f",
        "Do virtual rewards help, in groups that are all right or all wrong?",
        "SOVA: they add a point and a half on CLEVRER (51.9 against 50.4, by its release).",
        (
            Arm("soft reward, all groups", words=SCALED),
            Arm("virtual rewards, as published", words=(*SCALED, *with_virtual(1))),
            Arm("ten times as strong", words=(*SCALED, *with_virtual(10))),
        ),
        CLIP_MEASURES,
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="benchmarks.claims", description=__doc__))


def run(options: Options) -> None:
    """Run what is missing, seed by seed; print the tables and write the page."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    claims = [claim for claim in CLAIMS if claim.letter in options.only]
    arms = list({arm.folder: arm for claim in claims for arm in claim.arms}.values())
    for command in preparations(options):
        step(command, out / ".done")
    for arm in arms:
        for command in evaluations(options, arm, f"{out}/warmup", start_of(options, arm)):
            step(command, out / ".done")
    runs = {
        folder(options, arm, seed): commands_of(options, arm, seed)
        for seed in range(options.seeds)
        for arm in arms
    }
    run_all(runs, out / ".done", options.jobs)
    report(options)


def run_all(runs: Mapping[Path, Sequence[Sequence[str]]], done: Path, jobs: int) -> None:
    """Run the commands of each run in turn, `jobs` runs at a time, in the order given.

    Several at a time share the cores and log to `<run>.log`. The first failure ends all.
    """
    if jobs > 1:
        os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))

    def train(run: Path, commands: Sequence[Sequence[str]]) -> None:
        run.parent.mkdir(parents=True, exist_ok=True)
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


# Commands, as a user would type them after `python -m`


def preparations(options: Options) -> list[list[str]]:
    """Return the commands that all arms share."""
    out, limit = options.out, str(options.limit)
    built = ["--root", f"{out}/data", "--out", f"{out}/manifests"]
    people = ["--source", "market1501", "--encoder", "stripes", *built]
    mined = ["builders.reid_hard", *people, "--pairs"]
    questions = {
        "mixed": ["--ratio", "0.5"],
        "originals": ["--ratio", "0"],
        "inverted": ["--ratio", "1"],
        "statements": ["--form", "statements"],
    }
    asked = [
        [
            *("builders.qa_invert", "--bench", "clevrer", "--root", f"{out}/data", *words),
            *("--out", f"{out}/manifests/{name}", "--split", split),
        ]
        for name, words in questions.items()
        for split in (("train", "validation") if name in CLIPS else ("train",))
    ]
    return [
        ["builders.synthetic", "--out", f"{out}/data", "--videos", "600", "--test_videos", "150"],
        *([*mined, kind, "--budget", "1200"] for kind in ("random", "hard", "extreme")),
        *([*mined, kind, "--split", "test", "--budget", limit] for kind in ("random", "hard")),
        [*mined, "top", "--split", "test", "--top_k", "5"],
        ["builders.embed", *people, "--split", "test"],
        *asked,
        [
            *("train.warmup", table_of(out, pairs_of("random"))),
            *("--output_dir", f"{out}/warmup", *WARMUP),
        ],
    ]


def table_of(out: str, name: str, split: str = "") -> str:
    """Return the path of a manifest, of training or of another split."""
    eval_, split = ("eval/", f"_{split}") if split else ("", "")
    if name.startswith("market1501"):
        return f"{out}/manifests/{eval_}{name}{split}.parquet"
    return f"{out}/manifests/{name}/{eval_}clevrer_qa_invert{split}.parquet"


def grpo(options: Options, arm: Arm, seed: int) -> list[str]:
    """Return the command of one training."""
    return [
        *("train.grpo", *(table_of(options.out, name) for name in arm.tables)),
        *("--model_name_or_path", f"{options.out}/warmup", "--learning_rate", "5e-5"),
        *("--max_steps", str(options.pair_steps if arm.on_pairs else options.steps)),
        *("--seed", str(seed), *arm.words),
        *("--output_dir", str(folder(options, arm, seed))),
    ]


def commands_of(options: Options, arm: Arm, seed: int) -> list[list[str]]:
    """Return the commands that train a run and ask it what it has learned."""
    run = folder(options, arm, seed)
    return [grpo(options, arm, seed), *evaluations(options, arm, str(run), run)]


def seeds_of(options: Options, claim: Claim) -> int:
    """Return how many seeds, from 0 on, all arms of a question have run."""
    done = Path(options.out, ".done")

    def has_run(seed: int) -> bool:
        commands = (c for arm in claim.arms for c in commands_of(options, arm, seed))
        return all(marker_of(command, done).exists() for command in commands)

    return next(seed for seed in count() if not has_run(seed))


def evaluations(options: Options, arm: Arm, policy: str, run: Path) -> list[list[str]]:
    """Return the commands that ask a policy what the arm is judged by."""
    model = ["--model_name_or_path", policy]
    sizes = ["--batch_size", "125", "--max_new_tokens", TOKENS]
    if arm.on_pairs:
        asked = {kind: table_of(options.out, pairs_of(kind), "test") for kind in PAIRS}
    else:
        asked = {name: table_of(options.out, name, "val") for name in CLIPS}
    commands = [
        [
            *("eval.qa", path, *model, "--out", f"{run}/held_out/{name}", *sizes),
            *("--limit", str(options.limit), "--prompt", arm.prompt),
        ]
        for name, path in asked.items()
    ]
    if arm.on_pairs:
        ranked = f"{options.out}/manifests/embeddings/market1501_test.parquet"
        judged = ["--judge", "reasoned", "--swap", "false", "--limit", str(options.queries)]
        commands.append(["eval.reid", ranked, *model, *judged, "--out", f"{run}/ranked", *sizes])
    return commands


def folder(options: Options, arm: Arm, seed: int) -> Path:
    """Return the folder of a run."""
    return Path(options.out, "runs", f"{arm.folder}_{seed}")


def start_of(options: Options, arm: Arm) -> Path:
    """Return the folder of the answers that an arm's policy gives before it is trained."""
    kind = "pairs" if arm.on_pairs else "clips"
    return Path(options.out, "start", f"{kind}_{arm.prompt}")


# What came out


@dataclass(frozen=True)
class Difference:
    """A mean difference over seeds, half its interval, and the smallest that they could have shown.

    >>> Difference.of([0.1, 0.1, 0.1]).verdict, Difference.of([-0.1, 0.1]).verdict
    ('higher', "can't tell")
    """

    mean: float
    half: float
    smallest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Difference:
        """Compute it from paired differences, at least two."""
        from scipy.stats import t

        freedom = len(values) - 1
        error = statistics.stdev(values) / math.sqrt(len(values))
        quantile = float(t.ppf((1 + LEVEL) / 2, freedom))
        return cls(
            statistics.mean(values),
            quantile * error,
            (quantile + float(t.ppf(POWER, freedom))) * error,
        )

    @property
    def verdict(self) -> str:
        """`higher`, `lower`, or `can't tell`."""
        if abs(self.mean) <= self.half:
            return "can't tell"
        return "higher" if self.mean > 0 else "lower"

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ± {self.half:.3f}, {self.verdict} ({self.smallest:.3f})"


def report(options: Options) -> None:
    """Print the tables, draw the pictures and write the page, of all that two seeds have run.

    Sections of other questions stay, if the page's runs were as long.
    """
    page = Path(options.page)
    page.parent.mkdir(parents=True, exist_ok=True)
    head = HEAD.format(steps=options.steps, pair_steps=options.pair_steps)
    written = sections(page.read_text(encoding="utf-8") if page.exists() else "", head)
    parts = [head]
    for claim in CLAIMS:
        seeds = seeds_of(options, claim)
        if seeds < 2:
            parts += filter(None, [written.get(claim.letter)])
            continue
        scores = scores_of(options, claim, seeds)
        rows = rows_of(claim, scores)
        header = [f"{seeds} seeds", *(measure.name for measure in claim.measures)]
        print(f"\n({claim.letter}) {claim.question}\n\n{table(rows, header=header)}")
        picture = page.with_name(f"claims_{claim.letter}.png")
        draw(options, claim, scores, picture)
        command = f"python -m benchmarks.claims --only {claim.letter} --seeds {seeds} --jobs 2"
        parts.append(
            f"## ({claim.letter}) {claim.question}\n\n{claim.said}\n\n`{command}`\n\n"
            f"{markdown(header, rows)}\n\n{sentence(claim, scores)}\n\n"
            f"![{claim.question}]({picture.name})\n"
        )
    page.write_text("\n".join(parts), encoding="utf-8")
    print(f"\nwritten to {page}")


def sections(page: str, head: str) -> dict[str, str]:
    """Return what a page says of each question, by its letter; nothing under another head.

    >>> sections("head\\n## (a) One?\\n\\nNo.\\n\\n## (c) Two?\\n\\nYes.\\n", "head\\n")
    {'a': '## (a) One?\\n\\nNo.\\n', 'c': '## (c) Two?\\n\\nYes.\\n'}
    """
    if not page.startswith(head):
        return {}
    found = re.split(r"^(?=## \((\w)\))", page, flags=re.MULTILINE)[1:]
    return {
        letter: f"{text.rstrip()}\n" for letter, text in zip(found[::2], found[1::2], strict=True)
    }


def scores_of(options: Options, claim: Claim, seeds: int) -> dict[str, list[list[float]]]:
    """Return, for each arm, the score of each measure for each seed; first those of the starts."""
    found = {}
    for arm in claim.arms:
        found[f"start: {arm.name}"] = [[m.of(start_of(options, arm))] for m in claim.measures]
        runs = [folder(options, arm, seed) for seed in range(seeds)]
        found[arm.name] = [[m.of(run) for run in runs] for m in claim.measures]
    return found


def differences(
    claim: Claim, scores: Mapping[str, list[list[float]]]
) -> dict[str, list[Difference]]:
    """Return each arm's differences to the first, by measure."""
    first, *others = claim.arms
    return {
        arm.name: [
            Difference.of([a - b for a, b in zip(mine, theirs, strict=True)])
            for mine, theirs in zip(scores[arm.name], scores[first.name], strict=True)
        ]
        for arm in others
    }


def rows_of(claim: Claim, scores: Mapping[str, list[list[float]]]) -> list[tuple[str, ...]]:
    """Return the rows of a table: before, each arm, and its differences to the first."""
    rows, told = [], differences(claim, scores)
    starts: dict[str, list[str]] = {}
    for arm in claim.arms:
        before = [shown(one[0]) for one in scores[f"start: {arm.name}"]]
        starts.setdefault(" ".join(before), [arm.name, *before])
    for name, *before in starts.values():
        title = "before" if len(starts) == 1 else f"before: {name}"
        rows.append((title, *before))
    for arm in claim.arms:
        ends = map(Difference.of, scores[arm.name])
        rows.append((arm.name, *(f"{one.mean:.3f} ± {one.half:.3f}" for one in ends)))
        if arm.name in told:
            rows.append((f"  − {claim.arms[0].name}", *map(str, told[arm.name])))
    return rows


def shown(score: float) -> str:
    """Return a score as a table tells it; a dash where there is none."""
    return "–" if math.isnan(score) else f"{score:.3f}"


def sentence(claim: Claim, scores: Mapping[str, list[list[float]]]) -> str:
    """Say in words what held and what can't be told."""
    told = []
    for name, found in differences(claim, scores).items():
        seen = [
            f"{measure.name} {'gains' if one.mean > 0 else 'loses'} {abs(one.mean):.3f}"
            for measure, one in zip(claim.measures, found, strict=True)
            if one.verdict != "can't tell"
        ]
        told.append(f"**{name}** against {claim.arms[0].name}: {'; '.join(seen) or CANT_TELL}.")
    return "\n".join(f"- {line}" for line in told)


CANT_TELL = "these runs can't tell"

HEAD = """# What helps, and what these runs can tell

Made by `python -m benchmarks.claims`. All arms of a question start from one warm-up of the embedded
policy (1.6 million parameters, drawn worlds), take {steps} steps on clips or {pair_steps} on pairs,
4 groups of 8 a step, and answer held-out questions greedily. Every arm of a seed sees the same
samples in the same order. Beside an arm's mean over seeds stands half its 95 % interval. The first
arm of a table is the one that the others are compared with: the mean difference over seeds, half
its 95 % interval, what that says, and in brackets the smallest true difference that so many seeds
would have found, four times in five. Where a difference lies within its interval, the runs can't
tell; that is not "no effect". "Strict, as it learns" is the share of right answers among all that a
training sampled.

What a policy this small shows need not hold for a large one. So only the demo and the embedded
policy follow this page; recipes for real weights stay as published.
`python -m benchmarks.gradients` asks the same about your policy and your manifests, in minutes.
"""


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of a Markdown page."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(
    options: Options,
    claim: Claim,
    scores: Mapping[str, list[list[float]]],
    picture: Path,
) -> None:
    """Draw the differences with their intervals, and the curves of training."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from nontrivial.train.curves import read_log, running_mean, series

    figure, (left, *panels) = plt.subplots(
        1, 1 + len(CURVES), figsize=(16, 3.8), layout="constrained"
    )
    told = differences(claim, scores)
    for number, found in enumerate(told.values()):
        halves = [(one.mean, one.half) for one in found]
        draw_differences(left, halves, number / len(told), color=f"C{number + 1}")
    names = [measure.name for measure in claim.measures]
    label_differences(left, names, f"difference to {claim.arms[0].name}")
    for axes, (name, title) in zip(panels, CURVES.items(), strict=True):
        for number, arm in enumerate(claim.arms):
            runs = [folder(options, arm, seed) for seed, _ in enumerate(scores[arm.name][0])]
            curves: list[Any] = [series(read_log(run), name) for run in runs]
            smooth = [running_mean(values, LAST) for _, values in curves]
            columns = list(zip(*smooth, strict=True))
            steps, means = curves[0][0], list(map(statistics.mean, columns))
            axes.plot(steps, means, label=arm.name, color=f"C{number}")
            low, high = list(map(min, columns)), list(map(max, columns))
            axes.fill_between(steps, low, high, alpha=0.15, color=f"C{number}", linewidth=0)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    figure.savefig(picture, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
