"""Build a manifest of video questions, of which a share is inverted.

The right options of an inverted question are the wrong ones of its original.

  python -m builders.qa_invert --bench clevrer
  python -m builders.qa_invert --bench video_r1 --annotations my.json --root videos --media_by_name

Training questions go to <out>/<bench>_qa_invert.parquet, validation and test questions to
<out>/eval/<bench>_qa_invert_<split>.parquet.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.builders.qa.benches import ANSWERS, NAMES, SHORT, SPLITS
from nontrivial.manifests.command import (
    check_share,
    guard,
    option,
    parse,
    say,
    table,
    uncollected,
)
from nontrivial.manifests.errors import BadInput, require
from nontrivial.manifests.left_out import HELP, LeftOut

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa

    from nontrivial.builders.qa.benches import Loaded
    from nontrivial.builders.qa.benches.question import Refused
    from nontrivial.builders.qa.clips import Located
    from nontrivial.builders.qa.exclusion import Exclusion
    from nontrivial.manifests.text_only import Best

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
    form: str = option(
        "inverted questions, statements about several questions of a clip, or both",
        default="invert",
        choices=("invert", "statements", "both"),
    )
    ratio: float = option("share of the eligible questions to invert", default=0.5)
    statements: int = option("statements in each question of that form", default=4, rare=True)
    exclusive: str = option(
        "strict also leaves out options that merely resemble the right one",
        default="normal",
        choices=("strict", "normal"),
    )
    paraphrase_encoder: str | None = option(
        "text encoder (Hub name or folder) that finds paraphrases of the right option", default=None
    )
    holdout: float = option("share of the training videos to hold out as a val split", default=0.0)
    exclude: str | None = option(HELP, default=None)
    seed: int = option("seed of all random choices", default=0)
    out: str = option("folder of the manifests", default="manifests")
    media_by_name: bool = option("find media by file name anywhere under --root", default=False)
    require_media: bool = option("leave out questions whose media is missing", default=False)
    max_bad: float = option("stop above this share of damaged records", default=0.01)
    engine: str = option("engine that does the work", default="local", choices=("local", "ray"))


def main(argv: Sequence[str] | None = None) -> int:
    return guard(run, parse(Options, argv, prog="builders.qa_invert", description=__doc__))


def run(options: Options) -> None:
    from nontrivial.manifests.roots import name_root

    check_options(options)
    name_root(options.root)
    with uncollected():
        build(options)


def build(options: Options) -> None:
    """Read, check, invert, report and write the questions."""
    from nontrivial.builders.qa.benches import load
    from nontrivial.builders.qa.clips import locate
    from nontrivial.builders.qa.questions import assemble

    excluded, root = LeftOut(options.exclude), Path(options.root)
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
    decided = with_split(formed(located.frame, options), options)
    counts, origin = count(loaded, located, decided), loaded.origin
    samples = without(assemble(decided, source=options.bench, seed=options.seed), excluded)
    del loaded, located, decided
    about = describe(options, counts, samples, origin)
    report(about)
    excluded.report()
    write(samples, about, options)


def without(samples: pa.Table, excluded: LeftOut) -> pa.Table:
    """Return the samples that are not left out; raise `BadInput` where none is."""
    kept = [excluded.keeps(name) for name in samples["id"].to_pylist()]
    if not any(kept):
        raise BadInput(f"--exclude {excluded.file}: leaves out all {len(kept)} samples")
    return samples if all(kept) else samples.filter(kept)


def formed(frame: pl.DataFrame, options: Options) -> pl.DataFrame:
    """Decide about each question, make statements of them, or both."""
    import polars as pl

    from nontrivial.builders.qa.questions import decide
    from nontrivial.builders.qa.statements import state

    rules, parts = exclusion(frame, options), []
    if options.form != "statements":
        work = partial(decide, ratio=options.ratio, seed=options.seed, rules=rules)
        parts.append({"local": in_batches, "ray": on_ray}[options.engine](frame, work))
    if options.form != "invert":
        parts.append(state(frame, seed=options.seed, size=options.statements, rules=rules))
        if parts[-1].is_empty() and len(parts) == 1:
            raise BadInput(
                "--form statements: no clip has three questions whose options exclude each other"
            )
    return pl.concat(parts, how="diagonal")


def exclusion(frame: pl.DataFrame, options: Options) -> Exclusion:
    """Return how strictly options must exclude the right one."""
    import polars as pl

    from nontrivial.builders.qa.benches.question import SINGLE
    from nontrivial.builders.qa.exclusion import NORMAL, STRICT, Exclusion

    likeness = None
    if options.paraphrase_encoder:
        from nontrivial.models.sentences import encode

        texts = frame.filter(pl.col("kind") == SINGLE)["options"].explode()
        likeness = encode(options.paraphrase_encoder, texts)
    return Exclusion(limit=STRICT if options.exclusive == "strict" else NORMAL, likeness=likeness)


def check_options(options: Options) -> None:
    """Raise `BadInput` for errors that the parser does not catch."""
    if not 3 <= options.statements <= 25:
        raise BadInput(f"--statements {options.statements}: needs a number from 3 to 25")
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


def count(loaded: Loaded, located: Located, decided: pl.DataFrame) -> dict[str, Any]:
    """Count records, questions and options by what became of them and why."""
    import polars as pl

    asked = decided.filter(pl.col("parents").is_null())
    stated, inverted = decided.filter(pl.col("parents").is_not_null()), asked.filter("inverted")
    reasons = Counter(reason for reason in asked["reason"] if reason)
    refused = Counter(record.reason for record in loaded.refused + located.refused)
    return {
        "records": loaded.records,
        "refused": dict(refused.most_common()),
        "questions": len(asked),
        "eligible": int(asked["eligible"].sum()),
        "inverted": len(inverted),
        "kept_as_they_were": dict(reasons.most_common()),
        "rules": dict(Counter(inverted["rule"]).most_common()),
        "options_left_out": dict(Counter(inverted["left_out"].explode().drop_nulls())),
        "statements": len(stated),
        "questions_in_statements": int(stated["parents"].list.len().sum()),
        "clips": located.clips,
    }


def describe(
    options: Options, counts: dict[str, Any], samples: pa.Table, origin: str
) -> dict[str, Any]:
    """Return the manifest's metadata: options, counts, scores of blind strategies."""
    return {
        "builder": "builders.qa_invert",
        "options": dataclasses.asdict(options),
        "seed": options.seed,
        "media_root": options.root,
        "origins": {options.bench: origin},
        "difficulty": "one minus the most that picking letters blindly earns of the soft reward",
        "right_options": "all but one of an inverted single-choice question, so NOT gives their "
        "number; any number of statements",
        "counts": counts,
        "blind": blind(samples),
    }


