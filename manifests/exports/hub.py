"""The Hub: manifests as a data set that its viewer shows and `load_dataset` reads, with a card.

A manifest is a configuration, each of its splits a file; `eval/NAME_val.parquet` is another split
of `NAME.parquet`. Columns of images and clips are typed where all of them are embedded. Without
`--embed_media` media stay out: most data sets of people and of films may be used, not passed on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.exports import ABSENT, KINDS, is_there
from nontrivial.manifests.files import expand, write_text
from nontrivial.manifests.media import source_of
from nontrivial.manifests.page.cards import dataset_card, public
from nontrivial.manifests.parquet import WITH_MEDIA, read_about, read_samples, write_table
from nontrivial.manifests.roots import media_root as root_of
from nontrivial.manifests.schema import SCHEMA_VERSION, SPLITS, datasets_features

CARD = "README.md"
NAMES = {"val": "validation"}  # the Hub's names of splits, where they are others


def export_hub(
    files: Sequence[str], out: str | Path, *, embed: bool = False, media_root: str | None = None
) -> tuple[list[Path], Counter[str]]:
    """Write a folder for the Hub; return its files, and the rows left out, by reason.

    With `embed` the files of images and clips are put into the tables, and rows without them are
    left out. Raises `BadInput` for two files with the same split of a configuration, and for a
    configuration whose media are embedded in one file alone.
    """
    folder, paths = Path(out), expand(files)
    lacking: Counter[str] = Counter()
    parts: dict[str, dict[str, str]] = {}
    kinds: dict[str, list[str]] = {}
    for path in paths:
        table = read_samples(path)
        if embed:
            table, missing = embedded(table, root_of(path, media_root))
            lacking[ABSENT] += missing
        if not len(table):
            raise BadInput(f"{path}: none of its images and clips is there; see --media_root")
        for split in (split for split in SPLITS if split in table["split"].unique().to_pylist()):
            name, rows = config_of(path, split), table.filter(pc.equal(table["split"], split))
            of_config, shown = parts.setdefault(name, {}), NAMES.get(split, split)
            if shown in of_config:
                raise BadInput(f"{path}: a file before it holds split {shown} of {name}, too")
            if kinds.setdefault(name, typed(table)) != typed(table):
                raise BadInput(f"{path}: embed the media of all splits of {name}, or of none")
            of_config[shown] = f"data/{name}/{shown}.parquet"
            _write(rows, folder / of_config[shown], path, kinds[name])
    write_text(folder / CARD, dataset_card(paths, parts))
    written = [folder / file for splits in parts.values() for file in splits.values()]
    return [*written, folder / CARD], +lacking


def config_of(path: Path, split: str) -> str:
    """Return the configuration of a split of a manifest: builders name `eval/NAME_SPLIT.parquet`.

    >>> config_of(Path("manifests/eval/some_test.parquet"), "test")
    'some'
    """
    return path.stem.removesuffix(f"_{split}")


def _write(rows: pa.Table, file: Path, source: Path, kinds: Sequence[str]) -> None:
    """Write a split with the metadata of its manifest, and types for `datasets`."""
    about = {**public(read_about(source)), "schema_version": SCHEMA_VERSION}
    about.pop("content_digest", None)
    write_table(rows, file, about, extra={b"huggingface": datasets_features(kinds)})


def embedded(table: pa.Table, root: str | None) -> tuple[pa.Table, int]:
    """Return the rows with the bytes of their images and clips, and the number of the others."""
    here = [is_there(row, root) for row in table.select(KINDS).to_pylist()]
    kept = table.filter(pa.array(here, pa.bool_()))
    for kind in KINDS:
        place, field = kept.schema.get_field_index(kind), kept.schema.field(kind)
        # In parts, as Arrow holds at most 2 GiB of nested bytes in one.
        parts = [
            pa.array([_filled(items, root) for items in part[kind].to_pylist()], field.type)
            for part in kept.select([kind]).to_batches(max_chunksize=WITH_MEDIA)
        ]
        kept = kept.set_column(place, field, pa.chunked_array(parts, field.type))
    return kept, len(table) - len(kept)


def typed(table: pa.Table) -> list[str]:
    """Return the columns of media without an item that lacks its bytes; none if no item has any."""
    parts = {kind: [chunk.flatten().flatten()[0] for chunk in table[kind].chunks] for kind in KINDS}
    items = sum(len(data) for chunks in parts.values() for data in chunks)
    absent = {kind: sum(data.null_count for data in chunks) for kind, chunks in parts.items()}
    return [kind for kind in KINDS if not absent[kind]] if sum(absent.values()) < items else []


def _filled(items: Sequence[Mapping[str, Any]] | None, root: str | None) -> list[Any] | None:
    """Return items with the bytes of their files."""
    if items is None:
        return None
    sources = [(item, source_of(item, root)) for item in items]
    return [
        {**item, "bytes": source if isinstance(source, bytes) else source.read_bytes()}
        for item, source in sources
    ]
