"""Pairs become questions whose letters tell nothing."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest

from nontrivial.builders.reid.pairs import HARD_NEGATIVE, HARD_POSITIVE
from nontrivial.builders.reid.questions import Wording, choice_samples, first_options, pair_samples
from nontrivial.manifests.answers import NONE
from nontrivial.manifests.prompts import NO, YES
from nontrivial.manifests.schema import samples_table, validate


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
        (0, 1, 0.25, 0.5, HARD_POSITIVE, None, 4),
        (2, 3, 0.75, None, HARD_NEGATIVE, None, 1),
    ],
    schema=["anchor", "candidate", "similarity", "difficulty", "kind", "twin", "rank"],
    orient="row",
    schema_overrides={"twin": pl.Int64},
)


def wording(kind: str = "hard", seed: int = 0, truth: dict | None = None) -> Wording:
    return Wording(kind, encoder="e", seed=seed, truth=truth or {})


def rows_of(pairs: pl.DataFrame = PAIRS, both_orders: bool = False, **words) -> list[dict]:
    return list(pair_samples(pairs, frame(), wording(**words), both_orders=both_orders))


def test_a_pair_becomes_a_row_of_the_contract():
    rows = rows_of()
    validate(samples_table(rows))
    assert [row["id"] for row in rows] == [
        "set/train/hard/image0~image1",
        "set/train/hard/image2~image3",
    ]
    assert [row["group"] for row in rows] == ["set/train/0", "set/train/0"]
    assert rows[1]["images"] == [{"bytes": None, "path": f"set/{i}.jpg"} for i in (2, 3)]
    reid = rows[1]["reid"]
    assert (reid["kind"], reid["similarity"], reid["rank"]) == (HARD_NEGATIVE, [0.75], [1])
    assert (reid["query_pid"], reid["candidate_pids"]) == ("set/train/0", ["set/train/1"])
    assert (reid["query_camid"], reid["candidate_camids"]) == (2, [0])


def test_the_answer_is_yes_for_one_identity_and_no_for_two():
    answers = [row["options"]["AB".index(row["answer"][0])] for row in rows_of()]
    assert answers == [YES, NO]


def test_a_difficulty_may_be_unknown():
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


def test_the_same_pair_has_another_id_in_a_table_of_another_kind():
    hard, random = ({row["id"] for row in rows_of(kind=kind)} for kind in ("hard", "random"))
    assert not hard & random


def test_twins_name_each_other_and_a_single_pair_names_nobody():
    twins = PAIRS.with_columns(twin=pl.lit(7))
    first, second = rows_of(twins)
    assert first["reid"]["twin"] == second["id"]
    assert second["reid"]["twin"] == first["id"]
    assert rows_of()[1]["reid"]["twin"] is None


def test_the_other_order_asks_the_same_with_the_images_swapped():
    first, turned, *_ = rows_of(both_orders=True)
    assert len({row["id"] for row in rows_of(both_orders=True)}) == 4
    validate(samples_table(rows_of(both_orders=True)))
    assert turned["images"] == first["images"][::-1]
    for key in ("question", "options", "answer", "difficulty"):
        assert turned[key] == first[key]
    assert turned["reid"]["query_camid"] == first["reid"]["candidate_camids"][0] == 1


def sets_of(right: list[int], size: int = 3) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Sets of an anchor and `size` candidates, so many of them right, and their images."""
    rows = [
        (6 * n, 6 * n + c + 1, 0.5, 0.25, HARD_POSITIVE if c < count else HARD_NEGATIVE, None, 1)
        for n, count in enumerate(right)
        for c in range(size)
    ]
    return pl.DataFrame(rows, schema=PAIRS.columns, orient="row"), frame(6 * len(right))


def test_a_choice_asks_for_every_right_candidate_and_says_when_there_is_none():
    sets, images = sets_of([0, 1, 2])
    rows = list(choice_samples(sets, images, wording()))
    validate(samples_table(rows))
    for row, count in zip(rows, (0, 1, 2), strict=True):
        assert row["task"] == "reid_choice"
        assert len(row["images"]) == 4
        assert row["options"] == ["Candidate 1", "Candidate 2", "Candidate 3", NONE]
        kinds = dict(
            sets.filter(
                pl.col("anchor") == int(row["id"][len("set/train/hard/image") :].split("~")[0])
            )
            .select("candidate", "kind")
            .rows()
        )
        shown = [int(image["path"][4:-4]) for image in row["images"][1:]]
        right = [
            letter for letter, c in zip("ABC", shown, strict=True) if kinds[c] == HARD_POSITIVE
        ]
        assert row["answer"] == (right or ["D"])
        assert len(right) == count


def test_candidates_come_in_an_order_that_tells_nothing():
    sets, images = sets_of([1] * 300)
    rows = list(choice_samples(sets, images, wording()))
    letters = Counter(row["answer"][0] for row in rows)
    assert all(70 < letters[letter] < 130 for letter in "ABC")


def test_a_choice_is_reasoned_about_candidate_by_candidate():
    sets, images = sets_of([1], size=2)
    truth = {f"set/{i}.jpg": [word] for i, word in enumerate(["red", "red", "blue"])}
    (row,) = choice_samples(sets, images, wording(truth=truth))
    same, other = "red red same; Yes;", "red blue differ; No;"
    texts = (same, other) if row["answer"] == ["A"] else (other, same)
    assert row["rationale"] == f"A {texts[0]} B {texts[1]}"
