"""One HTML page of what policies answered and how they ranked: worst cases first, runs compared.

    python -m eval.report runs/eval/warmup runs/eval/grpo runs/reid runs/grpo --out report.html

A run is a folder that `eval.qa`, `eval.reid` or `train.grpo` wrote. The page holds their tables,
reliability of P(same), rank lists with right and wrong marked, and questions with every run's
reasoning. Of a training run it shows the groups in samples.jsonl: every completion of one question
with its rewards, its advantage and each token shaded by its weight.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.answers import lettered
from nontrivial.manifests.command import guard, option, parse, table
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.runs import (
    ANSWERS,
    GROUPS,
    LISTS,
    RANKINGS,
    SCORED,
    AnswerScores,
    RankedList,
    RankingScores,
    SampledGroup,
    ScoredAnswer,
    read_json,
    read_records,
)

if TYPE_CHECKING:
    from nontrivial.manifests.page import Card, Thumbnails


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
    manifests: Mapping[str, Sequence[AnswerScores]] = field(default_factory=dict)
    tables: Sequence[str] = ()  # the files it read
    answers: Mapping[tuple[str, str], ScoredAnswer] = field(default_factory=dict)
    rankings: Sequence[RankingScores] = ()
    lists: Mapping[tuple[str, ...], RankedList] = field(default_factory=dict)
    groups: Sequence[SampledGroup] = ()  # sampled in training


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return guard(run, parse(Options, argv, prog="eval.report", description=__doc__))


def run(options: Options) -> None:
    """Read the runs; write the page."""
    from nontrivial.manifests.files import atomic_path
    from nontrivial.manifests.page import Thumbnails, render

    runs = read_runs([Path(folder) for folder in options.runs])
    thumbnails = Thumbnails(int(options.max_mb * 1e6))
    missing = [name for run in runs for name in run.tables if not Path(name).is_file()]
    lists = _worst(list_cards(runs, thumbnails, options), options.rows)
    answers = _worst(answer_cards(runs, thumbnails, options), options.rows)
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
            rows.append((label, known.n, f"{known.blind_soft:.3f}", *scores))
        yield summary(f"{name}: soft score (95 %)", ("", "n", "best blind rule", *of), rows)


def ranking_tables(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """Every ranking of every run."""
    from nontrivial.manifests.page import summary

    rows = []
    for run in runs:
        for line in run.rankings:
            scores, cost = line.scores, line.seconds
            rates = [scores["mean_ap"], scores["mean_inp"], *(scores["cmc"][k] for k in (0, 4, 9))]
            names = (run.name, line.source, line.encoder, line.protocol, line.ranking)
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
            (line.query, item.path): (item.p_same, item.right)
            for line in run.lists.values()
            for item in line.list
            if item.p_same is not None
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
        worst = min(line.ap for _, line in found)

        def make(key: Any = key, found: Any = found, worst: float = worst) -> Card:
            from nontrivial.manifests.page import Card, images_block

            root = roots.get(key)
            query = found[0][1]
            caption = f"query\n{_short(query.pid)}\ncamera {query.camid}"
            place = thumbnails.image({"bytes": None, "path": query.query}, root)
            blocks = [images_block([(place, caption, "")])]
            for name, line in found:
                blocks += _list_blocks(name, line, root, thumbnails)
            facets = {"page": "rank lists", "data set": key[0], "encoder": key[1]}
            facets["protocol"] = key[2]
            return Card(query.query, blocks, facets, {"AP": worst})

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
        soft = sum(line.soft for _, line in found) / len(found)

        def make(key: Any = key, found: Any = found, soft: float = soft) -> Card:
            from nontrivial.manifests.page import Card

            sample, root = samples.find(*key)
            blocks = _question_blocks(sample, root, thumbnails)
            blocks += [_answer_block(name, line) for name, line in found]
            line = found[0][1]
            facets = {"page": "answers", "manifest": key[0], "task": line.task}
            facets["family"] = line.family
            for name, own in found:
                facets[f"{name} is"] = "right" if own.strict else "wrong"
            numbers = {"soft": soft}
            if len(found) > 1:
                numbers["gain, last over first"] = found[-1][1].soft - found[0][1].soft
            return Card(key[1], blocks, facets, numbers)

        yield soft, make


def group_cards(runs: Sequence[Run]) -> Iterator[Card]:
    """The groups of training runs, the latest first: what a prompt's completions disagree about."""
    from nontrivial.manifests.page import Card, text_block

    for run in runs:
        for group in reversed(run.groups):
            asked = f"{group.question}\n{lettered(group.options)}"
            blocks = [text_block(f"right: {', '.join(group.answer)}", asked)]
            rewards = []
            for completion in group.completions:
                finite = math.isfinite
                given = {k: v for k, v in completion.rewards.items() if finite(v)}
                told = [f"{name} {value:.2f}" for name, value in given.items()]
                rewards.append(sum(given.values()))
                advantage = completion.advantage
                title = f"advantage {advantage:+.2f} ({', '.join(told)})"
                tone = "right" if advantage > 0 else "wrong" if advantage < 0 else ""
                tokens = list(zip(completion.tokens, completion.weights, strict=True))
                blocks.append(text_block(title, "", tone, tokens=tokens))
            facets = {"page": "sampled in training", "run": run.name, "task": group.task}
            facets["token weights"] = group.token_weighting
            numbers = {"step": group.step, "reward": sum(rewards) / len(rewards)}
            yield Card(f"step {group.step}: {group.id}", blocks, facets, numbers)


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


