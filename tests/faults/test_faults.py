"""Whatever fails or kills a writer, the same command then writes the same and leaves nothing else.

Every system call of `tests/faults/faulty.py` is a point of failure, and the bytes of a file.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest

from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.files import atomic_path, claim
from tests.faults.trials import KILLS, Command, Trial, in_a_process, most, quiet

SHARES = (0, 0.3, 0.99)  # of the bytes of the largest table, at which its writer is stopped
FEWEST = 20  # faults that end a builder


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


def each_fault(command: Command, folder: Path) -> dict[str, int]:
    """Try every fault at every call, and at some bytes of a table."""
    trial = Trial(command, folder, tree, atomic=(".parquet",))
    largest = max(path.stat().st_size for path in (folder / "whole").rglob("*.parquet"))
    ended = trial.stop_at_bytes([int(largest * share) for share in SHARES])
    return trial.faults(most(None)) | {"ended by bytes": ended}


def written(folder: Path) -> Command:
    from nontrivial.manifests.command import guard
    from nontrivial.manifests.parquet import write_samples
    from nontrivial.manifests.schema import samples_table
    from tests.rows import many

    def write(out: Path) -> None:
        with claim(out / "m.parquet"):
            write_samples(samples_table(many(50)), out / "m.parquet", {})

    return lambda out: quiet(lambda _: guard(write, out), ())


def questions(folder: Path) -> Command:
    from nontrivial.builders.qa_invert import main
    from tests.builders.qa.questions import write_clevrer

    root = write_clevrer(folder / "data").parents[1]
    words = ["--bench=clevrer", f"--root={root}", "--holdout=0.4"]
    return lambda out: quiet(main, [*words, f"--out={out}"])


def people(folder: Path) -> Command:
    from nontrivial.builders.reid_hard import main
    from tests.builders.reid import market

    root = market.draw(folder / "data", identities=12, images=6).parent
    words = ["--encoder=stripes", "--budget=10", f"--root={root}"]
    return lambda out: quiet(main, [*words, f"--out={out}"])


def vectors(folder: Path) -> Command:
    from nontrivial.builders.embed import main
    from tests.builders.reid import market

    root = market.draw(folder / "data", identities=12, images=6).parent
    return lambda out: quiet(main, ["--encoder=stripes", f"--root={root}", f"--out={out}"])


def faults(writer: str, folder: str) -> dict[str, int]:
    return each_fault(globals()[writer](Path(folder)), Path(folder))


def kills(writer: str, folder: str, number: str) -> dict[str, int]:
    trial = Trial(globals()[writer](Path(folder)), Path(folder), tree, atomic=(".parquet",))
    return trial.kills(most(int(number)) or KILLS)


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["written", "questions", "people"])
def test_any_fault_of_a_writer_is_made_good_by_the_same_command(tmp_path, writer):
    tried = in_a_process(__name__, "faults", writer, tmp_path)
    assert tried["ended"] + tried["ended by bytes"] > FEWEST


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["questions", "people", "vectors"])
def test_kills_of_a_builder_at_any_moment_are_made_good_by_the_same_command(tmp_path, writer):
    assert sum(in_a_process(__name__, "kills", writer, tmp_path, 10).values()) >= 10


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
