"""Encoder layers within a model: the top ones, trained with the head, and the frozen ones below them where nothing is cached.

Source: "Team RAS in 10th ABAW Competition", sec. 3.3: the top four layers of WavLM-Large are trained, the rest stays as it is.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from affpipe.core.errors import StoreError
from affpipe.jobs.apply import Context
from affpipe.plan.plan import Plan
from affpipe.system.device import pick
from affpipe.system.weights.pin import checkpoint
from affpipe.system.weights.reading import first_line

if TYPE_CHECKING:  # transformers takes seconds to import, and most models need none of it
    from affpipe.encoders.wavlm.layers import Top, Trunk
    from affpipe.encoders.wavlm.network import WavLM


@dataclass(frozen=True, eq=False)
class Backbone:
    """Layers of a checkpoint.

    Attributes:
        top: layers that the model trains, None if it trains none. trunk: the frozen layers below, None where their states are cached.
        dim: width of the states. random: the checkpoint's name, if its weights are random.
    """

    top: "Top | None"
    trunk: "Trunk | None"
    dim: int
    random: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any] | None:
        """The top's sizes as JSON, which `again` builds it from."""
        return None if self.top is None else {"config": self.top.config, "layers": self.top.count}


def load(plan: Plan, model: str) -> Backbone | None:
    """The layers that a model begins with, from its feature's checkpoint; None for a model that reads its feature and trains none."""
    trained, cached = _wants(plan, model)
    if cached and not trained:
        return None
    from affpipe.encoders.wavlm.layers import split

    encoder, random = _encoder(plan, model, trained)
    trunk, top = split(encoder, trained)
    if top is not None and plan.settings.models[model].closing_norm == "frozen":
        top.layer_norm.requires_grad_(False)
    return Backbone(top, None if cached else trunk, encoder.dim, random)


def again(plan: Plan, model: str, record: dict[str, Any] | None) -> Backbone | None:
    """The layers of a fitted model: the top by its `record`, without values (they are in the model's file); the frozen from the checkpoint.

    StoreError where the record is not of layers that the settings ask for, before memory or time is spent on them.
    """
    trained, cached = _wants(plan, model)
    if cached and record is None:
        return None
    from affpipe.encoders.wavlm.layers import Top

    try:
        if record and record["layers"] != trained:
            raise ValueError(f"{record['layers']} layers")
        with torch.device("meta"):
            top = Top(record["config"], trained) if record else None
    except Exception as error:  # transformers has errors of its own for sizes that do not go together
        raise StoreError(
            f"{model}: want a record of {trained} trained layers, got {first_line(error)[:160]}; delete the model, then run again"
        ) from None
    if cached:
        return Backbone(top, None, top.dim, ())
    trunk, random = _trunk(plan, model, trained)
    return Backbone(top, trunk, trunk.dim, random)


@lru_cache(maxsize=1)
def _trunk(plan: Plan, model: str, trained: int) -> "tuple[Trunk, tuple[str, ...]]":
    """One for all folds of a model: nothing changes it, and it is large."""
    from affpipe.encoders.wavlm.layers import split

    encoder, random = _encoder(plan, model, trained)
    return split(encoder, trained)[0], random


def _wants(plan: Plan, model: str) -> tuple[int, bool]:
    """How many layers a model trains, and whether the states that enter them are cached."""
    settings = plan.settings.models[model]
    trained = 0 if settings.members else getattr(plan.settings.features[settings.reads], "trained_layers", 0)
    return trained, getattr(settings, "cache_frozen", True)


def _encoder(plan: Plan, model: str, trained: int) -> "tuple[WavLM, tuple[str, ...]]":
    from affpipe.encoders.wavlm import network as wavlm

    feature = Context(plan, plan.settings.models[model].reads)
    path, random = checkpoint(feature)
    s = feature.settings
    place = {"device": pick(plan.settings.device), "dtype": getattr(torch, s.dtype)}
    return wavlm.load(path, **place, normalise=s.normalise, layer=s.layer, trained_layers=trained), random