def blind(samples: pa.Table) -> dict[str, Any]:
    """Score what answers without the media, before inversion, after it, and on statements.

    `learned` compares the strict score of the learned rule before and after inversion, fitted on
    and asked about inverted questions alone: all of them, and those of each rule.
    """
    import pyarrow.compute as pc

    from nontrivial.manifests.text_only import best_blind

    is_stated = pc.is_valid(pc.struct_field(samples["qa"], "parents"))
    results: dict[str, Any] = {}
    if pc.any(is_stated).as_py():
        results["statements"] = _as_dicts(best_blind(*_now(samples.filter(is_stated))))
        samples = samples.filter(pc.invert(is_stated))
    if len(samples):
        results["before"] = _as_dicts(best_blind(*_once(samples)))
        results["after"] = _as_dicts(best_blind(*_now(samples)))
    inverted = samples.filter(pc.struct_field(samples["qa"], "inverted"))
    if len(inverted):
        results["learned"] = learned(inverted)
    return results


def learned(inverted: pa.Table) -> dict[str, dict[str, float]]:
    """Return what the learned rule earns before and after: on all, and on those of each rule."""
    import numpy as np
    import pyarrow.compute as pc

    from nontrivial.manifests.text_only import learn

    before, after = learn(*_once(inverted)), learn(*_now(inverted))
    rows, *places = np.intersect1d(before.rows, after.rows, return_indices=True)
    if not len(rows):
        return {}
    once, then = before.strict[places[0]], after.strict[places[1]]
    rules = np.array(pc.struct_field(inverted["qa"], "rule").take(rows).to_pylist())
    parts = {"inverted": np.ones(len(rows), bool)}
    parts |= {rule: rules == rule for rule in sorted(set(rules.tolist()))}
    return {name: _paired(once, then, part) for name, part in parts.items()}


