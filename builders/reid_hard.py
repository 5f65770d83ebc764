"""Mine non-trivial pairs of a person re-identification data set.

  python -m builders.reid_hard --source market1501
      -> manifests/market1501_reid_hard.parquet          hard pairs of training identities
  python -m builders.reid_hard --source market1501 --pairs random
      -> manifests/market1501_reid_random.parquet        random pairs of the same cameras and labels
  python -m builders.reid_hard --source market1501 --split test
      -> manifests/eval/market1501_reid_hard_test.parquet

Among images of other cameras a hard negative is another person within the anchor's nearest ones, a
hard positive the same person behind at least one other. `difficulty` is the margin by which the
first stage errs, in units of `similarity`. Pairs with doubtful labels go to manifests/quarantine/.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builders import embed
from manifests.command import guard, option, parse, table
from manifests.errors import BadInput

if TYPE_CHECKING:
    from builders.embed import Embedded
    from builders.mining import Mined
    from builders.neighbors import Space
    from builders.sources.data_set import Images

TRUTH = "truth.parquet"  # beside a synthetic data set: what each image shows, in words


@dataclass
class Options(embed.Options):
    """The options of `builders.embed`, and how pairs are chosen."""

    pairs: str = option(
        "the hardest pairs, or random ones of the same cameras and labels",
        default="hard",
        choices=("hard", "random"),
    )
    budget: float = option(
        "share of the images that ask (up to 1) or number of pairs (above 1)", default=0.209
    )
    top_k: int = option("nearest other identities among which negatives are hard", default=50)
    per_image: int | None = option("most pairs of an image; by default 4 even shares", default=None)
    per_identity: int | None = option(
        "most pairs of an identity; by default 4 even shares", default=None
    )
    keep_doubts: bool = option("pair images whose labels are in doubt, too", default=False)
    doubt_margin: float = option(
        "a nearest image of another identity that beats the best positive by so many standard "
        "deviations is a label doubt",
        default=1.0,
    )
    duplicate: float = option("cosine from which two images are one frame", default=0.995)
    seed: int = option("draws the order of options and the random pairs", default=0)
    embed_media: bool = option(
        "store the images in the manifest, so that it travels", default=False
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return guard(run, parse(Options, argv, prog="builders.reid_hard", description=__doc__))


def run(options: Options) -> None:
    from manifests.parquet import claim

    _check(options)
    with claim(target_path(options)):
        _build(options)


def target_path(options: Options) -> Path:
    """Where the manifest lands: training pairs beside the other manifests, test pairs in eval/."""
    name = f"{'+'.join(options.source)}_reid_{options.pairs}"
    if options.split == "train":
        return Path(options.out, f"{name}.parquet")
    return Path(options.out, "eval", f"{name}_{options.split}.parquet")


def space_of(embedded: Embedded) -> Space:
    """The images that may be paired: training ones with each other, or queries with the gallery.

    Junk and distractors show nobody in particular, so they are in no pair.
    """
    import numpy as np

    from builders.neighbors import space
    from builders.sources.data_set import GALLERY, QUERY, TRAIN

    frame = embedded.frame
    role = frame["role"].to_numpy()
    return space(
        list(embedded.vectors.values()),
        pids=frame["pid"].rank("dense").to_numpy().astype(np.int64),
        camids=frame["camid"].to_numpy().astype(np.int64),
        anchors=np.flatnonzero((role == TRAIN) | (role == QUERY)),
        candidates=np.flatnonzero((role == TRAIN) | (role == GALLERY)),
    )


def _check(options: Options) -> None:
    embed.check(options)
    if not options.budget > 0:
        raise BadInput(f"--budget {options.budget}: needs a share up to 1 or a number of pairs")
    for name in ("top_k", "per_image", "per_identity"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise BadInput(f"--{name} {value}: needs at least 1")


def _build(options: Options) -> None:
    from builders.pairs import quotas
    from builders.sources import read_source
    from manifests.parquet import write_samples
    from manifests.schema import samples_table
    from models.encoders import load_encoders

    sources = [read_source(name, options.root, options.split) for name in options.source]
    encoders = load_encoders(options.encoder)
    embedded = [embed.embed(images.frame, encoders, options) for images in sources]
    spaces = [space_of(part) for part in embedded]
    budgets = quotas(options.budget, [len(space.anchors) for space in spaces])
    mined = [_mine(*item, options) for item in zip(options.source, spaces, budgets, strict=True)]
    rows = _samples(options, sources, embedded, mined, [encoder.name for encoder in encoders])
    about = _about(options, sources, embedded, mined)
    about["encoders"] = {encoder.name: encoder.digest for encoder in encoders}
    digest = write_samples(samples_table(rows), target_path(options), about)
    # A benchmark's test labels are what it is scored by: they are not doubted.
    if options.split == "train" and not options.keep_doubts:
        _write_quarantine(options, embedded, mined)
    _report(options, rows, about, digest)


def _mine(name: str, space: Space, budget: int, options: Options) -> Mined:
    from tqdm import tqdm

    from builders.mining import Rules, mine

    rules = Rules(
        budget=budget,
        top_k=options.top_k,
        per_image=options.per_image,
        per_identity=options.per_identity,
        wide=options.doubt_margin,
        duplicate=options.duplicate,
        trust_labels=options.keep_doubts or options.split == "test",
        seed=options.seed,
    )
    return mine(space, rules, lambda blocks: tqdm(blocks, f"neighbours in {name}", unit="block"))


def read_truth(images: Images, root: str) -> dict[str, list[str]]:
    """Attributes of each image by its path under the root; empty where the source knows none."""
    from manifests.parquet import read_table

    file = images.folder / TRUTH
    if not file.is_file():
        return {}
    folder = images.folder.relative_to(root).as_posix()
    rows = read_table(file).to_pylist()
    return {f"{folder}/{row.pop('path')}": [str(word) for word in row.values()] for row in rows}


def _samples(
    options: Options,
    sources: Sequence[Images],
    embedded: Sequence[Embedded],
    mined: Sequence[Mined],
    encoders: Sequence[str],
) -> list[dict[str, Any]]:
    from builders.forms import pair_samples
    from manifests.media import resolve

    rows: list[dict[str, Any]] = []
    for images, part, found in zip(sources, embedded, mined, strict=True):
        pairs = found.hard if options.pairs == "hard" else found.random
        truth = read_truth(images, options.root)
        fused = "+".join(encoders)
        rows += pair_samples(pairs, part.frame, encoder=fused, seed=options.seed, truth=truth)
    if not rows:
        raise BadInput("no identity was seen by two cameras: there is nothing to pair")
    if options.embed_media:
        for image in (image for row in rows for image in row["images"]):
            image["bytes"] = resolve(options.root, image["path"]).read_bytes()
    return rows


def _about(
    options: Options,
    sources: Sequence[Images],
    embedded: Sequence[Embedded],
    mined: Sequence[Mined],
) -> dict[str, Any]:
    return {
        "builder": "builders.reid_hard",
        "options": asdict(options),
        "seed": options.seed,
        "media_root": options.root,
        "difficulty": "margin by which the first stage errs, in units of similarity",
        "counts": {
            name: {
                **{f"ignored: {reason}": count for reason, count in images.ignored.items()},
                "images": len(images.frame),
                "damaged": len(part.damaged),
                **found.counts,
                **dict(Counter(sorted(found.doubts["reason"]))),
            }
            for name, images, part, found in zip(
                options.source, sources, embedded, mined, strict=True
            )
        },
        "first_stage_auc": {
            name: found.auc() for name, found in zip(options.source, mined, strict=True)
        },
        "differences": [text for images in sources for text in images.differences],
    }


def _quarantine_path(options: Options) -> Path:
    return Path(options.out, "quarantine", f"{'+'.join(options.source)}_reid.parquet")


def _write_quarantine(
    options: Options, embedded: Sequence[Embedded], mined: Sequence[Mined]
) -> None:
    """Doubted pairs with both images and the reason."""
    import polars as pl

    from manifests.parquet import write_table

    parts = []
    for part, found in zip(embedded, mined, strict=True):
        sides = [
            part.frame[found.doubts[side].to_numpy()].select(
                pl.col("path", "pid", "camid").name.prefix(f"{side}_")
            )
            for side in ("anchor", "candidate")
        ]
        doubts = found.doubts.select("reason", "similarity", "margin")
        parts.append(pl.concat([*sides, doubts], how="horizontal"))
    about = {
        "builder": "builders.reid_hard",
        "options": asdict(options),
        "media_root": options.root,
    }
    write_table(pl.concat(parts).to_arrow(), _quarantine_path(options), about)


def _report(
    options: Options, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any], digest: str
) -> None:
    for name, counts in about["counts"].items():
        auc = about["first_stage_auc"][name].items()
        scores = [(f"first-stage AUC, {kind} pairs", value) for kind, value in auc]
        print(f"{name}\n{table(list(counts.items()))}\n{table(scores)}\n")
    kinds = Counter(row["reid"]["kind"] for row in rows)
    letters = Counter(f"answer {row['answer'][0]}" for row in rows)
    print(table([*sorted(kinds.items()), *sorted(letters.items())]) + "\n")
    for text in [*about["differences"], *_shortfalls(about["counts"], kinds)]:
        print(f"note: {text}")
    if options.split == "train" and not options.keep_doubts:
        print(f"{_quarantine_path(options)}: label doubts, kept out of the pairs")
    print(f"{target_path(options)}: {len(rows)} pairs, content digest {digest[:16]}")


def _shortfalls(counts: Mapping[str, Mapping[str, int]], kinds: Mapping[str, int]) -> list[str]:
    """Where the data gave less than was asked for, in words."""
    texts = [
        f"{name}: {count['chosen']} pairs for a budget of {count['budget']}; raise --per_image, "
        "--per_identity or --top_k"
        for name, count in counts.items()
        if count["chosen"] < count["budget"]
    ]
    easy = kinds.get("positive", 0)
    if easy:
        texts.append(f"hard positives ran out: {easy} positives are ones that are ranked first")
    return texts


if __name__ == "__main__":
    sys.exit(main())
