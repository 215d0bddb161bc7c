"""WavLM-Large on windows of 4 s through the encoder of the pipeline, with random weights."""

from collections.abc import Iterator

import numpy as np
import torch

from affpipe.encoders.wavlm.network import LARGE, WavLM
from benchmarks.gpu import arithmetic
from benchmarks.gpu.clock import Place
from benchmarks.gpu.rows import Case

from transformers import WavLMConfig, WavLMModel  # isort: skip  # after affpipe.compat

TINY = LARGE | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "conv_dim": (8,) * 7}
RATE, LENGTH_S, HOP_S = 16000, 4, 2
BATCHES = (8, 16, 32, 64)
WINDOWS = 128  # of a video of 4 minutes
GOAL = 0.4


def cases(at: Place) -> Iterator[Case]:
    """Both precisions at each batch size: the states alone, and with the way from the host and back."""
    config = WavLMConfig(**(TINY if at.tiny else LARGE))
    encoders = {dtype: _build(at, config, dtype) for dtype in ("bfloat16", "float32")}
    for batch in (2, 4) if at.tiny else BATCHES:
        for dtype, encoder in encoders.items():
            what = f"{dtype}, batch {batch}"
            yield Case(what, lambda e=encoder, d=dtype, b=batch: _measure(at, e, d, b), ("of matmul", GOAL))


def _build(at: Place, config: WavLMConfig, dtype: str) -> WavLM:
    torch.manual_seed(0)
    with at.device:
        model = WavLMModel(config)
    return WavLM(model.to(getattr(torch, dtype)), device=at.device, scale=None)


def _measure(at: Place, encoder: WavLM, dtype: str, batch: int) -> dict[str, float]:
    encoder.batch_size, windows = batch, 4 if at.tiny else WINDOWS
    waves = np.random.default_rng(0).standard_normal((windows, LENGTH_S * RATE), dtype=np.float32)
    lengths = np.full(windows, LENGTH_S * RATE)
    sound, samples = torch.from_numpy(waves).to(at.device), torch.from_numpy(lengths)
    works = {"states": lambda: encoder.states(sound, samples), "extract": lambda: encoder.extract(waves, lengths)}
    figures: dict[str, float] = {}
    with at.peak(figures):
        took = at.in_turn(works)
    flop = windows * arithmetic.wavlm(encoder.model.config.to_dict(), LENGTH_S * RATE)
    return {
        "windows/s": windows / took["states"],
        **at.rate(flop, took["states"], dtype),
        "windows/s, from the host and back": windows / took["extract"],
        f"hours of sound a minute, a window every {HOP_S} s": windows / took["extract"] * HOP_S * 60 / 3600,
        **figures,
    }
