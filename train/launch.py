"""Common steps of the training commands: options, policy, resuming, saving.

A command is `prepare` (options and samples), its own trainer, and `finish` (train, save, report).
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests import command, decoders
from nontrivial.manifests.errors import BadInput, WorkFailed
from nontrivial.manifests.files import atomic_path, claim
from nontrivial.manifests.left_out import LeftOut
from nontrivial.manifests.runs import OPTIONS, STATE, read_json, write_json
from nontrivial.models.policy import EMBEDDED, ORIGIN
from nontrivial.train.checkpoints import checkpoints, is_whole, remove
from nontrivial.train.processes import check_processes, part_ways

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin, TrainingArguments
    from trl import ModelConfig

    from nontrivial.train.data import Samples
    from nontrivial.train.resume import StrictResume

# An adapter goes on the language model; `--lora_target_modules all-linear` adds the vision tower.
LORA_TARGETS = [r".*language_model\..*_proj"]

# Options that do not affect what is computed, so a resumed run may change them.
HARMLESS = {
    "dataloader_num_workers",
    "devices",
    "disable_tqdm",
    "dry_run",
    "eval_batch_size",  # from per_device_eval_batch_size
    "eval_limit",
    "eval_manifests",
    "eval_steps",
    "eval_strategy",
    "exclude",  # the samples' digest tells what is left
    "greater_is_better",
    "keep_best",
    "load_best_model_at_end",
    "log_completions",
    "log_level",
    "logging_steps",
    "max_bad",
    "media_cache_mb",
    "metric_for_best_model",
    "num_completions_to_print",
    "output_dir",
    "per_device_eval_batch_size",
    "preflight",
    "report_to",
    "restart",
    "resume_from_checkpoint",
    "run_name",
    "sample_every",
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "sharded",
    "vision_cache_mb",
}
# Parts of a checkpoint, and the names that they have: whole, in FSDP's shards, or in DeepSpeed's.
NEEDED = {
    "optimiser": ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*"),
    "state of the random numbers": ("rng_state*.pth",),
}

# Options of a run's length, which affect every step unless the learning rate is constant.
LENGTH = {"max_steps", "num_train_epochs"}

logger = logging.getLogger(__name__)

Words = Sequence[str]  # a command line


@dataclass
class Job:
    """The options and samples of one training command."""

    script: Any
    args: TrainingArguments
    model_args: ModelConfig
    samples: Samples
    held_out: Samples | None = None


def main(
    argv: Words | None, run: Callable[[Words], None], common: type, *, prog: str, doc: str | None
) -> int:
    """Call `run` with the command line in snake_case and return the exit status.

    `--help` prints the options of the dataclass `common` instead, without importing TRL.
    """

    def work(words: Words) -> None:
        run(words)
        part_ways()

    words = [command.snake_case(word) for word in (sys.argv[1:] if argv is None else argv)]
    if not {"-h", "--help"} & set(words):
        return command.guard(work, words)
    parser = command.build_parser(common, prog=prog, description=doc)
    parser.usage = f"{command.invocation(prog)} MANIFEST [MANIFEST ...] [options]"
    parser.epilog = "All options of TRL and transformers: --help_all"
    parser.print_help()
    return 0


def prepare(
    words: Words, script: type, config: type, *, prog: str, embedded: Mapping[str, Any]
) -> Job:
    """Read the command line and the manifests, and check their media before anything is loaded."""
    # TRL uses names that transformers is renaming, which warns at every step.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    from trl import ModelConfig

    from nontrivial.train.data import read_manifests
    from nontrivial.train.preflight import check_media

    own, args, model_args, manifests = read_options(
        words, [script, config, ModelConfig], prog=prog, embedded=embedded
    )
    check_processes(args.world_size)
    policy = model_args.model_name_or_path
    if policy != EMBEDDED and Path(args.output_dir).resolve() == Path(policy).resolve():
        raise BadInput(
            f"--output_dir {args.output_dir} is the policy to train from, too, which the trained "
            "one would overwrite; choose another"
        )
    if model_args.dtype is None:
        adapted = model_args.use_peft and not is_embedded(model_args.model_name_or_path)
        model_args.dtype = "bfloat16" if adapted else "float32"
    excluded = LeftOut(own.exclude)
    with command.uncollected():
        samples = read_manifests(
            manifests, media_root=args.media_root, style=args.prompt, excluded=excluded
        )
        if args.process_index == 0:
            decoders.report(samples.rows)
        samples = check_media(samples, args, args.world_size, args.process_index)
        held_out = held_out_of(samples, args, excluded)
    gc.freeze()  # the samples stay: nobody has to look for garbage among them
    if args.process_index == 0:
        samples.report()
        excluded.report()
        if held_out:
            command.say(f"evaluating on {len(held_out.rows)} held-out samples")
    return Job(own, args, model_args, samples, held_out)


def dry(job: Job) -> bool:
    """Print what a run would do and need, if only that is asked for."""
    if job.script.dry_run and job.args.process_index == 0:
        from nontrivial.train.dry_run import report

        report(job)
    return job.script.dry_run


def held_out_of(samples: Samples, args: Any, excluded: LeftOut) -> Samples | None:
    """Return the samples of `eval_manifests`, whose media are whole, if any are given.

    Logs a WARNING where they share a video or a person with the samples that are trained on.
    """
    from nontrivial.train.data import read_manifests
    from nontrivial.train.preflight import check_media
    from nontrivial.train.rows import Made

    given = getattr(args, "eval_manifests", None)
    if not given:
        return None
    read = read_manifests(
        given, media_root=args.media_root, split=None, style=args.prompt, excluded=excluded
    )
    if args.eval_limit:  # as `eval.qa --limit` picks them
        by_id = sorted(read.rows, key=lambda row: zlib.crc32(row["id"].encode()))
        read.rows = Made(by_id[: args.eval_limit])
    trained = {(row["source"], row["group"]) for row in samples.rows}
    shared = sum((row["source"], row["group"]) in trained for row in read.rows)
    if shared:
        logger.warning(
            "%d of %d held-out samples are about a video or a person that is trained on",
            shared,
            len(read.rows),
        )
    return check_media(read, args, args.world_size, args.process_index)


def read_options(
    words: Words, kinds: Sequence[type], *, prog: str, embedded: Mapping[str, Any]
) -> list[Any]:
    """Parse the command line into the dataclasses `kinds`; return these, then the manifests.

    `--config FILE` sets defaults. Those in `embedded` hold for the embedded policy and for policies
    trained from it. Raises `BadInput` for unknown options and for values that contradict each
    other.
    """
    from trl import TrlParser

    parser = TrlParser(kinds, prog=command.invocation(prog), allow_abbrev=False, add_help=False)
    parser.add_argument("manifests", nargs="*")
    # These two options decide the defaults of others.
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config")
    early.add_argument("--model_name_or_path")
    given, rest = early.parse_known_args(words)
    config = command.read_yaml(given.config) if given.config else {}
    policy = given.model_name_or_path or config.get("model_name_or_path") or EMBEDDED
    defaults = {
        "lora_target_modules": LORA_TARGETS,
        "dtype": None,
        **(embedded if is_embedded(policy) else {}),
    }
    unknown = parser.set_defaults_with_config(
        **{**defaults, **config, "model_name_or_path": policy}
    )
    if unknown:
        raise BadInput(f"--config {given.config}: unknown options {' '.join(unknown[::2])}")
    if "--help_all" in words:  # with the values of the configuration as defaults
        parser.print_help()
        parser.exit()
    try:
        *options, others = parser.parse_args_into_dataclasses(rest, look_for_args_file=False)
    except ValueError as error:
        raise BadInput(f"{error}; see --help") from error
    if not others.manifests:
        raise BadInput(f"no manifest is given: {command.invocation(prog)} manifests/*.parquet")
    return [*options, others.manifests]


def is_embedded(policy: str) -> bool:
    """True for the embedded policy and for those trained from it."""
    if policy == EMBEDDED:
        return True
    return (read_json(Path(policy, "config.json")) or {}).get(ORIGIN) == EMBEDDED


def load(job: Job) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Load the policy to train and its processor, as TRL's model options describe it."""
    from trl import get_quantization_config

    from nontrivial.models.policy import load_policy, locate

    args = job.model_args
    wanted = {
        "attn_implementation": args.attn_implementation,
        "quantization_config": get_quantization_config(args),
    }
    model, processor = load_policy(
        locate(args.model_name_or_path),
        dtype=args.dtype,
        revision=args.model_revision,
        **{name: value for name, value in wanted.items() if value is not None},
    )
    if args.model_name_or_path == EMBEDDED:
        setattr(model.config, ORIGIN, EMBEDDED)
    return model, processor


