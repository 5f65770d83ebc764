"""The card of a trained policy, written from what its runs say about themselves.

    python -m eval.card runs/grpo --evaluations runs/eval/grpo runs/reid
    python -m eval.card runs/grpo --evaluations runs/eval/grpo --push_to_hub USER/NAME

The folder is what `train.grpo` or `train.warmup` wrote; its options become the card's table.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.command import guard, option, parse
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.runs import OPTIONS, STATE, read_json

if TYPE_CHECKING:
    from nontrivial.eval.report import Run

PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "README.md")
# Options of a run that say nothing about the policy, or where somebody's files lie.
PRIVATE = ("dir", "token", "report_to", "run_name", "hub")


@dataclass
class Options:
    """Options of `python -m eval.card`."""

    run: str = option("folder of a trained policy", positional=True)
    evaluations: list[str] = option("folders written by eval.qa or eval.reid", default=[])
    push_to_hub: str | None = option("upload card and policy to USER/NAME", default=None)
    private: bool = option("make the repository private", default=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return guard(run, parse(Options, argv, prog="eval.card", description=__doc__))


def run(options: Options) -> None:
    """Write the card; upload, if asked to."""
    from nontrivial.eval.report import read_runs
    from nontrivial.manifests.files import atomic_path

    folder = Path(options.run)
    training = read_json(folder / OPTIONS)
    if training is None or not (folder / "config.json").is_file():
        raise BadInput(
            f"{folder}: holds no trained policy ({OPTIONS}, config.json); name the folder that "
            "train.grpo or train.warmup wrote"
        )
    card = model_card(training, read_runs([Path(name) for name in options.evaluations]))
    with atomic_path(folder / "README.md") as path:
        path.write_text(card, encoding="utf-8")
    print(f"{folder / 'README.md'}: the card")
    if options.push_to_hub:
        print(push_policy(folder, options.push_to_hub, private=options.private))


def model_card(training: Mapping[str, Any], evaluations: Sequence[Run]) -> str:
    """A README.md in Markdown: what the policy was trained from and how, and what it scores."""
    import yaml

    from nontrivial.manifests.page.cards import rows_of

    shown = {
        name: value
        for name, value in sorted(training.items())
        if value not in ("None", "", "[]")
        and not any(word in name for word in PRIVATE)
        and not Path(str(value)).is_absolute()
    }
    base = str(training.get("model_name_or_path") or "")
    facts: dict[str, Any] = {"pipeline_tag": "image-text-to-text", "library_name": "transformers"}
    if "/" in base and not Path(base).exists():  # a name on the Hub, not a folder
        facts["base_model"] = base
    head = yaml.safe_dump(facts, sort_keys=False)
    scores = "\n\n".join(_scores(run) for run in evaluations) or "None were recorded.\n"
    return (
        f"---\n{head}---\n\n# Policy\n\n## Scores\n\n{scores}\n\n## Training\n\n{rows_of(shown)}\n"
    )


def push_policy(folder: Path, repo: str, *, private: bool = True) -> str:
    """Upload a policy's weights, tokenizer and card, no checkpoints; returns its address."""
    from huggingface_hub import HfApi

    api = HfApi()
    where = api.create_repo(repo, private=private, exist_ok=True)
    api.upload_folder(
        repo_id=repo,
        folder_path=str(folder),
        allow_patterns=list(PATTERNS),
        ignore_patterns=["checkpoint-*", OPTIONS, STATE],
    )
    return str(where)


def _scores(run: Run) -> str:
    from nontrivial.eval.report import answer_tables, ranking_tables

    tables = [*answer_tables([run]), *ranking_tables([run])]
    return "\n\n".join(_markdown(content) for content in tables)


def _markdown(content: Mapping[str, Any]) -> str:
    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "---|" * len(content["header"])
    return "\n".join(
        [f"**{content['title']}**\n", row(content["header"]), rule, *map(row, content["rows"])]
    )


if __name__ == "__main__":
    sys.exit(main())
