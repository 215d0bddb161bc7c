"""The files for the organisers: predictions in the order of their template, a value in every row, and how each was obtained."""

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affpipe import __version__
from affpipe.core.align import nearest
from affpipe.core.axis import runs
from affpipe.core.errors import InputError, ManifestError
from affpipe.core.tasks.task import Task
from affpipe.data import annotations
from affpipe.results import published
from affpipe.results.submission import preflight
from affpipe.results.submission.template import Template, read_template
from affpipe.system import disk, outputs
from affpipe.system.files import left_by_mac

MISSING = ("nearest", "interpolate", "default")
LONG = 100  # frames in a row without a prediction: more are worth a warning
ZIP_LEVEL = 4  # less than half the time of the usual 6, a twentieth more bytes
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # time of every entry: the archive depends on its content alone


@dataclass(frozen=True)
class Filled:
    """A stream of the template: its rows, how many of them had no prediction, and the longest run of such rows."""

    stream: str
    rows: int
    filled: int
    longest: int


@dataclass(frozen=True)
class Summary:
    """Outcome of a submission.

    Attributes:
        flat, folder, archive: all rows in one file; one file per stream; both and a README, zipped.
        missing: how frames without a prediction were filled, in words.
        streams: in the template's order.
        warnings: oddities that did not stop it.
    """

    task: Task
    flat: Path
    folder: Path
    archive: Path
    missing: str
    streams: tuple[Filled, ...]
    warnings: tuple[str, ...]

    @property
    def rows(self) -> int:
        return sum(stream.rows for stream in self.streams)

    @property
    def filled(self) -> int:
        return sum(stream.filled for stream in self.streams)

    def lines(self) -> list[str]:
        """Return lines for people: first the counts, then the warnings."""
        return [f"{self.task.name}: {self.rows} rows of {len(self.streams)} videos, {self.filled} filled: {self.missing}", *self.warnings]


def of_run(run: Path, task: Task) -> tuple[Path, str]:
    """Return the folder of a finished run's predictions of a task, and the run's name and key for people; InputError if there is none."""
    found = published.read(run)
    try:
        name, key = found["settings"]["name"], found["run"]
    except (KeyError, TypeError) as error:
        raise published.unreadable(run, error) from None
    return run / "official" / task.name, f"{name}, key {key}"


def make(
    task: Task,
    template: Path,
    predictions: Path,
    out: Path,
    *,
    missing: str = "nearest",
    default: Sequence[float] | None = None,
    constant: Collection[str] = (),
    run: str = "",
    steady: Callable[[], None] = lambda: None,
) -> Summary:
    """Write `<out>/<task>_predictions.txt`, `<out>/<task>/<stream>.txt` and `<out>/<task>_submission.zip`.

    Unless the preflight finds the flat file fit to send, nothing is written, and the files of an earlier call stay. Numbers of dimensions
    have six decimals: those of text files that this package wrote are not altered.

    Args:
        template: the organisers' file of this task.
        predictions: folder of official text files, `<stream>.txt`; line f + 1 is frame f, the header being line 1.
        missing: value of a frame that has no prediction (the mark of the task, or beyond the file's end): that of the `nearest` frame (the
            earlier one on a tie), one between its neighbours (`interpolate`, ends held; dimensions only), or the `default`.
        default: values of a frame for missing="default"; if not given, the middle of the range (dimensions), 0 (classes and units).
        constant: streams that may be constant, beside those that have nothing but the default.
        run: name and key of the run, for the README.
        steady: called once all predictions are read; it may raise.

    Raises:
        InputError: an impossible argument.
        ManifestError: a fault of template or predictions, a stream without any prediction unless missing="default", or what the preflight
            refuses.
    """
    fill = _neutral(task, missing, default)
    wanted = read_template(task, template)
    _check_places(task, template, predictions, out)
    cells, streams, bare = _cells(task, wanted, predictions, missing, fill)
    steady()
    how = f"default {_form(task) % tuple(fill)}" if missing == "default" else missing
    out.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{task.name}.", dir=out))
    try:
        names = _write_texts(task, aside, wanted, cells)
        odd: list[preflight.Fault] = []
        faults = preflight.check(task, aside / names[0], template, constant={*constant, *bare}, warnings=odd)
        if faults:
            more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
            said = "; ".join(f"{fault.place}: {fault.text}" for fault in faults[:3])
            raise ManifestError(f"{predictions}: want predictions that are fit to send, got {said}{more}; nothing was written")
        warnings = [f"{s.stream}: none of {s.rows} frames has a prediction" for s in streams if s.stream in bare]
        warnings += [
            f"{s.stream}: {s.longest} frames in a row have no prediction" for s in streams if s.longest > LONG and s.stream not in bare
        ]
        warnings += [fault.text for fault in odd]
        summary = Summary(task, *_paths(task, out), how, tuple(streams), tuple(warnings))
        disk.write_text(aside / "README.txt", _readme(summary, run))
        _zip(aside / summary.archive.name, aside, sorted(["README.txt", *names]))
        _move(aside, summary)
    finally:
        shutil.rmtree(aside)
    return summary


