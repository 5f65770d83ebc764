"""Meter: does a reward or a token weighting bring one batch's gradient nearer to that of many?

  python -m benchmarks.gradients MANIFEST… [--batches 24] [options of train.grpo]
  python -m benchmarks.gradients --sums    # a text task and a policy that is made on the spot

A training step follows the gradient of one batch of groups, in place of the gradient of them all. A
weighting is worth something if it brings the first nearer to the second: that shows in minutes,
where training runs that could tell would need dozens of seeds.

Batches of groups are sampled from one policy, which stays as it is. Each arm turns the same groups
into a gradient of its own. Its cosine to the sum of all other batches' unweighted gradients is
compared with that of the unweighted batch; the signal-to-noise ratio is that of its own gradient,
|mean|² over the variance of a batch. Intervals are two standard errors over batches, paired for
differences, by the jackknife for ratios. Beside it: how much of the weight lies on which tokens.

Any policy will do; with `--use_peft` only the adapter's gradients are taken. Gradients of more than
`DIMENSIONS` numbers are sketched: each number is added, with a random sign, to one of so many.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.command import guard, option, parse, table
from nontrivial.manifests.errors import BadInput
from nontrivial.train import launch, options

if TYPE_CHECKING:
    import numpy as np
    import torch
    from matplotlib.axes import Axes
    from torch import Tensor

    from nontrivial.train.credit import Verdicts

DIMENSIONS = 1 << 21
SOFT, STRICT = "soft_accuracy", "exact_accuracy"
REWARDS = (SOFT, STRICT, "per_option", "balanced_options")
FORMAT = 0.5  # weight of the format reward, which every arm adds
ALPHA = 1.7
SHARE = 1.0  # of virtual rewards (train.virtual_rewards): a smaller one has less of the same effect
PRIOR = 2.0  # members that the mean of the group counts as, beside those that share a prefix
TOP = 0.2  # share of tokens that the arm "top entropy" keeps


@dataclass
class SumsOptions:
    """Options of `python -m benchmarks.gradients --sums`."""

    sums: bool = option("measure on the text task", default=True)
    batches: int = option("batches of 16 groups of 8", default=24)
    seeds: int = option("policies, each made from its own seed", default=2)
    skill: float = option("share of options that a policy decides rightly", default=0.75)
    out: str = option("file for all numbers", default="runs/gradients/sums.json")
    picture: str = option("file of the picture", default="docs/gradients_sums.png")


@dataclass
class MeterOptions(options.RewardOptions, options.RunOptions):
    """Options of the meter beside those of `train.grpo`."""

    batches: int = options.option(24, "Batches of groups.")
    out: str = options.option("runs/gradients/gradients.json", "File for all numbers.")
    picture: str = options.option("docs/gradients.png", "File of the picture.")


@dataclass
class MeterHelp(MeterOptions, options.DataOptions, options.TrainingOptions):
    """The options that `--help` shows."""


@dataclass
class Groups:
    """N groups of G completions, and what an arm may look at.

    tokens     (N, G, T) int64, and `mask` (N, G, T) bool where a completion has one
    hidden     (N, G, T, H), the states that predicted them
    blind      the same of prompts without media, or None
    head       its weight (V, H) and its bias (V,) or None
    rewards    (N, G) float32 by name, the format reward's part added
    kinds      (N, G, T) bool by name
    about      (N, G, T) int64: the option that a token of the reasons is about, −1 for none
    verdicts   what answers choose of the options, and what is right
    formed     (N, G) float32, the format reward's part of each reward
    log_probs  a function that returns them, (N, G, T), with gradient
    """

    tokens: Tensor
    mask: Tensor
    hidden: Tensor
    blind: Tensor | None
    head: tuple[Tensor, Tensor | None]
    rewards: Mapping[str, Tensor]
    kinds: Mapping[str, Tensor]
    about: Tensor
    verdicts: Verdicts
    formed: Tensor
    log_probs: Callable[[], Tensor]
    temperature: float = 1.0

    @cached_property
    def entropy(self) -> Tensor:
        """The entropy of each prediction (N, G, T), which several arms look at."""
        return entropies(self)


Arm = Callable[[Groups, "Tensor"], "Tensor"]  # groups and rewards (N, G) -> advantages (N, G, T)
OfReward = Callable[[str, Groups], "Tensor"]  # a reward's name and groups -> advantages (N, G, T)


@dataclass(frozen=True)
class Line:
    """What the meter says of one arm; `error` is two standard errors."""

    arm: str
    cosine: float
    difference: float
    difference_error: float
    snr: float
    snr_error: float
    weight: Mapping[str, float]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "--sums" in words:
        words.remove("--sums")
        name = "benchmarks.gradients --sums"
        return guard(run_sums, parse(SumsOptions, words, prog=name, description=__doc__))
    return launch.main(words, run, MeterHelp, prog="benchmarks.gradients", doc=__doc__)


def run(words: Sequence[str]) -> None:
    """Measure a policy on manifests."""
    from nontrivial.train.config import EMBEDDED_GRPO, TokenWeightedGRPOConfig

    job = launch.prepare(
        [*words, "--token_weighting", "divergence", "--sample_every", "0", "--report_to", "none"],
        MeterOptions,
        TokenWeightedGRPOConfig,
        prog="benchmarks.gradients",
        embedded=EMBEDDED_GRPO,
    )
    if job.script.batches < 3:
        raise BadInput(f"--batches {job.script.batches}: needs 3 or more")
    parameters, batches = of_policy(job)
    told = [*measured(batches, parameters, job.script.batches)]
    report({"": told}, Path(job.script.out), Path(job.script.picture))


def run_sums(options: SumsOptions) -> None:
    """Measure policies of the text task, whose options are judged in order, or in any order."""
    from benchmarks import sums

    found = {}
    for free in (False, True):
        for seed in range(options.seeds):
            policy, skill = sums.trained(seed, free_order=free, skill=options.skill)
            title = f"{'free' if free else 'fixed'} order, policy {seed + 1}, skill {skill:.2f}"
            batches = of_sums(policy, seed)
            found[title] = measured(batches, list(policy.parameters()), options.batches)
    report(found, Path(options.out), Path(options.picture))


# Arms


def centred(rewards: Tensor) -> Tensor:
    """Return GRPO's advantages (N, G), not divided by the deviation of a group."""
    return rewards - rewards.mean(1, keepdim=True)


