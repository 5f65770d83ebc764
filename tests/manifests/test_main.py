"""`python -m manifests`: validation names what is wrong, statistics count, rows are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nontrivial.manifests.__main__ import main
from nontrivial.manifests.parquet import write_samples, write_table
from nontrivial.manifests.schema import SAMPLES, embeddings_schema, samples_table
from tests.rows import many, reid_pair, video_question


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good manifests of different builders, and embeddings."""
    about = {"builder": "builders.reid_hard", "counts": {"kept": 4}, "seed": 0}
    rows = [*many(3), reid_pair("same", answer=["A"], options=["Yes", "No"])]
    write_samples(samples_table(rows), tmp_path / "reid.parquet", about)
    write_samples(samples_table([video_question()]), tmp_path / "qa.parquet", {"builder": "qa"})
    images = {
        "path": ["a.jpg", "b.jpg"],
        "source": ["market1501"] * 2,
        "pid": ["2", "2"],
        "camid": [1, 2],
        "clothes": [None, None],
        "split": ["test", "test"],
        "role": ["query", "gallery"],
        "vector_stripes": np.eye(2, 4).tolist(),
    }
    schema = embeddings_schema({"stripes": 4})
    write_table(pa.table(images, schema=schema), tmp_path / "embeddings.parquet", {})
    return tmp_path


def test_good_manifests_are_listed_with_their_digests(folder, capsys):
    assert main(["validate", str(folder / "*.parquet")]) == 0
    shown = capsys.readouterr().out
    for name, kind, rows in (("reid", "samples", 4), ("qa", "samples", 1)):
        assert any(
            f"{name}.parquet" in line and kind in line and f" {rows} " in line
            for line in shown.splitlines()
        )
    assert "embeddings" in shown


def write_unchecked(rows: list[dict], path: Path) -> None:
    """As another tool would write it: nothing is validated."""
    write_table(pa.Table.from_pylist(rows, schema=SAMPLES), path, {})


def test_every_broken_file_is_named_with_row_column_and_rule(folder, capsys):
    write_unchecked([reid_pair("x", answer=["C"])], folder / "letter.parquet")
    write_unchecked([reid_pair("y", images=None)], folder / "images.parquet")
    (folder / "damaged.parquet").write_bytes(b"PAR1")
    assert main(["validate", str(folder / "[dil]*.parquet"), str(folder / "reid.parquet")]) == 2
    shown = capsys.readouterr()
    assert "letter.parquet: row 'x': column 'answer': 'C' is not among the 2 options" in shown.err
    assert "images.parquet: row 'y': column 'images': a reid_pair sample needs" in shown.err
    assert "damaged.parquet: is not a readable Parquet file" in shown.err
    assert "reid.parquet" in shown.out, "the good one is still listed"


def test_a_group_in_the_splits_of_two_files_is_found(folder, capsys):
    write_unchecked([reid_pair("z", split="test")], folder / "test.parquet")
    assert main(["validate", str(folder / "reid.parquet"), str(folder / "test.parquet")]) == 2
    assert "test.parquet: group 'market1501:2'" in capsys.readouterr().err


def test_a_file_that_was_changed_after_it_was_written_is_found(folder, capsys):
    path = folder / "reid.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    assert main(["validate", str(path)]) == 2
    assert "was changed after it was written" in capsys.readouterr().err


def test_statistics_count_what_is_there(folder, capsys):
    assert main(["stats", str(folder / "*.parquet")]) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["reid_pair", "market1501", "train", "4", "100.0%"] in words
    assert ["reid_pair", "A", "1", "25.0%"] in words
    assert ["reid_pair", "B", "3", "75.0%"] in words
    assert ["video_qa", "4", "2", "1", "100.0%"] in words
    assert ["video_qa", "D", "1", "50.0%"] in words
    assert ["predictive", "True", "complement", "1", "100.0%"] in words
    assert ["builder", "builders.reid_hard"] in words
    assert ["market1501", "test", "gallery", "1", "1", "1", "1"] in words
    assert ["stripes", "4"] in words


def test_an_inverted_question_is_shown_beside_its_original(folder, capsys):
    assert main(["show", str(folder / "qa.parquet")]) == 0
    shown = capsys.readouterr().out
    (questions,) = (line for line in shown.splitlines() if "Which of these does not" in line)
    assert "Which of these happens?" in questions
    assert any(
        "* B the ball stops" in line and "  B the ball" in line[40:] for line in shown.splitlines()
    )


def test_rows_are_shown_as_many_as_asked_for(folder, capsys):
    assert main(["show", str(folder / "reid.parquet"), "--rows", "2"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("hard_negative") == 2
    assert "a/0002_c1s1.jpg | a/0007_c3s1.jpg" in shown
    assert main(["show", str(folder / "embeddings.parquet")]) == 0
    assert "b.jpg" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["show", "stats", "validate"])
def test_data_cannot_write_to_the_terminal(tmp_path, capsys, action):
    evil = "\x1b[2J\u202ered\n"
    row = video_question(
        evil, source=evil, group=evil, question=evil, options=[evil, "b", "c", "d"]
    )
    row["qa"] |= {"family": evil, "rule": evil, "original_question": evil}
    path = tmp_path / "\x1b[2Jm.parquet"
    write_samples(samples_table([row]), path, {"note": evil, evil: "note"})
    assert main([action, str(path)]) == 0
    row |= {"answer": ["Z"], "split": evil}
    write_unchecked([row], tmp_path / "\x1b[2Jbad.parquet")
    assert main([action, str(tmp_path / "*bad.parquet")]) == 2
    shown = "".join(capsys.readouterr())
    assert shown.replace("\n", "").isprintable()
    assert r"\x1b[2J" in shown


def test_bad_usage_exits_with_2(tmp_path, capsys):
    assert main(["stats", str(tmp_path / "none.parquet")]) == 2
    assert "no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit:
        main(["draw", "x"])
    assert exit.value.code == 2
