"""Build a manifest of video questions, of which a share is inverted.

The right options of an inverted question are the wrong ones of its original.

  python -m builders.qa_invert --bench clevrer
  python -m builders.qa_invert --bench video_r1 --annotations my.json --root videos --media_by_name

Training questions go to <out>/<bench>_qa_invert.parquet, validation and test questions to
<out>/eval/<bench>_qa_invert_<split>.parquet.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.builders.qa.benches import ANSWERS, NAMES, SHORT, SPLITS
from nontrivial.manifests.command import check_share, guard, option, parse, table
from nontrivial.manifests.errors import BadInput, require

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from nontrivial.builders.qa.benches import Loaded
    from nontrivial.builders.qa.benches.question import Refused
    from nontrivial.builders.qa.clips import Located

LISTED = 20  # refused records that are printed by name
BATCH = 20_000  # questions decided at a time


@dataclass
class Options:
    bench: str = option("benchmark to read", choices=NAMES)
    root: str = option("folder that holds data sets and media", default="data")
    annotations: str | None = option("annotation file to read instead of --root's", default=None)
    hub: str | None = option("data set to load from the Hub, NAME or NAME:CONFIG", default=None)
    map: str | None = option(
        "columns of --bench table: question=COLUMN,video=clips/{COLUMN}.mp4,options=COLUMN+COLUMN",
        default=None,
    )
    answer: str | None = option(
        "how the answer column of --bench table marks the right option",
        default=None,
        choices=ANSWERS,
    )
    split: str = option("split to read", default="train", choices=tuple(SPLITS))
    ratio: float = option("share of the eligible questions to invert", default=0.5)
    holdout: float = option("share of the training videos to hold out as a val split", default=0.0)
    seed: int = option("seed of all random choices", default=0)
    out: str = option("folder of the manifests", default="manifests")
    media_by_name: bool = option("find media by file name anywhere under --root", default=False)
    require_media: bool = option("leave out questions whose media is missing", default=False)
    max_bad: float = option("stop above this share of damaged records", default=0.01)
    engine: str = option("engine that does the work", default="local", choices=("local", "ray"))


def main(argv: Sequence[str] | None = None) -> int:
    return guard(run, parse(Options, argv, prog="builders.qa_invert", description=__doc__))


def run(options: Options) -> None:
    check_options(options)
    # Millions of live records have no cycles: collecting garbage would cost a third of the time.
    gc.disable()
    try:
        build(options)
    finally:
        gc.enable()


def build(options: Options) -> None:
    """Read, check, invert, report and write the questions."""
    from nontrivial.builders.qa.benches import load
    from nontrivial.builders.qa.clips import locate
    from nontrivial.builders.qa.questions import assemble, decide

    root = Path(options.root)
    loaded = load(
        options.bench,
        root,
        options.split,
        annotations=Path(options.annotations) if options.annotations else None,
        hub=options.hub,
        renamed=options.map,
        answer_is=options.answer,
        seed=options.seed,
    )
    located = locate(
        loaded.frame, root, by_name=options.media_by_name, require=options.require_media
    )
    refused = loaded.refused + located.refused
    report_refused(refused)
    damaged = [f"{record.id}: {record.reason}" for record in refused if record.damaged]
    check_share(damaged, loaded.records, options.max_bad, "records are damaged")
    if located.frame.is_empty():
        raise BadInput(f"{options.bench}: no usable question among {loaded.records} records")
    work = partial(decide, ratio=options.ratio, seed=options.seed)
    decided = {"local": in_batches, "ray": on_ray}[options.engine](located.frame, work)
    decided = with_split(decided, options)
    samples = assemble(decided, source=options.bench, seed=options.seed)
    about = describe(options, loaded, located, decided, samples)
    report(about)
    write(samples, about, options)


def check_options(options: Options) -> None:
    """Raise `BadInput` for errors that the parser does not catch."""
    for name in ("ratio", "holdout", "max_bad"):
        if not 0 <= getattr(options, name) <= 1:
            raise BadInput(f"--{name} {getattr(options, name)}: needs a share from 0 to 1")
    if options.annotations and options.hub:
        raise BadInput("--annotations and --hub name two sources; give one of them")


def in_batches(frame: pl.DataFrame, work: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """Apply `work` to slices of the table, with a progress bar."""
    import polars as pl
    from tqdm import tqdm

    slices = list(frame.iter_slices(BATCH))
    return pl.concat([work(part) for part in tqdm(slices, "questions", disable=len(slices) < 3)])


def on_ray(frame: pl.DataFrame, work: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """Apply `work` to blocks of the table on Ray Data; their order is not kept."""
    import polars as pl
    import pyarrow as pa

    data = require("ray.data", "ray", "--engine ray")
    blocks = [part.to_arrow() for part in frame.iter_slices(BATCH)]
    decided = data.from_arrow(blocks).map_batches(
        lambda block: work(pl.DataFrame(block)).to_arrow(), batch_format="pyarrow", batch_size=None
    )
    import ray

    return pl.DataFrame(pa.concat_tables(ray.get(decided.to_arrow_refs())))


def contract_split(split: str) -> str:
    """Return the contract's name of a benchmark's split."""
    return SHORT[SPLITS[split]]


def with_split(decided: pl.DataFrame, options: Options) -> pl.DataFrame:
    """Add the column `split`; `holdout` moves whole groups from train to val."""
    import polars as pl

    from nontrivial.builders.qa.inversion import uniform

    name = contract_split(options.split)
    if name != "train" or not options.holdout:
        return decided.with_columns(split=pl.lit(name))
    groups = decided["group"].unique().to_list()
    draws = [uniform(f"{options.seed}/{group}", "holdout") for group in groups]
    held = [group for group, draw in zip(groups, draws, strict=True) if draw < options.holdout]
    is_held = pl.col("group").is_in(held)
    split = pl.when(is_held).then(pl.lit("val")).otherwise(pl.lit("train"))
    return decided.with_columns(split=split)


def describe(
    options: Options, loaded: Loaded, located: Located, decided: pl.DataFrame, samples: pa.Table
) -> dict[str, Any]:
    """Return the manifest's metadata: options, counts by reason, scores of blind strategies."""
    reasons = Counter(reason for reason in decided["reason"] if reason)
    refused = Counter(record.reason for record in loaded.refused + located.refused)
    return {
        "builder": "builders.qa_invert",
        "options": dataclasses.asdict(options),
        "seed": options.seed,
        "media_root": options.root,
        "difficulty": "one minus the most that picking letters blindly earns of the soft reward",
        "counts": {
            "records": loaded.records,
            "refused": dict(refused.most_common()),
            "questions": len(decided),
            "eligible": int(decided["eligible"].sum()),
            "inverted": int(decided["inverted"].sum()),
            "kept_as_they_were": dict(reasons.most_common()),
            "rules": dict(Counter(decided.filter(decided["inverted"])["rule"]).most_common()),
            "clips": located.clips,
        },
        "blind": {"before": blind_before(decided), "after": blind_after(samples)},
    }


