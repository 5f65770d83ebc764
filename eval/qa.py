"""Let a policy answer manifests, or read its answers, and score them.

    python -m eval.qa manifests/eval/*.parquet --model_name_or_path runs/grpo
    python -m eval.qa manifests/eval/*.parquet --draws 8   # and pass@8
    python -m eval.qa manifests/eval/*.parquet --server http://localhost:8000/v1   # vLLM's
    python -m eval.qa manifests/eval/some.parquet --predictions completions.jsonl
    python -m eval.qa --predictions published_log.jsonl

Scores are strict, soft, per option and of the format, beside those of the best blind rules; for
pairs of people also beside the best rule that compares nobody, which their builder has measured.
Completions are appended to `<out>/<manifest>-<settings>.jsonl` as they come, and a run that was
killed continues from there. `<out>/summary.json` holds every number of the table.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from nontrivial.eval.client import Refused
from nontrivial.eval.generation import (
    Generator,
    PolicyOptions,
    Sampling,
    batches,
    left_of,
    loaded,
)
from nontrivial.eval.predictions import is_published, read_completions, read_published
from nontrivial.eval.serving import Served
from nontrivial.manifests import decoders
from nontrivial.manifests.command import (
    check_share,
    guard,
    option,
    parse,
    printable,
    say,
    table,
    tolerate,
)
from nontrivial.manifests.errors import BadInput, WorkFailed
from nontrivial.manifests.files import claim, expand
from nontrivial.manifests.left_out import HELP, LeftOut
from nontrivial.manifests.media import MOVED
from nontrivial.manifests.runs import ANSWERS, SCORED, JsonLines, settings_digest, write_json
from nontrivial.models.inputs import View
from nontrivial.models.policy import EMBEDDED, weight_files

if TYPE_CHECKING:
    from nontrivial.eval.choices import Answered, Drawn
    from nontrivial.eval.generation import Sample
    from nontrivial.manifests.runs import AnswerScores


@dataclass
class Options(PolicyOptions, View):
    """Options of `python -m eval.qa`."""

    manifests: list[str] = option("samples tables, or globs", default=[], positional=True)
    server: str | None = option(
        "ask this vLLM server instead of loading the policy; --model_name_or_path, if given, is "
        "the name it is served under",
        default=None,
    )
    predictions: str | None = option(
        "score these completions instead: JSON Lines of id and completion, or a published log",
        default=None,
    )
    out: str = option("folder for completions and the summary", default="runs/eval")
    split: str | None = option("only rows of this split", default=None)
    exclude: str | None = option(HELP, default=None)
    limit: int | None = option("most rows of each manifest, picked by id", default=None)
    sample: bool = option("sample completions instead of greedy decoding", default=False)
    draws: int = option(
        "sample so many more completions of each question, for pass@k and the AUC of options",
        default=0,
    )
    top_p: float = option("nucleus of sampled completions", default=1.0)
    seed: int = option("seed of sampled completions", default=0)
    need_block: bool | None = option(
        "count answers in <answer> blocks only (default: true for manifests, false for logs)",
        default=None,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="eval.qa", description=__doc__))


def run(options: Options) -> None:
    """Answer manifests or read answers; score and report them."""
    out, paths = Path(options.out), expand(options.manifests)
    if len({path.stem for path in paths}) < len(paths):
        raise BadInput(
            f"results are named after their manifests, which need different names: {paths}"
        )
    excluded = LeftOut(options.exclude)
    drawn: dict[str, Drawn] = {}
    with claim(out / ANSWERS):
        if options.predictions:
            scored = _score_predictions(options, paths, excluded)
        elif paths:
            answering = _Answering(options, out)
            scored = {}
            for path in paths:
                samples = _samples(path, options, excluded)
                decoders.report(samples)
                scored[path.stem] = answering.scored(path, samples)
                if options.draws:
                    drawn[path.stem] = answering.drawn(path, samples)
        else:
            raise BadInput("nothing to score: name manifests, or completions with --predictions")
        excluded.report()
        _report(scored, drawn, options, paths, out)


class _Answering:
    """Let the policy answer what it has not answered yet; completions of each setting have a file.

    The policy is loaded only if something is left to answer.
    """

    def __init__(self, options: Options, out: Path) -> None:
        self.options, self.out, self.view = options, out, View.of(options)
        self.once = Sampling(
            options.max_new_tokens, options.sample, options.temperature, options.top_p, options.seed
        )

    def scored(self, path: Path, samples: Sequence[Sample]) -> list[Answered]:
        """Return the scores of a manifest's questions that have an answer."""
        done = self._completions(path, samples, self.once)
        return _score([s for s in samples if s["id"] in done], done, self.options)

    def drawn(self, path: Path, samples: Sequence[Sample]) -> Drawn:
        """Return the letters of several sampled answers to each of a manifest's questions."""
        from nontrivial.eval.choices import Drawn

        letters: dict[str, list[frozenset[str]]] = {sample["id"]: [] for sample in samples}
        for number in range(self.options.draws):
            seed = self.options.seed + 1 + number  # not the one of `sample`
            sampling = replace(self.once, sample=True, seed=seed)
            done = self._completions(path, samples, sampling)
            given = [s for s in samples if s["id"] in done]
            for row in _score(given, done, self.options):
                letters[row.id].append(row.letters)
        return Drawn(letters)

    def _completions(
        self, path: Path, samples: Sequence[Sample], sampling: Sampling
    ) -> dict[str, str]:
        from nontrivial.manifests.parquet import read_about
        from nontrivial.manifests.roots import media_root

        options, about = self.options, read_about(path)
        name = options.model_name_or_path
        settings = {"model": name, **asdict(sampling), **asdict(self.view)}
        if options.server:
            settings["server"] = options.server
        else:
            settings |= {"weights": weight_files(name), "dtype": options.dtype}
        key = settings_digest(settings | {"content": about["content_digest"]})
        store = JsonLines(self.out / f"{path.stem}-{key}.jsonl")
        root = media_root(path, options.media_root)
        bad = _answer(samples, store, lambda: self._policy(sampling), root, options)
        tolerate(bad, len(samples), options.max_bad, "samples are skipped", MOVED)
        return _completions(store)

    def _policy(self, sampling: Sampling) -> Generator | Served:
        policy = self._loaded
        policy.sampling = sampling
        return policy

    @cached_property
    def _loaded(self) -> Generator | Served:
        options, name = self.options, self.options.model_name_or_path
        if options.server:
            served = None if name == EMBEDDED else name
            return Served(options.server, served, self.once, self.view, at_once=options.batch_size)
        return Generator(name, self.once, self.view, dtype=options.dtype, device=options.device)


