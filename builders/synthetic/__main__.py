"""Draw small data sets in the real layouts, with a known truth.

  <out>/Market-1501-v15.09.15/{bounding_box_train,query,bounding_box_test}/0002_c1s1_000451_03.jpg
  <out>/clevrer/{train,validation}.json and video_train/video_00000-01000/video_00000.mp4

Each has a `truth.parquet` beside its files. The same options give the same bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.builders.truth import FILE as TRUTH
from nontrivial.manifests.command import guard, option, parse, say, table
from nontrivial.manifests.errors import BadInput, require

if TYPE_CHECKING:
    import numpy as np

MARKET, CLEVRER = "Market-1501-v15.09.15", "clevrer"
FIRST_VALIDATION = 10_000  # CLEVRER numbers its validation videos from here


@dataclass
class Options:
    out: str = option("folder that gets the data sets", default="data")
    only: str = option("what to draw", default="both", choices=("both", "market1501", "clevrer"))
    world: str = option(
        "set of identities to draw; the embedded policy was trained on `pretraining`",
        default="public",
        choices=("public", "pretraining"),
    )
    seed: int = option("seed of everything random", default=0)
    identities: int = option("training identities", default=300)
    test_identities: int = option("held-out identities", default=150)
    images_per_identity: int = option("images of each identity, over six cameras", default=12)
    videos: int = option("training clips", default=300)
    test_videos: int = option("validation clips", default=150)


def main(argv: Sequence[str] | None = None) -> int:
    return guard(run, parse(Options, argv, prog="builders.synthetic", description=__doc__))


def run(options: Options) -> None:
    out, rows = Path(options.out), []
    if options.only != "clevrer":
        rows.append(("Market-1501 layout", write_people(out / MARKET, options), "images"))
    if options.only != "market1501":
        truth: list[dict] = []
        for split, first, count in (
            ("train", 0, options.videos),
            ("validation", FIRST_VALIDATION, options.test_videos),
        ):
            asked, facts = write_clips(out / CLEVRER, split, first, count, options.seed)
            rows.append((f"CLEVRER layout, {split}", asked, f"questions on {count} clips"))
            truth += facts
        _write_rows(truth, out / CLEVRER / TRUTH)
    say(table(rows))
    say(f"written to {out}/")


def write_people(folder: Path, options: Options) -> int:
    """Draw the people data set and return the number of images."""
    from tqdm import tqdm

    from nontrivial.builders.synthetic import people

    sizes = (options.identities, options.test_identities, options.images_per_identity)
    try:
        photos = list(people.plan(options.world, options.seed, *sizes))
    except ValueError as error:
        raise BadInput(f"--identities, --test_identities: {error}") from error
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        written = pool.map(partial(_write_jpeg, folder), photos)
        paths = list(tqdm(written, "people", len(photos), unit="image"))
    truth = [
        {"path": path, **dict(zip(people.ATTRIBUTES, photo.attributes, strict=True))}
        for photo, path in zip(photos, paths, strict=True)
    ]
    _write_rows(truth, folder / TRUTH)
    return len(photos)


def write_clips(folder: Path, split: str, first: int, count: int, seed: int) -> tuple[int, list]:
    """Draw clips and questions of one split; return the number of questions and rows of truth."""
    from tqdm import tqdm

    scenes, truth = [], []
    for index in tqdm(range(first, first + count), f"clips ({split})", unit="clip"):
        entry, rows = _write_clip(folder, split, index, seed)
        scenes.append(entry)
        truth += rows
    (folder / f"{split}.json").write_text(json.dumps(scenes), encoding="utf-8")
    return sum(len(entry["questions"]) for entry in scenes), truth


def _write_jpeg(folder: Path, photo: Any) -> str:
    from PIL import Image

    from nontrivial.builders.synthetic import people

    path = f"{photo.folder}/{photo.name}"
    Image.fromarray(people.draw(photo)).save(folder / path, quality=92)
    return path


def _write_clip(folder: Path, split: str, index: int, seed: int) -> tuple[dict, list[dict]]:
    import numpy as np

    from nontrivial.builders.synthetic import clips

    rng = np.random.default_rng([seed, 6, index])
    world, motion = clips.draw_world(rng)
    low = index - index % 1000
    name = f"video_{index:05d}.mp4"
    target = folder / f"video_{split}" / f"video_{low:05d}-{low + 1000:05d}" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    write_video(target, clips.render(world, motion, rng), clips.FPS)
    seen = clips.states(world, motion)
    return clips.scene(index, name, seen, clips.ask(world, motion, rng))


def write_video(path: Path, frames: np.ndarray, fps: int) -> None:
    """Encode (T, H, W, 3) uint8 frames as h264 in mp4; one thread, so that bytes never vary."""
    av = require("av", "video", "writing clips")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "12", "preset": "veryfast", "threads": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _write_rows(rows: list[dict], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)


if __name__ == "__main__":
    sys.exit(main())
