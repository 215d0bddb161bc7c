"""Encoder layers within a model: the top ones, trained with the head, and the frozen ones below if their states are not cached.

Source: "Team RAS in 10th ABAW Competition", sec. 3.3: the top four layers of WavLM-Large are trained, the others are frozen.
"""

from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch import nn

from affpipe.core.errors import StoreError
from affpipe.core.extensions import code
from affpipe.core.stage import Context
from affpipe.encoders.table import ENCODERS
from affpipe.system.weights.reading import first_line


@dataclass(frozen=True, eq=False)
class Backbone:
    """Layers of a checkpoint.

    Attributes:
        top: layers that the model trains; None if it trains none. trunk: the frozen layers below; None if their states are cached.
        dim: width of the states. random: the checkpoint's name, if its weights are random.
    """

    top: nn.Module | None
    trunk: nn.Module | None
    dim: int
    random: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any] | None:
        """The top's sizes as JSON, from which `again` builds it; None without a top."""
        return None if self.top is None else {"config": self.top.config, "layers": self.top.count}


def load(context: Context) -> Backbone | None:
    """Load the layers with which a model begins, from its feature's checkpoint; None for a model that reads its feature and trains none."""
    trained, cached = _wants(context)
    if cached and not trained:
        return None
    layers = _module(context)
    encoder, random = layers.load(context.of(context.settings.reads), trained)
    trunk, top = layers.split(encoder, trained)
    if top is not None and getattr(context.settings, "closing_norm", "trained") == "frozen":
        top.layer_norm.requires_grad_(False)
    return Backbone(top, None if cached else trunk, encoder.dim, random)


def again(context: Context, record: dict[str, Any] | None) -> Backbone | None:
    """Load the layers of a fitted model.

    The top is built by its `record`, without values (they are in the model's file). The frozen layers come from the checkpoint.
    Raises StoreError if the record's layers are not those of the settings, before memory or time is spent on them.
    """
    trained, cached = _wants(context)
    if cached and record is None:
        return None
    top_of = _module(context).Top
    try:
        if record and record["layers"] != trained:
            raise ValueError(f"{record['layers']} layers")
        with torch.device("meta"):
            top = top_of(record["config"], trained) if record else None
    except Exception as error:  # transformers has errors of its own for inconsistent sizes
        raise StoreError(
            f"{context.name}: want a record of {trained} trained layers, got {first_line(error)[:160]}; delete the model, then run again"
        ) from None
    if cached:
        return Backbone(top, None, top.dim, ())
    trunk, random = _trunk(context, trained)
    return Backbone(top, trunk, trunk.dim, random)


@lru_cache(maxsize=1)
def _trunk(context: Context, trained: int) -> tuple[nn.Module, tuple[str, ...]]:
    """Load the frozen layers once for all folds of a model: nothing changes them, and they are large."""
    layers = _module(context)
    encoder, random = layers.load(context.of(context.settings.reads), trained)
    return layers.split(encoder, trained)[0], random


def _wants(context: Context) -> tuple[int, bool]:
    """Return the number of layers that a model trains, and whether their input states are cached."""
    settings = context.settings
    trained = 0 if settings.members else getattr(context.see(settings.reads), "trained_layers", 0)
    return trained, not settings.within


def _module(context: Context) -> ModuleType:
    """Import the module with the layers of the feature's encoder; it takes seconds to import, and most models do not need it."""
    encoder = ENCODERS[context.see(context.settings.reads).encoder]
    return code(encoder.within, encoder.origin)
