"""Read manifests as training samples, and encode their prompts."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import random
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import pad

from nontrivial.manifests.command import check_share, printable, say, table
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.frames import Clip
from nontrivial.manifests.left_out import LeftOut
from nontrivial.manifests.media import MOVED, MediaError
from nontrivial.manifests.parquet import read_samples
from nontrivial.manifests.roots import media_root as root_of
from nontrivial.manifests.schema import iterate
from nontrivial.models.inputs import encode, load_media
from nontrivial.models.positions import prompt_positions
from nontrivial.train.options import DataOptions
from nontrivial.train.rows import Made, Sample, as_sample

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

# One encoded prompt: the features that models.inputs.encode returns for a single conversation, and
# its `position_ids` (3, 1, L).
Prompt = Mapping[str, torch.Tensor]

# Features with one entry per token, and their padding (None: the tokenizer's). All others belong to
# images or videos.
TOKENWISE = {
    "input_ids": None,
    "attention_mask": 0,
    "mm_token_type_ids": 0,
    "position_ids": 0,
    "labels": -100,
}

# The processor's name for the patches of each kind of media.
PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}
# The name of the number of patches (1, 3) of each image or clip, in time, height and width.
GRIDS = {kind: f"{kind}_grid_thw" for kind in PIXELS}
# The name of patches that are kept as bytes, and of the mean and deviation (1, 2, C) of those.
BYTES = {kind: f"{kind}_bytes" for kind in PIXELS}
NORMS = {kind: f"{kind}_norm" for kind in PIXELS}
# The name of what a vision tower made of them (train.vision).
FEATURES = {kind: f"{kind}_features" for kind in PIXELS}

logger = logging.getLogger(__name__)

Tensors = TypeVar("Tensors", bound=Mapping[str, torch.Tensor])


@dataclass
class Samples:
    """Training samples, each with its `media_root`, and the rows that were left out.

    `other_splits` counts rows of other splits; `damaged` holds (id, reason) of damaged samples;
    `digest` tells what is asked, of which media, and answered, in all rows of the split.
    """

    rows: list[Sample]
    other_splits: int = 0
    damaged: list[tuple[str, str]] = field(default_factory=list)
    digest: str = ""

    def report(self) -> None:
        """Print the number of samples by task and of those left out; name the damaged ones."""
        tasks = Counter(f"{row['task']} samples" for row in self.rows)
        left_out = [("other splits", self.other_splits), ("damaged media", len(self.damaged))]
        say(table(sorted(tasks.items()) + [(f"left out: {why}", n) for why, n in left_out]))
        for name, reason in self.damaged:
            say(f"  {name}: {reason}")


def read_manifests(
    paths: Sequence[str],
    *,
    media_root: str | None = None,
    split: str | None = "train",
    style: str = "think",
    excluded: LeftOut | None = None,
) -> Samples:
    """Read the rows of one split of all manifests; `media_root` wins over the recorded ones
    (manifests.roots).

    Without a split, those of all but "train". `style` is that of the prompts (manifests.prompts).
    Rows that are `excluded` are as if they were not there.

    Raises `FileNotFoundError` for a missing file, `ManifestError` for one that breaks the contract,
    and `BadInput` where no row is left, two rows have the same id, or a root is not believed.
    """
    rows = Made()
    origin: dict[str, str] = {}
    others, digest = 0, hashlib.sha256()
    for path in paths:
        if not Path(path).is_file():
            hint = "the pattern matched nothing" if "*" in str(path) else "no such file"
            raise FileNotFoundError(f"{path}: {hint}; builders write manifests/*.parquet")
        root = root_of(path, media_root)
        for row in iterate(read_samples(path)):
            if row["split"] == "train" if split is None else row["split"] != split:
                others += 1
                continue
            if excluded is not None and not excluded.keeps(row["id"]):
                continue
            if row["id"] in origin:
                raise BadInput(f"{path}: id {row['id']!r} is already in {origin[row['id']]}")
            origin[row["id"]] = path
            digest.update(content(row).encode())
            rows.append(as_sample(row, len(rows), root, style))
    if not rows:
        wanted = f"has split {split!r}" if split else "is of another split than 'train'"
        if excluded and excluded.met:
            wanted += f" and is left by --exclude {excluded.file}"
        total = others + (len(excluded.met) if excluded else 0)
        raise BadInput(f"{' '.join(paths)}: none of {total} rows {wanted}")
    return Samples(rows, others, digest=digest.hexdigest())


def content(row: Mapping[str, Any]) -> str:
    """Write what a row asks, of which media, and what is right, for a digest."""
    media = [
        (item["path"], item["bytes"] and zlib.crc32(item["bytes"]))
        for name in ("images", "videos")
        for item in row[name] or ()
    ]
    texts = [row[name] for name in ("id", "question", "options", "answer", "rationale", "clips")]
    return json.dumps([*texts, media])


class Recent(Generic[Tensors]):
    """Tensors by the key of a sample: the most recently used ones, up to `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit, self.size = limit, 0
        self._items: OrderedDict[int, Tensors] = OrderedDict()

    def __getitem__(self, key: int) -> Tensors:
        return self._items[key]

    def get(self, key: int) -> Tensors | None:
        """Return the tensors of a sample, if they are kept."""
        return self._items.get(key)

    def keep(self, items: Mapping[int, Tensors]) -> None:
        """Keep the tensors of samples, as the last ones that were used."""
        for key, tensors in items.items():
            if key not in self._items:
                self.size += _bytes(tensors)
            self._items[key] = tensors
            self._items.move_to_end(key)
            while self.size > self.limit:
                self.size -= _bytes(self._items.popitem(last=False)[1])


class UnfitError(MediaError):
    """A sample whose media can't be read again, or whose prompt is too long; `key` is its key."""

    def __init__(self, sample: Sample, reason: str) -> None:
        super().__init__(f"{sample['id']}: {reason}")
        self.key = sample["key"]


class PromptEncoder:
    """An encoder of prompts that keeps the most recently used ones, up to `media_cache_mb`.

    `body` is the policy below its head, which numbers the tokens. `longest` is the largest number
    of tokens of a prompt. Raises `UnfitError` for a longer one, and where media can't be read.

    Prompts are read and encoded in a thread, `ahead` of when they are asked for, by a processor of
    their own: tokenizers can't be used by two threads.
    """

    def __init__(
        self,
        processor: ProcessorMixin,
        body: PreTrainedModel,
        options: DataOptions,
        *,
        longest: int,
    ) -> None:
        self.processor, self.body, self.options = processor, body, options
        self.longest = longest
        self._kept: Recent[Prompt] = Recent(options.media_cache_mb << 20)
        self._own = copy.deepcopy(processor)
        self._thread = ThreadPoolExecutor(1, "reading", torch.set_num_threads, (1,))
        self._coming: dict[int, Future[Prompt]] = {}

    def __call__(self, rows: Sequence[Sample]) -> list[Prompt]:
        """Return one encoded prompt per row, the same object for rows of the same sample."""
        self.ahead(rows)
        batch: dict[int, Prompt] = {}
        try:
            for key in dict.fromkeys(row["key"] for row in rows):
                coming = self._coming.pop(key, None)
                batch[key] = coming.result() if coming else self._kept[key]
        finally:
            self._kept.keep(batch)
        return [batch[row["key"]] for row in rows]

    def ahead(self, rows: Sequence[Sample]) -> None:
        """Begin to encode rows that will be asked for."""
        for row in rows:
            key = row["key"]
            if key not in self._coming and self._kept.get(key) is None:
                self._coming[key] = self._thread.submit(self._encode, row)

    def _encode(self, row: Sample) -> Prompt:
        try:
            images, clips = load_media(row, row["media_root"], self.options)
        except MediaError as error:
            raise UnfitError(row, str(error)) from error
        limits: dict[str, Any] = self.options.limits
        features = encode(self._own, [row["prompt"]], [images], [clips], **limits)
        length = features["input_ids"].shape[1]
        if length > self.longest:
            raise UnfitError(
                row,
                f"its prompt takes {length} tokens, there is room for {self.longest}, and prompts "
                "are not cut; lower --max_pixels, --nframes or --max_completion_length",
            )
        return _numbered(self.body, with_bytes(features, self._own))


class Stock:
    """Samples with their encoded prompts, of which some may be lost while a run goes on.

    A sample that can't be shown gives way to another one, drawn by its number, so that a resumed
    run draws the same. `lost` has the reasons, by the sample's key. Raises
    `BadInput` where more than the share `max_bad` of the samples is lost.
    """

    def __init__(self, encode: PromptEncoder, samples: Sequence[Sample]) -> None:
        self.encode, self.samples = encode, samples
        self.lost: dict[int, str] = {}

    def __call__(self, rows: Sequence[Sample]) -> tuple[list[Sample], list[Prompt]]:
        """Return samples and prompts, in order; equal rows stay equal."""
        while True:
            rows = [self.present(row) for row in rows]
            try:
                return rows, self.encode(rows)
            except UnfitError as error:
                self.lost[error.key] = str(error)
                logger.warning("%s; another sample takes its place", printable(error))
                listed = list(self.lost.values())
                share = self.encode.options.max_bad
                check_share(listed, len(self.samples), share, "samples can't be shown", MOVED)
                if len(listed) == len(self.samples):
                    raise BadInput("no sample is left that can be shown") from error

    def present(self, row: Sample) -> Sample:
        """Return a sample, or the one that takes its place."""
        draw = random.Random(row["key"])
        while row["key"] in self.lost:
            row = self.samples[draw.randrange(len(self.samples))]
        return row


class StandIns:
    """Blank prompts that give every batch the same kinds of media, for sharded training.

    Processes that shard the weights (ZeRO-3, FSDP) gather them together, layer by layer. If one
    process had only images and another only videos, they would wait for each other in different
    places. With stand-ins every batch sends the same kinds through the vision tower.
    """

    def __init__(self, encode: PromptEncoder, rows: Iterable[Sample]) -> None:
        kinds = {kind for row in rows for kind in PIXELS if row[f"{kind}s"]}
        self._blank = {kind: _blank(encode, kind) for kind in PIXELS if kind in kinds}

    def __call__(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return a blank prompt for each kind of media that none of `prompts` has."""
        present = {name for prompt in prompts for name in prompt}
        return [blank for kind, blank in self._blank.items() if GRIDS[kind] not in present]


def collate(
    prompts: Sequence[Prompt], pad_token_id: int, device: torch.device | str | None = None
) -> dict[str, Any]:
    """Join prompts as one batch: tokens padded on the left to one length, media concatenated."""
    longest = max(prompt["input_ids"].shape[1] for prompt in prompts)
    batch = joined_media(prompts, device)
    for name in (name for name in TOKENWISE if name in prompts[0]):
        fill = pad_token_id if name == "input_ids" else TOKENWISE[name]
        parts = (prompt[name] for prompt in prompts)
        padded = [pad(part, (longest - part.shape[-1], 0), value=fill) for part in parts]
        batch[name] = torch.cat(padded, dim=1 if name == "position_ids" else 0).to(device)
    return batch


def joined_media(
    prompts: Sequence[Prompt], device: torch.device | str | None = None
) -> dict[str, Any]:
    """Return the images and clips of prompts as arguments of a policy, in the prompts' order.

    Pixels become floats on the device. Features of media (train.vision) take their place.
    """
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    prompts = [with_pixels(prompt, device) for prompt in prompts]
    names = dict.fromkeys(name for prompt in prompts for name in prompt if name not in TOKENWISE)
    media = {
        name: torch.cat([prompt[name].to(device) for prompt in prompts if name in prompt])
        for name in names
    }
    features = {
        kind: BaseModelOutputWithPooling(pooler_output=(media.pop(name),))
        for kind, name in FEATURES.items()
        if name in media
    }
    return media | ({"mm_encoder_outputs": features} if features else {})


def with_pixels(prompt: Prompt, device: torch.device | str | None = None) -> Prompt:
    """Return a prompt whose pixels are floats, as a policy takes them, in place of bytes."""
    floats = dict(prompt)
    for kind, name in BYTES.items():
        if name in prompt:
            raw, norm = floats.pop(name).to(device), floats.pop(NORMS[kind]).to(device)
            mean, std = norm[0, :, :, None]
            channels = raw.view(len(raw), len(mean), -1)
            floats[PIXELS[kind]] = ((channels - mean) / std).view(raw.shape)
    return floats


def with_bytes(features: Mapping[str, Any], processor: ProcessorMixin) -> dict[str, Any]:
    """Return features with pixels as bytes, a quarter of the memory, where these give them back.

    They do where the processor resizes bytes, and then scales and shifts each channel.
    """
    kept = dict(features)
    for kind, pixels in PIXELS.items():
        if pixels not in features:
            continue
        of_kind, values = getattr(processor, f"{kind}_processor"), features[pixels]
        scale = 1 / of_kind.rescale_factor if of_kind.do_rescale else 1.0
        mean, std = (
            scale * torch.tensor(each if of_kind.do_normalize else [default] * 3)
            for each, default in ((of_kind.image_mean, 0.0), (of_kind.image_std, 1.0))
        )
        channels = values.view(len(values), len(mean), -1)
        raw = (channels * std[:, None] + mean[:, None]).round_().clamp_(0, 255).to(torch.uint8)
        told = {BYTES[kind]: raw.view(values.shape), NORMS[kind]: torch.stack([mean, std])[None]}
        if with_pixels(told)[pixels].equal(values):
            del kept[pixels]
            kept |= told
    return kept


def distinct(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[int]]:
    """Return the distinct objects among `prompts`, and for each of `prompts` its place in them."""
    order: dict[int, int] = {}
    places = [order.setdefault(id(prompt), len(order)) for prompt in prompts]
    return [prompts[places.index(place)] for place in range(len(order))], places


def _blank(encoder: PromptEncoder, kind: str) -> Prompt:
    """Return a prompt without words about one small black image or clip."""
    frames = np.zeros((2, 56, 56, 3), np.uint8)
    images = [Image.fromarray(frames[0])] if kind == "image" else []
    clips = [Clip(frames, np.arange(2), fps=1.0, total=2)] if kind == "video" else []
    conversation = [{"role": "user", "content": [{"type": kind}]}]
    features = encode(encoder.processor, [conversation], [images], [clips])
    return _numbered(encoder.body, with_bytes(features, encoder.processor))


def _numbered(body: PreTrainedModel, features: Mapping[str, Any]) -> Prompt:
    prompt = {name: torch.as_tensor(value) for name, value in features.items()}
    return prompt | {"position_ids": prompt_positions(body, prompt)}


def _bytes(tensors: Prompt) -> int:
    return sum(value.nbytes for value in tensors.values())
