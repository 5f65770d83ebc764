"""The policy: a Qwen2-VL, Qwen2.5-VL or Qwen3-VL model and its processor.

`embedded`, the default, is a Qwen2.5-VL architecture of 1.6 million parameters with its own
tokenizer, pre-trained on drawn worlds (builders.synthetic) and shipped in `models/embedded/`. It
stands in for Qwen2.5-VL-7B-Instruct without weights and GPU; the card beside its weights tells how
it was made and what it scores.
"""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nontrivial.manifests import hub
from nontrivial.manifests.errors import BadInput, first_line
from nontrivial.manifests.runs import read_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, ProcessorMixin

EMBEDDED = "embedded"
EMBEDDED_DIR = Path(__file__).with_name("embedded")
# Names of config entries for special tokens; `vision` is Qwen's padding of media.
VISION = ("image", "video", "vision_start", "vision_end", "vision")
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
KEPT = ("bos_token_id", "eos_token_id", "pad_token_id")  # of a policy's settings of generation
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER = "adapter"  # the folder of an adapter in that of a trained policy
# The config entry of a policy trained from the embedded one, which keeps the embedded options.
ORIGIN = "trained_from"
SUPPORTED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")

logger = logging.getLogger(__name__)


def locate(name_or_path: str) -> str:
    """Return the folder or Hub name of a policy; log a WARNING about what `embedded` is."""
    if name_or_path != EMBEDDED:
        return name_or_path
    if not (EMBEDDED_DIR / "model.safetensors").is_file():
        raise BadInput(f"{EMBEDDED_DIR} holds no weights: make them with `make embedded`")
    logger.warning(
        "using the embedded policy (1.6 M parameters, drawn worlds), a stand-in; "
        "name real weights with --model_name_or_path Qwen/Qwen2.5-VL-7B-Instruct"
    )
    return str(EMBEDDED_DIR)


def load_processor(name_or_path: str = EMBEDDED) -> ProcessorMixin:
    """Load the processor of a policy, with prompts padded on the left, as generation needs.

    Where a processor leaves it open, the frames of a long clip share a budget of pixels, as in
    Qwen's own code (qwen-vl-utils).
    """
    from transformers import AutoProcessor

    source, adapters = lineage(name_or_path)
    for adapter in adapters:  # the last one that holds a processor
        if any((adapter / name).is_file() for name in PROCESSOR_FILES):
            source = str(adapter)
    processor = _from_pretrained(AutoProcessor, source)
    processor.tokenizer.padding_side = "left"
    if getattr(processor.video_processor, "cap_pixels_per_frame", False) is None:
        processor.video_processor.cap_pixels_per_frame = True
    return processor


def load_policy(
    name_or_path: str = EMBEDDED,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device | None = None,
    **kwargs: Any,
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Load a policy and its processor, by Hub name, local folder or `embedded`.

    The folder of an adapter is a policy too: the adapter is merged into its base. Settings of
    generation become neutral, so that what is trained, scored and saved is the distribution of the
    logits: Qwen2.5-VL's own have a repetition penalty. Prompts are numbered as the weights were
    trained (models.positions). Raises `BadInput` for a model of another family, and for a folder
    without weights.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig

    from nontrivial.models.positions import start_text_behind_clips

    base, adapters = lineage(name_or_path)
    kind = _from_pretrained(AutoConfig, base).model_type
    if kind not in SUPPORTED:
        raise BadInput(f"{name_or_path} is a {kind} model; supported are {', '.join(SUPPORTED)}")
    model = _from_pretrained(AutoModelForImageTextToText, base, dtype=dtype, **kwargs)
    for adapter in adapters:
        model = _with_adapter(model, adapter)
    # Saving reverts the renamings of weights that loading applied. Under ZeRO-3 transformers would
    # revert all renamings that it knows, and write names that only it can read.
    if renamings := getattr(model, "_weight_conversions", None):
        model._weight_conversions = [item for item in renamings if item.was_used()]
    special = {name: getattr(model.generation_config, name) for name in KEPT}
    model.generation_config = GenerationConfig(**special)
    start_text_behind_clips(model.base_model)
    if device is not None:
        model.to(device)
    return model, load_processor(name_or_path)


def empty_policy(name_or_path: str, dtype: str) -> PreTrainedModel:
    """Return a policy on the meta device: shapes without weights, which need not be there."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from nontrivial.models.positions import start_text_behind_clips

    config = _from_pretrained(AutoConfig, lineage(name_or_path)[0])
    if config.model_type not in SUPPORTED:
        raise BadInput(f"{name_or_path} is a {config.model_type} model; not supported")
    kind = config.dtype if dtype == "auto" else getattr(torch, dtype)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=kind)
    start_text_behind_clips(model.base_model)
    return model


def weight_files(name_or_path: str) -> list[tuple[str, int, int]]:
    """Return name, size and time of local weight files: further training changes them."""
    folder = EMBEDDED_DIR if name_or_path == EMBEDDED else Path(name_or_path)
    folder = adapter_in(name_or_path) or folder
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def freeze_vision(model: PreTrainedModel) -> None:
    """Stop training of the vision tower; a tower with adapters is left as it is."""
    if not hasattr(model, "peft_config"):
        model.base_model.visual.requires_grad_(False)


def vision_token_ids(model: PreTrainedModel) -> list[int]:
    """Return the tokens a policy must never emit: those that stand for media or surround them."""
    config, size = model.config, model.config.get_text_config().vocab_size
    tokens = (getattr(config, f"{name}_token_id", None) for name in VISION)
    # A config without an entry has the id of another vocabulary as its default.
    return [token for token in tokens if token is not None and token < size]


def adapter_in(name_or_path: str) -> Path | None:
    """Return the folder of an adapter that is not merged: the folder named, or `adapter` in it."""
    folder = Path(name_or_path)
    if (folder / "config.json").is_file():
        return None
    adapters = (each for each in (folder, folder / ADAPTER) if (each / ADAPTER_CONFIG).is_file())
    return next(adapters, None)


def lineage(name_or_path: str) -> tuple[str, list[Path]]:
    """Return the policy below all adapters, and the adapters on it, in the order of training.

    Raises `BadInput` for an adapter that names no base, or itself.
    """
    adapters: list[Path] = []
    while adapter := adapter_in(name_or_path):
        config = read_json(adapter / ADAPTER_CONFIG) or {}
        base = config.get("base_model_name_or_path")
        if not isinstance(base, str) or adapter in adapters:
            raise BadInput(f"{adapter / ADAPTER_CONFIG} names no base_model_name_or_path")
        adapters.insert(0, adapter)
        name_or_path = base
    return name_or_path, adapters


def _with_adapter(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """Merge an adapter into its base, which keeps the adapter's folder as its name."""
    from peft import PeftModel

    try:
        merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as error:
        raise BadInput(f"{adapter}: does not fit its base ({first_line(error)})") from error
    merged.config._name_or_path = str(adapter)
    return merged.requires_grad_(True)  # the adapter had frozen its base


def _from_pretrained(factory: Any, name_or_path: str, **kwargs: Any) -> Any:
    path = str(EMBEDDED_DIR) if name_or_path == EMBEDDED else name_or_path
    hub.prepare(path)
    try:
        return factory.from_pretrained(path, **kwargs)
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"--model_name_or_path {name_or_path}: its weights cannot be read as tensors only; "
            "give them as safetensors"
        ) from error
    except (OSError, ValueError) as error:
        raise BadInput(
            f"--model_name_or_path {name_or_path}: cannot be loaded ({first_line(error)}); "
            "give a folder made by save_pretrained, or a Hub name that is cached or reachable"
        ) from error
