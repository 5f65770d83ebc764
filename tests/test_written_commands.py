"""Every command line that a page, a recipe or a docstring shows is one that its parsers accept."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import dropwhile
from pathlib import Path
from types import ModuleType

import pytest

from nontrivial.__main__ import COMMANDS
from nontrivial.train import config, launch

ROOT = Path(__file__).parents[1]
ROOMS = ("builders", "eval", "manifests", "models", "train")
OTHERS = ("nontrivial", "scripts", "benchmarks")
# Commands that fail on purpose are run by tests/test_troubleshooting.py.
DOCS = (page for page in ROOT.glob("docs/*.md") if page.name != "troubleshooting.md")
PAGES = (*ROOT.glob("*.md"), *DOCS, *ROOT.glob("configs/**/*.yaml"))
SHOWN = re.compile(
    r"(?:^|[`$] ?)((?:[A-Z_]+=\S+ )*(?:python -m \w|nontrivial [a-z]|accelerate-launch )[^`]*)"
)
# Where a page goes on behind a command.
BEHIND = re.compile(r"\s+# .*|\s+-> .*|\s{3,}.*")


def texts() -> Iterator[tuple[str, str]]:
    """Each place that shows commands: its name, and its text without comment marks."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        yield str(page.relative_to(ROOT)), re.sub(r"(?m)^# ?", "", text)
    for room in (*ROOMS, *OTHERS):
        for path in sorted((ROOT / room).rglob("*.py")):
            if path.resolve() == path:  # once, not through the links of nontrivial/
                doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
                yield str(path.relative_to(ROOT)), doc or ""


def commands(text: str) -> Iterator[str]:
    """The commands of a text, joined where they go on over several lines."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        for found in SHOWN.findall(line.strip()):
            yield from alternatives(BEHIND.sub("", found).strip())


def alternatives(line: str) -> Iterator[str]:
    """One command for each of `a|b`."""
    choice = re.search(r"\w+(?:\|\w+)+", line)
    if choice is None:
        yield line
    else:
        for word in choice[0].split("|"):
            yield f"{line[: choice.start()]}{word}{line[choice.end() :]}"


WRITTEN = sorted({(place, line) for place, text in texts() for line in commands(text)})


def parts(line: str) -> tuple[str, list[str]]:
    """The module that a command runs, and the words that its launchers leave to it."""
    words = [word for word in shlex.split(line) if word != "[options]"]
    words = list(dropwhile(lambda word: re.match(r"[A-Z_]+=", word), words))
    if words[0] == "nontrivial":
        return (
            (COMMANDS[words[1]][0], words[2:]) if words[1] in COMMANDS else (*words[:1], words[1:])
        )
    if words[0] == "accelerate-launch":
        from accelerate.commands.launch import launch_command_parser

        given = launch_command_parser().parse_args(words[1:])
        assert given.module, "without -m it runs a script"
        assert not given.config_file or (ROOT / given.config_file).is_file()
        return given.training_script, given.training_script_args
    if words[2] == "torch.distributed.run":
        from torch.distributed.run import get_args_parser

        given = get_args_parser().parse_args(words[3:])
        assert given.module, "without -m it runs a script"
        return given.training_script, given.training_script_args
    return words[2], words[3:]


def runnable(name: str) -> str:
    """The full name of the module that `python -m name` runs."""
    full = f"nontrivial.{name}" if name.split(".")[0] in ROOMS else name
    spec = find_spec(full)
    assert spec is not None, f"{full} does not exist"
    return full if spec.submodule_search_locations is None else f"{full}.__main__"


class Parsed(Exception):
    """A command read its options and would start to work."""


@pytest.fixture
def stop(monkeypatch):
    """Let a command stop when it has read its options."""
    from trl import ModelConfig

    def prepare(words, script, arguments, *, prog, embedded):
        launch.read_options(words, [script, arguments, ModelConfig], prog=prog, embedded=embedded)
        raise Parsed

    def guard(*_):
        raise Parsed

    monkeypatch.setattr(launch, "prepare", prepare)
    monkeypatch.setattr(config, "is_vllm_available", lambda: True)

    def stopped(module: ModuleType) -> ModuleType:
        if hasattr(module, "guard"):
            monkeypatch.setattr(module, "guard", guard)
        return module

    return stopped


@pytest.mark.parametrize(("place", "line"), WRITTEN)
def test_its_parsers_accept_it(stop, place, line):
    name, words = parts(line)
    module = stop(importlib.import_module(runnable(name)))
    if words == ["--help"]:
        with pytest.raises(SystemExit, match=r"^0$"):
            module.main(words)
    elif words:  # a bare name in a sentence, such as `nontrivial reid-hard`, is not a whole command
        with pytest.raises(Parsed):
            module.main(words)


@pytest.mark.parametrize(
    "line",
    [
        "python -m train.grpo manifests/*.parquet --use_peft --bf16",
        "python -m train.grpo manifests/*.parquet --no_such_option 1",
        "accelerate-launch --config_file configs/accelerate/ddp.yaml -m train.grpo --seed x m",
        "nontrivial reid-hard --pairs hardest",
    ],
)
def test_a_wrong_command_is_found(stop, line, capsys):
    name, words = parts(line)
    module = stop(importlib.import_module(runnable(name)))
    try:
        status = module.main(words)
    except SystemExit as error:
        status = error.code
    assert status == 2, capsys.readouterr().err


def test_the_readmes_commands_are_found():
    of_readme = [line for place, line in WRITTEN if place == "README.md"]
    assert len(of_readme) >= 20
    assert "python -m train.grpo manifests/*.parquet" in of_readme
    assert "python -m manifests stats FILE" in of_readme
    assert any(line.startswith("accelerate-launch") and "--use_vllm" in line for line in of_readme)


def test_the_extras_that_pages_install_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {
        extra
        for _, text in texts()
        for extras in re.findall(r"(?:\.|nontrivial)\[([a-z,]+)\]", text)
        for extra in extras.split(",")
    }
    assert "gpu" in named
    assert named <= set(project["optional-dependencies"])