def blind_before(decided: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Score the best blind strategies on the questions before inversion."""
    from nontrivial.builders.qa.questions import as_they_were

    return _blind(decided["question"], *as_they_were(decided), decided["group"])


def blind_after(samples: pa.Table) -> dict[str, dict[str, Any]]:
    """Score the best blind strategies on the samples."""
    from nontrivial.manifests.schema import truths

    options, answers = (samples[name].combine_chunks() for name in ("options", "answer"))
    question, group = (samples[name].to_pylist() for name in ("question", "group"))
    return _blind(question, options, truths(options, answers), group)


def _blind(*columns: Any) -> dict[str, dict[str, Any]]:
    from nontrivial.manifests.text_only import best_blind

    return {name: dataclasses.asdict(best) for name, best in best_blind(*columns).items()}


def report_refused(refused: Sequence[Refused]) -> None:
    """Print refused records by name, damaged ones first."""
    listed = sorted(refused, key=lambda record: not record.damaged)
    for record in listed[:LISTED]:
        print(f"refused {record.id}: {record.reason}", file=sys.stderr)
    if len(listed) > LISTED:
        print(f"… and {len(listed) - LISTED} more, counted below by reason", file=sys.stderr)


def report(about: dict[str, Any]) -> None:
    """Print what was kept, refused and inverted, and what blind strategies earn."""
    counts = about["counts"]
    rows: list[tuple[str, Any]] = [("records read", counts["records"])]
    rows += [(f"  refused: {reason}", count) for reason, count in counts["refused"].items()]
    rows += [("questions kept", counts["questions"]), ("  eligible", counts["eligible"])]
    rows += [("  inverted", counts["inverted"])]
    rows += [(f"    by {rule}", count) for rule, count in counts["rules"].items()]
    rows += [(f"  as it was: {why}", n) for why, n in counts["kept_as_they_were"].items()]
    rows += [(f"clips {state}", count) for state, count in counts["clips"].items()]
    print(table(rows))
    blind = about["blind"]
    lines = [
        (when, score, f"{blind[when][score]['score']:.3f}", blind[when][score]["strategy"])
        for when in ("before", "after")
        for score in ("soft", "strict")
    ]
    print()
    print(table(lines, ("best blind strategy", "score", "earns", "ranks options by")))


def target_path(options: Options, split: str) -> Path:
    """Return the path of a split's manifest."""
    from nontrivial.manifests.parquet import samples_path

    return samples_path(options.out, f"{options.bench}_qa_invert", split)


def write(samples: pa.Table, about: dict[str, Any], options: Options) -> None:
    """Write one manifest per split."""
    import pyarrow.compute as pc

    from nontrivial.manifests.files import claim
    from nontrivial.manifests.parquet import write_samples

    for split in sorted(pc.unique(samples["split"]).to_pylist()):
        path = target_path(options, split)
        part = samples.filter(pc.equal(samples["split"], split))
        with claim(path):
            digest = write_samples(part, path, about)
        print(f"\n{path}: {len(part)} samples, content {digest[:16]}")


if __name__ == "__main__":
    sys.exit(main())
