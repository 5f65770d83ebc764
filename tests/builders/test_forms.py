"""Pairs become questions whose letters tell nothing."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest

from builders.forms import NO, YES, first_options, pair_samples
from builders.pairs import HARD_NEGATIVE, HARD_POSITIVE
from manifests.schema import samples_table, validate


def frame(count: int = 6) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "path": [f"set/{i}.jpg" for i in range(count)],
            "source": "set",
            "name": [f"image{i}" for i in range(count)],
            "pid": [f"set/train/{i // 3}" for i in range(count)],
            "camid": [i % 3 for i in range(count)],
            "clothes": pl.Series([None] * count, dtype=pl.String),
            "split": "train",
        }
    )


PAIRS = pl.DataFrame(
    [
        (0, 1, 0.25, 0.5, HARD_POSITIVE, 4),
        (2, 3, 0.75, float("inf"), HARD_NEGATIVE, 1),
    ],
    schema=["anchor", "candidate", "similarity", "margin", "kind", "rank"],
    orient="row",
)


def rows_of(pairs: pl.DataFrame = PAIRS, seed: int = 0, truth: dict | None = None) -> list[dict]:
    return list(pair_samples(pairs, frame(), encoder="e", seed=seed, truth=truth or {}))


def test_a_pair_becomes_a_row_of_the_contract():
    rows = rows_of()
    validate(samples_table(rows))
    assert [row["id"] for row in rows] == ["set/train/image0~image1", "set/train/image2~image3"]
    assert [row["group"] for row in rows] == ["set/train/0", "set/train/0"]
    assert rows[1]["images"] == [{"bytes": None, "path": f"set/{i}.jpg"} for i in (2, 3)]
    reid = rows[1]["reid"]
    assert (reid["kind"], reid["similarity"], reid["rank"]) == (HARD_NEGATIVE, [0.75], [1])
    assert (reid["query_pid"], reid["candidate_pids"]) == ("set/train/0", ["set/train/1"])
    assert (reid["query_camid"], reid["candidate_camids"]) == (2, [0])


def test_the_answer_is_yes_for_one_identity_and_no_for_two():
    answers = [row["options"]["AB".index(row["answer"][0])] for row in rows_of()]
    assert answers == [YES, NO]


def test_an_undefined_margin_is_no_difficulty():
    assert [row["difficulty"] for row in rows_of()] == [0.5, None]


def test_rationales_are_there_only_where_the_source_knows_both_images():
    truth = {"set/0.jpg": ["red shirt", "bag"], "set/1.jpg": ["red shirt", "no bag"]}
    first, second = rows_of(truth=truth)
    assert first["rationale"] == "red shirt red shirt same; bag no bag differ; Yes"
    assert second["rationale"] is None


@pytest.mark.parametrize("count", [1, 2, 9, 400])
def test_each_letter_is_right_equally_often(count):
    verdicts = {f"id{i}": YES if i % 3 else NO for i in range(count)}
    first = first_options(verdicts, seed=1)
    letters = Counter(
        (verdict, "A" if first[name] == verdict else "B") for name, verdict in verdicts.items()
    )
    for verdict in (YES, NO):
        assert abs(letters[verdict, "A"] - letters[verdict, "B"]) <= 1
    assert abs(sum(count if key[1] == "A" else -count for key, count in letters.items())) <= 1


def test_the_order_of_options_is_drawn_by_the_seed_and_not_by_the_order_of_rows():
    verdicts = {f"id{i}": YES if i % 2 else NO for i in range(200)}
    turned = dict(reversed(verdicts.items()))
    assert first_options(verdicts, seed=1) == first_options(turned, seed=1)
    other = first_options(verdicts, seed=2)
    agreeing = sum(other[name] == first for name, first in first_options(verdicts, 1).items())
    assert 60 < agreeing < 140
