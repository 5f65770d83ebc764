"""Score the embedded policy on held-out worlds and write its card."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nontrivial.builders import qa_invert, reid_hard
from nontrivial.builders.synthetic import __main__ as synthetic
from nontrivial.eval import qa
from scripts.embedded.worlds import call

HELD_OUT_SEED = 90_211
ASKED = {
    "market1501_reid_random_test": "random pairs of people",
    "market1501_reid_hard_test": "twins of people (mined with `stripes`)",
    "clevrer_qa_invert_val": "questions on videos, half of them inverted",
}
CARD = Path(__file__).with_name("card.md")


def score(out: Path, work: Path) -> dict[str, Any]:
    """Draw a world that was not trained on, ask the policy at `out`; return scores by manifest."""
    data, tables = str(work / "held_out"), work / "held_out" / "manifests"
    common = ["--root", data, "--out", str(tables)]
    small = ["--identities", "20", "--videos", "20", "--test_videos", "300"]
    if not (tables / "eval" / "clevrer_qa_invert_val.parquet").is_file():
        call(synthetic.main, ["--out", data, "--seed", str(HELD_OUT_SEED), *small])
        pairs = ["--source", "market1501", "--encoder", "stripes", "--split", "test", *common]
        for kind in ("random", "hard"):
            call(reid_hard.main, [*pairs, "--pairs", kind, "--budget", "1000"])
        call(qa_invert.main, ["--bench", "clevrer", "--split", "validation", *common])
    asked = [str(tables / "eval" / f"{name}.parquet") for name in ASKED]
    answers = work / "held_out" / "eval"
    sizes = ["--batch_size", "125", "--max_new_tokens", "64", "--limit", "1000"]
    call(qa.main, [*asked, "--model_name_or_path", str(out), "--out", str(answers), *sizes])
    summary = json.loads((answers / "summary.json").read_text(encoding="utf-8"))
    return {name: lines[0] for name, lines in summary["manifests"].items()}


def write(
    folder: Path,
    scores: Mapping[str, Any],
    curriculum: Iterable[tuple[str, int, float]],
    **facts: int,
) -> None:
    """Write the card beside the weights."""
    text = CARD.read_text(encoding="utf-8").format(
        rows="\n".join(_row(title, scores[name]) for name, title in ASKED.items()),
        curriculum="\n".join(f"| {s} | {n:,} | {rate:g} |" for s, n, rate in curriculum),
        seed=HELD_OUT_SEED,
        **facts,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _row(title: str, line: Mapping[str, Any]) -> str:
    low, high = line["soft_interval"]
    soft = f"{line['soft']:.3f} ({low:.3f}–{high:.3f})"
    return f"| {title} | {line['n']} | {soft} | {line['blind_soft']:.3f} |"
