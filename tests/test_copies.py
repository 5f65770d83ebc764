"""The bare commands do real work, from a folder outside the checkout, and load no module twice."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import house

ROOMS = sorted(set(house.FOLDERS) - {house.PACKAGE})
# What `python -m` does, and then what is loaded under a room's bare name and is no package.
PROBE = f"""
import json, runpy, sys
sys.argv = ["-m", *sys.argv[2:]]
name, status = {{name!r}}, 0
try:
    runpy._run_module_as_main(name)
except SystemExit as exit:
    status = exit.code
bare = [m for m, loaded in sys.modules.items() if m.split(".")[0] in {ROOMS}
        and not hasattr(loaded, "__path__")]
ours = [m for m in sys.modules if m.startswith("nontrivial.")]
print("\\0" + json.dumps([status, bare, ours]))
"""
DRAWN = ("--identities", "8", "--test_identities", "6", "--videos", "4", "--test_videos", "2")
REID = ("--source", "market1501", "--encoder", "stripes")
ONE_STEP = ("--max_steps", "1", "--per_device_train_batch_size", "8", "--num_generations", "4")
# In this order, each on what those before it wrote.
WORK = [
    ("builders.synthetic", "--out", "data", *DRAWN),
    ("builders.reid_hard", *REID),
    ("builders.reid_hard", *REID, "--split", "test", "--pairs", "random"),
    ("builders.qa_invert", "--bench", "clevrer"),
    ("builders.embed", *REID, "--split", "test"),
    ("manifests", "validate", "manifests/*.parquet"),
    ("train.warmup", "manifests/market1501_reid_hard.parquet", "--max_steps", "1"),
    ("train.grpo", "manifests/*.parquet", *ONE_STEP, "--max_completion_length", "8"),
    ("train.plot", "runs/grpo"),
    ("eval.qa", "manifests/eval/*.parquet", "--limit", "4", "--max_new_tokens", "4"),
    ("eval.reid", "manifests/embeddings/*.parquet", "--judge", "direct", "--limit", "2"),
    ("eval.report", "runs/eval", "runs/reid", "runs/grpo"),
    ("eval.card", "runs/grpo", "--evaluations", "runs/eval"),
]


def run(name: str, *words: str, folder: Path) -> tuple[list[str], list[str]]:
    """The modules that are loaded under a bare name, and under ours, at a command's end."""
    expanded = [
        str(path)
        for word in words
        for path in (sorted(folder.glob(word)) if "*" in word else [word])
    ]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(name=name), name, *expanded],
        cwd=folder,
        env=env | {"PYTHONPATH": str(house.ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    _, mark, probe = done.stdout.rpartition("\0")
    assert mark, done.stderr
    status, bare, ours = json.loads(probe)
    assert status in (0, None), done.stderr
    return bare, ours


def test_no_module_is_loaded_twice(tmp_path):
    for name, *words in WORK:
        bare, ours = run(name, *words, folder=tmp_path)
        assert bare == [], f"{name} loads {bare}"
        assert len(ours) > 2
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "runs" / "grpo" / "curves.png").is_file()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra `ray`")
def test_no_module_is_loaded_twice_on_ray(tmp_path):
    for name, *words in [
        WORK[0],
        ("builders.reid_hard", *REID, "--engine", "ray"),
        ("builders.qa_invert", "--bench", "clevrer", "--engine", "ray"),
    ]:
        bare, _ = run(name, *words, folder=tmp_path)
        assert bare == [], f"{name} loads {bare}"
