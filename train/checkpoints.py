"""The checkpoints of a run: which are whole, and how they are removed.

The state is written last and removed first, so where it is whole, all of a checkpoint is.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.runs import STATE, read_json

ENTROPY = "entropy_ctrl_state.json"  # TRL writes it behind the state, with use_adaptive_entropy


def checkpoints(folder: Path) -> dict[int, Path]:
    """Return the checkpoints in a folder by their step, in order, torn ones too."""
    found = ((path.name.rpartition("-")[2], path) for path in folder.glob("checkpoint-*"))
    return dict(sorted((int(step), path) for step, path in found if step.isdecimal()))


def steps_of(folder: Path) -> int | None:
    """Return the steps that the state in a folder tells; None without a whole state."""
    steps = (_read_whole(folder / STATE) or {}).get("global_step")
    return steps if isinstance(steps, int) else None


def is_whole(folder: Path, steps: int, *, adaptive: bool = False) -> bool:
    """True if the policy or the checkpoint in a folder was written after so many steps.

    With `adaptive` a checkpoint has the coefficient of the entropy, too.
    """
    written = not adaptive or _read_whole(folder / ENTROPY) is not None
    return written and steps_of(folder) == steps


def _read_whole(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except BadInput:  # torn
        return None


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint, which a kill meanwhile leaves as one that is not whole."""
    (checkpoint / STATE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def rotate(folder: Path, most: int | None, kept: Collection[str]) -> None:
    """Remove the oldest checkpoints beyond `most`, but none named in `kept`; None or 0 keeps all.

    One that can't be removed stays.
    """
    found = list(checkpoints(folder).values())
    spare = [checkpoint for checkpoint in found if checkpoint.name not in kept]
    for checkpoint in spare[: max(0, len(found) - most)] if most else ():
        with suppress(OSError):
            remove(checkpoint)
