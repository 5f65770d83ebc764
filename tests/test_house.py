"""The house keeps its rules, each rule finds what breaks it, and its page is current."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts import house

RULES = (house.bare, house.upward, house.unwanted)
MODULES = house.modules()
# A module, what is planted in it, and the rule that has to find it.
PLANTED = [
    ("train/rewards.py", "import manifests.answers", house.bare),
    ("eval/qa.py", "def f():\n    from builders.reid_hard import main", house.bare),
    ("builders/reid/pairs.py", "from nontrivial.builders.qa import negation", house.upward),
    ("builders/qa/clips.py", "import nontrivial.builders.reid.space", house.upward),
    ("builders/qa/clips.py", "from nontrivial.builders import reid", house.upward),
    ("builders/qa/clips.py", "from ..reid import space", house.upward),
    ("builders/qa/inversion.py", "from nontrivial.builders import qa_invert", house.upward),
    ("train/data.py", "from nontrivial.eval import choices", house.upward),
    ("eval/qa.py", "from nontrivial.builders.reid_hard import Options", house.upward),
    ("manifests/media.py", "from nontrivial.models.inputs import encode", house.upward),
    ("models/policy.py", "from nontrivial import soft_score", house.upward),
    ("models/policy.py", "from tests import rows", house.upward),
    ("train/data.py", "require('polars', 'x', 'y')", house.unwanted),
    ("builders/reid/space.py", "import importlib\nimportlib.import_module('trl')", house.unwanted),
    ("manifests/answers.py", "from nontrivial.manifests import schema", house.circles),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("module", MODULES)
def test_a_module_keeps_the_rule(module, rule):
    assert house.broken(rule, module, MODULES[module]) == []


def test_no_modules_import_each_other_in_a_circle():
    assert house.circles() == []


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The modules of the house in another folder."""
    folder = tmp_path_factory.mktemp("house")
    for file in MODULES.values():
        target = folder / file.relative_to(house.ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return folder


@pytest.mark.parametrize(
    ("module", "code", "rule"), PLANTED, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_planted_import_is_found(copy, module, code, rule):
    file = copy / module
    before = file.read_text(encoding="utf-8")
    file.write_text(f"{before}\n{code}\n", encoding="utf-8")
    name = module.removesuffix(".py").replace("/", ".")
    found = rule(copy) if rule is house.circles else house.broken(rule, name, file)
    file.write_text(before, encoding="utf-8")
    assert len(found) == 1


def test_every_room_is_read():
    rooms = {house.room_of(name) for name in MODULES}
    assert rooms == set(house.STANDS_ON)
    assert len(MODULES) > 100


def test_no_room_is_a_lumber_room():
    lumber = {"utils", "util", "helpers", "misc", "common"}
    assert not [name for name in MODULES if lumber & set(name.split("."))]


def test_page_and_picture_are_current():
    docs = Path(house.ROOT, "docs")
    assert (docs / "house.md").read_text() == house.page(), "run python -m scripts.house"
    assert (docs / "house.svg").read_text() == house.picture(house.arrows())
