"""Write the model card of a trained policy from the records of its runs.

    python -m eval.card runs/grpo --evaluations runs/eval/grpo runs/reid
    python -m eval.card runs/grpo --evaluations runs/eval/grpo --push_to_hub USER/NAME

The folder is one that `train.grpo` or `train.warmup` wrote; its options become the card's table.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nontrivial.eval.report import Run, answer_tables, ranking_tables, read_runs
from nontrivial.manifests.command import guard, option, parse, say
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.files import write_text
from nontrivial.manifests.runs import OPTIONS, STATE, read_json

PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "README.md"]
USE = """
Load it with `nontrivial.models.policy.load_policy`, or serve it with vLLM. For a Qwen2-VL or
Qwen2.5-VL, plain transformers from 5.3 to at least 5.23 numbers the text behind a clip otherwise
than it was trained with.
"""
# Parts of the names of options that say nothing about the policy or that hold private paths.
PRIVATE = ("dir", "token", "report_to", "run_name", "hub")


@dataclass
class Options:
    """Options of `python -m eval.card`."""

    run: str = option("folder of a trained policy", positional=True)
    evaluations: list[str] = option("folders written by eval.qa or eval.reid", default=[])
    push_to_hub: str | None = option("upload card and policy to USER/NAME", default=None)
    private: bool = option("make the repository private", default=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="eval.card", description=__doc__))


def run(options: Options) -> None:
    """Write the card; upload card and policy if `--push_to_hub` is given."""
    folder = Path(options.run)
    training = read_json(folder / OPTIONS)
    if training is None or not (folder / "config.json").is_file():
        raise BadInput(
            f"{folder}: holds no trained policy ({OPTIONS}, config.json); name a folder that "
            "train.grpo or train.warmup wrote"
        )
    card = model_card(training, read_runs([Path(name) for name in options.evaluations]))
    write_text(folder / "README.md", card)
    say(f"card written to {folder / 'README.md'}")
    if options.push_to_hub:
        say(push_policy(folder, options.push_to_hub, private=options.private))


def model_card(training: Mapping[str, Any], evaluations: Sequence[Run]) -> str:
    """Return a README.md in Markdown: scores of the policy and the options of its training."""
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
    tables = [t for run in evaluations for t in (*answer_tables([run]), *ranking_tables([run]))]
    scores = "\n\n".join(map(_markdown, tables)) or "None were recorded.\n"
    parts = {"Scores": scores, "Use": USE.strip(), "Training": rows_of(shown)}
    sections = "\n\n".join(f"## {title}\n\n{text}" for title, text in parts.items())
    return f"---\n{head}---\n\n# Policy\n\n{sections}\n"


def push_policy(folder: Path, repo: str, *, private: bool = True) -> str:
    """Upload a policy's weights, tokenizer and card without checkpoints; return its address."""
    from huggingface_hub import HfApi

    api = HfApi()
    address = api.create_repo(repo, private=private, exist_ok=True)
    api.upload_folder(
        repo_id=repo,
        folder_path=str(folder),
        allow_patterns=PATTERNS,
        ignore_patterns=["checkpoint-*", OPTIONS, STATE],
    )
    return str(address)


def _markdown(table: Mapping[str, Any]) -> str:
    cells = [
        [cell.replace("|", "\\|") for cell in row] for row in (table["header"], *table["rows"])
    ]
    header, *rows = (f"| {' | '.join(row)} |" for row in cells)
    rule = "|" + "---|" * len(table["header"])
    return "\n".join([f"**{table['title']}**\n", header, rule, *rows])


if __name__ == "__main__":
    sys.exit(main())
