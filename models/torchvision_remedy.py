"""Make `import torchvision` work beside a CPU build of torch.

PyPI's torchvision links CUDA. Beside a CPU torch its extension cannot load, the operators it would
register are missing, and its import fails. Nothing here calls those operators, so declaring their
schemas is enough. Where the extension loads, `apply` does nothing.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library = None  # the declarations live as long as this reference


def apply() -> bool:
    """Declare torchvision's operators where its extension cannot load; True if that was needed."""
    global _library
    if _library is not None or _extension_loads():
        return False
    import torch

    _library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        _library.define(schema)
    return True


def _extension_loads() -> bool:
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    for name in ("_C.so", "_C_stable.so"):
        extension = Path(spec.origin).with_name(name)
        if extension.exists():
            try:
                torch.ops.load_library(str(extension))
            except (OSError, ImportError):
                return False
            return True
    return True