def numbers(text: str) -> list[float]:
    """Parse the values of a default, written with commas between them; InputError for anything else."""
    try:
        return [float(cell) for cell in text.split(",")]
    except ValueError:
        raise InputError(f"submit: want a default of numbers with commas between them, got {text!r}") from None


def _neutral(task: Task, missing: str, default: Sequence[float] | None) -> np.ndarray:
    """Return the default's values (K,); InputError unless the arguments go together."""
    if missing not in MISSING:
        raise InputError(f"submit: want missing one of {', '.join(MISSING)}, got {missing!r}")
    if missing == "interpolate" and not task.decimals:
        raise InputError(f"submit: want numbers to interpolate, got {task.kind} of {task.name}; use nearest")
    if default is not None and missing != "default":
        raise InputError(f"submit: want a default only for missing default, got one for {missing}; leave it out")
    values = np.array(task.neutral if default is None else default, float)
    if values.shape != (len(task.columns),) or not task.possible(values[None]).all():
        raise InputError(
            f"submit: want a default of {len(task.columns)} cells ({','.join(task.columns)}), "
            f"each {task.cell}, got {','.join(map(str, default))}; mend it"
        )
    return values


def _paths(task: Task, out: Path) -> tuple[Path, Path, Path]:
    """Return flat file, folder and archive."""
    return out / f"{task.name}_predictions.txt", out / task.name, out / f"{task.name}_submission.zip"


def _check_places(task: Task, template: Path, predictions: Path, out: Path) -> None:
    """Raise InputError unless there are predictions and only files of an earlier call would be replaced."""
    flat, folder, archive = _paths(task, out)
    if not predictions.is_dir():
        raise InputError(f"{predictions}: want a folder of official text files, got none; check the path, or predict this task first")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: want a folder to write into, got a file; give another")
    for path in (flat, archive):
        outputs.place(path)
    if outputs.loops(folder):
        raise InputError(f"{folder}: want a new folder or that of an earlier submission, got a link to itself; remove it")
    if flat.resolve() == template.resolve() or folder.resolve() == predictions.resolve():
        raise InputError(f"{out}: want a folder apart from template and predictions, got one in which they would be replaced; give another")
    if folder.exists():
        try:
            with zipfile.ZipFile(archive) as file:
                earlier = {Path(name).name for name in file.namelist() if name.startswith(f"{task.name}/")}
        except (OSError, zipfile.BadZipFile):
            earlier = set()
        if not folder.is_dir() or not {path.name for path in folder.iterdir() if not left_by_mac(path.name)} <= earlier:
            raise InputError(f"{folder}: want a new folder or that of an earlier submission, got other files in it; give another --out")


def _form(task: Task) -> str:
    """Return the format of a row's cells."""
    return ",".join([f"%.{task.decimals}f" if task.decimals else "%d"] * len(task.columns))


