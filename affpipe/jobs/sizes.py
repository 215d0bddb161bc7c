"""Arithmetic of a run: rows, bytes on disk and in GPU memory of each stage, from settings and the lengths of videos alone.

Shapes and dtypes are those of the stages, chunks those of `store.Writer`. What a JPEG or a FLAC takes depends on what it shows or says;
the figures for them are of the demo.
"""

import math
import os
from functools import lru_cache
from pathlib import Path
from statistics import mean

from affpipe.core.tasks.task import width
from affpipe.jobs.durations import Length
from affpipe.models.settings import Attention, ChunkModel, CrossAttentionModel, Fusion, MambaModel, ModelSettings, RAAVModel
from affpipe.plan.plan import Item, Plan
from affpipe.store.streams import CHUNK_BLOB, CHUNK_BYTES, CHUNK_ROWS
from affpipe.system.weights.network_sizes import Network, network

JPEG_BYTES = {
    75: 0.11,
    90: 0.20,
    95: 0.30,
    100: 0.65,
}  # quality -> bytes a pixel of a face crop; the demo's at 90, others assumed
FLAC_HEAD = 6000  # bytes: attributes, and the place that is kept for what will be found of the sound
FLAC_PART = 0.5  # of 16-bit samples; the demo's voices take 0.44, rooms with noise more
WAVLM_STRIDE, WAVLM_FIELD = 320, 400  # samples between two rows of WavLM, and in the first one
VAD_STEP = 512  # samples
TIMES = (8, 8, 1)  # bytes a row of start_s, end_s, valid
FILE_BYTES, DATASET_BYTES = 8192, 1152  # of an HDF5 file with five datasets, and of each one more
CHUNK_ENTRY = 20  # bytes: checksum of a chunk, and its place in the index
CUDA_BYTES = 0.6e9  # of a CUDA context with cuBLAS and cuDNN loaded
LANDMARK_BYTES = 478 * 3 * 4  # of a frame
TEXT_TOKENS = 350  # of the prompt and the timestamps of a segment


# ---- rows -------------------------------------------------------------------------------------------------------------------------------


def rows(plan: Plan, name: str, length: Length) -> int:
    """Rows of the stream of a stage; one face is taken to be in every frame."""
    s = plan.settings
    rate = s.audio.sample_rate_hz
    if not length.audio and _hears(plan, name):
        return 0
    if name in s.models:
        model = s.models[name]
        if model.members:
            return length.frames
        return rows(plan, model.reads, length) * (model.chunks if isinstance(model, ChunkModel) else 1)
    match plan.kind(name):
        case "audio":
            return round(length.seconds * rate)
        case "vad":
            return math.ceil(length.seconds * rate / VAD_STEP)
        case "speech" | "qwen3vl" | "wavlm" | "logmel":
            grid = s.speech if name == "speech" else s.features[name]
            return 1 + max(0, math.ceil((length.seconds - grid.length_s) / grid.hop_s - 1e-9))
        case _:
            return length.frames


def _hears(plan: Plan, name: str) -> bool:
    """Whether a stage has nothing to read where there is no audio track."""
    fuses = name in plan.settings.models and plan.settings.models[name].members
    return name == "audio" or (not fuses and any(_hears(plan, read) for read in plan.reads(name)))


