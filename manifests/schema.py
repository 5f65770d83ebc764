"""The two tables of the contract, `samples` and `embeddings`, and their rules.

A sample, for training and evaluation, is a question with lettered options over images or videos,
and the letters of *all* right options; in re-identification `images[0]` is the query, and the other
images are its candidates; of a described person (`reid_text`) all images are candidates. An
embedding, for ranking, is an image with its labels and unit vectors.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nontrivial.manifests.answers import LETTERS, NONE
from nontrivial.manifests.errors import ManifestError

SCHEMA_VERSION = 2
# Fields since version 1, which are null in older files.
ADDED = {"reid": ("twin",), "qa": ("parents", "doubt")}
METADATA_KEY = b"nontrivial"
TASKS = ("reid_pair", "reid_choice", "reid_text", "video_qa")
SPLITS = ("train", "val", "test")
ROLES = ("train", "query", "gallery", "distractor", "junk")  # a distractor is ranked, junk is not
NOBODY = -1  # the identity number of an image of nobody known
VECTOR = "vector_"  # prefix of an encoder's column in the embeddings table

MEDIA_TYPES = {"images": "Image", "videos": "Video"}  # features of `datasets`
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
        ("twin", pa.string()),  # id of the pair with the same query and the other answer
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
        ("parents", pa.list_(pa.string())),  # of statements: the question of each option
        ("doubt", pa.float32()),  # how much a right option resembles a wrong one, 0 to 1
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
# Fields of `reid` with one value for each candidate.
CANDIDATE_LISTS = [field.name for field in REID if pa.types.is_list(field.type)]


def embeddings_schema(widths: Mapping[str, int]) -> pa.Schema:
    """Return the schema of embeddings: `width` float32 in `vector_<encoder>` for each encoder."""
    names = ("path", "source", "pid", "camid", "clothes", "split", "role")
    fields = [(name, pa.int32() if name == "camid" else pa.string()) for name in names]
    vectors = [(VECTOR + name, pa.list_(pa.float32(), width)) for name, width in widths.items()]
    return pa.schema(fields + vectors)


def is_embeddings(table: pa.Table) -> bool:
    """True for a table with a column of vectors."""
    return any(name.startswith(VECTOR) for name in table.column_names)


def samples_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Make a samples table sorted by id; absent columns become null, unknown ones are errors."""
    rows = list(rows)
    known = set(SAMPLES.names)
    for row in rows:
        if not known.issuperset(row):
            raise ManifestError(
                f"row {row.get('id')!r}: unknown columns {sorted(set(row) - known)}"
            )
    return pa.Table.from_pylist(rows, schema=SAMPLES).sort_by("id")


def samples_of_columns(columns: Mapping[str, Any]) -> pa.Table:
    """Make the same table from whole columns, faster than from many rows."""
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
    """Return for each option of each question if its letter is among the answers.

    >>> truths(pa.array([["x", "y"], ["z"]]), pa.array([["B"], ["A"]])).to_pylist()
    [[False, True], [True]]
    """
    counts, chosen = options.value_lengths().to_numpy(), answers.value_lengths().to_numpy()
    ends = np.cumsum(counts)
    letter = pc.index_in(answers.flatten(), pa.array(list(LETTERS))).to_numpy()
    right = np.zeros(counts.sum(), bool)
    right[np.repeat(ends - counts, chosen) + letter] = True
    return pa.ListArray.from_arrays(np.append(0, ends).astype(np.int32), right)


def datasets_features(typed: Collection[str] = tuple(MEDIA_TYPES)) -> bytes:
    """Return `huggingface` metadata that make `load_dataset` yield Image and Video columns.

    Columns of media that are not `typed` yield bytes and path.
    """
    features = {field.name: _feature(field.type) for field in SAMPLES}
    for name in typed:
        features[name] = {"feature": {"_type": MEDIA_TYPES[name]}, "_type": "List"}
    return json.dumps({"info": {"features": features}}).encode()


def upgraded(table: pa.Table) -> pa.Table:
    """Return samples of version 1 or 2 with the fields of version 2, absent ones null."""
    for name, added in ADDED.items():
        place = table.schema.get_field_index(name)
        kind = table.schema.field(place).type if place >= 0 else None
        if kind is None or not pa.types.is_struct(kind):
            continue
        known = {field.name for field in kind}
        for field in (field for field in added if field not in known):
            wanted = SAMPLES.field(name).type.field(field)
            table = table.set_column(place, name, _with_nulls(table.column(place), wanted))
    return table


