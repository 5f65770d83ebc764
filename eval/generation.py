"""Let a policy complete samples through transformers, in uniform batches."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from nontrivial.manifests.command import option
from nontrivial.manifests.frames import Clip
from nontrivial.manifests.guarded import Crash, guarded
from nontrivial.manifests.media import MediaError
from nontrivial.manifests.prompts import messages
from nontrivial.models.inputs import View, encode, load_media
from nontrivial.models.policy import load_policy, locate, vision_token_ids

if TYPE_CHECKING:
    from PIL.Image import Image

Item = TypeVar("Item")
Sample = Mapping[str, Any]
Media = tuple[list["Image"], list[Clip]]  # of one sample, decoded
Loaded = tuple[list[Sample], list[Media], list[str]]

THREADS = 4  # that decode ahead


@dataclass
class PolicyOptions:
    """Options of the commands that let a policy answer."""

    shown_last: ClassVar[bool] = True

    model_name_or_path: str = option(
        "a folder, a name on the Hub, or the small policy in this package", default="embedded"
    )
    batch_size: int = option("prompts in a batch", default=16)
    max_new_tokens: int = option("most tokens of a completion", default=256)
    temperature: float = option("temperature of sampled completions", default=1.0)
    media_root: str | None = option("folder of the media, not the recorded one", default=None)
    dtype: str = option("type of the weights: auto, float32, bfloat16", default="auto")
    device: str = option("cpu, cuda, cuda:1, …; auto takes a GPU if there is one", default="auto")
    max_bad: float = option("largest share of samples with damaged media to skip", default=0.01)


@dataclass(frozen=True)
class Sampling:
    """Settings of generation; with `sample=False` it is greedy and ignores the last three."""

    max_new_tokens: int = 256
    sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0


class Generator:
    """A loaded policy that completes prompts.

    It never emits vision tokens.
    """

    def __init__(
        self, name_or_path: str, sampling: Sampling, view: View, *, dtype: str, device: str
    ) -> None:
        name, device = locate(name_or_path), device_of(device)
        self.model, self.processor = load_policy(name, dtype=dtype, device=device)
        self.model.eval()
        self.sampling, self.view = sampling, view

    def complete(self, samples: Sequence[Sample], media: Sequence[Media]) -> list[str]:
        """Return one completion for each sample; `media` holds its decoded images and clips."""
        import torch

        images, clips = zip(*media, strict=True)
        turns = [messages(sample, self.view.prompt) for sample in samples]
        batch = encode(self.processor, turns, images, clips, **self.view.limits)
        batch = batch.to(self.model.device)
        torch.manual_seed(self.sampling.seed ^ zlib.crc32(samples[0]["id"].encode()))
        with torch.inference_mode():
            tokens = self.model.generate(**batch, **self._settings())
        new = tokens[:, batch["input_ids"].shape[1] :]
        return self.processor.batch_decode(new, skip_special_tokens=True)

    def _settings(self) -> dict[str, Any]:
        sampled = self.sampling.sample
        return {
            "max_new_tokens": self.sampling.max_new_tokens,
            "do_sample": sampled,
            "temperature": self.sampling.temperature if sampled else None,
            "top_p": self.sampling.top_p if sampled else None,
            "top_k": 0 if sampled else None,
            "suppress_tokens": vision_token_ids(self.model),
        }


def batches(samples: Sequence[Sample], size: int) -> Iterator[list[Sample]]:
    """Yield batches of one kind of media and similar length, longest first to fail early."""
    kinds: dict[tuple[int, int], list[Sample]] = {}
    for sample in samples:
        kind = (len(sample["videos"] or []), len(sample["images"] or []))
        kinds.setdefault(kind, []).append(sample)
    for kind in sorted(kinds, reverse=True):
        alike = sorted(kinds[kind], key=lambda s: (-_text_length(s), s["id"]))
        for start in range(0, len(alike), size):
            yield alike[start : start + size]


def left_of(
    asked: Iterable[Sequence[Item]],
    done: Collection[str],
    cut: str | None,
    name: Callable[[Item], str],
) -> Iterator[Sequence[Item]]:
    """Yield what is left of each batch, and all of the one that holds `cut` unless it is done.

    `cut` is what was written last before a kill. An answer depends on the rest of its batch: if it
    is drawn by the seed, else in its last bits.

    >>> list(left_of([["a", "b"], ["c", "d"], ["e", "f"]], ["a", "b", "f", "c"], "c", str))
    [['c', 'd'], ['e']]
    """
    for batch in asked:
        names = [name(item) for item in batch]
        if left := [item for item, n in zip(batch, names, strict=True) if n not in done]:
            yield batch if cut in names else left


def load_batch(samples: Sequence[Sample], media_root: str | None, view: View) -> Loaded:
    """Return the samples whose media decode, their media, and the problems of the others."""
    return _parted(samples, [_media_or_reason(sample, media_root, view) for sample in samples])


def loaded(
    asked: Iterable[Sequence[Sample]], media_root: str | None, view: View
) -> Iterator[Loaded]:
    """Yield what `load_batch` returns of each batch.

    Media are decoded in another process, ahead of when they are asked for: while a policy answers
    a batch, the next one is read, and a clip that crashes a decoder is a damaged one.
    """
    asked = list(asked)
    samples = [sample for batch in asked for sample in batch]
    load = partial(_media_or_reason, media_root=media_root, view=view)
    found: dict[int, Media | str] = {}
    start = 0
    with closing(guarded(load, samples, THREADS)) as coming:
        for batch in asked:
            numbers = range(start, start + len(batch))
            start += len(batch)
            while not found.keys() >= set(numbers):
                number, told = next(coming)
                found[number] = told.reason if isinstance(told, Crash) else told
            yield _parted(batch, [found.pop(number) for number in numbers])


def _media_or_reason(sample: Sample, media_root: str | None, view: View) -> Media | str:
    try:
        return load_media(sample, media_root, view)
    except MediaError as error:
        return str(error)


def _parted(samples: Sequence[Sample], told: Sequence[Media | str]) -> Loaded:
    """Part the samples with media from those with a reason why they have none."""
    good, media, problems = [], [], []
    for sample, one in zip(samples, told, strict=True):
        if isinstance(one, str):
            problems.append(f"{sample['id']}: {one}")
        else:
            media.append(one)
            good.append(sample)
    return good, media, problems


def device_of(name: str) -> str:
    """Return the device named; `auto` is cuda where there is a GPU, else cpu."""
    import torch

    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _text_length(sample: Sample) -> int:
    return len(sample["question"]) + sum(map(len, sample["options"]))
