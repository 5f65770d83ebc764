"""Measure on one GPU what is worth knowing before renting many.

  python -m benchmarks.gpu                # all parts, each within about ten minutes
  python -m benchmarks.gpu --part step
  python -m benchmarks.gpu --table        # what was measured, once more

Shapes are those of Qwen2.5-VL-7B, weights are random: nothing is downloaded. Parts:

  head    token weights of a group, and log-probabilities with TRL's fused head, against one product
          of the same states with the head; how far weights in bfloat16 are from those in float32
  rows    a group as one row against rows of their own, two layers deep, behind clips of 5 s and
          300 s: largest difference of log-probabilities, and of gradients relative to the largest
  step    a GRPO step of TRL and of ours: LoRA, gradient checkpointing, 2 prompts x 8 completions
  resume  a run of the embedded policy that is killed and goes on, against one that is not

Every measurement runs in a process of its own and is written to a JSON file as soon as it is known;
the same command, given again, goes on with those that are missing.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import importance, shapes, step
from benchmarks.alone import alone
from benchmarks.group import asked, ready
from nontrivial.manifests.command import guard, option, parse, table
from nontrivial.manifests.errors import BadInput, WorkFailed
from nontrivial.manifests.runs import JsonLines, read_json, write_json

PARTS = ("head", "rows", "step", "resume")
LIMIT = 600  # seconds of a measurement
GROUP = 8
CLIPS = {5: 10, 300: 64}  # seconds of a clip, and its frames
OUT_OF_MEMORY = "out of memory"
TOO_LONG = f"more than {LIMIT} s"


@dataclass
class Options:
    """Options of `python -m benchmarks.gpu`."""

    part: str | None = option("measure only this part", default=None, choices=PARTS)
    out: str = option("JSON file of what is measured", default="runs/benchmarks/gpu.json")
    table: bool = option("print what was measured, and measure nothing", default=False)
    small: bool = option("small shapes, to try this command out without a GPU", default=False)
    only: str | None = option("measure only this, here, as JSON", default=None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="benchmarks.gpu", description=__doc__))


def run(options: Options) -> None:
    """Measure what is missing, and print all of it.

    Raises `BadInput` without a GPU, or where the file was made on another.
    """
    if options.only:
        print(json.dumps(measure(options.only, options.small)))
        return
    known = read_json(Path(options.out)) or {}
    if options.table:
        show(known)
        return
    where = machine(options.small)
    if known.get("where", where) != where:
        raise BadInput(f"{options.out} was measured on {known['where']}; give another --out")
    known = {"where": where, "measured": {}, **known}
    for name in names(options.small):
        if name not in known["measured"] and name.startswith(options.part or ""):
            print(f"{name} …", file=sys.stderr)
            known["measured"][name] = found(name, options)
            write_json(Path(options.out), known)
    show(known)


def machine(small: bool) -> str:
    """Name the GPU; raises `BadInput` if there is none and shapes are not `small`."""
    import torch

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    elif small:
        name = f"{platform.machine()}, {os.cpu_count()} cores"
    else:
        raise BadInput("no GPU: this measures one; --small tries the command out on the CPU")
    return f"{name}, torch {torch.__version__}" + (", small shapes" if small else "")


def names(small: bool) -> Iterator[str]:
    """Yield the names of all measurements, in order: the part, then what is varied."""
    yield from (f"head/{way}" for way in ("product", "weights", "precision", "fused", "logits"))
    for seconds in CLIPS:
        for dtype in ("float32",) if small else ("float32", "bfloat16"):
            yield f"rows/{seconds}/{dtype}"
    for cells in (64,) if small else (1024, 4096):
        for tokens in (8,) if small else (256, 1024):
            for part in ("TRL", "ours, weighted"):
                yield f"step/{cells}/{tokens}/{part}"
    yield "resume"


def found(name: str, options: Options) -> Any:
    """Return the result of a measurement in a process of its own, or why there is none."""
    try:
        return alone("benchmarks.gpu", options, only=name, timeout=LIMIT)
    except TimeoutError:
        return TOO_LONG
    except WorkFailed as error:
        if OUT_OF_MEMORY in str(error):
            return OUT_OF_MEMORY
        raise


def measure(name: str, small: bool) -> dict[str, Any]:
    """Return the result of one measurement, made in this process."""
    part, *varied = name.split("/")
    of_part: Mapping[str, Callable[..., dict[str, Any]]] = {
        "head": head,
        "rows": rows,
        "step": a_step,
        "resume": resume,
    }
    return of_part[part](*varied, small=small)


def head(way: str, *, small: bool) -> dict[str, Any]:
    """Return the seconds and extra MiB of one use of the head, or how exact weights are."""
    import torch
    import trl.trainer.utils  # noqa: F401  (its memory is no part of what is measured)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = importance.Options(device=device, length=64 if small else None)
    if way in ("product", "weights"):
        options.method = {"product": "head product", "weights": "divergence"}[way]
        return importance.measure(options)
    hidden, mask, weight = importance.group(options)
    if way == "precision":
        return {"difference": precision(hidden, mask, weight)}
    score = fused if way == "fused" else from_logits
    labels = torch.randint(0, len(weight), mask.shape, device=device).flatten()

    def work() -> None:
        states = hidden.detach().flatten(0, 1).requires_grad_()
        score(states, weight, labels).sum().backward()

    return importance.cost(work, device, repeats=3, learn=True)


def precision(hidden: Any, mask: Any, weight: Any) -> float:
    """Return how far token weights in bfloat16 are from those of the same numbers in float32."""
    import torch

    from nontrivial.train.importance import token_weights

    of_types = []
    for dtype in (torch.float32, torch.bfloat16):
        states = hidden.bfloat16().to(dtype)[None]
        with torch.no_grad():
            of_types.append(token_weights(states, mask[None], weight.bfloat16().to(dtype))[0])
    return (of_types[0] - of_types[1]).abs().max().item()


def fused(states: Any, weight: Any, labels: Any) -> Any:
    """Return log-probabilities (N,) by TRL's fused head: chunks of positions, also backward."""
    from trl.trainer import utils

    chunk, outputs = utils._CHUNKED_LOGPROB_CHUNK_SIZE, ("log_probs", "entropy")
    given = (weight, None, labels, 1.0, chunk, None, 1.0, outputs)
    return utils._ChunkedLogProbFunction.apply(states, *given)[0]


