"""The two tables of the contract: `samples` for training and evaluation, `embeddings` for ranking.

A sample is a question with lettered options over images or videos, and the letters of *all* right
options. `images[0]` is the query of a re-identification sample, the rest are its candidates.
"""

from __future__ import annotations

import json
import math
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.answers import LETTERS
from manifests.errors import ManifestError

SCHEMA_VERSION = 1
METADATA_KEY = b"nontrivial"
TASKS = ("reid_pair", "reid_choice", "video_qa")
SPLITS = ("train", "val", "test")
ROLES = ("train", "query", "gallery", "distractor", "junk")  # a distractor is ranked, junk is not
VECTOR = "vector_"  # before the name of an encoder, in the embeddings table
CANDIDATE_LISTS = (
    "candidate_pids",
    "candidate_camids",
    "candidate_clothes",
    "similarity",
    "rank",
)

MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CLIP = pa.struct([("start", pa.float64()), ("end", pa.float64())])
REID = pa.struct(
    [
        ("kind", pa.string()),
        ("query_pid", pa.string()),
        ("candidate_pids", pa.list_(pa.string())),
        ("query_camid", pa.int32()),
        ("candidate_camids", pa.list_(pa.int32())),
        ("query_clothes", pa.string()),
        ("candidate_clothes", pa.list_(pa.string())),
        ("similarity", pa.list_(pa.float32())),
        ("rank", pa.list_(pa.int32())),
        ("encoder", pa.string()),
    ]
)
QA = pa.struct(
    [
        ("family", pa.string()),
        ("rule", pa.string()),
        ("inverted", pa.bool_()),
        ("parent_id", pa.string()),
        ("original_question", pa.string()),
        ("original_options", pa.list_(pa.string())),
        ("original_answer", pa.list_(pa.string())),
    ]
)
SAMPLES = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("question", pa.string()),
        ("options", pa.list_(pa.string())),
        ("answer", pa.list_(pa.string())),
        ("images", pa.list_(MEDIA)),
        ("videos", pa.list_(MEDIA)),
        ("clips", pa.list_(CLIP)),
        ("reid", REID),
        ("qa", QA),
        ("difficulty", pa.float32()),
        ("rationale", pa.string()),
    ]
)


def embeddings_schema(widths: Mapping[str, int]) -> pa.Schema:
    """The embeddings table: one `vector_<encoder>` column of `width` float32 for each encoder."""
    fields = [
        ("path", pa.string()),
        ("source", pa.string()),
        ("pid", pa.string()),
        ("camid", pa.int32()),
        ("clothes", pa.string()),
        ("split", pa.string()),
        ("role", pa.string()),
    ]
    vectors = [(VECTOR + name, pa.list_(pa.float32(), width)) for name, width in widths.items()]
    return pa.schema(fields + vectors)


