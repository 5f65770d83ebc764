"""Mine non-trivial pairs of person re-identification data sets.

  python -m builders.reid_hard --source market1501
      -> manifests/market1501_reid_hard.parquet          twins of training identities
  python -m builders.reid_hard --source market1501 --pairs extreme
      -> manifests/market1501_reid_extreme.parquet       pairs of the largest margins
  python -m builders.reid_hard --source market1501 --pairs random
      -> manifests/market1501_reid_random.parquet        random pairs of the same cameras and labels
  python -m builders.reid_hard --source market1501 --split test
      -> manifests/eval/market1501_reid_hard_test.parquet
  python -m builders.reid_hard --source market1501 --split test --pairs top --top_k 5
      -> manifests/eval/market1501_reid_top_test.parquet  pairs for a verifier to judge again
  python -m builders.reid_hard --source market1501 msmt17 cuhk03 prcc
      -> manifests/market1501+msmt17+cuhk03+prcc_reid_hard.parquet

Hard pairs come as twins: an image, and two candidates from one other camera that the first stage
finds equally similar to it. One shows the same person, who is outranked by somebody else, the other
one a stranger. Extreme pairs are those that the first stage errs about most; "alike means
different" answers them. Pairs with doubtful labels go to manifests/quarantine/. In data sets with
known clothes, positives are pairs in changed clothes.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.builders.reid.vectors import ImageOptions
from nontrivial.manifests.command import guard, option, parse, say, table
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.left_out import HELP, LeftOut

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from nontrivial.builders.reid.mining import Mined
    from nontrivial.builders.reid.sources.data_set import ImageList
    from nontrivial.builders.reid.space import Space
    from nontrivial.builders.reid.vectors import Embedded


CONTROL = "stripes"  # an encoder that needs no weights, to check what pairs give away
# What `difficulty` means, by kind of pairs.
DIFFICULTY = {
    "hard": "mean of the first stage's uncertainty in bits and of log rank / log top_k",
    "extreme": "margin by which the first stage errs, in units of similarity",
    "random": "the first stage's uncertainty in bits",
    "top": None,
}


@dataclass
class Options(ImageOptions):
    """Options of `python -m builders.reid_hard`."""

    pairs: str = option(
        "twins, the largest margins, random pairs of the cameras and labels of twins, or each "
        "query's top_k of the ranked gallery",
        default="hard",
        choices=("hard", "extreme", "random", "top"),
    )
    form: str = option(
        "questions about one candidate, or about which of several show the person",
        default="pair",
        choices=("pair", "choice"),
    )
    candidates: int = option(
        "candidates per choice, of which none to several are right", default=4, rare=True
    )
    anchor: str = option(
        "what a described person is searched by: the image that is described, or the text itself, "
        "which needs an openclip encoder",
        default="image",
        choices=("image", "text"),
        rare=True,
    )
    both_orders: bool = option("write each pair in both orders", default=False, rare=True)
    budget: float = option(
        "questions: a share of the training images or queries (up to 1) or a number (above 1)",
        default=0.209,
    )
    top_k: int = option(
        "nearest strangers of an anchor among which its twins are found", default=50
    )
    per_image: int | None = option(
        "most pairs of an image (default: 4 times an even share)", default=None, rare=True
    )
    per_identity: int | None = option(
        "most pairs of an identity (default: 4 times an even share)", default=None, rare=True
    )
    any_clothes: bool = option("allow positives in the same clothes", default=False, rare=True)
    keep_doubts: bool = option("use images with doubtful labels, too", default=False, rare=True)
    burst: int = option(
        "frames of a sequence that count as one moment, of which one twin is taken first",
        default=125,
        rare=True,
    )
    doubt_margin: float = option(
        "doubt a label if the nearest stranger beats the best positive by more than is usual, in "
        "deviations",
        default=3.5,
        rare=True,
    )
    duplicate: float = option(
        "least cosine of two images of the same frame", default=0.995, rare=True
    )
    ivf_probes: int | None = option(
        "search this many cells of an inverted file instead of everything; reports its recall",
        default=None,
        rare=True,
    )
    exclude: str | None = option(HELP, default=None)
    seed: int = option("seed of the option order and the random pairs", default=0)
    embed_media: bool = option(
        "store the images in the manifest, so that it needs no files", default=False, rare=True
    )


@dataclass(frozen=True)
class Part:
    """One source: its images, their vectors, and the chosen pairs."""

    name: str
    images: ImageList
    embedded: Embedded
    control: Mapping[str, np.ndarray]  # vectors (N, width) of an encoder that is not mined with
    space: Space
    pairs: pl.DataFrame  # anchor, candidate, similarity, difficulty, kind, twin, rank
    mined: Mined | None  # None for --pairs top, which mines nothing


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="builders.reid_hard", description=__doc__))


def run(options: Options) -> None:
    """Write the manifest and the quarantine, and print a summary."""
    from nontrivial.manifests.files import claim
    from nontrivial.manifests.roots import name_root

    _check(options)
    name_root(options.root)
    excluded = LeftOut(options.exclude)
    with claim(target_path(options)):
        _build(options, excluded)


def target_path(options: Options) -> Path:
    """Return the path of the manifest."""
    from nontrivial.manifests.parquet import samples_path

    form = "" if options.form == "pair" else f"_{options.form}"
    name = f"{options.name}_reid_{options.pairs}{form}"
    return samples_path(options.out, name, options.split)


def space_of(embedded: Embedded, *, ranked: bool = False, by_text: bool = False) -> Space:
    """Build the space of images to pair: training images, or queries with the gallery.

    Junk and distractors belong to no identity and are left out; with `ranked`, distractors stay.
    A described query is a candidate, too, unless its row stands for a text.
    """
    import numpy as np

    from nontrivial.builders.reid.sources.data_set import DISTRACTOR, GALLERY, QUERY, TRAIN
    from nontrivial.builders.reid.space import build_space

    frame = embedded.frame
    role = frame["role"].to_numpy()
    answering = (TRAIN, GALLERY, DISTRACTOR) if ranked else (TRAIN, GALLERY)
    told = frame["descriptions"].is_not_null().to_numpy() & (role == QUERY) & (not by_text)
    return build_space(
        list(embedded.vectors.values()),
        pids=frame["pid"].rank("dense").to_numpy().astype(np.int64),
        camids=frame["camid"].fill_null(-1).to_numpy().astype(np.int64),
        anchors=np.flatnonzero((role == TRAIN) | (role == QUERY)),
        candidates=np.flatnonzero(np.isin(role, answering) | told),
        clothes=frame["clothes"].rank("dense").fill_null(-1).to_numpy().astype(np.int64),
    )


def _check(options: Options) -> None:
    options.check()
    if not options.budget > 0:
        raise BadInput(f"--budget {options.budget}: needs a share up to 1 or a number of pairs")
    for name in ("top_k", "per_image", "per_identity", "ivf_probes", "burst"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise BadInput(f"--{name} {value}: needs at least 1")
    if not 2 <= options.candidates <= 25:
        raise BadInput(f"--candidates {options.candidates}: needs 2 to 25")
    if options.both_orders and options.form != "pair":
        raise BadInput("--both_orders: only pairs have two orders; leave --form at pair")
    if options.pairs == "top" and (options.form != "pair" or options.split != "test"):
        raise BadInput("--pairs top: is for --split test and --form pair")


def _build(options: Options, excluded: LeftOut) -> None:
    from nontrivial.builders.reid.pairs import quotas
    from nontrivial.builders.reid.search import load_faiss
    from nontrivial.builders.reid.sources import names_of
    from nontrivial.builders.reid.sources.data_set import QUERY, TRAIN
    from nontrivial.builders.reid.text_anchors import asked_by_text
    from nontrivial.builders.reid.vectors import embed, read_sources
    from nontrivial.manifests.parquet import write_samples
    from nontrivial.manifests.schema import samples_table
    from nontrivial.models.encoders import load_encoders

    load_faiss()  # before images are embedded, which may take hours
    sources = read_sources(options)
    encoders = load_encoders(options.encoder, precision=options.precision)
    known = {encoder.name for encoder in encoders}
    control = [] if CONTROL in known else load_encoders([CONTROL])
    embedded = [embed(images.frame, [*encoders, *control], options) for images in sources]
    _check_form(options, embedded)
    if options.anchor == "text":
        embedded = [asked_by_text(part, encoders, options.seed) for part in embedded]
    asking = [int(part.frame["role"].is_in([TRAIN, QUERY]).sum()) for part in embedded]
    budgets = quotas(options.budget, asking)
    parts = [
        _part(*item, {encoder.name for encoder in control}, options)
        for item in zip(names_of(options.source), sources, embedded, budgets, strict=True)
    ]
    encoder = "+".join(encoder.name for encoder in encoders)
    chosen = [
        _without(part, _samples_of(part, options, encoder), excluded, options) for part in parts
    ]
    parts, rows = [part for part, _ in chosen], [row for _, rows in chosen for row in rows]
    if not rows:
        raise BadInput(_nothing_to_pair(parts, excluded))
    if options.embed_media:
        _embed(rows, options.root)
    about = _about(options, parts)
    about["encoders"] = {encoder.name: encoder.digest for encoder in encoders}
    digest = write_samples(samples_table(rows), target_path(options), about)
    if _doubting(options):
        _write_quarantine(options, parts, about)
    _report(options, rows, about, digest)
    excluded.report()


def _check_form(options: Options, parts: Sequence[Embedded]) -> None:
    """Raise `BadInput` for a form that descriptions do not have."""
    told = any(part.frame["descriptions"].is_not_null().any() for part in parts)
    if options.anchor == "text" and not told:
        raise BadInput("--anchor text: none of the data sets describes its people")
    if told and (options.form != "pair" or options.both_orders):
        raise BadInput("--form choice, --both_orders: are for images, not for descriptions")


def _doubting(options: Options) -> bool:
    """True if labels are doubted; test labels never are, since benchmarks are scored by them."""
    return options.split == "train" and not options.keep_doubts


def _part(
    name: str,
    images: ImageList,
    embedded: Embedded,
    budget: int,
    controls: Set[str],
    options: Options,
) -> Part:
    mined_with = {name: x for name, x in embedded.vectors.items() if name not in controls}
    control = {name: embedded.vectors[name] for name in controls}
    embedded = replace(embedded, vectors=mined_with)
    by_text = options.anchor == "text"
    space = space_of(embedded, ranked=options.pairs == "top", by_text=by_text)
    if options.pairs == "top":
        from nontrivial.builders.reid.mining import first_ranked

        first = first_ranked(space, options.top_k)
        return Part(name, images, embedded, control, space, first, None)
    mined = _mine(name, embedded.frame, space, control, budget, options)
    pairs = mined.ranked(space, mined.random if options.pairs == "random" else mined.hard)
    return Part(name, images, embedded, control, space, pairs, mined)


def _moments(frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the sequence and the frame number of each image, (N,) int64, −1 where unknown."""
    import numpy as np

    sequence = frame["sequence"].rank("dense").fill_null(-1).to_numpy().astype(np.int64)
    return sequence, frame["frame"].fill_null(-1).to_numpy()


