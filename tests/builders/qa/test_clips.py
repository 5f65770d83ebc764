"""Where clips are: found, missing, empty, or outside the root, whatever the path looks like."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from nontrivial.builders.qa.clips import ABSENT, EMPTY, FOUND, MISSING, OUTSIDE, locate


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (tmp_path / "secret.mp4").write_bytes(b"x")
    (root / "a" / "clip.mp4").write_bytes(b"x")
    (root / "a" / "empty.mp4").write_bytes(b"")
    for name, target in {
        "out.mp4": tmp_path / "secret.mp4",
        "in.mp4": root / "a" / "clip.mp4",
        "gone.mp4": root / "nowhere",
        "loop": root / "loop",
        "up": tmp_path,
        "down": root / "a",
    }.items():
        (root / name).symlink_to(target)
    return root


@pytest.mark.parametrize(
    ("video", "state"),
    [
        ("a/clip.mp4", FOUND),
        ("a//clip.mp4", FOUND),
        ("a/b/../clip.mp4", FOUND),
        ("down/clip.mp4", FOUND),
        ("in.mp4", FOUND),
        ("a/empty.mp4", EMPTY),
        ("a", MISSING),
        ("a/", MISSING),
        ("a/..", MISSING),
        ("gone.mp4", MISSING),
        ("a/clip.mp4/more", MISSING),
        ("no/such.mp4", MISSING),
        ("..", OUTSIDE),
        ("../secret.mp4", OUTSIDE),
        ("/etc/passwd", OUTSIDE),
        ("out.mp4", OUTSIDE),
        ("up/secret.mp4", OUTSIDE),
        ("loop", OUTSIDE),
        ("loop/clip.mp4", OUTSIDE),
        ("nul\0.mp4", OUTSIDE),
        ("z" * 300, OUTSIDE),
    ],
)
def test_a_clip_is_where_its_path_leads(root, video, state):
    located = locate(pl.DataFrame({"id": ["q"], "video": [video]}), root)
    if state in (FOUND, MISSING):
        assert located.clips == {state: 1}
        assert len(located.frame) == 1
    else:
        assert [one.reason for one in located.refused] == [state]
        assert located.refused[0].damaged == (state == EMPTY)


def test_missing_clips_are_refused_where_they_are_required(root):
    frame = pl.DataFrame({"id": ["1", "2"], "video": ["a/clip.mp4", "no/such.mp4"]})
    located = locate(frame, root, require=True)
    assert located.frame["id"].to_list() == ["1"]
    assert [one.reason for one in located.refused] == [ABSENT]
