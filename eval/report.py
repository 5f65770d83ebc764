"""One HTML page of what policies answered and how they ranked: worst cases first, runs compared.

    python -m eval.report runs/eval/warmup runs/eval/grpo runs/reid runs/grpo --out report.html

A run is a folder that `eval.qa`, `eval.reid` or `train.grpo` wrote. The page holds their tables,
reliability of P(same), rank lists with right and wrong marked, and questions with every run's
reasoning. Of a training run it shows the groups in samples.jsonl: every completion of one question
with its rewards, its advantage and each token shaded by its weight.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.answers import LETTERS, lettered
from nontrivial.manifests.command import guard, option, parse, table
from nontrivial.manifests.errors import BadInput

if TYPE_CHECKING:
    from nontrivial.manifests.page import Card, Thumbnails

GROUPS = "samples.jsonl"  # of a training run


@dataclass
class Options:
    """Options of `python -m eval.report`."""

    runs: list[str] = option("folders of eval.qa, eval.reid or train.grpo", positional=True)
    out: str = option("the page", default="report.html")
    rows: int = option("cards of each kind, worst first", default=300)
    max_mb: float = option("thumbnails at most, in MB", default=16.0)
    media_root: str | None = option("where media lie, over what manifests say", default=None)


@dataclass(frozen=True)
class Run:
    """What one folder holds: scores of answers by manifest, lines of rankings, lists of queries."""

    name: str
    manifests: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    tables: Sequence[str] = ()  # the files it read
    answers: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    rankings: Sequence[Mapping[str, Any]] = ()
    lists: Mapping[tuple[str, ...], Mapping[str, Any]] = field(default_factory=dict)
    groups: Sequence[Mapping[str, Any]] = ()  # sampled in training


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return guard(run, parse(Options, argv, prog="eval.report", description=__doc__))


def run(options: Options) -> None:
    """Read the runs; write the page."""
    from nontrivial.manifests.page import Thumbnails, render
    from nontrivial.manifests.parquet import atomic_path

    runs = read_runs([Path(folder) for folder in options.runs])
    thumbnails = Thumbnails(int(options.max_mb * 1e6))
    missing = [name for run in runs for name in run.tables if not Path(name).is_file()]
    lists = _worst(list_cards(runs, thumbnails, options), "AP", options.rows)
    answers = _worst(answer_cards(runs, thumbnails, options), "soft", options.rows)
    groups = list(itertools.islice(group_cards(runs), options.rows))
    page = render(
        "report",
        [*lists, *answers, *groups],
        thumbnails,
        notes=_notes(thumbnails, missing),
        tables=[*answer_tables(runs), *ranking_tables(runs)],
        charts=reliability_charts(runs),
    )
    with atomic_path(options.out) as path:
        path.write_text(page, encoding="utf-8", errors="backslashreplace")
    counts = [("runs", len(runs)), ("rank lists", len(lists)), ("questions", len(answers))]
    counts += [("sampled groups", len(groups))]
    counts += [("thumbnails", len(thumbnails.data)), ("MB", round(len(page) / 1e6, 1))]
    print(f"{table(counts)}\n\n{options.out}: open it in a browser")


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs, named after their folders; raises `BadInput` for one that holds no results."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return [_read_run(folder, name) for folder, name in zip(folders, names, strict=True)]


def answer_tables(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """Soft scores of every run on every manifest, by family, beside the best blind rule."""
    from nontrivial.manifests.page import summary

    for name in sorted({name for run in runs for name in run.manifests}):
        of = {run.name: _by_family(run.manifests[name]) for run in runs if name in run.manifests}
        keys = list(dict.fromkeys(key for lines in of.values() for key in lines))
        rows = []
        for key in keys:
            known = next(lines[key] for lines in of.values() if key in lines)
            label = key[0] if key[1] is None else f"{key[0]}: {key[1]}"
            scores = [_soft(lines.get(key)) for lines in of.values()]
            rows.append((label, known["n"], f"{known['blind_soft']:.3f}", *scores))
        yield summary(f"{name}: soft score (95 %)", ("", "n", "best blind rule", *of), rows)


def ranking_tables(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """Every ranking of every run."""
    from nontrivial.manifests.page import summary

    rows = []
    for run in runs:
        for line in run.rankings:
            scores, cost = line["scores"], line["seconds"]
            rates = [scores["mean_ap"], scores["mean_inp"], *(scores["cmc"][k] for k in (0, 4, 9))]
            names = (run.name, line["source"], line["encoder"], line["protocol"], line["ranking"])
            shown = (f"{rate:.3f}" for rate in rates)
            rows.append((*names, *shown, "" if cost is None else f"{cost:.3f}"))
    header = ("run", "data set", "encoder", "protocol", "ranking", "mAP", "mINP", "R-1", "R-5")
    if rows:
        yield summary("rankings", (*header, "R-10", "s/query"), rows)


def reliability_charts(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """P(same) against the share that is the same person, for each run that judged pairs."""
    import numpy as np

    from nontrivial.eval.rerank import reliability

    charts = []
    for run in runs:
        pairs = {
            (line["query"], item["path"]): (item["p_same"], item["right"])
            for line in run.lists.values()
            for item in line["list"]
            if item["p_same"] is not None
        }
        if pairs:
            p_same, right = (np.array(values) for values in zip(*pairs.values(), strict=True))
            title = f"{run.name}: reliability of P(same), {len(pairs)} pairs"
            axes = {"x": "P(same)", "y": "share that is"}
            charts.append({"title": title, **axes, "bins": reliability(p_same, right)})
    return charts


def list_cards(
    runs: Sequence[Run], thumbnails: Thumbnails, options: Options
) -> Iterator[tuple[float, Any]]:
    """(AP, card maker) of each query's list, all runs on one card."""
    roots = _list_roots(runs, options)
    for key in dict.fromkeys(key for run in runs for key in run.lists):
        found = [(run.name, run.lists[key]) for run in runs if key in run.lists]
        worst = min(line["ap"] for _, line in found)

        def make(key: Any = key, found: Any = found, worst: float = worst) -> Card:
            from nontrivial.manifests.page import Card, pictures

            root = roots.get(key)
            query = found[0][1]
            caption = f"query\n{_short(query['pid'])}\ncamera {query['camid']}"
            place = thumbnails.image({"bytes": None, "path": query["query"]}, root)
            blocks = [pictures([(place, caption, "")])]
            for name, line in found:
                blocks += _list_blocks(name, line, root, thumbnails)
            facets = {"page": "rank lists", "data set": key[0], "encoder": key[1]}
            facets["protocol"] = key[2]
            return Card(query["query"], blocks, facets, {"AP": worst})

        yield worst, make


