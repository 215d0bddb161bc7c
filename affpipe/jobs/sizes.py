"""Arithmetic of a run: rows, bytes on disk and in GPU memory of each stage, from settings and the lengths of videos alone.

Shapes and dtypes are those of the stages, chunks those of `store.Writer`. The size of a JPEG or a FLAC depends on its content; the figures
for them are from the demo.
"""

import math
import os
from functools import lru_cache
from statistics import mean

from affpipe.core.item import Item
from affpipe.core.stage import Cost, Network
from affpipe.core.tasks.task import width
from affpipe.faces.stages import LANDMARK_BYTES
from affpipe.jobs.durations import Length
from affpipe.models.table import MODELS, takes
from affpipe.plan.plan import Plan
from affpipe.store.streams import CHUNK_BLOB, CHUNK_BYTES, CHUNK_ROWS
from affpipe.system.weights.network_sizes import network

JPEG_BYTES = {
    75: 0.11,
    90: 0.20,
    95: 0.30,
    100: 0.65,
}  # quality -> bytes per pixel of a face crop; the demo's at 90, others assumed
FLAC_HEAD = 6000  # bytes: attributes, and the place that is kept for what will be found of the sound
FLAC_PART = 0.5  # share of 16-bit samples; the demo's voices take 0.44, rooms with noise more
TIMES = (8, 8, 1)  # bytes per row of start_s, end_s, valid
FILE_BYTES, DATASET_BYTES = 8192, 1152  # of an HDF5 file with five datasets, and of each one more
CHUNK_ENTRY = 20  # bytes: checksum of a chunk, and its place in the index
CUDA_BYTES = 0.6e9  # a CUDA context with cuBLAS and cuDNN loaded


# ---- rows -------------------------------------------------------------------------------------------------------------------------------


def rows(plan: Plan, name: str, length: Length) -> int:
    """Return the rows of the stream of a stage; one face is assumed in every frame."""
    s = plan.settings
    rate = s.audio.sample_rate_hz
    if not length.audio and _hears(plan, name):
        return 0
    if name in s.models:
        model = s.models[name]
        if model.members:
            return length.frames
        return rows(plan, model.reads, length) * getattr(model, "chunks", 1)
    stage = plan.stage(name)
    match stage.axis:
        case "samples":
            return round(length.seconds * rate)
        case "steps":
            step_s = stage.step_s(plan.context(name)) if callable(stage.step_s) else stage.step_s
            return math.ceil(length.seconds / step_s - 1e-9)
        case "windows":
            grid = plan.context(name).settings
            return 1 + max(0, math.ceil((length.seconds - grid.length_s) / grid.hop_s - 1e-9))
    return length.frames


def _hears(plan: Plan, name: str) -> bool:
    """Tell whether a stage has nothing to read if there is no audio track."""
    fuses = name in plan.settings.models and plan.settings.models[name].members
    return name == "audio" or (not fuses and any(_hears(plan, read) for read in plan.reads(name)))


# ---- networks ---------------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def encoder(plan: Plan, name: str) -> Network | None:
    """Return the checkpoint that a stage runs; None if it runs none. It is cached: every stream needs it, and it reads files."""
    stage, context = plan.stage(name), plan.context(name)
    usual = stage.network(context) if callable(stage.network) else stage.network
    return None if usual is None else network(context.weights / context.settings.weights, usual)


def window_rows(plan: Plan, model: str) -> int:
    """Return the rows of the network that a model sees of a whole window: its own, or of the sound that its feature has windows of."""
    settings = plan.settings.models[model]
    if takes(settings) != "windows":
        return settings.window
    return plan.stage(settings.reads).steps(plan.context(settings.reads))


def feature_width(plan: Plan, name: str) -> int:
    """Return the width of the vectors that a feature offers to a model."""
    stage = plan.stage(name)
    return stage.width(plan.context(name).settings, encoder(plan, name))


@lru_cache(maxsize=256)
def parameters(plan: Plan, name: str) -> int:
    """Return the number of parameters of a model: its network is built without memory. Encoder layers within it are in round figures."""
    import torch

    model, outputs = plan.settings.models[name], width(plan.tasks)
    if model.members:
        more = outputs if model.inputs == "embedding_and_prediction" else 0
        dims = {member: plan.settings.models[member].hidden + more for member in model.members}
    else:
        dims = {model.reads: feature_width(plan, model.reads)}
    with torch.device("meta"):
        built = MODELS[model.kind].build(model, dims, outputs)
    layers = 0 if model.members else getattr(plan.settings.features[model.reads], "trained_layers", 0)
    return sum(p.numel() for p in built.parameters()) + layers * 12 * max(dims.values()) ** 2


# ---- disk -------------------------------------------------------------------------------------------------------------------------------


