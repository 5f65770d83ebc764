"""Make `import torchvision` work beside a CPU build of torch.

PyPI's torchvision links CUDA. Beside a CPU torch its extension cannot load, its operators are not
registered, and its import fails. This project never calls those operators, so declaring their
schemas is enough. `import nontrivial` installs a finder that does so when torchvision is first
imported; it does nothing if the extension loads.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library = None  # keeps the declarations alive


class _Finder(MetaPathFinder):
    """A finder that finds nothing, and removes itself at the first import of torchvision."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "torchvision" and self in sys.meta_path:
            sys.meta_path.remove(self)
            declare_operators()


def install() -> None:
    """Declare torchvision's operators at the first import of torchvision."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _Finder) for f in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def declare_operators() -> None:
    """Declare the operators if the extension cannot load."""
    global _library
    if _library is not None or _extension_loads():
        return
    import torch

    _library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        _library.define(schema)


def _extension_loads() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    import torch

    files = (Path(spec.origin).with_name(name) for name in ("_C.so", "_C_stable.so"))
    extension = next((file for file in files if file.exists()), None)
    try:
        if extension:
            torch.ops.load_library(str(extension))
    except (OSError, ImportError):
        return False
    return True
