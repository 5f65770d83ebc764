"""Rank a gallery for each query and score it: CMC, mAP, mINP; before and after re-ranking.

    python -m eval.reid manifests/embeddings/market1501_test.parquet
    python -m eval.reid … --k_reciprocal
    python -m eval.reid … --judge direct --model_name_or_path runs/grpo

With `--judge` the policy judges each query's first candidates (eval.verifier), and its P(same) is
fused with the distance (eval.rerank). What the protocol does not count is no candidate. Judgements
are appended to a file as they come; a run that was killed goes on from there. `<out>/reid.json`
holds every number, `<out>/*.lists.jsonl` the heads of all lists, for `python -m eval.report`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.command import guard, option, parse, table, tolerate
from nontrivial.manifests.errors import BadInput
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

if TYPE_CHECKING:
    import numpy as np

    from nontrivial.eval.images import RankingSet
    from nontrivial.eval.ranking import Protocol, Ranked
    from nontrivial.eval.verifier import Judged

SHOWN = 10  # of each list, for reports
CMC = (1, 5, 10)


@dataclass
class Options:
    """Options of `python -m eval.reid`."""

    tables: list[str] = option("embeddings tables, or globs", positional=True)
    encoder: list[str] = option("only these columns of the tables", default=[])
    k_reciprocal: bool = option("re-rank by k-reciprocal neighbours as well", default=False)
    k1: int = option("k-reciprocal: neighbours", default=20)
    k2: int = option("k-reciprocal: neighbours to average over", default=6)
    weight: float = option("k-reciprocal: share of the original distance", default=0.3)
    judge: str = option(
        "re-rank by the policy: one forward pass, after its own reasoning, or by drawn votes",
        default="none",
        choices=("none", "direct", "reasoned", "votes"),
    )
    model_name_or_path: str = option(
        "a folder, a name on the Hub, or the small policy in this package", default="embedded"
    )
    top_k: int = option("candidates of each query that the policy judges", default=5)
    fusion_alpha: float = option("share of the policy's verdict in the fused distance", default=0.2)
    swap: bool = option("ask each pair in both orders and take the mean", default=True)
    votes: int = option("drawn completions of each pair, for --judge votes", default=5)
    limit: int | None = option("only so many queries, picked by path", default=None)
    batch_size: int = option("pairs at a time", default=16)
    max_new_tokens: int = option("length of a completion at most", default=256)
    temperature: float = option("of drawn completions", default=1.0)
    max_pixels: int | None = option("scale larger images down to this", default=None)
    media_root: str | None = option("where images lie, over what the table says", default=None)
    dtype: str = option("of the weights: auto, float32, bfloat16", default="auto")
    device: str = option("cpu, cuda, …; auto takes a GPU where there is one", default="auto")
    max_bad: float = option("share of damaged pairs to go on with", default=0.01)
    seed: int = option("draws single-shot galleries and votes", default=0)
    out: str = option("folder for numbers, lists and judgements", default="runs/reid")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return guard(run, parse(Options, argv, prog="eval.reid", description=__doc__))


def run(options: Options) -> None:
    """Read, rank, re-rank, report."""
    from nontrivial.eval.images import read_images
    from nontrivial.manifests.files import claim, expand

    _check(options)
    out = Path(options.out)
    with claim(out / RANKINGS):
        lines: list[RankingScores] = []
        for path in expand(options.tables):
            for images in read_images(path, options.encoder, options.limit):
                lines += evaluate(images, path, options, out)
        _report(lines, options, out)


def evaluate(images: RankingSet, path: Path, options: Options, out: Path) -> list[RankingScores]:
    """Every ranking of some images under every protocol of their data set."""
    from nontrivial.eval.generation import device_of
    from nontrivial.eval.kreciprocal import Neighbourhood, reciprocal_blocks
    from nontrivial.eval.ranking import protocols_of, rank_all, similarity_blocks

    protocols, keep = protocols_of(images.source), max(SHOWN, options.top_k)
    vectors, device = (images.query_vectors, images.gallery_vectors), device_of(options.device)

    def ranked(blocks: Iterator[np.ndarray]) -> list[list[Ranked]]:
        shown = _progress(blocks, len(images.query), f"{images.source} {images.encoder}")
        labels = (images.query, images.gallery)
        return rank_all(shown, *labels, protocols, seed=options.seed, keep=keep)

    first = ranked(similarity_blocks(*vectors, device=device))
    lines = [_scored(images, p, "first stage", r) for p, r in zip(protocols, first, strict=True)]
    if options.k_reciprocal:
        by = Neighbourhood(options.k1, options.k2, options.weight)
        second = ranked(reciprocal_blocks(*vectors, by=by, device=device))
        lines += [
            _scored(images, p, "k-reciprocal", r) for p, r in zip(protocols, second, strict=True)
        ]
    whole = [(p, r[0]) for p, r in zip(protocols, first, strict=True) if not p.draws]
    judged: dict[str, Judged] = {}
    if options.judge != "none":
        judged = _judge(images, [r for _, r in whole], path, options, out)
        for protocol, run in whole:
            lines.append(_judged_scores(images, protocol, run, judged, options))
    _write_lists(images, whole, judged, options, out / f"{path.stem}-{images.encoder}{LISTS}")
    return lines


def _scored(
    images: RankingSet, protocol: Protocol, ranking: str, runs: Sequence[Ranked]
) -> RankingScores:
    from nontrivial.eval.ranking import mean_scores, summarise

    scores = asdict(mean_scores([summarise(run.ranks) for run in runs]))
    scores["cmc"] = [round(float(rate), 6) for rate in scores["cmc"]]
    between = None if protocol.draws else _interval(images, runs[0].ranks)
    return RankingScores(images.source, images.encoder, protocol.name, ranking, scores, between)


def _judged_scores(
    images: RankingSet,
    protocol: Protocol,
    run: Ranked,
    judged: Mapping[str, Judged],
    options: Options,
) -> RankingScores:
    """The first stage's lists with their heads sorted by the fused distance."""
    from nontrivial.eval.rerank import consistency

    ranks, verdicts = [], []
    for q, before in enumerate(run.ranks):
        head = run.leaders[q, : options.top_k]
        head = head[head >= 0]
        is_match = images.gallery.pids[head] == images.query.pids[q]
        pairs = [judged.get(_pair_id(images, q, g)) for g in head]
        verdicts += [(v, m) for v, m in zip(pairs, is_match, strict=True) if v and len(before)]
        ranks.append(_fused_ranks(before, is_match, run.scores[q, : len(head)], pairs, options))
    found = consistency(
        [v.p_same for v, _ in verdicts], [v.swapped for v, _ in verdicts], [m for _, m in verdicts]
    )
    asked = sum(len(before) > 0 for before in run.ranks)
    seconds = sum(v.seconds for v, _ in verdicts) / max(1, asked)
    line = _scored(images, protocol, f"policy, {options.judge}", [replace(run, ranks=ranks)])
    return replace(line, seconds=seconds, verdicts=asdict(found))


