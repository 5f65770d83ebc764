"""Answers of a policy on manifests, scored: soft, strict, per option, format, beside blind rules.

    python -m eval.qa manifests/eval/*.parquet --model_name_or_path runs/grpo
    python -m eval.qa manifests/eval/*.parquet --server http://localhost:8000/v1   # vLLM's
    python -m eval.qa manifests/eval/some.parquet --predictions completions.jsonl
    python -m eval.qa --predictions published_log.jsonl

Completions are appended to `<out>/<manifest>-<settings>.jsonl` as they come; a run that was killed
goes on from there. `<out>/summary.json` holds every number of the table.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.command import guard, option, parse, table, tolerate
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.runs import (
    ANSWERS,
    SCORED,
    AnswerScores,
    JsonLines,
    settings_digest,
    write_json,
)
from nontrivial.models.inputs import View

if TYPE_CHECKING:
    from nontrivial.eval.choices import Answered
    from nontrivial.eval.generation import Generator, Loaded, Sample
    from nontrivial.eval.serving import Served


@dataclass
class Options(View):
    """Options of `python -m eval.qa`."""

    manifests: list[str] = option("samples tables, or globs", default=[], positional=True)
    model_name_or_path: str = option(
        "a folder, a name on the Hub, or the small policy in this package", default="embedded"
    )
    server: str | None = option(
        "ask vLLM's server instead of loading the policy, under the name --model_name_or_path if "
        "that is given",
        default=None,
    )
    predictions: str | None = option(
        "score these completions instead: JSON Lines of id and completion, or a published log",
        default=None,
    )
    out: str = option("folder for completions and the summary", default="runs/eval")
    split: str | None = option("only rows of this split", default=None)
    limit: int | None = option("only so many rows of each manifest, picked by id", default=None)
    batch_size: int = option("prompts at a time", default=16)
    max_new_tokens: int = option("length of a completion at most", default=256)
    sample: bool = option("draw completions instead of taking the likeliest tokens", default=False)
    temperature: float = option("of drawn completions", default=1.0)
    top_p: float = option("of drawn completions", default=1.0)
    seed: int = option("of drawn completions", default=0)
    need_block: bool | None = option(
        "count answers in <answer> blocks only (as manifests ask for; published logs do not)",
        default=None,
    )
    media_root: str | None = option("where media lie, over what the manifest says", default=None)
    dtype: str = option("of the weights: auto, float32, bfloat16", default="auto")
    device: str = option(
        "cpu, cuda, cuda:1, …; auto takes a GPU where there is one", default="auto"
    )
    max_bad: float = option("share of samples with damaged media to go on with", default=0.01)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return guard(run, parse(Options, argv, prog="eval.qa", description=__doc__))


def run(options: Options) -> None:
    """Answer, or read answers; score; report."""
    from nontrivial.manifests.files import claim, expand

    out, paths = Path(options.out), expand(options.manifests)
    if len({path.stem for path in paths}) < len(paths):
        raise BadInput(
            f"results are named after their manifests, which need different names: {paths}"
        )
    with claim(out / ANSWERS):
        if options.predictions:
            scored = _score_predictions(options, paths, Path(options.predictions))
        elif paths:
            scored = _answer_manifests(options, paths, out)
        else:
            raise BadInput("nothing to score: name manifests, or completions with --predictions")
        _report(scored, options, out)


def _answer_manifests(
    options: Options, paths: Sequence[Path], out: Path
) -> dict[str, list[Answered]]:
    """Let the policy answer what it has not answered yet; scores by manifest."""
    from nontrivial.eval.generation import Generator, Sampling, device_of, load_batch
    from nontrivial.eval.serving import Served
    from nontrivial.manifests.parquet import read_about
    from nontrivial.models.policy import EMBEDDED, weight_files

    sampling = Sampling(
        options.max_new_tokens, options.sample, options.temperature, options.top_p, options.seed
    )
    view = View(options.nframes, options.fps, options.max_pixels)
    name = options.model_name_or_path
    settings = {"model": name, **asdict(sampling), **asdict(view)}
    if options.server:
        settings["server"] = options.server
    else:
        settings |= {"weights": weight_files(name), "dtype": options.dtype}

    @cache  # loaded once, and only if something is left to answer
    def policy() -> Generator | Served:
        if options.server:
            known = None if name == EMBEDDED else name
            return Served(options.server, known, sampling, view, at_once=options.batch_size)
        device = device_of(options.device)
        return Generator(name, sampling, view, dtype=options.dtype, device=device)

    scored = {}
    for path in paths:
        samples, about = _samples(path, options), read_about(path)
        key = settings_digest(settings | {"content": about["content_digest"]})
        store = JsonLines(out / f"{path.stem}-{key}.jsonl")
        media_root = options.media_root or about.get("media_root")
        load = partial(load_batch, media_root=media_root, view=view)
        bad = _answer(samples, store, policy, load, options.batch_size)
        tolerate(bad, len(samples), options.max_bad, "samples are skipped")
        done = _completions(store)
        scored[path.stem] = _score([s for s in samples if s["id"] in done], done, options)
    return scored


def _answer(
    samples: Sequence[Sample],
    store: JsonLines,
    policy: Callable[[], Generator | Served],
    load: Callable[[Sequence[Sample]], Loaded],
    batch_size: int,
) -> list[str]:
    """Append a line to `store` for each sample it lacks; returns what is wrong with the others."""
    from tqdm import tqdm

    from nontrivial.eval.generation import batches

    store.mend()
    done = _completions(store)
    left = [sample for sample in samples if sample["id"] not in done]
    if done:
        print(f"{store.path}: {len(samples) - len(left)} of {len(samples)} are answered already")
    bad: list[str] = []
    bar = tqdm(total=len(left), unit="answer", desc=store.path.stem, disable=not left)
    with bar:
        for batch in batches(left, batch_size):
            good, media, problems = load(batch)
            bad += problems
            completions = policy().complete(good, media) if good else []
            store.append(
                *(
                    {"id": sample["id"], "completion": completion}
                    for sample, completion in zip(good, completions, strict=True)
                )
            )
            bar.update(len(batch))
    return bad


def _score_predictions(
    options: Options, paths: Sequence[Path], predictions: Path
) -> dict[str, list[Answered]]:
    """Score completions that were made elsewhere; scores by manifest, or by the log's name."""
    from nontrivial.eval.predictions import is_published, read_completions

    if is_published(predictions):
        return {predictions.stem: _score_log(options, predictions)}
    if not paths:
        raise BadInput(
            f"{predictions} holds completions without their questions: name their manifests too"
        )
    completions = read_completions(predictions)
    return {path.stem: _score(_samples(path, options), completions, options) for path in paths}


