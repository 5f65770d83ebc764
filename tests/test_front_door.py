"""`import nontrivial` is light, offers what it says, and its page holds."""

from __future__ import annotations

import doctest
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nontrivial
from nontrivial import api
from nontrivial.manifests.errors import BadInput

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
HEAVY = ("torch", "transformers", "trl", "datasets", "polars", "pyarrow", "numpy", "faiss", "PIL")


def test_importing_it_loads_nothing_heavy(tmp_path):
    code = "import nontrivial, json, sys; print(json.dumps([dir(nontrivial), sorted(sys.modules)]))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    names, modules = json.loads(done.stdout)
    assert not set(HEAVY) & set(modules)
    assert set(nontrivial.__all__) <= set(names)


def test_a_look_for_torchvision_where_it_is_not_needs_no_torch(tmp_path):
    """`datasets` looks for it; manifests are read where neither is installed."""
    code = (
        "import importlib.util, sys; "
        "sys.path = [folder for folder in sys.path if 'site-packages' not in folder]; "
        "import nontrivial; assert importlib.util.find_spec('torchvision') is None"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PAGE.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", nontrivial.__all__)
def test_a_name_is_there_explained_and_used_on_the_page(name):
    value = getattr(nontrivial, name)
    assert len(inspect.getdoc(value) or "") > 40
    assert re.search(rf"^(>>>|\.\.\.) .*\bnt\.{name}\(", PAGE.read_text(encoding="utf-8"), re.M)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'soft_scores'"):
        _ = nontrivial.soft_scores


def test_the_page_holds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    failed, tried = doctest.testfile(str(PAGE), module_relative=False, optionflags=flags)
    assert tried > 30
    assert failed == 0


def test_the_examples_of_the_functions_hold():
    assert doctest.testmod(api).failed == 0


def test_names_of_people_and_cameras_do_as_well_as_numbers():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(12, 8)).repeat(4, axis=0) + rng.normal(size=(48, 8))
    pids, camids = np.arange(48) // 4, np.arange(48) % 2
    by_number = nontrivial.mine_pairs(vectors, pids, camids, budget=10)
    names = np.array([f"p{pid:02d}" for pid in pids]), np.array(["east", "west"])[camids]
    by_name = nontrivial.mine_pairs(3 * vectors, *names, budget=10)
    for name, values in by_number.items():
        assert np.array_equal(values, by_name[name]), name
    several = nontrivial.mine_pairs([vectors, vectors[:, ::-1]], pids, camids, budget=10)
    assert len(several["anchor"]) == len(by_number["anchor"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((np.ones((4, 2)), [1, 2, 3], [1] * 4), r"pids have the shape \(3,\), need \(4,\)"),
        ((np.ones(4), [1] * 4, [1] * 4), r"need \(N, D\)"),
        ((np.zeros((4, 2)), [1] * 4, [1] * 4), "zero or not finite"),
        (([np.ones((4, 2)), np.ones((3, 2))], [1] * 4, [1] * 4), "need the same"),
    ],
)
def test_shapes_that_differ_are_named(words, said):
    with pytest.raises(ValueError, match=said):
        nontrivial.mine_pairs(*words)


def test_a_ranking_without_a_match_says_so():
    with pytest.raises(BadInput, match="none of 1 queries has a match"):
        nontrivial.ranking_metrics([[1, 0]], [[1, 0]], [1], [2], [1], [2])


def test_an_inversion_keeps_clevrers_truths():
    made = nontrivial.invert(
        "What will happen?", ["A hits B", "C exits"], ["A"], kind="independent"
    )
    assert (made.question, made.answer) == ("What will not happen?", ["B"])
    with pytest.raises(ValueError, match="kind is 'multiple'"):
        nontrivial.invert("What?", ["a", "b"], "A", kind="multiple")


@pytest.mark.parametrize("answer", ["", "a", "AC", ["A", 1]])
def test_an_inversion_needs_letters_of_its_options(answer):
    with pytest.raises(ValueError, match="one or more of the letters A, B"):
        nontrivial.invert("What?", ["x", "y"], answer)
