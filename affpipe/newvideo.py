"""Videos of the user through the stages and models of a finished run, in this process, with the same store."""

from dataclasses import dataclass
from pathlib import Path

from affpipe import cache, formats, jobs, report, store, workers
from affpipe.errors import InputError, MediaError
from affpipe.files import folded, instead_of_file, on_disk
from affpipe.indexes import Entry
from affpipe.jobs import Progress
from affpipe.manifest import SUBJECTS, Row, check_video_name
from affpipe.plan import Item, Plan
from affpipe.predict import frames_of
from affpipe.predictor import model_path
from affpipe.publish import read_run


@dataclass(frozen=True)
class Predicted:
    """What came of a video. table: its predictions. without: models that had nothing to go on, and why. random: see `store`."""

    table: Path
    without: dict[str, str]
    random: tuple[str, ...]


def predict(videos: list[Path], run: Path, out: Path, *, subject: str, progress: Progress, done: list[Predicted]) -> None:
    """Write `<out>/<video>.csv` and `.png` for each video and add it to `done`.

    MediaError at the end names every video that could not be predicted; the others are written first. StoreError where a file of the store
    is damaged: it is out of the way then, and the same call, or for a model the workflow, makes it again.
    """
    if subject not in SUBJECTS:
        raise InputError(f"predict: want --subject one of {', '.join(SUBJECTS)}, got {subject!r}")
    settings, models = read_run(run)
    if settings.faces.source == "images":
        raise InputError(
            f"{run}: want a run that finds faces in videos, got one with faces.source: images; fit one with faces.source: video"
        )
    rows = [_row(video, subject) for video in videos]
    if len({folded(row.stream_id) for row in rows}) < len(rows):
        raise InputError(f"predict: want videos of different names, got {', '.join(map(str, videos))}; rename one")
    plan = Plan(settings, rows, model_keys=models)
    for model in settings.models:
        path = model_path(plan.folder(model))
        if not path.is_file():  # nothing is written into a folder that is not the run's cache
            raise InputError(f"{run}: want the cache in which its models were fitted, got no {path}; predict where the run was made")
    entries: dict[str, dict[str, Entry]] = {}
    failed = []
    with cache.mending():
        for name in plan.names:
            entries[name] = jobs.apply(plan, name, plan.items(name), entries, workers.start, progress)
        for item in plan.items(settings.publish):
            entry = entries[settings.publish][item.id]
            if entry.status == "done":
                without = {model: entries[model][item.id].reason for model in settings.models if entries[model][item.id].status != "done"}
                done.append(Predicted(_write(plan, item, out), without, _random(plan, item)))
            else:
                failed.append(entry.reason if item.row.video.name in entry.reason else f"{item.row.video}: {entry.reason}")
    if failed:
        raise MediaError("; ".join(failed))


def _row(video: Path, subject: str) -> Row:
    video = on_disk(video)
    if got := instead_of_file(video):
        raise MediaError(f"{video}: want a video file, got {got}; check the path")
    check_video_name(video)
    return Row(video.stem, video, subject, "predict")


def _write(plan: Plan, item: Item, out: Path) -> Path:
    axis, found = frames_of(plan, plan.settings.publish, item)
    table = out / f"{item.id}.csv"
    formats.write_predictions(table, axis.times_s, found.values, found.chances, found.source, found.valid)
    report.trajectories(out / f"{item.id}.png", item.id, axis.times_s, found)
    return table


def _random(plan: Plan, item: Item) -> tuple[str, ...]:
    return tuple(store.attributes(plan.stream(plan.settings.publish, item))["random"])