def weighted(measure: str) -> Arm:
    """Return the arm of one of `train.importance`'s measures."""

    def arm(groups: Groups, rewards: Tensor) -> Tensor:
        from nontrivial.train.importance import token_weights

        weights, _ = token_weights(
            groups.hidden,
            groups.mask,
            *groups.head,
            measure=measure,
            alpha=ALPHA,
            temperature=groups.temperature,
            blind=groups.blind if measure == "visual" else None,
        )
        return centred(rewards)[..., None] * weights[:, None]

    return arm


def unweighted(groups: Groups, rewards: Tensor) -> Tensor:
    """Weight all tokens alike."""
    return centred(rewards)[..., None].expand(groups.mask.shape)


def top_entropy(groups: Groups, rewards: Tensor) -> Tensor:
    """Keep the fifth of all tokens that were predicted with the most entropy (arXiv 2506.01939)."""
    entropy = groups.entropy
    least = entropy[groups.mask].quantile(1 - TOP)
    return centred(rewards)[..., None] * (entropy >= least)


def own_entropy(groups: Groups, rewards: Tensor) -> Tensor:
    """Weight by the entropy of a member's own prediction, scaled as the group's weights are."""
    return unweighted(groups, rewards) * entropy_weights(groups)


def branches(groups: Groups, rewards: Tensor) -> Tensor:
    """Compare each token with what others earned who wrote the same up to it.

    The baseline of a token is the mean reward of the other members with the same prefix, to which
    the other members' mean is added as `PRIOR` more of them. It does not depend on the token, so
    the gradient's mean stays the same; what the prefix has decided already is taken out.
    """
    import torch

    tokens = groups.tokens
    members = rewards.shape[1]
    same = (1 - torch.eye(members, device=rewards.device)).expand(len(tokens), -1, -1).clone()
    others = (rewards.sum(1, keepdim=True) - rewards) / (members - 1)
    advantages = torch.empty(groups.mask.shape, device=rewards.device)
    for place in range(tokens.shape[2]):
        earned = (same * rewards[:, None]).sum(2) + PRIOR * others
        advantages[:, :, place] = rewards - earned / (same.sum(2) + PRIOR)
        here = tokens[:, :, place]
        same *= here[:, :, None] == here[:, None]
    return advantages


