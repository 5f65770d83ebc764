"""What the training commands share: options, policy, resuming, saving.

A command is `prepare` (options and samples), its own trainer, and `finish` (train, save).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.command import build_parser, invocation, read_yaml, snake_case
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.runs import OPTIONS, STATE, read_json, write_json
from nontrivial.models.policy import EMBEDDED
from nontrivial.train.options import DataOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin, TrainingArguments
    from trl import ModelConfig

    from nontrivial.train.data import Samples
    from nontrivial.train.resume import StrictResume

# An adapter goes on the language model; `--lora_target_modules all-linear` adds the vision tower.
LORA_TARGETS = [r".*language_model\..*_proj"]

# A policy trained from the embedded one says so in its config, and keeps the options made for it.
ORIGIN = "trained_from"

# Options that may differ between a run and its resumption: they don't enter what is computed.
HARMLESS = {
    "dataloader_num_workers",
    "disable_tqdm",
    "log_completions",
    "log_level",
    "logging_steps",
    "max_bad",
    "max_steps",
    "media_cache_mb",
    "num_completions_to_print",
    "num_train_epochs",
    "output_dir",
    "report_to",
    "restart",
    "resume_from_checkpoint",
    "run_name",
    "sample_every",
    "save_steps",
    "save_strategy",
    "save_total_limit",
}


@dataclass
class Job:
    """Everything a command was asked to do."""

    script: Any
    args: TrainingArguments
    model_args: ModelConfig
    samples: Samples


def words_of(argv: Sequence[str] | None) -> list[str]:
    """The command line with flags in snake_case."""
    return [snake_case(word) for word in (sys.argv[1:] if argv is None else argv)]


def show_help(common: type, *, prog: str, description: str | None) -> None:
    """Print our options and the most used of TRL's, without importing TRL."""
    parser = build_parser(common, prog=prog, description=description)
    parser.usage = f"{invocation(prog)} MANIFEST [MANIFEST ...] [options]"
    parser.epilog = "All options of TRL and transformers: --help_all"
    parser.print_help()


def prepare(
    words: Sequence[str], script: type, config: type, *, prog: str, embedded: Mapping[str, Any]
) -> Job:
    """Read the command line and the manifests, and check their media before anything is loaded."""
    # TRL still uses names that transformers renames, and is told so at every step.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    from trl import ModelConfig

    from nontrivial.train.data import check_media, read_manifests

    *options, manifests = read_options(
        words, [script, config, ModelConfig], prog=prog, embedded=embedded
    )
    data: DataOptions = options[1]
    samples = check_media(read_manifests(manifests, media_root=data.media_root), data)
    if options[1].process_index == 0:
        samples.report()
    return Job(*options, samples)


def read_options(
    words: Sequence[str], kinds: Sequence[type], *, prog: str, embedded: Mapping[str, Any]
) -> list[Any]:
    """Parse the command line into the dataclasses `kinds`; the manifests come last.

    `--config FILE` sets defaults; those in `embedded` hold where the embedded policy, or one that
    was trained from it, is trained.
    Raises `BadInput` for unknown options and for values that contradict each other.
    """
    from trl import TrlParser

    parser = TrlParser(kinds, prog=invocation(prog), allow_abbrev=False, add_help=False)
    parser.add_argument("manifests", nargs="*")
    if "--help_all" in words:
        parser.print_help()
        parser.exit()
    early, rest = _early_parser().parse_known_args(words)
    config = read_yaml(early.config) if early.config else {}
    policy = early.model_name_or_path or config.get("model_name_or_path") or EMBEDDED
    defaults = {"lora_target_modules": LORA_TARGETS, **(embedded if is_embedded(policy) else {})}
    config = {**defaults, **config, "model_name_or_path": policy}
    unknown = parser.set_defaults_with_config(**config)
    if unknown:
        raise BadInput(f"--config {early.config}: unknown options {' '.join(unknown[::2])}")
    try:
        *options, others = parser.parse_args_into_dataclasses(rest, look_for_args_file=False)
    except ValueError as error:
        raise BadInput(f"{error}; see --help") from error
    if not others.manifests:
        raise BadInput(f"no manifest is given: {invocation(prog)} manifests/*.parquet")
    return [*options, others.manifests]


