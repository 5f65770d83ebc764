"""Measure the speed and memory of inverting questions, and blind scores.

  python -m benchmarks.inversion                       # CLEVRER at its published size, generated
  python -m benchmarks.inversion --files DIR/*.json    # real annotation files as well
  python -m benchmarks.inversion --scenes 0 --files DIR/*.json --samples 40    # print samples

The blind scores of each file have three lines: the original questions, those inverted here, and
those inverted by the published algorithm (`tests.reference.published_inversion`). Both algorithms
are timed in the same run on the same records.
"""

from __future__ import annotations

import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nontrivial.manifests.command import guard, option, parse, table
from nontrivial.manifests.errors import BadInput, WorkFailed

# Questions of the published training set by type; spread evenly over the scenes.
PUBLISHED = {
    "descriptive": 109_952,
    "explanatory": 16_799,
    "predictive": 7_179,
    "counterfactual": 18_642,
}
SCENES = 10_000
# Counterfactual questions with 0, 1, 2 and 3 right choices.
COUNTERFACTUAL_RIGHT = (169, 7_947, 6_406, 4_120)
# Word in a file's name -> benchmark that reads the file.
READERS = {
    "nextgqa": "nextgqa",
    "nextqa": "nextqa",
    "star": "star",
    "tempcompass": "tempcompass",
    "mmvu": "mmvu",
    "videomme": "videomme",
    "clevrer": "mvbench",
}


@dataclass
class Options:
    """Options of `python -m benchmarks.inversion`."""

    files: list[str] = option("annotation files to measure as well", default=[])
    scenes: int = option("scenes of generated CLEVRER; 0 leaves it out", default=SCENES)
    ratio: float = option("share of the eligible questions to invert", default=1.0)
    samples: int = option("inverted questions of each family to print", default=0)
    seed: int = option("seed of everything random", default=0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="benchmarks.inversion", description=__doc__))


def run(options: Options) -> None:
    """Measure generated CLEVRER, then each file."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory() as folder:
        if options.scenes:
            path = Path(folder, "train.json")
            path.write_text(json.dumps(list(generate(options.scenes, options.seed))), "utf-8")
            speed("clevrer", path, Path(folder), options)
        for name in options.files:
            speed(reader(Path(name)), Path(name), Path(folder), options)


def reader(path: Path) -> str:
    """Return the benchmark that reads a file, by its name; raise `BadInput` for another name."""
    for word, bench in READERS.items():
        if word in path.name:
            return bench
    raise BadInput(f"{path}: no benchmark in its name; known are {', '.join(READERS)}")


def speed(bench: str, path: Path, folder: Path, options: Options) -> None:
    """Time the whole command and the published algorithm; compare blind strategies."""
    from nontrivial.manifests.parquet import read_about

    seconds, peak = command(bench, path, folder, options)
    manifest = max((folder / "manifests").glob("*.parquet"), key=lambda p: p.stat().st_mtime)
    about = read_about(manifest)
    counts = about["counts"]
    published = published_inversion(bench, path, folder, options.seed)
    rows = [
        ("questions", counts["questions"], ""),
        ("  inverted of all", f"{counts['inverted'] / counts['questions']:.1%}", ""),
        ("  inverted of eligible", f"{counts['inverted'] / max(counts['eligible'], 1):.1%}", ""),
        ("whole command, from file to manifest", f"{seconds:.1f} s", f"{peak:.0f} MiB at most"),
        ("  questions a second", f"{counts['questions'] / seconds:,.0f}", ""),
        ("published algorithm, in memory", f"{published['seconds']:.2f} s", ""),
        ("  questions a second", f"{published['count'] / published['seconds']:,.0f}", ""),
        ("  unchanged text, labels inverted", f"{published['unchanged']:.1%}", ""),
        ("  why and how clauses negated", f"{published['negated']:.1%}", ""),
    ]
    print(f"{bench}: {path.name}\n{table(rows)}\n")
    measured = {**about["blind"], "published": published["blind"]}
    lines = [
        (when, *(f"{measured[when][score]['score']:.3f}" for score in ("soft", "strict")))
        for when in ("before", "after", "published")
    ]
    print(table(lines, ("best blind strategy", "soft", "strict")), end="\n\n")
    if options.samples:
        print(*sampled(manifest, options.samples, options.seed), sep="\n", end="\n\n")


def command(bench: str, path: Path, folder: Path, options: Options) -> tuple[float, float]:
    """Run the builder in a process of its own; return seconds and MiB (peak resident size)."""
    words = [sys.executable, "-m", "builders.qa_invert", "--bench", bench, "--root", str(folder)]
    words += ["--annotations", str(path), "--out", str(folder / "manifests"), "--max_bad", "1"]
    words += ["--ratio", str(options.ratio), "--seed", str(options.seed), "--split", "train"]
    started = time.perf_counter()
    built = subprocess.run(words, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if built.returncode:
        raise WorkFailed(f"builders.qa_invert {bench}: {built.stderr[-500:]}")
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def sampled(manifest: Path, count: int, seed: int) -> Iterator[str]:
    """Yield lines that show `count` inverted questions of each family below their originals."""
    from nontrivial.manifests.parquet import read_samples

    families: dict[str, list[tuple[str, str]]] = {}
    for row in read_samples(manifest).to_pylist():
        if row["qa"]["inverted"]:
            pair = row["qa"]["original_question"], row["question"]
            families.setdefault(row["qa"]["family"], []).append(pair)
    rng = random.Random(seed)
    for family, pairs in sorted(families.items()):
        yield f"{family}: {len(pairs)} inverted"
        for original, inverted in rng.sample(pairs, min(count, len(pairs))):
            yield f"  {original}\n  -> {inverted}"


def published_inversion(bench: str, path: Path, folder: Path, seed: int) -> dict[str, Any]:
    """Run the published algorithm on the questions with one right option and wrong ones."""
    from nontrivial.builders.qa.benches import load
    from nontrivial.manifests.text_only import best_blind
    from tests.reference.inversion_faults import is_unchanged, negates_a_clause
    from tests.reference.published_inversion import invert_published

    frame = load(bench, folder, "train", annotations=path).frame
    single = [
        row
        for row in frame.select("question", "options", "right", "group").iter_rows()
        if sum(row[2]) == 1 and len(row[1]) > 1
    ]
    rng, inverted = random.Random(seed), []
    started = time.perf_counter()
    for question, options, right, _ in single:
        inverted.append(invert_published(question, options, right.index(True), rng))
    seconds = time.perf_counter() - started
    texts = [text for text, _, _ in inverted]
    pairs = list(zip((row[0] for row in single), texts, strict=True))
    groups = [row[3] for row in single]
    blind = best_blind(texts, [o for _, o, _ in inverted], [r for _, _, r in inverted], groups)
    return {
        "seconds": seconds,
        "count": len(inverted),
        "unchanged": sum(is_unchanged(*pair) for pair in pairs) / len(pairs),
        "negated": sum(negates_a_clause(text) for text in texts) / len(texts),
        "blind": {name: {"score": best.score} for name, best in blind.items()},
    }


def generate(scenes: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield scenes with questions, without clips, in CLEVRER's layout and proportions."""
    rng = random.Random(seed)
    for index in range(scenes):
        questions: list[dict[str, Any]] = []
        for kind, total in PUBLISHED.items():
            for _ in range(_share(total, index)):
                questions.append(_question(kind, len(questions), rng))
        name = f"video_{index:05d}.mp4"
        yield {"scene_index": index, "video_filename": name, "questions": questions}


