"""Write one HTML page that compares runs: answers, rankings, sampled groups.

    python -m eval.report runs/eval/warmup runs/eval/grpo runs/reid runs/grpo --out report.html

A run is a folder that `eval.qa`, `eval.reid` or `train.grpo` wrote. The page holds the scores, the
reliability of P(same), rank lists with right and wrong candidates marked, and questions with the
reasoning of every run, worst cases first. Of a training run it shows the groups in samples.jsonl:
each completion with its rewards, its advantage and its tokens shaded by their weights.

Rankings of several data sets make a table of their own, which is printed, too. Runs in folders of
one name share a column: runs/left_out_reid/market1501/grpo and runs/left_out_reid/msmt17/grpo.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from pathlib import Path
from typing import Any

import numpy as np

from nontrivial.eval.rerank import fuse, reliability
from nontrivial.manifests.command import guard, option, parse, say, table
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.files import expand, write_text
from nontrivial.manifests.page import Card, Thumbnails, images_block, render, summary, text_block
from nontrivial.manifests.page.groups import group_cards
from nontrivial.manifests.runs import (
    ANSWERS,
    GROUPS,
    LISTS,
    RANKINGS,
    SCORED,
    AnswerScores,
    ListedImage,
    RankedList,
    RankingScores,
    SampledGroup,
    ScoredAnswer,
    read_json,
    read_records,
)

RATES = (1, 5, 10)


@dataclass
class Options:
    """Options of `python -m eval.report`."""

    runs: list[str] = option("folders of eval.qa, eval.reid or train.grpo", positional=True)
    out: str = option("file of the page", default="report.html")
    rows: int = option("most cards of each kind, worst first", default=300)
    max_mb: float = option("most MB of thumbnails", default=16.0)
    media_root: str | None = option("folder of the media, not the recorded one", default=None)


@dataclass(frozen=True)
class Run:
    """The records of one folder."""

    name: str
    manifests: Mapping[str, Sequence[AnswerScores]] = field(default_factory=dict)
    tables: Sequence[str] = ()  # the files it read
    # By manifest and id.
    answers: Mapping[tuple[str, str], ScoredAnswer] = field(default_factory=dict)
    rankings: Sequence[RankingScores] = ()
    # By data set, encoder, protocol, query and file.
    lists: Mapping[tuple[str, ...], RankedList] = field(default_factory=dict)
    groups: Sequence[SampledGroup] = ()  # sampled in training


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="eval.report", description=__doc__))


def run(options: Options) -> None:
    """Read the runs; write the page."""
    from nontrivial.manifests.page.gallery import thumbnail_notes

    runs = read_runs([Path(folder) for folder in options.runs])
    thumbnails, tables = Thumbnails(int(options.max_mb * 1e6)), Tables(runs, options.media_root)
    lists = list_cards(runs, tables, thumbnails, options.rows)
    answers = answer_cards(runs, tables, thumbnails, options.rows)
    sampled = itertools.chain.from_iterable(group_cards(run.name, run.groups) for run in runs)
    groups = list(itertools.islice(sampled, options.rows))
    by_data_set = list(data_set_tables(runs))
    missing = dict.fromkeys(name for run in runs for name in run.tables if not Path(name).is_file())
    lost = [f"{name} is not where it was: its media are not shown" for name in missing]
    page = render(
        "report",
        [*lists, *answers, *groups],
        thumbnails,
        notes=[*thumbnail_notes(thumbnails), *lost],
        tables=[*answer_tables(runs), *by_data_set, *ranking_tables(runs)],
        charts=reliability_charts(runs),
    )
    write_text(options.out, page)
    counts: list[tuple[str, float]] = [("runs", len(runs)), ("rank lists", len(lists))]
    counts += [("questions", len(answers)), ("sampled groups", len(groups))]
    counts += [("thumbnails", len(thumbnails.data)), ("MB", round(len(page) / 1e6, 1))]
    for made in by_data_set:
        say(f"{made['title']}\n\n{table(made['rows'], made['header'])}\n")
    say(f"{table(counts)}\n\n{options.out}: open it in a browser")


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Return the runs, named after their folders; raise `BadInput` for one without results."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return [_read_run(folder, name) for folder, name in zip(folders, names, strict=True)]


def answer_tables(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """Yield a table for each manifest: soft scores by family, of every run and without looking."""
    for name in sorted({name for run in runs for name in run.manifests}):
        scores = {
            run.name: {(line.task, line.family): line for line in run.manifests[name]}
            for run in runs
            if name in run.manifests
        }
        rows = []
        for key in dict.fromkeys(key for lines in scores.values() for key in lines):
            known = next(lines[key] for lines in scores.values() if key in lines)
            label = key[0] if key[1] is None else f"{key[0]}: {key[1]}"
            cells = [_soft(lines.get(key)) for lines in scores.values()]
            rows.append((label, known.n, "{} {:.3f}".format(*known.not_looking), *cells))
        header = ("", "n", "best rule that doesn't look", *scores)
        yield summary(f"{name}: soft score (95 %)", header, rows)


def ranking_tables(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """Yield one table of every ranking of every run, if there are any."""
    rows = []
    for run in runs:
        for line in run.rankings:
            scores, cost = line.scores, line.seconds
            rates = [scores["mean_ap"], scores["mean_inp"], *(scores["cmc"][k - 1] for k in RATES)]
            names = (run.name, line.source, line.encoder, line.protocol, line.ranking)
            cells = (f"{rate:.3f}" for rate in rates)
            rows.append((*names, *cells, "" if cost is None else f"{cost:.3f}"))
    header = ("run", "data set", "encoder", "protocol", "ranking", "mAP", "mINP")
    if rows:
        yield summary("rankings", (*header, *(f"R-{k}" for k in RATES), "s/query"), rows)


def data_set_tables(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """Yield one table with a row for each data set and a column for each ranking, if it has rows.

    A column is named after the last folder of its run, and after the whole folder where two runs
    would disagree on a cell. Rankings that ask no policy are those of every run.
    """
    columns: dict[str, dict[tuple[str, str, str], tuple[float, float]]] = {}
    for run in runs:
        for line in run.rankings:
            row = (line.source, line.encoder, line.protocol)
            rates = (line.scores["mean_ap"], line.scores["cmc"][0])
            name = f"{Path(run.name).name}: {line.ranking}"
            if "policy" not in line.ranking:
                name = line.ranking
            if columns.get(name, {}).get(row, rates) != rates:
                name = f"{run.name}: {line.ranking}"
            columns.setdefault(name, {})[row] = rates
    keys = sorted({row for column in columns.values() for row in column})
    if len({source for source, _, _ in keys}) > 1:
        rows = [(*row, *(_rates([column.get(row)]) for column in columns.values())) for row in keys]
        for kind in sorted({row[1:] for row in keys}):  # encoder and protocol
            alike = [row for row in keys if row[1:] == kind]
            if len(alike) > 1:
                cells = (_rates([column.get(row) for row in alike]) for column in columns.values())
                rows.append(("mean", *kind, *cells))
        yield summary("mAP / R-1", ("data set", "encoder", "protocol", *columns), rows)


def reliability_charts(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return a chart of P(same) and the share of same-person pairs for each run with verdicts."""
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
            charts.append(
                {"kind": "reliability", "title": title, **axes, "bins": reliability(p_same, right)}
            )
    return charts


