"""Run a command again and again with a fault: a system call or a write fails, or kills it.

The modules are imported once, and each run is a fork of this process, before any thread is started.
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import itertools
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any

CALLS = {os: ("open", "fsync", "replace", "unlink", "chmod", "mkdir"), fcntl: ("flock",)}
FAULTS = ("killed before", "killed after", "failed")


def run(work: Callable[[], int], install: Callable[[], None] = lambda: None) -> int:
    """Return the exit status of `work` in a process of its own; the negative signal if killed."""
    child = os.fork()
    if not child:
        status = 70  # of a run that ended by an error of its own, which is printed
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            install()
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_call(fault: str, number: int) -> Callable[[], None]:
    """Return what makes the call of that number fail, or kill the process before or after it."""
    made = itertools.count(1)

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def faulty(*args: Any, **kwargs: Any) -> Any:
            if next(made) != number:
                return call(*args, **kwargs)
            if fault == "failed":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            result = call(*args, **kwargs) if fault == "killed after" else None
            os.kill(os.getpid(), signal.SIGKILL)
            return result

        return faulty

    def install() -> None:
        for module, names in CALLS.items():
            for name in names:
                setattr(module, name, wrapped(getattr(module, name)))

    return install


def at_byte(fault: str, number: int) -> Callable[[], None]:
    """Return what makes writing beyond that many bytes of a file fail, or kill the process."""

    def install() -> None:
        action = signal.SIG_IGN if fault == "failed" else signal.SIG_DFL
        signal.signal(signal.SIGXFSZ, action)
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))

    return install


def answer(work: Callable[[], Any]) -> Any:
    """Return what `work` returns in a process of its own, as JSON carries it."""
    with tempfile.TemporaryFile("w+") as file:

        def tell() -> int:
            json.dump(work(), file)
            file.flush()
            return 0

        assert run(tell) == 0
        file.seek(0)
        return json.load(file)


def calls_of(work: Callable[[], int]) -> int:
    """Run `work`, which must end well; return how many calls it makes, and import what it does."""
    count, before = [0], set(sys.modules)

    def counting(call: Callable[..., Any]) -> Callable[..., Any]:
        def counts(*args: Any, **kwargs: Any) -> Any:
            count[0] += 1
            return call(*args, **kwargs)

        return counts

    def watched() -> tuple[int, int, list[str]]:
        for module, names in CALLS.items():
            for name in names:
                setattr(module, name, counting(getattr(module, name)))
        return work(), count[0], sorted(set(sys.modules) - before)

    status, calls, modules = answer(watched)
    assert status == 0
    for name in modules:
        with suppress(ImportError):
            importlib.import_module(name)
    return calls
