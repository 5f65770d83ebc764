"""`python -m benchmarks.gradients` on a policy and manifests: every arm, a table, a picture."""

from __future__ import annotations

import json

import pytest

from benchmarks.gradients import ADVANTAGES, REWARDS, WEIGHTINGS, main
from tests.train.conftest import pairs, videos


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Call the command on the embedded policy with few and small batches; returns its status."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> int:
        sizes = ["--per_device_train_batch_size", "16", "--num_generations", "8"]
        files = ["--out", "all.json", "--picture", "all.png", "--output_dir", "run"]
        return main([*words, *sizes, *files])

    return call


def test_a_policys_gradients_are_measured_for_every_arm(measure, write_manifest, tmp_path, capsys):
    manifest = write_manifest([*pairs(4), *videos(2)])
    assert measure(manifest, "--batches", "3") == 0
    told = capsys.readouterr().out
    assert all(name in told for name in (*WEIGHTINGS, *REWARDS, *ADVANTAGES))
    [weightings, rewards, advantages] = json.loads((tmp_path / "all.json").read_text())[""]
    assert [line["arm"] for line in weightings] == list(WEIGHTINGS)  # visual ones, too
    assert all(abs(line["cosine"]) <= 1 for line in [*weightings, *rewards, *advantages])
    assert set(weightings[0]["weight"]) == {"first word", "verdicts", "other reasons", "answers"}
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


def test_two_batches_have_no_spread(measure, write_manifest, capsys):
    assert measure(write_manifest(pairs(4)), "--batches", "2") == 2
    assert "needs 3 or more" in capsys.readouterr().err
