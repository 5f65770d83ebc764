"""Errors that are the user's to mend: commands print them without a traceback."""

from __future__ import annotations

import importlib
from types import ModuleType


class BadInput(ValueError):
    """Something given is unusable; the message says what was given, what is needed, what to do."""


class ManifestError(BadInput):
    """A manifest breaks the contract; the message names file, row id, column and rule."""


class WorkFailed(RuntimeError):
    """The input was fine, the work could not be finished (exit status 1)."""


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it.

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
