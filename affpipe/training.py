"""Fitting a model: streams and labels in, the best epoch by validation CCC out. Lightning runs the loop.

Every epoch starts from its own seed, so a run that was stopped and resumed ends where an undisturbed one does.
"""

import json
import logging
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from affpipe import metrics, sequences, store
from affpipe import predictor as models
from affpipe.compat import ensure_torchvision
from affpipe.device import pick
from affpipe.errors import ManifestError, StoreError
from affpipe.jobs import Job, inherited
from affpipe.losses import VALoss
from affpipe.plan import Plan
from affpipe.predictor import Predictor, model_path
from affpipe.sequences import Packed, Sequence
from affpipe.settings import ModelSettings
from affpipe.store import Entry

ensure_torchvision()  # lightning looks for torchvision

import lightning as pl  # noqa: E402
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint  # noqa: E402

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
log = logging.getLogger("affpipe")
MONITOR = "validation_ccc"
Labelled = tuple[Sequence, np.ndarray, np.ndarray]  # input, target (R, C, 2), known (R, C)


class Fit(pl.LightningModule):
    """Predictor, loss and optimiser."""

    def __init__(self, predictor: Predictor, settings: ModelSettings, seed: int, validation: list[Labelled]):
        super().__init__()
        self.predictor, self.settings, self.seed = predictor, settings.training, seed
        self.validation = validation
        self.loss = VALoss(**settings.training.loss.model_dump())
        self.curves: list[dict[str, float]] = []
        self._losses: list[Tensor] = []

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(self.seed * 100_003 + self.current_epoch)
        self._losses = []

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        output = self.predictor(batch["inputs"], batch["present"])
        loss = self.loss(output.prediction, batch["target"], batch["known"])
        self._losses.append(loss.detach())
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        """Predict every validation stream whole; the score is the pooled CCC at the model's own rate."""
        videos = {}
        for sequence, target, known in self.validation:
            prediction = models.run(self.predictor, sequence, self.device).prediction
            videos[sequence.id] = (target.reshape(-1, 2), prediction.reshape(-1, 2), known.ravel())
        score = metrics.pooled(videos)["ccc"]
        self.log(MONITOR, score, batch_size=1)
        if not self.trainer.sanity_checking:
            loss = float(torch.stack(self._losses).mean())
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            self.curves.append({"epoch": self.current_epoch, "training_loss": loss, MONITOR: score, "learning_rate": rate})
            log.info("epoch %d: training loss %.4f, validation CCC %.4f, learning rate %.1e", self.current_epoch, loss, score, rate)

    def configure_optimizers(self) -> dict[str, Any]:
        s = self.settings
        optimiser = torch.optim.AdamW(self.predictor.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, mode="max", factor=s.plateau_factor, patience=s.plateau_patience)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": plateau, "monitor": MONITOR}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["curves"] = json.dumps(self.curves)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curves = json.loads(checkpoint["curves"])


class Windows(pl.LightningDataModule):
    """Training batches in an order that depends on the seed and the epoch alone."""

    def __init__(self, packed: Packed, batch_size: int, seed: int):
        super().__init__()
        self.packed, self.batch_size, self.seed = packed, batch_size, seed

    def train_dataloader(self) -> DataLoader:
        order = RandomSampler(self.packed, generator=torch.Generator().manual_seed(self.seed + self.trainer.current_epoch))
        return DataLoader(self.packed, batch_size=None, sampler=BatchSampler(order, self.batch_size, drop_last=False))

    def val_dataloader(self) -> DataLoader:
        return DataLoader([0])  # one step: `validation_step` goes through whole streams itself


