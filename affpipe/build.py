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
    kind = {"positions": s.positions, "second_residual": s.second_residual}
    return TransformerHead(dims[s.reads], **sizes, **kind, dropout=s.dropout, outputs=OUTPUTS)


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
    kind = {"positions": s.positions, "second_residual": s.second_residual}
    return DCMMOE({m: dims[m] for m in s.reads}, **sizes, **kind, dropout=s.dropout, outputs=OUTPUTS)


def _raav(s: ModelSettings, dims: Mapping[str, int]) -> "nn.Module":
    from affpipe.fusion.raav import RAAV

    sizes = {"hidden": s.hidden, "latents": s.latents, "layers": s.layers, "heads": s.heads, "feedforward": s.feedforward}
    return RAAV(
        {m: dims[m] for m in s.members}, visual=s.reads, priors=s.priors, audio=s.audio, **sizes, dropout=s.dropout, outputs=OUTPUTS
    )


MODELS: dict[str, Callable[[ModelSettings, Mapping[str, int]], "nn.Module"]] = {
    "transformer": _transformer,
    "mamba": _mamba,
    "chunk_asp": _chunk_asp,
    "dcmmoe": _dcmmoe,
    "raav": _raav,
}


def model(settings: ModelSettings, dims: Mapping[str, int]) -> "nn.Module":
    """The model of `settings` for inputs of width `dims` (name -> D)."""
    return MODELS[settings.kind](settings, dims)
