"""Encode manifest rows: the real processor sees every image and clip once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from nontrivial.builders.synthetic.people import ATTRIBUTES
from nontrivial.manifests.errors import WorkFailed
from nontrivial.manifests.prompts import messages, question_text
from nontrivial.models.inputs import View, load_media, metadata
from scripts.embedded.reasons import SHARES, reasoned
from scripts.embedded.stages import IGNORED, Encoded

# Pixels, grid, seconds per step and words shown of a row without media.
NO_MEDIA = (torch.empty(0), torch.empty(0, 3, dtype=torch.int64), torch.empty(0), torch.empty(0))


def texts(row: Mapping[str, Any]) -> list[str]:
    """Return the prompt and the completions of a row, for the tokenizer to learn from."""
    prompt = question_text(row["question"], row["options"], row["task"])
    return [prompt, *(reasoned(row, kind).completion for kind in SHARES)]


class Encoder:
    """Encoder of samples; the pixels of a file are computed once and shared by its samples."""

    def __init__(self, processor: Any, root: str, truth: Callable[[str], torch.Tensor]) -> None:
        self.processor, self.root, self.truth = processor, root, truth
        self.tokenizer = processor.tokenizer
        self.media: dict[str, tuple[torch.Tensor, ...]] = {}
        self.told_by_pictures = self._token_ids(
            [word for words in ATTRIBUTES.values() for word in words]
        )

    def __call__(self, row: Mapping[str, Any], kind: str) -> Encoded:
        """Return a row with reasons of one kind (scripts.embedded.reasons)."""
        media = [self._media(item, row) for item in (row["images"] or []) + (row["videos"] or [])]
        pixels, grids, seconds, shown = zip(*(media or [NO_MEDIA]), strict=True)
        grid = torch.cat(grids)
        reasons = reasoned(row, kind)
        prompt = self._prompt_ids(row, grid, reasons.prompt)
        target = self._ids(reasons.completion + self.tokenizer.eos_token)
        ids = torch.tensor(prompt + target)
        labels = torch.tensor([IGNORED] * len(prompt) + target)
        image, video = self.processor.image_token_id, self.processor.video_token_id
        kinds = (ids == image).long() + 2 * (ids == video).long()
        return Encoded(
            ids=ids,
            kinds=kinds,
            labels=labels,
            guessed=self._guessed(row, labels),
            pixels=pixels,
            grid=grid,
            seconds=torch.cat(seconds),
            shown=torch.cat(shown),
            task=row["task"],
        )

    def encode_all(
        self, rows: Sequence[Mapping[str, Any]], shares: Mapping[str, float]
    ) -> dict[str, list[Encoded]]:
        """Return encoded rows by task; the kind of each row's reasons is drawn by its share."""
        rng = np.random.default_rng(0)
        kinds = rng.choice(list(shares), len(rows), p=list(shares.values())).tolist()
        encoded: dict[str, list[Encoded]] = {}
        for row, kind in zip(tqdm(rows, "encoding", unit="sample"), kinds, strict=True):
            encoded.setdefault(row["task"], []).append(self(row, kind))
        return encoded

    def single_ids(self, words: Sequence[str]) -> torch.Tensor:
        """Return the ids of words; raise `WorkFailed` for words of more than one token."""
        spelled = [self._ids(word) for word in words]
        split = [word for word, ids in zip(words, spelled, strict=True) if len(ids) != 1]
        if split:
            raise WorkFailed(f"the tokenizer splits {split}: its corpus shows them too rarely")
        return torch.tensor([ids[0] for ids in spelled])

    def _media(self, item: Mapping[str, Any], row: Mapping[str, Any]) -> tuple:
        if item["path"] not in self.media:
            self.media[item["path"]] = (*self._see(row, item), self.truth(item["path"]))
        return self.media[item["path"]]

    def _see(self, row: Mapping[str, Any], item: Mapping[str, Any]) -> tuple:
        video = bool(row["videos"])
        alone = {"images": None if video else [item], "videos": [item] if video else None}
        images, clips = load_media({**alone, "clips": None}, self.root, View())
        if video:
            frames = [clip.frames.transpose(0, 3, 1, 2) for clip in clips]
            out = self.processor.video_processor(
                videos=frames,
                video_metadata=[metadata(clip) for clip in clips],
                do_sample_frames=False,
                return_tensors="pt",
            )
            step = self.processor.video_processor.temporal_patch_size
            seconds = torch.tensor([step / clip.sampled_fps for clip in clips])
            return out["pixel_values_videos"].half(), out["video_grid_thw"], seconds
        out = self.processor.image_processor(images=images, return_tensors="pt")
        return out["pixel_values"].half(), out["image_grid_thw"], torch.empty(0)

    def _prompt_ids(self, row: Mapping[str, Any], grid: torch.Tensor, style: str) -> list[int]:
        text = self.processor.apply_chat_template(
            messages(row, style), add_generation_prompt=True, tokenize=False
        )
        pad = self.processor.video_token if row["videos"] else self.processor.image_token
        before, *parts = text.split(pad)
        counts = (grid.prod(-1) // self.processor.image_processor.merge_size**2).tolist()
        whole = before + "".join(pad * n + part for n, part in zip(counts, parts, strict=True))
        return self._ids(whole)

    def _guessed(self, row: Mapping[str, Any], labels: torch.Tensor) -> torch.Tensor:
        """Mark completion tokens that follow from the pictures, not from the text before them.

        Of clips, tokens before "so" describe the scene, and those after it follow from them; where
        nothing is described, only the answer follows. An answer without reasons is all guessed.
        """
        known = labels != IGNORED
        begun = [self._ids(mark)[0] for mark in ("<think>", "</think>", " so")]
        thinks, thought, concluded = (labels == mark for mark in begun)
        if not thinks.any():
            return known
        if row["task"] == "video_qa":
            mark = concluded if concluded.any() else thought
            return known & (mark.int().cumsum(0) == 0)
        return torch.isin(labels, self.told_by_pictures)

    def _token_ids(self, words: Sequence[str]) -> torch.Tensor:
        """Return the ids of words that are one token, with and without a space before them."""
        spelled = (self._ids(space + word) for word in words for space in ("", " "))
        return torch.tensor([ids[0] for ids in spelled if len(ids) == 1])

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]
