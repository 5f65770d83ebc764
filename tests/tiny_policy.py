"""A Qwen2.5-VL with random weights, made from nothing in a second, to test what surrounds a model.

Text is split into bytes, the four tags of an answer are single tokens, images cost 4 to 16 tokens.
Without whole tags, they are split as Qwen's tokenizer splits them: `<`, `answer`, `>A`.
"""

from __future__ import annotations

from string import ascii_uppercase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
    )

END, PAD, TURN = "<|im_end|>", "<|endoftext|>", "<|im_start|>"
VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
CHAT_TEMPLATE = """
{%- for turn in messages -%}
<|im_start|>{{ turn.role }}{{ '\n' }}
{%- if turn.content is string -%}{{ turn.content }}
{%- else -%}{%- for part in turn.content -%}
{%- if part.type == 'text' -%}{{ part.text }}
{%- else -%}<|vision_start|><|{{ part.type }}_pad|><|vision_end|>{%- endif -%}
{%- endfor -%}{%- endif -%}<|im_end|>{{ '\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant{{ '\n' }}{%- endif -%}
"""


def build(
    *,
    hidden: int = 32,
    layers: int = 2,
    seed: int = 0,
    whole_tags: bool = True,
    processor: Qwen2_5_VLProcessor | None = None,
) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """A float32 model of `layers` text layers of width `hidden`, and its processor or the given."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    processor = processor or _processor(tokenizer(whole_tags))
    text_tokenizer = processor.tokenizer
    text = {
        "vocab_size": len(text_tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "mrope_section": _mrope_section(hidden // 8),
        },
        "bos_token_id": None,
        "eos_token_id": text_tokenizer.eos_token_id,
        "pad_token_id": text_tokenizer.pad_token_id,
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": hidden,
        "window_size": 56,
        "fullatt_block_indexes": [1],
        "tokens_per_second": 2,
    }
    names = ("vision_start", "vision_end", "image", "video")
    ids = {
        f"{name}_token_id": text_tokenizer.convert_tokens_to_ids(token)
        for name, token in zip(names, VISION, strict=True)
    }
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=False, **ids
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = text_tokenizer.eos_token_id
    model.generation_config.pad_token_id = text_tokenizer.pad_token_id
    return model, processor


def tokenizer(whole_tags: bool = True) -> PreTrainedTokenizerFast:
    """One token a byte, and the special tokens and tags whole; padded on the left.

    Without whole tags, `think`, `answer` and every letter behind a `>` are tokens.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [] if whole_tags else _merges()
    tokens += dict.fromkeys("".join(pair) for pair in merges)
    bytewise = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    bytewise.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|[^\p{L}\p{N}]+"), "isolated"
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bytewise.decoder = decoders.ByteLevel()
    bytewise.add_special_tokens([AddedToken(token) for token in (PAD, TURN, END, *VISION)])
    if whole_tags:
        bytewise.add_tokens([AddedToken(tag) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=bytewise,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=4096,
    )


def _merges() -> list[tuple[str, str]]:
    """The pairs of tokens to join for the words of the tags, and for letters behind a `>`."""
    words = [(word[:end], word[end]) for word in ("think", "answer") for end in range(1, len(word))]
    return [*words, *((">", letter) for letter in ascii_uppercase)]


def _processor(text_tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLProcessor:
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    size = {"shortest_edge": 4 * 28 * 28, "longest_edge": 16 * 28 * 28}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=dict(size)),
        video_processor=Qwen2VLVideoProcessor(size=dict(size), cap_pixels_per_frame=True),
        tokenizer=text_tokenizer,
        chat_template=CHAT_TEMPLATE,
    )


def _mrope_section(half: int) -> list[int]:
    """Time, height and width shares of the rotary frequencies; they add up to half a head."""
    third = half // 3
    return [half - 2 * third, third, third]