def fit(plan: Plan, name: str, entries: Mapping[str, Mapping[str, Entry]], progress: Callback | None = None) -> dict[str, Any]:
    """Fit model `name` on the streams of partitions train and validation; return its record.

    Nothing is done if the model is in the store already. A fit that was stopped goes on from its last epoch.

    Args:
        entries: for each stage that the model reads, what became of its items.
    """
    folder, key, settings = plan.folder(name), plan.key(name), plan.settings.models[name]
    path = model_path(folder)
    if path.exists():
        try:
            return models.read_record(path, key)
        except StoreError as error:
            log.warning("%s; fitted anew", error)
    train, validation = (_labelled(plan, name, entries, part) for part in ("train", "validation"))
    pl.seed_everything(plan.settings.seed, verbose=False)
    pick(plan.settings.device)
    dims = sequences.widths([s for s, *_ in train])
    for read in (read for read, dim in dims.items() if dim == 0):
        raise ManifestError(f"{name}: want a training stream with {read}, got none; take {read} out of models.{name}.reads")
    for sequence, *_ in [*train, *validation]:
        sequences.widen(sequence, dims)
    predictor = Predictor(settings, dims)
    if settings.standardise:
        predictor.measure([s for s, *_ in train])
    packed = Packed([s for s, *_ in train], [(t, k) for _, t, k in train], settings)
    log.info("%s: %d windows of %d streams, %d validation streams", name, len(packed), len(train), len(validation))
    if not len(packed):
        raise ManifestError(f"{name}: want labelled windows in partition train, got none; check the annotations")
    module = Fit(predictor, settings, plan.settings.seed, validation)
    best = _train(module, Windows(packed, settings.training.batch_size, plan.settings.seed), folder, plan.settings.device, progress)
    record = {
        "model": name,
        "key": key,
        "spec": plan.spec(name),
        "inputs": plan.inputs(name),
        "random": sorted({r for s, *_ in train for r in s.random}),
        "parameters": sum(p.numel() for p in predictor.parameters()),
        "windows": len(packed),
        "train": [s.id for s, *_ in train],
        "validation": [s.id for s, *_ in validation],
        "best": best,
        "curves": module.curves,
    }
    models.save(path, predictor, record)
    shutil.rmtree(folder / "checkpoints")
    return record


def _labelled(plan: Plan, name: str, entries: Mapping[str, Mapping[str, Entry]], partition: str) -> list[Labelled]:
    """Sequences of a partition with their labels; streams that have no input are left out and named in the log."""
    out = []
    for item in plan.items(name):
        if item.row.partition != partition:
            continue
        reason = inherited(plan, name, item, entries)
        if reason:
            log.warning("%s: %s: left out of %s: %s", name, item.id, partition, reason.reason)
            continue
        sequence = sequences.read(Job(plan, name, item), plan.settings.models[name])
        out.append((sequence, *sequences.labels(sequence, item.row.annotation)))
    if not any(known.any() for *_, known in out):
        raise ManifestError(
            f"{name}: want labelled frames in partition {partition}, got none that the model can use; check annotations and logs"
        )
    return out


def _train(module: Fit, data: Windows, folder: Path, device: str, progress: Callback | None) -> dict[str, float]:
    """Run Lightning, leave the best epoch's weights in the module, return that epoch's curve entry."""
    checkpoints = folder / "checkpoints"
    keep = ModelCheckpoint(checkpoints, monitor=MONITOR, mode="max", save_last=True, filename="best")
    stop = EarlyStopping(MONITOR, mode="max", patience=module.settings.stop_patience)
    with warnings.catch_warnings():
        # Lightning advises worker processes and logging intervals; our data lies in memory and one epoch is a few batches.
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*num_workers.*")
        trainer = pl.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            max_epochs=module.settings.epochs,
            callbacks=[keep, stop, *([progress] if progress else [])],
            gradient_clip_val=module.settings.clip_norm,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        last = checkpoints / "last.ckpt"
        trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None)
    state = torch.load(keep.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(state)
    module.predictor.eval()
    return max(module.curves, key=lambda c: c[MONITOR])


def write_fit(path: Path, record: Mapping[str, Any]) -> None:
    """Write the file that tells the workflow that a model is fitted."""
    store.write_text(path, json.dumps(record, indent=1, sort_keys=True) + "\n")
