"""Scores: predictions against truth, pooled over frames and within each video, beside what a constant would get."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from affpipe import formats, metrics
from affpipe.errors import InputError, ManifestError
from affpipe.metrics import Video

TOLERANCE = 50  # frames by which label files and videos of Aff-Wild2 differ in length


def folders(truth: Path, predicted: Path) -> dict[str, Video]:
    """Pairs of official text files of the same name; every truth file must have its prediction."""
    for folder in (truth, predicted):
        if not folder.is_dir():
            raise InputError(f"{folder}: want a folder of official text files, got none; check the path")
    names = sorted(path.name for path in truth.glob("*.txt"))
    if not names:
        raise InputError(f"{truth}: want official text files (*.txt), got none; check the path")
    missing = [name for name in names if not (predicted / name).is_file()]
    if missing:
        raise InputError(
            f"{predicted}: want a prediction for each of {len(names)} truth files, got none for {', '.join(missing[:3])}; predict them"
        )
    return {Path(name).stem: pair(truth / name, predicted / name) for name in names}


def pair(truth: Path, predicted: Path) -> Video:
    """Truth and prediction of one stream. Frames valid in the truth must have a value; truth rows beyond the video's end do not count.

    Label files and videos of Aff-Wild2 differ in length by a few frames, so up to TOLERANCE annotated rows may lie beyond the prediction.
    """
    (values, valid), (prediction, given) = formats.read_labels("va", truth), formats.read_labels("va", predicted)
    n = min(len(values), len(prediction))
    hole = valid[:n] & ~given[:n]
    if hole.any():
        raise ManifestError(
            f"{predicted}: line {int(np.argmax(hole)) + 2}: want a value where {truth} has one, got -5; predict every frame"
        )
    beyond = int(valid[n:].sum())
    if beyond > TOLERANCE:
        raise ManifestError(
            f"{predicted}: want a row a frame, got {len(prediction)} rows where {truth} annotates {beyond} more; predict every frame"
        )
    return values[:n], prediction[:n], valid[:n]


def score(videos: Mapping[str, Video]) -> dict[str, Any]:
    """All figures of one system.

    Returns `ccc_valence`, `ccc_arousal`, `ccc` (pooled over all valid frames), `within_video` (mean over videos of the same three),
    `constant` (pooled, each video's own mean of the truth as its prediction), `videos` (the three and `frames` per video), `left_out`
    (videos with fewer than two valid frames, which count in the pooled figures alone), `frames`.
    """
    if not any(valid.any() for *_, valid in videos.values()):
        raise InputError("evaluate: want at least one valid frame in the truth, got none; check the annotations")
    within = metrics.within_video(videos)
    return {
        **metrics.pooled(videos),
        "within_video": within.scores,
        "constant": metrics.constant_baseline(videos),
        "videos": within.table,
        "left_out": within.left_out,
        "frames": int(sum(v[2].sum() for v in videos.values())),
    }


def table(scores: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Rows of text for a table of systems: name, pooled V, A, mean, within-video V, A, mean."""
    if not scores:
        raise InputError("evaluate: want at least one scored system, got none; a run scores the models that predicted a validation stream")
    keys = ("ccc_valence", "ccc_arousal", "ccc")
    rows = [(name, *(f"{s[k]:.3f}" for k in keys), *(f"{s['within_video'][k]:.3f}" for k in keys)) for name, s in scores.items()]
    first = next(iter(scores.values()))
    return [*rows, ("constant per video", *(f"{first['constant'][k]:.3f}" for k in keys), "-", "-", "-")]


TABLE_HEAD = ("system", "CCC V", "CCC A", "mean", "within-video V", "A", "mean")


def to_json(scores: Mapping[str, Any]) -> str:
    """JSON with full precision; a figure that does not exist (no video has two valid frames) is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(v) for key, v in value.items()}
        return None if isinstance(value, float) and np.isnan(value) else value

    return json.dumps(plain(scores), indent=1, sort_keys=True, allow_nan=False) + "\n"
