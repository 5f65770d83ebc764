"""Make the embedded policy from nothing: draw worlds, build manifests, pre-train, score, ship.

Its worlds have other seeds and other identities than any data set `builders.synthetic` writes by
default. People are paired at random only: what is hard is left to learn.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.command import guard, option, parse
from manifests.errors import WorkFailed

WORLD_SEED = 90_210
NFRAMES = 8
MAX_MIB = 8


@dataclass
class Options:
    out: str = option("folder that gets the weights", default="models/embedded")
    work: str = option("folder for the drawn worlds and their manifests", default="runs/embedded")
    seed: int = option("initialises the network and orders the batches", default=0)
    text_steps: int = option("steps of the text stage", default=400)
    look_steps: int = option("steps of the look-up stage, both tasks in turn", default=900)
    sight_steps: int = option("steps of the vision stage, for each task", default=1200)
    joint_steps: int = option("steps of the joint stage, both tasks in turn", default=1000)


def main(argv: Sequence[str] | None = None) -> int:
    return guard(run, parse(Options, argv, prog="scripts.embedded", description=__doc__))


def run(options: Options) -> None:
    from scripts.embedded import worlds

    work = Path(options.work)
    size = worlds.Size()
    worlds.draw(work, WORLD_SEED, size)
    paths = worlds.manifests(work, WORLD_SEED, size)
    model, processor = pretrain(options, work, paths)
    ship(model, processor, Path(options.out))


def pretrain(options: Options, work: Path, paths: Sequence[Path]) -> tuple[Any, Any]:
    """The four stages on the rows of the manifests at `paths`, whose media lie under `work`."""
    import numpy as np
    import torch

    from manifests.media import frame_indices
    from manifests.parquet import read_samples
    from scripts.embedded import architecture, encoding, stages, worlds

    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    rows = [row for path in paths for row in read_samples(path).to_pylist()]
    corpus = [text for row in rows for text in encoding.texts(row)]
    model, processor = architecture.build(corpus, options.seed)
    size = sum(p.numel() for p in model.parameters())
    print(f"{size:,} parameters, vocabulary of {len(processor.tokenizer)}, {len(rows):,} samples")

    frames = frame_indices(worlds.clips.FRAMES, worlds.clips.FPS, nframes=NFRAMES).tolist()
    encoder = encoding.Encoder(processor, str(work), worlds.Truth(work, WORLD_SEED, frames))
    samples = encoder.encode_all(rows)
    words = encoder.single_ids([f" {word}" for word in worlds.WORDS])
    everything = [sample for task in samples.values() for sample in task]
    stages.learn_text(model, everything, options.text_steps, rng)
    stages.learn_look(model, samples, words, options.look_steps, rng)
    for task in samples.values():
        stages.learn_sight(model, task, words, options.sight_steps, rng)
    stages.learn_jointly(model, samples, options.joint_steps, rng)
    return model, processor


def ship(model: Any, processor: Any, folder: Path) -> None:
    """Save weights and processor; refuse what is too large to ship inside the package."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 2**20
    if size > MAX_MIB:
        raise WorkFailed(f"{folder} takes {size:.1f} MiB; at most {MAX_MIB} MiB are shipped")
    print(f"written to {folder}/ ({size:.1f} MiB)")


if __name__ == "__main__":
    sys.exit(main())
