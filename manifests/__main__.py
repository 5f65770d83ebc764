"""Look at manifests before trusting them.

python -m manifests validate manifests/*.parquet    every row against the contract
python -m manifests stats manifests/*.parquet       counts, answers, difficulty, how it was made
python -m manifests show manifests/*.parquet        some rows; inverted questions beside originals
python -m manifests gallery manifests/*.parquet     one HTML page of pictures, with filters
python -m manifests audit manifests/some.parquet    a page to read and mark rows; rates by rule
python -m manifests card manifests/*.parquet        how they were made, as a data set card
python -m manifests export manifests/*.parquet --to ms-swift --out exported
                                                    other trainers' data, with our reward beside it
python -m manifests export manifests/eval/*.parquet --to lmms-eval --out exported
                                                    tasks of a harness, scored as eval.qa scores
python -m manifests export manifests/*.parquet --to hub --out exported
                                                    a folder for the Hub, with its card
python -m manifests import exported/some.jsonl --origin ms-swift --out manifests/some.parquet
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests.answers import LETTERS
from nontrivial.manifests.command import LISTED, guard, option, parse, printable, say, table
from nontrivial.manifests.errors import BadInput, ManifestError
from nontrivial.manifests.exports import HUB, IMPORTED, TARGETS
from nontrivial.manifests.files import expand, write_text

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_Splits = dict[tuple[str, str], tuple[str, Path]]  # (source, group) -> split, first file with it
_Section = tuple[str, Sequence[str], list[tuple]]  # title, header, rows


@dataclass
class Options:
    """Options of `python -m manifests`."""

    action: str = option(
        "what to do",
        choices=("validate", "stats", "show", "gallery", "audit", "card", "export", "import"),
        positional=True,
    )
    files: list[str] = option("samples or embeddings tables, or globs", positional=True)
    rows: int | None = option(
        "rows of each file (show: 3, gallery: 2000, 20,000 a page, audit: 200)", default=None
    )
    out: str | None = option(
        "file to write (gallery: gallery.html, card: README.md); export: folder", default=None
    )
    to: str | None = option(
        "export: the trainer, the harness or the Hub", default=None, choices=(*TARGETS, HUB)
    )
    embed_media: bool = option(
        "export --to hub: put images and clips into the tables, if their licence allows it",
        default=False,
    )
    origin: str | None = option("import: where it was exported to", default=None, choices=IMPORTED)
    max_mb: float = option("gallery: limit of a page's thumbnails together, in MB", default=24.0)
    rates_only: bool = option("audit: print the rates of what was read", default=False)
    port: int = option("audit: port on this machine; 0 takes a free one", default=0, rare=True)
    push_to_hub: str | None = option("card: upload it with the files to USER/NAME", default=None)
    private: bool = option("card: make the repository private", default=True)
    media_root: str | None = option(
        "gallery, export, import: folder of the media, if not the recorded", default=None
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse(Options, argv, prog="manifests", description=__doc__)
    actions = {
        "validate": _validate,
        "stats": _stats,
        "show": _show,
        "gallery": _gallery,
        "audit": _audit,
        "card": _card,
        "export": _export,
        "import": _import,
    }
    return guard(actions[options.action], options)


def _validate(options: Options) -> int:
    problems, rows = [], []
    splits: _Splits = {}
    for path in expand(options.files):
        try:
            rows.append(_check_file(path, splits))
        except (BadInput, FileNotFoundError) as error:
            problems.append(error)
    if rows:
        say(table(rows, header=("file", "table", "rows", "content digest")))
    for problem in problems:
        say(f"error: {problem}", file=sys.stderr)
    return 2 if problems else 0


def _check_file(path: Path, splits: _Splits) -> tuple[Any, ...]:
    """Validate a file, and the splits of its groups against the files before it."""
    from nontrivial.manifests.parquet import content_digest, read_about, read_table
    from nontrivial.manifests.schema import is_embeddings, validate, validate_embeddings

    content = read_table(path)
    kind = "embeddings" if is_embeddings(content) else "samples"
    if kind == "embeddings":
        validate_embeddings(content, str(path))
    else:
        validate(content, str(path))
        _check_splits(content, path, splits)
    digest = content_digest(content)
    recorded = read_about(path).get("content_digest")
    if recorded != digest:
        raise ManifestError(f"{path}: was changed after it was written: {digest} is not {recorded}")
    return path, kind, len(content), digest[:16]


def _check_splits(content: pa.Table, path: Path, splits: _Splits) -> None:
    """Raise `ManifestError` for a group that two files put into different splits."""
    keys = ["source", "group", "split"]
    for row in content.select(keys).group_by(keys).aggregate([]).to_pylist():
        split, first = splits.setdefault((row["source"], row["group"]), (row["split"], path))
        if split != row["split"]:
            raise ManifestError(
                f"{path}: group {row['group']!r} of {row['source']} is in split {row['split']!r}, "
                f"and in {split!r} in {first}"
            )


def _export(options: Options) -> None:
    from nontrivial.manifests.exports import export

    if options.to is None or options.out is None:
        raise BadInput(f"export needs --to ({', '.join((*TARGETS, HUB))}) and --out, a folder")
    if options.embed_media and options.to != HUB:
        raise BadInput("--embed_media is for --to hub; other exports name the files of media")
    if options.to == HUB:
        from nontrivial.manifests.exports.hub import export_hub

        files, lacking = export_hub(
            options.files, options.out, embed=options.embed_media, media_root=options.media_root
        )
    else:
        root = options.media_root
        files, lacking = export(options.files, options.to, options.out, media_root=root)
    say(table([(f"left out: {reason}", count) for reason, count in lacking.items()]))
    say("\n".join(map(str, files)))
    if options.to == HUB:
        say(f"to publish it: hf upload USER/NAME {options.out} . --repo-type dataset --private")


def _import(options: Options) -> None:
    from nontrivial.manifests.exports import read_back

    if options.origin is None or options.out is None:
        raise BadInput(f"import needs --origin ({', '.join(IMPORTED)}) and --out, a manifest")
    path, rows = read_back(
        options.files, options.origin, options.out, media_root=options.media_root
    )
    say(f"{path}: {rows} rows")


def _tables(files: Sequence[str]) -> Iterator[tuple[Path, pa.Table]]:
    """Read and validate files one by one and print a heading for each."""
    from nontrivial.manifests.parquet import read_valid

    for path in expand(files):
        content = read_valid(path)
        say(f"\n{path}: {len(content)} rows")
        yield path, content


def _stats(options: Options) -> None:
    from nontrivial.manifests.schema import is_embeddings

    for path, content in _tables(options.files):
        sections = _embeddings_stats if is_embeddings(content) else _samples_stats
        for title, header, rows in chain(sections(content), _about(path)):
            say(f"\n{title}\n{textwrap.indent(table(rows, header), '  ')}")


def _samples_stats(content: pa.Table) -> Iterator[_Section]:
    import polars as pl

    columns = ["task", "source", "split", "options", "answer", "reid", "qa", "difficulty"]
    frame = pl.DataFrame(content.select(columns)).with_columns(
        pl.col("reid").struct.field("kind"),
        pl.col("qa").struct.field("family", "rule", "inverted"),
        right=pl.col("answer").list.len(),
        options=pl.col("options").list.len(),
    )
    yield "rows", *_counts(frame, ["task", "source", "split"])
    pairs = frame.filter(pl.col("reid").is_not_null())
    if len(pairs):
        yield "re-identification", *_counts(pairs, ["task", "kind"], "task")
    questions = frame.filter(pl.col("qa").is_not_null())
    if len(questions):
        yield "questions", *_counts(questions, ["family", "inverted", "rule"])
    yield "options and right answers", *_counts(frame, ["task", "options", "right"], "task")
    yield "right letters", *_counts(frame.explode("answer"), ["task", "answer"], "task")
    if frame["difficulty"].count():
        spread = [frame["difficulty"].quantile(q) for q in (0, 0.25, 0.5, 0.75, 1)]
        yield "difficulty", ("least", "25 %", "median", "75 %", "most"), [tuple(spread)]


def _embeddings_stats(content: pa.Table) -> Iterator[_Section]:
    import polars as pl

    from nontrivial.manifests.schema import VECTOR

    frame = pl.DataFrame(content.select(["source", "split", "role", "pid", "camid", "clothes"]))
    keys = ["source", "split", "role"]
    sizes = frame.group_by(keys).agg(pl.len(), pl.col("pid", "camid", "clothes").n_unique())
    yield "images", (*keys, "images", "pids", "camids", "clothes"), sizes.sort(keys).rows()
    vectors = [field for field in content.schema if field.name.startswith(VECTOR)]
    widths = [(field.name.removeprefix(VECTOR), field.type.list_size) for field in vectors]
    yield "vectors", ("encoder", "width"), widths


def _counts(
    frame: pl.DataFrame, keys: list[str], within: str | None = None
) -> tuple[Sequence[str], list[tuple]]:
    """Return header and rows of counts by `keys`, with shares of all rows or `within` a key."""
    import polars as pl

    total = pl.col("rows").sum()
    counts = frame.group_by(keys).len("rows").sort(keys, nulls_last=True)
    counts = counts.with_columns(share=pl.col("rows") / (total.over(within) if within else total))
    return counts.columns, [(*row[:-1], f"{row[-1]:.1%}") for row in counts.rows()]


def _about(path: Path) -> Iterator[_Section]:
    from nontrivial.manifests.parquet import read_about

    rows = [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in read_about(path).items()
    ]
    yield "how it was made", (), rows


def _show(options: Options) -> None:
    from nontrivial.manifests.schema import VECTOR, is_embeddings

    wanted = 3 if options.rows is None else options.rows
    for _, content in _tables(options.files):
        if is_embeddings(content):
            fields = [name for name in content.column_names if not name.startswith(VECTOR)]
            rows = content.select(fields).slice(0, wanted).to_pylist()
            say(table([tuple(row.values()) for row in rows], header=fields))
            continue
        # Evenly spread: rows are sorted by id, so neighbours are much alike.
        step = max(1, len(content) // max(1, wanted))
        for i in range(0, min(len(content), step * wanted), step):
            say("\n" + describe(content.slice(i, 1).to_pylist()[0]))


def _gallery(options: Options) -> None:
    from nontrivial.manifests.page.gallery import gallery_pages

    rows = 2000 if options.rows is None else options.rows
    pages = gallery_pages(
        expand(options.files),
        Path(options.out or "gallery.html"),
        rows=max(1, rows),
        budget=int(options.max_mb * 1e6),
        media_root=options.media_root,
    )
    files: list[Path] = []
    problems: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for file, page, thumbnails in pages:
        write_text(file, page)
        files.append(file)
        problems |= thumbnails.problems
        counts["thumbnails"] += len(thumbnails.data)
        counts["media beyond --max_mb"] += thumbnails.left_out
        counts["bytes"] += file.stat().st_size
    for problem in list(problems.values())[:LISTED]:
        say(f"no thumbnail: {problem}", file=sys.stderr)
    lines = [
        ("pages", len(files)),
        ("thumbnails", counts["thumbnails"]),
        ("media that cannot be read", len(problems)),
        ("media beyond --max_mb", counts["media beyond --max_mb"]),
        ("MB", round(counts["bytes"] / 1e6, 1)),
    ]
    say(f"{table(lines)}\n\n{files[0]}: open it in a browser")


def _audit(options: Options) -> None:
    """Serve the rows to read until Ctrl-C; print the rates of what was read."""
    from nontrivial.manifests.audit import MARKS, error_rates, marks_file, read_marks, sample
    from nontrivial.manifests.parquet import read_samples

    paths = expand(options.files)
    if len(paths) != 1:
        raise BadInput(f"audit: needs one manifest, got {len(paths)}")
    path, count = paths[0], 200 if options.rows is None else options.rows
    rows = sample(read_samples(path).to_pylist(), max(1, count))
    if not options.rates_only:
        from nontrivial.manifests.page.auditing import audit_server
        from nontrivial.manifests.roots import media_root

        root = media_root(path, options.media_root)
        server, address = audit_server(path, rows, root, int(options.max_mb * 1e6), options.port)
        say(f"{address}\nopen it in a browser; Ctrl-C ends the audit", flush=True)
        with server, suppress(KeyboardInterrupt):
            server.serve_forever()
    rates = error_rates(rows, read_marks(path))
    header = ("rule", "read", *MARKS, "errors (95 %)")
    say(table(rates, header=header) if rates else "nothing was marked yet")
    say(f"{marks_file(path)}: the marks")


def _card(options: Options) -> None:
    from nontrivial.manifests.page.cards import dataset_card, push_dataset

    files = expand(options.files)
    if len({path.name for path in files}) < len(files):
        raise BadInput("several files have the same name; a data set needs different names")
    out = options.out or "README.md"
    write_text(out, dataset_card(files))
    say(f"{out}: the card of {len(files)} files")
    if options.push_to_hub:
        say(push_dataset(files, options.push_to_hub, private=options.private))


def describe(row: Mapping[str, Any]) -> str:
    """Return a sample as text: its origin, its media, its question with right options marked."""
    head = f"{row['id']}  [{row['task']}, {row['source']}, {row['split']}, group {row['group']}]"
    media = [item["path"] or "embedded" for item in (row["images"] or []) + (row["videos"] or [])]
    block = _question(row["question"], row["options"], row["answer"])
    qa, reid = row["qa"] or {}, row["reid"] or {}
    if qa.get("inverted"):
        original = [qa[f"original_{name}"] or "" for name in ("question", "options", "answer")]
        block = _beside(["now:", *block], [f"before ({qa['rule']}):", *_question(*original)])
    if reid:
        candidates = ", ".join(map(str, reid["candidate_pids"] or ["nobody known"]))
        head += f"  {reid['kind']}: {reid['query_pid']} against {candidates}"
    lines = [head, "  " + " | ".join(media), *("  " + line for line in block)]
    return "\n".join(printable(line) for line in lines)


def _question(text: str, options: Sequence[str], answer: Sequence[str]) -> list[str]:
    marked = [
        f"{'*' if letter in answer else ' '} {letter} {option}"
        for letter, option in zip(LETTERS, options, strict=False)
    ]
    return [text, *marked]


def _beside(left: Sequence[str], right: Sequence[str]) -> list[str]:
    """Wrap two blocks of lines into columns that share the terminal's width."""
    width = max(24, (shutil.get_terminal_size().columns - 6) // 2)
    columns = [
        [part for line in block for part in textwrap.wrap(line, width) or [""]]
        for block in (left, right)
    ]
    return [f"{a.ljust(width)}  {b}".rstrip() for a, b in zip_longest(*columns, fillvalue="")]


if __name__ == "__main__":
    sys.exit(main())
