"""Run any command of the project.

    nontrivial                      list the commands
    nontrivial reid-hard --help     show the options of a command
    nontrivial recipes              list the recipes for `--config recipe:NAME`
    nontrivial --version            print the version

In a checkout each is also a module: `nontrivial reid-hard` is `python -m builders.reid_hard`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import version

from nontrivial.manifests.command import RECIPES, guard, say, table
from nontrivial.manifests.errors import BadInput

COMMANDS = {
    "synthetic": ("builders.synthetic.__main__", "draw small data sets in the real layouts"),
    "reid-hard": ("builders.reid_hard", "mine non-trivial pairs of people"),
    "qa-invert": ("builders.qa_invert", "invert questions on videos"),
    "embed": ("builders.embed", "encode images as vectors, for ranking"),
    "manifests": ("manifests.__main__", "validate, count, show and picture tables"),
    "warmup": ("train.warmup", "teach a policy answers by supervision"),
    "grpo": ("train.grpo", "train a policy with token-weighted GRPO"),
    "plot": ("train.plot", "draw the curves of runs"),
    "qa": ("eval.qa", "answer manifests and score the answers"),
    "reid": ("eval.reid", "rank galleries, re-rank by the policy"),
    "report": ("eval.report", "show answers and rankings on one page"),
    "card": ("eval.card", "write the card of a trained policy"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command named by the first word and return its exit status."""
    name, *words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        rows = [(f"  {command}", does) for command, (_, does) in COMMANDS.items()]
        say(f"{__doc__}\n{table([*rows, ('  recipes', 'list recipes and their folder')])}")
        return 0
    if name == "--version":
        say(version("nontrivial"))
        return 0
    if name == "recipes":
        return guard(_recipes, words)
    command = name.replace("_", "-")
    if command not in COMMANDS:
        known = ", ".join([*COMMANDS, "recipes"])
        say(f"error: {name}: no such command; the commands are {known}", file=sys.stderr)
        return 2
    return importlib.import_module(f"nontrivial.{COMMANDS[command][0]}").main(words)


def _recipes(words: Sequence[str]) -> None:
    """Print the first line of each recipe, and their folder."""
    if words:
        raise BadInput(f"recipes: takes no arguments, got {' '.join(words)}")
    rows = []
    for path in sorted(RECIPES.glob("*.yaml")):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        rows.append((f"recipe:{path.stem}", first.lstrip("# ")))
    say(f"{table(rows)}\n\nfolder, with files for accelerate: {RECIPES}")


if __name__ == "__main__":
    sys.exit(main())