def _fused_ranks(
    before: np.ndarray,
    is_match: np.ndarray,
    scores: np.ndarray,
    pairs: Sequence[Judged | None],
    options: Options,
) -> np.ndarray:
    import numpy as np

    from nontrivial.eval.rerank import fuse, reranked

    p_same = np.array([0.5 if verdict is None else verdict.mean for verdict in pairs])
    if not len(before):
        return before
    return reranked(before, is_match, fuse(scores, p_same, options.fusion_alpha))


def _interval(images: RankingSet, ranks: Sequence[np.ndarray]) -> tuple[float, float]:
    from nontrivial.eval.choices import interval
    from nontrivial.eval.ranking import average_precision

    found = [(r, str(pid)) for r, pid in zip(ranks, images.query.pids, strict=True) if len(r)]
    return interval([average_precision(r) for r, _ in found], [pid for _, pid in found])


def _judge(
    images: RankingSet, runs: Sequence[Ranked], path: Path, options: Options, out: Path
) -> dict[str, Judged]:
    """Judge the heads of all lists, each pair once; goes on with what an earlier run has judged."""
    from tqdm import tqdm

    from nontrivial.eval.generation import Generator, Sampling, device_of
    from nontrivial.eval.verifier import Verifier, judge_pairs, read_judged
    from nontrivial.manifests.parquet import read_about

    view = View(max_pixels=options.max_pixels)
    drawn = options.judge == "votes"
    sampling = Sampling(
        options.max_new_tokens, sample=drawn, temperature=options.temperature, seed=options.seed
    )
    store = _store(path, sampling, view, options, out)
    wanted = {
        _pair_id(images, q, g): (images.query_paths[q], images.gallery_paths[g])
        for run in runs
        for q, head in enumerate(run.leaders)
        for g in head[: options.top_k]
        if g >= 0 and len(run.ranks[q])
    }
    left = [pair for id, pair in wanted.items() if id not in read_judged(store)]
    if left:
        name, device = options.model_name_or_path, device_of(options.device)
        generator = Generator(name, sampling, view, dtype=options.dtype, device=device)
        verifier = Verifier(generator, options.judge, options.votes)
        root = options.media_root or read_about(path).get("media_root")
        size = options.batch_size
        problems: list[str] = []
        for start in tqdm(range(0, len(left), size), unit="batch", desc=store.stem):
            problems += judge_pairs(
                verifier,
                left[start : start + size],
                store,
                media_root=root,
                view=view,
                batch_size=size,
                swap=options.swap,
            )
        tolerate(problems, len(wanted), options.max_bad, "pairs cannot be judged, undecided")
    return {id: verdict for id, verdict in read_judged(store).items() if id in wanted}