def is_embedded(policy: str) -> bool:
    """True for the embedded policy and for those trained from it."""
    config = Path(policy, "config.json")
    if policy == EMBEDDED or not config.is_file():
        return policy == EMBEDDED
    return json.loads(config.read_text(encoding="utf-8")).get(ORIGIN) == EMBEDDED


def load(model_args: ModelConfig, *, freeze_vision: bool) -> tuple[PreTrainedModel, ProcessorMixin]:
    """The policy to train and its processor, as TRL's model options describe it."""
    from trl import get_quantization_config

    from nontrivial.models.policy import load_policy, locate

    wanted = {
        "attn_implementation": model_args.attn_implementation,
        "quantization_config": get_quantization_config(model_args),
    }
    model, processor = load_policy(
        locate(model_args.model_name_or_path),
        dtype=model_args.dtype,
        revision=model_args.model_revision,
        **{name: value for name, value in wanted.items() if value is not None},
    )
    if model_args.model_name_or_path == EMBEDDED:
        setattr(model.config, ORIGIN, EMBEDDED)
    if freeze_vision:
        model.base_model.visual.requires_grad_(False)
    return model, processor


def finish(trainer: StrictResume, job: Job) -> None:
    """Train from the last checkpoint or the beginning, and write the policy.

    Raises `BadInput` where another process is writing to the same folder.
    """
    from nontrivial.manifests.files import claim
    from nontrivial.train.progress import follow

    args, first = job.args, trainer.is_world_process_zero()
    follow(trainer)
    with claim(args.output_dir) if first else nullcontext():
        with args.main_process_first(local=False):
            checkpoint = args.resume_from_checkpoint or resume_point(
                args.output_dir, describe(job), restart=job.script.restart
            )
        if checkpoint and first:
            print(f"resuming from {checkpoint}")
        trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_state()
        save(trainer, args.output_dir)


def resume_point(output_dir: str, run: Mapping[str, Any], *, restart: bool = False) -> str | None:
    """The last whole checkpoint in `output_dir`, made by the same run; None to begin.

    Raises `BadInput` where its checkpoints come from other samples or options.
    """
    folder = Path(output_dir)
    if restart:
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    # The state is written last, so its existence means that the checkpoint is whole.
    states = folder.glob(f"checkpoint-*/{STATE}")
    steps = sorted(int(state.parent.name.rpartition("-")[2]) for state in states)
    before = read_json(folder / OPTIONS)
    if steps and before is not None:
        changed = sorted(name for name in run if run[name] != before.get(name))
        if changed:
            shown = ", ".join(f"{name}: {before.get(name)} -> {run[name]}" for name in changed[:5])
            raise BadInput(
                f"--output_dir {output_dir} holds checkpoints of another run ({shown}); choose "
                "another folder, or remove them with --restart"
            )
    write_json(folder / OPTIONS, dict(sorted(run.items())))
    return str(folder / f"checkpoint-{steps[-1]}") if steps else None


def describe(job: Job) -> dict[str, str]:
    """Everything that decides what a run computes."""
    options = job.args.to_sanitized_dict() | vars(job.model_args) | vars(job.script)
    run = {name: str(value) for name, value in options.items() if name not in HARMLESS}
    ids = "\n".join(row["id"] for row in job.samples.rows)
    return run | {"samples": hashlib.sha256(ids.encode()).hexdigest()}


def save(trainer: StrictResume, output_dir: str) -> None:
    """Write the policy so that `from_pretrained` loads it; an adapter also by itself."""
    from accelerate.utils import is_peft_model

    model = trainer.accelerator.unwrap_model(trainer.model)
    if not is_peft_model(model) or trainer.sharded:
        trainer.save_model(output_dir)
    elif trainer.is_world_process_zero():
        model.save_pretrained(Path(output_dir, "adapter"))
        model.merge_and_unload().save_pretrained(output_dir)
        trainer.processing_class.save_pretrained(output_dir)


def _early_parser() -> argparse.ArgumentParser:
    """Options that decide other options' defaults."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    parser.add_argument("--model_name_or_path")
    return parser
