"""Samples with media -> tensors: decode their media, then encode them.

Frames are sampled here (manifests.decoders), not by the processor, which receives their real rate:
without it a processor assumes 24 frames a second and a clip's temporal positions nearly collapse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from nontrivial.manifests.decoders import sample_frames
from nontrivial.manifests.errors import BadInput, first_line
from nontrivial.manifests.frames import Clip
from nontrivial.manifests.media import MediaError, Root, read_image, source_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import BatchFeature, ProcessorMixin

# Qwen's processors refuse an image or frame whose longer side is more than so many times the other.
MAX_RATIO = 200

# The processors' names for the fewest and the most pixels of an image or frame.
EDGES = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}


@dataclass
class View:
    """Options for what the policy is shown and asked, the same in training and evaluation."""

    shown_last: ClassVar[bool] = True

    # Not `manifests.command.option`: TRL's parser hands all metadata to argparse.
    nframes: int | None = field(default=8, metadata={"help": "Most frames taken from a clip."})
    fps: float | None = field(
        default=None, metadata={"help": "Rate at which clips are sampled, up to nframes."}
    )
    min_pixels: int | None = field(
        default=None, metadata={"help": "Scale smaller images and frames up to this many pixels."}
    )
    max_pixels: int | None = field(
        default=None, metadata={"help": "Scale larger images and frames down to this many pixels."}
    )

    prompt: str = field(
        default="think",
        metadata={
            "help": "Ask to think first, or to answer at once.",
            "choices": ["think", "answer"],
        },
    )

    @classmethod
    def of(cls, options: Any) -> View:
        """Return the view that options with fields of the same names describe."""
        return View(**{item.name: getattr(options, item.name) for item in fields(View)})

    @property
    def limits(self) -> dict[str, Any]:
        """Arguments for the processor; raises `BadInput` for limits that contradict each other."""
        limits = {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels}
        given = {name: pixels for name, pixels in limits.items() if pixels is not None}
        if len(given) == 2 and given["min_pixels"] > given["max_pixels"]:
            raise BadInput(
                f"--min_pixels {self.min_pixels} is more than --max_pixels {self.max_pixels}"
            )
        return given


def load_media(
    sample: Mapping[str, Any], media_root: Root, view: View
) -> tuple[list[Image], list[Clip]]:
    """Decode the images and the sampled frames of a sample.

    Raises `MediaError` for what can't be decoded, and for what a processor would refuse.
    """
    images = [read_image(item, media_root) for item in sample["images"] or []]
    for item, image in zip(sample["images"] or [], images, strict=True):
        _check_ratio(item, *image.size)
    videos = sample["videos"] or []
    ranges = sample["clips"] or [None] * len(videos)
    clips = []
    for item, seconds in zip(videos, ranges, strict=True):
        span = (seconds["start"], seconds["end"]) if seconds else None
        source = source_of(item, media_root)
        clip = sample_frames(source, nframes=view.nframes, fps=view.fps, clip=span)
        _check_ratio(item, *clip.frames.shape[2:0:-1])
        clips.append(clip)
    return images, clips


def why_unreadable(sample: Mapping[str, Any], view: View) -> str | None:
    """Return why media of a sample (with its `media_root`) can't be loaded; None if they can."""
    try:
        load_media(sample, sample["media_root"], view)
    except MediaError as error:
        return str(error)
    return None


def _check_ratio(item: Mapping[str, Any], width: int, height: int) -> None:
    if max(width, height) > MAX_RATIO * min(width, height):
        raise MediaError(
            f"{item['path']}: {width} x {height} pixels; a side may be {MAX_RATIO} times the other"
        )


def encode(
    processor: ProcessorMixin,
    conversations: Sequence[Sequence[Mapping[str, Any]]],
    images: Sequence[Sequence[Image]],
    clips: Sequence[Sequence[Clip]],
    **limits: int,
) -> BatchFeature:
    """Encode a batch of prompts with their media, padded to one length.

    Returns `input_ids`, `attention_mask` and `mm_token_type_ids` (B, L) and, if the batch has such
    media, `pixel_values`, `image_grid_thw`, `pixel_values_videos`, `video_grid_thw` and
    `second_per_grid_ts` in the order of their placeholders. `limits` are `View.limits`.
    """
    kwargs: dict[str, Any] = {
        f"{kind}s_kwargs": {"size": _size(getattr(processor, f"{kind}_processor"), limits)}
        for kind in ("image", "video")
    }
    texts = _as_texts(processor, conversations)
    if flat_images := [image for group in images for image in group]:
        kwargs["images"] = flat_images
    if flat_clips := [clip for group in clips for clip in group]:
        kwargs["videos"] = [clip.frames.transpose(0, 3, 1, 2) for clip in flat_clips]
        kwargs["video_metadata"] = [metadata(clip) for clip in flat_clips]
        kwargs["do_sample_frames"] = False
    return processor(text=texts, padding=True, padding_side="left", return_tensors="pt", **kwargs)


def _as_texts(
    processor: ProcessorMixin, conversations: Sequence[Sequence[Mapping[str, Any]]]
) -> list[str]:
    """Write conversations by the policy's template, which came with it and runs in a sandbox."""
    turns = [list(conversation) for conversation in conversations]
    try:
        return processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    except Exception as error:  # templates are code, and raise whatever they like
        raise BadInput(
            f"the policy's chat template cannot be used ({first_line(error)}); give a policy with "
            "the template of its family"
        ) from error


def continued(
    prompts: Mapping[str, Any], tails: Sequence[Sequence[int]], pad_token_id: int
) -> BatchFeature:
    """Return encoded prompts (B, L) with more tokens behind each row, padded on the left again."""
    import torch
    from transformers import BatchFeature

    def joined(name: str, of_tail: Any, padding: int) -> torch.Tensor:
        rows = [
            torch.cat([row[live], torch.as_tensor(of_tail(tail)).to(row)])
            for row, live, tail in zip(prompts[name], mask, tails, strict=True)
        ]
        return torch.nn.utils.rnn.pad_sequence(rows, True, padding, padding_side="left")

    mask = prompts["attention_mask"].bool()
    text = {
        "input_ids": joined("input_ids", list, pad_token_id),
        "attention_mask": joined("attention_mask", lambda tail: [1] * len(tail), 0),
        "mm_token_type_ids": joined("mm_token_type_ids", lambda tail: [0] * len(tail), 0),
    }
    return BatchFeature({**prompts, **text})


def _size(of_media: Any, limits: Mapping[str, int]) -> dict[str, int]:
    """Return the pixels that a processor of media scales to, within limits."""
    size = {name: of_media.size[name] for name in EDGES.values()}
    return size | {EDGES[name]: pixels for name, pixels in limits.items()}


def metadata(clip: Clip) -> dict[str, Any]:
    """Describe the sampled frames as a video of their own, so that a range keeps its true rate."""
    indices = list(range(len(clip.indices)))
    return {"total_num_frames": len(indices), "fps": clip.sampled_fps, "frames_indices": indices}
