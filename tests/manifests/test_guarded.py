"""A process that crashes costs the item that it was at; the others have their results."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from nontrivial.manifests import guarded as guarding
from nontrivial.manifests.guarded import AHEAD, Apart, Crash, alone, guarded


def double(item: int) -> int:
    """Double an item; end the process at some."""
    if item % 10 == 3:
        signal.raise_signal(signal.SIGSEGV)
    if item % 10 == 7:
        os._exit(5)
    time.sleep(0.002 * (item % 3))
    return 2 * item


@pytest.mark.parametrize("threads", [1, 4])
def test_a_crash_costs_one_item(threads):
    items = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15]
    found = dict(guarded(double, items, threads))
    assert sorted(found) == list(range(len(items)))
    for number, item in enumerate(items):
        if item % 10 == 3:
            assert found[number] == Crash("the decoder crashed (SIGSEGV)")
        elif item % 10 == 7:
            assert found[number] == Crash("the decoder ended the process with status 5")
        else:
            assert found[number] == 2 * item


def test_nothing_to_do_starts_no_process():
    assert list(guarded(os.abort, [], 4)) == []


def test_large_items_and_many_of_them_pass():
    items = [bytes(200_000)] * 40
    assert [size for _, size in guarded(len, items, 2)] == [200_000] * 40


def test_who_stops_listening_leaves_no_process_behind():
    results = guarded(double, [0] * 50, 2)
    next(results)
    results.close()
    assert multiprocessing.active_children() == []


def raised(item: int) -> int:
    return 10 // item


def awkward(item: int) -> object:
    """Raise, or return what can't be pickled."""
    return (lambda: item) if item == 3 else 10 // item


def test_what_a_function_raises_costs_one_item():
    found = dict(guarded(awkward, [5, 0, 3, 10], 2))
    assert [found[0], found[3]] == [2, 1]
    assert found[1] == Crash("integer division or modulo by zero")
    assert "pickle" in found[2].reason


def slow_at_first(item: int) -> int:
    time.sleep(0.5 if item == 0 else 0)
    return item


def test_results_do_not_gather_behind_a_slow_one():
    order = [number for number, _ in guarded(slow_at_first, list(range(100)), 2)]
    assert order.index(0) < 2 * AHEAD
    assert sorted(order) == list(range(100))


@pytest.mark.parametrize("apart", [False, True])
def test_a_signal_of_the_callers_own_ends_the_call(monkeypatch, apart):
    def out_of_time(*_):
        raise TimeoutError("out of time")

    monkeypatch.setattr(guarding, "ENDING", 0.1)
    call = Apart(time.sleep)
    former = signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, 2)
    try:
        with pytest.raises(TimeoutError, match="out of time"):
            call(60) if apart else list(guarded(time.sleep, [60], 1))
    finally:
        signal.signal(signal.SIGALRM, former)
    assert multiprocessing.active_children() == []


def test_a_function_apart_begins_anew_after_a_crash():
    with closing(Apart(double)) as call:
        assert call(5) == 10
        with pytest.raises(ValueError, match=r"crashed \(SIGSEGV\)"):
            call(3)
        assert call(6) == 12


def test_one_call_in_a_process_of_its_own_returns_raises_or_tells_of_its_crash():
    assert alone(raised, 5) == 2
    with pytest.raises(ValueError, match="modulo by zero"):
        alone(raised, 0)
    with pytest.raises(ValueError, match=r"crashed \(SIGSEGV\)"):
        alone(double, 3)


def test_a_script_without_its_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from nontrivial.manifests.guarded import alone\n"
        "from nontrivial.manifests.errors import WorkFailed\n"
        "try:\n    print(alone(abs, -3))\nexcept WorkFailed as error:\n    print(error)\n"
    )
    words = [sys.executable, str(script)]
    told = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    assert 'below `if __name__ == "__main__":`' in told
