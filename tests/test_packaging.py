"""The wheel holds the packages and what they need, nothing else, and works on its own."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"manifests", "models", "builders", "train", "eval"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built without network from the working tree."""
    out = tmp_path_factory.mktemp("dist")
    words = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("nontrivial-*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_module_and_nothing_else(names):
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    sources = {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).glob("**/*.py")
    }
    assert sources <= names
    assert not [name for name in names if name.endswith((".parquet", ".pyc", ".lock", ".jpg"))]


def test_the_wheel_is_typed_and_licensed(names):
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_carries_the_embedded_policy(names):
    folder = ROOT / "models" / "embedded"
    if not folder.is_dir():
        pytest.skip("models/embedded is not there: `make embedded` makes it")
    files = {f"models/embedded/{file.name}" for file in folder.iterdir() if file.is_file()}
    assert "models/embedded/model.safetensors" in files
    assert files <= names
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8 * 2**20


def test_it_must_not_be_uploaded_by_accident(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        text = archive.read(metadata).decode()
    assert "Classifier: Private :: Do Not Upload" in text
    assert "License-Expression: Apache-2.0" in text


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The wheel unpacked as pip does it, without its dependencies."""
    target = tmp_path_factory.mktemp("installed")
    words = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([sys.executable, *words, str(wheel)], check=True)
    return target


@pytest.mark.parametrize("command", ["manifests", "builders.synthetic", "eval.qa"])
def test_commands_run_from_outside_the_checkout(installed, tmp_path, command):
    # The target comes before the editable install of the checkout on the path.
    env = os.environ | {"PYTHONPATH": str(installed)}
    code = f"import {command.split('.')[0]} as package; print(package.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert where.stdout.startswith(str(installed))
    done = subprocess.run(
        [sys.executable, "-m", command, "--help"], cwd=tmp_path, env=env, capture_output=True
    )
    assert done.returncode == 0, done.stderr
