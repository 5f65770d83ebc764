"""Write a trained policy: whole, so that `from_pretrained` loads it, and an adapter also by itself.

    OUTPUT_DIR/           the policy, with an adapter merged into its weights
    OUTPUT_DIR/adapter/   the adapter, if one was trained

Where weights are sharded or quantised, the first process reads the base again to merge an adapter.
Without memory for that only the adapter is written; commands that take a policy take it too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nontrivial.models.policy import ADAPTER, ORIGIN, load_policy
from nontrivial.train.processes import part_ways

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nontrivial.train.resume import StrictResume

# Memory to merge an adapter, as a multiple of the weights: they are written in pieces.
HEADROOM = 1.3
LEFT = ".tmp??????"  # names of files that safetensors is writing, which a kill leaves
MERGED = ("config.json", "model*.safetensors*")  # what makes a folder a policy without its adapter
CARD = "README.md"

logger = logging.getLogger(__name__)


def save(trainer: StrictResume, output_dir: str) -> None:
    """Write the policy; all processes call it, and part before the first one merges an adapter."""
    from accelerate.utils import is_peft_model

    if trainer.is_fsdp_enabled:  # with sharded state, transformers would write nothing
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    model = trainer.accelerator.unwrap_model(trainer.model)
    first = trainer.is_world_process_zero()
    if first:
        _remove(Path(output_dir), LEFT)
    if not is_peft_model(model):
        trainer.save_model(output_dir)
        return
    adapter = Path(output_dir, ADAPTER)
    if first:
        _remove(adapter, LEFT)
        (adapter / CARD).unlink(missing_ok=True)  # PEFT would go on with a torn one
        for older in MERGED:
            _remove(Path(output_dir), older)
    trainer.save_model(str(adapter))
    sharded = trainer.sharded
    part_ways()
    if not first:
        return
    if sharded or getattr(model, "is_quantized", False):
        merged = _merged_again(model, adapter)
    else:
        merged = model.merge_and_unload()
    if merged is not None:
        merged.save_pretrained(output_dir)
        trainer.processing_class.save_pretrained(output_dir)


def _remove(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.unlink(missing_ok=True)


def _merged_again(model: PreTrainedModel, adapter: Path) -> PreTrainedModel | None:
    """Return the base with its adapter, read from disk; log a WARNING if memory is too small."""
    import psutil

    _, weights = model.get_nb_trainable_parameters()
    needed = HEADROOM * weights * model.dtype.itemsize
    free = psutil.virtual_memory().available
    if needed > free:
        logger.warning(
            "the adapter is not merged: that takes %.0f GB of memory, %.0f GB are free; %s is a "
            "policy for all commands, and `load_policy` merges it",
            needed / 1e9,
            free / 1e9,
            adapter,
        )
        return None
    with _unshared():
        merged, _ = load_policy(str(adapter), dtype=model.dtype)
    if origin := getattr(model.config, ORIGIN, None):
        setattr(merged.config, ORIGIN, origin)
    return merged


@contextmanager
def _unshared() -> Iterator[None]:
    """Load whole weights in one process; under ZeRO-3 transformers would share them out."""
    from transformers.integrations import deepspeed

    config = deepspeed.deepspeed_config() and deepspeed._hf_deepspeed_config_weak_ref()
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if config is not None:
            deepspeed.set_hf_deepspeed_config(config)