def _answer(
    samples: Sequence[Sample],
    store: JsonLines,
    policy: Callable[[], Generator | Served],
    media_root: str | None,
    options: Options,
) -> list[str]:
    """Append a line to `store` for each sample it lacks; return the problems of the others."""
    store.mend()
    done = _completions(store)
    left = [sample for sample in samples if sample["id"] not in done]
    if done:
        say(f"{store.path}: {len(samples) - len(left)} of {len(samples)} are answered already")
    bad: list[str] = []
    name = printable(store.path.stem)
    cut = None if options.server else next(reversed(done), None)  # a server seeds each by itself
    asked = left_of(batches(samples, options.batch_size), done, cut, lambda sample: sample["id"])
    with tqdm(total=len(left), unit="answer", desc=name, disable=not left) as bar:
        for good, media, problems in loaded(asked, media_root, View.of(options)):
            bad += problems
            new = {sample["id"] for sample in good} - done.keys()
            all_told = zip(good, policy().complete(good, media), strict=True) if new else ()
            answers = [(s, text) for s, text in all_told if s["id"] in new]
            told = [(s["id"], text) for s, text in answers if isinstance(text, str)]
            store.append(*({"id": name, "completion": text} for name, text in told))
            for sample, failed in answers:
                if isinstance(failed, Refused):
                    bad.append(f"{sample['id']}: {failed}")
                elif isinstance(failed, WorkFailed):
                    raise failed
            check_share(bad, len(samples), options.max_bad, "samples are skipped", MOVED)
            bar.update(len(new) + len(problems))
    return bad


def _score_predictions(
    options: Options, paths: Sequence[Path], excluded: LeftOut
) -> dict[str, list[Answered]]:
    """Score completions made elsewhere; return the scores by manifest, or by the log's name."""
    predictions = Path(options.predictions or "")
    if is_published(predictions):
        return {predictions.stem: _score_log(options, predictions, excluded)}
    if not paths:
        raise BadInput(
            f"{predictions} holds completions without their questions: name their manifests too"
        )
    completions = read_completions(predictions)
    return {
        path.stem: _score(_samples(path, options, excluded), completions, options) for path in paths
    }


def _score_log(options: Options, log: Path, excluded: LeftOut) -> list[Answered]:
    """Score a published log, and print where its own scores differ."""
    from nontrivial.eval.choices import answered

    rows = [row for row in read_published(log) if excluded.keeps(row.sample["id"])]
    rows = rows[: options.limit]
    need_block = bool(options.need_block)
    scored = [answered(row.sample, row.completion, need_block=need_block) for row in rows]
    given = [(row, new) for row, new in zip(rows, scored, strict=True) if row.score is not None]
    if given:
        differing = [(row, new) for row, new in given if row.score != new.strict]
        total = sum(row.score or 0 for row, _ in given)
        say(f"{log}: its own scores give {total:g}/{len(given)}; {len(differing)} differ")
        for row, new in differing:
            say(f"  {new.id}: {row.completion[:60]!r} scored {row.score:g}, here {new.strict:g}")
    return scored