def disk(plan: Plan, name: str, item: Item, length: Length) -> int:
    """Return the bytes of the stream of an item."""
    count = rows(plan, name, length)
    if count == 0:
        return 0
    if name == "audio":
        return FLAC_HEAD + round(2 * FLAC_PART * count)
    if name == "landmarks" and plan.settings.faces.source == "images":  # a chunk without a face takes no room
        count = min(count, max(1, _images(item)) * (CHUNK_BYTES // LANDMARK_BYTES))
    first, own = _layout(plan, name, count)
    datasets = (*own, *TIMES)
    size = sum(stored(row, count, first) for row in datasets)
    extra = 0
    if name == "faces":
        size += stored(1, round(count * crop_bytes(plan, item)), max(first, CHUNK_BLOB))
        extra = 1
    return size + FILE_BYTES + DATASET_BYTES * max(0, len(datasets) + extra - 5)


def stored(row_bytes: int, count: int, first: int) -> int:
    """Return the bytes of a dataset of so many rows, of which `first` were written at once: chunks are stored whole."""
    chunk = max(1, min(CHUNK_BYTES // row_bytes, max(first, CHUNK_ROWS)))
    return math.ceil(count / chunk) * (chunk * row_bytes + CHUNK_ENTRY)


def _layout(plan: Plan, name: str, count: int) -> tuple[int, tuple[int, ...]]:
    """Return the rows of the first write, and bytes per row of each dataset except times."""
    s, stage = plan.settings, plan.stage(name)
    if stage is None:
        model, outputs = s.models[name], width(plan.tasks)
        folds = s.cross_validation.folds if s.cross_validation else 0
        own = (2 * model.hidden, 4 * outputs, 1, 4 * MODELS[model.kind].gates(model), 4 * outputs * folds)
        return count, tuple(row for row in own if row)
    context = plan.context(name)
    block = stage.block(context.settings) if callable(stage.block) else stage.block
    return count if block is None else min(count, block), stage.row_bytes(context, encoder(plan, name))


def _images(item: Item) -> int:
    """Count the files in a stream's folder of images."""
    try:
        return len(os.listdir(item.row.images))
    except OSError:
        return 0


def crop_bytes(plan: Plan, item: Item) -> float:
    """Return the bytes of one crop as JPEG: of a stream's own images, or of crops as large as the settings allow."""
    faces = plan.settings.faces
    if faces.source == "images":
        sizes = [path.stat().st_size for path in list(item.row.images.iterdir())[:20] if path.is_file()]
        return mean(sizes) if sizes else 0.0
    quality = min(JPEG_BYTES, key=lambda known: abs(known - faces.jpeg_quality))
    return JPEG_BYTES[quality] * faces.crop_side**2


def fit_disk(plan: Plan, model: str) -> int:
    """Return the bytes of the fits of a model, float32, and of one running fit's checkpoints: best and last, with AdamW's two moments."""
    one = 4 * parameters(plan, model)
    return len(plan.fits(model)) * one + 6 * one


# ---- GPU memory -------------------------------------------------------------------------------------------------------------------------


def cost(plan: Plan, name: str) -> Cost | None:
    """Return the declared cost of a row of a stage."""
    stage = plan.stage(name)
    return stage.cost(plan.context(name)) if callable(stage.cost) else stage.cost


def gpu(plan: Plan, name: str) -> float | None:
    """Return the bytes of GPU memory that a stage takes; None for one that runs on the CPU whatever the setting `device`."""
    if name in plan.settings.models:
        model = plan.settings.models[name]
        seen = min(model.window, 400) if takes(model) != "windows" else window_rows(plan, name)
        return CUDA_BYTES + 4 * (parameters(plan, name) + 64 * model.hidden * seen)
    found, context = encoder(plan, name), plan.context(name)
    if found is None:
        return None
    number = 2 if getattr(context.settings, "dtype", "float32") == "bfloat16" else 4
    held = context.settings.batch_size * cost(plan, name).activations(context, found)
    return CUDA_BYTES + number * (found.parameters + held)


def fit_gpu(plan: Plan, model: str) -> float:
    """Return the bytes of GPU memory of a fit: weights, gradients and AdamW's two moments, and what backpropagation keeps of a batch."""
    settings, s = plan.settings.models[model], plan.settings
    batch, count = settings.training.batch_size, parameters(plan, model)
    if takes(settings) == "windows":
        wide, long = feature_width(plan, settings.reads), window_rows(plan, model)
        layers = getattr(s.features[settings.reads], "trained_layers", 0)
        kept = batch * long * wide * (6 + 20 * layers) + batch * layers * 16 * long**2
        if settings.within:
            count += encoder(plan, settings.within).parameters
        return CUDA_BYTES + 4 * (4 * count + kept)
    return CUDA_BYTES + 4 * (4 * count + batch * MODELS[settings.kind].kept(settings, settings.window))