def _score_log(options: Options, log: Path) -> list[Answered]:
    """Score a published log, and compare with the scores its authors gave."""
    from nontrivial.eval.choices import answered
    from nontrivial.eval.predictions import read_published

    rows = read_published(log)[: options.limit]
    need_block = bool(options.need_block)
    scored = [answered(row.sample, row.completion, need_block=need_block) for row in rows]
    given = [(row, new) for row, new in zip(rows, scored, strict=True) if row.score is not None]
    if given:
        differing = [(row, new) for row, new in given if row.score != new.strict]
        total = sum(row.score for row, _ in given)
        print(f"{log}: its own scores give {total:g}/{len(given)}; {len(differing)} differ")
        for row, new in differing:
            print(f"  {new.id}: {row.completion[:60]!r} scored {row.score:g}, here {new.strict:g}")
    return scored


def _samples(path: Path, options: Options) -> list[Sample]:
    """The rows to answer; a limit takes the same ones every time, and a larger one adds to them."""
    from nontrivial.manifests.parquet import read_samples
    from nontrivial.manifests.schema import iterate

    rows = [row for row in iterate(read_samples(path)) if options.split in (None, row["split"])]
    if not rows:
        raise BadInput(f"{path}: has no rows of split {options.split!r}")
    rows.sort(key=lambda row: zlib.crc32(row["id"].encode()))
    return rows[: options.limit]


def _score(
    samples: Sequence[Sample], completions: Mapping[str, str], options: Options
) -> list[Answered]:
    from nontrivial.eval.choices import answered

    missing = [f"{s['id']}: has no completion" for s in samples if s["id"] not in completions]
    tolerate(missing, len(samples), options.max_bad, "samples are skipped")
    need_block = options.need_block is not False
    return [
        answered(sample, completions[sample["id"]], need_block=need_block)
        for sample in samples
        if sample["id"] in completions
    ]


def _completions(store: JsonLines) -> dict[str, str]:
    """What has been answered so far."""
    from nontrivial.eval.predictions import read_completions

    return read_completions(store.path, torn=True) if store.path.is_file() else {}


def _report(scored: Mapping[str, Sequence[Answered]], options: Options, out: Path) -> None:
    """Print the table; write every number and, for each manifest, every scored completion."""
    from nontrivial.eval.choices import summarise

    lines = {name: summarise(rows) for name, rows in scored.items()}
    for name, rows in scored.items():
        ordered = sorted(rows, key=lambda row: row.id)
        JsonLines(out / f"{name}{SCORED}").write(row.record() for row in ordered)
    write_json(out / ANSWERS, {"options": asdict(options), "manifests": lines})
    for name, of in lines.items():
        print(f"\n{name}\n{table([_cells(line) for line in of], header=HEADER)}")
    print(f"\nall numbers: {out / ANSWERS}")


HEADER = (
    "",
    "right",
    "strict",
    "95 %",
    "blind",
    "soft",
    "95 %",
    "blind",
    "per option",
    "format",
    "best blind strategy",
)


def _cells(line: AnswerScores) -> tuple[Any, ...]:
    def between(low: float, high: float) -> str:
        return f"{low:.3f}–{high:.3f}"

    return (
        line.task if line.family is None else f"  {line.family}",
        f"{line.right}/{line.n}",
        line.strict,
        between(*line.strict_interval),
        line.blind_strict,
        line.soft,
        between(*line.soft_interval),
        line.blind_soft,
        line.per_option,
        line.format,
        line.blind_strategy,
    )


if __name__ == "__main__":
    sys.exit(main())
