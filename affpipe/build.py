"""Name -> builder: the one place that turns settings into models and stages. Heavy imports sit inside the builders."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from affpipe.config import ModelSettings

if TYPE_CHECKING:
    from torch import nn

    from affpipe.jobs import Context, Worker

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

STAGES = {  # stage or encoder -> module that makes its worker
    "frames": "affpipe.stages.media",
    "audio": "affpipe.stages.media",
    "faces": "affpipe.stages.faces",
    "subject": "affpipe.stages.faces",
    "landmarks": "affpipe.stages.faces",
    "mouth": "affpipe.stages.faces",
    "speech": "affpipe.stages.faces",
    "mesh": "affpipe.stages.features",
    "qwen3vl": "affpipe.stages.features",
    "wavlm": "affpipe.stages.features",
    "logmel": "affpipe.stages.features",
}


def model(settings: ModelSettings, dims: Mapping[str, int]) -> "nn.Module":
    """The model of `settings` for inputs of width `dims` (name -> D)."""
    return MODELS[settings.kind](settings, dims)


def stage(context: "Context") -> "Worker":
    """The worker of a stage, its networks loaded."""
    name = context.plan.kind(context.name)
    if context.name in context.plan.settings.models:
        from affpipe.predict import stage as predict

        return predict(context)
    return getattr(import_module(STAGES[name]), name)(context)
