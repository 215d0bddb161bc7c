"""What workers of encoders share: where a network runs, and its numbers as they are stored."""

from typing import Any

import numpy as np

from affpipe.core.errors import WeightsError
from affpipe.core.stage import Context
from affpipe.store.item_streams import Job


def place(context: Context) -> dict[str, Any]:
    """Device and dtype to load a network with."""
    import torch

    from affpipe.system.device import pick

    return {"device": pick(context.device), "dtype": getattr(torch, context.settings.dtype)}


def half(job: Job, name: str, values: np.ndarray) -> np.ndarray:
    """As float16. WeightsError, naming the video, where a value does not fit: no sound network gives one."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        worst = values[~np.isfinite(half)][0]
        raise WeightsError(f"{job.name}: {job.item.id}: want {name} finite and within 65504, got {worst:g}; fetch the weights again")
    return half
