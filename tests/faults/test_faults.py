"""Whatever fails or kills a writer, the same command then writes the same and leaves nothing else.

Every system call of `tests/faults/faulty.py` is a point of failure, and the bytes of a file.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.files import atomic_path, claim
from tests.faults.faulty import FAULTS, answer, at_byte, at_call, calls_of, run

ROOT = Path(__file__).parents[2]


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too: the digest of a table, or the size."""
    from nontrivial.manifests.parquet import content_digest, read_table

    return {
        path.relative_to(folder).as_posix(): content_digest(read_table(path))
        if path.suffix == ".parquet"
        else str(path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    }


def each_fault(command: Callable[[Path], int], folder: Path) -> int:
    """Run a command with each fault, then without; return how many runs a fault ended."""
    whole = folder / "whole"
    calls = calls_of(lambda: command(whole))
    expected = answer(lambda: tree(whole))
    assert expected
    assert not [name for name in expected if name.endswith((".lock", ".tmp"))]
    ended = 0
    for fault in FAULTS:
        for number in range(1, calls + 1):
            out = folder / f"{fault} {number}"
            ended += run(lambda out=out: command(out), at_call(fault, number)) != 0
            _holds(command, out, expected, (fault, number))
    largest = max(path.stat().st_size for path in whole.rglob("*.parquet"))
    for fault in ("killed", "failed"):
        for share in (0, 0.3, 0.99):
            out, limit = folder / f"{fault} {share}", int(largest * share)
            status = run(lambda out=out: command(out), at_byte(fault, limit))
            assert status == (1 if fault == "failed" else -signal.SIGXFSZ), (fault, share, status)
            ended += 1
            _holds(command, out, expected, (fault, share))
    return ended


def _holds(command: Callable[[Path], int], out: Path, expected: dict, where: object) -> None:
    """Assert that a fault left whole tables only, and the command again what is expected."""
    left = answer(lambda: tree(out))
    tables = {name: digest for name, digest in left.items() if name.endswith(".parquet")}
    assert tables.items() <= expected.items(), where
    assert run(lambda: command(out)) == 0, where
    assert answer(lambda: tree(out)) == expected, where
    shutil.rmtree(out)


def quiet(main: Callable[[list[str]], int]) -> Callable[[list[str]], int]:
    """Return a command that prints nothing."""

    def silent(words: list[str]) -> int:
        with (
            open("/dev/null", "w") as nothing,
            contextlib.redirect_stdout(nothing),
            contextlib.redirect_stderr(nothing),
        ):
            return main(words)

    return silent


def in_a_process(test: str, folder: Path) -> int:
    """Run a function of this module in a process without threads; return the number it prints."""
    code = f"from tests.faults import test_faults as t; t.{test}({str(folder)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout.split()[-1])


def manifests(folder: str) -> None:
    from nontrivial.manifests.command import guard
    from nontrivial.manifests.parquet import write_samples
    from nontrivial.manifests.schema import samples_table
    from tests.rows import many

    def write(out: Path) -> None:
        with claim(out / "m.parquet"):
            write_samples(samples_table(many(50)), out / "m.parquet", {})

    print(each_fault(quiet(lambda out: guard(write, out)), Path(folder)))


def questions(folder: str) -> None:
    from nontrivial.builders.qa_invert import main
    from tests.builders.qa.questions import write_clevrer

    root = write_clevrer(Path(folder, "data")).parents[1]
    words = ["--bench", "clevrer", "--root", str(root), "--holdout", "0.4", "--out"]
    print(each_fault(lambda out: quiet(main)([*words, str(out)]), Path(folder)))


def people(folder: str) -> None:
    from nontrivial.builders.reid_hard import main
    from tests.builders.reid import market

    root = market.draw(Path(folder, "data"), identities=12, images=6).parent
    words = ["--encoder", "stripes", "--budget", "10", "--root", str(root), "--out"]
    print(each_fault(lambda out: quiet(main)([*words, str(out)]), Path(folder)))


@pytest.mark.slow
def test_any_fault_in_writing_a_manifest_leaves_it_old_or_new_and_nothing_beside(tmp_path):
    assert in_a_process("manifests", tmp_path) > 20


@pytest.mark.slow
@pytest.mark.parametrize("builder", ["questions", "people"])
def test_any_fault_in_a_builder_is_made_good_by_the_same_command(tmp_path, builder):
    assert in_a_process(builder, tmp_path) > 20


def test_what_a_living_writer_writes_is_not_taken_for_left(tmp_path):
    path = tmp_path / "m"
    (tmp_path / ".m.killed00.tmp").write_text("half")
    (tmp_path / ".m2.other000.tmp").write_text("of another file")
    with atomic_path(path) as first:
        assert not (tmp_path / ".m.killed00.tmp").exists()
        with atomic_path(path) as second:
            assert first.exists()
            second.write_text("second")
        first.write_text("first")
    assert path.read_text() == "first"
    assert {item.name for item in tmp_path.iterdir()} == {"m", ".m2.other000.tmp"}


def test_a_link_is_never_removed_or_followed_as_left(tmp_path):
    (tmp_path / "mine").write_text("kept")
    (tmp_path / ".m.link0000.tmp").symlink_to(tmp_path / "mine")
    with atomic_path(tmp_path / "m") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "mine").read_text() == "kept"


def test_many_writers_never_hold_one_lock_together_and_leave_none(tmp_path):
    """Locks are removed while others wait for them; twice at once would be seen in `inside`."""
    path, inside, most, wins = tmp_path / "m", [], [0], [0]

    def writer() -> None:
        for _ in range(300):
            with contextlib.suppress(BadInput), claim(path):
                inside.append(1)
                most[0] = max(most[0], len(inside))
                wins[0] += 1
                inside.pop()

    threads = [threading.Thread(target=writer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert wins[0] > 300
    assert list(tmp_path.iterdir()) == []