def decisions(groups: Groups, rewards: Tensor) -> Tensor:
    """`branches`, with tokens weighted by the entropy of their own prediction."""
    return branches(groups, rewards) * entropy_weights(groups)


def by_option(reward: str, groups: Groups) -> Tensor:
    """Credit words about an option with what its verdict changed (train.credit)."""
    from nontrivial.train import credit

    own = credit.of_each_option(credit.SCORES[reward], groups.verdicts)
    own += centred(groups.formed)[..., None]
    whole = centred(groups.rewards[reward])
    return credit.by_option(own, whole, groups.about, groups.verdicts)


def with_virtual(which: str, reward: str, groups: Groups) -> Tensor:
    """Move groups that are all right, or all wrong, to a virtual reward (train.virtual_rewards)."""
    from nontrivial.train import virtual_rewards

    rewards = groups.rewards[reward]
    earned = {reward: rewards - groups.formed, virtual_rewards.FORMAT: groups.formed / FORMAT}
    outcome = virtual_rewards.Outcome.read(earned, {reward: 1.0, virtual_rewards.FORMAT: FORMAT})
    shares = virtual_rewards.Shares(SHARE * (which == "right"), SHARE * (which == "wrong"))
    moved = virtual_rewards.corrected(centred(rewards), outcome, shares, scaled=False)
    return moved[..., None].expand(groups.mask.shape)


WEIGHTINGS: dict[str, Arm] = {
    "none": unweighted,
    "divergence": weighted("divergence"),
    "official": weighted("official"),
    "geometric": weighted("geometric"),
    "entropy": weighted("entropy"),
    "own entropy": own_entropy,
    "top entropy": top_entropy,
    "visual": weighted("visual"),
    "branches": branches,
    "decisions": decisions,
}

ADVANTAGES: dict[str, OfReward] = {
    "by option": by_option,
    "all right": partial(with_virtual, "right"),
    "all wrong": partial(with_virtual, "wrong"),
}


def entropies(groups: Groups, at_once: int = 4096) -> Tensor:
    """Return the entropy (N, G, T) of each prediction, in nats; 0 where there is no token."""
    import torch
    from torch.nn.functional import linear

    weight, bias = groups.head
    flat = groups.hidden.flatten(0, 2)
    found = []
    for states in flat.split(at_once):
        log_p = (linear(states.float(), weight.float(), bias) / groups.temperature).log_softmax(-1)
        found.append(-(log_p.exp() * log_p).sum(-1))
    return torch.cat(found).view(groups.mask.shape) * groups.mask


def entropy_weights(groups: Groups) -> Tensor:
    """Return the entropy of each prediction, scaled to weights (N, G, T) within its completion."""
    from nontrivial.train.importance import scale_to_alpha

    scaled = scale_to_alpha(groups.entropy.flatten(0, 1), groups.mask.flatten(0, 1), ALPHA)
    return scaled.view(groups.mask.shape)


# The meter