class Tables:
    """The tables that runs read, each read once and only if a card needs it."""

    def __init__(self, runs: Sequence[Run], media_root: str | None) -> None:
        paths = {Path(name).stem: Path(name) for run in runs for name in run.tables}
        self._paths = {stem: path for stem, path in paths.items() if path.is_file()}
        self._media_root = media_root
        self._roots: dict[str, str | None] = {}
        self._rows: dict[str, dict[str, Any]] = {}

    def root(self, stem: str) -> str | None:
        """Return the folder of a table's media; None if the table is not there."""
        from nontrivial.manifests.roots import media_root

        if self._media_root or stem not in self._paths:
            return self._media_root
        if stem not in self._roots:
            self._roots[stem] = media_root(self._paths[stem])
        return self._roots[stem]

    def sample(self, stem: str, id: str) -> Mapping[str, Any] | None:
        """Return a row of a manifest; None if the manifest or the row is not there."""
        from nontrivial.manifests.parquet import read_samples

        if stem not in self._paths:
            return None
        if stem not in self._rows:
            rows = read_samples(self._paths[stem]).to_pylist()
            self._rows[stem] = {row["id"]: row for row in rows}
        return self._rows[stem].get(id)


def list_cards(
    runs: Sequence[Run], tables: Tables, thumbnails: Thumbnails, rows: int
) -> list[Card]:
    """Return a card for each query's list, all runs on one; the `rows` lowest APs, lowest first."""
    lists = _by_key([(run.name, run.lists) for run in runs])
    worst = {key: min(line.ap for _, line in lines) for key, lines in lists.items()}
    cards = []
    for key in nsmallest(rows, worst, key=worst.__getitem__):
        source, encoder, protocol, path, file = key
        root = tables.root(file.removesuffix(f"-{encoder}{LISTS}"))
        query = lists[key][0][1]
        caption = f"query\n{_seen(query)}"
        place = thumbnails.image({"bytes": None, "path": path}, root)
        blocks = [images_block([(place, caption, "")])]
        for name, line in lists[key]:
            blocks += _list_blocks(name, line, root, thumbnails)
        facets = {"page": "rank lists", "data set": source, "encoder": encoder}
        cards.append(Card(path, blocks, facets | {"protocol": protocol}, {"AP": worst[key]}))
    return cards