def _cells(task: Task, wanted: Template, predictions: Path, missing: str, fill: np.ndarray) -> tuple[list[str], list[Filled], list[str]]:
    """Return the cells of each row of the template, the filled rows of each stream, and the streams without any prediction."""
    cells, streams, bare = [""] * len(wanted.locations), [], []
    form, rows_of = _form(task), np.split(np.argsort(wanted.stream, kind="stable"), np.cumsum(np.bincount(wanted.stream))[:-1])
    for name, rows in zip(wanted.streams, rows_of, strict=True):
        path = predictions / f"{name}.txt"
        if path.is_file():
            values, valid = annotations.read_labels(task, path)
        else:
            values, valid = np.zeros((0, len(fill))), np.zeros(0, bool)
        if not valid.any():
            bare.append(name)
            if missing != "default":
                continue
        values, lacking = _fill(values, valid, wanted.frame[rows], missing, fill)
        for row, entries in zip(rows.tolist(), values.tolist(), strict=True):
            cells[row] = form % tuple(entries)
        streams.append(Filled(name, len(rows), int(lacking.sum()), int(np.diff(runs(lacking)).max(initial=0))))
    if bare and (missing != "default" or len(bare) == len(wanted.streams)):
        some = f"{', '.join(bare[:3])}{f' and {len(bare) - 3} more' if len(bare) > 3 else ''}"
        rest = "predict them" + ("" if missing == "default" else ", or fill with the default")
        raise ManifestError(
            f"{predictions}: want predictions of all {len(wanted.streams)} videos of the template, got none of {some}; {rest}"
        )
    return cells, streams, bare


def _fill(values: np.ndarray, valid: np.ndarray, frame: np.ndarray, missing: str, fill: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values (R, K) of the wanted frames, and (R,) bool: True where the frame has no prediction of its own."""
    values, valid = annotations.fit_length(values, valid, max(len(valid), int(frame.max()) + 1))
    lacking = ~valid[frame]
    if missing == "nearest":
        return values[nearest(valid)[frame]], lacking
    if missing == "default":
        return np.where(lacking[:, None], fill, values[frame]), lacking
    known = np.flatnonzero(valid)
    between = np.stack([np.interp(frame, known, column) for column in values[known].T], axis=1)
    return np.where(lacking[:, None], between, values[frame]), lacking


def _write_texts(task: Task, folder: Path, wanted: Template, cells: list[str]) -> list[str]:
    """Write the flat file and one per stream; return their names in `folder`, the flat one first."""
    flat, each, _ = (path.relative_to(folder) for path in _paths(task, folder))
    rows = map(",".join, zip(wanted.locations, cells, strict=True))
    disk.write_text(folder / flat, "\n".join([wanted.header, *rows]) + "\n")
    own: list[list[str]] = [[task.header] for _ in wanted.streams]
    for stream, text in zip(wanted.stream.tolist(), cells, strict=True):
        own[stream].append(text)
    for name, lines in zip(wanted.streams, own, strict=True):
        disk.write_text(folder / each / f"{name}.txt", "\n".join(lines) + "\n")
    return [str(flat), *(f"{each}/{name}.txt" for name in wanted.streams)]


def _readme(summary: Summary, run: str) -> str:
    task = summary.task
    lines = [
        f"Predictions of {task.title} ({task.name}) for the test videos, made with affpipe {__version__}.",
        "",
        f"run: {run or 'not known, from a folder of text files'}",
        f"{summary.flat.name}: all {summary.rows} rows, in the order of the organisers' template",
        f"{task.name}/<video>.txt: the same values, a file a video, with the template's rows of that video in its order",
        f"decimals: {task.decimals}",
        f"frames without a prediction: {summary.filled} filled: {summary.missing}",
        "",
        "video,rows,filled,longest_run",
        *(f"{s.stream},{s.rows},{s.filled},{s.longest}" for s in summary.streams),
    ]
    return "\n".join(lines) + "\n"


def _zip(path: Path, folder: Path, names: Sequence[str]) -> None:
    """Zip files of a folder, in this order; the same content gives the same bytes."""
    with disk.atomic(path) as part, zipfile.ZipFile(part, "w") as file:
        for name in names:
            entry = zipfile.ZipInfo(name, ZIP_TIME)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            file.writestr(entry, (folder / name).read_bytes(), compresslevel=ZIP_LEVEL)


def _move(aside: Path, summary: Summary) -> None:
    """Move the new files into place, to where a link leads; the folder last, since the archive marks it as one of ours."""
    for path in (summary.flat, summary.archive):
        with disk.telling(path):
            shutil.move(aside / path.name, outputs.place(path))
    folder = summary.folder.resolve()
    with disk.telling(summary.folder):
        if folder.exists():
            shutil.move(folder, aside / "earlier")
        shutil.move(aside / summary.folder.name, folder)