def _share(total: int, index: int) -> int:
    """Return the questions of one scene, so that all scenes together have `total`."""
    return (index + 1) * total // SCENES - index * total // SCENES


_COLORS = ("gray", "red", "blue", "green", "brown", "cyan", "purple", "yellow")
_MATERIALS, _SHAPES = ("metal", "rubber"), ("cube", "sphere", "cylinder")


def _thing(rng: random.Random) -> str:
    return f"{rng.choice(_COLORS)} {rng.choice(_MATERIALS)} {rng.choice(_SHAPES)}"


def _question(kind: str, number: int, rng: random.Random) -> dict[str, Any]:
    head = {"question_id": number, "question_type": kind, "program": ["events", "unique"]}
    if kind == "descriptive":
        text, answer = _described(rng)
        return {**head, "question": text, "answer": answer}
    text, choices, right = _chosen(kind, rng)
    return {
        **head,
        "question": text,
        "choices": [
            {"choice_id": k, "choice": choice, "program": [], "answer": "correct" if r else "wrong"}
            for k, (choice, r) in enumerate(zip(choices, right, strict=True))
        ],
    }


def _described(rng: random.Random) -> tuple[str, str]:
    when = rng.choice(("", " when the video begins", " when the video ends"))
    state = rng.choice(("moving", "stationary"))
    return rng.choice(
        (
            (f"What color is the {state} {rng.choice(_SHAPES)}{when}?", rng.choice(_COLORS)),
            (f"What shape is the {state} object{when}?", rng.choice(_SHAPES)),
            (f"What material is the {state} object{when}?", rng.choice(_MATERIALS)),
            (f"How many {state} objects are there{when}?", str(rng.randrange(6))),
            (f"How many {rng.choice(_SHAPES)}s enter the scene?", str(rng.randrange(4))),
            (
                f"Are there any {state} {rng.choice(_COLORS)} objects{when}?",
                rng.choice(("yes", "no")),
            ),
        )
    )


def _chosen(kind: str, rng: random.Random) -> tuple[str, list[str], list[bool]]:
    if kind == "explanatory":
        word = rng.choice(("is", "is not"))
        text = f"Which of the following {word} responsible for the collision between the "
        text += f"{_thing(rng)} and the {_thing(rng)}?"
        choices = _distinct(4, lambda: f"The presence of the {_thing(rng)}")
        return text, choices, [rng.random() < 0.4 for _ in choices]
    if kind == "predictive":
        return "What will happen next?", _events(2, rng), rng.choice(([True, False], [False, True]))
    word = rng.choice(("happen", "not happen"))
    text = rng.choice(
        (
            f"What will {word} without the {_thing(rng)}?",
            f"If the {_thing(rng)} is removed, which event will {word}?",
            f"Which of the following will {word} if the {_thing(rng)} is removed?",
        )
    )
    count = rng.choices(range(4), COUNTERFACTUAL_RIGHT)[0]
    right = [position < count for position in range(4)]
    rng.shuffle(right)
    return text, _events(4, rng), right


def _events(count: int, rng: random.Random) -> list[str]:
    return _distinct(count, lambda: f"The {_thing(rng)} collides with the {_thing(rng)}")


def _distinct(count: int, draw: Callable[[], str]) -> list[str]:
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[draw()] = None
    return list(texts)


if __name__ == "__main__":
    sys.exit(main())