def from_logits(states: Any, weight: Any, labels: Any) -> Any:
    """Return log-probabilities (N,) from all logits at once."""
    from torch.nn.functional import cross_entropy

    return -cross_entropy((states @ weight.T).float(), labels, reduction="none")


def rows(seconds: str, dtype: str, *, small: bool) -> dict[str, Any]:
    """Return how far a group in one row is from rows of their own, behind a clip."""
    import torch

    from nontrivial.models.policy import load_policy
    from nontrivial.train.group_rows import scoring

    model, processor = load_policy() if small else shapes.policy(layers=2, dtype=dtype)
    ready(model)
    prompt = asked(model, processor, clips=[noise(int(seconds))])
    draw = torch.Generator().manual_seed(0)
    length = 16 if small else 256
    lengths = torch.randint(1, length + 1, (GROUP, 1), generator=draw)
    completions = torch.randint(10, 200, (GROUP, length), generator=draw).to(model.device)
    mask = (torch.arange(length) < lengths).long().to(model.device)
    advantages = torch.randn(GROUP, 1, generator=draw).to(model.device)
    results = []
    for share in (False, True):
        wanted = scoring([prompt] * GROUP, completions, mask, 0, share=share)
        scores = wanted.of_tokens(model(**wanted.inputs).log_probs)
        (scores * advantages).sum().backward()
        kept = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad(set_to_none=True)
        results.append((scores.detach(), kept))
    (plain, of_plain), (grouped, of_group) = results
    largest = max(gradient.abs().max().item() for gradient in of_plain.values())
    apart = max((of_plain[name] - of_group[name]).abs().max().item() for name in of_plain)
    return {
        "prompt": prompt["input_ids"].shape[1],
        "log_probs": (plain - grouped).abs().max().item(),
        "gradient": apart / largest,
    }


