"""Name -> builder: the one place that turns settings into models. Heavy imports sit inside the builders."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from affpipe.settings import ModelSettings

if TYPE_CHECKING:
    from torch import nn


OUTPUTS = 2  # valence, arousal


def _transformer(s: ModelSettings, dims: Mapping[str, int]) -> "nn.Module":
    from affpipe.heads.transformer import TransformerHead

    sizes = {"hidden": s.hidden, "layers": s.layers, "heads": s.heads, "feedforward": s.feedforward}
    return TransformerHead(dims[s.reads], **sizes, dropout=s.dropout, outputs=OUTPUTS, positions=s.positions)


def _mamba(s: ModelSettings, dims: Mapping[str, int]) -> "nn.Module":
    from affpipe.heads.mamba import MambaHead

    sizes = {"hidden": s.hidden, "layers": s.layers, "state": s.state, "kernel": s.kernel, "head_hidden": s.head_hidden}
    return MambaHead(dims[s.reads], **sizes, dropout=s.dropout, outputs=OUTPUTS)


def _chunk_asp(s: ModelSettings, dims: Mapping[str, int]) -> "nn.Module":
    from affpipe.heads.chunk_asp import ChunkHead

    sizes = {"chunks": s.chunks, "hidden": s.hidden, "attention_hidden": s.attention_hidden}
    return ChunkHead(dims[s.reads], **sizes, dropout=s.dropout, outputs=OUTPUTS)


def _dcmmoe(s: ModelSettings, dims: Mapping[str, int]) -> "nn.Module":
    from affpipe.fusion.dcmmoe import DCMMOE

    sizes = {"hidden": s.hidden, "layers": s.layers, "heads": s.heads, "feedforward": s.feedforward}
    return DCMMOE({m: dims[m] for m in s.reads}, **sizes, dropout=s.dropout, outputs=OUTPUTS, positions=s.positions)


MODELS: dict[str, Callable[[ModelSettings, Mapping[str, int]], "nn.Module"]] = {
    "transformer": _transformer,
    "mamba": _mamba,
    "chunk_asp": _chunk_asp,
    "dcmmoe": _dcmmoe,
}


def model(settings: ModelSettings, dims: Mapping[str, int]) -> "nn.Module":
    """The model of `settings` for inputs of width `dims` (name -> D)."""
    return MODELS[settings.kind](settings, dims)
