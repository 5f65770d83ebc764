"""A task without pictures and a policy that half masters it: which of six sums are larger?

Each of six options compares a + b with c + d. The policy, a transformer of a third of a million
parameters, gives a verdict on each option and then copies the letters of the right ones. It is
trained on the spot, in minutes, until it decides `SKILL` of the options rightly. What a reward or a
token weighting does to such a policy shows within minutes, too.

    <think> A yes B no … F yes </think> <answer> A F </answer> <end>
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OPTIONS = 6
SKILL = 0.75
FOLLOWED = 0.95  # share of verdicts that answers repeat, before sums are learned
WIDTH, LAYERS, HEADS = 96, 3, 4

# Tokens: ten digits, six letters, then
FIRST_LETTER = 10
YES, NO, THINK, THOUGHT, ANSWER, ANSWERED, END, PAD, ASK = range(16, 25)
VOCABULARY = 25
PROMPT = OPTIONS * 5 + 1  # a letter and four digits for each option, then ASK
LONGEST = 2 * OPTIONS + OPTIONS + 5
LETTERS = torch.arange(OPTIONS) + FIRST_LETTER


def draw(count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return prompts (count, PROMPT) int64 and truths (count, OPTIONS) bool, one of them true."""
    digits = torch.randint(0, 10, (count, OPTIONS, 4), generator=rng)
    while True:
        left, right = digits[..., :2].sum(-1), digits[..., 2:].sum(-1)
        again = (left == right) | ~(left > right).any(1, keepdim=True)
        if not again.any():
            break
        fresh = torch.randint(0, 10, digits.shape, generator=rng)
        digits = torch.where(again[..., None], fresh, digits)
    named = LETTERS.view(1, OPTIONS, 1).expand(count, -1, -1)
    prompts = torch.cat([named, digits], 2).flatten(1)
    return torch.cat([prompts, torch.full((count, 1), ASK)], 1), left > right


def spelled(verdicts: Tensor, rng: torch.Generator, *, free_order: bool) -> Tensor:
    """Return the completions (B, LONGEST) that tell verdicts (B, OPTIONS), padded with PAD.

    With `free_order`, options are judged in an order drawn for each; letters are always in order.
    """
    rows, count = torch.arange(len(verdicts)), verdicts.sum(1)
    order = torch.arange(OPTIONS).expand(len(verdicts), -1)
    if free_order:
        order = torch.rand(len(verdicts), OPTIONS, generator=rng).argsort(1)
    out = torch.full((len(verdicts), LONGEST), PAD)
    out[:, 0] = THINK
    out[:, 1 : 1 + 2 * OPTIONS : 2] = order + FIRST_LETTER
    out[:, 2 : 2 + 2 * OPTIONS : 2] = torch.where(verdicts.gather(1, order), YES, NO)
    out[:, 1 + 2 * OPTIONS], out[:, 2 + 2 * OPTIONS] = THOUGHT, ANSWER
    start = 3 + 2 * OPTIONS
    right_first = torch.argsort((~verdicts).int(), dim=1, stable=True) + FIRST_LETTER
    is_told = torch.arange(OPTIONS) < count[:, None]
    out[:, start : start + OPTIONS] = torch.where(is_told, right_first, PAD)
    out[rows, start + count], out[rows, start + count + 1] = ANSWERED, END
    return out


