"""Qwen3-VL-4B-Instruct at its published widths: parameters of the whole, and a network of fewer layers run forward and backward.

The configuration is that of the checkpoint's config.json, as public code quotes it whole; fine-tuned versions on the hub have the same
sizes, and its parameters are the 4.44 billion that are said of the model. The defaults of transformers are another model's. The tiny
checkpoint lends its processor: patches, merging and tokens of a video are the same, the vocabulary alone is not, and so the table of words
is cut down to it.
"""

import numpy as np
import pytest
import torch

from affpipe.encoders.qwen3vl.network import EMBEDDINGS, Qwen3VL, pool
from affpipe.encoders.tiny_weights import make_tiny
from benchmarks.gpu.qwen import TEXT, VISION

from transformers import AutoProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration  # isort: skip  # after affpipe.compat

LAYERS = {"text": 2, "vision": 2, "deepstack": [0, 1]}


def _linear(inputs: int, outputs: int, *, bias: bool) -> int:
    return inputs * outputs + bias * outputs


def _by_hand(text: dict, vision: dict) -> int:
    """Parameters, layer by layer, from the sizes alone."""
    d, wide, head = text["hidden_size"], text["intermediate_size"], text["head_dim"]
    queries, keys = head * text["num_attention_heads"], head * text["num_key_value_heads"]
    attention = 2 * d * queries + 2 * d * keys + 2 * head  # in and out, keys and values, a norm of each query and key
    text_layer = attention + 3 * d * wide + 2 * d
    v, inner = vision["hidden_size"], vision["intermediate_size"]
    vision_layer = 4 * _linear(v, v, bias=True) + _linear(v, inner, bias=True) + _linear(inner, v, bias=True) + 2 * 2 * v
    merged = v * vision["spatial_merge_size"] ** 2
    merger = _linear(merged, merged, bias=True) + _linear(merged, vision["out_hidden_size"], bias=True)
    patch = vision["in_channels"] * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    tower = _linear(patch, v, bias=True) + vision["num_position_embeddings"] * v + vision["depth"] * vision_layer + merger + 2 * v
    deepstack = len(vision["deepstack_visual_indexes"]) * (merger + 2 * merged)  # these norm after merging
    return text["vocab_size"] * d + text["num_hidden_layers"] * text_layer + d + tower + deepstack


def _count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())  # tied ones once


def test_the_whole_model_has_its_published_size() -> None:
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=TEXT, vision_config=VISION, tie_word_embeddings=True))
    assert _count(model) == _by_hand(TEXT, VISION) == 4_437_815_808
    assert _count(model.model.visual) == 415_347_712


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Qwen3VL:
    make_tiny(out := tmp_path_factory.mktemp("weights"))
    processor = AutoProcessor.from_pretrained(out / "qwen3vl-tiny")
    tokens = {f"{name}_token_id": getattr(processor, f"{name}_token_id") for name in ("image", "video", "vision_start", "vision_end")}
    text = TEXT | {"num_hidden_layers": LAYERS["text"], "vocab_size": len(processor.tokenizer)}
    vision = VISION | {"depth": LAYERS["vision"], "deepstack_visual_indexes": LAYERS["deepstack"]}
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **tokens))
    assert _count(model) == _by_hand(text, vision)
    return Qwen3VL(
        model, processor, device=torch.device("cpu"), min_pixels=32 * 32, max_pixels=96 * 64, prompt="Why?", description_tokens=2
    )


@pytest.fixture(scope="module")
def clip() -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [np.random.default_rng(0).integers(0, 256, (4, 64, 96, 3), dtype=np.uint8)], [np.arange(4) / 4]


@pytest.mark.slow
def test_full_width_forward(encoder: Qwen3VL, clip) -> None:
    found = encoder.extract(*clip)
    assert encoder.dim == 2560
    for name in EMBEDDINGS:
        values = getattr(found, name)
        assert values.shape == (1, 2560)
        assert np.isfinite(values).all()
        assert values.std() > 0.1
        assert np.abs(values).max() <= 2560**0.5  # the final norm, whose weights are ones
    assert isinstance(found.descriptions[0], str)


@pytest.mark.slow
def test_full_width_backward(encoder: Qwen3VL, clip) -> None:
    """Every weight has a part in the embeddings."""
    (frames,), (times,) = clip
    hidden, seen, _ = encoder.forward([encoder._inputs(frames, times)])
    pooled = pool(hidden, seen)
    (pooled * torch.linspace(-1, 1, 2560)).sum().backward()
    for name, parameter in encoder.model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    encoder.model.zero_grad(set_to_none=True)
