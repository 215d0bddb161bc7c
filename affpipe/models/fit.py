"""Fitting of a model: streams and labels in, the best epoch by validation score out. Lightning runs the loop.

Every epoch starts from its own seed. So a fit that was stopped and resumed gives the same result as one that was not.
"""

import json
import logging
import math
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from affpipe.core.errors import ManifestError, PartError, SettingsError, StoreError
from affpipe.core.progress import Progress
from affpipe.core.stage import Context
from affpipe.core.tasks import smoothing
from affpipe.core.tasks.task import Tasks, slices, width
from affpipe.models import crossfit, encoder_layers, epochs, selection
from affpipe.models.augment import augment
from affpipe.models.checks import divergence, given
from affpipe.models.epochs import MONITOR
from affpipe.models.inputs import FULL_SCALE, spread, unsound, widen, widths
from affpipe.models.predictor import Predictor, read_record, run, save
from affpipe.models.table import ModelSettings
from affpipe.models.targets import Labelled
from affpipe.models.terms.build import training_loss
from affpipe.models.terms.losses import MultiTaskLoss
from affpipe.models.training_settings import Training
from affpipe.models.windows import Packed
from affpipe.models.workers import fitted
from affpipe.store.streams import REPAIR, STATE
from affpipe.system import disk, jsonfile
from affpipe.system.compat import ensure_torchvision
from affpipe.system.device import pick
from affpipe.system.standins import LIGHTNING, lightly

ensure_torchvision()  # lightning looks for torchvision
lightly("lightning", LIGHTNING)

import lightning as pl  # noqa: E402
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging  # noqa: E402

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
log = logging.getLogger("affpipe")


