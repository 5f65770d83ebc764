"""Video-R1: a JSON list of multiple-choice problems about one video or image each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nontrivial.manifests.answers import LETTERS, format_answer
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.exports import KINDS, Row, ours, samples_of
from nontrivial.manifests.files import write_text

if TYPE_CHECKING:
    import pyarrow as pa

ADAPTER = '''
def soft_reward(completions, solution, **kwargs):
    """Score conversations, as Video-R1's trainer hands them over; put it into `reward_funcs`."""
    texts = [turns[0]["content"] for turns in completions]
    return [
        soft_score(read_answer(text), read_answer(right)) for text, right in zip(texts, solution)
    ]
'''
README = """# For Video-R1

Give `{out}/{data}` as `--dataset_name` to `src/open_r1/grpo.py`, and add `soft_reward` of
`reward.py` to its `reward_funcs_registry`: the built-in one compares answers as strings, so "C,A"
is not "A,C".
"""


def lacks(row: Row) -> str | None:
    """Return why a row has no place: it shows nothing, or more than one image or video."""
    return None if len(row.images) + len(row.videos) == 1 else "other than one image or video"


def write(rows: Sequence[Row], folder: Path, name: str) -> list[Path]:
    """Write a list of problems; our columns are under `nontrivial`."""
    file = folder / f"{name}.json"
    problems = [
        {
            "problem_id": number,
            "problem": row.columns["question"],
            "data_type": "video" if row.videos else "image",
            "problem_type": "multiple choice",
            "options": [
                f"{letter}. {text}"
                for letter, text in zip(LETTERS, row.columns["options"], strict=False)
            ],
            "solution": format_answer(row.columns["answer"]),
            "path": [*row.videos, *row.images][0],
            "data_source": row.columns["source"],
            "nontrivial": json.dumps(row.columns, ensure_ascii=False),
        }
        for number, row in enumerate(rows)
    ]
    write_text(file, json.dumps(problems, ensure_ascii=False, indent=1))
    return [file]


def read(file: Path) -> pa.Table:
    """Return the samples of a file that `write` wrote."""
    try:
        problems = json.loads(file.read_text(encoding="utf-8"))
        media = [
            {kind: [p["path"]] if f"{p['data_type']}s" == kind else [] for kind in KINDS}
            for p in problems
        ]
        records = [ours(problem.get("nontrivial")) for problem in problems]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{file}: is no list of Video-R1's problems ({error!r})") from error
    return samples_of(records, media)
