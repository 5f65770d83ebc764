"""Damage of data by chance, and limits for what reads it.

NONTRIVIAL_FUZZ=10000 makes every test of this folder try so many items; by default a few.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ODD_TEXTS = ["", " ", "\0", "\x1b[2J", "../..", "A", "Z", "[", "x" * 3000, "\u202e", "é|`", "-1"]
ODD_NUMBERS = [0, -1, 2**31 - 1, -(2**31), 0.0, -0.0, float("nan"), float("inf"), 1e308]
PIECES = ["(", ")", "\n", "\t", "\r\n", ".", ",", "?", "'", '"', "\u00b2", "\u0661", "\u2160", "ß"]
PIECES += [
    "İ",
    "\ufeff",
    "\u2028",
    "\U0001f9ea",
    "\u0301",
    "/",
    "\\",
    "..",
    "9" * 30,
    " not ",
    "A.",
]
SECONDS = 10  # that one item may take
MEMORY = 2 * 2**30  # bytes that all items may add to the most memory in use


def tries(default: int) -> int:
    """How many items a test tries."""
    return int(os.environ.get("NONTRIVIAL_FUZZ", default))


def other_bytes(data: bytes, rng: random.Random, start: int = 0) -> bytes:
    """Cut some bytes, or change, repeat, leave some out, mostly behind `start`."""
    made = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = rng.randrange(start if rng.random() < 0.7 else 0, max(len(made), start + 1))
        size = rng.choice([1, 1, 1, 4, 50])
        change = rng.randrange(5)
        if change == 0:
            made = made[:place]
        elif change == 1:
            del made[place : place + size]
        elif change == 2:
            made[place:place] = made[place : place + size]
        else:
            chosen = made[place : place + size]
            made[place : place + size] = bytes(
                value ^ (1 << rng.randrange(8)) if change == 3 else rng.randrange(256)
                for value in chosen
            )
    return bytes(made)


def other_text(text: str, rng: random.Random, pieces: list[str] = PIECES) -> str:
    """Cut, repeat, swap, turn round, or mix pieces into a text."""
    for _ in range(rng.choice([1, 1, 2, 5])):
        start, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        part, change = text[start:end], rng.randrange(8)
        if change == 0:
            part = ""
        elif change == 1:
            part *= rng.choice([2, 3, 50])
        elif change == 2:
            part = part[::-1]
        elif change == 3:
            part = part.swapcase()
        elif change == 4:
            part = chr(rng.choice([rng.randrange(32), rng.randrange(0x3000), 0xD800, 0x10FFFF]))
        else:
            part = rng.choice([*pieces, *ODD_TEXTS]) * rng.choice([1, 1, 1, 3, 200])
        text = text[:start] + part + text[end if rng.random() < 0.7 else start :]
        text = text[:100_000]
    return text


def odd(value: Any, rng: random.Random) -> Any:
    """Change one value somewhere inside a value: to null, to nothing, or to something odd."""
    if rng.random() < 0.15:
        return None
    if isinstance(value, dict) and value:
        name = rng.choice(list(value))
        return value | {name: odd(value[name], rng)}
    if isinstance(value, list):
        if not value or rng.random() < 0.3:
            return rng.choice([[], value * 2, value * 30, [None], [*value, None], value[1:]])
        place = rng.randrange(len(value))
        return [*value[:place], odd(value[place], rng), *value[place + 1 :]]
    if isinstance(value, str):
        return rng.choice([*ODD_TEXTS, value + value, value[1:]])
    if isinstance(value, bool):
        return not value
    if isinstance(value, bytes):
        return rng.choice([b"", b"\xff", value[: len(value) // 2]])
    return value if value is None else rng.choice(ODD_NUMBERS)


STRANGE = [True, 10**400, -1, 0.5, float("nan"), [], {}, [[]], [{}], {"A": {"a": []}}, ["a"] * 40]


def strange(value: Any, rng: random.Random) -> Any:
    """Change one value as `odd` does, or to one of another type, or its name, or its text."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice(list(value))
        kept = {other: item for other, item in value.items() if other != name}
        change = rng.randrange(8)
        if change == 0:
            return kept
        if change == 1:
            return kept | {other_text(name, rng)[:200]: value[name]}
        return value | {name: strange(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        return [*value[:place], strange(value[place], rng), *value[place + 1 :]]
    if isinstance(value, str) and rng.random() < 0.6:
        return other_text(value, rng)
    return rng.choice(STRANGE) if rng.random() < 0.4 else odd(value, rng)


@contextmanager
def limited(what: object) -> Iterator[None]:
    """Raise `TimeoutError` for work of over `SECONDS` of the processor, in the main thread."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"{what}: took over {SECONDS} seconds")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def each(count: int, check: Callable[[random.Random], None], salt: str = "") -> None:
    """Call `check` with `count` sources of chance; the error names the seed.

    Raises `AssertionError` where all together added over `MEMORY` to the most memory in use.
    """
    before = peak()
    for seed in range(count):
        try:
            with limited(seed):
                check(random.Random(f"{salt}{seed}"))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    assert peak() - before < MEMORY


def peak() -> int:
    """The most memory that this process had in use, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