def _mine(
    name: str,
    frame: pl.DataFrame,
    space: Space,
    control: Mapping[str, np.ndarray],
    budget: int,
    options: Options,
) -> Mined:
    from tqdm import tqdm

    from nontrivial.builders.reid.mining import Rules, mine

    rules = Rules(
        budget=budget,
        top_k=options.top_k,
        extreme=options.pairs == "extreme",
        per_image=options.per_image,
        per_identity=options.per_identity,
        candidates=options.candidates if options.form == "choice" else None,
        unusual=options.doubt_margin,
        duplicate=options.duplicate,
        trust_labels=not _doubting(options),
        any_clothes=options.any_clothes,
        burst=options.burst,
        probes=options.ivf_probes,
        seed=options.seed,
    )
    bar = partial(tqdm, desc=f"neighbours in {name}", unit="block")
    return mine(space, rules, bar, *_moments(frame), list(control.values()))


def read_truth(images: ImageList, root: str) -> dict[str, list[str]]:
    """Return the attributes of each image by its path under the root; empty without a truth."""
    from nontrivial.builders import truth

    folder = images.folder.relative_to(root).as_posix()
    known = truth.of_people(images.folder)
    return {f"{folder}/{path}": attributes for path, attributes in known.items()}


def _embed(rows: Sequence[Mapping[str, Any]], root: str) -> None:
    """Put the images into the rows."""
    from nontrivial.manifests.media import resolve

    for image in (image for row in rows for image in row["images"]):
        image["bytes"] = resolve(root, image["path"]).read_bytes()