class Fit(pl.LightningModule):
    """Predictor, loss and optimiser of a fit, for Lightning."""

    def __init__(self, predictor: Predictor, settings: ModelSettings, seed: int, tasks: Tasks, loss: MultiTaskLoss, name: str = ""):
        super().__init__()
        self.name = name
        self.predictor, self.settings, self.seed = predictor, settings.training, seed
        self.augmentation = getattr(settings, "augment", None)
        self.tasks, self.loss = tasks, loss
        self.curves: list[dict[str, float]] = []
        self._losses: list[Tensor] = []
        self._trace = divergence.Trace()

    def on_train_start(self) -> None:
        """Give a plateau's scheduler the last score after a stop: Lightning writes a checkpoint before the scheduler has it."""
        plan = self.lr_schedulers()
        if isinstance(plan, torch.optim.lr_scheduler.ReduceLROnPlateau) and plan.last_epoch < len(self.curves):
            plan.step(self.curves[-1][MONITOR])

    def on_train_epoch_start(self) -> None:
        self._losses, self._trace = [], divergence.Trace()

    def on_train_batch_start(self, batch: dict[str, Any], index: int) -> None:
        if index == 0:  # not when the epoch starts: loaders draw after that, and in the first epoch of a process more than in others
            torch.manual_seed(self.seed * 100_003 + self.current_epoch)

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        output = self.predictor(self._augment(batch["inputs"]), batch["present"], batch.get("heard"))
        loss = self.loss(output.prediction, batch["target"], batch["known"])
        if self.global_step == 0 and not torch.is_autocast_enabled(self.device.type):  # half precision may overflow by itself
            with self._sound_inputs():
                given.finite(self.predictor.who, output._asdict())
                for who, *_ in self.loss.of_terms:
                    given.finite(who, {"loss": self.loss.given[who]})
        self._trace.add({f"the {name} of the network": value for name, value in output._asdict().items()} | self.loss.given)
        self._losses.append(loss.detach())
        return loss

    def _augment(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.augmentation is None:
            return inputs
        (name,), steps = self.predictor.dims, inputs["steps"].squeeze(1)
        draw = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        sound = augment(inputs[name].squeeze(1).float() / FULL_SCALE, steps, draw, **self.augmentation.model_dump())
        return inputs | {name: sound.unsqueeze(1)}

    def validation_step(self, batch: Any, _: int) -> None:
        """Predict every validation stream whole. The score is the mean of the tasks' measures on its rows, or on its frames."""
        found, rate = self.outputs(self.trainer.datamodule.validation), self.trainer.optimizers[0].param_groups[0]["lr"]
        with self._sound_inputs():
            divergence.check(self.name, self.current_epoch, rate, torch.stack(self._losses), found[0], self._trace)
        own = selection.scores(self.tasks, *found)
        score = float(np.float32(np.mean(list(own.values()))))  # as Lightning keeps it: a smaller gain makes no epoch better anywhere
        self.log(MONITOR, score, batch_size=1)
        if not self.trainer.sanity_checking:
            loss = float(torch.stack(self._losses).mean())
            each = {f"validation_{task}": value for task, value in own.items()}
            self.curves.append({"epoch": self.current_epoch, "training_loss": loss, MONITOR: score, **each, "learning_rate": rate})
            log.info("epoch %d: training loss %.4f, validation score %.4f, learning rate %.1e", self.current_epoch, loss, score, rate)

    @contextmanager
    def _sound_inputs(self) -> Iterator[None]:
        """Blame a stream that holds NaN or infinity, not model or settings, if the block fails."""
        try:
            yield
        except (PartError, SettingsError):
            data = self.trainer.datamodule
            for inputs, present in [(data.packed.inputs, data.packed.present), *((s.inputs, s.present) for s, *_ in data.validation)]:
                if bad := unsound(inputs, present):
                    raise StoreError(f"{self.name}: want finite numbers in valid rows of {bad}, got nan or inf; {REPAIR}") from None
            raise

    def outputs(self, streams: list[Labelled]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return raw outputs (N, O), target (N, K) and known (N, tasks) of all rows, or frames, of labelled streams."""
        with torch.autocast(self.device.type, enabled=False):  # as in prediction
            parts = zip(*map(self._judged_on, streams), strict=True)
            return tuple(np.concatenate(part) for part in parts)

    def _judged_on(self, stream: Labelled) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sequence = stream.sequence
        raw = _flat(run(self.predictor, sequence, self.device).prediction)
        if self.settings.score == "rows":
            return raw, _flat(stream.target), _flat(stream.known)
        times = sequence.usable.ravel(), sequence.start_s.ravel(), sequence.end_s.ravel()
        raw, _ = spread(raw, *times, sequence.axis, self.predictor.settings)
        smooth, at = self.settings.score_smooth, slices(self.tasks)
        for name, task in self.tasks.items():
            if task.kind == "dimensions" and smooth.filter != "none":
                frames = [smooth.of(column) for column in task.columns]
                raw[:, at[name]] = smoothing.smooth(raw[:, at[name]], np.ones(len(raw), bool), filter=smooth.filter, frames=frames)
        return raw, *stream.of_frames

    def configure_optimizers(self) -> dict[str, Any]:
        optimiser = torch.optim.AdamW(groups(self.predictor, self.settings), weight_decay=self.settings.weight_decay)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule(optimiser, self.settings), "monitor": MONITOR}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["curves"] = json.dumps(self.curves)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curves = jsonfile.parse(checkpoint["curves"])


def _flat(rows: np.ndarray) -> np.ndarray:
    """Reshape (R, C, D) to (R C, D)."""
    return rows.reshape(-1, rows.shape[-1])


def groups(predictor: Predictor, s: Training) -> list[dict[str, Any]]:
    """Return the parameter groups with their learning rates: the head's first, then the encoder layers' if the model trains any."""
    backbone = [p for p in predictor.top.parameters() if p.requires_grad] if predictor.top is not None else []
    own = {id(p) for p in backbone}
    head = [p for p in predictor.parameters() if p.requires_grad and id(p) not in own]
    out = [{"params": head, "lr": s.learning_rate}]
    return [*out, {"params": backbone, "lr": s.backbone_learning_rate}] if backbone else out


def schedule(optimiser: torch.optim.Optimizer, s: Training) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the schedule of learning rates: lowered when the score stalls, or warmed up and then held, or lowered along a cosine."""
    if s.schedule == "plateau":
        least = [s.plateau_least_rate, s.backbone_learning_rate if s.plateau_groups == "head" else s.plateau_least_rate]
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser,
            mode="max",
            factor=s.plateau_factor,
            patience=s.plateau_patience,
            threshold=s.plateau_threshold,
            min_lr=least[: len(optimiser.param_groups)],
        )

    def factor(epoch: int) -> float:
        if epoch < s.warmup_epochs:
            return (epoch + 1) / (s.warmup_epochs + 1)
        if s.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (epoch - s.warmup_epochs) / max(s.epochs - s.warmup_epochs, 1)))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