def measured(
    batches: Iterator[Groups], parameters: Sequence[torch.nn.Parameter], count: int
) -> list[list[Line]]:
    """Return the lines of weightings, of rewards and of advantages, over `count` batches."""
    import numpy as np
    import torch
    from tqdm import tqdm

    arms: list[tuple[str, str]] = []
    gradients, weights = [], []
    sketch = Sketch(sum(p.numel() for p in parameters), DIMENSIONS)
    for groups in tqdm((next(batches) for _ in range(count)), "batches", total=count):
        seen = groups.blind is not None  # else there are no media to leave out
        arms = [(SOFT, name) for name in WEIGHTINGS if seen or name != "visual"]
        arms += [(reward, "none") for reward in REWARDS[1:]]
        arms += [(reward, name) for name in ADVANTAGES for reward in REWARDS]
        log_probs = groups.log_probs()
        rows, told = [], {}
        for reward, name in arms:
            with torch.no_grad():
                if name in ADVANTAGES:
                    advantages = ADVANTAGES[name](reward, groups) * groups.mask
                else:
                    advantages = WEIGHTINGS[name](groups, groups.rewards[reward]) * groups.mask
            loss = -(advantages * log_probs).sum() / groups.mask.sum()
            parts = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            rows.append(sketch(parts, parameters))
            told[reward, name] = where(advantages, groups)
        gradients.append(torch.stack(rows))
        weights.append(told)
    stacked = torch.stack(gradients, 1).flatten(0, 1)  # arm by arm
    gram = (stacked @ stacked.T).double().cpu().numpy().reshape(len(arms), count, len(arms), count)
    shares = [
        {kind: float(np.nanmean([told[arm][kind] for told in weights])) for kind in weights[0][arm]}
        for arm in arms
    ]
    whole = {reward: arms.index((reward, "none")) for reward in REWARDS}
    of_weights = [k for k, arm in enumerate(arms) if arm[0] == SOFT and arm[1] in WEIGHTINGS]
    of_rewards = [k for k, arm in enumerate(arms) if arm[1] == "none"]
    others = [k for k, (_, name) in enumerate(arms) if name in ADVANTAGES]
    return [
        [line(gram, k, whole[SOFT], arms[k][1], shares[k]) for k in of_weights],
        [line(gram, k, whole[STRICT], arms[k][0], shares[k]) for k in of_rewards],
        [line(gram, k, whole[arms[k][0]], ", ".join(arms[k]), shares[k]) for k in others],
    ]


def line(gram: np.ndarray, arm: int, target: int, name: str, weight: Mapping[str, float]) -> Line:
    """Compare an arm's batches with the other batches of `target`; gram (A, n, A, n)."""
    import numpy as np

    cosine = cosines(gram, arm, target)
    difference = cosine - cosines(gram, target, target)
    snr, error = signal_to_noise(gram[arm, :, arm])
    return Line(
        arm=name,
        cosine=float(cosine.mean()),
        difference=float(difference.mean()),
        difference_error=float(2 * difference.std(ddof=1) / np.sqrt(len(difference))),
        snr=snr,
        snr_error=error,
        weight=weight,
    )


def cosines(gram: np.ndarray, arm: int, target: int) -> np.ndarray:
    """Return the cosine (n,) of each of an arm's gradients to the sum of the target's others."""
    import numpy as np

    across, within = gram[arm, :, target], gram[target, :, target]
    to_others = across.sum(1) - np.diag(across)
    own = np.diag(gram[arm, :, arm])
    others = within.sum() - 2 * within.sum(1) + np.diag(within)
    return to_others / np.sqrt(own * others).clip(1e-30)


def signal_to_noise(within: np.ndarray) -> tuple[float, float]:
    """Return |mean|² over the variance of one batch, without bias, and two standard errors.

    `within` (n, n) holds the inner products of the batches' gradients.
    """
    import numpy as np

    def ratio(products: np.ndarray) -> float:
        n = len(products)
        squares = np.trace(products)
        signal = (products.sum() - squares) / (n * (n - 1))
        return float(signal / (squares / n - signal))

    n = len(within)
    left_out = [ratio(np.delete(np.delete(within, k, 0), k, 1)) for k in range(n)]
    error = 2 * np.sqrt((n - 1) / n * np.square(left_out - np.mean(left_out)).sum())
    return ratio(within), float(error)


