"""Files of a fit's epochs: the state from which a stopped fit continues, and the weights of the best epoch so far.

There are two files below the fit's folder: `last.ckpt`, written after every epoch, and `best.ckpt`, the same of the best epoch. Each is
written whole or not at all, the best one first. Neither holds a path. So a cache may be moved meanwhile, and a file that somebody planted
leads nowhere. Lightning's own callback writes its last state with the best one only, and forgets the best score if the folder has moved.
"""

import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from affpipe.core.errors import WeightsError
from affpipe.models.training_settings import Training
from affpipe.system import disk, jsonfile
from affpipe.system.compat import ensure_torchvision
from affpipe.system.standins import LIGHTNING, lightly
from affpipe.system.weights.checkpoint import read

ensure_torchvision()  # lightning looks for torchvision
lightly("lightning", LIGHTNING)

import lightning as pl  # noqa: E402
from lightning.pytorch.callbacks import Callback  # noqa: E402

MONITOR = "validation_score"
LAST, BEST = "last.ckpt", "best.ckpt"
log = logging.getLogger("affpipe")


class Keep(Callback):
    """Callback that writes both files after every epoch; it comes last among the callbacks, so that the state of the others is in them."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if best(module.curves) == len(module.curves) - 1:
            with disk.atomic(self.folder / BEST) as part:
                trainer.save_checkpoint(part)
            with disk.atomic(self.folder / LAST) as part:
                shutil.copyfile(self.folder / BEST, part)
        else:
            with disk.atomic(self.folder / LAST) as part:
                trainer.save_checkpoint(part)


def best(curves: Sequence[dict[str, float]]) -> int:
    """Return the epoch of the greatest score, the first on a tie; -1 without epochs."""
    scores = [curve[MONITOR] for curve in curves]
    return scores.index(max(scores)) if scores else -1


def done(curves: Sequence[dict[str, float]], s: Training) -> bool:
    """Tell whether a fit with these epochs is over: all are done, or `stop_patience` of them in a row brought no better score."""
    return len(curves) >= s.epochs or len(curves) - 1 - best(curves) >= s.stop_patience


def found(folder: Path) -> list[dict[str, float]]:
    """Return the curves of the epochs from which a stopped fit can continue.

    If a file is damaged or does not belong to the other, there are none, and the folder is deleted. After a kill between the two files
    `best.ckpt` may be of the next epoch, which will be computed again.
    """
    if not (folder / LAST).exists():
        shutil.rmtree(folder, ignore_errors=True)
        return []
    try:
        curves, of_best = (_curves(folder / name) for name in (LAST, BEST))
        if len(of_best) - 1 not in (best(curves), len(curves)) or of_best[: len(curves)] != curves[: len(of_best)]:
            raise WeightsError(f"fit: {folder / BEST}: want the best of {len(curves)} epochs, got that of epoch {len(of_best) - 1}")
    except WeightsError as error:
        log.warning("%s; fitted from the start", error)
        shutil.rmtree(folder)
        return []
    return curves


def weights(folder: Path) -> dict[str, Any]:
    """Return the state dict of the best epoch."""
    return read("fit", folder / BEST)["state_dict"]


def _curves(path: Path) -> list[dict[str, float]]:
    """Return the curves in the state of a fit; WeightsError if it is none."""
    try:
        curves = jsonfile.parse(read("fit", path)["curves"])
        if not curves or not all(math.isfinite(curve[MONITOR]) for curve in curves):
            raise ValueError("no finite scores")
    except (OSError, TypeError, ValueError, LookupError) as error:
        raise WeightsError(f"fit: {path}: want the state of a fit, got {type(error).__name__}: {error}") from None
    return curves
