"""What one pass over the video for `faces` and `qwen3vl` together would save: at most the decoding of one of them.

faces, qwen3vl: the stages as the workflow runs them, networks loaded. decoding: the pass that they would share, nothing converted.
The network of `qwen3vl` is tiny, and frames are made small for it: with the published one the saving is a smaller part.
"""

import tempfile
from pathlib import Path
from typing import Any

from affpipe.jobs import workers
from affpipe.media.reader import VideoPass, open_media
from affpipe.plan.plan import Plan
from affpipe.store import streams
from benchmarks.speed import inputs
from benchmarks.speed.arms import Arm, DisagreeError, Row, take_turns
from benchmarks.speed.workspace import tiny_weights, workspace


def rows(*, quick: bool) -> list[Row]:
    """The part of both stages that the pass is."""
    seconds, size = (2, inputs.SMALL) if quick else (5, inputs.WIDE)
    film = inputs.film(seconds, size)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights"
        tiny_weights(weights)
        plan = workspace(Path(folder) / "run", film, weights)
        _arm(plan, "frames")()
        arms = {"faces": _arm(plan, "faces"), "qwen3vl": _arm(plan, "qwen3vl"), "decoding": lambda: _decoded(film)}
        costs, outputs = take_turns(arms, units=25 * seconds, rounds=1 if quick else 3, compare=_compare)
    saved = 100 * costs["decoding"].cpu_ms / (costs["faces"].cpu_ms + costs["qwen3vl"].cpu_ms)
    what = f"faces and qwen3vl of {size[0]}x{size[1]} video"
    return [Row(what, "frame", costs, "% that one pass for both would save at most", saved, None, outputs)]


def _arm(plan: Plan, stage: str) -> Arm:
    """A run of a stage over the film, its networks loaded; gives the rows that it made."""
    worker = workers.start(plan.context(stage))
    (item,) = (item for item in plan.items(stage) if item.row.partition == "train")

    def run() -> int:
        job = plan.job(stage, item)
        worker(job)
        with streams.Stream(job.path) as stream:
            return len(stream)

    return run


def _decoded(film: Path) -> int:
    with open_media(film) as container:
        return sum(1 for _ in VideoPass(container, film))


def _compare(found: dict[str, Any]) -> str:
    if not found["faces"] >= 0.9 * found["decoding"] > 0 or not found["qwen3vl"]:
        raise DisagreeError(f"combined: want a face in nearly every frame, and segments, got {found}")
    return f"{found['faces']} faces, {found['qwen3vl']} segments of {found['decoding']} frames"