def noise(seconds: int) -> Any:
    """Return a clip of noise."""
    import numpy as np

    from nontrivial.manifests.frames import Clip

    count, total = CLIPS[seconds], seconds * 25
    frames = np.random.default_rng(0).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)
    return Clip(frames, np.linspace(0, total - 1, count).astype(int), 25.0, total)


def a_step(cells: str, tokens: str, part: str, *, small: bool) -> dict[str, Any]:
    """Return what `benchmarks.step` measures of a part."""
    return step.measure(
        step.Options(
            model="embedded" if small else shapes.NAME,
            lora=True,
            cells=int(cells),
            tokens=int(tokens),
            group=GROUP,
            steps=1,
            part=part,
        )
    )


def resume(*, small: bool) -> dict[str, Any]:
    """Return how far a killed run of the embedded policy ends from one that was not killed."""
    from safetensors.torch import load_file

    steps = 4 if small else 12
    with tempfile.TemporaryDirectory() as folder:
        run, where = Path(folder), Path.cwd()
        drawn = ["builders.synthetic", "--only=market1501", f"--out={run}/data"]
        mined = ["builders.reid_hard", "--encoder=stripes", "--pairs=random", "--budget=64"]
        for words in (drawn, [*mined, f"--root={run}/data", f"--out={run}/manifests"]):
            subprocess.run([sys.executable, "-m", *words], check=True, stdout=sys.stderr)
        [manifest] = run.glob("manifests/*.parquet")
        command = [sys.executable, "-m", "train.grpo", str(manifest), "--logging_steps=1"]
        command += [f"--max_steps={steps}", f"--save_steps={steps // 4}"]
        killed, whole = run / "killed", run / "whole"
        began = subprocess.Popen([*command, f"--output_dir={killed}"], cwd=where, stdout=sys.stderr)
        while began.poll() is None and len(list(JsonLines(killed / "log.jsonl"))) <= steps // 2:
            time.sleep(0.1)
        if began.poll() is not None:
            raise WorkFailed("the run ended before it was killed")
        began.send_signal(signal.SIGKILL)
        began.wait()
        for output in (killed, whole):
            subprocess.run(
                [*command, f"--output_dir={output}"], cwd=where, stdout=sys.stderr, check=True
            )
        one, other = (load_file(output / "model.safetensors") for output in (killed, whole))
    apart = max((one[name].float() - other[name].float()).abs().max().item() for name in one)
    return {"difference": apart, "equal": all(one[name].equal(other[name]) for name in one)}


def show(known: Mapping[str, Any]) -> None:
    """Print all measurements, a line for each."""
    if not known:
        raise BadInput("nothing was measured yet; leave --table out")
    print(known["where"])
    print(table([(name, told(result)) for name, result in known["measured"].items()]))


def told(result: Any) -> str:
    """Write a result in one line.

    >>> told({"seconds": 1.25, "memory": 2048.0, "loss": 0.5})
    '1.25 seconds, 2,048 memory, 0.5 loss'
    """
    if not isinstance(result, dict):
        return str(result)
    parts = []
    for name, value in result.items():
        if isinstance(value, dict):
            parts.append("; ".join(f"{part} {seconds:.3g}" for part, seconds in value.items()))
        elif isinstance(value, float):
            parts.append(f"{value:,.0f} {name}" if value >= 100 else f"{value:.3g} {name}")
        else:
            parts.append(f"{value} {name}")
    return ", ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
