"""Errors that the user can fix: commands print them without a traceback."""

from __future__ import annotations

import importlib
from types import ModuleType


class BadInput(ValueError):
    """An unusable input; the message says what was given, what is needed and what to do."""


class ManifestError(BadInput):
    """A manifest that breaks the contract; the message names file, row id, column and rule."""


class WorkFailed(RuntimeError):
    """Work that could not be finished although its input was fine (exit status 1)."""


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional dependency; raise `BadInput` with the extra that installs it.

    >>> require("json", "video", "reading").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and not module.startswith(error.name):
            raise
        raise BadInput(
            f"{purpose} needs the package {module!r}, which is not installed: "
            f"pip install 'nontrivial[{extra}]'"
        ) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the error's type if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
