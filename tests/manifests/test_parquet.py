"""Writing is atomic and deterministic; the digest sees values, not how they are stored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nontrivial.manifests import parquet
from nontrivial.manifests.errors import BadInput, ManifestError
from nontrivial.manifests.files import atomic_path, claim, expand
from nontrivial.manifests.parquet import (
    content_digest,
    read_about,
    read_samples,
    read_table,
    write_samples,
)
from nontrivial.manifests.schema import samples_table
from tests.rows import many, media, reid_pair, video_question


@pytest.fixture
def mixed() -> pa.Table:
    """Rows with nulls at every depth, empty lists, embedded bytes and unequal lengths."""
    return samples_table(
        [
            *many(5),
            reid_pair("x0", images=[media("a.jpg", b"\0\xff"), media("b", b"")], difficulty=None),
            reid_pair("x1", images=None, reid=None, answer=[]),
            video_question("x2", qa=None, clips=[None, {"start": 0.5, "end": None}]),
            video_question("x3", options=["é", "", None], rationale="because"),
        ]
    )


def test_the_digest_does_not_depend_on_storage(mixed, tmp_path):
    digest = content_digest(mixed)
    pq.write_table(mixed, tmp_path / "small_groups.parquet", row_group_size=2)
    pq.write_table(mixed, tmp_path / "plain.parquet", compression="none", use_dictionary=False)
    halves = pa.concat_tables([mixed.slice(0, 4), mixed.slice(4)])
    padded = pa.concat_tables([mixed.slice(3), mixed]).slice(len(mixed) - 3)
    large = mixed.set_column(0, "id", mixed["id"].cast(pa.large_string()))
    variants = {
        "chunks": halves,
        "one chunk": halves.combine_chunks(),
        "an offset": padded,
        "row groups": read_table(tmp_path / "small_groups.parquet"),
        "encodings": read_table(tmp_path / "plain.parquet"),
        "column order": mixed.select(mixed.column_names[::-1]),
        "dictionaries": mixed.set_column(2, "source", mixed["source"].dictionary_encode()),
        "large types": large,
        "metadata": mixed.replace_schema_metadata({b"key": b"value"}),
    }
    assert {name: content_digest(table) for name, table in variants.items()} == dict.fromkeys(
        variants, digest
    )


@pytest.mark.parametrize("count", [255, 256, 515])
def test_the_digest_is_the_same_across_block_borders(monkeypatch, count):
    monkeypatch.setattr(parquet, "ROW_GROUP", 256)
    table = samples_table(many(count))
    pieces = pa.concat_tables([table.slice(i, 100) for i in range(0, count, 100)])
    assert content_digest(pieces) == content_digest(table)


def test_the_digest_sees_every_change(mixed):
    rows = mixed.to_pylist()
    seen = {
        content_digest(mixed),
        content_digest(mixed.slice(1)),
        content_digest(mixed.slice(0, 8)),
    }
    changes = [
        (0, "question", None),
        (0, "question", ""),
        (0, "options", ["YesN", "o"]),
        (0, "answer", ["A"]),
        (0, "images", [media("a/0002_c1s1.jpg")]),
        (0, "images", [media("a/0002_c1s1.jpg"), None]),
        (0, "clips", None),
        (0, "clips", [None]),
        (0, "difficulty", 0.0),
        (0, "difficulty", None),
        (0, "rationale", ""),
        (5, "images", [media("a.jpg", b"\0"), media("b", b"\xff")]),
        (5, "images", [media("a.jpg", b"\0\xff"), media("b", None)]),
        (7, "clips", [{"start": 0.5, "end": None}, None]),
    ]
    for row, column, value in changes:
        changed = [dict(item) for item in rows]
        changed[row][column] = value
        seen.add(content_digest(samples_table(changed)))
    swapped = mixed.take([1, 0, *range(2, len(mixed))])
    assert len(seen | {content_digest(swapped)}) == len(changes) + 4


def test_a_written_manifest_reads_back_and_says_how_it_was_made(tmp_path):
    rows = [video_question("b"), reid_pair("a")]
    path = tmp_path / "new" / "folder" / "m.parquet"
    digest = write_samples(samples_table(rows), path, {"builder": "test", "counts": {"kept": 2}})
    again = read_samples(path)
    assert again["id"].to_pylist() == ["a", "b"]
    assert content_digest(again) == digest
    about = read_about(path)
    assert about["content_digest"] == digest
    assert about["counts"] == {"kept": 2}
    assert path.stat().st_mode & 0o044, "others may read it as the umask allows"


def test_the_same_rows_give_the_same_file(tmp_path):
    for name, rows in (("a", many(600)), ("b", many(600)[::-1])):
        write_samples(samples_table(rows), tmp_path / name, {"seed": 0})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_invalid_manifest_is_not_written(tmp_path):
    with pytest.raises(ManifestError):
        write_samples(samples_table([reid_pair(answer=["Z"])]), tmp_path / "m.parquet", {})
    assert list(tmp_path.iterdir()) == []


def fail_while_writing(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("the disk is full")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "m.parquet"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk"):
        fail_while_writing(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def in_another_process(code: str, path: Path) -> subprocess.Popen:
    script = textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)


def test_a_process_killed_while_writing_leaves_no_manifest(tmp_path):
    path = tmp_path / "m.parquet"
    writer = in_another_process(
        """
        import sys, time
        from nontrivial.manifests.files import atomic_path
        with atomic_path(sys.argv[1]) as temporary:
            temporary.write_bytes(b"half of it")
            print("writing", flush=True)
            time.sleep(60)
        """,
        path,
    )
    assert writer.stdout.readline() == b"writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert list(tmp_path.glob("*.parquet")) == []
    write_samples(samples_table(many(2)), path, {})
    assert len(read_samples(path)) == 2


def test_a_second_writer_says_so_and_leaves_and_a_killed_one_does_not_block(tmp_path):
    path = tmp_path / "m.parquet"
    holder = in_another_process(
        """
        import sys, time
        from nontrivial.manifests.files import claim
        with claim(sys.argv[1]):
            print("held", flush=True)
            time.sleep(60)
        """,
        path,
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(BadInput, match="another process is writing it"), claim(path):
        pass
    holder.kill()
    holder.wait()
    time.sleep(0.05)
    with claim(path):
        pass


def test_unreadable_manifests_are_errors_that_name_the_file(tmp_path):
    path = tmp_path / "m.parquet"
    with pytest.raises(FileNotFoundError, match=r"m\.parquet"):
        read_table(path)
    with pytest.raises(FileNotFoundError, match=r"m\.parquet"):
        read_about(path)
    write_samples(samples_table(many(50)), path, {})
    whole = path.read_bytes()
    for broken in (b"", b"PAR1", whole[:-20], whole[len(whole) // 2 :]):
        path.write_bytes(broken)
        for read in (read_table, read_samples, read_about):
            with pytest.raises(BadInput, match=r"m\.parquet: is not a readable Parquet file"):
                read(path)


def test_a_parquet_file_without_a_builder_says_so(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match="was not written by a builder"):
        read_about(tmp_path / "m.parquet")


def test_invalid_utf8_is_found_on_reading(tmp_path):
    raw = pa.array([b"ok", b"\xff\xfe"]).view(pa.string())
    pq.write_table(pa.table({"id": raw}), tmp_path / "m.parquet")
    with pytest.raises(BadInput, match="not a readable Parquet file"):
        read_table(tmp_path / "m.parquet")


def test_globs_and_paths_name_each_file_once_in_order(tmp_path):
    for name in ("b.parquet", "a.parquet", "[c].parquet", "note.txt"):
        (tmp_path / name).touch()
    folder = str(tmp_path)
    found = expand([f"{folder}/b.parquet", f"{folder}/*.parquet", f"{folder}/[c].parquet"])
    assert [path.name for path in found] == ["b.parquet", "[c].parquet", "a.parquet"]
    for missing in ("nothing*.parquet", "none.parquet"):
        with pytest.raises(FileNotFoundError, match="builders write"):
            expand([os.path.join(folder, missing)])


def test_embeddings_keep_their_vectors(tmp_path):
    from nontrivial.manifests.parquet import write_table
    from nontrivial.manifests.schema import embeddings_schema

    vectors = np.random.default_rng(0).random((3, 4), dtype=np.float32)
    table = pa.table(
        {
            "path": list("abc"),
            "source": ["s"] * 3,
            "pid": list("123"),
            "camid": [1, 2, None],
            "clothes": [None] * 3,
            "split": ["train"] * 3,
            "role": ["train"] * 3,
            "vector_stripes": vectors.tolist(),
        },
        schema=embeddings_schema({"stripes": 4}),
    )
    digest = write_table(table, tmp_path / "e.parquet", {})
    again = read_table(tmp_path / "e.parquet")
    assert content_digest(again) == digest
    flat = again["vector_stripes"].combine_chunks().flatten().to_numpy()
    assert np.array_equal(flat.reshape(3, 4), vectors)


def test_damage_to_the_rows_is_found_by_their_checksums(tmp_path):
    path = tmp_path / "m.parquet"
    digest = write_samples(samples_table(many(300)), path, {})
    whole = path.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    found = 0
    for position in range(4, len(whole) - footer, 97):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        try:
            assert content_digest(read_samples(path)) == digest
        except BadInput:
            found += 1
    assert found > 20


def test_a_file_of_version_1_is_read_with_what_it_lacks_as_null(tmp_path):
    table = samples_table([*many(3), video_question("z")])
    place = table.schema.get_field_index("reid")
    kind = table.schema.field(place).type
    old = [field for field in kind if field.name != "twin"]
    column = table.column(place).combine_chunks()
    fields = dict(zip([field.name for field in kind], column.flatten(), strict=True))
    structs = pa.StructArray.from_arrays(
        [fields[field.name] for field in old], fields=old, mask=column.is_null()
    )
    path = tmp_path / "old.parquet"
    parquet.write_table(table.set_column(place, "reid", structs), path, {"builder": "old"})
    rows = read_samples(path).to_pylist()
    assert [row["reid"] and row["reid"]["twin"] for row in rows] == [None] * 4
    assert rows == table.to_pylist()
    assert content_digest(read_table(path)) == read_about(path)["content_digest"]
    with pytest.raises(ManifestError, match="column 'reid'"):
        write_samples(table.set_column(place, "reid", pa.nulls(4)), path, {})


def test_a_description_needs_one_image_and_a_pair_two(tmp_path):
    told = reid_pair("told", task="reid_text", images=[media("a.jpg")])
    write_samples(samples_table([told]), tmp_path / "told.parquet", {})
    with pytest.raises(ManifestError, match="needs at least 2"):
        write_samples(samples_table([told | {"task": "reid_pair"}]), tmp_path / "pair.parquet", {})
    two = told | {"images": [media("a.jpg"), media("b.jpg")]}
    with pytest.raises(ManifestError, match="has 1 values for 2 candidates"):
        write_samples(samples_table([two]), tmp_path / "two.parquet", {})
