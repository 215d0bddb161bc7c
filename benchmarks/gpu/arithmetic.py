"""Floating-point operations of networks, from their sizes alone.

A product of (m, k) and (k, n) is 2 m k n. Counted are the linear layers, 2 x weights x tokens; the convolutions in the same way; and
attention, 4 x tokens x tokens seen x width, half of that where it is causal. Norms, activations, softmax and tables of positions are not:
they are bytes rather than operations.
"""

from collections.abc import Mapping
from typing import Any

Sizes = Mapping[str, Any]


def qwen_vision(vision: Sizes, grid: tuple[int, int, int]) -> float:
    """Of the vision tower on one video of (t, h, w) patches, which see those of their own t."""
    t, h, w = grid
    d, inner, patch = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"] ** 2
    embed = vision["in_channels"] * vision["temporal_patch_size"] * patch * d
    layer = 4 * d * d + 2 * d * inner + 2 * h * w * d  # attention's two products with every patch of the same t
    merged = d * vision["spatial_merge_size"] ** 2
    merger = merged * merged + merged * vision["out_hidden_size"]
    mergers = 1 + len(vision["deepstack_visual_indexes"])
    tokens = t * h * w / vision["spatial_merge_size"] ** 2
    return 2 * (t * h * w * (embed + vision["depth"] * layer) + tokens * mergers * merger)


def qwen_language(text: Sizes, length: int) -> float:
    """Of the language model on one sequence, without the words at its end: hidden states are what is wanted."""
    d, head = text["hidden_size"], text["head_dim"]
    queries, keys = head * text["num_attention_heads"], head * text["num_key_value_heads"]
    layer = 2 * d * queries + 2 * d * keys + 3 * d * text["intermediate_size"] + length * queries  # causal: half of 2 * length * queries
    return 2 * length * text["num_hidden_layers"] * layer


def wavlm(sizes: Sizes, samples: int) -> float:
    """Of a WavLM on one waveform."""
    total, channels = 0, 1
    for width, kernel, stride in zip(sizes["conv_dim"], sizes["conv_kernel"], sizes["conv_stride"], strict=True):
        samples = (samples - kernel) // stride + 1
        total, channels = total + samples * channels * kernel * width, width
    d = sizes["hidden_size"]
    positions = d * d // sizes["num_conv_pos_embedding_groups"] * sizes["num_conv_pos_embeddings"]
    layer = 4 * d * d + 2 * d * sizes["intermediate_size"] + 2 * samples * d
    return 2 * (total + samples * (channels * d + positions + sizes["num_hidden_layers"] * layer))
