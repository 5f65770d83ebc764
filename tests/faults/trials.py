"""Try a command with faults: given again, it ends as if nothing had happened, and leaves no more.

`NONTRIVIAL_FAULTS` is the number of faults that are tried of a command, or `all`: each fault at
each call, and `KILLS` kills at random moments. Without it, tests try the number they name.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.faults.faulty import WRITERS, answer, at_byte, at_call, calls_of, import_what, run

ROOT = Path(__file__).parents[2]
KILLS = 50
FAULTS = ("killed before", "killed after", "failed", "torn")
CALL = """
import importlib, json, sys
module, function, *args = sys.argv[1:]
print(json.dumps(getattr(importlib.import_module(module), function)(*args)))
"""
ALONE = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}  # a process with threads can't be forked

Command = Callable[[Path], int]  # called with the folder to write to, which is always named `run`
Tell = Callable[[Path], dict[str, str]]  # a digest of each file below that folder
Place = tuple[str, int]  # a fault, and the number of a call


def most(number: int | None) -> int | None:
    """Return how many faults to try: `number`, if `NONTRIVIAL_FAULTS` doesn't say; None for all."""
    said = os.environ.get("NONTRIVIAL_FAULTS")
    return number if not said else None if said == "all" else int(said)


def places_of(calls: Sequence[str], number: int | None, end: str | None = None) -> list[Place]:
    """Return faults at calls: all, or `number` of them, evenly spread.

    With `end` half of them are from the first call on that names it.

    >>> places_of(["unlink a", "mkdir b"], 2)
    [('killed before', 1), ('killed after', 2)]
    >>> len(places_of(["unlink a", "open b"], None))
    7
    """
    if number is None:
        return [(f, n) for n, call in enumerate(calls, 1) for f in FAULTS if _fits(f, call)]
    begin = next((n for n, call in enumerate(calls) if end and end in call), 0)
    spans = [range(len(calls)), range(begin, len(calls))] if end else [range(len(calls))]
    share = number // len(spans)
    chosen = sorted({span[n * len(span) // share] for span in spans for n in range(share)})
    places = []
    for turn, call in enumerate(chosen):
        fault = FAULTS[turn % len(FAULTS)]
        places.append((fault if _fits(fault, calls[call]) else "killed before", call + 1))
    return places


def _fits(fault: str, call: str) -> bool:
    return fault != "torn" or call.split()[0] in WRITERS


class Trial:
    """A command with what it leaves where nothing disturbs it.

    Files whose names end as `atomic` says are absent or whole whenever it is killed.
    """

    def __init__(
        self, command: Command, folder: Path, tell: Tell, atomic: tuple[str, ...] = ()
    ) -> None:
        self.command, self.folder, self.tell, self.atomic = command, folder, tell, atomic
        whole = folder / "whole"
        import_what(lambda: self.run(whole))
        shutil.rmtree(whole)
        began = time.monotonic()
        self.calls = [call.replace(str(whole), "") for call in calls_of(lambda: self.run(whole))]
        self.seconds = time.monotonic() - began
        self.expected = answer(lambda: tell(whole))
        assert self.expected
        assert not [name for name in self.expected if name.endswith((".lock", ".tmp"))]

    def run(self, folder: Path) -> int:
        return self.command(folder / "run")

    def faults(self, number: int | None, end: str | None = None) -> dict[str, int]:
        """Try faults; return how many were tried, and how many ended the command."""
        ended, wrong = 0, []
        places = places_of(self.calls, number, end)
        for fault, call in places:
            out = self.folder / f"{fault} {call}"
            ended += run(lambda out=out: self.run(out), at_call(fault, call)) != 0
            if problem := self.not_as_expected(out):
                wrong.append(f"{fault} call {call}, {self.calls[call - 1]}: {problem}")
        report(wrong)
        return {"calls": len(self.calls), "tried": len(places), "ended": ended}

    def stop_at_bytes(self, limits: Sequence[int]) -> int:
        """End the command where a file has had so many bytes; return how many ends were tried."""
        wrong = []
        for fault, ends in (("killed", -signal.SIGXFSZ), ("failed", 1)):
            for limit in limits:
                out = self.folder / f"{fault} {limit}"
                status = run(lambda out=out: self.run(out), at_byte(fault, limit))
                assert status == ends, (fault, limit, status)
                if problem := self.not_as_expected(out):
                    wrong.append(f"{fault} at {limit} bytes: {problem}")
        report(wrong)
        return 2 * len(limits)

    def kills(self, number: int, end: str | None = None) -> dict[str, int]:
        """Kill the command at random moments until it has been so often; count them by how far.

        With `end` every second one comes soon after the first file that it names.
        """
        moments, killed, wrong, out = random.Random(0), Counter(), [], self.folder / "killed"

        def late() -> bool:
            return end is not None and any((out / "run").glob(f"*{end}*"))

        while killed.total() < number:
            if end and killed.total() % 2 and not late():
                moment = {"seconds": moments.uniform(0, self.seconds / 8), "since": late}
            else:
                moment = {"seconds": moments.uniform(0, self.seconds)}
            status = run(lambda: self.run(out), **moment)
            if status == -signal.SIGKILL:
                killed["late" if late() else "early"] += 1
            elif status or (problem := self.not_as_expected(out)):
                wrong.append(f"after {killed.total()} kills: {status or problem}")
                shutil.rmtree(out, ignore_errors=True)
        if problem := self.not_as_expected(out):
            wrong.append(problem)
        report(wrong)
        return dict(killed)

    def not_as_expected(self, out: Path) -> str:
        """Give the command again, and remove what it made; return what was or is wrong with it."""
        half = [
            name
            for name, digest in answer(lambda: self.tell(out)).items()
            if name.endswith(self.atomic) and digest != self.expected.get(name)
        ]
        if half:
            return f"the fault left {', '.join(half)}"
        status = run(lambda: self.run(out))
        if status:
            return f"the command again: status {status}"
        found = answer(lambda: self.tell(out))
        shutil.rmtree(out)
        names = sorted(self.expected.keys() | found.keys())
        return ", ".join(name for name in names if self.expected.get(name) != found.get(name))


def report(wrong: Sequence[str]) -> None:
    """Raise where something was wrong, and say all of it."""
    if wrong:
        raise SystemExit("\n".join([f"{len(wrong)} trials went wrong:", *wrong]))


def quiet(main: Callable[[list[str]], int], words: Sequence[str]) -> int:
    """Run a command that prints nothing; return its status."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        return main(list(words))


def by_two(command: Command) -> Command:
    """Return a command that two processes run together.

    As under torchrun, neither outlives the other's failure, nor this process. The second one is
    slower to save, so that a kill finds the first one ahead.
    """

    def both(out: Path) -> int:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        left = {_start(lambda: command(out), rank, port) for rank in range(2)}
        failed = 0
        while left:
            ended, status = os.wait()
            left.remove(ended)
            failed = failed or status
            for other in left if failed else ():
                os.kill(other, signal.SIGKILL)
        return 1 if failed else 0

    return both


def _start(work: Callable[[], int], rank: int, port: int) -> int:
    """Start one of two processes that meet at a port; return its number."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # to be killed when its parent ends
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()})
        if rank:
            import torch

            save = torch.save
            torch.save = lambda *given, **named: (time.sleep(0.2), save(*given, **named))
        status = work()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def in_a_process(module: str, function: str, *args: Any) -> Any:
    """Call a function of a module in a process without threads; return what it returns."""
    done = subprocess.run(
        [sys.executable, "-c", CALL, module, function, *map(str, args)],
        cwd=ROOT,
        env=os.environ | ALONE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return json.loads(done.stdout.splitlines()[-1])
