"""A CLIP with random weights, small enough to test with."""

from __future__ import annotations

import json
from pathlib import Path

NAME = "tiny"


def write(folder: Path) -> Path:
    """Write its weights under `folder`, make it known to open_clip as `tiny`, return the file."""
    import open_clip
    from safetensors.torch import save_file

    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 8, "width": 16, "heads": 1, "layers": 1}
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    (folder / f"{NAME}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{NAME}.json")
    save_file(open_clip.create_model(NAME).state_dict(), folder / f"{NAME}.safetensors")
    return folder / f"{NAME}.safetensors"
