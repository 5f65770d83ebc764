"""TRL: Parquet with chat prompts and an `images` column; reward functions as TRL calls them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nontrivial.manifests.exports import Row
from nontrivial.manifests.files import atomic_path

ADAPTER = '''
def soft_accuracy(completions, answer, options, **kwargs):
    """Return |S| / |T| where the letters S are a non-empty subset of the right T, else 0."""
    texts = [turns if isinstance(turns, str) else turns[-1]["content"] for turns in completions]
    return [
        soft_score(read_answer(text, choices), right)
        for text, right, choices in zip(texts, answer, options)
    ]


def formatted(completions, options, **kwargs):
    """Return 1 for one think block, then one answer block with legible letters, else 0."""
    texts = [turns if isinstance(turns, str) else turns[-1]["content"] for turns in completions]
    return [
        float(is_formatted(text) and bool(read_answer(text, choices)))
        for text, choices in zip(texts, options)
    ]
'''
README = """# For TRL's own trainer

    from datasets import Image, List, load_dataset
    from trl import GRPOTrainer
    from reward import formatted, soft_accuracy

    data = load_dataset("parquet", data_files="{out}/{data}", split="train")
    data = data.cast_column("images", List(Image()))
    rewards = [soft_accuracy, formatted]
    GRPOTrainer("Qwen/Qwen2.5-VL-7B-Instruct", rewards, train_dataset=data).train()

TRL's trainer takes no videos; `nontrivial.TokenWeightedGRPOTrainer` does.
"""


def lacks(row: Row) -> str | None:
    """Return why a row has no place: it shows a video."""
    return "a video, which TRL's trainer does not take" if row.videos else None


def write(rows: Sequence[Row], folder: Path, name: str) -> list[Path]:
    """Write a table of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = folder / f"{name}.parquet"
    table = pa.Table.from_pylist(
        [
            {
                "prompt": [{"role": "user", "content": row.text}],
                "images": row.images,
                "answer": row.columns["answer"],
                "options": row.columns["options"],
                "id": row.columns["id"],
            }
            for row in rows
        ]
    )
    with atomic_path(file) as whole:
        pq.write_table(table, whole, compression="zstd")
    return [file]
