"""The contract: every rule is broken once, and named."""

from __future__ import annotations

import datasets
import numpy as np
import pyarrow as pa
import pytest

from nontrivial.manifests.errors import ManifestError
from nontrivial.manifests.schema import (
    SAMPLES,
    embeddings_schema,
    iterate,
    samples_of_columns,
    samples_table,
    validate,
    validate_embeddings,
)
from tests.rows import many, media, reid_pair, video_question

BROKEN = [
    ({"id": " "}, "id", "is empty"),
    ({"question": None}, "question", "is empty"),
    ({"group": ""}, "group", "is empty"),
    ({"task": "chat"}, "task", "must be one of"),
    ({"split": "dev"}, "split", "must be one of"),
    ({"options": ["Yes"]}, "options", "at least two"),
    ({"options": None}, "options", "at least two"),
    ({"options": ["Yes", ""]}, "options", "non-empty"),
    ({"options": [f"option {i}" for i in range(27)]}, "options", "at most 26"),
    ({"answer": []}, "answer", "None of the options"),
    ({"answer": ["C"]}, "answer", "'C' is not among the 2 options (A–B)"),
    ({"answer": ["AB"]}, "answer", "'AB' is not among"),
    ({"answer": ["a"]}, "answer", "'a' is not among"),
    ({"answer": [""]}, "answer", "'' is not among"),
    ({"answer": [None, "A"]}, "answer", "None is not among"),
    ({"answer": ["B", "A"]}, "answer", "ascending"),
    ({"answer": ["A", "A"]}, "answer", "distinct"),
    ({"images": [media("a.jpg")]}, "images", "at least 2"),
    ({"images": None}, "images", "at least 2"),
    ({"images": [media("a.jpg"), media()]}, "images", "neither bytes nor a path"),
    ({"images": [media("a.jpg"), None]}, "images", "neither bytes nor a path"),
    ({"images": [media("a.jpg"), media("b/../../c.jpg")]}, "images", "outside the media root"),
    ({"reid": None}, "reid", "is null"),
    ({"reid": {"rank": [1, 2]}}, "reid.rank", "2 values for 1 candidates"),
    ({"difficulty": float("nan")}, "difficulty", "finite"),
]
BROKEN_VIDEO = [
    ({"videos": []}, "videos", "at least 1"),
    ({"videos": [media("../../etc/passwd")]}, "videos", "outside the media root"),
    ({"clips": [None, None]}, "clips", "2 ranges for 1 videos"),
    ({"clips": [{"start": 2.0, "end": 1.0}]}, "clips", "no range"),
    ({"clips": [{"start": -1.0, "end": 1.0}]}, "clips", "no range"),
    ({"clips": [{"start": 0.0, "end": None}]}, "clips", "no range"),
    ({"clips": [{"start": 0.0, "end": float("inf")}]}, "clips", "no range"),
    ({"qa": None}, "qa", "is null"),
]


def test_rows_of_both_tasks_are_valid_and_sorted_by_id():
    table = samples_table([video_question("b"), reid_pair("a"), reid_pair("c", clips=None)])
    validate(table)
    assert table["id"].to_pylist() == ["a", "b", "c"]
    assert table.schema.equals(SAMPLES)


@pytest.mark.parametrize(("change", "column", "rule"), BROKEN)
def test_a_broken_rule_is_named_with_file_row_and_column(change, column, rule):
    table = samples_table([reid_pair("good"), reid_pair(**{"id": "bad", **change})])
    with pytest.raises(ManifestError) as error:
        validate(table, "some.parquet")
    row = change.get("id", "bad")
    assert str(error.value).startswith(f"some.parquet: row {row!r}: column {column!r}: ")
    assert rule in str(error.value)


@pytest.mark.parametrize(("change", "column", "rule"), BROKEN_VIDEO)
def test_a_broken_rule_of_a_video_question_is_named(change, column, rule):
    table = samples_table([video_question("good"), video_question("bad", **change)])
    with pytest.raises(ManifestError) as error:
        validate(table)
    assert f"row 'bad': column {column!r}: " in str(error.value)
    assert rule in str(error.value)


def test_ids_are_unique():
    with pytest.raises(ManifestError, match=r"'pair'.*'id'.*unique"):
        validate(samples_table([reid_pair(), reid_pair()]))


def test_a_group_stays_in_one_split():
    rows = [reid_pair("a"), reid_pair("b", split="test"), video_question("c")]
    with pytest.raises(ManifestError, match=r"row 'b': column 'group'.*'train' and in 'test'"):
        validate(samples_table(rows))
    validate(samples_table([reid_pair("a"), reid_pair("b", split="test", source="duke")]))


def test_an_unknown_column_is_an_error():
    with pytest.raises(ManifestError, match=r"row 'pair'.*\['colour'\]"):
        samples_table([reid_pair(colour="red")])


