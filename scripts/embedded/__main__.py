"""Make the embedded policy from nothing.

Draw worlds, build manifests, pre-train, save the weights and score them. The worlds have other
seeds and other identities than any data set that `builders.synthetic` writes by default. People are
paired at random only, so that hard pairs are left to learn.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nontrivial.manifests.command import guard, option, parse
from nontrivial.manifests.errors import WorkFailed

WORLD_SEED = 90_210
NFRAMES = 8
DRILLS = 8000  # text-only questions of the first stage
MAX_MIB = 8

# (stage, steps, learning-rate factor). Before the joint stage there are careful reasons only: they
# teach most. Text and look go at half the rate: at the full one, named objects are not looked up. A
# joint stage at the full rate undoes part of the earlier ones; at a low rate it only joins them.
# Sight of both is short on purpose: with 900 steps nine in ten hard pairs are answered, and little
# is left for reinforcement learning to gain.
CURRICULUM = (
    ("text", 600, 0.5),
    ("look", 1500, 0.5),
    ("look", 500, 0.25),
    ("sight of people", 700, 1.0),
    ("sight of clips", 1300, 1.0),
    ("sight", 240, 1.0),
    ("joint", 360, 0.25),
    ("joint", 420, 0.25),
)


@dataclass
class Options:
    """Options of `python -m scripts.embedded`."""

    out: str = option("folder for the weights", default="models/embedded")
    work: str = option(
        "folder for the drawn worlds, their manifests and the weights of each stage",
        default="runs/embedded",
    )
    seed: int = option("seed of the initial network and of the order of batches", default=0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="scripts.embedded", description=__doc__))


def run(options: Options) -> None:
    """Draw the worlds, pre-train, save the policy and write its card."""
    from scripts.embedded import card, worlds

    work = Path(options.work)
    size = worlds.Size()
    worlds.draw(work, WORLD_SEED, size)
    paths = worlds.manifests(work, WORLD_SEED, size)
    model, processor = pretrain(options, work, paths)
    ship(model, processor, Path(options.out))
    card.write(
        Path(options.out),
        card.score(Path(options.out), work),
        CURRICULUM,
        parameters=sum(p.numel() for p in model.parameters()),
        vocabulary=len(processor.tokenizer),
    )


def pretrain(options: Options, work: Path, paths: Sequence[Path]) -> tuple[Any, Any]:
    """Train the curriculum on the manifests at `paths`, whose media lie under `work`.

    Returns model and processor. The weights of each stage are kept, so a run that was killed
    continues after its last finished stage.
    """
    import numpy as np
    import torch
    from safetensors.torch import load_model, save_model

    from nontrivial.manifests.files import atomic_path
    from nontrivial.manifests.frames import frame_indices
    from nontrivial.manifests.parquet import read_samples
    from scripts.embedded import architecture, encoding, stages, worlds
    from scripts.embedded.drills import drills
    from scripts.embedded.reasons import CAREFUL, SHARES

    rows = [row for path in paths for row in read_samples(path).to_pylist()]
    told = list(drills(DRILLS, WORLD_SEED))
    corpus = [text for row in rows + told for text in encoding.texts(row)]
    model, processor = architecture.build(corpus, options.seed, kept=work / "stages")
    size = sum(p.numel() for p in model.parameters())
    print(f"{size:,} parameters, vocabulary of {len(processor.tokenizer)}, {len(rows):,} samples")

    frames = frame_indices(worlds.clips.FRAMES, worlds.clips.FPS, nframes=NFRAMES).tolist()
    truth = worlds.Truth(work, WORLD_SEED, frames)
    encoder = encoding.Encoder(processor, str(work), truth)
    encoded = cache(lambda mixed: encoder.encode_all(rows, SHARES if mixed else {CAREFUL: 1.0}))
    drilled = cache(lambda: encoder.encode_all(told, {CAREFUL: 1.0})["video_qa"])
    words = encoder.single_ids([f" {word}" for word in worlds.WORDS])
    for number, (stage, steps, factor) in enumerate(CURRICULUM):
        torch.manual_seed(options.seed + number)
        rng = np.random.default_rng([options.seed, number])
        kept = work / "stages" / f"{number}.safetensors"
        if kept.is_file():
            load_model(model, str(kept))
            continue
        samples = encoded(stage == "joint")
        extra = drilled() if stage == "text" else []
        stages.learn(stage, model, samples, extra, words, steps, factor, rng)
        with atomic_path(kept) as path:
            save_model(model, str(path))
    return model, processor


def ship(model: Any, processor: Any, folder: Path) -> None:
    """Save weights and processor; raise `WorkFailed` if they are too large for the package."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # it is saved readable by its owner only
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 2**20
    if size > MAX_MIB:
        raise WorkFailed(f"{folder} takes {size:.1f} MiB; the package allows {MAX_MIB} MiB")
    print(f"written to {folder}/ ({size:.1f} MiB)")


if __name__ == "__main__":
    sys.exit(main())