def finish(trainer: StrictResume, job: Job, *, reported: Sequence[str]) -> None:
    """Train from the last checkpoint or the beginning, write the policy and print a summary.

    `reported` names the metrics of the summary. Raises `BadInput` where another process is writing
    to the same folder, and `WorkFailed` where a signal has stopped the run, with a checkpoint.
    """
    from transformers import TrainerState

    from nontrivial.train.progress import follow
    from nontrivial.train.resume import StopOnSignal

    args, first = job.args, trainer.is_world_process_zero()
    follow(trainer)
    with claim(args.output_dir) if first else nullcontext():
        with args.main_process_first(local=False):
            checkpoint = args.resume_from_checkpoint or resume_point(
                args.output_dir, describe(job), defaults(job), restart=job.script.restart
            )
        done = checkpoint and steps_done(checkpoint, args)
        if checkpoint and done:
            trainer.state = TrainerState.load_from_json(str(Path(checkpoint, STATE)))
            if not is_whole(Path(args.output_dir), done):
                write_from(checkpoint, trainer, args.output_dir)
            trainer.rotate()  # a kill may have come before
            if first:
                command.say(
                    f"{args.output_dir}: finished after {done} steps, nothing was trained; "
                    "more with --max_steps, anew with --restart"
                )
            return
        if checkpoint and first:
            command.say(f"resuming from {checkpoint}")
        signals = StopOnSignal(trainer.used_up) if args.world_size == 1 else None
        if signals:
            trainer.add_callback(signals)
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        finally:
            if signals:
                signals.restore()
        if signals and signals.stopped:
            raise WorkFailed(
                f"stopped by {signals.stopped} after step {trainer.state.global_step}, with a "
                "checkpoint: the same command goes on from here"
            )
        write(trainer, args.output_dir)
    if first:
        command.say(command.table(summary(trainer, reported)))


