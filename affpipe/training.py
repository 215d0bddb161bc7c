"""Fitting a model: streams and labels in, the best epoch by validation score out. Lightning runs the loop.

Every epoch starts from its own seed, so a run that was stopped and resumed ends where an undisturbed one does.
"""

import json
import logging
import math
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from affpipe import backbone as backbones
from affpipe import build, crossfit, disk, divergence, epochs, jsonfile, judging, sequences, smoothing, store
from affpipe import predictor as models
from affpipe.compat import ensure_torchvision
from affpipe.device import pick
from affpipe.encoders.augment import augment
from affpipe.epochs import MONITOR
from affpipe.errors import ManifestError, SettingsError, StoreError
from affpipe.indexes import Entry
from affpipe.jobs import Job, Progress, inherited
from affpipe.plan import Item, Plan
from affpipe.predict import fitted, nothing_usable, spread
from affpipe.predictor import Predictor, model_path
from affpipe.sequences import FULL_SCALE, Packed, Sequence
from affpipe.settings import ChunkModel, ModelSettings, Training
from affpipe.standins import LIGHTNING, lightly
from affpipe.tasks import slices, width

ensure_torchvision()  # lightning looks for torchvision
lightly("lightning", LIGHTNING)

import lightning as pl  # noqa: E402
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging  # noqa: E402

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
log = logging.getLogger("affpipe")


class Labelled(NamedTuple):
    """A stream to fit or judge with: its input, target (R, C, K) and known (R, C, tasks); of its frames (T, K) and (T, tasks) if scored."""

    sequence: Sequence
    target: np.ndarray
    known: np.ndarray
    of_frames: tuple[np.ndarray, np.ndarray] | None = None


