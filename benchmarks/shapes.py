"""A policy with the shapes of Qwen2.5-VL-7B and random weights: nothing is downloaded.

It has the tokenizer of the embedded policy, so its completions are noise of the wanted length.
"""

from __future__ import annotations

from typing import Any

NAME = "7b"

TEXT = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128_000,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e6,
        "mrope_section": [16, 24, 24],
    },
}
VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "out_hidden_size": 3584,
    "patch_size": 14,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
}
# Special tokens of media, and how their names end.
MARKS = {"image": "_pad", "video": "_pad", "vision_start": "", "vision_end": ""}


def policy(layers: int | None = None, dtype: str = "bfloat16") -> tuple[Any, Any]:
    """Return the policy and its processor, on the GPU if there is one.

    `layers` makes it shallower.
    """
    import torch

    from nontrivial.models.policy import load_processor, locate
    from nontrivial.models.positions import start_text_behind_clips

    processor = load_processor(locate("embedded"))
    for of_media in (processor.image_processor, processor.video_processor):
        of_media.patch_size = VISION["patch_size"]
    tokens = processor.tokenizer
    text = TEXT | {"num_hidden_layers": layers or TEXT["num_hidden_layers"]}
    text |= {"eos_token_id": tokens.eos_token_id, "pad_token_id": tokens.pad_token_id}
    names = {
        f"{name}_token_id": tokens.convert_tokens_to_ids(f"<|{name}{pad}|>")
        for name, pad in MARKS.items()
    }

    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=VISION, tie_word_embeddings=False, **names
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            model = Qwen2_5_VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    model.generation_config.eos_token_id = tokens.eos_token_id
    model.generation_config.pad_token_id = tokens.pad_token_id
    start_text_behind_clips(model.base_model)
    return model, processor
