"""Pre-train the embedded policy in four stages.

Without an earlier stage a later one did not learn (see the card).

text    the language model alone, on prompts without media: it is given what a picture would show
        and learns to look up, to compare, to conclude and to bind the verdict to an option's letter
look    the language model on whole samples whose vision tokens are replaced by words, the output of
        a perfect tower: it learns to look things up
sight   the vision tower alone: it learns to emit those tokens
joint   everything, on whole samples
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from nontrivial.models.positions import prompt_positions
from scripts.embedded.muon import Muon

IGNORED = -100
PEOPLE, CLIPS = ("reid_pair",), ("video_qa",)
TURNS = PEOPLE + CLIPS * 2  # twice as many batches of clips: there is more to learn


@dataclass
class Encoded:
    """One sample, encoded once.

    ids      (L,) int64 prompt and completion
    kinds    (L,) int64: 0 text, 1 image token, 2 video token
    labels   (L,) int64 completion tokens, IGNORED elsewhere
    guessed  (L,) bool: completion tokens that cannot be known without the picture
    pixels   (patches, features) float16 of each image or clip, shared between samples
    grid     (media, 3) int64
    seconds  (clips,) float32: seconds per step of a clip's grid
    shown    (tokens, W) float32: 1 for each of W words that a vision token shows, else 0
    task     task of the sample
    """

    ids: torch.Tensor
    kinds: torch.Tensor
    labels: torch.Tensor
    guessed: torch.Tensor
    pixels: tuple[torch.Tensor, ...]
    grid: torch.Tensor
    seconds: torch.Tensor
    shown: torch.Tensor
    task: str


class Optimisers:
    """Muon on matrices and AdamW on the other parameters, with one learning-rate factor.

    AdamW alone stayed at chance: the letter is the exclusive or of verdict and option order.
    """

    def __init__(self, named: Sequence[tuple[str, nn.Parameter]], lr: float = 3e-3) -> None:
        def is_matrix(name: str, p: nn.Parameter) -> bool:
            return p.ndim == 2 and "embed" not in name and "head" not in name

        self.parameters = [p for _, p in named]
        matrices = [p for name, p in named if is_matrix(name, p)]
        rest = [p for name, p in named if not is_matrix(name, p)]
        self.optimisers = [
            Muon(matrices),
            torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.rates = [[g["lr"] for g in o.param_groups] for o in self.optimisers]

    def step(self, loss: torch.Tensor, factor: float) -> None:
        """Take one step down the gradient of `loss`, clipped to norm 1."""
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimiser, rates in zip(self.optimisers, self.rates, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimiser.step()


def learn(
    stage: str,
    model: nn.Module,
    samples: dict[str, Sequence[Encoded]],
    drills: Sequence[Encoded],
    words: torch.Tensor,
    steps: int,
    factor: float,
    rng: np.random.Generator,
) -> None:
    """Train one stage of the curriculum, by name; `factor` scales the learning rates."""
    if stage == "text":
        everything = [sample for task in samples.values() for sample in task]
        learn_text(model, everything, drills, steps, factor, rng)
    elif stage == "look":
        learn_look(model, samples, words, steps, factor, rng)
    elif stage == "joint":
        learn_jointly(model, samples, steps, factor, rng)
    else:
        tasks = {"sight of people": PEOPLE, "sight of clips": CLIPS, "sight": TURNS}[stage]
        learn_sight(model, samples, tasks, words, steps, factor, rng)


def schedule(step: int, steps: int, *, warmup: int = 30, floor: float = 0.02) -> float:
    """Return the factor of a linear warm-up, a plateau, and a linear decay in the second half."""
    return min(1.0, (step + 1) / warmup) * max(floor, min(1.0, 2 - 2 * step / steps))


def learn_text(
    model: nn.Module,
    samples: Sequence[Encoded],
    drills: Sequence[Encoded],
    steps: int,
    factor: float,
    rng: np.random.Generator,
    batch: int = 64,
) -> None:
    """Train stage 1 without media: tokens that need the picture are given, the others predicted.

    Half of each batch are `drills` (scripts.embedded.drills).
    """
    halves = [_without_media(sample) for sample in samples], drills
    named = [(n, p) for n, p in model.named_parameters() if ".visual." not in n]
    optimisers, bar = Optimisers(named), tqdm(range(steps), "text")
    for step in bar:
        rows = [half[i] for half in halves for i in rng.integers(0, len(half), batch // 2)]
        inputs, labels = collate(rows)
        inputs.pop("mm_token_type_ids")
        positions = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
        loss, hit = _loss(model, {**inputs, "position_ids": positions.expand(3, -1, -1)}, labels)
        optimisers.step(loss, factor * schedule(step, steps, floor=0.3))
        _show(bar, step, loss=loss, right=hit)


def learn_look(
    model: nn.Module,
    samples: dict[str, Sequence[Encoded]],
    words: torch.Tensor,
    steps: int,
    factor: float,
    rng: np.random.Generator,
    batch: int = 32,
) -> None:
    """Train stage 2: whole samples whose vision tokens are the output of a perfect tower.

    The language model learns to look things up without the cost of a tower; added noise keeps it
    from relying on a perfect one. words (W,) are the ids that `Encoded.shown` refers to.
    """
    named = [(n, p) for n, p in model.named_parameters() if ".visual." not in n]
    optimisers, bar = Optimisers(named), tqdm(range(steps), "look")
    streams = {task: _stream(rows, batch, rng) for task, rows in samples.items()}
    for step in bar:
        task = TURNS[step % len(TURNS)]
        rows = next(streams[task])
        inputs, labels = collate(rows)
        spelled = spell(model, torch.cat([row.shown for row in rows]), words)
        spelled = spelled + torch.randn_like(spelled) * (0.15 * spelled.detach().std())
        hidden = model.get_input_embeddings()(inputs["input_ids"])
        hidden = hidden.masked_scatter((inputs["mm_token_type_ids"] > 0)[..., None], spelled)
        loss, hit = _loss(model, _without_tower(model, inputs, hidden), labels)
        optimisers.step(loss, factor * schedule(step, steps, floor=0.1))
        _show(bar, step // len(TURNS), task=task, loss=loss, right=hit)


def learn_sight(
    model: nn.Module,
    samples: dict[str, Sequence[Encoded]],
    tasks: Sequence[str],
    words: torch.Tensor,
    steps: int,
    factor: float,
    rng: np.random.Generator,
    batch: int = 16,
) -> None:
    """Train stage 3: the tower alone learns to emit the word embeddings of what a token shows.

    Batches take turns over the `tasks`, because a tower that sees one of them forgets the other.
    """
    tower, embed = model.model.visual, model.get_input_embeddings().weight.detach()
    bias, scale = nn.Parameter(torch.full((len(words),), -2.0)), nn.Parameter(torch.tensor(1.0))
    named = [*tower.named_parameters(), ("head.bias", bias), ("head.scale", scale)]
    optimisers, bar = Optimisers(named), tqdm(range(steps), "sight")
    for step in bar:
        task = tasks[step % len(tasks)]
        rows = [samples[task][i] for i in rng.integers(0, len(samples[task]), batch)]
        truth = torch.cat([row.shown for row in rows])
        seen = see(tower, _pixels(rows), torch.cat([row.grid for row in rows]))
        scores = scale * (seen @ embed[words].T) + bias
        ideal = spell(model, truth, words).detach()
        closeness = F.cosine_similarity(seen, ideal, dim=-1).mean()
        loss = F.binary_cross_entropy_with_logits(scores, truth) + 0.2 * (1 - closeness)
        optimisers.step(loss, factor * schedule(step, steps))
        recall = ((scores > 0) & (truth > 0)).sum() / truth.sum()
        _show(bar, step // len(tasks), task=task, loss=loss, recall=recall)


def spell(model: nn.Module, shown: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Return a perfect tower's output (tokens, hidden): sums of the embeddings of shown words."""
    embed = model.get_input_embeddings().weight
    return shown @ embed[words] + embed[model.config.vision_start_token_id]


