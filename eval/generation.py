"""Completions of a policy for samples of a manifest, in uniform batches through transformers."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.media import Clip, MediaError
from nontrivial.models.inputs import View, encode, load_media
from nontrivial.models.policy import load_policy, locate, vision_token_ids
from nontrivial.models.prompts import messages

if TYPE_CHECKING:
    from PIL.Image import Image

Sample = Mapping[str, Any]
Media = tuple[list["Image"], list[Clip]]  # of one sample, decoded
Loaded = tuple[list[Sample], list[Media], list[str]]


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn; `sample=False` is greedy and reads neither of the last three."""

    max_new_tokens: int = 256
    sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0


class Generator:
    """A loaded policy that completes prompts.

    Placeholder tokens are never emitted, and nothing of the policy's own generation settings, such
    as a repetition penalty, is kept: two policies are compared under the same rules.
    """

    def __init__(
        self, name_or_path: str, sampling: Sampling, view: View, *, dtype: str, device: str
    ) -> None:
        self.model, self.processor = load_policy(locate(name_or_path), dtype=dtype, device=device)
        self.model.eval()
        self.sampling = sampling
        self.limits = view.limits

    def complete(self, samples: Sequence[Sample], media: Sequence[Media]) -> list[str]:
        """One completion for each sample, whose decoded images and clips are given beside it."""
        import torch

        images, clips = zip(*media, strict=True)
        turns = [messages(sample) for sample in samples]
        batch = encode(self.processor, turns, images, clips, **self.limits)
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
            "repetition_penalty": 1.0,
            "suppress_tokens": vision_token_ids(self.model),
        }


def batches(samples: Sequence[Sample], size: int) -> Iterator[list[Sample]]:
    """Batches of one kind of media and similar length, longest first: memory fails early."""
    kinds: dict[tuple[int, int], list[Sample]] = {}
    for sample in samples:
        kind = (len(sample["videos"] or []), len(sample["images"] or []))
        kinds.setdefault(kind, []).append(sample)
    for kind in sorted(kinds, reverse=True):
        alike = sorted(kinds[kind], key=lambda s: (-_text_length(s), s["id"]))
        for start in range(0, len(alike), size):
            yield alike[start : start + size]


def load_batch(samples: Sequence[Sample], media_root: str | None, view: View) -> Loaded:
    """The samples whose media decode, their media, and what is wrong with the others."""
    good, media, problems = [], [], []
    for sample in samples:
        try:
            media.append(load_media(sample, media_root, view))
            good.append(sample)
        except MediaError as error:
            problems.append(f"{sample['id']}: {error}")
    return good, media, problems


def device_of(name: str) -> str:
    """The device that `auto` means here."""
    import torch

    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _text_length(sample: Sample) -> int:
    return len(sample["question"]) + sum(map(len, sample["options"]))