def _worst(made: Iterator[tuple[float, Any]], rows: int) -> list[Card]:
    """The cards of the lowest scores, lowest first; the others are never made."""
    ordered = sorted(enumerate(made), key=lambda item: (item[1][0], item[0]))
    return [make() for _, (_, make) in ordered[:rows]]


def _read_run(folder: Path, name: str) -> Run:
    from nontrivial.manifests.files import expand

    scores = {"manifests": dict[str, list[AnswerScores]]}
    answered = read_json(folder / ANSWERS, scores)
    ranked = read_json(folder / RANKINGS, {"lines": list[RankingScores]})
    if answered is None and ranked is None and not (folder / GROUPS).is_file():
        raise BadInput(
            f"{folder}: holds neither {ANSWERS} nor {RANKINGS} nor {GROUPS}; runs are folders that "
            "eval.qa, eval.reid and train.grpo write"
        )
    tables: list[str] = []
    for record, option_name in ((answered, "manifests"), (ranked, "tables")):
        for pattern in (record or {}).get("options", {}).get(option_name, []):
            try:
                tables += map(str, expand([pattern]))
            except FileNotFoundError:
                tables.append(pattern)  # moved since; the page says that it is missing
    manifests = (answered or {}).get("manifests", {})
    return Run(
        name,
        manifests,
        tables,
        {
            (manifest, line.id): line
            for manifest in manifests
            for line in read_records(folder / f"{manifest}{SCORED}", ScoredAnswer)
        },
        (ranked or {}).get("lines", []),
        {
            (line.source, line.encoder, line.protocol, line.query, file.name): line
            for file in sorted(folder.glob(f"*{LISTS}"))
            for line in read_records(file, RankedList)
        },
        list(read_records(folder / GROUPS, SampledGroup)),
    )


def _list_roots(runs: Sequence[Run], options: Options) -> dict[tuple[str, ...], str | None]:
    """Where the images of each list lie."""
    from nontrivial.manifests.parquet import read_about

    roots = {}
    known = {Path(name).stem: Path(name) for run in runs for name in run.tables}
    for key in (key for run in runs for key in run.lists):
        stem = key[4].removesuffix(f"-{key[1]}{LISTS}")
        path = known.get(stem)
        recorded = path is not None and path.is_file()
        if stem not in roots:
            roots[stem] = read_about(path).get("media_root") if recorded and path else None
        roots[key] = options.media_root or roots[stem]
    return roots


def _list_blocks(
    name: str, line: RankedList, root: str | None, thumbnails: Thumbnails
) -> Iterator[dict[str, Any]]:
    """One run's list of a query, and what the policy said about its candidates."""
    from nontrivial.manifests.page import images_block, text_block

    places, items = _new_places(line), []
    for old, (new, item) in enumerate(zip(places, line.list, strict=True), 1):
        lines = [f"{old}" if new == old else f"{old} → {new}"]
        lines += [_short(item.pid), f"camera {item.camid}", f"score {item.score:.3f}"]
        if item.p_same is not None:
            lines.append(f"P(same) {item.p_same:.2f}")
        place = thumbnails.image({"bytes": None, "path": item.path}, root)
        items.append((place, "\n".join(lines), "right" if item.right else "wrong"))
    yield text_block(f"{name}: AP {line.ap:.3f}, first match at {line.first_rank}", "")
    yield images_block(items)
    for number, item in enumerate(line.list, 1):
        if item.reasoning and item.p_same is not None:
            verdict = (item.p_same > 0.5) == item.right
            title = f"{name} on candidate {number}: P(same) {item.p_same:.2f}"
            yield text_block(title, item.reasoning, "right" if verdict else "wrong")


def _new_places(line: RankedList) -> list[int]:
    """Where each item of a list stands after fusion with P(same)."""
    import numpy as np

    from nontrivial.eval.rerank import fuse

    head = [item for item in line.list if item.p_same is not None]
    scores, p_same = (
        np.array([getattr(item, key) for item in head]) for key in ("score", "p_same")
    )
    distances = fuse(scores, p_same, line.fusion_alpha)
    order = np.lexsort(([item.right for item in head], distances)) if head else []
    places = list(range(1, len(line.list) + 1))
    for place, old in enumerate(order, 1):
        places[old] = place
    return places


def _question_blocks(
    sample: Mapping[str, Any] | None, root: str | None, thumbnails: Thumbnails
) -> list[dict[str, Any]]:
    """Thumbnails and question of a sample."""
    from nontrivial.manifests.page.gallery import sample_blocks

    return [] if sample is None else sample_blocks(sample, root, thumbnails)


def _answer_block(name: str, line: ScoredAnswer) -> dict[str, Any]:
    from nontrivial.manifests.page import text_block

    chosen = ", ".join(line.letters) or "nothing readable"
    title = f"{name}: {chosen} (right: {', '.join(line.answer)}), soft {line.soft:.2f}"
    return text_block(title, line.completion, "right" if line.strict else "wrong")


def _by_family(lines: Sequence[AnswerScores]) -> dict[tuple[str, str | None], AnswerScores]:
    return {(line.task, line.family): line for line in lines}


def _soft(line: AnswerScores | None) -> str:
    if line is None:
        return ""
    low, high = line.soft_interval
    return f"{line.soft:.3f} ({low:.3f}–{high:.3f})"


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