def answer_cards(
    runs: Sequence[Run],
    thumbnails: Thumbnails,
    options: Options,
) -> Iterator[tuple[float, Any]]:
    """(mean soft score, card maker) of each question, all runs on one card."""
    samples = _Samples(runs, options.media_root)
    for manifest, id in dict.fromkeys(key for run in runs for key in run.answers):
        key = (manifest, id)
        found = [(run.name, run.answers[key]) for run in runs if key in run.answers]
        soft = sum(line["soft"] for _, line in found) / len(found)

        def make(key: Any = key, found: Any = found, soft: float = soft) -> Card:
            from nontrivial.manifests.page import Card

            sample, root = samples.find(*key)
            blocks = _question_blocks(sample, root, thumbnails)
            blocks += [_answer_block(name, line) for name, line in found]
            line = found[0][1]
            facets = {"page": "answers", "manifest": key[0], "task": line["task"]}
            facets["family"] = line["family"]
            for name, own in found:
                facets[f"{name} is"] = "right" if own["strict"] else "wrong"
            numbers = {"soft": soft}
            if len(found) > 1:
                numbers["gain, last over first"] = found[-1][1]["soft"] - found[0][1]["soft"]
            return Card(key[1], blocks, facets, numbers)

        yield soft, make


def group_cards(runs: Sequence[Run]) -> Iterator[Card]:
    """The groups of training runs, the latest first: what a prompt's completions disagree about."""
    from nontrivial.manifests.page import Card, text

    for run in runs:
        for group in reversed(run.groups):
            asked = f"{group['question']}\n{lettered(group['options'])}"
            blocks = [text(f"right: {', '.join(group['answer'])}", asked)]
            rewards = []
            for completion in group["completions"]:
                told = [f"{name} {value:.2f}" for name, value in completion["rewards"].items()]
                rewards.append(sum(completion["rewards"].values()))
                advantage = completion["advantage"]
                title = f"advantage {advantage:+.2f} ({', '.join(told)})"
                tone = "right" if advantage > 0 else "wrong" if advantage < 0 else ""
                tokens = list(zip(completion["tokens"], completion["weights"], strict=True))
                blocks.append(text(title, "", tone, tokens=tokens))
            facets = {"page": "sampled in training", "run": run.name, "task": group["task"]}
            facets["token weights"] = group["token_weighting"]
            numbers = {"step": group["step"], "reward": sum(rewards) / len(rewards)}
            yield Card(f"step {group['step']}: {group['id']}", blocks, facets, numbers)