def _samples(path: Path, options: Options, excluded: LeftOut) -> list[Sample]:
    """Return the rows to answer; a larger limit keeps the rows of a smaller one."""
    from nontrivial.manifests.parquet import read_samples
    from nontrivial.manifests.schema import iterate

    rows: list[Sample] = [
        row for row in iterate(read_samples(path)) if options.split in (None, row["split"])
    ]
    if not rows:
        raise BadInput(f"{path}: has no rows of split {options.split!r}")
    rows = [row for row in rows if excluded.keeps(row["id"])]
    if not rows:
        raise BadInput(f"{path}: --exclude {excluded.file} leaves out all its rows")
    rows.sort(key=lambda row: zlib.crc32(row["id"].encode()))
    return rows[: options.limit]


def _score(
    samples: Sequence[Sample], completions: Mapping[str, str], options: Options
) -> list[Answered]:
    from nontrivial.eval.choices import answered

    missing = [f"{s['id']}: has no completion" for s in samples if s["id"] not in completions]
    tolerate(missing, len(samples), options.max_bad, "samples are skipped")
    need_block = options.need_block is not False
    given = [(s, completions[s["id"]]) for s in samples if s["id"] in completions]
    return [answered(sample, text, need_block=need_block) for sample, text in given]


def _completions(store: JsonLines) -> dict[str, str]:
    return read_completions(store.path, torn=True) if store.path.is_file() else {}


def _report(
    scored: Mapping[str, Sequence[Answered]],
    drawn: Mapping[str, Drawn],
    options: Options,
    paths: Sequence[Path],
    out: Path,
) -> None:
    """Print the table; write every number and, for each manifest, every scored completion."""
    from nontrivial.eval.choices import summarise

    scores = {name: summarise(rows, drawn.get(name)) for name, rows in scored.items()}
    for path in paths:
        if path.stem in scores:
            scores[path.stem] = _with_shortcut(path, scores[path.stem])
    for name, rows in scored.items():
        ordered = sorted(rows, key=lambda row: row.id)
        JsonLines(out / f"{name}{SCORED}").write(row.record() for row in ordered)
    write_json(out / ANSWERS, {"options": asdict(options), "manifests": scores})
    header = ["", "right", "strict", "95 %", "blind", "soft", "95 %", "blind"]
    header += ["per option", "format", "best rule that doesn't look"]
    for name, lines in scores.items():
        say(f"\n{name}\n{table([_cells(line) for line in lines], header=header)}")
        if name in drawn:
            say(f"\n{table([_drawn_cells(line) for line in lines], header=_drawn_header(lines))}")
    say(f"\nall numbers: {out / ANSWERS}")


def _with_shortcut(path: Path, lines: Sequence[AnswerScores]) -> list[AnswerScores]:
    """Add the best shortcut rule of a manifest of pairs, which its builder has measured."""
    from nontrivial.manifests.parquet import read_about
    from nontrivial.manifests.shortcuts import best_shortcut

    name, score = best_shortcut(read_about(path)) or (None, None)
    return [
        replace(line, shortcut=name, shortcut_score=score) if line.task.startswith("reid") else line
        for line in lines
    ]


def _cells(line: AnswerScores) -> tuple[Any, ...]:
    name = line.task if line.family is None else f"  {line.family}"
    strict, soft = (
        "{:.3f}–{:.3f}".format(*bounds) for bounds in (line.strict_interval, line.soft_interval)
    )
    strict_cells = (line.strict, strict, line.blind_strict)
    soft_cells = (line.soft, soft, line.blind_soft)
    right = f"{line.right}/{line.n}"
    shares = (line.per_option, line.format, "{} {:.3f}".format(*line.not_looking))
    return (name, right, *strict_cells, *soft_cells, *shares)


def _drawn_header(lines: Sequence[AnswerScores]) -> tuple[str, ...]:
    draws = max(line.draws for line in lines)
    return (f"of {draws} samples", "n", "greedy strict", "mean strict", f"pass@{draws}", "AUC")


def _drawn_cells(line: AnswerScores) -> tuple[Any, ...]:
    name = line.task if line.family is None else f"  {line.family}"
    area = "" if line.option_auc is None else line.option_auc
    return (name, line.n, line.strict, line.sampled_strict, line.pass_at_draws, area)


if __name__ == "__main__":
    sys.exit(main())
