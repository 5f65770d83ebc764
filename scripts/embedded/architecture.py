"""Build a very small Qwen2.5-VL: tokenizer, network and processor."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    trainers,
)
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from nontrivial.manifests.prompts import STYLES, TASKS
from nontrivial.models.positions import start_text_behind_clips

PATCH, MERGE = 16, 2
HIDDEN, LAYERS, HEADS = 128, 4, 4
VISION_HIDDEN, VISION_DEPTH = 96, 2
INIT_STD = 0.06

SPECIAL = {
    "pad": "<|endoftext|>",
    "start": "<|im_start|>",
    "end": "<|im_end|>",
    "vision_start": "<|vision_start|>",
    "vision_end": "<|vision_end|>",
    "image": "<|image_pad|>",
    "video": "<|video_pad|>",
}
TAGS = ("<think>", "</think>", "<answer>", "</answer>")

# A colour or shape is one token with its noun: " red shirt", " blue cube". The end of a line is one
# token with the verdict before it, so that the letter of an option, which starts the next line, is
# the same token in the question and in the reasons.
PHRASES = Regex(
    r" so\b| ?[a-z]+ (?:shirt|trousers|hair|sphere|cube|cylinder)\b| ?no bag\b"
    r"| ?(?:same|differ|yes|no);\n?| ?\w+| ?[^\w\s]|\s+"
)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}<|im_start|>{{ message['role'] }}\n"
    "{%- if message['content'] is string -%}{{ message['content'] }}{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif part['type'] == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>"
    "{%- else -%}{{ part['text'] }}{%- endif -%}{%- endfor -%}{%- endif -%}<|im_end|>\n"
    "{%- endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
)


def build_tokenizer(corpus: Iterable[str], vocabulary: int = 1024) -> PreTrainedTokenizerFast:
    """Train byte-level BPE over phrases; each fixed instruction and each tag is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(PHRASES, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    special = [AddedToken(text, special=True, normalized=False) for text in SPECIAL.values()]
    tokenizer.add_special_tokens(special)
    plain = (*TAGS, *(style + ending for style in STYLES.values() for ending in TASKS.values()))
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in plain])
    return _fast_tokenizer(tokenizer)


def build(corpus: Iterable[str], seed: int, kept: Path) -> tuple[Any, Qwen2_5_VLProcessor]:
    """Return a freshly initialised policy and its processor.

    The tokenizer is saved in the folder `kept` and read from there if it exists, because the
    weights of finished stages fit no other.
    """
    import torch

    torch.manual_seed(seed)
    file = kept / "tokenizer.json"
    if not file.is_file():
        kept.mkdir(parents=True, exist_ok=True)
        build_tokenizer(corpus).backend_tokenizer.save(str(file))
    tokenizer = _fast_tokenizer(Tokenizer.from_file(str(file)))
    model = Qwen2_5_VLForConditionalGeneration(_config(tokenizer))
    start_text_behind_clips(model.model)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model, _processor(tokenizer)


def _fast_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=SPECIAL["end"],
        pad_token=SPECIAL["pad"],
        padding_side="left",
        model_max_length=4096,
    )


def _config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    head = HIDDEN // HEADS
    share = 3 * (head // 2) // 8
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "intermediate_size": 3 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": 4096,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": INIT_STD,
        "tie_word_embeddings": False,
        "rope_parameters": {
            "rope_type": "default",
            "mrope_section": [head // 2 - 2 * share, share, share],
            "rope_theta": 1e4,
        },
    }
    vision = {
        "depth": VISION_DEPTH,
        "hidden_size": VISION_HIDDEN,
        "intermediate_size": 3 * VISION_HIDDEN,
        "num_heads": 4,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "window_size": PATCH * MERGE * 16,
        "out_hidden_size": HIDDEN,
        "fullatt_block_indexes": list(range(VISION_DEPTH)),
        "tokens_per_second": 2,
        "initializer_range": INIT_STD,
    }
    token = tokenizer.convert_tokens_to_ids
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token(SPECIAL["image"]),
        video_token_id=token(SPECIAL["video"]),
        vision_start_token_id=token(SPECIAL["vision_start"]),
        vision_end_token_id=token(SPECIAL["vision_end"]),
        tie_word_embeddings=False,
        initializer_range=INIT_STD,
    )


def _processor(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLProcessor:
    cell = (PATCH * MERGE) ** 2
    image = Qwen2VLImageProcessor(
        size={"shortest_edge": 4 * cell, "longest_edge": 32 * cell}, patch_size=PATCH
    )
    video = Qwen2VLVideoProcessor(
        size={"shortest_edge": 4 * cell, "longest_edge": 32 * cell * 8},
        patch_size=PATCH,
        do_sample_frames=False,
        cap_pixels_per_frame=False,
    )
    return Qwen2_5_VLProcessor(
        image_processor=image,
        tokenizer=tokenizer,
        video_processor=video,
        chat_template=CHAT_TEMPLATE,
    )