def _store(path: Path, sampling: Any, view: Any, options: Options, out: Path) -> Path:
    """The file of judgements; its name depends on all that a judgement depends on."""
    from nontrivial.models.policy import weight_files

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
    return out / f"{path.stem}-{settings_digest(settings)}{JUDGED}"


def _write_lists(
    images: RankingSet,
    runs: Sequence[tuple[Protocol, Ranked]],
    judged: Mapping[str, Judged],
    options: Options,
    target: Path,
) -> None:
    """The head of every list under every protocol, for reports."""
    from nontrivial.eval.ranking import average_precision

    def entries(q: int, run: Ranked) -> Iterator[ListedImage]:
        for g, score in zip(run.leaders[q], run.scores[q], strict=True):
            if g < 0:
                return
            verdict, shown = judged.get(_pair_id(images, q, g)), images.gallery_paths[g]
            yield ListedImage(
                path=shown,
                pid=images.pids[shown],
                camid=images.camids[shown],
                score=round(float(score), 6),
                right=bool(images.gallery.pids[g] == images.query.pids[q]),
                p_same=None if verdict is None else round(verdict.mean, 6),
                reasoning="" if verdict is None else verdict.reasoning,
            )

    def ranked(q: int, protocol: Protocol, run: Ranked) -> RankedList:
        path, ranks = images.query_paths[q], run.ranks[q]
        return RankedList(
            source=images.source,
            encoder=images.encoder,
            protocol=protocol.name,
            query=path,
            pid=images.pids[path],
            camid=images.camids[path],
            ap=round(average_precision(ranks), 6),
            first_rank=int(ranks[0]),
            fusion_alpha=options.fusion_alpha,
            list=list(entries(q, run)),
        )

    JsonLines(target).write(
        ranked(q, protocol, run)
        for protocol, run in runs
        for q, ranks in enumerate(run.ranks)
        if len(ranks)
    )


def _pair_id(images: RankingSet, q: int, g: int) -> str:
    return f"{images.query_paths[q]}~{images.gallery_paths[g]}"


def _progress(blocks: Iterator[np.ndarray], total: int, label: str) -> Iterator[np.ndarray]:
    from tqdm import tqdm

    with tqdm(total=total, unit="query", desc=label) as bar:
        for block in blocks:
            yield block
            bar.update(len(block))


def _report(lines: Sequence[RankingScores], options: Options, out: Path) -> None:
    header = ("data set", "encoder", "protocol", "ranking", "queries", "mAP", "95 %", "mINP")
    header += (*(f"R-{k}" for k in CMC), "s/query")
    print(table([_cells(line) for line in lines], header=header))
    for line in lines:
        if line.verdicts:
            found, name = line.verdicts, f"{line.source}, {line.encoder}, {line.protocol}"
            agreeing = found["agreeing"]
            swap = "" if agreeing is None else f", both orders agree on {agreeing:.1%}"
            print(
                f"{name}: {found['pairs']} pairs judged, {found['right']:.1%} rightly, "
                f"calibration error {found['ece']:.3f}{swap}"
            )
        if line.scores["skipped"]:
            print(f"note: {line.protocol}: {line.scores['skipped']} queries have no match")
    write_json(out / RANKINGS, {"options": asdict(options), "lines": lines})
    print(f"\nall numbers: {out / RANKINGS}")


def _cells(line: RankingScores) -> tuple[Any, ...]:
    scores = line.scores
    between = "" if line.interval is None else "{:.3f}–{:.3f}".format(*line.interval)
    names = (line.source, line.encoder, line.protocol, line.ranking, scores["queries"])
    rates = (scores["cmc"][k - 1] for k in CMC)
    return (*names, scores["mean_ap"], between, scores["mean_inp"], *rates, line.seconds)


def _check(options: Options) -> None:
    for name, least in (("top_k", 1), ("batch_size", 1), ("votes", 1), ("k1", 1), ("k2", 1)):
        if getattr(options, name) < least:
            raise BadInput(f"--{name} {getattr(options, name)}: needs at least {least}")
    for name in ("fusion_alpha", "weight"):
        if not 0 <= getattr(options, name) <= 1:
            raise BadInput(f"--{name} {getattr(options, name)}: needs a share between 0 and 1")


if __name__ == "__main__":
    sys.exit(main())
