"""Video question benchmarks: annotation files -> one table of questions.

Each benchmark has a module that knows where its annotations lie and how a record looks. All of them
are read into the same table, one row per question:

  id, group   strings made of the benchmark's own ids; a split never divides a `group`
  video       path relative to the media root
  start, end  seconds, null for the whole clip
  family      the benchmark's name for the type of question
  question    text
  options     list of texts without letters
  right       list of truth values, one per option
  kind        `independent`, `exclusive`, `single` or `negated` (see `question`)
  facts       list of texts where the source carries its truth, else null

Any benchmark may also come in the Video-R1 schema. To add a benchmark, describe its columns in
`published`, or write a module with a `BENCH`, and add its name to `PUBLISHED` or `MODULES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import zip_longest
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.builders import truth
from nontrivial.builders.qa.benches.files import BROKEN, read, read_hub, records_of_a_list
from nontrivial.builders.qa.benches.question import Place, Question, Refused, Unusable, check
from nontrivial.manifests.errors import BadInput

if TYPE_CHECKING:
    import polars as pl

# Benchmarks with a module of their own, and those of `published`.
MODULES = (
    *("clevrer", "mmvu", "mvbench", "nextgqa", "nextqa", "perception_test"),
    *("star", "table", "tempcompass", "video_r1", "videomme"),
)
PUBLISHED = (
    *("cg_bench", "cinepile", "egoschema", "intentqa", "longvideobench", "minerva", "mlvu"),
    *("social_iq2", "tgif_qa", "tomato", "video_holmes", "vsi_bench"),
)
NAMES = tuple(sorted(MODULES + PUBLISHED))
ANSWERS = ("text", "letter", "index0", "index1")  # how a table may mark the right option
SHOWN = 20_000  # records from which on a progress bar is shown
SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
SHORT = {"train": "train", "validation": "val", "test": "test"}  # splits in many file names


@dataclass(frozen=True)
class Bench:
    """The description of a benchmark.

    folders  names of its folder under the root; the first that exists is taken
    files    patterns of annotation files in that folder, by split; the first that matches is taken
    several  if all files that match are read, not the first; records get their names as `file`
    layout   the expected layout, printed if the folder is missing
    origin   where to get the data set
    parse    (record, place) -> question; raises `Unusable`
    records  (content of a file, folder) -> records
    fit      (records, `--map`, `--answer`) -> a description that reads them, for tables of any form
    """

    folders: tuple[str, ...]
    files: Mapping[str, tuple[str, ...]]
    layout: str
    origin: str
    parse: Callable[[Mapping[str, Any], Place], Question]
    records: Callable[[Any, Path], Iterator[Any]] = records_of_a_list
    fit: Callable[[list[Any], str | None, str | None], Bench] | None = None
    several: bool = False


@dataclass
class Loaded:
    """The questions of a benchmark, the records that were refused, and where they are from."""

    frame: pl.DataFrame
    refused: list[Refused] = field(default_factory=list)
    origin: str = ""

    @property
    def records(self) -> int:
        return len(self.frame) + len(self.refused)


def load(
    name: str,
    root: Path,
    split: str,
    *,
    annotations: Path | None = None,
    hub: str | None = None,
    renamed: str | None = None,
    answer_is: str | None = None,
    seed: int = 0,
) -> Loaded:
    """Read a benchmark from its own folder under `root`, from one file, or from the Hub.

    `renamed` and `answer_is` are `--map` and `--answer`, for tables of any form. Raises
    `FileNotFoundError` that says where the data was looked for and how to get it.
    """
    bench = _bench(name)
    if (renamed or answer_is) and not bench.fit:
        raise BadInput(f"--map and --answer are for --bench table; {name} has columns of its own")
    folder = next((root / n for n in bench.folders if (root / n).is_dir()), root)
    place = Place("" if folder == root else folder.name, split, seed)
    paths = [] if hub else [annotations] if annotations else find(name, bench, root, split)
    sources = (
        [(read_hub(hub, split), f"--hub {hub}")] if hub else [(read(p), str(p)) for p in paths]
    )
    if any(_is_video_r1(content) for content, _ in sources) and not renamed:
        bench = _bench("video_r1")
    records: list[Any] = []
    for (content, source), path in zip_longest(sources, paths):
        try:
            found = bench.records(content, folder)
            records += _with_name(found, path) if bench.several and path else found
            if bench.fit:
                bench = bench.fit(records, renamed, answer_is)
        except BadInput as error:
            about = f"{name} annotations are {bench.layout}"
            raise BadInput(f"{source}: {error}\n  {about}") from error
    origin = f"{bench.origin}; read from {hub} on the Hub" if hub else bench.origin
    is_drawn = (folder / truth.FILE).is_file()
    return replace(collect(bench, records, place), origin=truth.DRAWN if is_drawn else origin)


def _bench(name: str) -> Bench:
    module, of_it = ("published", name.upper()) if name in PUBLISHED else (name, "BENCH")
    bench: Bench = getattr(importlib.import_module(f"{__name__}.{module}"), of_it)
    return bench


def _with_name(records: Iterable[Any], path: Path) -> Iterator[Any]:
    for record in records:
        yield {"file": path.stem, **record} if isinstance(record, Mapping) else record


def _is_video_r1(content: Any) -> bool:
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, Mapping) and {"problem", "solution"} <= set(first)


def find(name: str, bench: Bench, root: Path, split: str) -> list[Path]:
    """Find the annotation files of a split: one, or all that match one pattern."""
    patterns = bench.files.get(SPLITS[split], ())
    for folder in bench.folders:
        for pattern in patterns:
            if paths := sorted((root / folder).glob(pattern)):
                return paths if bench.several else paths[:1]
    if not patterns:
        raise BadInput(
            f"--split {split}: {name} has {', '.join(bench.files) or 'no place of its own'}; "
            "give a file with --annotations FILE"
        )
    tried = " or ".join(f"{root / n}/{p}" for n in bench.folders for p in patterns)
    raise FileNotFoundError(
        f"{name}: found no {tried}\n"
        f"  layout:    {bench.layout}\n"
        f"  get it:    {bench.origin}\n"
        "  elsewhere: --root FOLDER, or --annotations FILE for a single file\n"
        "  synthetic: nontrivial synthetic --out data   (draws CLEVRER and Market-1501)"
    )


def collect(bench: Bench, records: list[Any], place: Place) -> Loaded:
    """Turn every record into a row of the table or into a refusal with its reason."""
    from tqdm import tqdm

    questions, refused, seen = [], [], set()
    shown = tqdm(records, "records", unit="record", disable=len(records) < SHOWN)
    for number, record in enumerate(shown):
        try:
            question = check(bench.parse(_mapping(record), place))
            if question.id in seen:
                raise Unusable(f"the id {question.id!r} appears twice")
            seen.add(question.id)
            questions.append(question)
        except Unusable as error:
            refused.append(Refused(_name(record, number), str(error), error.damaged))
    return Loaded(to_frame(questions), refused)


def to_frame(questions: list[Question]) -> pl.DataFrame:
    """Return the questions as the table described at the top of this module."""
    import polars as pl
    import pyarrow as pa

    texts = pa.list_(pa.string())
    types = {"options": texts, "right": pa.list_(pa.bool_()), "facts": texts}
    types |= {"start": pa.float64(), "end": pa.float64()}
    # Arrow converts lists of lists several times faster than polars does.
    columns = {
        name: pa.array(list(map(attrgetter(name), questions)), types.get(name, pa.string()))
        for name in (column.name for column in fields(Question))
    }
    return pl.DataFrame(pl.from_arrow(pa.table(columns)))


def _mapping(record: Any) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise Unusable(f"is a {type(record).__name__}, not a record")
    if BROKEN in record:
        raise Unusable(record[BROKEN])
    return record


def _name(record: Any, number: int) -> str:
    """Name a refused record by its number and, if it has one, its id."""
    known = record if isinstance(record, Mapping) else {}
    ids = (known.get(key) for key in ("id", "question_id", "problem_id", "qid"))
    suffix = next((f" ({str(value)[:60]})" for value in ids if value is not None), "")
    return f"record {number + 1}{suffix}"