def answered(completions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the letters told (B, OPTIONS) bool, and which completions have the form (B,) bool."""
    opened = (completions == ANSWER).cumsum(1) > 0
    inside = opened & ((completions == ANSWERED).cumsum(1) == 0)
    told = ((completions[..., None] == LETTERS) & inside[..., None]).any(1)
    once = [(completions == tag).sum(1) == 1 for tag in (ANSWER, ANSWERED)]
    return told, once[0] & once[1] & (completions == END).any(1) & told.any(1)


class Block(nn.Module):
    """One layer: attention, then a two-layer network."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor, cache: list[Tensor] | None = None) -> Tensor:
        """Return states (B, T, WIDTH); keys and values are added to `cache`."""
        rows, length, _ = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(rows, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            cache[:] = [k, v]
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
        x = x + self.out(seen.transpose(1, 2).reshape(rows, length, WIDTH))
        return x + self.mlp(self.norms[1](x))


class SumsPolicy(nn.Module):
    """A transformer over the tokens of the task."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.places = nn.Embedding(PROMPT + LONGEST, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=0.05)

    def states(
        self, tokens: Tensor, caches: list[list[Tensor]] | None = None, at: int = 0
    ) -> Tensor:
        """Return the states (B, T, WIDTH) of tokens (B, T), of which the first has place `at`."""
        x = self.tokens(tokens) + self.places.weight[at : at + tokens.shape[1]]
        for number, block in enumerate(self.blocks):
            x = block(x, caches[number] if caches else None)
        return self.norm(x)

    def log_probs(self, prompts: Tensor, completions: Tensor) -> Tensor:
        """Return the log-probabilities (B, T) of completions (B, T)."""
        both = torch.cat([prompts, completions], 1)[:, :-1]
        scores = self.head(self.states(both)[:, PROMPT - 1 :]).log_softmax(-1)
        return scores.gather(2, completions[..., None])[..., 0]


@dataclass
class Sampled:
    """Completions (B, T) int64, their mask (B, T) bool, and the states (B, T, H) before them."""

    completions: Tensor
    mask: Tensor
    hidden: Tensor


@torch.no_grad()
def sample(
    policy: SumsPolicy, prompts: Tensor, rng: torch.Generator, *, greedy: bool = False
) -> Sampled:
    """Complete prompts (B, PROMPT) at temperature 1, or greedily."""
    caches: list[list[Tensor]] = [[] for _ in policy.blocks]
    state, done = policy.states(prompts, caches)[:, -1:], torch.zeros(len(prompts), dtype=bool)
    tokens, states = [], []
    for place in range(LONGEST):
        states.append(state)
        scores = policy.head(state)[:, 0]
        drawn = torch.multinomial(scores.softmax(-1), 1, generator=rng)[:, 0]
        token = torch.where(done, PAD, scores.argmax(-1) if greedy else drawn)
        tokens.append(token)
        done = done | (token == END)
        if done.all():
            break
        state = policy.states(token[:, None], caches, PROMPT + place)
    completions = torch.stack(tokens, 1)
    return Sampled(completions, completions != PAD, torch.cat(states, 1))


def followed(completions: Tensor) -> float:
    """Return the share of verdicts in completions (B, T) that their answers repeat."""
    told, _ = answered(completions)
    named = (completions[:, :-1] - FIRST_LETTER).clip(0, OPTIONS - 1)
    verdicts = completions[:, 1:]
    is_verdict = (verdicts == YES) | (verdicts == NO)
    return float((told.gather(1, named) == (verdicts == YES))[is_verdict].float().mean())


def trained(seed: int, *, free_order: bool, skill: float = SKILL) -> tuple[SumsPolicy, float]:
    """Return a policy that decides at least `skill` of the options rightly, and how many it does.

    It learns the form first, from verdicts drawn at random, until its answers repeat its verdicts,
    then the sums. Every 25 steps its answers to 400 prompts of their own are looked at: sampled
    ones for the form, as greedy ones may choose nothing at all, and greedy ones for the skill.
    """
    rng = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    policy = SumsPolicy()
    optimiser = torch.optim.AdamW(policy.parameters(), 1e-3, weight_decay=0.01)
    asked, truths = draw(400, torch.Generator().manual_seed(99))
    step, has_form, reached = 0, False, 0.0
    while reached < skill:
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 50)
        prompts, verdicts = draw(64, rng)
        if not has_form:
            verdicts = torch.rand(verdicts.shape, generator=rng) < 0.5
        completions = spelled(verdicts, rng, free_order=free_order)
        log_probs, mask = policy.log_probs(prompts, completions), completions != PAD
        optimiser.zero_grad()
        (-(log_probs * mask).sum() / mask.sum()).backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 25 == 0:
            completions = sample(policy, asked, rng, greedy=has_form).completions
            if has_form:
                reached = float((answered(completions)[0] == truths).float().mean())
            has_form = has_form or followed(completions) >= FOLLOWED
    return policy, reached
