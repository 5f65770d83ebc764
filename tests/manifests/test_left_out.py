"""`--exclude`: lists of ids, and files that are none."""

from __future__ import annotations

import json

import pytest

from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.left_out import LARGEST, LONGEST, LeftOut, is_listable, read_ids
from nontrivial.manifests.parquet import write_samples
from nontrivial.manifests.schema import samples_table
from tests.rows import reid_pair

IDS = ["market1501/train/hard/a b~c", "clevrer:1:2/inverted", "ünicode\u2028line"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("first", ["", "\ufeff", "\n\n"])
def test_ids_are_read_one_a_line_as_they_are(tmp_path, end, first):
    file = tmp_path / "ids.txt"
    file.write_bytes((first.replace("\n", end) + end.join([*IDS, "", *IDS])).encode())
    assert read_ids(str(file)) == set(IDS)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b" \n\n", "it is empty"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b"id\tmark\na\twrong\n", r"line 1 is 'id\\tmark'"),
        (b"a\n" + b"x" * (LONGEST + 1), "line 2 is 'xxx"),
        (json.dumps({"id": "a", "mark": "wrong"}).encode(), "it is JSON"),
        (json.dumps(IDS, indent=1).encode(), "it is JSON"),
        (b'{"id": "a"}\n{"id": "b"}\n', "it is JSON"),
        (b"[" * 900, None),  # an odd id, but one
    ],
)
def test_a_file_that_is_no_list_of_ids_is_refused_with_the_reason(tmp_path, content, reason):
    file = tmp_path / "ids.txt"
    file.write_bytes(content)
    if reason is None:
        assert read_ids(str(file)) == {content.decode()}
        return
    with pytest.raises(BadInput, match=f"ids.txt: needs a text file with one id a line.*{reason}"):
        read_ids(str(file))


def test_a_manifest_is_no_list_of_ids(tmp_path):
    write_samples(samples_table([reid_pair()]), tmp_path / "some.parquet", {})
    with pytest.raises(BadInput, match="needs a text file"):
        read_ids(str(tmp_path / "some.parquet"))


def test_a_file_without_end_is_refused(tmp_path):
    with (tmp_path / "ids.txt").open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(BadInput, match="larger than"):
        read_ids(str(tmp_path / "ids.txt"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.txt: no such file"):
        LeftOut(str(tmp_path / "nothing.txt"))


def test_samples_are_counted_once_and_unknown_ids_are_told(tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("a\nb\nc")
    excluded = LeftOut(str(tmp_path / "ids.txt"))
    assert [excluded.keeps(name) for name in "abadx"] == [False, False, False, True, True]
    excluded.report()
    assert capsys.readouterr().out.endswith("left out 2 samples; 1 of its 3 ids name no sample\n")


def test_without_a_file_all_stay_and_nothing_is_told(capsys):
    nothing = LeftOut(None)
    assert nothing.keeps("a")
    nothing.report()
    assert capsys.readouterr().out == ""


def test_names_that_do_not_fit_on_a_line_are_told():
    assert all(map(is_listable, IDS))
    assert not any(map(is_listable, ["a\nb", "a\tb", "\0", "a" * (LONGEST + 1)]))
