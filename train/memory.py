"""Estimate the memory of a training on one device, by part, without weights and without a device.

A step is taken on torch's meta device, where tensors have shapes and no contents: its layout, its
layers, adapter and gradient checkpointing are those of the training, so the peak of what is alive
is counted, not modelled. Attention is taken to keep what flash attention keeps. Weights, gradients,
optimiser and cache follow from their sizes.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nontrivial.train import group_rows
from nontrivial.train.importance import TILE_ELEMENTS
from nontrivial.train.shared_prompt import backbone

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# TRL's fused head has one buffer of so many tokens × words. Torch operations, on a CPU, hold about
# seven float32 tensors more for as many of them as there are.
HEAD_TILE = (4096, 32768)
CPU_TILES = 7
BLOCKS = 3  # of TILE_ELEMENTS float32 logits that token weights hold at once
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Shape:
    """What is trained on at once on one device.

    groups      prompts in a micro-batch, or in a part of one
    rows        completions of each in it
    prompt      tokens of a prompt, of which `vision` are of media
    completion  tokens of a completion
    sampled     completions that are sampled at once; 0 in supervised training
    kept        bytes of features of media that are kept
    whole_logits  all logits are there at once, as in supervised training
    """

    groups: int
    rows: int
    prompt: int
    vision: int
    completion: int
    sampled: int = 0
    kept: int = 0
    whole_logits: bool = False

    @property
    def tokens(self) -> int:
        """Tokens that a forward pass reads."""
        return self.groups * (self.prompt - 1 + self.rows * self.completion)


@dataclass(frozen=True)
class Setting:
    """How it is trained: on how many devices, what they share, and in which numbers.

    half  type of autocast, or None
    """

    devices: int = 1
    sharded: bool = False
    half: torch.dtype | None = None
    fused_optimizer: bool = True
    weighted: bool = True
    on_cpu: bool = False


class Alive(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, and the most of them; not those of `known`."""

    def __init__(self, known: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: dict[int, Any] = {}
        self._known = [tensor.untyped_storage() for tensor in known]
        self._seen.update((id(storage), storage) for storage in self._known)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._seen:
            return

        def gone(_: Any) -> None:
            self._seen.pop(key, None)
            self.now -= size

        self._seen[key] = weakref.ref(storage, gone)
        self.now += size
        self.most = max(self.most, self.now)


def estimate(model: PreTrainedModel, shape: Shape, setting: Setting) -> dict[str, int]:
    """Return bytes by part; `model` is on the meta device, with its adapter, in train mode.

    `peak` is the most that is needed at once: in training or, if more, in sampling.
    """
    weights = _bytes(model.parameters())
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = _bytes(learned)
    # AdamW: two moments in float32, and a float32 copy of weights in half precision.
    optimiser = sum((8 if p.dtype == torch.float32 else 12) * p.numel() for p in learned)
    share = setting.devices if setting.sharded else 1
    parts = {
        "weights": weights // share,
        "optimiser": optimiser // share,
        "gradients": gradients // share,
    }
    if share > 1:
        parts["gathered layers"] = 2 * _largest_layer(model)
    elif setting.devices > 1:
        parts["exchange of gradients"] = gradients
    if shape.kept:
        parts["features kept"] = shape.kept
    if setting.half is not None:  # layers then compute in half precision, from copies of weights
        copies = [p for p in model.parameters() if p.dtype == torch.float32 and p.ndim > 1]
        parts["half-precision copies"] = _bytes(copies) // 2 // share
        model = copy.deepcopy(model).to(setting.half)
    always = sum(parts.values()) - parts["gradients"]
    step = {"activations": _activations(model, shape), "logits": _logits(model, shape, setting)}
    update = {} if setting.fused_optimizer else {"optimiser's step": gradients // share}
    training = parts["gradients"] + max(sum(step.values()), *update.values(), 0)
    sampling = _sampling(model, shape, setting) if shape.sampled else {}
    if sampling and share > 1:
        sampling["gathered weights"] = weights
    return {
        **parts,
        **step,
        **update,
        **sampling,
        "peak": always + max(training, sum(sampling.values())),
    }


@contextmanager
def flash_attention() -> Iterator[None]:
    """Let attention keep its inputs, its output and one number a query, as flash attention does."""
    plain = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = _attention
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = plain


def _activations(model: PreTrainedModel, shape: Shape) -> int:
    """Return the most bytes that a forward and a backward pass hold beside all gradients."""
    body = backbone(model)
    language = body.language_model
    dtype, width = next(language.parameters()).dtype, language.config.hidden_size
    learned = [p for p in model.parameters() if p.requires_grad]
    for parameter in learned:
        parameter.grad = torch.empty_like(parameter)
    known = [*model.parameters(), *model.buffers(), *(p.grad for p in learned)]
    kept_by_tower = _tower(body, shape) if _learns(body.visual) else 0
    with flash_attention(), torch.device("meta"), Alive(known) as alive:
        length = shape.tokens
        inputs = torch.empty(1, length, width, dtype=dtype, requires_grad=True)
        positions = torch.zeros(3, 1, length, dtype=torch.long)
        output = language(
            inputs_embeds=inputs,
            position_ids=positions,
            use_cache=False,
            group_rows=list(_groups(shape)),
        ).last_hidden_state
        output.backward(torch.empty_like(output))
    for parameter in learned:
        parameter.grad = None
    return alive.most + kept_by_tower


def _tower(body: Any, shape: Shape) -> int:
    """Return the bytes that a vision tower that learns keeps for its backward pass."""
    visual, config = body.visual, body.config.vision_config
    patches = shape.groups * shape.vision * config.spatial_merge_size**2
    block = visual.blocks[0]
    dtype = next(block.parameters()).dtype
    width = block.norm1.weight.shape[0]
    lengths = torch.tensor([0, patches])
    with flash_attention(), Alive([*block.parameters()]) as alive:
        inputs = torch.empty(patches, width, dtype=dtype, device="meta", requires_grad=True)
        angles = torch.empty(patches, width // config.num_heads, device="meta")
        output = block(inputs, cu_seqlens=lengths, position_embeddings=(angles, angles))
        output.backward(torch.empty_like(output))
    if visual.is_gradient_checkpointing:
        return alive.most + len(visual.blocks) * inputs.nbytes
    return alive.most * len(visual.blocks)


def _logits(model: PreTrainedModel, shape: Shape, setting: Setting) -> int:
    """Return the bytes of TRL's fused head, forward and backward."""
    head = model.get_output_embeddings().weight
    vocabulary, width = head.shape
    if shape.whole_logits:  # as they are, in float32, and their gradient
        return shape.tokens * vocabulary * (head.element_size() + 4 + 4)
    scored = shape.tokens if setting.on_cpu else shape.groups * shape.rows * shape.completion
    tokens, words = min(scored, HEAD_TILE[0]), min(vocabulary, HEAD_TILE[1])
    buffer = tokens * HEAD_TILE[1] * head.element_size()
    more = CPU_TILES * tokens * words * 4 if setting.on_cpu else 0
    of_weight = vocabulary * width * 4 if head.requires_grad else 0
    return buffer + more + scored * width * 4 + of_weight


def _sampling(model: PreTrainedModel, shape: Shape, setting: Setting) -> dict[str, int]:
    """Return the bytes of sampling: the cache, the prompts' forward pass, what weights need."""
    body = backbone(model)
    language = body.language_model
    config, dtype = language.config, next(language.parameters()).dtype
    heads = config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    of_token = 2 * config.num_hidden_layers * heads * size * dtype.itemsize
    length = shape.prompt + shape.completion
    prompts = max(1, shape.sampled // max(shape.rows, 1))
    known = [*model.parameters(), *model.buffers()]
    with torch.no_grad(), flash_attention(), torch.device("meta"), Alive(known) as alive:
        inputs = torch.empty(prompts, shape.prompt, config.hidden_size, dtype=dtype)
        positions = torch.zeros(3, prompts, shape.prompt, dtype=torch.long)
        language(inputs_embeds=inputs, position_ids=positions, use_cache=False)
    states = shape.sampled * shape.completion * config.hidden_size * dtype.itemsize
    weighted = states + BLOCKS * TILE_ELEMENTS * 4 if setting.weighted else 0
    return {
        # One layer's keys and values are copied when a token joins them.
        "KV cache": of_token
        * shape.sampled
        * length
        * (config.num_hidden_layers + 1)
        // config.num_hidden_layers,
        "prompts": alive.most,
        "token weights": weighted,
    }


def _groups(shape: Shape) -> Iterator[group_rows.Group]:
    """Yield where groups lie, as shapes alone."""
    rows, length, before = shape.rows, shape.completion, shape.prompt - 1
    for number in range(shape.groups):
        start = number * (before + rows * length)
        yield group_rows.Group(
            slice(start, start + before),
            torch.zeros(rows, length, dtype=torch.long),
            torch.zeros(rows * length, dtype=torch.long),
            torch.zeros(length, before + length, dtype=torch.bool),
        )


def _learns(module: torch.nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _largest_layer(model: PreTrainedModel) -> int:
    layers = backbone(model).language_model.layers
    return max(_bytes(layer.parameters()) for layer in layers)


def _bytes(tensors: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query)
        log_sum = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, log_sum)
        return output

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = ctx.saved_tensors[:3]
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    return _Attention.apply(query, key, value)