def samples_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows as a samples table sorted by id; absent columns become null, unknown ones are errors."""
    rows = list(rows)
    known = set(SAMPLES.names)
    for row in rows:
        if not known.issuperset(row):
            raise ManifestError(
                f"row {row.get('id')!r}: unknown columns {sorted(set(row) - known)}"
            )
    return pa.Table.from_pylist(rows, schema=SAMPLES).sort_by("id")


def datasets_features() -> bytes:
    """The `huggingface` schema metadata that makes `load_dataset` yield Image and Video columns."""
    features = {field.name: _feature(field.type) for field in SAMPLES}
    features["images"] = {"feature": {"_type": "Image"}, "_type": "List"}
    features["videos"] = {"feature": {"_type": "Video"}, "_type": "List"}
    return json.dumps({"info": {"features": features}}).encode()


def validate(table: pa.Table, name: str = "manifest") -> None:
    """Hold a samples table against the contract.

    Raises `ManifestError` that names the file, the row's id, the column and the rule.
    """
    _check_columns(table, SAMPLES, name)
    seen: set[str] = set()
    splits: dict[tuple[str, str], str] = {}
    for row in iterate(table, drop_bytes=True):
        problem = _problem(row, seen) or _leak(row, splits)
        if problem:
            column, rule = problem
            raise ManifestError(f"{name}: row {row['id']!r}: column {column!r}: {rule}")


def validate_embeddings(table: pa.Table, name: str = "embeddings") -> None:
    """Hold an embeddings table against the contract; raises `ManifestError` as `validate` does.

    Every image comes once, with an identity, a role and a finite vector of each encoder.
    """
    vectors = [column for column in table.column_names if column.startswith(VECTOR)]
    if not vectors:
        raise ManifestError(f"{name}: has no column {VECTOR}<encoder>")
    kinds = {column: table.schema.field(column).type for column in vectors}
    for column, kind in kinds.items():
        if not (pa.types.is_fixed_size_list(kind) and kind.value_type == pa.float32()):
            raise ManifestError(f"{name}: column {column!r} is {kind}, needs float32 of one length")
    widths = {column.removeprefix(VECTOR): kind.list_size for column, kind in kinds.items()}
    _check_columns(table, embeddings_schema(widths), name)
    seen: set[tuple[str, str]] = set()
    for batch in table.to_batches(max_chunksize=4096):
        finite = {column: _finite_rows(batch.column(column)) for column in vectors}
        for i, row in enumerate(batch.drop_columns(vectors).to_pylist()):
            problem = _image_problem(row, seen) or next(
                ((column, "is null or not finite") for column in vectors if not finite[column][i]),
                None,
            )
            if problem:
                column, rule = problem
                raise ManifestError(f"{name}: row {row['path']!r}: column {column!r}: {rule}")


def iterate(
    table: pa.Table, *, drop_bytes: bool = False, batch: int = 4096
) -> Iterator[dict[str, Any]]:
    """Rows as dicts, a batch at a time; `drop_bytes` replaces embedded media by b"" for speed."""
    for chunk in table.to_batches(max_chunksize=batch):
        if drop_bytes:
            chunk = _without_bytes(chunk)
        yield from chunk.to_pylist()


def _without_bytes(batch: pa.RecordBatch) -> pa.RecordBatch:
    for name in ("images", "videos"):
        column = batch.column(name)
        media = column.flatten()
        data, path = media.flatten()  # with the nulls of their items, which `field` would lose
        held = pc.if_else(data.is_valid(), b"", pa.scalar(None, pa.binary()))
        light = pa.StructArray.from_arrays(
            [held, path.cast(pa.string())], fields=list(MEDIA), mask=media.is_null()
        )
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        light = pa.ListArray.from_arrays(offsets, light, mask=column.is_null())
        batch = batch.set_column(batch.schema.get_field_index(name), name, light)
    return batch


def _check_columns(table: pa.Table, wanted: pa.Schema, name: str) -> None:
    for field in wanted:
        if table.column_names.count(field.name) != 1:
            problem = "comes twice" if field.name in table.column_names else "is missing"
            raise ManifestError(
                f"{name}: column {field.name!r} {problem}; the table needs {wanted.names}"
            )
        found = table.schema.field(field.name).type
        if not _same_type(found, field.type):
            raise ManifestError(f"{name}: column {field.name!r} is {found}, needs {field.type}")


def _problem(row: Mapping[str, Any], seen: set[str]) -> tuple[str, str] | None:
    """The first rule a row breaks, as (column, rule), or None."""
    for column in ("id", "task", "source", "split", "group", "question"):
        if not (row[column] or "").strip():
            return column, "is empty"
    if row["id"] in seen:
        return "id", "is not unique"
    seen.add(row["id"])
    if row["task"] not in TASKS:
        return "task", f"is {row['task']!r}, must be one of {TASKS}"
    if row["split"] not in SPLITS:
        return "split", f"is {row['split']!r}, must be one of {SPLITS}"
    if row["difficulty"] is not None and not math.isfinite(row["difficulty"]):
        return "difficulty", f"is {row['difficulty']}, must be finite or null"
    return _answer_problem(row) or _media_problem(row) or _block_problem(row)


def _leak(row: Mapping[str, Any], splits: dict[tuple[str, str], str]) -> tuple[str, str] | None:
    """A group that straddles two splits, as (column, rule), or None."""
    split = splits.setdefault((row["source"], row["group"]), row["split"])
    if split != row["split"]:
        return "group", f"{row['group']!r} is in split {split!r} and in {row['split']!r}"
    return None


def _answer_problem(row: Mapping[str, Any]) -> tuple[str, str] | None:
    options, answer = row["options"] or [], row["answer"] or []
    if len(options) < 2 or not all(options):
        return "options", f"needs at least two non-empty texts, has {options}"
    if len(options) > len(LETTERS):
        return "options", f"has {len(options)} texts, at most {len(LETTERS)} can be lettered"
    if not answer:
        return "answer", "is empty; where nothing is right add the option 'None of the options'"
    allowed = LETTERS[: len(options)]
    for letter in answer:
        if letter not in list(allowed):
            rule = f"is not among the {len(options)} options ({allowed[0]}–{allowed[-1]})"
            return "answer", f"{letter!r} {rule}"
    if sorted(set(answer)) != answer:
        return "answer", f"{answer} must be distinct letters in ascending order"
    return None


def _media_problem(row: Mapping[str, Any]) -> tuple[str, str] | None:
    images, videos, clips = (row[name] or [] for name in ("images", "videos", "clips"))
    column = "videos" if row["task"] == "video_qa" else "images"
    least = 1 if column == "videos" else 2
    if len(row[column] or []) < least:
        return column, f"a {row['task']} sample needs at least {least}"
    for name, media in (("images", images), ("videos", videos)):
        for item in media:
            if item is None or (item["bytes"] is None and not item["path"]):
                return name, "holds neither bytes nor a path"
            if item["path"] and posixpath.normpath(item["path"]).split("/")[0] == "..":
                return name, f"{item['path']!r} leads outside the media root"
    if clips and len(clips) != len(videos):
        return "clips", f"has {len(clips)} ranges for {len(videos)} videos"
    for clip in clips:
        if clip is not None and not _is_range(clip):
            return "clips", f"{clip} is no range of seconds"
    return None


def _block_problem(row: Mapping[str, Any]) -> tuple[str, str] | None:
    name = "qa" if row["task"] == "video_qa" else "reid"
    if row[name] is None:
        return name, f"is null for a {row['task']} sample"
    if name == "reid":
        candidates = len(row["images"]) - 1
        for key in CANDIDATE_LISTS:
            values = row["reid"][key]
            if values is not None and len(values) != candidates:
                return f"reid.{key}", f"has {len(values)} values for {candidates} candidates"
    return None


def _image_problem(row: Mapping[str, Any], seen: set[tuple[str, str]]) -> tuple[str, str] | None:
    """The first rule a row of an embeddings table breaks, as (column, rule), or None."""
    for column in ("path", "source", "pid"):
        if not (row[column] or "").strip():
            return column, "is empty"
    if (row["source"], row["path"]) in seen:
        return "path", "is not unique within its source"
    seen.add((row["source"], row["path"]))
    if row["split"] not in SPLITS:
        return "split", f"is {row['split']!r}, must be one of {SPLITS}"
    if row["role"] not in ROLES:
        return "role", f"is {row['role']!r}, must be one of {ROLES}"
    return None


def _finite_rows(vectors: pa.FixedSizeListArray) -> np.ndarray:
    """Which rows of (N, width) hold a vector of finite numbers, (N,) bool."""
    values = np.full((len(vectors), vectors.type.list_size), np.nan, np.float32)
    present = vectors.is_valid().to_numpy(zero_copy_only=False)
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    values[present] = flat.reshape(-1, vectors.type.list_size)
    return np.isfinite(values).all(axis=1)


def _is_range(clip: Mapping[str, float | None]) -> bool:
    start, end = clip["start"], clip["end"]
    return start is not None and end is not None and 0 <= start < end < float("inf")


def _same_type(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Equal up to the names of list items and large against plain variants, which writers vary."""
    if pa.types.is_list(wanted) or pa.types.is_large_list(wanted):
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
        return is_list and _same_type(found.value_type, wanted.value_type)
    if pa.types.is_struct(wanted):
        return (
            pa.types.is_struct(found)
            and [field.name for field in found] == [field.name for field in wanted]
            and all(_same_type(a.type, b.type) for a, b in zip(found, wanted, strict=True))
        )
    if pa.types.is_string(wanted):
        return pa.types.is_string(found) or pa.types.is_large_string(found)
    if pa.types.is_binary(wanted):
        return pa.types.is_binary(found) or pa.types.is_large_binary(found)
    if pa.types.is_fixed_size_list(wanted):
        width = wanted.list_size
        return pa.types.is_fixed_size_list(found) and (
            found.list_size == width and _same_type(found.value_type, wanted.value_type)
        )
    return found == wanted


def _feature(kind: pa.DataType) -> Any:
    """An Arrow type in the notation of `datasets.Features`."""
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    names = {pa.float64(): "float64", pa.float32(): "float32", pa.bool_(): "bool"}
    return {"dtype": names.get(kind, str(kind)), "_type": "Value"}
