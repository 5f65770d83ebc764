"""Score the embedded policy on held-out worlds and write its card."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nontrivial.builders import qa_invert, reid_hard
from nontrivial.builders.synthetic import __main__ as synthetic
from nontrivial.eval import qa
from scripts.demo import TOKENS
from scripts.embedded.reasons import SHARES
from scripts.embedded.worlds import call

HELD_OUT_SEED = 90_211
ASKED = {
    "market1501_reid_random_test": "random pairs of people",
    "market1501_reid_hard_test": "twins of people (mined with `stripes`)",
    "clevrer_qa_invert_val": "questions on clips, half inverted where they can be",
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
    found: dict[str, Any] = {}
    for name in ASKED:
        answers = work / "held_out" / "eval" / name
        asked = [str(tables / "eval" / f"{name}.parquet"), "--model_name_or_path", str(out)]
        sizes = ["--batch_size", "125", "--max_new_tokens", TOKENS, "--limit", "500"]
        draws = ["--draws", "8"] if name.startswith("clevrer") else []
        call(qa.main, [*asked, "--out", str(answers), *sizes, *draws])
        summary = json.loads((answers / "summary.json").read_text(encoding="utf-8"))
        found |= summary["manifests"]
    return found


def write(
    folder: Path,
    scores: Mapping[str, Any],
    curriculum: Iterable[tuple[str, int, float]],
    **facts: int,
) -> None:
    """Write the card beside the weights."""
    rows = []
    for name, title in ASKED.items():
        overall, *families = scores[name]
        rows.append(_row(title, overall))
        if name.startswith("clevrer"):
            rows += [_row(f"· {line['family']}", line) for line in families]
    text = CARD.read_text(encoding="utf-8").format(
        rows="\n".join(rows),
        curriculum="\n".join(f"| {s} | {n:,} | {rate:g} |" for s, n, rate in curriculum),
        shares="\n".join(f"| {kind} | {share:.0%} |" for kind, share in SHARES.items()),
        seed=HELD_OUT_SEED,
        **facts,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _row(title: str, line: Mapping[str, Any]) -> str:
    low, high = line["strict_interval"]
    scores = [
        f"{line['strict']:.3f} ({low:.3f}–{high:.3f})",
        *(line[name] for name in ("blind_strict", "soft", "blind_soft", "per_option")),
        *(line[name] for name in ("sampled_strict", "pass_at_draws", "option_auc")),
    ]
    told = ["" if x is None else f"{x:.3f}" if isinstance(x, float) else x for x in scores]
    return f"| {' | '.join([title, str(line['n']), *told])} |"
