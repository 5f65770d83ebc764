"""Where the time of a training step goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainerCallback

from nontrivial.manifests.runs import PARTS, SHARE


class Clock:
    """Adds up seconds by part; what is timed inside a part is not counted in it."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._now = now or _settled
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._inside: list[str] = []
        self.failed: str | None = None  # the innermost part that an error has left
        self._since = self._began = self._now()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a part; parts may be nested."""
        self._count()
        self._inside.append(name)
        try:
            yield
        except BaseException:
            self.failed = self.failed or name
            raise
        finally:
            self._count()
            self._inside.pop()

    def shares(self) -> dict[str, float]:
        """Return each part's share of the time since the last call; outside of parts is training.

        >>> times = iter([0.0, 1.0, 3.0, 4.0])
        >>> clock = Clock(lambda: next(times))
        >>> with clock.part("sampling"): pass
        >>> shares = clock.shares()
        >>> shares["sampling"], shares["training"]
        (0.5, 0.5)
        """
        self._count()
        total = max(self._since - self._began, 1e-9)
        shares = {name: self._seconds[name] / total for name in PARTS}
        self._seconds.clear()
        self._began = self._since
        return shares

    def _count(self) -> None:
        now = self._now()
        self._seconds[self._inside[-1] if self._inside else "training"] += now - self._since
        self._since = now


class TellShares(TrainerCallback):
    """A callback that adds the shares of each step to the metrics of a trainer's next log."""

    def __init__(self, clock: Clock, metrics: Mapping[str, defaultdict[str, list[float]]]) -> None:
        self.clock, self.metrics = clock, metrics

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.clock.shares()  # loading is no part of the first step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for name, share in self.clock.shares().items():
            self.metrics["train"][SHARE.format(name)].append(share)


def _settled() -> float:
    """Return the time when everything that was launched on a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
