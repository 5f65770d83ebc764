"""Convert rows of manifests, or of TRL's conversational data sets, to samples.

A sample is a dict of its prompt, as `prompt` (chat messages with placeholders), `images`, `videos`,
`clips` and `media_root`, and of the columns that its rewards read. Every image and video is a
`{bytes, path}` item, as in manifests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.media import encode_image
from nontrivial.manifests.prompts import messages

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

Sample = dict[str, Any]

# Columns of a sample's media; rewards get the other columns.
MEDIA = ("images", "videos", "clips", "media_root")
KINDS = {"image": "images", "video": "videos"}


class Made(list[Sample]):
    """Samples that `as_sample` has made."""


class Rows(Sequence[Sample]):
    """The rows of a data set as samples, converted on access.

    The data set is repeated, whole, to at least `least` rows. Raises `BadInput` for a data set
    without rows, one that can only be streamed, or a row that can't be converted. An Arrow table
    (`nontrivial.read_samples`) does.
    """

    def __init__(
        self,
        dataset: Dataset | pa.Table | Sequence[Mapping[str, Any]],
        media_root: str | None,
        least: int = 1,
        style: str = "think",
    ) -> None:
        if hasattr(dataset, "to_pylist"):
            dataset = dataset.to_pylist()
        if not hasattr(dataset, "__getitem__") or isinstance(dataset, Mapping):
            kind = type(dataset).__name__
            raise BadInput(f"the data set is a {kind}; needs rows that can be indexed, one split")
        if not len(dataset):
            raise BadInput("the data set has no rows")
        self._rows = undecoded(dataset)
        self._media_root, self._style = media_root, style
        self._times = max(1, -(-least // len(dataset)))
        if not isinstance(self._rows, Made):
            for number in range(len(self._rows)):
                _ = self[number]

    def __len__(self) -> int:
        return len(self._rows) * self._times

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        row = number % len(self._rows)
        if isinstance(self._rows, Made):
            return {**self._rows[row], "key": row}
        return as_sample(self._rows[row], row, self._media_root, self._style)


def as_sample(
    row: Mapping[str, Any], number: int, media_root: str | None = None, style: str = "think"
) -> Sample:
    """Return row `number` of a data set as a sample, with its number as `key`.

    `style` is that of prompts made here (manifests.prompts). Raises `BadInput` that names the
    row if it has no chat messages, or if its placeholders do not match its media.
    """
    name = str(row.get("id") or f"row {number}")
    media: Sample = {
        "images": _items(row.get("images", row.get("image"))),
        "videos": _items(row.get("videos", row.get("video"))),
        "clips": row.get("clips") or [],
        "media_root": media_root or row.get("media_root"),
    }
    sample = {**row, **media, "id": name, "key": number}
    if row.get("prompt") is not None:
        return sample | {"prompt": _with_placeholders(row["prompt"], media, name)}
    if {"task", "question", "options"} <= set(row):
        return sample | {"prompt": messages(sample, style)}
    raise BadInput(f"{name}: needs `prompt`, or the columns of a manifest; has {sorted(row)}")


def columns(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return the columns that rewards get: all but media, and the sample itself as `sample`.

    Every sample has the same columns; one that it lacks is None.
    """
    names = dict.fromkeys(name for sample in samples for name in sample)
    kept = [name for name in names if name not in (*MEDIA, *KINDS, "key")]
    return [{name: sample.get(name) for name in kept} | {"sample": sample} for sample in samples]


def undecoded(dataset: Any) -> Any:
    """Return a data set of `datasets` whose media columns yield `{bytes, path}` items."""
    if not hasattr(dataset, "features"):
        return dataset
    import datasets

    for name, feature in dataset.features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, (datasets.Image, datasets.Video)):
            plain = type(inner)(decode=False)
            plain = plain if inner is feature else datasets.List(plain)
            dataset = dataset.cast_column(name, plain)
    return dataset


def _items(values: Any) -> list[dict[str, Any]]:
    """Convert images or videos (items, paths, bytes, Pillow images) to `{bytes, path}` items."""
    if values is None:
        return []
    values = values if isinstance(values, (list, tuple)) else [values]
    return [_item(value) for value in values]


def _item(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {"bytes": value.get("bytes"), "path": value.get("path")}
    if isinstance(value, bytes):
        return {"bytes": value, "path": None}
    if hasattr(value, "getbands"):  # a Pillow image
        return {"bytes": encode_image(value.convert("RGB"), "PNG"), "path": None}
    return {"bytes": None, "path": str(value)}


def _with_placeholders(prompt: Any, media: Sample, name: str) -> list[dict[str, Any]]:
    """Return chat messages whose contents are parts, with a placeholder for each image and video.

    If the prompt has none, they are put before its first user message, as TRL does for images.
    """
    if isinstance(prompt, str) or not all(isinstance(turn, Mapping) for turn in prompt):
        raise BadInput(
            f"{name}: prompt is {str(prompt)[:40]!r}; needs chat messages: "
            '[{"role": "user", "content": "…"}]'
        )
    turns = [{**turn, "content": _parts(turn.get("content"))} for turn in prompt]
    for kind, column in KINDS.items():
        places = sum(part["type"] == kind for turn in turns for part in turn["content"])
        if not places and media[column]:
            first = next((turn for turn in turns if turn.get("role") == "user"), None)
            if first is None:
                raise BadInput(f"{name}: the prompt has no user message to show its {column} in")
            first["content"] = [{"type": kind} for _ in media[column]] + first["content"]
        elif places != len(media[column]):
            raise BadInput(
                f"{name}: {places} {kind} placeholders for {len(media[column])} {column}"
            )
    return turns


def _parts(content: Any) -> list[dict[str, Any]]:
    """Return a message's parts without media, and without the null keys that Arrow adds."""
    if isinstance(content, str) or content is None:
        return [{"type": "text", "text": content or ""}]
    return [
        {"type": part["type"], **({"text": part["text"]} if part["type"] == "text" else {})}
        for part in content
    ]