def steps_done(checkpoint: str, args: TrainingArguments) -> int | None:
    """Return the steps of a checkpoint if the run that `args` describes ends there, else None."""
    state = read_json(Path(checkpoint, STATE)) or {}
    steps = int(state.get("global_step") or 0)
    wanted = args.max_steps
    if wanted <= 0:
        same = float(state.get("num_train_epochs") or 0) == float(args.num_train_epochs)
        wanted = int(state.get("max_steps") or 0) if same else steps + 1
    return steps if steps >= wanted > 0 else None


def write_from(checkpoint: str, trainer: StrictResume, output_dir: str) -> None:
    """Write the policy of a run that was stopped between its last checkpoint and its end.

    `trainer` has the state of that checkpoint.
    Raises `BadInput` where processes shard the weights: only a training puts them together.
    """
    if trainer.sharded:
        raise BadInput(
            f"{checkpoint} is the end of this run, whose policy was not written; train one step "
            "more with --max_steps, or anew with --restart"
        )
    best = trainer.state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
    trainer._load_from_checkpoint(best or checkpoint)
    write(trainer, output_dir)


def write(trainer: StrictResume, output_dir: str) -> None:
    """Write the policy, then the state, which tells that the policy is whole (`is_whole`)."""
    from nontrivial.train.saving import save

    save(trainer, output_dir)
    if trainer.is_world_process_zero():
        with atomic_path(Path(output_dir, STATE)) as path:
            trainer.state.save_to_json(str(path))


