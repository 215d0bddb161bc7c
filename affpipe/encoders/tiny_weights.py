"""Tiny random networks of the real classes. With them the whole pipeline runs in seconds, offline, on a CPU; it learns nothing.

They load through the same code as the published weights. Their records say `random`, so that whatever they make can be recognized. The same
seed writes the same bytes (with the same versions of the libraries that write the files).

Values are drawn here and not by the classes' own initialisation, whose small ranges let a network this narrow forget its input. Scaled by
fan-in, hidden states move with the picture, the pitch and the loudness. GRADA comes in one size, 27 MB; the statistics of its batch norms
are measured on random pictures.
"""

import re
import zlib
from pathlib import Path

import numpy as np
import torch
from tokenizers import pre_tokenizers
from torch import Tensor, nn

from affpipe.encoders.grada.network import GradaNet
from affpipe.encoders.qwen3vl.network import published_prompt
from affpipe.system.compat import ensure_torchvision, quiet_transformers
from affpipe.system.weights import records

ensure_torchvision()

from torchvision.models.efficientnet import MBConv  # noqa: E402
from transformers import (  # noqa: E402
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WavLMModel,
)

SOURCE = "affpipe.encoders.tiny_weights"
# The special tokens of Qwen's tokenizer that a video chat uses.
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
# One turn is <|im_start|>role, newline, its parts, <|im_end|>, newline. A video is one pad token between vision marks.
CHAT_TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n"
    "{% for part in turn.content %}"
    "{% if part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tiny(out: Path, seed: int = 0) -> tuple[Path, Path, Path]:
    """Write `out`/qwen3vl-tiny, `out`/wavlm-tiny and `out`/grada-tiny, each with its record, and return the three folders.

    A folder that already exists must be whole by its record; it is not changed.
    """
    folders = out / "qwen3vl-tiny", out / "wavlm-tiny", out / "grada-tiny"
    for folder, write in zip(folders, (_write_qwen3vl, _write_wavlm, _write_grada), strict=True):
        if records.record_path(folder).exists():
            records.verify(folder)
            continue
        folder.mkdir(parents=True, exist_ok=True)
        with quiet_transformers(), torch.random.fork_rng(devices=[]):  # building draws numbers before `_draw` sets its own
            write(folder, seed)
        records.record(folder, name=folder.name, source=SOURCE, revision=f"seed {seed}", random=True)
    return folders


def _write_qwen3vl(folder: Path, seed: int) -> None:
    tokenizer = _tokenizer()
    token = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_hidden_layers": 1,
            "num_attention_heads": 12,
            "num_key_value_heads": 6,
            "head_dim": 8,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [2, 1, 1], "mrope_interleaved": True},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_heads": 12,
            "out_hidden_size": 96,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    model = Qwen3VLForConditionalGeneration(config)
    _draw(model, seed)
    model.save_pretrained(folder)
    processor().save_pretrained(folder)


def processor() -> Qwen3VLProcessor:
    """Make Qwen3-VL's own processor, which turns frames and text into patches and tokens. Its only words are the published prompt's."""
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "patch_size": 16, "temporal_patch_size": 2, "merge_size": 2}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**half),
        tokenizer=_tokenizer(),
        video_processor=Qwen3VLVideoProcessor(**half),
        chat_template=CHAT_TEMPLATE,
    )


def _tokenizer() -> Qwen2Tokenizer:
    """Make a tokenizer of Qwen's kind: 256 byte tokens, the words of the published prompt letter by letter, and the special tokens.

    With bytes alone the prompt would be 700 tokens, which would outnumber those of the video by far.
    """
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = []
    for word in re.findall("[A-Za-z]+", published_prompt()):
        spaced = f"Ġ{word}"  # a space, in the byte-level alphabet
        for end in range(2, len(spaced) + 1):
            if spaced[:end] not in tokens:
                tokens.append(spaced[:end])
                merges.append((spaced[: end - 1], spaced[end - 1]))
    vocab = {token: i for i, token in enumerate(tokens)}
    return Qwen2Tokenizer(vocab=vocab, merges=merges, extra_special_tokens=list(SPECIAL), chat_template=CHAT_TEMPLATE)


def _write_wavlm(folder: Path, seed: int) -> None:
    config = WavLMConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(8, 8, 16, 16, 32, 32, 32),  # narrow where the rate is high, for speed
        # Biases, unlike the published models: without them layer norm hides the loudness.
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    model = WavLMModel(config)
    _draw(model, seed)
    model.save_pretrained(folder)
    # No normalisation of the waveform, for the same reason.
    Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True).save_pretrained(folder)


def _write_grada(folder: Path, seed: int) -> None:
    network = GradaNet()
    _draw(network, seed)
    _settle(network, seed)
    torch.save(network.state_dict(), folder / "grada.pth")


@torch.no_grad()
def _settle(network: GradaNet, seed: int) -> None:
    """Give every batch norm the mean and variance of its input for random pictures, so that no layer fades or saturates.

    Computed in double precision, then kept to 8 bits: another machine sums in another order, and still gives the same bytes.
    """
    network.double().eval()
    for block in network.model.features.modules():
        if isinstance(block, MBConv) and block.use_res_connect:
            block.block[-1][1].weight *= 0.3  # so that input unlike those pictures does not grow from block to block
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = 1.0  # keeps the statistics of the last batch
    network(_pictures(16, 128, np.random.default_rng(seed)))
    for norm in norms:
        for buffer in (norm.running_mean, norm.running_var):
            buffer.copy_(buffer.bfloat16())
    network.float()


def _pictures(count: int, side: int, rng: np.random.Generator) -> Tensor:
    """Draw (count, 3, side, side) float64 pictures: tiles upon smaller and fainter tiles, with colours, brightness and contrast of their
    own.
    """
    out = torch.zeros(count, 3, side, side, dtype=torch.float64)
    for tiles in (1, 2, 4, 8, 16, 32, 64):
        colours = rng.standard_normal((count, 3, tiles, tiles)) + rng.standard_normal((count, 1, tiles, tiles))
        colours *= rng.uniform(0, 1.2, (count, 1, 1, 1)) * tiles**-0.75
        out += nn.functional.interpolate(torch.from_numpy(colours), side)
    return out


@torch.no_grad()
def _draw(model: nn.Module, seed: int) -> None:
    """Fill every parameter from its own generator, so that no draw depends on the order or number of the others."""
    for name, parameter in model.named_parameters():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        values = torch.from_numpy(rng.standard_normal(parameter.shape, dtype=np.float32))
        if parameter.ndim > 1:
            values *= parameter[0].numel() ** -0.5
        elif name.endswith("weight"):  # weight of a norm
            values = 1 + 0.1 * values
        else:
            values *= 0.03
        parameter.copy_(values)
