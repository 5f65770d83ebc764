"""Call a function in a process of its own, whose crash costs one item and no more.

Images and clips are decoded by C libraries. A file made to break one, or damaged by chance, may end
the process that reads it. Here that process is another one: the item that ended it is named, and a
new process goes on behind it.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar

from nontrivial.manifests.errors import WorkFailed, first_line

Item = TypeVar("Item")
Result = TypeVar("Result")

ENDING = 10  # seconds that a process may take to end
AHEAD = 4  # items of a thread that wait for an earlier one, with their results


class Crash(NamedTuple):
    """In place of a result: how the process ended, or what the function raised, in a line."""

    reason: str


def guarded(
    function: Callable[[Item], Result], items: Sequence[Item], threads: int
) -> Generator[tuple[int, Result | Crash], None, None]:
    """Yield the number of each item and the function's result, as they are ready.

    `threads` threads of the other process work at once, on none that is further ahead of the first
    than `AHEAD` items each. Function, items and results are pickled.
    """
    waiting = deque(range(len(items)))
    suspects: deque[int] = deque()  # at work in a process that crashed: one at a time from here
    while waiting or suspects:
        queue, most = (suspects, 1) if suspects else (waiting, 2 * threads)
        left = yield from _in_a_process(function, items, queue, threads, most)
        if len(left.numbers) == 1 and left.crash:
            yield left.numbers[0], left.crash
        else:
            suspects.extend(left.numbers)


class Apart(Generic[Result]):
    """A function that is called in a process of its own, which begins anew after a crash.

    Function, arguments and results are pickled.
    """

    def __init__(self, function: Callable[..., Result]) -> None:
        self.function = function
        self._running: tuple[BaseProcess, Connection] | None = None

    def __call__(self, *arguments: Any) -> Result:
        """Return the function's result.

        Raises `ValueError` with the reason of a `Crash`.
        """
        self._running = self._running or _begun(partial(_spread, self.function), 1)
        worker, pipe = self._running
        try:
            pipe.send((0, arguments))
            _, result = pipe.recv()
        except (EOFError, OSError) as error:
            with closing(self):
                result = _crash(worker, error)
        if isinstance(result, Crash):
            raise ValueError(result.reason)
        return result

    def close(self) -> None:
        """End the process; a later call begins another."""
        if self._running:
            worker, pipe = self._running
            pipe.close()
            worker.terminate()
            worker.join()
            self._running = None


def alone(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function once, as `Apart` does."""
    with closing(Apart(function)) as call:
        return call(*arguments)


def _spread(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    return function(*arguments)


def _in_a_process(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    queue: deque[int],
    threads: int,
    most: int,
) -> Generator[tuple[int, Result], None, _Left]:
    """Yield results until the queue is empty or the process ends; return what it left.

    The process has `most` items at a time.
    """
    worker, here = _begun(function, threads)
    at_work: set[int] = set()
    ahead = AHEAD * threads
    try:
        while queue or at_work:
            while (
                queue and len(at_work) < most and queue[0] - min(at_work, default=queue[0]) < ahead
            ):
                at_work.add(queue[0])
                here.send((queue[0], items[queue.popleft()]))
            number, result = here.recv()
            at_work.discard(number)
            yield number, result
    except (EOFError, OSError) as error:
        return _Left(sorted(at_work), _crash(worker, error))
    finally:
        here.close()
        worker.terminate()
        worker.join()
    return _Left([], None)


def _begun(function: Callable, threads: int) -> tuple[BaseProcess, Connection]:
    """Start a process, and return it with its pipe; raise `WorkFailed` if it does not begin."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    worker = spawn.Process(target=_work, args=(function, threads, there), daemon=True)
    worker.start()
    there.close()
    try:
        here.recv()
    except EOFError:
        worker.join()
        raise WorkFailed(
            f"no process could be begun to read files in ({_ended(worker.exitcode)}); a script of "
            'your own has to call commands below `if __name__ == "__main__":`'
        ) from None
    return worker, here


class _Left(NamedTuple):
    numbers: list[int]
    crash: Crash | None


def _work(function: Callable, threads: int, pipe: Connection) -> None:
    """Answer items that come through a pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    sending = Lock()
    pipe.send("begun")

    def answer(number: int, item: object) -> None:
        try:
            told = ForkingPickler.dumps((number, function(item)))
        except Exception as error:
            told = ForkingPickler.dumps((number, Crash(first_line(error))))
        with sending, suppress(OSError):
            pipe.send_bytes(told)

    with ThreadPoolExecutor(threads) as pool, suppress(EOFError, OSError):
        while True:
            pool.submit(answer, *pipe.recv())


def _crash(worker: BaseProcess, error: Exception) -> Crash:
    """Tell how a process ended, where talking to it raised `error`, which goes on if it did not."""
    worker.join(ENDING)
    if worker.is_alive():
        raise error
    return Crash(_ended(worker.exitcode))


def _ended(status: int | None) -> str:
    """Say how a process ended."""
    if status is None or status >= 0:
        return f"the decoder ended the process with status {status}"
    return f"the decoder crashed ({signal.Signals(-status).name})"