class Windows(pl.LightningDataModule):
    """Training batches in an order that depends on the seed and the epoch alone, and the validation streams."""

    def __init__(self, packed: Packed, validation: list[Labelled], batch_size: int, seed: int):
        super().__init__()
        self.packed, self.validation, self.batch_size, self.seed = packed, validation, batch_size, seed

    def train_dataloader(self) -> DataLoader:
        order = RandomSampler(self.packed, generator=torch.Generator().manual_seed(self.seed + self.trainer.current_epoch))
        return DataLoader(self.packed, batch_size=None, sampler=BatchSampler(order, self.batch_size, drop_last=False))

    def val_dataloader(self) -> DataLoader:
        return DataLoader([0])  # one step: `validation_step` goes through whole streams itself


@dataclass(frozen=True, eq=False)
class FitRequest:
    """Inputs of a fit.

    Attributes:
        context: context of the model; its fits say where this one is written.
        fold: the fold of training streams that it leaves out; None for none.
        seed: seed of its random numbers. spec, code, inputs: what its key was made from, for its record.
        packages: other packages whose code has a part in it, with their versions, for its record.
        train, validation: streams to fit on and to choose the epoch by.
        outside: streams of partition validation, by which folds are compared; empty if there are none.
        whole: True if its embedding is mapped into the space of the fit on all training streams, which must exist.
    """

    context: Context
    fold: int | None
    seed: int
    spec: Mapping[str, Any]
    code: list[Any]
    inputs: Mapping[str, str]
    packages: Mapping[str, str]
    train: list[Labelled]
    validation: list[Labelled]
    outside: list[Labelled]
    whole: bool


def found(context: Context, fold: int | None) -> dict[str, Any] | None:
    """Return the record of a fit that is in the store already; None if there is none. A damaged one counts as missing, with a warning."""
    path = context.fits.path(fold)
    if not path.exists():
        return None
    try:
        record = read_record(path, context.fits.key)
    except StoreError as error:
        log.warning("%s; fitted anew", error)
        return None
    shutil.rmtree(path.parent / STATE, ignore_errors=True)  # left by a fit that was killed after its model was written
    return record


def fit(request: FitRequest, progress: Progress | None = None) -> dict[str, Any]:
    """Fit a model on streams of partition train; return its record. A fit that was stopped continues from its last epoch.

    Args:
        progress: called after every epoch.
    """
    context, fold, seed = request.context, request.fold, request.seed
    train, validation, outside = request.train, request.validation, request.outside
    name, settings, tasks, path = context.name, context.settings, context.tasks, context.fits.path(fold)
    folder = path.parent
    pl.seed_everything(seed, verbose=False)
    device = pick(context.device)
    backbone = encoder_layers.load(context)
    dims = {settings.reads: backbone.dim} if backbone else widths([s for s, *_ in train])
    for read in (read for read, dim in dims.items() if dim == 0):
        raise ManifestError(f"{name}: want a training stream with {read}, got none; take {read} out of models.{name}.reads")
    for sequence, *_ in [*train, *validation, *outside]:
        widen(sequence, dims)
    with given.by(f"models.{name} (kind {settings.kind})"):
        predictor = Predictor(settings, dims, backbone, outputs=width(tasks), name=name)
    if settings.standardise:
        predictor.measure([s for s, *_ in train])
    packed = Packed([s.sequence for s in train], [(s.target, s.known) for s in train], settings)
    log.info("%s: %d windows of %d streams, %d validation streams", name, len(packed), len(train), len(validation))
    if not len(packed):
        raise ManifestError(f"{name}: want labelled windows in partition train, got none; check the annotations")
    loss = training_loss(tasks, settings.training.loss, packed.target, packed.known, settings.training.terms, name)
    module = Fit(predictor, settings, seed, tasks, loss, name)
    told = Epochs(f"fit {name}", progress) if progress else None
    try:
        best = _train(module, Windows(packed, validation, settings.training.batch_size, seed), folder, device, told)
    except (SettingsError, PartError):  # it diverged, or its code has a bug: the same fit would fail again
        shutil.rmtree(folder / STATE, ignore_errors=True)
        raise
    record = {
        "model": name,
        "key": context.fits.key,
        "fold": fold,
        "spec": request.spec,
        "code": request.code,
        "inputs": request.inputs,
        "packages": dict(request.packages),
        "random": sorted({r for s, *_ in train for r in s.random} | set(backbone.random if backbone else ())),
        "backbone": backbone.record if backbone else None,
        "parameters": sum(p.numel() for p in predictor.parameters()),
        "windows": len(packed),
        "train": [s.id for s, *_ in train],
        "validation": [s.id for s, *_ in validation],
        "best": best,
        "curves": module.curves,
        **_judged(module.to(device), validation, outside),
    }
    if request.whole:
        crossfit.join(predictor.to(device), fitted(context, None, device=device)[0], [s for s, *_ in train], device)
    divergence.check_weights(name, best["epoch"], best["learning_rate"], predictor)
    save(path, predictor, record)
    shutil.rmtree(folder / STATE)
    return read_record(path, context.fits.key)  # as anybody who opens the model reads it