def learn_jointly(
    model: nn.Module,
    samples: dict[str, Sequence[Encoded]],
    steps: int,
    factor: float,
    rng: np.random.Generator,
    batch: int = 32,
) -> None:
    """Train stage 4: everything, on whole samples; batches take turns over the tasks."""
    optimisers, bar = Optimisers(list(model.named_parameters())), tqdm(range(steps), "joint")
    streams = {task: _stream(rows, batch, rng) for task, rows in samples.items()}
    for step in bar:
        task = TURNS[step % len(TURNS)]
        inputs, labels = collate(next(streams[task]))
        loss, hit = _loss(model, inputs, labels)
        optimisers.step(loss, factor * schedule(step, steps))
        _show(bar, step // len(TURNS), task=task, loss=loss, right=hit)


def collate(samples: Sequence[Encoded]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return left-padded inputs and labels (B, L) of one batch of one task."""
    length = max(len(sample.ids) for sample in samples)

    def pad(name: str, fill: int) -> torch.Tensor:
        rows = (getattr(sample, name) for sample in samples)
        return torch.stack([F.pad(row, (length - len(row), 0), value=fill) for row in rows])

    inputs = {
        "input_ids": pad("ids", 0),
        "attention_mask": torch.stack(
            [F.pad(torch.ones_like(s.ids), (length - len(s.ids), 0)) for s in samples]
        ),
        "mm_token_type_ids": pad("kinds", 0),
    }
    if len(samples[0].grid):
        video = samples[0].task == "video_qa"
        pixels, grid = (
            ("pixel_values_videos", "video_grid_thw")
            if video
            else ("pixel_values", "image_grid_thw")
        )
        inputs[pixels] = _pixels(samples)
        inputs[grid] = torch.cat([sample.grid for sample in samples])
        if video:
            inputs["second_per_grid_ts"] = torch.cat([sample.seconds for sample in samples])
    return inputs, pad("labels", IGNORED)


def see(tower: nn.Module, pixels: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Return the vision tower's output tokens (tokens, hidden)."""
    out = tower(pixels, grid_thw=grid)
    return out if torch.is_tensor(out) else out.pooler_output


def _pixels(samples: Sequence[Encoded]) -> torch.Tensor:
    return torch.cat([pixels for sample in samples for pixels in sample.pixels]).float()


def _without_media(sample: Encoded) -> Encoded:
    text = sample.kinds == 0
    return replace(
        sample,
        ids=sample.ids[text],
        kinds=sample.kinds[text],
        labels=sample.labels.masked_fill(sample.guessed, IGNORED)[text],
        grid=sample.grid[:0],
        seconds=sample.seconds[:0],
    )


def _without_tower(
    model: nn.Module, inputs: dict[str, torch.Tensor], hidden: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return inputs with embeddings and with the positions that the media would have."""
    return {
        "inputs_embeds": hidden,
        "attention_mask": inputs["attention_mask"],
        "position_ids": prompt_positions(model.model, inputs),
    }


def _loss(
    model: nn.Module, inputs: dict[str, torch.Tensor], labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean cross-entropy over the labelled tokens and the share greedy decoding hits."""
    first = int((labels != IGNORED).any(0).nonzero()[0])
    wanted = labels[:, first:]
    scores = model(**inputs, logits_to_keep=wanted.size(1) + 1).logits[:, :-1]
    loss = F.cross_entropy(scores.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)
    known = wanted != IGNORED
    return loss, (scores.argmax(-1) == wanted)[known].float().mean()


def _stream(
    rows: Sequence[Encoded], batch: int, rng: np.random.Generator
) -> Iterator[list[Encoded]]:
    """Yield batches of endless shuffled passes over the rows."""
    while True:
        order = rng.permutation(len(rows))
        for start in range(0, len(order) - batch + 1, batch):
            yield [rows[i] for i in order[start : start + batch]]


def _show(bar: tqdm, step: int, task: str = "", **numbers: torch.Tensor) -> None:
    if step % 20 == 0:
        bar.set_postfix_str(" ".join([task, *(f"{k} {float(v):.3f}" for k, v in numbers.items())]))
