"""Every command explains itself without loading anything heavy."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nontrivial.__main__ import COMMANDS, main
from nontrivial.manifests.command import read_yaml
from nontrivial.manifests.errors import BadInput

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("manifests", "builders", "train", "eval")
HEAVY = ("torch", "transformers", "trl", "datasets", "polars", "pyarrow", "faiss", "cv2", "PIL")
PROBE = """
import json, runpy, sys
name = sys.argv[1]
sys.argv = [name, "--help"]
try:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
except SystemExit as exit:
    status = exit.code
print("\\0" + json.dumps([status, sorted(sys.modules)]))
"""


def commands() -> list[str]:
    """Modules that run with `python -m`: those that call their own `main`."""
    found = []
    for package in PACKAGES:
        for file in sorted((ROOT / package).glob("**/*.py")):
            body = ast.parse(file.read_text(encoding="utf-8")).body
            tests = [ast.unparse(node.test) for node in body if isinstance(node, ast.If)]
            if "__name__ == '__main__'" in tests:
                name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
                found.append(name.removesuffix(".__main__"))
    return found


@pytest.fixture(scope="module", params=commands())
def helped(request, tmp_path_factory) -> tuple[str, str, list[str]]:
    """A command's name, its help, and the modules that were loaded to print it."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, request.param],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown, _, probe = done.stdout.partition("\0")
    status, modules = json.loads(probe)
    assert status == 0
    return request.param, shown, modules


def test_help_needs_no_heavy_module(helped):
    name, _, modules = helped
    assert [module for module in HEAVY if module in modules] == [], name


def test_help_names_the_command_and_says_what_it_does(helped):
    name, shown, _ = helped
    assert f"python -m {name}" in shown
    before_options = shown.split("options:")[0]
    assert len(before_options.split("\n\n")) > 1, "there is a description after the usage"


def test_every_option_has_help(helped):
    name, shown, _ = helped
    entries = re.split(r"\n  (?=--?\w)", shown.split("options:\n", 1)[1])
    bare = [entry.split()[0] for entry in entries if not re.search(r"(\s{2,}|\n\s+)\S+ \S+", entry)]
    assert bare == [], name


def test_an_unknown_flag_exits_with_2_and_no_traceback(helped, tmp_path):
    name = helped[0]
    done = subprocess.run(
        [sys.executable, "-m", name, "--no_such_flag", "1"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_one_command_lists_all_others(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in (*COMMANDS, "recipes"))
    modules = {module.removesuffix(".__main__") for module, _ in COMMANDS.values()}
    assert modules == set(commands())


def test_a_command_is_named_as_it_was_called(tmp_path):
    script = Path(sys.executable).with_name("nontrivial")
    calls = {
        "nontrivial reid-hard": [str(script), "reid-hard", "--help"],
        "nontrivial warmup": [sys.executable, "-m", "nontrivial", "warmup", "--help"],
        "python -m nontrivial.eval.qa": [sys.executable, "-m", "nontrivial.eval.qa", "--help"],
        "python -m train.grpo": [sys.executable, "-m", "train.grpo", "--help"],
    }
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    for name, words in calls.items():
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.stdout.startswith(f"usage: {name} "), done.stderr


def test_an_unknown_command_says_what_there_is(capsys):
    assert main(["reid_harder"]) == 2
    assert (
        "reid_harder: no such command; the commands are synthetic, reid-hard"
        in capsys.readouterr().err
    )


def test_recipes_are_listed_and_read_by_name(capsys):
    assert main(["recipes"]) == 0
    shown = capsys.readouterr().out
    for file in (ROOT / "configs").glob("*.yaml"):
        assert f"recipe:{file.stem} " in shown
        assert read_yaml(f"recipe:{file.stem}") == read_yaml(str(file))
    assert main(["recipes", "now"]) == 2
    with pytest.raises(BadInput, match=r"no such recipe; known are joint, reid_r, "):
        read_yaml("recipe:../pyproject")


def test_rare_options_are_shown_when_everything_is(capsys):
    shown = {}
    for flag in ("--help", "--help_all", "--help-all"):
        with pytest.raises(SystemExit) as exit:
            main(["reid-hard", flag])
        assert exit.value.code == 0
        shown[flag] = capsys.readouterr().out
    assert "--top_k" in shown["--help"]
    assert "--ivf_probes" not in shown["--help"]
    assert "--ivf_probes" in shown["--help_all"]
    assert shown["--help_all"] == shown["--help-all"]