def _with_nulls(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    """Return structs with one more field, which is null."""
    fields = [*column.type, field]
    chunks = [
        pa.StructArray.from_arrays(
            [*chunk.flatten(), pa.nulls(len(chunk), field.type)],
            fields=fields,
            mask=chunk.is_null(),
        )
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, pa.struct(fields))


def validate(table: pa.Table, name: str = "manifest") -> None:
    """Raise `ManifestError` with file, row id, column and rule if samples break the contract."""
    table = upgraded(table)
    _check_columns(table, SAMPLES, name)
    repeated, straddling = _repeated(_numbers(table, "id")), _straddling(table)

    def rules(batch: pa.RecordBatch, part: slice) -> Iterator[_Rule]:
        yield from _blank(batch, "id", "task", "source", "split", "group", "question")
        yield repeated[part], "id", "is not unique"
        yield from _unknown(batch, task=TASKS, split=SPLITS)
        finite = _mask(pc.is_finite(batch["difficulty"]), null=True)
        yield ~finite, "difficulty", lambda row: f"is {row['difficulty']}, must be finite or null"
        yield from _broken_answers(batch)
        yield from _broken_media(batch)
        yield from _broken_blocks(batch)
        yield straddling[part], "group", lambda row: _leak(table, row)

    _hold(table, rules, name, "id")


def validate_embeddings(table: pa.Table, name: str = "embeddings") -> None:
    """Raise `ManifestError` with file, path, column and rule if embeddings break the contract.

    Every image comes once, with an identity, a role and a finite vector of each encoder.
    """
    vectors = [column for column in table.column_names if column.startswith(VECTOR)]
    if not vectors:
        raise ManifestError(f"{name}: has no column {VECTOR}<encoder>")
    if len(set(vectors)) < len(vectors):
        raise ManifestError(f"{name}: a column of vectors comes twice: {sorted(vectors)}")
    kinds = {column: table.schema.field(column).type for column in vectors}
    for column, kind in kinds.items():
        if not (pa.types.is_fixed_size_list(kind) and kind.value_type == pa.float32()):
            raise ManifestError(f"{name}: column {column!r} is {kind}, needs float32 of one length")
    widths = {column.removeprefix(VECTOR): kind.list_size for column, kind in kinds.items()}
    _check_columns(table, embeddings_schema(widths), name)
    repeated = _repeated(_numbers(table, "source", "path"))

    def rules(batch: pa.RecordBatch, part: slice) -> Iterator[_Rule]:
        yield from _blank(batch, "path", "source", "pid")
        yield repeated[part], "path", "is not unique within its source"
        yield from _unknown(batch, split=SPLITS, role=ROLES)
        for column in vectors:
            yield ~_finite_rows(batch[column]), column, "is null or not finite"

    _hold(table, rules, name, "path")


def iterate(table: pa.Table, *, batch: int = 4096) -> Iterator[dict[str, Any]]:
    """Yield rows as dicts, converted a batch at a time."""
    for chunk in table.to_batches(max_chunksize=batch):
        yield from chunk.to_pylist()


def family_of(sample: Mapping[str, Any]) -> str:
    """Return the kind of a pair, or the family of a question, marked if it is inverted."""
    if sample.get("reid"):
        return sample["reid"]["kind"] or ""
    qa = sample.get("qa") or {}
    return (qa.get("family") or "") + (", inverted" if qa.get("inverted") else "")


def _check_columns(table: pa.Table, wanted: pa.Schema, name: str) -> None:
    for field in wanted:
        if table.column_names.count(field.name) != 1:
            problem = "comes twice" if field.name in table.column_names else "is missing"
            raise ManifestError(
                f"{name}: column {field.name!r} {problem}; the table needs {wanted.names}"
            )
        kind = table.schema.field(field.name).type
        if _plain(kind) != _plain(field.type):
            raise ManifestError(f"{name}: column {field.name!r} is {kind}, needs {field.type}")


# Rows of a batch that break a rule, (n,) bool; the column; the rule in words for such a row.
_Rule = tuple[np.ndarray, str, str | Callable[[Mapping[str, Any]], str]]
# The rules for a batch, given its place in the table.
_Rules = Callable[[pa.RecordBatch, slice], Iterable[_Rule]]


def _hold(table: pa.Table, rules: _Rules, name: str, key: str) -> None:
    """Raise `ManifestError` for the first row that breaks a rule, with the first rule it breaks."""
    start = 0
    for batch in table.to_batches(max_chunksize=4096):
        broken = list(rules(batch, slice(start, start + len(batch))))
        firsts = [int(mask.argmax()) if mask.any() else len(batch) for mask, _, _ in broken]
        if min(firsts) < len(batch):
            _, column, rule = broken[firsts.index(min(firsts))]
            row = batch.slice(min(firsts), 1).to_pylist()[0]
            words = rule if isinstance(rule, str) else rule(row)
            raise ManifestError(f"{name}: row {row[key]!r}: column {column!r}: {words}")
        start += len(batch)


class _Lists:
    """A column of lists: `counts` (n,) of each row, `values` of all rows, `row` of each value."""

    def __init__(self, column: pa.ListArray) -> None:
        self.counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        self.values = column.flatten()
        self.row = np.repeat(np.arange(len(column)), self.counts)

    def any(self, values: np.ndarray) -> np.ndarray:
        """Return which rows have a value that a mask over all values selects, (n,) bool."""
        return np.bincount(self.row[values], minlength=len(self.counts)) > 0


def _blank(batch: pa.RecordBatch, *columns: str) -> Iterator[_Rule]:
    for column in columns:
        blank = pc.equal(pc.utf8_trim_whitespace(batch[column]), "")
        yield _mask(blank, null=True), column, "is empty"


def _unknown(batch: pa.RecordBatch, **columns: Sequence[str]) -> Iterator[_Rule]:
    for column, known in columns.items():
        wrong = ~_mask(pc.is_in(batch[column], pa.array(known)))
        yield wrong, column, partial(_not_one_of, column, known)


def _not_one_of(column: str, known: Sequence[str], row: Mapping[str, Any]) -> str:
    return f"is {row[column]!r}, must be one of {known}"


def _broken_answers(batch: pa.RecordBatch) -> Iterator[_Rule]:
    options, answers = _Lists(batch["options"]), _Lists(batch["answer"])
    blank = options.any(_mask(pc.equal(options.values, ""), null=True))
    few = (options.counts < 2) | blank
    yield few, "options", lambda row: f"needs at least two non-empty texts, has {row['options']}"
    most = len(LETTERS)
    yield (
        options.counts > most,
        "options",
        lambda row: f"has {len(row['options'])} texts, at most {most} can be lettered",
    )
    yield answers.counts == 0, "answer", f"is empty; if nothing is right, add the option {NONE!r}"
    letter = pc.index_in(answers.values, pa.array(list(LETTERS))).fill_null(most).to_numpy()
    yield answers.any(letter >= options.counts[answers.row]), "answer", _no_option
    falling = np.append(False, (np.diff(letter) <= 0) & (np.diff(answers.row) == 0))
    disordered = answers.any(falling[: len(letter)])
    yield disordered, "answer", lambda row: f"{row['answer']} must be distinct, ascending letters"


def _no_option(row: Mapping[str, Any]) -> str:
    allowed = list(LETTERS[: len(row["options"])])
    wrong = next(letter for letter in row["answer"] if letter not in allowed)
    return f"{wrong!r} is not among the {len(allowed)} options ({allowed[0]}–{allowed[-1]})"


def _broken_media(batch: pa.RecordBatch) -> Iterator[_Rule]:
    of_clips, told = (_mask(pc.equal(batch["task"], task)) for task in ("video_qa", "reid_text"))
    media = {name: _Lists(batch[name]) for name in ("images", "videos")}
    asked_of = ("videos", of_clips, 1), ("images", told, 1), ("images", ~(of_clips | told), 2)
    for name, asked, least in asked_of:
        few = asked & (media[name].counts < least)
        yield few, name, partial(_too_few, least)
    for name, items in media.items():
        data, path = items.values.flatten()  # unlike `field`, with the nulls of their items
        no_path = _mask(pc.equal(path, ""), null=True)
        absent = items.any(_mask(data.is_null()) & no_path)
        yield absent, name, "holds neither bytes nor a path"
        upward = _mask(pc.match_substring(path, ".."))
        upward[upward] = [_is_outside(text) for text in path.filter(pa.array(upward)).to_pylist()]
        yield items.any(upward), name, partial(_outside, name)
    clips, videos = _Lists(batch["clips"]), media["videos"].counts
    yield (
        (clips.counts > 0) & (clips.counts != videos),
        "clips",
        lambda row: f"has {len(row['clips'])} ranges for {len(row['videos'] or [])} videos",
    )
    start, end = (side.to_numpy(zero_copy_only=False) for side in clips.values.flatten())
    is_range = (start >= 0) & (start < end) & (end < np.inf)  # false where one is null
    wrong = clips.any(_mask(clips.values.is_valid()) & ~is_range)
    yield wrong, "clips", lambda row: f"one is no range of seconds: {row['clips']}"


def _too_few(least: int, row: Mapping[str, Any]) -> str:
    return f"a {row['task']} sample needs at least {least}"


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
    told = _mask(pc.equal(batch["task"], "reid_text"))
    candidates = _Lists(batch["images"]).counts - ~told
    for field, values in zip(REID, batch["reid"].flatten(), strict=True):
        if field.name in CANDIDATE_LISTS:
            known = _mask(values.is_valid()) & ~of_clips
            uneven = known & (_Lists(values).counts != candidates)
            yield uneven, f"reid.{field.name}", partial(_uneven, field.name)


def _uneven(key: str, row: Mapping[str, Any]) -> str:
    candidates = len(row["images"]) - (row["task"] != "reid_text")
    return f"has {len(row['reid'][key])} values for {candidates} candidates"


def _numbers(table: pa.Table, *columns: str) -> np.ndarray:
    """Number the distinct texts of a column or tuples of columns, (N,) int64; null is a text."""
    number = np.zeros(len(table), np.int64)
    for column in columns:
        texts = pc.cast(table[column], pa.large_string()).combine_chunks()
        code = texts.dictionary_encode("encode").indices.to_numpy()
        number = number * (code.max(initial=0) + 1) + code
    return number


def _repeated(number: np.ndarray) -> np.ndarray:
    """Return which numbers an earlier row has, (N,) bool."""
    repeated = np.ones(len(number), bool)
    repeated[np.unique(number, return_index=True)[1]] = False
    return repeated


def _straddling(table: pa.Table) -> np.ndarray:
    """Return which rows are in another split than their group's first row, (N,) bool."""
    split = _numbers(table, "split")
    _, first, group = np.unique(
        _numbers(table, "source", "group"), return_index=True, return_inverse=True
    )
    return split != split[first[group]]


def _leak(table: pa.Table, row: Mapping[str, Any]) -> str:
    same = pc.and_(pc.equal(table["source"], row["source"]), pc.equal(table["group"], row["group"]))
    split = table["split"].filter(same)[0].as_py()
    return f"{row['group']!r} is in split {split!r} and in {row['split']!r}"


def _mask(values: pa.Array, null: bool = False) -> np.ndarray:
    """Return (n,) bool, with `null` for nulls."""
    return pc.fill_null(values, null).to_numpy(zero_copy_only=False).copy()


def _finite_rows(vectors: pa.FixedSizeListArray) -> np.ndarray:
    """Return which rows of (n, width) hold a vector of finite numbers, (n,) bool."""
    values = np.full((len(vectors), vectors.type.list_size), np.nan, np.float32)
    present = vectors.is_valid().to_numpy(zero_copy_only=False)
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    values[present] = flat.reshape(-1, vectors.type.list_size)
    return np.asarray(np.isfinite(values).all(axis=1))


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return a type without large variants and names of list items, which writers vary."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _plain(field.type)) for field in kind])
    return {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}.get(kind, kind)


def _feature(kind: pa.DataType) -> Any:
    """Write an Arrow type in the notation of `datasets.Features`."""
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    names = {pa.float64(): "float64", pa.float32(): "float32", pa.bool_(): "bool"}
    return {"dtype": names.get(kind, str(kind)), "_type": "Value"}
