"""Every command explains itself without loading anything heavy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
            if 'if __name__ == "__main__":' in file.read_text(encoding="utf-8"):
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