def where(advantages: Tensor, groups: Groups) -> dict[str, float]:
    """Return the mean weight of each kind of token, relative to that of all tokens."""
    size = advantages.abs()
    mean = size[groups.mask].mean()
    return {
        kind: float(size[which & groups.mask].mean() / mean) for kind, which in groups.kinds.items()
    }


class Sketch:
    """Gradients as vectors of at most `limit` numbers, with nearly the same inner products."""

    def __init__(self, size: int, limit: int) -> None:
        self.size, self.limit = size, limit

    def __call__(
        self, parts: Sequence[Tensor | None], parameters: Sequence[torch.nn.Parameter]
    ) -> Tensor:
        """Return one vector, float32, of the gradients of `parameters`."""
        import torch

        device = parameters[0].device
        if self.size <= self.limit:
            return torch.cat(
                [
                    (torch.zeros_like(p) if part is None else part).flatten().float()
                    for part, p in zip(parts, parameters, strict=True)
                ]
            )
        rng = torch.Generator(device).manual_seed(0)
        out = torch.zeros(self.limit, device=device)
        for part, parameter in zip(parts, parameters, strict=True):
            drawn = torch.randint(
                0, 2 * self.limit, (parameter.numel(),), generator=rng, device=device
            )
            if part is not None:
                signs = 1 - 2 * (drawn % 2).float()
                out.index_add_(0, drawn // 2, part.flatten().float() * signs)
        return out


# Where groups come from


def of_sums(policy: Any, seed: int, prompts: int = 16, members: int = 8) -> Iterator[Groups]:
    """Yield groups of the text task."""
    import torch

    from benchmarks import sums
    from nontrivial.train.credit import SCORES, Verdicts

    rng = torch.Generator().manual_seed(1000 + seed)
    while True:
        asked, truths = sums.draw(prompts, rng)
        rows = asked.repeat_interleave(members, 0)
        sampled = sums.sample(policy, rows, rng)
        told, formed = sums.answered(sampled.completions)
        chosen = (told & formed[:, None]).view(prompts, members, -1)
        verdicts = Verdicts(chosen, truths, torch.ones_like(truths))
        form = FORMAT * formed.float().view(prompts, members)
        shape = (prompts, members, -1)
        tokens = sampled.completions
        verdict = (tokens == sums.YES) | (tokens == sums.NO)
        letter = (tokens >= sums.FIRST_LETTER) & (tokens < sums.YES)
        copied = letter & ((tokens == sums.THOUGHT).cumsum(1) > 0)
        kinds = {"names": letter & ~copied, "verdicts": verdict, "copied": copied}
        named = (letter * (tokens - sums.FIRST_LETTER + 1)).roll(1, 1) - 1
        about = named.where(verdict, -1)
        yield Groups(
            tokens=tokens.view(shape),
            mask=sampled.mask.view(shape),
            hidden=sampled.hidden.view(*shape[:2], *sampled.hidden.shape[1:]),
            blind=None,
            head=(policy.head.weight.detach(), None),
            rewards={name: verdicts.earned(score) + form for name, score in SCORES.items()},
            kinds={kind: found.view(shape) for kind, found in kinds.items()},
            about=about.view(shape),
            verdicts=verdicts,
            formed=form,
            log_probs=partial(_log_probs, policy, rows, tokens, shape),
        )


def _log_probs(policy: Any, rows: Tensor, tokens: Tensor, shape: tuple[int, ...]) -> Tensor:
    return policy.log_probs(rows, tokens).view(shape)


def of_policy(job: launch.Job) -> tuple[list[torch.nn.Parameter], Iterator[Groups]]:
    """Return the trained parameters of a policy, and its groups about the rows of manifests."""
    from nontrivial.train.grpo import build_trainer
    from nontrivial.train.trainer import TokenWeightedGRPOTrainer

    class Meter(TokenWeightedGRPOTrainer):
        """A trainer that only samples, and keeps the states that predicted what it sampled."""

        def shaped(self, batch: Any, flight: Any) -> Any:
            return batch | {"hidden": flight.hidden}

    meter = build_trainer(job, Meter)
    parameters = [p for p in meter.model.parameters() if p.requires_grad]
    return parameters, groups_of(meter, job)


def groups_of(meter: Any, job: launch.Job) -> Iterator[Groups]:
    """Yield what a trainer samples, batch by batch, about rows in a shuffled order."""
    import torch

    from nontrivial.train.credit import Verdicts, options_told
    from nontrivial.train.head import head_without
    from nontrivial.train.rewards import REWARDS as KNOWN
    from nontrivial.train.rewards import find_rewards

    members, style = meter.num_generations, job.args.prompt
    prompts = job.args.generation_batch_size // members
    rng = torch.Generator().manual_seed(job.args.seed)
    [form] = find_rewards(["format"], style=style)
    order: list[int] = []
    while True:
        if len(order) < prompts:
            order = torch.randperm(len(meter._samples), generator=rng).tolist()
        chosen, order = order[:prompts], order[prompts:]
        rows = [row for row in chosen for _ in range(members)]
        batch = meter.rollout(rows)
        tokens, mask = batch["completion_ids"], batch["completion_mask"].bool()
        length = min(batch["hidden"].shape[1], tokens.shape[1])
        tokens, mask, hidden = tokens[:, :length], mask[:, :length], batch["hidden"][:, :length]
        texts = meter._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        about = [meter._samples[row] for row in rows]
        asked = {name: [row[name] for row in about] for name in ("answer", "options")}
        of_rows = partial(torch.tensor, device=tokens.device)
        formed = FORMAT * of_rows(form(completions=texts, **asked)).view(prompts, members)
        pieces = [meter._texts(row) for row in tokens.tolist()]
        counts = map(len, asked["options"])
        verdicts = Verdicts.read(texts, asked["options"], asked["answer"], members)
        shape = (prompts, members, length)
        blind = meter._hidden_of_forward(
            {"completion_ids": tokens, "completion_mask": mask.long()},
            without_media(batch["prompts"], meter),
        )
        head = head_without(meter.accelerator.unwrap_model(meter.model), meter._vision_tokens)

        yield Groups(
            tokens=tokens.view(shape),
            mask=mask.view(shape),
            hidden=hidden.view(*shape, -1),
            blind=blind.view(*shape, -1),
            head=(head.weight.detach(), None if head.bias is None else head.bias.detach()),
            rewards={
                name: of_rows(KNOWN[name](completions=texts, **asked)).view_as(formed) + formed
                for name in REWARDS
            },
            kinds=kinds_of(pieces, shape, tokens.device),
            about=of_rows(list(map(options_told, pieces, counts))).view(shape),
            verdicts=verdicts.to(tokens.device),
            formed=formed,
            log_probs=partial(_learning, meter, batch["prompts"], tokens, mask.long(), shape),
            temperature=meter.temperature,
        )


def _learning(
    meter: Any, prompts: Any, tokens: Tensor, mask: Tensor, shape: tuple[int, ...]
) -> Tensor:
    """Return the log-probabilities of completions, with gradient."""
    with meter._in_flight(prompts):
        found, _, _ = meter._get_per_token_logps_and_entropies(
            meter.model, tokens, mask, tokens.shape[1]
        )
    return found.view(shape)


def without_media(prompts: Sequence[Any], meter: Any) -> list[Any]:
    """Return prompts without their media; equal objects stay one object."""
    import torch

    from nontrivial.models.positions import prompt_positions
    from nontrivial.train import shared_prompt

    body = shared_prompt.backbone(meter.model)
    left_out = torch.tensor(meter._vision_tokens)
    made: dict[int, Any] = {}
    for prompt in prompts:
        if id(prompt) not in made:
            ids = prompt["input_ids"]
            ids = ids[:, ~torch.isin(ids[0], left_out.to(ids.device))]
            text = {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "mm_token_type_ids": torch.zeros_like(ids),
            }
            made[id(prompt)] = text | {"position_ids": prompt_positions(body, text)}
    return [made[id(prompt)] for prompt in prompts]


def kinds_of(
    pieces: Sequence[Sequence[str]], shape: tuple[int, ...], device: Any
) -> dict[str, Tensor]:
    """Mark the first word, verdicts and other words of reasons, and answers."""
    import torch

    from nontrivial.train.journal import spans

    marks = {
        name: torch.zeros(len(pieces), shape[-1], dtype=torch.bool, device=device)
        for name in ("first word", "verdicts", "other reasons", "answers")
    }
    verdicts = {"yes", "no", "same", "differ", "true", "false", "right", "wrong"}
    for row, texts in enumerate(pieces):
        inside = spans(texts)
        for number, place in enumerate(inside["think"]):
            word = texts[place].strip(" ;.,:\n").lower()
            kind = "verdicts" if word in verdicts else "other reasons"
            marks["first word" if number == 0 else kind][row, place] = True
        for place in inside["answer"]:
            marks["answers"][row, place] = True
    return {name: found.view(shape) for name, found in marks.items()}


# What is told


def report(found: Mapping[str, Sequence[Sequence[Line]]], out: Path, picture: Path) -> None:
    """Print a table of weightings and one of rewards for each policy; write numbers and picture."""
    for title, (weightings, rewards, advantages) in found.items():
        kinds = list(weightings[0].weight)
        print(f"\n{title or 'token weights'}: cosine to the unweighted gradient of other batches\n")
        header = ("weights", "cosine", "minus none", "SNR", *kinds)
        print(table([cells(line, kinds) for line in weightings], header=header))
        print("\nrewards: cosine to the strict reward's gradient of other batches\n")
        header = ("reward", "cosine", "minus strict", "SNR")
        print(table([cells(line, ()) for line in rewards], header=header))
        print(
            "\nadvantages: cosine to the gradient of other batches with the same reward as it is\n"
        )
        header = ("reward, advantage", "cosine", "minus the reward's", "SNR")
        print(table([cells(line, ()) for line in advantages], header=header))
    out.parent.mkdir(parents=True, exist_ok=True)
    told = {
        title: [[asdict(line) for line in part] for part in parts] for title, parts in found.items()
    }
    out.write_text(json.dumps(told, indent=1), encoding="utf-8")
    draw(found, picture)
    print(f"\nall numbers: {out}\npicture: {picture}")


def cells(line: Line, kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the texts of a row."""
    return (
        line.arm,
        f"{line.cosine:.3f}",
        f"{line.difference:+.3f} ± {line.difference_error:.3f}",
        f"{line.snr:.3f} ± {line.snr_error:.3f}",
        *(f"{line.weight[kind]:.2f}" for kind in kinds),
    )


def draw(found: Mapping[str, Sequence[Sequence[Line]]], picture: Path) -> None:
    """Draw the difference of each arm to its target, with its interval."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    titles = (
        "token weights: cosine minus that of none",
        "rewards: cosine minus that of strict",
        "advantages: cosine minus that of the reward as it is",
    )
    for number, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        for shift, (name, parts) in enumerate(found.items()):
            lines = parts[number]
            told = [(line.difference, line.difference_error) for line in lines]
            draw_differences(axes, told, shift / len(found), label=name or None)
        label_differences(axes, [line.arm for line in lines], title)
    if any(found):
        panels[0].legend(fontsize="x-small")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=140)
    plt.close(figure)


def draw_differences(
    axes: Axes, told: Sequence[tuple[float, float]], shift: float, **style: Any
) -> None:
    """Draw differences and half their intervals below each other; `shift` below 1 parts series."""
    means, halves = zip(*told, strict=True)
    places = [k + 0.8 * shift for k in range(len(told))]
    axes.errorbar(means, places, xerr=halves, fmt="o", capsize=3, **style)


def label_differences(axes: Axes, names: Sequence[str], title: str) -> None:
    """Name the rows of drawn differences, the first on top, and mark where there is none."""
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(0, color="grey", linewidth=1)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(main())
