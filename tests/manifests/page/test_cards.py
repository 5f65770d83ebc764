"""Cards of data sets, and what is handed to the Hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from nontrivial.manifests.__main__ import main
from nontrivial.manifests.audit import marks_file
from nontrivial.manifests.page.cards import rows_of
from nontrivial.manifests.parquet import write_samples
from nontrivial.manifests.schema import samples_table
from tests.rows import reid_pair, video_question


class Hub:
    """Stands for `huggingface_hub.HfApi` and notes what it is asked to do."""

    def __init__(self, calls: list) -> None:
        self.calls = calls

    def create_repo(self, repo: str, **arguments: object) -> str:
        self.calls.append(("create", repo, arguments))
        return f"https://hub/{repo}"

    def upload_file(self, **arguments: object) -> None:
        self.calls.append(("upload", arguments["path_in_repo"], arguments))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = []
    for name, row in (("pairs", reid_pair()), ("questions", video_question())):
        path = tmp_path / f"{name}.parquet"
        write_samples(samples_table([row]), path, {"builder": name, "counts": {"kept | all": 1}})
        made.append(path)
    return made


def test_a_card_says_how_each_file_was_made(files, tmp_path):
    out = tmp_path / "README.md"
    assert main(["card", *map(str, files), "--out", str(out)]) == 0
    _, head, text = out.read_text().split("---\n", 2)
    facts = yaml.safe_load(head)
    assert facts["task_categories"] == ["image-text-to-text", "video-text-to-text"]
    assert [c["data_files"] for c in facts["configs"]] == [
        "data/pairs.parquet",
        "data/questions.parquet",
    ]
    assert "## pairs\n\n1 rows of reid_pair." in text
    assert "| builder | `questions` |" in text
    assert 'kept \\| all": 1' in text


def test_a_card_quotes_what_was_read(files, tmp_path):
    marks = marks_file(files[1])
    marks.write_text(json.dumps({"id": "question", "mark": "stiff"}) + "\n")
    out = tmp_path / "README.md"
    assert main(["card", *map(str, files), "--out", str(out)]) == 0
    text = out.read_text()
    assert text.count("Read row by row") == 1
    assert "| rule | read | sound | stiff |" in text
    assert "| all | 1 | 0 | 1 | 0 | 0 | 0 | 0.0% (0.0%–79.3%) |" in text


def test_files_and_card_are_uploaded_the_card_last(files, tmp_path, monkeypatch, capsys):
    calls: list = []
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: Hub(calls))
    words = ["--out", str(tmp_path / "README.md"), "--push_to_hub", "me/mine"]
    assert main(["card", *map(str, files), *words]) == 0
    assert [call[:2] for call in calls] == [
        ("create", "me/mine"),
        ("upload", "data/pairs.parquet"),
        ("upload", "data/questions.parquet"),
        ("upload", "README.md"),
    ]
    assert calls[0][2] == {"repo_type": "dataset", "private": True, "exist_ok": True}
    assert Path(calls[1][2]["path_or_fileobj"]) == files[0]
    assert b"# Manifests" in calls[3][2]["path_or_fileobj"]
    assert "https://hub/me/mine" in capsys.readouterr().out


def test_files_of_one_name_are_refused(files, tmp_path, capsys):
    twin = tmp_path / "other" / files[0].name
    twin.parent.mkdir()
    twin.write_bytes(files[0].read_bytes())
    assert main(["card", str(files[0]), str(twin), "--out", str(tmp_path / "c.md")]) == 2
    assert "different names" in capsys.readouterr().err


def test_values_of_metadata_cannot_leave_their_cell():
    text = rows_of({"note": "a` | b\n| c"})
    assert text.splitlines()[-1] == "| note | `a' \\| b \\| c` |"
