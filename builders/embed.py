"""Images -> unit vectors, written as an embeddings table for ranking.

  python -m builders.embed --source market1501 --split test
      -> manifests/embeddings/market1501_test.parquet

Vectors are cached, so a killed run resumes where it stopped, and `builders.reid_hard` reuses them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.builders.reid.vectors import ImageOptions
from nontrivial.manifests.command import guard, parse, say, table

if TYPE_CHECKING:
    import pyarrow as pa

    from nontrivial.builders.reid.vectors import Embedded


@dataclass
class Options(ImageOptions):
    """Options of `python -m builders.embed`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guard(run, parse(Options, argv, prog="builders.embed", description=__doc__))


def run(options: Options) -> None:
    """Write the embeddings table and print a summary."""
    from nontrivial.builders.reid.vectors import embed, embeddings_table, read_sources
    from nontrivial.manifests.files import claim
    from nontrivial.manifests.parquet import write_table
    from nontrivial.manifests.roots import name_root
    from nontrivial.manifests.schema import validate_embeddings
    from nontrivial.models.encoders import load_encoders

    options.check()
    name_root(options.root)
    target = Path(options.out, "embeddings", f"{options.name}_{options.split}.parquet")
    with claim(target):
        sources = read_sources(options)
        encoders = load_encoders(options.encoder, precision=options.precision)
        parts = [embed(images.frame, encoders, options) for images in sources]
        content = embeddings_table(parts)
        validate_embeddings(content, str(target))
        about = {
            "builder": "builders.embed",
            "options": asdict(options),
            "media_root": options.root,
            "encoders": {encoder.name: encoder.digest for encoder in encoders},
            "counts": {
                "images": len(content),
                "damaged": sum(len(part.damaged) for part in parts),
                "ignored": [dict(images.ignored) for images in sources],
            },
            "differences": [text for images in sources for text in images.differences],
        }
        digest = write_table(content, target, about)
    _report(content, parts, about, target, digest)


def _report(
    content: pa.Table,
    parts: Sequence[Embedded],
    about: Mapping[str, Any],
    target: Path,
    digest: str,
) -> None:
    roles = content.column("role").value_counts().to_pylist()
    rows = [(f"images, {item['values']}", item["counts"]) for item in roles]
    rows += [("damaged, left out", about["counts"]["damaged"])]
    rows += [item for ignored in about["counts"]["ignored"] for item in ignored.items()]
    rows += [(f"width of {name}", x.shape[1]) for name, x in parts[0].vectors.items()]
    say(table(rows))
    for text in about["differences"]:
        say(f"note: {text}")
    say(f"{target}: content digest {digest[:16]}")


if __name__ == "__main__":
    sys.exit(main())