class _Samples:
    """The manifests that runs answered, each read once and only if a card asks for it."""

    def __init__(self, runs: Sequence[Run], media_root: str | None) -> None:
        self._paths = {Path(name).stem: Path(name) for run in runs for name in run.tables}
        self._media_root = media_root
        self._read: dict[str, tuple[dict[str, Any], str | None]] = {}

    def find(self, manifest: str, id: str) -> tuple[Mapping[str, Any] | None, str | None]:
        """The sample, where its manifest is still there, and where its media lie."""
        from nontrivial.manifests.parquet import read_about, read_samples

        path = self._paths.get(manifest)
        if path is None or not path.is_file():
            return None, None
        if manifest not in self._read:
            rows = {row["id"]: row for row in read_samples(path).to_pylist()}
            self._read[manifest] = rows, self._media_root or read_about(path).get("media_root")
        rows, root = self._read[manifest]
        return rows.get(id), root


def _worst(made: Iterator[tuple[float, Any]], name: str, rows: int) -> list[Card]:
    """The cards of the lowest scores, lowest first; the others are never made."""
    ordered = sorted(enumerate(made), key=lambda item: (item[1][0], item[0]))
    return [make() for _, (_, make) in ordered[:rows]]


def _read_run(folder: Path, name: str) -> Run:
    from nontrivial.manifests.parquet import expand

    qa, reid = _read_json(folder / "summary.json"), _read_json(folder / "reid.json")
    sampled = folder / GROUPS
    if qa is None and reid is None and not sampled.is_file():
        raise BadInput(
            f"{folder}: holds neither summary.json nor reid.json nor {GROUPS}; runs are folders "
            "that eval.qa, eval.reid and train.grpo write"
        )
    tables: list[str] = []
    for record, option_name in ((qa, "manifests"), (reid, "tables")):
        for pattern in (record or {}).get("options", {}).get(option_name, []):
            try:
                tables += map(str, expand([pattern]))
            except FileNotFoundError:
                tables.append(pattern)  # moved since; the page says that it is missing
    manifests = (qa or {}).get("manifests", {})
    return Run(
        name,
        manifests,
        tables,
        {(m, line["id"]): line for m in manifests for line in _lines(folder / f"{m}.scored.jsonl")},
        (reid or {}).get("lines", []),
        {
            (line["source"], line["encoder"], line["protocol"], line["query"], file.name): line
            for file in sorted(folder.glob("*.lists.jsonl"))
            for line in _lines(file)
        },
        [_checked(line, sampled) for line in _lines(sampled)],
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path}: is not JSON ({error})") from error
    if not isinstance(record, dict):
        raise BadInput(f"{path}: needs an object, as eval.qa and eval.reid write it")
    return record


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    from nontrivial.eval.predictions import read_lines

    if path.is_file():
        yield from (line for _, line in read_lines(path))


def _checked(group: dict[str, Any], path: Path) -> dict[str, Any]:
    """A line of samples.jsonl that has all a card shows."""
    try:
        for name in ("id", "task", "question", "token_weighting"):
            group[name] = str(group[name])
        for name in ("options", "answer"):
            group[name] = [str(text) for text in group[name]]
        group["step"] = int(group["step"])
        for completion in group["completions"]:
            completion["tokens"] = [str(token) for token in completion["tokens"]]
            completion["weights"] = [float(weight) for weight in completion["weights"]]
            rewards = {str(k): float(value) for k, value in completion["rewards"].items()}
            completion["rewards"] = {k: v for k, v in rewards.items() if math.isfinite(v)}
            completion["advantage"] = float(completion["advantage"])
            if len(completion["tokens"]) != len(completion["weights"]):
                raise ValueError("as many weights as tokens are needed")
        if not group["completions"] or len(group["options"]) > len(LETTERS):
            raise ValueError("needs completions, and a letter for every option")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: a line that train.grpo did not write ({error!r})") from error
    return group