def _once(samples: pa.Table) -> tuple[Any, ...]:
    """Return questions, options, which of them are right, and groups, before inversion."""
    from nontrivial.builders.qa.questions import as_they_were

    question, options, right = as_they_were(samples)
    return question, options, right, samples["group"].to_pylist()


def _now(samples: pa.Table) -> tuple[Any, ...]:
    """Return the same as they are in the manifest."""
    from nontrivial.manifests.schema import truths

    options, answers = (samples[name].combine_chunks() for name in ("options", "answer"))
    question, right = samples["question"].combine_chunks(), truths(options, answers)
    return question, options, right, samples["group"].to_pylist()


def _as_dicts(best: Mapping[str, Best]) -> dict[str, dict[str, Any]]:
    return {name: dataclasses.asdict(value) for name, value in best.items()}


def _paired(before: np.ndarray, after: np.ndarray, part: np.ndarray) -> dict[str, float]:
    """Compare scores of the same questions, those in `part`, (M,) each."""
    difference = (after - before)[part]
    count = len(difference)
    return {
        "questions": count,
        "before": float(before[part].mean()),
        "after": float(after[part].mean()),
        "standard_error": float(difference.std(ddof=1) / count**0.5) if count > 1 else 0.0,
    }


def report_refused(refused: Sequence[Refused]) -> None:
    """Print refused records by name, damaged ones first."""
    listed = sorted(refused, key=lambda record: not record.damaged)
    for record in listed[:LISTED]:
        say(f"refused {record.id}: {record.reason}", file=sys.stderr)
    if len(listed) > LISTED:
        say(f"… and {len(listed) - LISTED} more, counted below by reason", file=sys.stderr)


def report(about: dict[str, Any]) -> None:
    """Print what was kept, refused and inverted, and what blind strategies earn."""
    counts = about["counts"]
    rows: list[tuple[str, Any]] = [("records read", counts["records"])]
    rows += [(f"  refused: {reason}", count) for reason, count in counts["refused"].items()]
    rows += [("questions kept", counts["questions"]), ("  eligible", counts["eligible"])]
    rows += [("  inverted", counts["inverted"])]
    rows += [(f"    by {rule}", count) for rule, count in counts["rules"].items()]
    rows += [(f"    left out: {why}", n) for why, n in counts["options_left_out"].items()]
    rows += [(f"  as it was: {why}", n) for why, n in counts["kept_as_they_were"].items()]
    if counts["statements"]:
        rows += [("statements, several a question", counts["statements"])]
        rows += [("  of so many questions", counts["questions_in_statements"])]
    rows += [(f"clips {state}", count) for state, count in counts["clips"].items()]
    say(table(rows))
    report_blind(about["blind"])


def report_blind(measured: dict[str, Any]) -> None:
    """Print the best blind strategies, and what the learned one gains or loses by inversion."""
    lines = [
        (when, score, f"{best['score']:.3f}", best["strategy"])
        for when in ("before", "after", "statements")
        for score, best in measured.get(when, {}).items()
    ]
    say()
    say(table(lines, ("best blind strategy", "score", "earns", "ranks options by")))
    rows = [
        (
            name,
            part["questions"],
            f"{part['before']:.3f}",
            f"{part['after']:.3f}",
            f"±{2 * part['standard_error']:.3f}",
        )
        for name, part in measured.get("learned", {}).items()
    ]
    if rows:
        say()
        say(table(rows, ("bag of words, strict", "questions", "before", "after", "difference")))


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
        say(f"\n{path}: {len(part)} samples, content {digest[:16]}")


if __name__ == "__main__":
    sys.exit(main())
