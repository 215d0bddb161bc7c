"""The picture of one stream's predictions: its size, whatever the tasks, and that it is written whole."""

import struct
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from small_run import TIMES, Run, T

from affpipe.core.axis import NEAREST, NONE, OBSERVED
from affpipe.core.tasks.classes import Classes
from affpipe.core.tasks.dimensions import Dimensions
from affpipe.core.tasks.table import TASKS
from affpipe.results import report
from affpipe.results.frames import FramePredictions

ALL = tuple(TASKS)


def predictions(tasks: tuple[str, ...], source: np.ndarray) -> FramePredictions:
    logits = {task: Run.outputs(task, "x").astype(np.float64) for task in tasks if task != "va"}
    chances = {
        task: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) if task == "expr" else 1 / (1 + np.exp(-x)) for task, x in logits.items()
    }
    values = {task: Run.truth("x") if task == "va" else Run.labels(task, "x") for task in tasks}
    return FramePredictions(values, chances, source != NONE, source)


def size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


@pytest.mark.parametrize("source", [np.full(T, NONE, np.uint8), np.where(TIMES < 1, NEAREST, OBSERVED).astype(np.uint8)])
@pytest.mark.parametrize(
    ("tasks", "height"),  # in hundredths of an inch: panels, title, lines of the legend; without va a row for the source
    [(("va",), 550), (("expr",), 245 + 50 + 44 + 40), (("au",), 275 + 50 + 22 + 40), (ALL, 500 + 245 + 275 + 50 + 3 * 22)],
)
def test_trajectories_writes_a_picture(tmp_path: Path, tasks: tuple[str, ...], height: int, source: np.ndarray) -> None:
    path = tmp_path / "new" / "out.png"
    report.trajectories(path, "costs $5 & 名 <b>_x_", {task: TASKS[task] for task in tasks}, TIMES, predictions(tasks, source))
    assert size(path) == (1320, int(height * 1.2))
    assert [p.name for p in path.parent.iterdir()] == ["out.png"]


def test_trajectories_of_a_single_frame_and_of_a_long_stream(tmp_path: Path) -> None:
    for frames in (1, 20_000):
        times_s = 0.5 + np.arange(frames) / 30
        n = np.arange(frames) % T
        found = predictions(ALL, np.full(T, OBSERVED, np.uint8))
        of = [{task: x[n] for task, x in each.items()} for each in (found.values, found.chances)]
        report.trajectories(tmp_path / "one.png", "one", TASKS, times_s, FramePredictions(*of, found.valid[n], found.source[n]))
        assert size(tmp_path / "one.png")[0] == 1320


def test_frames_that_were_not_observed_are_marked_whatever_the_range(tmp_path: Path) -> None:
    """The marks fill the panel of a dimension from 0 to 100 as they do that of one from -1 to 1."""
    marked = {}
    for high in (1.0, 100.0):
        task = Dimensions("d", "d", -999, ranges={"d": (-high if high == 1 else 0.0, high)})
        pictures = []
        for code in (OBSERVED, NEAREST):
            found = FramePredictions({"d": np.full((T, 1), high / 2)}, {}, np.ones(T, bool), np.full(T, code, np.uint8))
            report.trajectories(tmp_path / "one.png", "one", {"d": task}, TIMES, found)
            pictures.append(imread(tmp_path / "one.png"))
        marked[high] = float((np.abs(pictures[0] - pictures[1]).max(axis=2) > 0.02).mean())
    assert marked[100.0] == pytest.approx(marked[1.0], rel=0.05)
    assert marked[1.0] > 0.5


def test_classes_of_two_tasks_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tasks may have classes of the same names, in other orders and so in other colours."""
    named: list[dict[str, tuple]] = []

    def legend(_, shown, names, **__) -> None:
        named.append({name: one.get_facecolor() for name, one in zip(names, shown, strict=True)})

    monkeypatch.setattr(Figure, "legend", legend)
    orders = {"calm": ("low", "high"), "tired": ("high", "low")}
    tasks = {name: Classes(name, name, -1, column=name, names=own) for name, own in orders.items()}
    chances = {name: np.full((T, 2), 0.5) for name in tasks}
    found = FramePredictions({name: np.zeros((T, 1)) for name in tasks}, chances, np.ones(T, bool), np.full(T, OBSERVED, np.uint8))
    report.trajectories(tmp_path / "one.png", "one", tasks, TIMES, found)
    (colours,) = named
    assert {"calm: low", "calm: high", "tired: high", "tired: low"} <= set(colours)
    assert colours["calm: low"] == colours["tired: high"] != colours["calm: high"]