def window_rows(plan: Plan, name: str) -> int:
    """Rows that WavLM or a spectrogram gives for a whole window."""
    s, rate = plan.settings.features[name], plan.settings.audio.sample_rate_hz
    samples = round(s.length_s * rate)
    if s.encoder == "wavlm":
        return max(0, (samples - WAVLM_FIELD) // WAVLM_STRIDE + 1)
    return max(0, (samples - round(s.frame_s * rate)) // round(s.step_s * rate) + 1)


# ---- networks ---------------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def encoder(plan: Plan, name: str) -> Network | None:
    """The checkpoint that a stage runs, None if it runs none. Kept: it is asked for with every stream, and reads files."""
    s = plan.settings
    section = s.features.get(name) or (s.faces if name == "faces" and s.faces.source == "video" and s.faces.detector == "yolo" else None)
    if section is None or not hasattr(section, "weights"):
        return None
    return network(Path(s.weights) / section.weights, getattr(section, "encoder", "yolo"))


def feature_width(plan: Plan, name: str) -> int:
    """Width of the vectors that a feature offers to a model."""
    feature = plan.settings.features[name]
    match feature.encoder:
        case "mesh":
            return 144
        case "grada":
            return 256
        case "logmel":
            return feature.mels
        case _:
            return encoder(plan, name).width


def parameters(plan: Plan, name: str) -> int:
    """Parameters of a model, those of its matrices: biases and norms are left out. Encoder layers within it are in round figures."""
    model = plan.settings.models[name]
    outputs, hidden = width(plan.settings.tasks), model.hidden
    if model.members:
        more = outputs if model.inputs == "embedding_and_prediction" else 0
        project = sum(plan.settings.models[m].hidden + more for m in model.members) * hidden
        return project + _fusion(model, outputs)
    wide = feature_width(plan, model.reads)
    if isinstance(model, ChunkModel):
        layers = getattr(plan.settings.features[model.reads], "trained_layers", 0)
        return (wide + 1) * model.attention_hidden + 2 * wide * hidden + hidden * outputs + layers * 12 * wide**2
    if isinstance(model, MambaModel):
        return wide * hidden + model.layers * _mamba(model) + (hidden + outputs) * model.head_hidden
    return wide * hidden + _stack(model) + hidden**2 + hidden * outputs


def _fusion(model: Fusion, outputs: int) -> int:
    """Matrices of a fusion but for its projections."""
    hidden, members = model.hidden, len(model.members)
    if isinstance(model, RAAVModel):  # a score for each model of what is seen, latents, two attentions to them, layers, head
        scores = (members - 1) * (hidden**2 + hidden)
        return scores + model.latents * hidden + 8 * hidden**2 + _stack(model) + hidden**2 + hidden * outputs
    if isinstance(model, CrossAttentionModel):
        return _stack(model) + hidden**2 + hidden * outputs
    return experts(model) * (_stack(model) + hidden) + hidden * outputs


def experts(model: ModelSettings) -> int:
    """Stacks of layers that a model holds beside each other."""
    return len(model.members) * (len(model.members) - 1) if model.kind == "dcmmoe" else 1


def _stack(model: Attention | RAAVModel) -> int:
    return model.layers * (4 * model.hidden**2 + 2 * model.hidden * model.feedforward)


def _mamba(model: MambaModel) -> int:
    """Matrices of a block."""
    hidden = model.hidden
    if model.block == "ras2026":
        return 3 * hidden**2 + hidden * (2 * max(1, hidden // 16) + 3 * model.state + model.kernel)
    return 6 * hidden**2 + 2 * hidden * (2 * math.ceil(hidden / 16) + 3 * model.state + model.kernel)


def tokens(plan: Plan, name: str) -> int:
    """Tokens of a segment of Qwen3-VL, at most: one for 32 x 32 pixels of two frames, and the text."""
    s = plan.settings.features[name]
    return math.ceil(s.frames / 2) * (s.max_pixels // 1024) + TEXT_TOKENS


# ---- disk -------------------------------------------------------------------------------------------------------------------------------


def disk(plan: Plan, name: str, item: Item, length: Length) -> int:
    """Bytes of the stream of an item."""
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
    """Bytes of a dataset of so many rows, of which `first` were written at once: chunks are stored whole."""
    chunk = max(1, min(CHUNK_BYTES // row_bytes, max(first, CHUNK_ROWS)))
    return math.ceil(count / chunk) * (chunk * row_bytes + CHUNK_ENTRY)


def _layout(plan: Plan, name: str, count: int) -> tuple[int, tuple[int, ...]]:
    """Rows of the first write, and bytes a row of each dataset but times."""
    s = plan.settings
    outputs = width(s.tasks)
    if name in s.models:
        model = s.models[name]
        gate = {"dcmmoe": experts(model), "raav": len(model.members) - 1}.get(model.kind, 0)
        folds = s.cross_validation.folds if s.cross_validation else 0
        own = (2 * model.hidden, 4 * outputs, 1, 4 * gate, 4 * outputs * folds)
        return count, tuple(row for row in own if row)
    match plan.kind(name):
        case "frames" | "vad":
            return count, (4,)
        case "labels":
            return count, (8 * width(s.tasks, "columns"), len(s.tasks))
        case "faces":
            return 0, (16, 8, 8, 4, 1, 16, 8)
        case "subject":
            return count, (16, 8)
        case "landmarks":
            return min(count, 256), (LANDMARK_BYTES,)
        case "mouth":
            return count, (8,)
        case "speech":
            return count, (16 if "vad" in plan.names else 12,)
        case "mesh":
            return min(count, 4096), (144 * 4,)
        case "grada":
            return min(count, 256), (1024, 32, 8)
        case "qwen3vl":
            return s.features[name].batch_size, (2 * feature_width(plan, name),) * 6
        case _:  # wavlm, logmel
            return min(count, 64), (2 * feature_width(plan, name) * window_rows(plan, name), 4)


def _images(item: Item) -> int:
    """Files in a stream's folder of images."""
    try:
        return len(os.listdir(item.row.images))
    except OSError:
        return 0


def crop_bytes(plan: Plan, item: Item) -> float:
    """Bytes of one crop as JPEG: of a stream's own images, or of crops as large as the settings let them be."""
    faces = plan.settings.faces
    if faces.source == "images":
        sizes = [path.stat().st_size for path in list(item.row.images.iterdir())[:20] if path.is_file()]
        return mean(sizes) if sizes else 0.0
    quality = min(JPEG_BYTES, key=lambda known: abs(known - faces.jpeg_quality))
    return JPEG_BYTES[quality] * faces.crop_side**2


def fit_disk(plan: Plan, model: str) -> int:
    """Bytes of the fits of a model, float32, and of the checkpoints of one at work: best and last, each with AdamW's two moments."""
    one = 4 * parameters(plan, model)
    return len(plan.fits(model)) * one + 6 * one


# ---- GPU memory -------------------------------------------------------------------------------------------------------------------------


def gpu(plan: Plan, name: str) -> float | None:
    """Bytes of GPU memory that a stage takes; None for one that runs on the CPU whatever the setting `device`."""
    s = plan.settings
    if name in s.models:
        model = s.models[name]
        seen = min(model.window, 400) * (window_rows(plan, model.reads) if isinstance(model, ChunkModel) else 1)
        return CUDA_BYTES + 4 * (parameters(plan, name) + 64 * model.hidden * seen)
    found = encoder(plan, name)
    if found is None:
        return None
    section = s.features.get(name, s.faces)
    number = 2 if getattr(section, "dtype", "float32") == "bfloat16" else 4
    return CUDA_BYTES + number * (found.parameters + section.batch_size * _activations(plan, name, found))


def _activations(plan: Plan, name: str, found: Network) -> float:
    """Numbers that one item of a batch holds in memory at once."""
    s = plan.settings
    match plan.kind(name):
        case "qwen3vl":  # a layer's states, its widest product, and six float32 copies of the last states to pool
            return tokens(plan, name) * found.width * 24
        case "wavlm":  # the first convolution gives 512 channels at a fifth of the sample rate
            return s.features[name].length_s * s.audio.sample_rate_hz / 5 * 512 * 3
        case "grada":
            return s.features[name].side ** 2 * 32 * 6
        case _:
            return s.faces.image_side**2 * 16 * 6


def fit_gpu(plan: Plan, model: str) -> float:
    """Bytes of GPU memory of a fit: weights, gradients and AdamW's two moments, and what backpropagation keeps of a batch."""
    settings, s = plan.settings.models[model], plan.settings
    batch, count = settings.training.batch_size, parameters(plan, model)
    if isinstance(settings, ChunkModel):
        wide, long = feature_width(plan, settings.reads), window_rows(plan, settings.reads)
        layers = getattr(s.features[settings.reads], "trained_layers", 0)
        kept = batch * long * wide * (6 + 20 * layers) + batch * layers * 16 * long**2
        if not settings.cache_frozen:
            count += encoder(plan, settings.reads).parameters
        return CUDA_BYTES + 4 * (4 * count + kept)
    long, heads = settings.window, getattr(settings, "heads", 0)
    per_layer = 12 * long * settings.hidden + heads * long**2 * 2
    if isinstance(settings, MambaModel):
        per_layer = long * settings.hidden * (1 if settings.block == "ras2026" else 2) * (8 + 4 * settings.state)
    return CUDA_BYTES + 4 * (4 * count + batch * experts(settings) * settings.layers * per_layer)
