"""The formats of other trainers and of harnesses: manifests as their data, our scores beside it.

    python -m manifests export manifests/*.parquet --to ms-swift --out exported

Each target has a module with `lacks(row)` (why it can't hold a row), `write(rows, folder,
name)`, `ADAPTER` (the scores as the target calls them) and `README` (how to use it); some name the
file of their scores (`MODULE`), some can read their files back (`read`). The files hold absolute
paths of media; embedded media are written beside them.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nontrivial.manifests import answers
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.files import atomic_path, expand, write_text
from nontrivial.manifests.media import source_of
from nontrivial.manifests.prompts import question_text

if TYPE_CHECKING:
    import pyarrow as pa

TRAINERS = ("ms-swift", "verl", "easyr1", "llamafactory", "video-r1", "trl")
HARNESSES = ("lmms-eval", "vlmevalkit")
TARGETS = (*TRAINERS, *HARNESSES)
HUB = "hub"  # has no scores: see `exports.hub`
IMPORTED = ("ms-swift", "easyr1", "video-r1")
REWARD = "reward.py"
KINDS = ("images", "videos")
ABSENT = "an image or a video that is not there"


@dataclass(frozen=True)
class Row:
    """A sample as others take it.

    columns  all columns of the manifest but media
    text     the prompt's words, without placeholders
    images   absolute paths, as `videos`
    """

    columns: dict[str, Any]
    text: str
    images: list[str]
    videos: list[str]

    def marked(self, image: str = "<image>", video: str = "<video>") -> str:
        """Return the text with a placeholder for each image and video in front."""
        return image * len(self.images) + video * len(self.videos) + self.text


def target(name: str) -> ModuleType:
    """Return the module of a target."""
    return import_module(f"{__name__}.{name.replace('-', '_')}")


def export(
    files: Sequence[str], to: str, out: str | Path, *, media_root: str | None = None
) -> tuple[list[Path], Counter[str]]:
    """Write manifests in the format `to`; return the files, and the rows left out, by reason."""
    from nontrivial.manifests.parquet import read_samples
    from nontrivial.manifests.roots import media_root as root_of
    from nontrivial.manifests.schema import iterate

    of_target, folder = target(to), Path(out)
    written: list[Path] = []
    lacking: Counter[str] = Counter()
    paths = list(expand(files))
    for stem, count in Counter(path.stem for path in paths).items():
        if count > 1:
            raise BadInput(f"{count} manifests have the name {stem}: export them one at a time")
    for path in paths:
        root = root_of(path, media_root)
        rows = []
        for sample in iterate(read_samples(path)):
            named = _row(sample, lambda item: item["path"] or "")
            missing = None if is_there(sample, root) else ABSENT
            if reason := _has_range(named) or of_target.lacks(named) or missing:
                lacking[reason] += 1
            else:
                rows.append(_row(sample, partial(_file, root=root, folder=folder)))
        if rows:
            written += of_target.write(rows, folder, path.stem)
    written = list(dict.fromkeys(written))
    if not written:
        raise BadInput(f"{', '.join(files)}: {to} can hold none of the rows ({', '.join(lacking)})")
    for name, text in (
        (getattr(of_target, "MODULE", REWARD), reward(of_target.ADAPTER)),
        ("README.md", _readme(of_target.README, folder, written)),
    ):
        if text:
            write_text(folder / name, text)
            written.append(folder / name)
    return written, lacking


def _readme(text: str, folder: Path, written: Sequence[Path]) -> str:
    """Return a README; if its command names a file, the first, others are listed below."""
    first, *others = written
    told = text.format(out=folder, at=folder.resolve(), data=first.name, name=first.stem)
    if others and "{data}" in text:
        names = ", ".join(f"`{file.name}`" for file in others)
        told += f"\nThe command names the first of the files; beside it are {names}.\n"
    return told


def reward(adapter: str | None) -> str | None:
    """Return a file that scores completions as nontrivial does, and imports nothing of it."""
    return adapter and f"{inspect.getsource(answers)}\n\n{adapter.strip()}\n"


def read_back(
    files: Sequence[str], origin: str, out: str | Path, *, media_root: str | None = None
) -> tuple[Path, int]:
    """Write the rows of exported files as one manifest; return its path and number of rows.

    Paths of media become relative to `media_root`, or to the folder that holds all of them.
    """
    import pyarrow as pa

    from nontrivial.manifests.parquet import write_samples
    from nontrivial.manifests.schema import samples_table

    parts = [target(origin).read(path) for path in expand(files)]
    rows = pa.concat_tables(parts).to_pylist()
    paths = [item["path"] for row in rows for kind in KINDS for item in row[kind] or []]
    folders = {os.path.dirname(os.path.abspath(path)) for path in paths}
    root = (
        os.path.abspath(media_root)
        if media_root
        else os.path.commonpath(folders)
        if paths
        else None
    )
    for row in rows:
        for item in (item for kind in KINDS for item in row[kind] or []):
            item["path"] = Path(os.path.relpath(item["path"], root)).as_posix()
    about = {"builder": "manifests.import", "options": {"from": origin}, "media_root": root}
    write_samples(samples_table(rows), out, about)
    return Path(out), len(rows)


def ours(text: object) -> dict[str, Any]:
    """Return the columns that an export wrote as one text; none for anything else."""
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def samples_of(
    records: Sequence[dict[str, Any]], media: Sequence[dict[str, list[str]]]
) -> pa.Table:
    """Return the samples table of columns that were exported, and of their media.

    Raises `BadInput` for records that do not come from an export.
    """
    from nontrivial.manifests.schema import SAMPLES, samples_table

    needed = set(SAMPLES.names) - {"images", "videos"}
    rows = []
    for number, (record, files) in enumerate(zip(records, media, strict=True), 1):
        missing = sorted(needed - record.keys())
        if missing:
            raise BadInput(
                f"record {number} has no {', '.join(missing)}: only files that `manifests export` "
                "wrote can be imported; `builders.qa_invert --bench table` reads others"
            )
        items = {
            kind: [{"bytes": None, "path": path} for path in paths] or None
            for kind, paths in files.items()
        }
        rows.append({name: record[name] for name in needed} | items)
    return samples_table(rows)


def is_there(sample: Mapping[str, Any], root: str | None) -> bool:
    """True if all images and clips of a sample are embedded or files."""
    items = (item for kind in KINDS for item in sample[kind] or [])
    sources = (source_of(item, root) for item in items)
    return all(isinstance(source, bytes) or source.is_file() for source in sources)


def _has_range(row: Row) -> str | None:
    ranges = [clip for clip in row.columns.get("clips") or [] if clip]
    return "a part of a video, which the format can't name" if ranges else None


def _row(sample: Mapping[str, Any], named: Callable[[Any], str]) -> Row:
    """Return a sample as others take it; `named` returns the path of an image or a clip."""
    columns = {name: value for name, value in sample.items() if name not in KINDS}
    images, videos = ([named(item) for item in sample[kind] or []] for kind in KINDS)
    text = question_text(sample["question"], sample["options"], sample["task"])
    return Row(columns, text, images, videos)


def _file(item: Mapping[str, Any], *, root: str | None, folder: Path) -> str:
    """Return the absolute path of an image or a clip; write one that is embedded to `folder`."""
    source = source_of(item, root)
    if isinstance(source, Path):
        return str(source)
    suffix = Path(item["path"] or "").suffix.lower()
    plain = suffix if suffix[1:].isalnum() and len(suffix) < 6 else ".bin"
    name = hashlib.blake2b(source, digest_size=16).hexdigest() + plain
    file = folder.resolve() / "media" / name
    if not file.is_file():
        with atomic_path(file) as whole:
            whole.write_bytes(source)
    return str(file)
