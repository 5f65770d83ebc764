"""verl: Parquet with chat prompts; `compute_score` as a custom reward function."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nontrivial.manifests.answers import format_answer
from nontrivial.manifests.exports import Row
from nontrivial.manifests.files import atomic_path

ADAPTER = '''
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """Return the soft reward of a completion, and the exact one beside it."""
    choices = list((extra_info or {}).get("options", ()))
    chosen, right = read_answer(solution_str, choices), read_answer(ground_truth, choices)
    return {
        "score": soft_score(chosen, right),
        "acc": exact_score(chosen, right),
        "format": float(is_formatted(solution_str)),
    }
'''
README = """# For verl

    python -m verl.trainer.main_ppo algorithm.adv_estimator=grpo \\
        data.train_files={out}/{data} data.val_files={out}/{data} \\
        data.image_key=images data.video_key=videos data.return_multi_modal_inputs=True \\
        custom_reward_function.path={out}/reward.py custom_reward_function.name=compute_score \\
        actor_rollout_ref.model.path=Qwen/Qwen2.5-VL-7B-Instruct actor_rollout_ref.rollout.n=8

The columns are those of verl's documentation: `data_source`, `prompt`, `images`, `videos`,
`ability`, `reward_model`, `extra_info`.
"""


def lacks(row: Row) -> str | None:
    """Return None: every row has a place."""
    return None


def write(rows: Sequence[Row], folder: Path, name: str) -> list[Path]:
    """Write a table of rows; rows without images, or videos, have empty lists."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = folder / f"{name}.parquet"
    table = pa.Table.from_pylist(
        [
            {
                "data_source": row.columns["source"],
                "prompt": [{"role": "user", "content": row.marked()}],
                "images": [{"image": path} for path in row.images],
                "videos": [{"video": path} for path in row.videos],
                "ability": row.columns["task"],
                "reward_model": {
                    "style": "rule",
                    "ground_truth": format_answer(row.columns["answer"]),
                },
                "extra_info": {
                    "index": number,
                    "id": row.columns["id"],
                    "split": row.columns["split"],
                    "options": row.columns["options"],
                },
            }
            for number, row in enumerate(rows)
        ],
        schema=pa.schema(
            [
                ("data_source", pa.string()),
                ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
                ("images", pa.list_(pa.struct([("image", pa.string())]))),
                ("videos", pa.list_(pa.struct([("video", pa.string())]))),
                ("ability", pa.string()),
                (
                    "reward_model",
                    pa.struct([("style", pa.string()), ("ground_truth", pa.string())]),
                ),
                (
                    "extra_info",
                    pa.struct(
                        [
                            ("index", pa.int64()),
                            ("id", pa.string()),
                            ("split", pa.string()),
                            ("options", pa.list_(pa.string())),
                        ]
                    ),
                ),
            ]
        ),
    )
    with atomic_path(file) as whole:
        pq.write_table(table, whole, compression="zstd")
    return [file]