def resume_point(
    output_dir: str,
    run: Mapping[str, str],
    defaults: Mapping[str, str],
    *,
    restart: bool = False,
) -> str | None:
    """Return the last whole checkpoint in `output_dir`, or None to train from the beginning.

    Checkpoints of this run that a kill has torn are removed, with a WARNING. `restart` removes all
    checkpoints. Raises `BadInput` where they come from another `run`, or lack a part without which
    the run would go on as another. Options that the run did not have, as an earlier version began
    it, count as their `defaults`.
    """
    folder = Path(output_dir)
    if restart:
        for checkpoint in checkpoints(folder).values():
            remove(checkpoint)
    found, adaptive = checkpoints(folder), run.get("use_adaptive_entropy") == "True"
    steps = [step for step, path in found.items() if is_whole(path, step, adaptive=adaptive)]
    before = read_json(folder / OPTIONS)
    if steps and before is not None:
        known = {**defaults, **before}
        changed = sorted(name for name in run if run[name] != known.get(name))
        if changed:
            shown = ", ".join(f"{name}: {known.get(name)} -> {run[name]}" for name in changed[:5])
            raise BadInput(
                f"--output_dir {output_dir} holds checkpoints of another run ({shown}); choose "
                "another folder, or remove them with --restart"
            )
    for step in found.keys() - steps:
        if before is None:  # no run of ours made it
            logger.warning("%s is not whole, and passed over", found[step])
        else:
            logger.warning("%s is not whole, and removed", found[step])
            remove(found[step])
    if not steps:
        (folder / STATE).unlink(missing_ok=True)  # an older policy is not that of this run
    write_json(folder / OPTIONS, dict(sorted(run.items())))
    if not steps:
        return None
    last = found[max(steps)]
    for part, patterns in NEEDED.items():
        if not any(any(last.glob(pattern)) for pattern in patterns):
            raise BadInput(
                f"{last} holds no {part}: the run would go on as another; remove this checkpoint, "
                "or all with --restart"
            )
    return str(last)


def describe(job: Job) -> dict[str, str]:
    """Return all options that affect what a run computes, and a digest of its samples."""
    options = job.args.to_sanitized_dict() | vars(job.model_args) | vars(job.script)
    # A constant rate after a fixed number of steps does not depend on the run's length.
    constant = job.args.lr_scheduler_type in ("constant", "constant_with_warmup")
    fixed = constant and not 0 < job.args.warmup_steps < 1
    left_out = HARMLESS | LENGTH if fixed else HARMLESS
    run = {name: str(value) for name, value in options.items() if name not in left_out}
    return run | {"samples": job.samples.digest}


def defaults(job: Job) -> dict[str, str]:
    """Return the defaults of all options, as `describe` tells them."""
    return {
        option.name: str(
            option.default if option.default_factory is MISSING else option.default_factory()
        )
        for options in (job.args, job.model_args, job.script)
        for option in fields(options)
    }


def summary(trainer: StrictResume, metrics: Sequence[str]) -> list[tuple[str, Any]]:
    """Return rows of steps, the first and last value of each logged metric, and the folder."""
    rows: list[tuple[str, Any]] = [("steps", trainer.state.global_step)]
    for name in metrics:
        values = [entry[name] for entry in trainer.state.log_history if name in entry]
        if values:
            rows += [(f"{name}, first", values[0]), (f"{name}, last", values[-1])]
    if trainer.args.load_best_model_at_end and trainer.state.best_global_step:
        rows.append(("best, kept", f"step {trainer.state.best_global_step}"))
    return [*rows, ("policy and logs", trainer.args.output_dir)]