def _list_roots(runs: Sequence[Run], options: Options) -> dict[tuple[str, ...], str | None]:
    """Where the images of each list lie."""
    from nontrivial.manifests.parquet import read_about

    roots = {}
    known = {Path(name).stem: Path(name) for run in runs for name in run.tables}
    for key in (key for run in runs for key in run.lists):
        stem = key[4].removesuffix(f"-{key[1]}.lists.jsonl")
        path = known.get(stem)
        recorded = path is not None and path.is_file()
        if stem not in roots:
            roots[stem] = read_about(path).get("media_root") if recorded and path else None
        roots[key] = options.media_root or roots[stem]
    return roots


def _list_blocks(
    name: str, line: Mapping[str, Any], root: str | None, thumbnails: Thumbnails
) -> Iterator[dict[str, Any]]:
    """One run's list of a query, and what the policy said about its candidates."""
    from nontrivial.manifests.page import pictures, text

    places, items = _new_places(line), []
    for old, item in enumerate(line["list"], 1):
        lines = [f"{old}" if places[old - 1] == old else f"{old} → {places[old - 1]}"]
        lines += [_short(item["pid"]), f"camera {item['camid']}", f"score {item['score']:.3f}"]
        if item["p_same"] is not None:
            lines.append(f"P(same) {item['p_same']:.2f}")
        place = thumbnails.image({"bytes": None, "path": item["path"]}, root)
        items.append((place, "\n".join(lines), "right" if item["right"] else "wrong"))
    yield text(f"{name}: AP {line['ap']:.3f}, first match at {line['first_rank']}", "")
    yield pictures(items)
    for number, item in enumerate(line["list"], 1):
        if item["reasoning"]:
            verdict = (item["p_same"] > 0.5) == item["right"]
            title = f"{name} on candidate {number}: P(same) {item['p_same']:.2f}"
            yield text(title, item["reasoning"], "right" if verdict else "wrong")


def _new_places(line: Mapping[str, Any]) -> list[int]:
    """Where each item of a list stands after fusion with P(same)."""
    import numpy as np

    from nontrivial.eval.rerank import fuse

    items = line["list"]
    head = [item for item in items if item["p_same"] is not None]
    scores, p_same = (np.array([item[name] for item in head]) for name in ("score", "p_same"))
    distances = fuse(scores, p_same, line["fusion_alpha"])
    order = np.lexsort(([item["right"] for item in head], distances)) if head else []
    places = list(range(1, len(items) + 1))
    for place, old in enumerate(order, 1):
        places[old] = place
    return places


def _question_blocks(
    sample: Mapping[str, Any] | None, root: str | None, thumbnails: Thumbnails
) -> list[dict[str, Any]]:
    """Thumbnails and question of a sample."""
    from nontrivial.manifests.page.gallery import sample_blocks

    return [] if sample is None else sample_blocks(sample, root, thumbnails)


def _answer_block(name: str, line: Mapping[str, Any]) -> dict[str, Any]:
    from nontrivial.manifests.page import text

    chosen = ", ".join(line["letters"]) or "nothing readable"
    title = f"{name}: {chosen} (right: {', '.join(line['answer'])}), soft {line['soft']:.2f}"
    return text(title, line["completion"], "right" if line["strict"] else "wrong")


def _by_family(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str | None], Any]:
    return {(line["task"], line["family"]): line for line in lines}


def _soft(line: Mapping[str, Any] | None) -> str:
    if line is None:
        return ""
    low, high = line["soft_interval"]
    return f"{line['soft']:.3f} ({low:.3f}–{high:.3f})"


def _short(pid: str) -> str:
    """An identity without its namespace."""
    return pid.rsplit("/", 1)[-1]


def _notes(thumbnails: Thumbnails, missing: Sequence[str]) -> list[str]:
    from nontrivial.manifests.page.gallery import thumbnail_notes

    lost = [
        f"{name} is not where it was: its media are not shown" for name in dict.fromkeys(missing)
    ]
    return [*thumbnail_notes(thumbnails), *lost]


if __name__ == "__main__":
    sys.exit(main())
