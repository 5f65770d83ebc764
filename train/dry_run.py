"""Say what a training would do, and what memory it would need, up to its first step.

Configuration, manifests and media are read as usual, and the longest prompts are encoded. The
policy is made without weights, so its configuration and processor are enough.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from nontrivial.manifests.command import say, table
from nontrivial.manifests.prompts import target_text
from nontrivial.models.policy import (
    empty_policy,
    freeze_vision,
    load_processor,
    locate,
    vision_token_ids,
)
from nontrivial.train.data import PromptEncoder
from nontrivial.train.group_rows import PLAIN, accept_group_rows
from nontrivial.train.memory import Setting, Shape, estimate
from nontrivial.train.rows import Sample
from nontrivial.train.shared_prompt import backbone

if TYPE_CHECKING:
    from nontrivial.train.launch import Job

ENCODED = 32  # prompts that are encoded to find the longest


def report(job: Job) -> None:
    """Print the effective settings and the estimated memory of one device."""
    args, script = job.args, job.script
    name = locate(job.model_args.model_name_or_path)
    model = prepared(job, name)
    processor = load_processor(name)
    prompt, vision, target = longest(job, model, processor)
    devices = script.devices or args.world_size
    sharded = devices > 1 and (script.sharded or bool(args.fsdp or args.deepspeed))
    shape = shape_of(job, model, prompt, vision, target, sharded=sharded)
    half = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    setting = Setting(
        devices=devices,
        sharded=sharded,
        half=half,
        fused_optimizer="fused" in str(args.optim),
        weighted=getattr(args, "token_weighting", "none") != "none",
        on_cpu=not script.devices and not torch.accelerator.is_available(),
    )
    numbers = [parameter.numel() for parameter in model.parameters()]
    trained = [p.numel() for p in model.parameters() if p.requires_grad]
    types = sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters()})
    say(
        table(
            [
                ("policy", f"{job.model_args.model_name_or_path}, {' and '.join(types)}"),
                ("parameters", f"{sum(numbers):,}, {sum(trained):,} of them trained"),
                ("longest prompt", f"{prompt} tokens, {vision} of them of media"),
                ("a step", a_step(job)),
                ("steps", steps(job, devices)),
                (
                    "devices",
                    f"{devices}, {'which share the weights' if sharded else 'one policy each'}",
                ),
            ]
        )
    )
    parts = estimate(model, shape, setting)
    peak = parts.pop("peak")
    rows = [(part, f"{size / 2**30:.2f}") for part, size in parts.items() if size]
    say("\nmemory of a device, GiB; an estimate")
    say(table([*rows, ("most at once", f"{peak / 2**30:.2f}")]))
    if torch.cuda.is_available():
        room = torch.cuda.get_device_properties(0).total_memory
        verdict = "fits" if peak < 0.95 * room else "does not fit"
        say(f"this GPU has {room / 2**30:.0f} GiB: it {verdict}")


def prepared(job: Job, name: str) -> Any:
    """Return the policy on the meta device as it is trained: frozen parts, adapter, checkpoints."""
    from peft import get_peft_model
    from trl import get_peft_config

    model = empty_policy(name, dtype=job.model_args.dtype)
    if job.args.freeze_vision:
        freeze_vision(model)
    accept_group_rows(model)
    adapter = get_peft_config(job.model_args)
    if adapter is not None:
        model = get_peft_model(model, adapter)
    model.train()
    if job.args.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def longest(job: Job, model: Any, processor: Any) -> tuple[int, int, int]:
    """Return tokens of the longest prompt, of its media, and of the longest target.

    Of all samples those with the most media and words are encoded, and some at equal distances.
    """

    def size(row: Sample) -> tuple[int, int]:
        words = len(row.get("question") or "") + sum(map(len, row.get("options") or []))
        return len(row["videos"] or []) + len(row["images"] or []), words

    rows = job.samples.rows
    largest = sorted(rows, key=size, reverse=True)[: ENCODED // 2]
    spread = rows[:: max(1, len(rows) // (ENCODED // 2))][: ENCODED // 2]
    room = model.config.get_text_config().max_position_embeddings
    encode = PromptEncoder(processor, backbone(model), job.args, longest=room)
    media = torch.tensor(vision_token_ids(model))
    found = []
    for row in [*largest, *spread]:
        ids = encode([row])[0]["input_ids"][0]
        found.append((len(ids), int(torch.isin(ids, media).sum())))
    texts = [target_text(row.get("answer") or [], row.get("rationale")) for row in rows]
    target = processor.tokenizer(max(texts, key=len))["input_ids"]
    return (*max(found), len(target) + 1)


def shape_of(
    job: Job, model: Any, prompt: int, vision: int, target: int, *, sharded: bool = False
) -> Shape:
    """Return what is on a device at once."""
    args, rows = job.args, job.args.per_device_train_batch_size
    group = getattr(args, "num_generations", None)
    if group is None:
        return Shape(rows, 1, prompt, vision, target, whole_logits=True)
    completion = args.max_completion_length
    config = model.config
    shared = args.share_prompt and job.model_args.attn_implementation in (None, PLAIN)
    once = shared and args.freeze_vision and not sharded
    kept = min(
        args.vision_cache_mb << 20,
        len(job.samples.rows) * vision * config.get_text_config().hidden_size * 2,
    )
    sampled = 0 if args.use_vllm else rows * args.steps_per_generation
    groups, members = (-(-rows // group), min(rows, group)) if shared else (rows, 1)
    shape = Shape(groups, members, prompt, vision, completion, sampled, kept if once else 0)
    limit = args.max_tokens_per_micro_batch
    if limit and shape.tokens > limit:  # whole groups, or as much of one as there is room for
        of_group = prompt - 1 + members * completion
        groups = max(1, limit // of_group)
        if of_group > limit:
            members = min(members, max(1, (limit - prompt + 1) // completion))
        return replace(shape, groups=groups, rows=members)
    return shape


def a_step(job: Job) -> str:
    """Describe the rows of a step."""
    args = job.args
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
    group = getattr(args, "num_generations", None)
    told = f"{rows} rows on each device, {args.per_device_train_batch_size} at once"
    return f"{told}: {rows / group:g} prompts × {group}" if group else told


def steps(job: Job, devices: int) -> str:
    """Say how many steps there are, and how many passes over the samples."""
    args, count = job.args, len(job.samples.rows)
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * devices
    asked = (
        rows / (getattr(args, "num_generations", None) or 1) / getattr(args, "num_iterations", 1)
    )
    if args.max_steps > 0:
        return (
            f"{args.max_steps}, {args.max_steps * asked / count:.2f} passes over {count:,} samples"
        )
    passes = args.num_train_epochs
    return f"{round(passes * count / asked):,}, {passes:g} passes over {count:,} samples"
