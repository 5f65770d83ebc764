"""Data sets of described people: a JSON list of images with sentences about each.

Papers rank all test images by each sentence, so a test image both asks, by its descriptions, and
answers. It is listed once, as a query. A match may come from any camera, so cameras are left
unknown. The validation split is not read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nontrivial.builders.reid.sources.data_set import QUERY, TRAIN, DataSet, Photo
from nontrivial.manifests.errors import BadInput

IMAGES = "imgs"
ROLE_OF = {"train": TRAIN, "test": QUERY}


def described(
    name: str,
    folder: str,
    file: str,
    origin: str,
    published: Mapping[str, tuple[int, int | None]],
    path: str = "file_path",
) -> DataSet:
    """Describe a data set whose `file` lists images; each entry has its file under the key `path`.

    The other keys are `split`, `id` and `captions`.
    """
    return DataSet(
        name=name,
        folders=(folder, name),
        layout=f"{file} and {IMAGES}/",
        origin=origin,
        published=published,
        scan=partial(_scan, file, path),
    )


def _scan(file: str, key: str, folder: Path, split: str, ignored: Counter[str]) -> Iterator[Photo]:
    try:
        entries = json.loads((folder / file).read_text(encoding="utf-8"))
        for entry in entries:
            if entry["split"] == split:
                photo = _photo(entry, key, ROLE_OF[split])
                if photo.descriptions:
                    yield photo
                else:
                    ignored["no description"] += 1
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{folder / file}: is not a list of described images ({error!r})") from error


def _photo(entry: Mapping[str, Any], key: str, role: str) -> Photo:
    """Return an entry as a photo; file names may repeat, so its folders become part of its name."""
    sentences = [text for caption in entry["captions"] if (text := caption.strip())]
    file = Path(entry[key])
    return Photo(
        f"{IMAGES}/{file.as_posix()}",
        str(entry["id"]),
        None,
        role,
        name=file.with_suffix("").as_posix(),
        descriptions=sentences,
    )
