"""Rank a gallery for each query and score the ranking: CMC, mAP, mINP.

    python -m eval.reid manifests/embeddings/market1501_test.parquet
    python -m eval.reid … --k_reciprocal
    python -m eval.reid … --judge direct --model_name_or_path runs/grpo
    python -m eval.reid … --judge direct --k_reciprocal --model_name_or_path runs/grpo

With `--judge` the policy judges the first candidates of each query (eval.verifier), and its P(same)
is fused with the distance (eval.rerank). Images that the protocol drops are no candidates. With
`--k_reciprocal` as well, there are four rankings: the first stage, each re-ranking by itself, and
k-reciprocal neighbours among distances that the verdicts have moved (eval.kreciprocal).
Judgements are appended to a file as they come, and a run that was killed continues from there.
`<out>/reid.json` holds every number, `<out>/*.lists.jsonl` the heads of all lists, for
`python -m eval.report`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from nontrivial.eval.generation import Generator, PolicyOptions, Sampling, device_of, left_of
from nontrivial.eval.rerank import consistency, fuse, reranked
from nontrivial.eval.verifier import Judged, Verifier, judge_pairs, pair_id, read_judged
from nontrivial.manifests.command import guard, option, parse, printable, say, table, tolerate
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.files import claim, expand
from nontrivial.manifests.runs import (
    JUDGED,
    LISTS,
    RANKINGS,
    JsonLines,
    ListedImage,
    RankedList,
    RankingScores,
    settings_digest,
    write_json,
)
from nontrivial.models.inputs import View
from nontrivial.models.policy import weight_files

if TYPE_CHECKING:
    from nontrivial.eval.kreciprocal import Verdicts
    from nontrivial.eval.ranking import Protocol, Ranked
    from nontrivial.eval.ranking_set import RankingSet

SHOWN = 10  # candidates of each list in reports
CMC = (1, 5, 10)


@dataclass(kw_only=True)
class Options(PolicyOptions):
    """Options of `python -m eval.reid`."""

    tables: list[str] = option("embeddings tables, or globs", positional=True)
    encoder: list[str] = option("only these columns of the tables", default=[])
    k_reciprocal: bool = option("re-rank by k-reciprocal neighbours as well", default=False)
    k1: int = option("k-reciprocal: neighbours", default=20)
    k2: int = option("k-reciprocal: neighbours to average over", default=6)
    weight: float = option("k-reciprocal: share of the original distance", default=0.3)
    judge: str = option(
        "re-rank by the policy: in one forward pass, after its own reasoning, or by sampled votes",
        default="none",
        choices=("none", "direct", "reasoned", "votes"),
    )
    top_k: int = option("candidates of each query that the policy judges", default=5)
    fusion_alpha: float = option("share of the policy's verdict in the fused distance", default=0.2)
    swap: bool = option("ask each pair in both orders and take the mean", default=True)
    votes: int = option("sampled completions of each pair, for --judge votes", default=5)
    limit: int | None = option("most queries, picked by path", default=None)
    min_pixels: int | None = option("scale smaller images up to this", default=None)
    max_pixels: int | None = option("scale larger images down to this", default=None)
    prompt: str = option(
        "ask to think first, or to answer at once", default="think", choices=("think", "answer")
    )
    seed: int = option("seed of single-shot galleries and votes", default=0)
    out: str = option("folder for numbers, lists and judgements", default="runs/reid")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="eval.reid", description=__doc__))


def run(options: Options) -> None:
    """Read tables, rank, re-rank, report."""
    from nontrivial.eval.ranking_set import read_images

    _check(options)
    out = Path(options.out)
    with claim(out / RANKINGS):
        lines: list[RankingScores] = []
        for path in expand(options.tables):
            settled: set[str] = set()
            for images in read_images(path, options.encoder, options.limit):
                lines += evaluate(images, path, options, out, settled)
        _report(lines, options, out)


def evaluate(
    images: RankingSet, path: Path, options: Options, out: Path, settled: set[str]
) -> list[RankingScores]:
    """Return the scores of every ranking of some images under every protocol of their data set.

    `settled` are the pairs of the table that this run has judged for other encoders; it grows.
    """
    from nontrivial.eval.kreciprocal import Neighbourhood, reciprocal_blocks
    from nontrivial.eval.ranking import protocols_of, rank_all, similarity_blocks

    protocols, keep = protocols_of(images.source), max(SHOWN, options.top_k)
    vectors, device = (images.query_vectors, images.gallery_vectors), device_of(options.device)
    by = Neighbourhood(options.k1, options.k2, options.weight)
    lines: list[RankingScores] = []

    def rank(
        blocks: Iterator[np.ndarray], name: str, under: Sequence[Protocol] = protocols
    ) -> list[list[Ranked]]:
        """Rank the queries under some protocols and add a line for each."""
        shown = _progress(blocks, len(images.query), f"{images.source} {images.encoder}")
        labels = (images.query, images.gallery)
        runs = rank_all(shown, *labels, under, seed=options.seed, keep=keep)
        lines.extend(_scored(images, p, name, draws) for p, draws in zip(under, runs, strict=True))
        return runs

    first = rank(similarity_blocks(*vectors, device=device), "first stage")
    if options.k_reciprocal:
        rank(reciprocal_blocks(*vectors, by=by, device=device), "k-reciprocal")
    whole = [(p, draws[0]) for p, draws in zip(protocols, first, strict=True) if not p.draws]
    judged: dict[str, Judged] = {}
    if options.judge != "none":
        heads = _heads(images, [run for _, run in whole], options.top_k)
        fresh = {id: rows for id, rows in heads.items() if id not in settled}
        settled |= fresh.keys()
        judged = _judge(images, heads, fresh, path, options, out)
        lines += [_judged_scores(images, p, run, judged, options) for p, run in whole]
        if options.k_reciprocal:
            verdicts = _verdicts(heads, judged, options.fusion_alpha)
            blocks = reciprocal_blocks(*vectors, by=by, verdicts=verdicts, device=device)
            rank(blocks, f"k-reciprocal + policy, {options.judge}", [p for p, _ in whole])
    lists = _lists(images, whole, judged, options.fusion_alpha)
    JsonLines(out / f"{path.stem}-{images.encoder}{LISTS}").write(lists)
    return lines


def _scored(
    images: RankingSet, protocol: Protocol, ranking: str, draws: Sequence[Ranked]
) -> RankingScores:
    from nontrivial.eval.choices import interval
    from nontrivial.eval.ranking import average_precision, mean_scores, summarise

    scores = asdict(mean_scores([summarise(run.ranks) for run in draws]))
    scores["cmc"] = [round(float(rate), 6) for rate in scores["cmc"]]
    between = None
    if not protocol.draws:
        matched = [(r, p) for r, p in zip(draws[0].ranks, images.query.pids, strict=True) if len(r)]
        between = interval([average_precision(r) for r, _ in matched], [str(p) for _, p in matched])
    return RankingScores(images.source, images.encoder, protocol.name, ranking, scores, between)


def _judged_scores(
    images: RankingSet,
    protocol: Protocol,
    run: Ranked,
    judged: Mapping[str, Judged],
    options: Options,
) -> RankingScores:
    """Score the lists of the first stage with their heads sorted by the fused distance."""
    ranks, verdicts = [], []
    for q, before in enumerate(run.ranks):
        if not len(before):  # the protocol leaves the query out
            ranks.append(before)
            continue
        head = run.leaders[q, : options.top_k]
        head = head[head >= 0]
        is_match = images.gallery.pids[head] == images.query.pids[q]
        pairs = [judged.get(_pair_id(images, q, g)) for g in head]
        verdicts += [(v, match) for v, match in zip(pairs, is_match, strict=True) if v]
        p_same = np.array([v.mean if v else 0.5 for v in pairs])
        distances = fuse(run.scores[q, : len(head)], p_same, options.fusion_alpha)
        ranks.append(reranked(before, is_match, distances))
    given, truth = [v for v, _ in verdicts], [match for _, match in verdicts]
    agreement = consistency([v.p_same for v in given], [v.swapped for v in given], truth)
    queries = sum(len(before) > 0 for before in run.ranks)
    seconds = sum(v.seconds for v in given) / max(1, queries)
    line = _scored(images, protocol, f"policy, {options.judge}", [replace(run, ranks=ranks)])
    return replace(line, seconds=seconds, verdicts=asdict(agreement))


def _heads(images: RankingSet, runs: Sequence[Ranked], top_k: int) -> dict[str, tuple[int, int]]:
    """Return query and gallery row of each pair in the heads of all lists, by its id."""
    return {
        _pair_id(images, q, g): (q, int(g))
        for run in runs
        for q, head in enumerate(run.leaders)
        for g in head[:top_k]
        if g >= 0 and len(run.ranks[q])
    }


def _verdicts(
    heads: Mapping[str, tuple[int, int]], judged: Mapping[str, Judged], alpha: float
) -> Verdicts:
    from nontrivial.eval.kreciprocal import Verdicts

    rows = np.array([heads[id] for id in judged], np.int64).reshape(-1, 2)
    p_same = np.array([verdict.mean for verdict in judged.values()], float)
    return Verdicts(rows[:, 0], rows[:, 1], p_same, alpha)


def _judge(
    images: RankingSet,
    heads: Mapping[str, tuple[int, int]],
    fresh: Mapping[str, tuple[int, int]],
    path: Path,
    options: Options,
    out: Path,
) -> dict[str, Judged]:
    """Judge each `fresh` pair once, but those that an earlier run judged; return all verdicts."""
    from nontrivial.manifests.roots import media_root

    view = View(min_pixels=options.min_pixels, max_pixels=options.max_pixels, prompt=options.prompt)
    sampled, size = options.judge == "votes", options.batch_size
    sampling = Sampling(
        options.max_new_tokens, sampled, temperature=options.temperature, seed=options.seed
    )
    store = _store(path, sampling, view, options, out)
    done = read_judged(store)
    pairs = [(images.query_paths[q], images.gallery_paths[g]) for q, g in fresh.values()]
    whole = (pairs[start : start + size] for start in range(0, len(pairs), size))
    cut = next(reversed(done), None)
    left = list(left_of(whole, done, cut, lambda pair: pair_id(*pair)))
    if left:
        name = options.model_name_or_path
        generator = Generator(name, sampling, view, dtype=options.dtype, device=options.device)
        verifier = Verifier(generator, options.judge, options.votes)
        root = media_root(path, options.media_root)
        problems: list[str] = []
        for batch in tqdm(left, unit="batch", desc=printable(store.path.stem)):
            problems += judge_pairs(
                verifier, batch, store, done, media_root=root, swap=options.swap
            )
        tolerate(
            problems, len(heads), options.max_bad, "pairs cannot be judged and count as undecided"
        )
    return {id: verdict for id, verdict in read_judged(store).items() if id in heads}


def _store(path: Path, sampling: Sampling, view: View, options: Options, out: Path) -> JsonLines:
    """Return the file of judgements, named after all that a judgement depends on."""
    settings = {
        "model": options.model_name_or_path,
        "weights": weight_files(options.model_name_or_path),
        "judge": options.judge,
        "votes": options.votes,
        "swap": options.swap,
        "dtype": options.dtype,
        **asdict(sampling),
        **asdict(view),
    }
    return JsonLines(out / f"{path.stem}-{settings_digest(settings)}{JUDGED}")


def _lists(
    images: RankingSet,
    runs: Sequence[tuple[Protocol, Ranked]],
    judged: Mapping[str, Judged],
    fusion_alpha: float,
) -> Iterator[RankedList]:
    """Yield the head of every list with a match under every protocol, for reports."""
    from nontrivial.eval.ranking import average_precision

    for protocol, run in runs:
        for q, ranks in enumerate(run.ranks):
            if len(ranks):
                path = images.query_paths[q]
                yield RankedList(
                    source=images.source,
                    encoder=images.encoder,
                    protocol=protocol.name,
                    query=path,
                    pid=images.pids[path],
                    camid=images.camids[path],
                    ap=round(average_precision(ranks), 6),
                    first_rank=int(ranks[0]),
                    fusion_alpha=fusion_alpha,
                    list=list(_listed(images, q, run, judged)),
                )


def _listed(
    images: RankingSet, q: int, run: Ranked, judged: Mapping[str, Judged]
) -> Iterator[ListedImage]:
    for g, score in zip(run.leaders[q], run.scores[q], strict=True):
        if g < 0:
            return
        verdict, path = judged.get(_pair_id(images, q, g)), images.gallery_paths[g]
        yield ListedImage(
            path=path,
            pid=images.pids[path],
            camid=images.camids[path],
            score=round(float(score), 6),
            right=bool(images.gallery.pids[g] == images.query.pids[q]),
            p_same=round(verdict.mean, 6) if verdict else None,
            reasoning=verdict.reasoning if verdict else "",
        )


def _pair_id(images: RankingSet, q: int, g: int) -> str:
    return pair_id(images.query_paths[q], images.gallery_paths[g])


def _progress(blocks: Iterator[np.ndarray], total: int, label: str) -> Iterator[np.ndarray]:
    with tqdm(total=total, unit="query", desc=label) as bar:
        for block in blocks:
            yield block
            bar.update(len(block))


def _report(lines: Sequence[RankingScores], options: Options, out: Path) -> None:
    header = ["data set", "encoder", "protocol", "ranking", "queries", "mAP", "95 %", "mINP"]
    header += [*(f"R-{k}" for k in CMC), "s/query"]
    say(table([_cells(line) for line in lines], header=header))
    for line in lines:
        if line.verdicts:
            verdicts, agreeing = line.verdicts, line.verdicts["agreeing"]
            swap = "" if agreeing is None else f", both orders agree on {agreeing:.1%}"
            say(
                f"{line.source}, {line.encoder}, {line.protocol}: {verdicts['pairs']} pairs "
                f"judged, {verdicts['right']:.1%} rightly, "
                f"calibration error {verdicts['ece']:.3f}{swap}"
            )
        if line.scores["skipped"]:
            say(f"note: {line.protocol}: {line.scores['skipped']} queries have no match")
    write_json(out / RANKINGS, {"options": asdict(options), "lines": lines})
    say(f"\nall numbers: {out / RANKINGS}")


def _cells(line: RankingScores) -> tuple[Any, ...]:
    scores = line.scores
    between = "" if line.interval is None else "{:.3f}–{:.3f}".format(*line.interval)
    names = (line.source, line.encoder, line.protocol, line.ranking, scores["queries"])
    rates = (scores["cmc"][k - 1] for k in CMC)
    return (*names, scores["mean_ap"], between, scores["mean_inp"], *rates, line.seconds)


def _check(options: Options) -> None:
    for name in ("top_k", "batch_size", "votes", "k1", "k2"):
        if getattr(options, name) < 1:
            raise BadInput(f"--{name} {getattr(options, name)}: needs at least 1")
    for name in ("fusion_alpha", "weight"):
        if not 0 <= getattr(options, name) <= 1:
            raise BadInput(f"--{name} {getattr(options, name)}: needs a share between 0 and 1")


if __name__ == "__main__":
    sys.exit(main())
