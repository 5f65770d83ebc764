"""Make `import torchvision` work beside a CPU build of torch.

PyPI's torchvision links CUDA. Beside a CPU torch its extension cannot load, the operators it would
register are missing, and its import fails. Nothing here calls those operators, so declaring their
schemas is enough. `import nontrivial` installs a finder that does so when torchvision is first
looked for, and does nothing where the extension loads.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library = None  # the declarations live as long as this reference


class _Finder(MetaPathFinder):
    """Finds nothing; steps aside once torchvision has been looked for."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        if fullname == "torchvision" and self in sys.meta_path:
            sys.meta_path.remove(self)
            declare_operators()


def install() -> None:
    """Declare torchvision's operators as soon as somebody looks for torchvision."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _Finder) for f in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def declare_operators() -> bool:
    """Declare the operators where the extension cannot load; True if that was needed."""
    global _library
    if _library is not None or _extension_loads():
        return False
    import torch

    _library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
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