def _judged(module: Fit, validation: list[Labelled], outside: list[Labelled]) -> dict[str, Any]:
    """Judge the best epoch's weights.

    `thresholds` of units and `scores` by task are those on the streams that the fit was validated with. `validation_scores`, and
    `by_output` for the target of each output, are those on the streams of partition validation, the same for every fold. Without such
    streams `validation_scores` is empty, and `by_output` is that of the streams that the fit was validated with.
    """
    own = module.outputs(validation)
    same = own if outside is validation or not outside else module.outputs(outside)
    judged = {"thresholds": selection.thresholds(module.tasks, *own), "scores": selection.scores(module.tasks, *own)}
    judged["validation_scores"] = selection.scores(module.tasks, *same) if outside else {}
    return {**judged, "by_output": selection.by_output(module.tasks, *same)}


class Epochs(Callback):
    """Callback that reports every finished epoch."""

    def __init__(self, name: str, progress: Progress):
        self.name, self.progress = name, progress

    def on_train_epoch_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        self.progress(self.name, trainer.current_epoch + 1, trainer.max_epochs)


def _train(module: Fit, data: Windows, folder: Path, device: torch.device, told: Callback | None) -> dict[str, float]:
    """Run Lightning, load the best epoch's weights into the module, return that epoch's curve entry."""
    checkpoints, settings = folder / STATE, module.settings
    module.curves = epochs.found(checkpoints)
    if not epochs.done(module.curves, settings):
        # The averaged weights come first, so that the other callbacks see them. The callback that writes the state comes last.
        average = [] if settings.ema_decay is None else [EMAWeightAveraging(decay=settings.ema_decay)]
        stop = EarlyStopping(MONITOR, mode="max", patience=settings.stop_patience)
        with warnings.catch_warnings():
            # Lightning advises worker processes and logging intervals; our data are in memory and one epoch is a few batches.
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*num_workers.*")
            trainer = pl.Trainer(
                accelerator="gpu" if device.type == "cuda" else "cpu",
                devices=1,
                max_epochs=settings.epochs,
                callbacks=[*average, stop, *([told] if told else []), epochs.Keep(checkpoints)],
                gradient_clip_val=settings.clip_norm,
                precision=precision(settings, device),
                reload_dataloaders_every_n_epochs=1,
                num_sanity_val_steps=0,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            last = checkpoints / epochs.LAST if module.curves else None
            with disk.telling(checkpoints):
                trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
    module.load_state_dict(epochs.weights(checkpoints))
    module.predictor.eval()
    return module.curves[epochs.best(module.curves)]


def precision(s: Training, device: torch.device) -> str:
    """Return Lightning's word for the precision of training; float16 needs a scaled loss, bfloat16 does not."""
    if s.precision == "float32":
        return "32-true"
    return "16-mixed" if device.type == "cuda" else "bf16-mixed"
