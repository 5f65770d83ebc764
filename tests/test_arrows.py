"""Arrows between packages: builders, train, eval stand on models, models on manifests, no more."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STANDS_ON = {
    "manifests": set(),
    "models": {"manifests"},
    "builders": {"models", "manifests"},
    "train": {"models", "manifests"},
    "eval": {"models", "manifests"},
}
NEVER = {
    "manifests": {"torch", "transformers", "trl", "faiss"},
    "models": {"trl", "polars", "faiss"},
    "builders": {"transformers", "trl"},
    "train": {"polars", "faiss"},
    "eval": {"polars", "trl"},
}
MODULES = sorted(
    file.relative_to(ROOT) for package in STANDS_ON for file in ROOT.glob(f"{package}/**/*.py")
)


def imported(file: Path) -> Iterator[str]:
    """The top-level package of every import in a file, wherever it stands in the code."""
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield file.parts[0] if node.level else (node.module or "").split(".")[0]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            called = node.func.id if isinstance(node.func, ast.Name) else called
            if called in ("require", "import_module", "__import__"):
                yield str(node.args[0].value).split(".")[0]


def test_there_are_modules_to_look_at():
    assert {module.parts[0] for module in MODULES} == set(STANDS_ON)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_arrows_point_down_only(module):
    package = module.parts[0]
    ours = set(imported(module)) & (set(STANDS_ON) | {"tests", "scripts", "benchmarks"})
    assert ours <= STANDS_ON[package] | {package}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_each_package_keeps_out_what_it_must_run_without(module):
    assert not set(imported(module)) & NEVER[module.parts[0]]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_room_is_a_lumber_room(module):
    lumber = {"utils", "util", "helpers", "misc", "common"}
    assert not lumber & {part.removesuffix(".py") for part in module.parts}
