"""Footers of Parquet files tell what Arrow says of them, and are refused where they are damaged."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nontrivial.manifests.footer import sizes
from nontrivial.manifests.parquet import write_samples
from nontrivial.manifests.schema import samples_table
from tests.rows import many


def tables() -> dict[str, pa.Table]:
    numbers = np.arange(5000)
    return {
        "none": pa.table({}),
        "empty": pa.table({"a": pa.array([], pa.int64())}),
        "nested": pa.table({"a": [[1, 2], [], None] * 2000, "b": [{"c": True}, None, {}] * 2000}),
        "wide": pa.table({f"column {k}": numbers for k in range(40)}),
        "null": pa.table({"a": pa.nulls(5000), "b": numbers.astype(str).tolist()}),
    }


@pytest.mark.parametrize("name", tables())
@pytest.mark.parametrize("options", [{}, {"compression": "zstd", "row_group_size": 700}])
def test_sizes_are_those_that_arrow_tells(tmp_path: Path, name, options):
    path = tmp_path / "some.parquet"
    pq.write_table(tables()[name], path, **options)
    told, footer = sizes(path), pq.read_metadata(path)
    groups = [footer.row_group(k) for k in range(footer.num_row_groups)]
    columns = [group.column(k) for group in groups for k in range(group.num_columns)]
    assert told.rows == footer.num_rows
    assert told.columns == [(c.num_values, c.total_uncompressed_size) for c in columns]


def test_a_damaged_footer_is_refused_or_read(tmp_path: Path):
    path = tmp_path / "some.parquet"
    write_samples(samples_table(many(3)), path, {})
    whole = path.read_bytes()
    length = int.from_bytes(whole[-8:-4], "little") + 8
    rng, said = random.Random(0), []
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 3])):
            data[-rng.randint(1, length)] = rng.randrange(256)
        path.write_bytes(data)
        try:
            sizes(path)
        except ValueError as error:
            said.append(str(error))
    assert 300 < len(said) < 3000
    assert all("footer" in reason for reason in said)


@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"PAR1" * 3, b"\x1b" * 5000 + b"\x00\x10\x00\x00PAR1"]
)
def test_what_has_no_footer_is_refused(tmp_path: Path, data):
    path = tmp_path / "some.parquet"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="footer"):
        sizes(path)
