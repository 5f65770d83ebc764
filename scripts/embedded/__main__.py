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

from nontrivial.manifests.command import guard, option, parse
from nontrivial.manifests.errors import WorkFailed

WORLD_SEED = 90_210
NFRAMES = 8
MAX_MIB = 8

# (stage, steps, learning-rate factor). A joint stage at the full rate undoes part of what was
# taught before it; at a low rate it only joins. Sight of both is short on purpose: with 900 steps
# the policy answers nine in ten hard pairs, and little is left for reinforcement to gain.
CURRICULUM = (
    ("text", 500, 1.0),
    ("look", 1700, 1.0),
    ("look", 700, 0.5),
    ("sight of people", 700, 1.0),
    ("sight of clips", 1400, 1.0),
    ("sight", 240, 1.0),
    ("joint", 300, 0.25),
)


@dataclass
class Options:
    out: str = option("folder that gets the weights", default="models/embedded")
    work: str = option(
        "folder for the drawn worlds, their manifests and each stage's weights",
        default="runs/embedded",
    )
    seed: int = option("initialises the network and orders the batches", default=0)


def main(argv: Sequence[str] | None = None) -> int:
    return guard(run, parse(Options, argv, prog="scripts.embedded", description=__doc__))


def run(options: Options) -> None:
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
    """The curriculum on the rows of the manifests at `paths`, whose media lie under `work`.

    Each stage's weights are kept, so a run that was killed goes on after its last finished stage.
    """
    import numpy as np
    import torch
    from safetensors.torch import load_model, save_model

    from nontrivial.manifests.files import atomic_path
    from nontrivial.manifests.media import frame_indices
    from nontrivial.manifests.parquet import read_samples
    from scripts.embedded import architecture, encoding, stages, worlds

    rows = [row for path in paths for row in read_samples(path).to_pylist()]
    corpus = [text for row in rows for text in encoding.texts(row)]
    model, processor = architecture.build(corpus, options.seed, kept=work / "stages")
    size = sum(p.numel() for p in model.parameters())
    print(f"{size:,} parameters, vocabulary of {len(processor.tokenizer)}, {len(rows):,} samples")

    frames = frame_indices(worlds.clips.FRAMES, worlds.clips.FPS, nframes=NFRAMES).tolist()
    encoder = encoding.Encoder(processor, str(work), worlds.Truth(work, WORLD_SEED, frames))
    samples = encoder.encode_all(rows)
    words = encoder.single_ids([f" {word}" for word in worlds.WORDS])
    for number, (stage, steps, factor) in enumerate(CURRICULUM):
        torch.manual_seed(options.seed + number)
        rng = np.random.default_rng([options.seed, number])
        kept = work / "stages" / f"{number}.safetensors"
        if kept.is_file():
            load_model(model, str(kept))
            continue
        stages.learn(stage, model, samples, words, steps, factor, rng)
        with atomic_path(kept) as path:
            save_model(model, str(path))
    return model, processor


def ship(model: Any, processor: Any, folder: Path) -> None:
    """Save weights and processor; refuse what is too large to ship inside the package."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # saved for its owner alone
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 2**20
    if size > MAX_MIB:
        raise WorkFailed(f"{folder} takes {size:.1f} MiB; at most {MAX_MIB} MiB are shipped")
    print(f"written to {folder}/ ({size:.1f} MiB)")


if __name__ == "__main__":
    sys.exit(main())
