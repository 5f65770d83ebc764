"""Run the commands that a page shows, and hold what they print against what the page says.

    python -m tests.pages docs/own_images.md           print commands and what they really print
    python -m tests.pages --renew docs/own_images.md   write what has changed into the page

A block marked `console` is run: each line behind `$ ` is a command, and the lines below it are what
it prints to stdout. `...` stands for what the page leaves out. Progress and warnings go to stderr
and are not shown. Numbers that training and evaluation print depend on the machine a little, so of
these only the words are compared. A block below a line that ends in a file's name and a colon, such
as "`my_rewards.py`:", is written to that file. All of it happens in one folder, from top to bottom.
Blocks with other marks, or without one, are only read. A block that leaves something out is not
renewed but named, with what its command prints.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nontrivial.manifests.command import guard

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(?:`(?P<file>[\w.]+)`:\n\n)?```(?P<mark>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
COMMAND = re.compile(r"(?:.*\\\n)*.*\n")  # it goes on behind a backslash
MEASURED = re.compile(r"python -m (?:train|eval)\.")
NUMBER = re.compile(r"-?\d[\d.,/–]*|-{2,}")  # or the line below a table's header, as wide as those
CUT = re.compile(r"\s*^\.\.\.$\s*", re.M)
RENEW = "--renew"
MATCHED = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Step(NamedTuple):
    """A file to write (its name and text), or a command to run (its words and what it prints)."""

    file: str | None
    command: str
    text: str


def steps(page: str) -> Iterator[Step]:
    """Yield the files and commands of a page, in their order."""
    for block in BLOCK.finditer(page):
        if block["mark"] == "console":
            for part in re.split(r"^\$ ", block["text"], flags=re.M)[1:]:
                command = COMMAND.match(part)[0]
                yield Step(None, command.strip(), part.removeprefix(command))
        elif block["file"]:
            yield Step(block["file"], "", block["text"])


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of a page as a reader would, with this Python and this checkout."""
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "100",
    }
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def agree(step: Step, printed: str) -> bool:
    """True if a command has printed what the page says, but for measured numbers."""
    said = step.text
    if MEASURED.match(step.command):
        said, printed = (NUMBER.sub("#", text) for text in (said, printed))
    return same(said, printed)


def same(said: str, printed: str) -> bool:
    """True if a text is what was printed, but for spaces and what it leaves out."""
    said = CUT.sub("...", said)  # also where nothing but an empty line is left out
    return doctest.OutputChecker().check_output(said, printed, MATCHED)


def renewed(page: str, step: Step, printed: str) -> str:
    """Return a page that says, in one of its blocks, what a command has printed."""
    begun = f"$ {step.command}\n"
    return page.replace(begun + step.text, f"{begun}{printed.strip()}\n", 1)


def differences(page: str, folder: Path) -> list[str]:
    """Run a page in an empty folder; return the commands that fail or print something else."""
    found = []
    for step in steps(page):
        if step.file:
            (folder / step.file).write_text(step.text, encoding="utf-8")
            continue
        done = run(step.command, folder)
        if done.returncode:
            found.append(f"$ {step.command}\nstatus {done.returncode}\n{done.stderr[-2000:]}")
        elif not agree(step, done.stdout):
            found.append(f"$ {step.command}\nprinted\n{done.stdout}\nthe page says\n{step.text}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print or renew what the commands of the pages that are named print."""
    return guard(show, sys.argv[1:] if argv is None else argv)


def show(words: Sequence[str]) -> None:
    for name in words:
        if name != RENEW:
            _show(Path(name), renew=RENEW in words)


def _show(file: Path, *, renew: bool) -> None:
    page = file.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for step in steps(page):
            if step.file:
                Path(folder, step.file).write_text(step.text, encoding="utf-8")
                continue
            done = run(step.command, Path(folder))
            differs = done.returncode or not same(step.text, done.stdout)
            if differs or not renew:
                shown = done.stderr if done.returncode else done.stdout
                print(f"$ {step.command}\n{shown}", flush=True)
            if differs and renew and not done.returncode and not CUT.search(step.text):
                page = renewed(page, step, done.stdout)
                file.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