def answer_cards(
    runs: Sequence[Run], tables: Tables, thumbnails: Thumbnails, rows: int
) -> list[Card]:
    """Return a card for each question, all runs on one; the `rows` lowest mean soft scores."""
    from nontrivial.manifests.page.gallery import sample_blocks

    answers = _by_key([(run.name, run.answers) for run in runs])
    soft = {key: sum(line.soft for _, line in of) / len(of) for key, of in answers.items()}
    cards = []
    for key in nsmallest(rows, soft, key=soft.__getitem__):
        manifest, id = key
        sample, lines = tables.sample(manifest, id), [line for _, line in answers[key]]
        blocks = sample_blocks(sample, tables.root(manifest), thumbnails) if sample else []
        facets = {"page": "answers", "manifest": manifest, "task": lines[0].task}
        facets["family"] = lines[0].family
        for name, line in answers[key]:
            mark, chosen = "right" if line.strict else "wrong", ", ".join(line.letters)
            title = f"{name}: {chosen or 'nothing readable'} (right: {', '.join(line.answer)}), "
            blocks.append(text_block(f"{title}soft {line.soft:.2f}", line.completion, mark))
            facets[f"{name} is"] = mark
        numbers = {"soft": soft[key]}
        if len(lines) > 1:
            numbers["gain, last over first"] = lines[-1].soft - lines[0].soft
        cards.append(Card(id, blocks, facets, numbers))
    return cards


def _read_run(folder: Path, name: str) -> Run:
    answered = read_json(folder / ANSWERS, {"manifests": dict[str, list[AnswerScores]]})
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


def _by_key(runs: Sequence[tuple[str, Mapping[Any, Any]]]) -> dict[Any, list[tuple[str, Any]]]:
    """Group the records of all runs by key, each with the name of its run."""
    records: dict[Hashable, list[tuple[str, Any]]] = {}
    for name, of_run in runs:
        for key, record in of_run.items():
            records.setdefault(key, []).append((name, record))
    return records


def _list_blocks(
    name: str, line: RankedList, root: str | None, thumbnails: Thumbnails
) -> Iterator[dict[str, Any]]:
    """Yield one run's list of a query and the policy's reasoning about its candidates."""
    items = []
    for old, (new, item) in enumerate(zip(_new_places(line), line.list, strict=True), 1):
        caption = [f"{old}" if new == old else f"{old} → {new}"]
        caption += [_seen(item), f"score {item.score:.3f}"]
        if item.p_same is not None:
            caption.append(f"P(same) {item.p_same:.2f}")
        place = thumbnails.image({"bytes": None, "path": item.path}, root)
        items.append((place, "\n".join(caption), "right" if item.right else "wrong"))
    yield text_block(f"{name}: AP {line.ap:.3f}, first match at {line.first_rank}", "")
    yield images_block(items)
    for number, item in enumerate(line.list, 1):
        if item.reasoning and item.p_same is not None:
            mark = "right" if (item.p_same > 0.5) == item.right else "wrong"
            title = f"{name} on candidate {number}: P(same) {item.p_same:.2f}"
            yield text_block(title, item.reasoning, mark)


def _new_places(line: RankedList) -> list[int]:
    """Return the place of each item of a list after fusion with P(same)."""
    head = [item for item in line.list if item.p_same is not None]
    scores, p_same = (np.array([getattr(i, key) for i in head]) for key in ("score", "p_same"))
    right, distances = np.array([i.right for i in head]), fuse(scores, p_same, line.fusion_alpha)
    order = np.lexsort((right, distances))
    places = list(range(1, len(line.list) + 1))
    for place, old in enumerate(order, 1):
        places[old] = place
    return places


def _soft(line: AnswerScores | None) -> str:
    return "" if line is None else "{:.3f} ({:.3f}–{:.3f})".format(line.soft, *line.soft_interval)


def _rates(rates: Sequence[tuple[float, float] | None]) -> str:
    """Write mean mAP and mean R-1, or nothing if one is missing."""
    known = [pair for pair in rates if pair is not None]
    if len(known) < len(rates):
        return ""
    return " / ".join(f"{np.mean(values):.3f}" for values in zip(*known, strict=True))


def _seen(image: RankedList | ListedImage) -> str:
    """Write the identity without its namespace, and the camera."""
    camera = "unknown" if image.camid is None else image.camid
    return f"{image.pid.rsplit('/', 1)[-1]}\ncamera {camera}"


if __name__ == "__main__":
    sys.exit(main())
