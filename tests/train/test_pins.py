"""What TRL and transformers do behind our overrides is what it was when these were written.

python -m tests.train.test_pins     pin the installed versions anew, after reading what changed
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import nontrivial.train
from nontrivial.train.trl_hooks import PATCHED

PINS = Path(__file__).with_name("pins.json")
CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
LIBRARIES = ("trl", "transformers")
SPECIAL = {"__iter__"}  # other special methods are extended, or made by dataclasses


def overridden() -> dict[str, Callable[..., Any]]:
    """The methods of TRL and transformers that classes of nontrivial.train override, by name."""
    found = {}
    for module in pkgutil.iter_modules(nontrivial.train.__path__, "nontrivial.train."):
        for cls in vars(importlib.import_module(module.name)).values():
            if not (inspect.isclass(cls) and cls.__module__ == module.name):
                continue
            for name in vars(cls):
                if name.startswith("__") and name not in SPECIAL:
                    continue
                for base in cls.__mro__[1:]:
                    method = vars(base).get(name)
                    ours = base.__module__.split(".")[0] not in LIBRARIES
                    if not ours and inspect.isfunction(method):
                        found[f"{base.__module__}.{base.__qualname__}.{name}"] = method
    return found


def patched() -> dict[str, Callable[..., Any]]:
    """The methods that are replaced on instances, by name."""
    found = {}
    for path in PATCHED:
        parts = path.split(".")
        depth = next(n for n in range(len(parts), 0, -1) if _is_module(".".join(parts[:n])))
        value: Any = importlib.import_module(".".join(parts[:depth]))
        for part in parts[depth:]:
            value = getattr(value, part)
        found[path] = value
    return found


def pinned() -> dict[str, Callable[..., Any]]:
    return dict(sorted({**overridden(), **patched()}.items()))


def digests(methods: Mapping[str, Callable[..., Any]]) -> dict[str, dict[str, str]]:
    """The signature of each method, and a digest of its source."""
    return {
        name: {
            "signature": str(inspect.signature(method)),
            "source": hashlib.sha256(source_of(method).encode()).hexdigest()[:16],
        }
        for name, method in methods.items()
    }


def source_of(method: Callable[..., Any]) -> str:
    return inspect.getsource(inspect.unwrap(method))


def changed(now: Mapping[str, Mapping[str, str]], before: Mapping[str, Mapping[str, str]]) -> str:
    """What differs, a line a method; empty where nothing does."""
    lines = []
    for name in sorted({*now, *before}):
        old, new = before.get(name), now.get(name)
        if old is None or new is None:
            lines.append(f"{name}: is {'not pinned' if old is None else 'gone'}")
        elif old != new:
            parts = [part for part in new if old[part] != new[part]]
            lines.append(f"{name}: its {' and '.join(parts)} changed")
    return "\n".join(lines)


def _is_module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def constrained() -> dict[str, str]:
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {name: pin for name, pin in pairs if name in LIBRARIES}


@pytest.fixture
def pins() -> dict[str, Any]:
    for name, pin in constrained().items():
        if version(name) != pin:
            pytest.skip(f"pins are of {name} {pin}, {version(name)} is installed")
    return json.loads(PINS.read_text(encoding="utf-8"))


def test_what_is_overridden_is_what_it_was(pins):
    assert pins["versions"] == constrained()
    difference = changed(digests(pinned()), pins["methods"])
    assert not difference, f"read these, then run python -m tests.train.test_pins:\n{difference}"


def test_every_hook_that_the_page_names_is_pinned(pins):
    hooks = importlib.import_module("nontrivial.train.trl_hooks").__doc__
    named = [line.split()[0] for line in hooks.splitlines() if line.startswith("_")]
    assert len(named) >= 7
    for name in named:
        assert any(method.endswith(f".{name}") for method in pins["methods"]), name


@pytest.mark.parametrize("name", list(pinned()))
def test_one_character_is_noticed_and_its_method_named(pins, monkeypatch, name):
    own = source_of
    copy = {n: own(method) for n, method in pinned().items()}
    copy[name] = copy[name].replace("e", "é", 1)
    sources = {id(method): copy[n] for n, method in pinned().items()}
    monkeypatch.setattr(f"{__name__}.source_of", lambda method: sources[id(method)])
    assert changed(digests(pinned()), pins["methods"]) == f"{name}: its source changed"


def test_a_method_that_is_gone_or_new_is_named(pins):
    before = dict(pins["methods"])
    (first, *_), now = before, dict(before)
    del now[first]
    assert changed(now, before) == f"{first}: is gone"
    assert changed(before, now) == f"{first}: is not pinned"


if __name__ == "__main__":
    record = {"versions": constrained(), "methods": digests(pinned())}
    PINS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{len(record['methods'])} methods pinned in {PINS}")
