"""Builders that are killed without warning end where one undisturbed run ends."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nontrivial.builders.reid.vector_cache import CACHE
from nontrivial.builders.reid.vectors import SHARD
from nontrivial.manifests.parquet import read_about
from tests.builders.reid import market

ROOT = Path(__file__).resolve().parents[2]
IDENTITIES, IMAGES = 100, 12  # over one shard
KILLS = 10

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("kills")
    return market.draw(root / "data", identities=IDENTITIES, images=IMAGES).parent


def attempt(command: list[str], seconds: float | None = None) -> bool:
    """Run the command, killed after some seconds; whether it ended by itself."""
    process = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return False
    return True


def shards(out: Path) -> dict[Path, int]:
    """Finished shards and when each was written."""
    return {path: path.stat().st_mtime_ns for path in (out / CACHE).rglob("*.parquet")}


@pytest.mark.parametrize(
    ("module", "made"),
    [
        ("builders.embed", ["embeddings/market1501_train.parquet"]),
        (
            "builders.reid_hard",
            ["market1501_reid_hard.parquet", "quarantine/market1501_reid.parquet"],
        ),
    ],
)
def test_ten_kills_leave_no_trace(data, tmp_path, module, made):
    def command(out: Path) -> list[str]:
        words = ["--encoder", "stripes", "--root", str(data), "--out", str(out)]
        return [sys.executable, "-m", module, *words]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    began = time.monotonic()
    assert attempt(command(whole))
    takes = time.monotonic() - began
    moments = random.Random(0)
    kept: dict[Path, int] = {}
    kills = 0
    while kills < KILLS:
        ended = attempt(command(killed), moments.uniform(0, takes))
        kills += not ended
        found = shards(killed)
        assert kept.items() <= found.items()  # what was finished is not done again
        kept = found
        if ended:  # the next kill has nothing left to interrupt but this
            (killed / made[0]).unlink()
    assert attempt(command(killed))
    assert kept.items() <= shards(killed).items()
    assert len(shards(killed)) == -(-IDENTITIES * IMAGES // SHARD)
    for name in made:
        digests = {read_about(out / name)["content_digest"] for out in (whole, killed)}
        assert len(digests) == 1
