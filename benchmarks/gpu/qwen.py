"""Qwen3-VL-4B at its published size through the encoder of the pipeline: 16 frames and the prompt in, six vectors out.

The configuration is that of Qwen3-VL-4B-Instruct's config.json. Weights are drawn on the device in bfloat16. Tokens are numbers drawn at
random, as many as the prompt and the times of the frames have, so that no tokenizer is needed. The last rows take frames on the host
through resizing and patches, with the processor of the tiny checkpoints, which needs torchvision.
"""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from affpipe.encoders.qwen3vl.network import Qwen3VL, pool
from benchmarks.gpu import arithmetic
from benchmarks.gpu.clock import Place
from benchmarks.gpu.rows import Case

from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration  # isort: skip  # after affpipe.compat

TEXT = {
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "max_position_embeddings": 262144,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default", "rope_theta": 5000000},
    "tie_word_embeddings": True,
    "vocab_size": 151936,
}
VISION = {
    "deepstack_visual_indexes": [5, 11, 17],
    "depth": 24,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 1024,
    "in_channels": 3,
    "intermediate_size": 4096,
    "num_heads": 16,
    "num_position_embeddings": 2304,
    "out_hidden_size": 2560,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
TINY_TEXT = TEXT | {
    "head_dim": 8,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "rope_parameters": TEXT["rope_parameters"] | {"mrope_section": [2, 1, 1]},
}
TINY_VISION = VISION | {
    "deepstack_visual_indexes": [0],
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 4,
    "num_position_embeddings": 64,
    "out_hidden_size": 32,
}
# Pixels of a frame as the network sees it: 720p as it is, within the bounds of recipes/ras.yaml, and the default of the settings.
SIDES = ((1280, 704), (1024, 576), (448, 256))
TINY_SIDES = ((96, 64),)
FRAMES, LENGTH_S = 16, 4.0
BATCHES = (1, 2, 4, 8)
STAMP, PROMPT = 7, 170  # tokens of the time before each two frames, without the marks round these, and of prompt and chat
GOAL = 0.4


def cases(at: Place) -> Iterator[Case]:
    """The whole at each size and batch, its two parts alone, and the way from frames on the host."""
    encoder = build(at)
    goal = ("of matmul", GOAL)
    sizes = TINY_SIDES if at.tiny else SIDES
    for side in sizes:
        for batch in (1, 2) if at.tiny else BATCHES:
            what = f"{_name(side)}, batch {batch}"
            yield Case(what, lambda side=side, batch=batch: _whole(at, encoder, side, batch), goal)
    for side in sizes:
        yield Case(f"{_name(side)}, batch 4: vision tower alone", lambda side=side: _vision(at, encoder, side, 4))
        yield Case(f"{_name(side)}, batch 4: language model alone", lambda side=side: _language(at, encoder, side, 4))
    for side in sizes:
        yield Case(f"{_name(side)}, batch 4, from frames on the host", lambda side=side: _frames(at, encoder, side, 4))


def build(at: Place) -> Qwen3VL:
    """The encoder with weights drawn at random, and a stand-in for the processor, which cannot be had without its files."""
    text, vision = (TINY_TEXT, TINY_VISION) if at.tiny else (TEXT, VISION)
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with at.device:
            model = Qwen3VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    words = SimpleNamespace(
        apply_chat_template=lambda *_, **__: "",
        tokenizer=SimpleNamespace(convert_tokens_to_ids=lambda names: range(len(names))),
        **dict.fromkeys(("vision_start_token", "video_token", "vision_end_token"), "-"),
        video_token_id=config.video_token_id,
        vision_start_token_id=config.vision_start_token_id,
        vision_end_token_id=config.vision_end_token_id,
    )
    return Qwen3VL(model.requires_grad_(False), words, device=at.device, min_pixels=32 * 32, max_pixels=1280 * 720, prompt="")


def segment(encoder: Qwen3VL, side: tuple[int, int]) -> dict[str, Tensor]:
    """Tokens and patches of one segment, as the processor gives them, on the encoder's device."""
    config = encoder.model.config
    t, h, w = grid(side)
    patch = config.vision_config
    merged = h * w // patch.spatial_merge_size**2
    frame = torch.tensor([0] * (STAMP + 1) + [2] * merged + [0])  # the time, a mark, the tokens of two frames, a mark
    kinds = torch.cat([frame.repeat(t), torch.zeros(PROMPT, dtype=torch.long)])
    tokens = torch.randint(1000, (len(kinds),)).masked_fill(kinds == 2, config.video_token_id)
    pixels = patch.in_channels * patch.temporal_patch_size * patch.patch_size**2
    row = {
        "input_ids": tokens[None],
        "attention_mask": torch.ones_like(tokens)[None],
        "mm_token_type_ids": kinds[None],
        "pixel_values_videos": torch.randn(t * h * w, pixels, device=encoder.device),
        "video_grid_thw": torch.tensor([[t, h, w]]),
    }
    return {name: value.to(encoder.device) for name, value in row.items()}


def grid(side: tuple[int, int]) -> tuple[int, int, int]:
    """Patches (t, h, w) of a segment's frames."""
    width, height = side
    return FRAMES // VISION["temporal_patch_size"], height // VISION["patch_size"], width // VISION["patch_size"]


def _name(side: tuple[int, int]) -> str:
    t, h, w = grid(side)
    return f"{side[0]}x{side[1]}, {t * h * w // VISION['spatial_merge_size'] ** 2:,} visual tokens"


@torch.inference_mode()
def _whole(at: Place, encoder: Qwen3VL, side: tuple[int, int], batch: int) -> dict[str, float]:
    rows = [segment(encoder, side) for _ in range(batch)]

    def work() -> Tensor:
        hidden, seen, _ = encoder.forward(rows)
        return pool(hidden, seen).cpu()

    if not work().isfinite().all():
        raise ValueError("want finite embeddings, got others")
    figures: dict[str, float] = {}
    with at.peak(figures):
        seconds = at.seconds(work)
    length = rows[0]["input_ids"].shape[1]
    text, vision = _sizes(at)
    flop = batch * (arithmetic.qwen_vision(vision, grid(side)) + arithmetic.qwen_language(text, length))
    return {"segments/s": batch / seconds, "tokens/s": batch * length / seconds, **at.rate(flop, seconds, "bfloat16"), **figures}


@torch.inference_mode()
def _vision(at: Place, encoder: Qwen3VL, side: tuple[int, int], batch: int) -> dict[str, float]:
    rows = [segment(encoder, side) for _ in range(batch)]
    pixels = torch.cat([row["pixel_values_videos"] for row in rows]).to(encoder.model.dtype)
    grids = torch.cat([row["video_grid_thw"] for row in rows])
    seconds = at.seconds(lambda: encoder.model.visual(pixels, grid_thw=grids))
    flop = batch * arithmetic.qwen_vision(_sizes(at)[1], grid(side))
    return {"segments/s": batch / seconds, **at.rate(flop, seconds, "bfloat16")}


@torch.inference_mode()
def _language(at: Place, encoder: Qwen3VL, side: tuple[int, int], batch: int) -> dict[str, float]:
    length = segment(encoder, side)["input_ids"].shape[1]
    states = torch.randn(batch, length, encoder.dim, device=at.device, dtype=encoder.model.dtype)
    seconds = at.seconds(lambda: encoder.model.language_model(inputs_embeds=states, use_cache=False))
    flop = batch * arithmetic.qwen_language(_sizes(at)[0], length)
    return {"segments/s": batch / seconds, "tokens/s": batch * length / seconds, **at.rate(flop, seconds, "bfloat16")}


def _frames(at: Place, encoder: Qwen3VL, side: tuple[int, int], batch: int) -> dict[str, float]:
    """`extract`, and beside it the part that makes patches of frames, which are 720p whatever the network then sees."""
    from affpipe.encoders.qwen3vl.network import published_prompt
    from affpipe.encoders.tiny_weights import processor

    full = Qwen3VL(
        SimpleNamespace(model=encoder.model, config=encoder.model.config),
        processor(),
        device=at.device,
        min_pixels=32 * 32,
        max_pixels=side[0] * side[1],
        prompt=published_prompt(),
        batch_size=batch,
    )
    before, encoder.model.config.video_token_id = encoder.model.config.video_token_id, full.processor.video_token_id
    rng = np.random.default_rng(0)
    size = side[::-1] if at.tiny else (720, 1280)
    clips = [rng.integers(0, 256, (FRAMES, *size, 3), dtype=np.uint8) for _ in range(batch)]
    times = [np.arange(FRAMES) * LENGTH_S / FRAMES] * batch
    try:
        works = {"all": lambda: full.extract(clips, times), "patches": lambda: [full._inputs(clips[i], times[i]) for i in range(batch)]}
        took = at.in_turn(works)
    finally:
        encoder.model.config.video_token_id = before
    return {"segments/s": batch / took["all"], "of the time for patches": took["patches"] / took["all"]}


def _sizes(at: Place) -> tuple[arithmetic.Sizes, arithmetic.Sizes]:
    return (TINY_TEXT, TINY_VISION) if at.tiny else (TEXT, VISION)
