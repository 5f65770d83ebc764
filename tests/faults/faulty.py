"""Run a command in forks of this process, with a fault: a call or a write fails, or kills it.

The modules are imported once, before any thread is started.
"""

from __future__ import annotations

import errno
import importlib
import itertools
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

# Calls that change the disk, of the modules that are imported. C++ and Rust write in the last two.
CALLS = {
    "os": (
        *("open", "fsync", "replace", "rename", "unlink", "remove"),
        *("rmdir", "mkdir", "chmod", "truncate"),
    ),
    "fcntl": ("flock",),
    "builtins": ("open",),
    "io": ("open",),  # pathlib's
    "torch": ("save",),
    "safetensors.torch": ("serialize_file",),
}
WRITERS = ("open", "save", "serialize_file")  # calls that a torn file may follow
TORN = 500  # bytes of a torn file
ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT  # asks whether a process has ended

Call = Callable[..., Any]


def run(
    work: Callable[[], int],
    install: Callable[[], None] = lambda: None,
    seconds: float | None = None,
    since: Callable[[], bool] = lambda: True,
) -> int:
    """Return the exit status of `work` in a process of its own; the negative signal if killed.

    It is killed `seconds` after `since` is true, unless it has ended.
    """
    child = os.fork()
    if not child:
        status = 70  # of a run that ended by an error of its own, which is printed
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            install()
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    if seconds is not None:
        while not since() and not os.waitid(os.P_PID, child, ENDED):
            time.sleep(0.01)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_call(fault: str, number: int) -> Callable[[], None]:
    """Return what makes the call of that number, from 1, fail, or kills the process about it.

    "torn" kills it in the write behind the call that makes a file longer than `TORN` bytes.
    """
    made = itertools.count(1)

    def wrapped(call: Call, _name: str) -> Call:
        def faulty(*args: Any, **kwargs: Any) -> Any:
            if next(made) != number:
                return call(*args, **kwargs)
            if fault == "failed":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if fault == "torn":
                at_byte("killed", TORN)()
                return call(*args, **kwargs)
            result = call(*args, **kwargs) if fault == "killed after" else None
            os.kill(os.getpid(), signal.SIGKILL)
            return result

        return faulty

    return lambda: _wrap_calls(wrapped)


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


def import_what(work: Callable[[], int]) -> None:
    """Run `work`, which must end well, and import here what it does."""
    before = set(sys.modules)
    status, modules = answer(lambda: (work(), sorted(set(sys.modules) - before)))
    assert status == 0
    for name in modules:
        with suppress(ImportError):
            importlib.import_module(name)


def calls_of(work: Callable[[], int]) -> list[str]:
    """Run `work`, which must end well; return its calls in order, as a name and a path."""
    made: list[str] = []

    def counting(call: Call, name: str) -> Call:
        def counted(*args: Any, **kwargs: Any) -> Any:
            paths = [str(arg) for arg in args if isinstance(arg, str | os.PathLike)]
            made.append(" ".join([name, *paths[:1]]))
            return call(*args, **kwargs)

        return counted

    def watched() -> tuple[int, list[str]]:
        _wrap_calls(counting)
        return work(), made

    status, calls = answer(watched)
    assert status == 0
    return calls


def _wrap_calls(wrap: Callable[[Call, str], Call]) -> None:
    """Put a call of one's own in the place of each of `CALLS`."""
    for module, name in _present():
        call = getattr(module, name)
        if name == "open" and module is not os:
            setattr(module, name, _of_writers(call, wrap(call, name)))
        else:
            setattr(module, name, wrap(call, name))


def _present() -> Iterator[tuple[Any, str]]:
    for module, names in CALLS.items():
        if module in sys.modules:
            yield from ((sys.modules[module], name) for name in names)


def _of_writers(call: Call, wrapped: Call) -> Call:
    """Return an `open` that is wrapped where it opens a file to write."""

    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        chosen = wrapped if set(mode) & set("wax+") else call
        return chosen(file, mode, *args, **kwargs)

    return opened
