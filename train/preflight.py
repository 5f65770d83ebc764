"""Check the media of samples before anything is loaded, and remember those that were whole.

Each distinct image and clip is decoded once, by one of the processes, in a child of its own: a file
that crashes a decoder is a damaged file, no more. What decoded is remembered in a file of the
user's cache, by path, size and time of change, clips by the frames that were asked for, too: a
later start only looks whether files are as they were. The cache's folder is NONTRIVIAL_CACHE, by
default ~/.cache/nontrivial.
"""

from __future__ import annotations

import hashlib
import logging
import random
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from nontrivial.manifests.command import check_share
from nontrivial.manifests.files import cache_folder
from nontrivial.manifests.guarded import Crash, guarded
from nontrivial.manifests.media import MOVED, MediaError, source_of
from nontrivial.models.inputs import View, why_unreadable
from nontrivial.train.data import Samples
from nontrivial.train.options import DataOptions
from nontrivial.train.rows import Made, Sample

THREADS = 8  # that check media: decoders release the interpreter lock
SAMPLED = 200  # files that --preflight sample decodes
AT_ONCE = 500  # files that are remembered together
TABLE = "CREATE TABLE IF NOT EXISTS whole (name TEXT PRIMARY KEY, size INTEGER, changed INTEGER)"

logger = logging.getLogger(__name__)

Print = tuple[str, int, int]  # name, size and time of change of what was decoded


def check_media(
    samples: Samples, options: DataOptions, processes: int = 1, own: int = 0
) -> Samples:
    """Leave out and list samples with damaged media.

    Of several processes each checks its share of the files, and all know what all have found.
    Raises `BadInput` where more than the share `options.max_bad` of the samples is damaged.
    """
    if options.preflight == "off":
        return samples
    media = [list(_media(row)) for row in samples.rows]  # once: embedded media are digested
    items = {key: item for of_row in media for key, item in of_row}
    if options.preflight == "sample" and len(items) > SAMPLED:
        chosen = random.Random(0).sample(sorted(items, key=repr), SAMPLED)
        items = {key: items[key] for key in chosen}
    share = list(items.items())[own::processes]
    problems = _gathered(_problems(share, options), processes)
    checked = [
        (row, next((problems[key] for key, _ in of_row if key in problems), None))
        for row, of_row in zip(samples.rows, media, strict=True)
    ]
    good = Made(row for row, reason in checked if reason is None)
    damaged = [(row["id"], reason) for row, reason in checked if reason is not None]
    listed = [f"{name}: {reason}" for name, reason in damaged]
    what = "samples have damaged media"
    check_share(listed, len(samples.rows), options.max_bad, what, MOVED)
    return Samples(good, samples.other_splits, damaged, samples.digest)


class Whole:
    """Files that decoded, in a file of the user's cache, which any number of processes share."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def known(self) -> set[Print]:
        """Return what is remembered; nothing where the file can't be read."""
        try:
            with closing(self._open()) as cache:
                return set(cache.execute("SELECT name, size, changed FROM whole"))
        except (sqlite3.Error, OSError):
            return set()

    def add(self, prints: Iterable[Print]) -> None:
        """Remember more, in place of what was known of a name; log a WARNING if it can't be."""
        try:
            with closing(self._open()) as cache, cache:
                cache.executemany("INSERT OR REPLACE INTO whole VALUES (?, ?, ?)", prints)
        except (sqlite3.Error, OSError) as error:
            logger.warning("%s: media will be checked again next time (%s)", self.file, error)

    def _open(self) -> sqlite3.Connection:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        cache = sqlite3.connect(self.file, timeout=60)
        cache.execute(TABLE)
        return cache


def cache_file() -> Path:
    """Return the file that remembers whole media."""
    return cache_folder() / "whole_media.sqlite"


def _problems(items: Sequence[tuple[Any, Sample]], options: DataOptions) -> dict[Any, str]:
    """Return the reason for each image or clip that can't be decoded, by its key in `_media`."""
    from tqdm import tqdm

    cache, view = Whole(cache_file()), View.of(options)
    known = cache.known()
    with ThreadPoolExecutor(THREADS) as pool:
        marks = list(pool.map(partial(_print_or_reason, view), items))
    problems: dict[Any, str] = {}
    new: list[tuple[Any, Sample, Print]] = []
    for (key, item), mark in zip(items, marks, strict=True):
        if isinstance(mark, MediaError):
            problems[key] = str(mark)
        elif mark not in known:
            new.append((key, item, mark))
    found = guarded(partial(why_unreadable, view=view), [item for _, item, _ in new], THREADS)
    whole: list[Print] = []
    for number, reason in tqdm(
        found, total=len(new), desc="checking media", unit="file", delay=2, disable=not new
    ):
        key, item, mark = new[number]
        if reason is None:
            whole.append(mark)
            if len(whole) == AT_ONCE:  # a killed check is not begun anew
                cache.add(whole)
                whole.clear()
        elif isinstance(reason, Crash):
            problems[key] = f"{_name([*item['images'], *item['videos']][0])}: {reason.reason}"
        else:
            problems[key] = reason
    cache.add(whole)
    return problems


def _print_or_reason(view: View, item: tuple[Any, Sample]) -> Print | MediaError:
    try:
        return _print(view, *item)
    except MediaError as error:
        return error


def _print(view: View, key: Any, item: Sample) -> Print:
    """Return what is remembered: a path, or the digest of embedded bytes; the frames of a clip."""
    source = source_of([*item["images"], *item["videos"]][0], item["media_root"])
    frames = f" {key[2]} {view.nframes} {view.fps}" if item["videos"] else ""
    if isinstance(source, bytes):
        return key[1] + frames, len(source), 0
    try:
        status = source.stat()
    except OSError as error:
        raise MediaError(f"{source}: cannot be opened ({error.strerror})") from error
    return f"{source}{frames}", status.st_size, status.st_mtime_ns


def _gathered(problems: Mapping[Any, str], processes: int) -> dict[Any, str]:
    if processes == 1:
        return dict(problems)
    from accelerate.utils import gather_object

    return dict(gather_object(list(problems.items())))


def _media(row: Sample) -> Iterator[tuple[Any, Sample]]:
    """Yield each image and clip of a row as a sample, under a key that equal media share."""
    root, videos = row["media_root"], row["videos"] or []
    nothing = {"images": [], "videos": [], "clips": [], "media_root": root}
    for item in row["images"] or []:
        yield (root, _name(item)), nothing | {"images": [item]}
    for item, clip in zip(videos, row["clips"] or [None] * len(videos), strict=True):
        span = clip and (clip["start"], clip["end"])
        yield (root, _name(item), span), nothing | {"videos": [item], "clips": [clip]}


def _name(item: Mapping[str, Any]) -> str:
    data = item["bytes"]
    return item["path"] if data is None else hashlib.blake2b(data, digest_size=16).hexdigest()
