"""Encoder layers within a model: the top ones, trained with the head, and the frozen ones below them where nothing is cached.

Source: "Team RAS in 10th ABAW Competition", sec. 3.3: the top four layers of WavLM-Large are trained, the rest stays as it is.
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
        top: layers that the model trains, None if it trains none. trunk: the frozen layers below, None where their states are cached.
        dim: width of the states. random: the checkpoint's name, if its weights are random.
    """

    top: nn.Module | None
    trunk: nn.Module | None
    dim: int
    random: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any] | None:
        """The top's sizes as JSON, which `again` builds it from."""
        return None if self.top is None else {"config": self.top.config, "layers": self.top.count}


def load(context: Context) -> Backbone | None:
    """The layers that a model begins with, from its feature's checkpoint; None for a model that reads its feature and trains none."""
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
    """The layers of a fitted model: the top by its `record`, without values (they are in the model's file); the frozen from the checkpoint.

    StoreError where the record is not of layers that the settings ask for, before memory or time is spent on them.
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
    except Exception as error:  # transformers has errors of its own for sizes that do not go together
        raise StoreError(
            f"{context.name}: want a record of {trained} trained layers, got {first_line(error)[:160]}; delete the model, then run again"
        ) from None
    if cached:
        return Backbone(top, None, top.dim, ())
    trunk, random = _trunk(context, trained)
    return Backbone(top, trunk, trunk.dim, random)


@lru_cache(maxsize=1)
def _trunk(context: Context, trained: int) -> tuple[nn.Module, tuple[str, ...]]:
    """One for all folds of a model: nothing changes it, and it is large."""
    layers = _module(context)
    encoder, random = layers.load(context.of(context.settings.reads), trained)
    return layers.split(encoder, trained)[0], random


def _wants(context: Context) -> tuple[int, bool]:
    """How many layers a model trains, and whether the states that enter them are cached."""
    settings = context.settings
    trained = 0 if settings.members else getattr(context.see(settings.reads), "trained_layers", 0)
    return trained, not settings.within


def _module(context: Context) -> ModuleType:
    """The layers of the encoder of a model's feature; it takes seconds to import, and most models need none of it."""
    encoder = ENCODERS[context.see(context.settings.reads).encoder]
    return code(encoder.within, encoder.origin)
