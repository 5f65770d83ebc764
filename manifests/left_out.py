"""Samples that the user leaves out by id: `--exclude ids.txt`, one id a line.

A gallery writes such a file from the rows that were marked in it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from nontrivial.manifests.command import say
from nontrivial.manifests.errors import BadInput

HELP = "file of samples to leave out, one id a line, as a gallery writes it"
LARGEST = 1 << 28  # bytes of a file
LONGEST = 1000  # characters of an id
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class LeftOut:
    """The ids of a file, and those of them that some sample had; no file leaves nothing out.

    Raises `FileNotFoundError` for a missing file, `BadInput` for one that is no list of ids.
    """

    def __init__(self, file: str | None) -> None:
        self.file = file
        self.ids = frozenset() if file is None else read_ids(file)
        self.met: set[str] = set()

    def keeps(self, name: str) -> bool:
        """Return True if the sample with this id stays; remember it if it does not."""
        if name not in self.ids:
            return True
        self.met.add(name)
        return False

    def report(self) -> None:
        """Print how many samples were left out, and how many ids no sample had."""
        if self.file is None:
            return
        unknown = len(self.ids) - len(self.met)
        told = f"; {unknown} of its {len(self.ids)} ids name no sample" if unknown else ""
        say(f"--exclude {self.file}: left out {len(self.met)} samples{told}")


def read_ids(file: str) -> frozenset[str]:
    """Read ids, one a line; empty lines do not count.

    Raises `FileNotFoundError` for a missing file, `BadInput` for one that is no list of ids.
    """
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(LARGEST + 1)
        text = content.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"--exclude {file}: no such file") from error
    except UnicodeDecodeError as error:
        raise _no_list(file, "it is not text in UTF-8") from error
    if len(content) > LARGEST:
        raise _no_list(file, f"it is larger than {LARGEST >> 20} MiB")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    for number, line in enumerate(lines, 1):
        if line and not is_listable(line):
            raise _no_list(file, f"line {number} is {line[:40]!r}")
    ids = [line for line in lines if line.strip()]
    if not ids:
        raise _no_list(file, "it is empty")
    if _is_json(text) or _is_json(ids[0]):
        raise _no_list(file, "it is JSON")
    return frozenset(ids)


def is_listable(name: str) -> bool:
    """True for an id that fits on a line: up to `LONGEST` characters, none a tab or a line end.

    >>> is_listable("market1501/train/hard/a~b"), is_listable("a\\tb")
    (True, False)
    """
    return len(name) <= LONGEST and not _CONTROL.search(name)


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _no_list(file: str, reason: str) -> BadInput:
    return BadInput(f"--exclude {file}: needs a text file with one id a line, but {reason}")
