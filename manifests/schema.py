"""The two tables of the contract: `samples` for training and evaluation, `embeddings` for ranking.

A sample is a question with lettered options over images or videos, and the letters of *all* right
options. `images[0]` is the query of a re-identification sample, the rest are its candidates.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nontrivial.manifests.answers import LETTERS, NONE
from nontrivial.manifests.errors import ManifestError

SCHEMA_VERSION = 1
METADATA_KEY = b"nontrivial"
TASKS = ("reid_pair", "reid_choice", "video_qa")
SPLITS = ("train", "val", "test")
ROLES = ("train", "query", "gallery", "distractor", "junk")  # a distractor is ranked, junk is not
NOBODY = -1  # the number of an identity that is nobody's
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


def is_embeddings(table: pa.Table) -> bool:
    """True where a table has a column of vectors."""
    return any(name.startswith(VECTOR) for name in table.column_names)


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


def samples_of_columns(columns: Mapping[str, Any]) -> pa.Table:
    """The same from whole columns, quicker where there are many rows."""
    if not set(columns) <= set(SAMPLES.names):
        raise ManifestError(f"unknown columns {sorted(set(columns) - set(SAMPLES.names))}")
    rows = len(next(iter(columns.values())))
    arrays = [
        pa.nulls(rows, field.type)
        if field.name not in columns
        else pa.array(columns[field.name]).cast(field.type)
        for field in SAMPLES
    ]
    return pa.Table.from_arrays(arrays, schema=SAMPLES).sort_by("id")


def truths(options: pa.ListArray, answers: pa.ListArray) -> pa.ListArray:
    """Whether each option of each question is right, from the letters that are.

    >>> truths(pa.array([["x", "y"], ["z"]]), pa.array([["B"], ["A"]])).to_pylist()
    [[False, True], [True]]
    """
    counts, chosen = options.value_lengths().to_numpy(), answers.value_lengths().to_numpy()
    ends = np.cumsum(counts)
    letter = pc.index_in(answers.flatten(), pa.array(list(LETTERS))).to_numpy()
    right = np.zeros(counts.sum(), bool)
    right[np.repeat(ends - counts, chosen) + letter] = True
    return pa.ListArray.from_arrays(np.append(0, ends).astype(np.int32), right)


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
    repeated, straddling = _repeated(table["id"]), _straddling(table)
    start = 0
    for batch in table.to_batches(max_chunksize=4096):
        part = slice(start, start + len(batch))
        broken = [
            *_broken_texts(batch),
            (repeated[part], "id", lambda row: "is not unique"),
            *_broken_words(batch),
            *_broken_answers(batch),
            *_broken_media(batch),
            *_broken_blocks(batch),
            (straddling[part], "group", lambda row: _leak(table, row)),
        ]
        firsts = [int(mask.argmax()) if mask.any() else len(batch) for mask, _, _ in broken]
        if min(firsts) < len(batch):
            _, column, rule = broken[firsts.index(min(firsts))]
            row = next(iterate(pa.table(batch.slice(min(firsts), 1)), drop_bytes=True))
            raise ManifestError(f"{name}: row {row['id']!r}: column {column!r}: {rule(row)}")
        start += len(batch)


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


# Rows of a batch that break a rule (n,) bool, the column, and the rule in words for one such row.
_Rule = tuple[np.ndarray, str, Callable[[Mapping[str, Any]], str]]


class _Lists:
    """A column of lists: `counts` (n,) of each row, `values` of all, and whose each is, `row`."""

    def __init__(self, column: pa.ListArray) -> None:
        self.counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        self.values = column.flatten()
        self.row = np.repeat(np.arange(len(column)), self.counts)

    def any(self, values: np.ndarray) -> np.ndarray:
        """Rows with a value that a mask over all values holds for, (n,) bool."""
        return np.bincount(self.row[values], minlength=len(self.counts)) > 0


def _broken_texts(batch: pa.RecordBatch) -> Iterator[_Rule]:
    for column in ("id", "task", "source", "split", "group", "question"):
        blank = pc.equal(pc.utf8_trim_whitespace(batch[column]), "")
        yield _mask(blank, null=True), column, lambda row: "is empty"


def _broken_words(batch: pa.RecordBatch) -> Iterator[_Rule]:
    for column, known in (("task", TASKS), ("split", SPLITS)):
        wrong = ~_mask(pc.is_in(batch[column], pa.array(known)))
        yield wrong, column, partial(_not_one_of, column, known)
    finite = _mask(pc.is_finite(batch["difficulty"]), null=True)
    yield ~finite, "difficulty", lambda row: f"is {row['difficulty']}, must be finite or null"


def _not_one_of(column: str, known: Sequence[str], row: Mapping[str, Any]) -> str:
    return f"is {row[column]!r}, must be one of {known}"


def _broken_answers(batch: pa.RecordBatch) -> Iterator[_Rule]:
    options, answers = _Lists(batch["options"]), _Lists(batch["answer"])
    blank = options.any(_mask(pc.equal(options.values, ""), null=True))
    yield (
        (options.counts < 2) | blank,
        "options",
        lambda row: f"needs at least two non-empty texts, has {row['options'] or []}",
    )
    most = len(LETTERS)
    yield (
        options.counts > most,
        "options",
        lambda row: f"has {len(row['options'])} texts, at most {most} can be lettered",
    )
    yield (
        answers.counts == 0,
        "answer",
        lambda row: f"is empty; where nothing is right add the option {NONE!r}",
    )
    letter = pc.index_in(answers.values, pa.array(list(LETTERS))).fill_null(most).to_numpy()
    yield answers.any(letter >= options.counts[answers.row]), "answer", _no_option
    falling = np.append(False, (np.diff(letter) <= 0) & (np.diff(answers.row) == 0))
    yield (
        answers.any(falling[: len(letter)]),
        "answer",
        lambda row: f"{row['answer']} must be distinct letters in ascending order",
    )


def _no_option(row: Mapping[str, Any]) -> str:
    allowed = list(LETTERS[: len(row["options"])])
    wrong = next(letter for letter in row["answer"] if letter not in allowed)
    return f"{wrong!r} is not among the {len(allowed)} options ({allowed[0]}–{allowed[-1]})"


def _broken_media(batch: pa.RecordBatch) -> Iterator[_Rule]:
    of_clips = _mask(pc.equal(batch["task"], "video_qa"))
    media = {name: _Lists(batch[name]) for name in ("images", "videos")}
    for name, asked, least in (("videos", of_clips, 1), ("images", ~of_clips, 2)):
        few = asked & (media[name].counts < least)
        yield few, name, lambda row, least=least: f"a {row['task']} sample needs at least {least}"
    for name, items in media.items():
        data, path = items.values.flatten()  # with the nulls of their items
        no_path = _mask(pc.equal(path, ""), null=True)
        absent = items.any(_mask(data.is_null()) & no_path)
        yield absent, name, lambda row: "holds neither bytes nor a path"
        upward = _mask(pc.match_substring(path, ".."))
        upward[upward] = [_is_outside(text) for text in path.filter(pa.array(upward)).to_pylist()]
        yield items.any(upward), name, partial(_outside, name)
    clips, videos = _Lists(batch["clips"]), media["videos"].counts
    yield (
        (clips.counts > 0) & (clips.counts != videos),
        "clips",
        lambda row: f"has {len(row['clips'])} ranges for {len(row['videos'] or [])} videos",
    )
    start, end = (
        side.to_numpy(zero_copy_only=False).astype(np.float64) for side in clips.values.flatten()
    )
    is_range = (start >= 0) & (start < end) & (end < np.inf)  # false where one is null
    wrong = clips.any(_mask(clips.values.is_valid()) & ~is_range)
    yield wrong, "clips", lambda row: f"one is no range of seconds: {row['clips']}"


def _is_outside(path: str) -> bool:
    return posixpath.normpath(path).split("/")[0] == ".."


def _outside(column: str, row: Mapping[str, Any]) -> str:
    path = next(item["path"] for item in row[column] if _is_outside(item["path"] or ""))
    return f"{path!r} leads outside the media root"


def _broken_blocks(batch: pa.RecordBatch) -> Iterator[_Rule]:
    of_clips = _mask(pc.equal(batch["task"], "video_qa"))
    for name, asked in (("qa", of_clips), ("reid", ~of_clips)):
        lacking = asked & _mask(batch[name].is_null())
        yield lacking, name, lambda row: f"is null for a {row['task']} sample"
    candidates = _Lists(batch["images"]).counts - 1
    names = [field.name for field in batch["reid"].type]
    for key in CANDIDATE_LISTS:
        values = batch["reid"].flatten()[names.index(key)]
        known = _mask(values.is_valid()) & ~of_clips
        uneven = known & (_Lists(values).counts != candidates)
        yield uneven, f"reid.{key}", partial(_uneven, key)


def _uneven(key: str, row: Mapping[str, Any]) -> str:
    return f"has {len(row['reid'][key])} values for {len(row['images']) - 1} candidates"


def _repeated(names: pa.ChunkedArray) -> np.ndarray:
    """Rows whose name an earlier row has, (N,) bool."""
    repeated = np.ones(len(names), bool)
    repeated[np.unique(_numbers(names), return_index=True)[1]] = False
    return repeated


def _straddling(table: pa.Table) -> np.ndarray:
    """Rows of another split than the first row of their source and group, (N,) bool."""
    source, group, split = (_numbers(table[name]) for name in ("source", "group", "split"))
    key = source.astype(np.int64) * (group.max(initial=0) + 1) + group
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    return split != split[first[which]]


def _leak(table: pa.Table, row: Mapping[str, Any]) -> str:
    same = pc.and_(pc.equal(table["source"], row["source"]), pc.equal(table["group"], row["group"]))
    split = table["split"].filter(same)[0].as_py()
    return f"{row['group']!r} is in split {split!r} and in {row['split']!r}"


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """One number for each distinct text, (N,) int32; null is one of them."""
    texts = pc.cast(column, pa.large_string()).combine_chunks()
    return texts.dictionary_encode("encode").indices.to_numpy()


def _mask(values: pa.Array, null: bool = False) -> np.ndarray:
    """(n,) bool, nulls as given."""
    return pc.fill_null(values, null).to_numpy(zero_copy_only=False).copy()


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