def _without(
    part: Part, samples: Iterator[dict[str, Any]], excluded: LeftOut, options: Options
) -> tuple[Part, list[dict[str, Any]]]:
    """Return a part and its samples, both without what is left out.

    Other samples stay as they were, but for the name of a twin that is gone.
    """
    rows = list(samples)
    kept = [excluded.keeps(row["id"]) for row in rows]
    if all(kept):
        return part, rows
    if options.form == "choice":  # a sample has all pairs of an anchor
        number = part.pairs["anchor"].rle_id().to_list()
    else:
        number = list(range(len(part.pairs)))
    of_a_number = 2 if options.both_orders else 1
    left = {place // of_a_number for place, keep in enumerate(kept) if keep}
    rows = list(itertools.compress(rows, kept))
    for row in rows:
        if row["reid"].get("twin") in excluded.ids:
            row["reid"]["twin"] = None
    return replace(part, pairs=part.pairs.filter([n in left for n in number])), rows


def _nothing_to_pair(parts: Sequence[Part], excluded: LeftOut) -> str:
    if excluded.met:
        return f"--exclude {excluded.file}: leaves out all {len(excluded.met)} samples"
    met = [part for part in parts if part.mined and part.mined.counts["positives"]]
    if not met:
        return "no identity was seen by two cameras: there is nothing to pair"
    return (
        "no twins: the encoder ranks every positive above all strangers, or no stranger of its "
        "camera is as similar; raise --top_k, take another --encoder, or --pairs random"
    )


def _samples_of(part: Part, options: Options, encoder: str) -> Iterator[dict[str, Any]]:
    from nontrivial.builders.reid.questions import Wording, choice_samples, pair_samples

    truth = read_truth(part.images, options.root)
    wording = Wording(options.pairs, encoder, options.seed, truth)
    if options.form == "choice":
        return choice_samples(part.pairs, part.embedded.frame, wording)
    return pair_samples(part.pairs, part.embedded.frame, wording, both_orders=options.both_orders)


def _about(options: Options, parts: Sequence[Part]) -> dict[str, Any]:
    mined = {part.name: part.mined for part in parts if part.mined}
    return {
        "builder": "builders.reid_hard",
        "options": asdict(options),
        "seed": options.seed,
        "media_root": None if options.embed_media else options.root,
        "origins": {part.name: part.images.origin for part in parts},
        "difficulty": DIFFICULTY[options.pairs],
        "counts": {part.name: _counts(part) for part in parts},
        "coverage": {part.name: _coverage(part) for part in parts},
        "first_stage_auc": {name: pairs.auc() for name, pairs in mined.items()},
        "shortcuts": {part.name: _shortcuts(part, options) for part in parts if part.mined},
        "recall": {name: pairs.recall for name, pairs in mined.items()},
        "differences": [text for part in parts for text in part.images.differences],
    }


def _counts(part: Part) -> dict[str, int]:
    counts = {f"ignored: {reason}": count for reason, count in part.images.ignored.items()}
    counts |= {"images": len(part.images.frame), "damaged": len(part.embedded.damaged)}
    if part.mined:
        counts |= part.mined.counts
        counts |= Counter(f"in doubt: {reason}" for reason in sorted(part.mined.doubts["reason"]))
    return counts


def _coverage(part: Part) -> dict[str, Any]:
    from nontrivial.builders.reid.coverage import coverage

    frame = part.embedded.frame
    bursts = part.mined.bursts if part.mined else None
    return coverage(part.pairs, frame["pid"].to_numpy(), frame["camid"].to_numpy(), bursts)


def _shortcuts(part: Part, options: Options) -> dict[str, float]:
    """Score the rules that answer pairs without comparing people, the best first."""
    import numpy as np
    from tqdm import tqdm

    from nontrivial.builders.reid.clues import clues_of, measure
    from nontrivial.manifests.shortcuts import shortcut_scores

    frame, pairs = part.embedded.frame, part.pairs
    if part.mined is None or not len(pairs):
        return {}
    rows, place = np.unique(pairs.select("anchor", "candidate").to_numpy(), return_inverse=True)
    bar = partial(tqdm, total=len(rows), desc=f"shortcut rules of {part.name}", unit="image")
    looks = measure(frame["path"].gather(rows).to_list(), options.root, bar)
    anchors, candidates = place.reshape(len(pairs), 2).T
    groups = frame["pid"].gather(pairs["anchor"]).to_list()
    sides = looks.at(anchors), looks.at(candidates)
    common = (pairs, part.space, part.mined.nearest, groups, *sides)
    encoders, sets = list(part.embedded.vectors), options.form == "choice"
    return shortcut_scores(clues_of(*common, encoders, part.control, sets=sets))


def _quarantine_path(options: Options) -> Path:
    return Path(options.out, "quarantine", f"{options.name}_reid.parquet")


def _write_quarantine(options: Options, parts: Sequence[Part], about: Mapping[str, Any]) -> None:
    """Write the doubtful pairs with both images and the reason."""
    import polars as pl

    from nontrivial.manifests.parquet import write_table

    tables = []
    mined = [(part.embedded.frame, part.mined.doubts) for part in parts if part.mined]
    for frame, doubts in mined:
        sides = [
            frame[doubts[side].to_numpy()].select(
                pl.col("path", "pid", "camid").name.prefix(f"{side}_")
            )
            for side in ("anchor", "candidate")
        ]
        columns = doubts.select("reason", "similarity", "margin")
        tables.append(pl.concat([*sides, columns], how="horizontal"))
    about = {key: about[key] for key in ("builder", "options")} | {"media_root": options.root}
    write_table(pl.concat(tables).to_arrow(), _quarantine_path(options), about)


def _report(
    options: Options, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any], digest: str
) -> None:
    for name, counts in about["counts"].items():
        auc = about["first_stage_auc"].get(name, {}).items()
        scores = [(f"first-stage AUC, {kind} pairs", value) for kind, value in auc]
        if about["recall"].get(name, 1) < 1:
            scores.append(("recall of the approximate search", about["recall"][name]))
        say(f"{name}\n{table(list(counts.items()))}\n{table(scores)}\n")
        if rules := about["shortcuts"].get(name):
            header = ("answered without comparing people, by", "balanced accuracy")
            say(table(list(rules.items()), header=header) + "\n")
        for title, cells in about["coverage"][name].items():
            say(f"{title}: " + ", ".join(f"{key} {value}" for key, value in cells.items()))
        say()
    kinds = Counter(row["reid"]["kind"] for row in rows)
    answers = Counter(f"answer {','.join(row['answer'])}" for row in rows)
    say(table([*sorted(kinds.items()), *sorted(answers.items())]) + "\n")
    for text in [*about["differences"], *_shortfalls(about["counts"], kinds)]:
        say(f"note: {text}")
    if _doubting(options):
        say(f"{_quarantine_path(options)}: label doubts, left out of the pairs")
    say(f"{target_path(options)}: {len(rows)} samples, content digest {digest[:16]}")


def _shortfalls(counts: Mapping[str, Mapping[str, int]], kinds: Mapping[str, int]) -> list[str]:
    """Describe where the data gave less than the options asked for."""
    from nontrivial.builders.reid.pairs import POSITIVE

    texts = [
        f"{name}: {count['chosen']} of a budget of {count['budget']}; raise --per_image, "
        "--per_identity or --top_k"
        for name, count in counts.items()
        if count.get("chosen", 0) < count.get("budget", 0)
    ]
    if easy := kinds.get(POSITIVE, 0):
        texts.append(f"extreme positives ran out: {easy} positives are ranked first")
    return texts


if __name__ == "__main__":
    sys.exit(main())
