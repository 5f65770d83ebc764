"""Every command of the project under one name.

    nontrivial                      this list
    nontrivial reid-hard --help     one command
    nontrivial recipes              the recipes that `--config recipe:NAME` reads

In a checkout each is also a module: `nontrivial reid-hard` is `python -m builders.reid_hard`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from nontrivial.manifests.command import RECIPES, guard, table
from nontrivial.manifests.errors import BadInput

COMMANDS = {
    "synthetic": ("builders.synthetic.__main__", "draw small data sets in the real layouts"),
    "reid-hard": ("builders.reid_hard", "mine non-trivial pairs of people"),
    "qa-invert": ("builders.qa_invert", "invert questions on videos"),
    "embed": ("builders.embed", "images -> vectors, for ranking"),
    "manifests": ("manifests.__main__", "validate, count, show and picture tables"),
    "warmup": ("train.warmup", "teach a policy answers by supervision"),
    "grpo": ("train.grpo", "train a policy with token-weighted GRPO"),
    "plot": ("train.plot", "draw the curves of runs"),
    "qa": ("eval.qa", "answer manifests and score the answers"),
    "reid": ("eval.reid", "rank galleries, re-rank by the policy"),
    "report": ("eval.report", "one page of what policies answered"),
    "card": ("eval.card", "the card of a trained policy"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first word names; returns its exit status."""
    name, *words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        rows = [(f"  {command}", does) for command, (_, does) in COMMANDS.items()]
        print(f"{__doc__}\n{table([*rows, ('  recipes', 'list recipes and where they lie')])}")
        return 0
    if name == "recipes":
        return guard(_recipes, words)
    command = name.replace("_", "-")
    if command not in COMMANDS:
        known = ", ".join([*COMMANDS, "recipes"])
        print(f"error: {name}: no such command; there are {known}", file=sys.stderr)
        return 2
    return importlib.import_module(f"nontrivial.{COMMANDS[command][0]}").main(words)


def _recipes(words: Sequence[str]) -> None:
    """List the recipes by the first line of each, and the folder they lie in."""
    if words:
        raise BadInput(f"recipes: takes no arguments, got {' '.join(words)}")
    rows = []
    for path in sorted(RECIPES.glob("*.yaml")):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        rows.append((f"recipe:{path.stem}", first.lstrip("# ")))
    print(f"{table(rows)}\n\nthese files, and those of accelerate: {RECIPES}")


if __name__ == "__main__":
    sys.exit(main())
