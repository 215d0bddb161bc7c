"""Parts shared by the workers of encoders: where a network runs, and the conversion of its output for storage."""

from typing import Any

import numpy as np

from affpipe.core.errors import WeightsError
from affpipe.core.stage import Context
from affpipe.store.item_streams import Job


def place(context: Context) -> dict[str, Any]:
    """Return the device and dtype to load a network with."""
    import torch

    from affpipe.system.device import pick

    return {"device": pick(context.device), "dtype": getattr(torch, context.settings.dtype)}


def half(job: Job, name: str, values: np.ndarray) -> np.ndarray:
    """Convert values to float16. Raises WeightsError, naming the video, if one does not fit: no sound network gives such a value."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        worst = values[~np.isfinite(half)][0]
        raise WeightsError(f"{job.name}: {job.item.id}: want {name} finite and within 65504, got {worst:g}; fetch the weights again")
    return half