def test_columns_make_the_same_table_as_rows():
    rows = [video_question("b"), reid_pair("a")]
    columns = {
        name: pa.array([row.get(name) for row in rows], SAMPLES.field(name).type)
        for name in {name for row in rows for name in row}
    }
    assert samples_of_columns(columns).equals(samples_table(rows))
    with pytest.raises(ManifestError, match="colour"):
        samples_of_columns({"colour": pa.array(["red"])})


def test_a_broken_rule_is_found_behind_the_first_thousands():
    rows = many(5000)
    rows[4900] = {**rows[4900], "answer": ["Z"]}
    with pytest.raises(ManifestError, match=rf"row '{rows[4900]['id']}': column 'answer'"):
        validate(samples_table(rows))


def test_a_missing_a_doubled_and_a_mistyped_column_are_named():
    table = samples_table([reid_pair()])
    with pytest.raises(ManifestError, match="column 'group' is missing"):
        validate(table.drop_columns("group"))
    with pytest.raises(ManifestError, match="column 'id' comes twice"):
        validate(table.append_column("id", table["id"]))
    with pytest.raises(ManifestError, match="column 'difficulty' is double, needs float"):
        validate(table.set_column(13, "difficulty", table["difficulty"].cast(pa.float64())))


def test_large_and_plain_arrow_types_are_the_same_to_the_contract():
    table = samples_table([reid_pair(), video_question()])
    large = table.set_column(0, "id", table["id"].cast(pa.large_string()))
    options = pa.large_list(pa.large_string())
    large = large.set_column(6, "options", large["options"].cast(options))
    assert large.schema != table.schema
    validate(large)


def test_rows_come_back_as_they_went_in_whatever_the_batch():
    rows = many(7)
    table = samples_table(rows)
    for batch in (1, 3, 100):
        assert list(iterate(table, batch=batch)) == table.to_pylist()


def embeddings(**columns) -> pa.Table:
    rng = np.random.default_rng(0)
    values = {
        "path": ["a.jpg", "b.jpg"],
        "source": ["market1501"] * 2,
        "pid": ["2", "7"],
        "camid": [1, 2],
        "clothes": [None, None],
        "split": ["train", "test"],
        "role": ["train", "query"],
        "vector_stripes": rng.random((2, 4)).tolist(),
        "vector_clip": rng.random((2, 3)).tolist(),
    }
    return pa.table(values | columns, schema=embeddings_schema({"stripes": 4, "clip": 3}))


@pytest.mark.parametrize(
    ("change", "column", "rule"),
    [
        ({"path": ["a.jpg", "a.jpg"]}, "path", "not unique"),
        ({"pid": ["2", None]}, "pid", "is empty"),
        ({"role": ["train", "probe"]}, "role", "must be one of"),
        ({"split": ["train", "x"]}, "split", "must be one of"),
        ({"vector_clip": [[1, 2, 3], None]}, "vector_clip", "null or not finite"),
        ({"vector_clip": [[1, 2, 3], [1, None, 2]]}, "vector_clip", "null or not finite"),
        ({"vector_stripes": [[1] * 4, [float("inf")] * 4]}, "vector_stripes", "not finite"),
    ],
)
def test_a_broken_embeddings_table_names_row_column_and_rule(change, column, rule):
    validate_embeddings(embeddings())
    with pytest.raises(ManifestError) as error:
        validate_embeddings(embeddings(**change), "some.parquet")
    assert "some.parquet: row " in str(error.value)
    assert f"column {column!r}: " in str(error.value)
    assert rule in str(error.value)


def test_an_embeddings_table_needs_vectors_of_one_length():
    with pytest.raises(ManifestError, match="no column vector_<encoder>"):
        validate_embeddings(embeddings().drop_columns(["vector_stripes", "vector_clip"]))
    ragged = embeddings()["vector_clip"].cast(pa.list_(pa.float32()))
    with pytest.raises(ManifestError, match="needs float32 of one length"):
        validate_embeddings(embeddings().set_column(8, "vector_clip", ragged))


def test_manifests_of_different_builders_load_typed_and_concatenate(tmp_path):
    from nontrivial.manifests.parquet import write_samples

    write_samples(samples_table(many(3)), tmp_path / "reid.parquet", {"builder": "one"})
    write_samples(
        samples_table([video_question()]), tmp_path / "qa.parquet", {"builder": "another"}
    )
    loaded = datasets.load_dataset(
        "parquet",
        data_files=str(tmp_path / "*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert isinstance(loaded.features["images"].feature, datasets.Image)
    assert isinstance(loaded.features["videos"].feature, datasets.Video)
    assert sorted(loaded["id"]) == ["question", "row00000", "row00001", "row00002"]
    parts = [
        datasets.Dataset.from_parquet(str(tmp_path / name), cache_dir=str(tmp_path / "cache"))
        for name in ("reid.parquet", "qa.parquet")
    ]
    assert len(datasets.concatenate_datasets(parts)) == 4