class Fit(pl.LightningModule):
    """Predictor, loss and optimiser."""

    def __init__(self, predictor: Predictor, settings: ModelSettings, seed: int, tasks: tuple[str, ...], loss: nn.Module, name: str = ""):
        super().__init__()
        self.name = name
        self.predictor, self.settings, self.seed = predictor, settings.training, seed
        self.augmentation = getattr(settings, "augment", None)
        self.tasks, self.loss = tasks, loss
        self.curves: list[dict[str, float]] = []
        self._losses: list[Tensor] = []

    def on_train_start(self) -> None:
        """Lightning writes a checkpoint before a plateau's scheduler hears of the epoch's score: after a stop it is told here."""
        plan = self.lr_schedulers()
        if isinstance(plan, torch.optim.lr_scheduler.ReduceLROnPlateau) and plan.last_epoch < len(self.curves):
            plan.step(self.curves[-1][MONITOR])

    def on_train_epoch_start(self) -> None:
        self._losses = []

    def on_train_batch_start(self, batch: dict[str, Any], index: int) -> None:
        if index == 0:  # not when the epoch starts: loaders draw after that, and in the first epoch of a process more than in others
            torch.manual_seed(self.seed * 100_003 + self.current_epoch)

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        output = self.predictor(self._augment(batch["inputs"]), batch["present"], batch.get("heard"))
        loss = self.loss(output.prediction, batch["target"], batch["known"])
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
        """Predict every validation stream whole; the score is the mean of the tasks' measures on its rows, or on its frames."""
        found, rate = self.outputs(self.trainer.datamodule.validation), self.trainer.optimizers[0].param_groups[0]["lr"]
        divergence.check(self.name, self.current_epoch, rate, torch.stack(self._losses), found[0])
        own = judging.scores(self.tasks, *found)
        score = float(np.float32(np.mean(list(own.values()))))  # as Lightning keeps it: nobody else may see an epoch that is better by less
        self.log(MONITOR, score, batch_size=1)
        if not self.trainer.sanity_checking:
            loss = float(torch.stack(self._losses).mean())
            each = {f"validation_{task}": value for task, value in own.items()}
            self.curves.append({"epoch": self.current_epoch, "training_loss": loss, MONITOR: score, **each, "learning_rate": rate})
            log.info("epoch %d: training loss %.4f, validation score %.4f, learning rate %.1e", self.current_epoch, loss, score, rate)

    def outputs(self, streams: list[Labelled]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Raw outputs (N, O), target (N, K) and known (N, tasks) of all rows, or frames, of labelled streams."""
        with torch.autocast(self.device.type, enabled=False):  # as it will be applied
            parts = zip(*map(self._judged_on, streams), strict=True)
            return tuple(np.concatenate(part) for part in parts)

    def _judged_on(self, stream: Labelled) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sequence = stream.sequence
        raw = _flat(models.run(self.predictor, sequence, self.device).prediction)
        if self.settings.score == "rows":
            return raw, _flat(stream.target), _flat(stream.known)
        times = sequence.usable.ravel(), sequence.start_s.ravel(), sequence.end_s.ravel()
        raw, _ = spread(raw, *times, sequence.axis, self.predictor.settings)
        smooth = self.settings.score_smooth
        if "va" in self.tasks and smooth.filter != "none":
            at, widths = slices(self.tasks)["va"], (smooth.valence_frames, smooth.arousal_frames)
            raw[:, at] = smoothing.smooth(raw[:, at], np.ones(len(raw), bool), filter=smooth.filter, frames=widths)
        return raw, *stream.of_frames

    def configure_optimizers(self) -> dict[str, Any]:
        optimiser = torch.optim.AdamW(groups(self.predictor, self.settings), weight_decay=self.settings.weight_decay)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule(optimiser, self.settings), "monitor": MONITOR}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["curves"] = json.dumps(self.curves)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curves = jsonfile.parse(checkpoint["curves"])


def _flat(rows: np.ndarray) -> np.ndarray:
    """(R, C, D) -> (R C, D)."""
    return rows.reshape(-1, rows.shape[-1])


def groups(predictor: Predictor, s: Training) -> list[dict[str, Any]]:
    """Parameters with their learning rate: first those of the head, then those of the encoder's layers, where it trains any."""
    backbone = [p for p in predictor.top.parameters() if p.requires_grad] if predictor.top is not None else []
    own = {id(p) for p in backbone}
    head = [p for p in predictor.parameters() if p.requires_grad and id(p) not in own]
    out = [{"params": head, "lr": s.learning_rate}]
    return [*out, {"params": backbone, "lr": s.backbone_learning_rate}] if backbone else out


def schedule(optimiser: torch.optim.Optimizer, s: Training) -> torch.optim.lr_scheduler.LRScheduler:
    """Learning rates by epoch: lowered where the validation score stalls, or warmed up and then held, or lowered along a cosine."""
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


def fit(
    plan: Plan, name: str, entries: Mapping[str, Mapping[str, Entry]], fold: int | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Fit model `name` on the streams of partitions train and validation; return its record.

    Nothing is done if the model is in the store already. A fit that was stopped goes on from its last epoch.

    Args:
        entries: for each stage that the model learns from, what became of its items.
        fold: training streams to leave out; the embedding is then brought into the space of the fit on all, which must be there. With
            cross-validation they are what this fit is validated with.
        progress: told of every epoch that is done.
    """
    key, settings = plan.key(name), plan.settings.models[name]
    folder = Path(plan.fitted(name, fold)).parent
    path = model_path(folder)
    if path.exists():
        try:
            record = models.read_record(path, key)
            shutil.rmtree(folder / store.STATE, ignore_errors=True)  # of a fit that was killed when its model was there
            return record
        except StoreError as error:
            log.warning("%s; fitted anew", error)
    tasks, held_out = plan.settings.tasks, fold is not None and plan.settings.cross_validation is not None
    train = _labelled(plan, name, entries, "train", lambda item: fold is None or plan.fold(name, item) != fold)
    outside = _labelled(plan, name, entries, "validation")
    validation = _labelled(plan, name, entries, "train", lambda item: plan.fold(name, item) == fold) if held_out else outside
    seed = plan.seed(name)
    pl.seed_everything(seed, verbose=False)
    device = pick(plan.settings.device)
    backbone = backbones.load(plan, name)
    dims = {settings.reads: backbone.dim} if backbone else sequences.widths([s for s, *_ in train])
    for read in (read for read, dim in dims.items() if dim == 0):
        raise ManifestError(f"{name}: want a training stream with {read}, got none; take {read} out of models.{name}.reads")
    for sequence, *_ in [*train, *validation, *outside]:
        sequences.widen(sequence, dims)
    predictor = Predictor(settings, dims, backbone, outputs=width(tasks))
    if settings.standardise:
        predictor.measure([s for s, *_ in train])
    packed = Packed([s.sequence for s in train], [(s.target, s.known) for s in train], settings)
    log.info("%s: %d windows of %d streams, %d validation streams", name, len(packed), len(train), len(validation))
    if not len(packed):
        raise ManifestError(f"{name}: want labelled windows in partition train, got none; check the annotations")
    loss = build.loss(tasks, settings.training.loss, packed.target, packed.known)
    module = Fit(predictor, settings, seed, tasks, loss, name)
    told = Epochs(f"fit {name}", progress) if progress else None
    try:
        best = _train(module, Windows(packed, validation, settings.training.batch_size, seed), folder, device, told)
    except SettingsError:  # it diverged: the same again would end so too
        shutil.rmtree(folder / store.STATE, ignore_errors=True)
        raise
    record = {
        "model": name,
        "key": key,
        "fold": fold,
        "spec": plan.spec(name),
        "inputs": plan.inputs(name),
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
    if fold is not None and plan.fused(name):
        crossfit.join(predictor.to(device), fitted(plan, name, None, device=device)[0], [s for s, *_ in train], device)
    divergence.check_weights(name, best["epoch"], best["learning_rate"], predictor)
    models.save(path, predictor, record)
    shutil.rmtree(folder / store.STATE)
    return models.read_record(path, key)  # as whoever finds the model has it


def _judged(module: Fit, validation: list[Labelled], outside: list[Labelled]) -> dict[str, Any]:
    """What the best epoch's weights give: `thresholds` of units and `scores` by task on the streams that the fit was validated with;
    `validation_scores`, and `by_output` for the target of each output, on the streams of partition validation, the same for every fold.
    """
    own = module.outputs(validation)
    same = own if outside is validation else module.outputs(outside)
    judged = {"thresholds": judging.thresholds(module.tasks, *own), "scores": judging.scores(module.tasks, *own)}
    return {**judged, "validation_scores": judging.scores(module.tasks, *same), "by_output": judging.by_output(module.tasks, *same)}


def _labelled(
    plan: Plan, name: str, entries: Mapping[str, Mapping[str, Entry]], partition: str, wanted: Callable[[Item], bool] = lambda item: True
) -> list[Labelled]:
    """Sequences of a partition with their labels; streams that have no input are left out and named in the log."""
    out, settings = [], plan.settings.models[name]
    for item in plan.items(name):
        if not (item.row.labelled(plan.settings.tasks, partition) and wanted(item)):
            continue
        reason = inherited(plan, name, item, entries, plan.learns(name) if partition == "train" else (*plan.reads(name), "labels"))
        if reason is not None:
            log.warning("%s: %s: left out of %s: %s", name, item.id, partition, reason.reason)
            continue
        job = Job(plan, name, item)
        sequence = sequences.read(job, settings, fitting=partition == "train")
        target, known = sequences.labels(job, sequence, settings, partition)
        of_frames = sequences.known_frames(job, partition) if settings.training.score == "frames" else None
        usable = sequence.usable.any()
        if isinstance(settings, ChunkModel):  # rows stand alone, and are large
            rows = known.any(axis=(1, 2))
            sequence, target, known = sequence.only(rows), target[rows], known[rows]
        if len(sequence):
            out.append(Labelled(sequence, target, known, of_frames))
        else:
            what = "no label on what there is" if usable else nothing_usable(job, settings, sequence, fitting=partition == "train")
            log.warning("%s: %s: left out of %s: %s", name, item.id, partition, what)
    if not any(stream.known.any() for stream in out):
        raise ManifestError(
            f"{name}: want labelled frames in partition {partition}, got none that the model can use; the log says of each stream why"
        )
    return out


class Epochs(Callback):
    """Tells of every epoch that is done."""

    def __init__(self, name: str, progress: Progress):
        self.name, self.progress = name, progress

    def on_train_epoch_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        self.progress(self.name, trainer.current_epoch + 1, trainer.max_epochs)


def _train(module: Fit, data: Windows, folder: Path, device: torch.device, told: Callback | None) -> dict[str, float]:
    """Run Lightning, leave the best epoch's weights in the module, return that epoch's curve entry."""
    checkpoints, settings = folder / store.STATE, module.settings
    module.curves = epochs.found(checkpoints)
    if not epochs.done(module.curves, settings):
        # The averaged weights come first, so that the others see them, and what keeps the state comes last.
        average = [] if settings.ema_decay is None else [EMAWeightAveraging(decay=settings.ema_decay)]
        stop = EarlyStopping(MONITOR, mode="max", patience=settings.stop_patience)
        with warnings.catch_warnings():
            # Lightning advises worker processes and logging intervals; our data lies in memory and one epoch is a few batches.
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
    """Lightning's word for the precision of training; float16 comes with a scaled loss, bfloat16 needs none."""
    if s.precision == "float32":
        return "32-true"
    return "16-mixed" if device.type == "cuda" else "bf16-mixed"


def write_fit(path: Path, record: Mapping[str, Any]) -> None:
    """Write the file that tells the workflow that a model is fitted."""
    disk.write_text(path, json.dumps(record, indent=1, sort_keys=True) + "\n")
