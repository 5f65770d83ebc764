"""Wheel and sdist hold one package and what it needs, nothing else, and the wheel works alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from scripts import house

ROOT = Path(__file__).resolve().parents[1]
BUILD = [sys.executable, "-m", "build", "--no-isolation"]
# What builders and killed runs leave in a checkout, and no archive may carry.
LEFTOVERS = (
    "manifests/left_reid_hard.parquet",
    "manifests/eval/left_test.parquet",
    "manifests/embeddings/.cache/left/0.parquet",
    "manifests/quarantine/left.parquet",
    "manifests/.left.parquet.lock",
)


def build(source: Path, out: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it, without network."""
    done = subprocess.run(
        [*BUILD, "--outdir", str(out), str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("nontrivial-*.tar.gz")), next(out.glob("nontrivial-*.whl"))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> tuple[Path, Path]:
    """Sdist and wheel of the working tree, with tables lying in manifests/."""
    created = [ROOT / name for name in LEFTOVERS if not (ROOT / name).exists()]
    for file in created:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    try:
        return build(ROOT, tmp_path_factory.mktemp("dist"))
    finally:
        for file in created:
            file.unlink()
            for folder in file.parents:
                if folder == ROOT / "manifests" or any(folder.iterdir()):
                    break
                folder.rmdir()


@pytest.fixture(scope="module")
def files(archives) -> dict[str, bytes]:
    return contents(archives[1])


def test_the_wheel_holds_one_package_with_every_module_and_nothing_else(files):
    tops = {name.split("/")[0] for name in files}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"nontrivial"}
    sources = {file.relative_to(ROOT).as_posix() for file in house.modules().values()}
    packed = {f"nontrivial/{name.removeprefix('nontrivial/')}" for name in sources}
    assert packed == {name for name in files if name.endswith(".py")}
    assert not [name for name in files if name.endswith((".parquet", ".pyc", ".lock", ".jpg"))]


def test_the_sdist_holds_the_pages_and_no_table_either(archives):
    with tarfile.open(archives[0]) as archive:
        names = archive.getnames()
    held = {name.partition("/")[2] for name in names}
    pages = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.*")}
    assert {*pages, "CHANGELOG.md", "CITATION.cff", "constraints.txt"} <= held
    assert not [name for name in names if name.endswith((".parquet", ".lock")) or ".cache" in name]
    assert [name for name in names if name.endswith("builders/reid_hard.py")]


def test_the_wheel_of_the_sdist_is_that_of_the_checkout(files, tmp_path):
    done = subprocess.run(
        [*BUILD, "--wheel", "--outdir", str(tmp_path), str(ROOT)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert contents(next(tmp_path.glob("*.whl"))) == files


def test_the_wheel_is_typed_licensed_and_has_its_recipes(files):
    assert "nontrivial/py.typed" in files
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in files)
    recipes = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("configs/**/*.yaml")}
    assert {f"nontrivial/{name}" for name in recipes} <= set(files)


def test_the_wheel_carries_the_embedded_policy(files):
    folder = ROOT / "models" / "embedded"
    policy = {f"nontrivial/models/embedded/{file.name}" for file in folder.iterdir()}
    assert "nontrivial/models/embedded/model.safetensors" in policy
    assert policy <= set(files)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8 * 2**20


def test_the_version_is_said_in_one_place(files):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (metadata,) = (content for name, content in files.items() if name.endswith("/METADATA"))
    assert f"\nVersion: {project['version']}\n".encode() in metadata
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+?),? ", changes, re.M)[1] == project["version"]
    said = [name for name, text in files.items() if f'"{project["version"]}"'.encode() in text]
    assert said == []


def test_the_citation_is_whole():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert cited["authors"] == [{"name": "The nontrivial authors"}]


def test_it_must_not_be_uploaded_by_accident(files):
    (metadata,) = (content for name, content in files.items() if name.endswith("/METADATA"))
    assert b"Classifier: Private :: Do Not Upload" in metadata
    assert b"License-Expression: Apache-2.0" in metadata


@pytest.fixture(scope="module")
def installed(archives, tmp_path_factory) -> Path:
    """The wheel unpacked as pip does it, without its dependencies."""
    target = tmp_path_factory.mktemp("installed")
    words = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([sys.executable, *words, str(archives[1])], check=True)
    return target


@pytest.fixture
def hostile(tmp_path) -> Path:
    """A user's folder whose files have the names of our rooms."""
    (tmp_path / "train.py").write_text("raise SystemExit('the wrong train')\n")
    for name in ("models", "eval", "manifests", "builders"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('the wrong {name}')\n")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["bin/nontrivial", "grpo", "--help"],
        ["bin/nontrivial", "recipes"],
        ["bin/nontrivial", "--version"],
        ["-m", "nontrivial.builders.qa_invert", "--help"],
        ["-m", "nontrivial.train.grpo", "--help"],
        ["-m", "nontrivial.manifests", "--help"],
        ["-c", "import nontrivial; nontrivial.soft_score({'A'}, {'A'})"],
    ],
    ids=" ".join,
)
def test_it_works_where_a_users_files_have_our_names(installed, hostile, words):
    # The target comes before the editable install of the checkout on the path.
    env = os.environ | {"PYTHONPATH": str(installed)}
    if words[0].startswith("bin/"):
        words = [str(installed / words[0]), *words[1:]]
    done = subprocess.run(
        [sys.executable, *words], cwd=hostile, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    where = [sys.executable, "-c", "import nontrivial; print(nontrivial.__file__)"]
    found = subprocess.run(where, cwd=hostile, env=env, capture_output=True, text=True)
    assert found.stdout.startswith(str(installed))
