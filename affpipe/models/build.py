"""Name -> builder: the one place that turns settings into models and losses. Heavy imports sit inside the builders."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from affpipe.core.tasks.task import EXPRESSIONS, slices
from affpipe.models.settings import Attention, ModelSettings
from affpipe.models.training_settings import AULoss, ExprLoss, Loss, VALoss

if TYPE_CHECKING:
    from torch import nn


def _transformer(s: ModelSettings, dims: Mapping[str, int], outputs: int) -> "nn.Module":
    from affpipe.models.heads.transformer import TransformerHead

    return TransformerHead(dims[s.reads], **_stack(s), embedding=s.embedding, outputs=outputs)


def _stack(s: Attention) -> dict[str, Any]:
    """Keywords of a model that is a stack of attention layers, or several."""
    names = ("hidden", "layers", "heads", "feedforward", "dropout", "positions", "position_dropout", "second_residual")
    return {name: getattr(s, name) for name in (*names, "activation", "dropout_on", "start")}


def _mamba(s: ModelSettings, dims: Mapping[str, int], outputs: int) -> "nn.Module":
    from affpipe.models.heads.mamba import MambaHead
    from affpipe.models.heads.mamba_ras2026 import Ras2026Head

    sizes = {"hidden": s.hidden, "layers": s.layers, "state": s.state, "kernel": s.kernel, "head_hidden": s.head_hidden}
    head = Ras2026Head if s.block == "ras2026" else MambaHead
    return head(dims[s.reads], **sizes, dropout=s.dropout, start=s.start, outputs=outputs)


def _chunk_asp(s: ModelSettings, dims: Mapping[str, int], outputs: int) -> "nn.Module":
    from affpipe.models.heads.chunk_asp import ChunkHead

    sizes = {"chunks": s.chunks, "cut": s.cut, "hidden": s.hidden, "attention_hidden": s.attention_hidden}
    return ChunkHead(dims[s.reads], **sizes, attention_dropout=s.attention_dropout, dropout=s.dropout, outputs=outputs)


def _dcmmoe(s: ModelSettings, dims: Mapping[str, int], outputs: int) -> "nn.Module":
    from affpipe.models.fusions.dcmmoe import DCMMOE

    return DCMMOE({m: dims[m] for m in s.reads}, **_stack(s), outputs=outputs)


def _cross_attention(s: ModelSettings, dims: Mapping[str, int], outputs: int) -> "nn.Module":
    from affpipe.models.fusions.cross_attention import CrossAttention

    return CrossAttention({m: dims[m] for m in s.reads}, query=s.query, context=s.context, **_stack(s), outputs=outputs)


def _raav(s: ModelSettings, dims: Mapping[str, int], outputs: int) -> "nn.Module":
    from affpipe.models.fusions.raav import RAAV

    sizes = {"hidden": s.hidden, "latents": s.latents, "layers": s.layers, "heads": s.heads, "feedforward": s.feedforward}
    reads = {"visual": s.reads, "priors": s.priors, "audio": s.audio, "compat": s.compat}
    return RAAV({m: dims[m] for m in s.members}, **reads, **sizes, dropout=s.dropout, outputs=outputs)


def loss(tasks: Sequence[str], settings: Loss, target: np.ndarray, known: np.ndarray) -> "nn.Module":
    """The training loss of the tasks together; weights of classes and units come from the labels (..., K), known (..., tasks)."""
    from affpipe.models.terms import losses

    at = slices(tasks, "columns")
    own = {task: target[..., at[task]][known[..., i]] for i, task in enumerate(tasks)}  # (n, K of the task)
    parts = {task: LOSSES[task](getattr(settings, task), own[task]) for task in tasks}
    return losses.MultiTaskLoss(parts, {task: getattr(settings, f"{task}_weight") for task in tasks})


def _va_loss(s: VALoss, labels: np.ndarray) -> "nn.Module":
    from affpipe.models.terms.losses import VALoss

    return VALoss(**s.model_dump())


def _expr_loss(s: ExprLoss, labels: np.ndarray) -> "nn.Module":
    import torch

    from affpipe.models.terms import losses

    counts = torch.from_numpy(np.bincount(labels[:, 0].astype(np.int64), minlength=len(EXPRESSIONS)))
    weights = losses.effective_number_weights(counts, beta=s.beta) if s.class_weights == "effective_number" else None
    return losses.ExprLoss(kind=s.kind, gamma=s.gamma, class_weights=weights, label_smoothing=s.label_smoothing)


def _au_loss(s: AULoss, labels: np.ndarray) -> "nn.Module":
    import torch

    from affpipe.models.terms import losses

    present = torch.from_numpy(labels.sum(axis=0, dtype=np.float64))
    weights = losses.positive_weights(present, len(labels) - present, limit=s.limit) if s.positive_weights == "balanced" else None
    return losses.AULoss(positive_weights=weights)


LOSSES: dict[str, Callable[..., "nn.Module"]] = {"va": _va_loss, "expr": _expr_loss, "au": _au_loss}
MODELS: dict[str, Callable[[ModelSettings, Mapping[str, int], int], "nn.Module"]] = {
    "transformer": _transformer,
    "mamba": _mamba,
    "chunk_asp": _chunk_asp,
    "dcmmoe": _dcmmoe,
    "cross_attention": _cross_attention,
    "raav": _raav,
}


def model(settings: ModelSettings, dims: Mapping[str, int], outputs: int) -> "nn.Module":
    """The model of `settings` for inputs of width `dims` (name -> D), with so many outputs a row."""
    return MODELS[settings.kind](settings, dims, outputs)
