"""Tiny trainings and evaluations to disturb, and what is the same in two of their folders."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from nontrivial.eval import qa, reid
from nontrivial.manifests.parquet import write_samples
from nontrivial.manifests.roots import name_root
from nontrivial.manifests.runs import ANSWERS, LISTS, OPTIONS, RANKINGS, SCORED, STATE, JsonLines
from nontrivial.manifests.schema import samples_table
from nontrivial.train import grpo, warmup
from tests import media_files, tiny_policy
from tests.eval.test_reid import rows_of, write_embeddings
from tests.faults.faulty import run
from tests.faults.trials import KILLS, Command, Trial, by_two, most, quiet
from tests.train.conftest import pairs, videos

STEPS = 3
LAST = f"checkpoint-{STEPS}"
# Names of files that a command writes late: half of the faults come from there on.
END = {
    "train.grpo": LAST,
    "train.grpo by two processes": LAST,
    "train.warmup": LAST,
    "eval.qa": "m-",  # its completions
    "eval.reid": LISTS,
}
# What tells of time or of the folder: the rest of two runs is equal.
VARYING = ("time", "runtime", "per_second", "seconds", "output_dir", "out", "best_model_checkpoint")
ATOMIC = (ANSWERS, RANKINGS, SCORED, LISTS, OPTIONS)
TRAINED = {
    "max_steps": STEPS,
    "save_steps": 1,
    "save_total_limit": 2,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "dtype": "float32",
    "logging_steps": 1,
    "freeze_vision": "false",
    "report_to": "none",
    "disable_tqdm": "true",
    "nframes": 2,
}


def trial(name: str, folder: Path) -> Trial:
    """Return a command of that name over small data, which are made in a process of their own."""
    assert run(lambda: _made(folder)) == 0
    return Trial(COMMANDS[name](folder), folder, tell, ATOMIC)


def faults(name: str, folder: str, number: str) -> dict[str, int]:
    return trial(name, Path(folder)).faults(most(int(number)), END[name])


def kills(name: str, folder: str, number: str) -> dict[str, int]:
    return trial(name, Path(folder)).kills(most(int(number)) or KILLS, END[name])


def tell(folder: Path) -> dict[str, str]:
    """A digest of each file below a folder, without what tells of time."""
    return {
        path.relative_to(folder).as_posix(): _digest(path)
        for path in folder.rglob("*")
        if path.is_file()
    }


def _digest(path: Path) -> str:
    if path.name == "training_args.bin":  # names the folder; nothing reads it
        return ""
    content: Any = path.read_bytes()
    try:
        if path.suffix == ".jsonl":
            lines = [_lasting(line) for line in JsonLines(path)]
            content = sorted(lines, key=lambda line: str(line.get("id", "")))
        elif path.suffix == ".json":
            content = _lasting(json.loads(content))
        if path.name == STATE and "checkpoint" not in path.parent.name:
            content.pop("log_history")  # ends with the run's summary, if it was not stopped
    except ValueError:  # torn
        pass
    text = content if isinstance(content, bytes) else json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()


def _lasting(value: Any) -> Any:
    """Return a JSON value without what varies."""
    if isinstance(value, dict):
        return {
            name: _lasting(held)
            for name, held in value.items()
            if not any(word in name.replace("/", "_").split("_") for word in VARYING)
            and name not in VARYING
            and not name.endswith("per_second")
        }
    return [_lasting(held) for held in value] if isinstance(value, list) else value


def _made(folder: Path) -> int:
    """Make a policy, images, clips, a manifest of both, and a table of embeddings."""
    model, processor = tiny_policy.build()
    for part in (model, processor):
        part.save_pretrained(folder / "policy")
    root = folder / "media"
    name_root(root)
    for number in range(12):
        media_files.write_image(root / f"{number}.jpg", seed=number, size=(56, 56))
    for number in range(2):
        media_files.write_clip(root / f"{number}.mp4", frames=12)
    about = {"media_root": str(root), "builder": "tests"}
    write_samples(samples_table(pairs(6) + videos(2)), folder / "m.parquet", about)
    rows = rows_of()
    for number, row in enumerate(rows):
        media_files.write_image(root / row["path"], seed=number % 3, size=(56, 56))
    write_embeddings(folder / "embeddings.parquet", rows, root)
    return 0


def _training(main: Any, *more: str) -> Any:
    def of(folder: Path) -> Command:
        words = [str(folder / "m.parquet"), f"--model_name_or_path={folder / 'policy'}", *more]
        words += [f"--{name}={value}" for name, value in TRAINED.items()]
        return lambda out: quiet(main, [*words, f"--output_dir={out}"])

    return of


def _evaluation(main: Any, data: str, *more: str) -> Any:
    def of(folder: Path) -> Command:
        words = [str(folder / data), f"--model_name_or_path={folder / 'policy'}", *more]
        return lambda out: quiet(main, [*words, f"--out={out}"])

    return of


GRPO = _training(
    grpo.main,
    "--num_generations=2",
    "--max_completion_length=4",
    "--gradient_checkpointing=false",
    "--sample_every=1",
    "--reward_funcs=tests.train.conftest.distinct_letters",
)
COMMANDS = {
    "train.grpo": GRPO,
    "train.grpo by two processes": lambda folder: by_two(GRPO(folder)),
    "train.warmup": _training(warmup.main, "--use_peft", "--lora_r=4"),
    "eval.qa": _evaluation(
        qa.main, "m.parquet", "--draws=1", "--batch_size=3", "--max_new_tokens=4", "--nframes=2"
    ),
    "eval.reid": _evaluation(
        reid.main,
        "embeddings.parquet",
        *("--encoder=one", "--k_reciprocal", "--judge=votes", "--votes=2"),
        *("--limit=3", "--top_k=3", "--batch_size=4", "--max_new_tokens=4"),
    ),
}
