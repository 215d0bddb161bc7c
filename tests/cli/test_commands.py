"""What a person types: scores of folders, two systems compared, a submission made and checked."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from affpipe.cli import main
from affpipe.cli.console import print_table
from affpipe.core.errors import AffpipeError
from affpipe.core.tasks import metrics
from affpipe.core.tasks.table import TASKS
from affpipe.data.annotations import read_labels, write_labels

T = 60
RNG = np.random.default_rng(0)
LEVELS = {"va": RNG.uniform(-0.5, 0.5, (4, 2)), "expr": RNG.integers(0, 8, (4, 1)), "au": RNG.integers(0, 2, (4, 12))}


def run(*words: object) -> str:
    """The output of a command that ends well."""
    result = CliRunner().invoke(main.app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def fault(*words: object) -> str:
    with pytest.raises(AffpipeError) as caught:
        CliRunner().invoke(main.app, [str(word) for word in words], catch_exceptions=False)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def labels(task: str, video: int, noise: float, seed: int = 0) -> np.ndarray:
    """(T, K) labels that change over time; with noise, a share of them replaced."""
    rng = np.random.default_rng([video, seed])
    base = np.random.default_rng(video)
    if task == "va":
        clean = np.clip(LEVELS["va"][video] + 0.4 * np.sin(np.arange(T)[:, None] / 7 + video), -1, 1)
        return np.clip(clean + noise * rng.normal(size=clean.shape), -1, 1).round(6)
    most = 7 if task == "expr" else 1
    clean = np.repeat(base.integers(0, most + 1, (6, len(TASKS[task].columns))), T // 6, axis=0)
    return np.where(rng.random(clean.shape) < noise, rng.integers(0, most + 1, clean.shape), clean).astype(float)


@pytest.fixture(params=list(TASKS))
def data(request, tmp_path) -> tuple[str, Path]:
    """truth, good and poor: folders of four official files."""
    task = request.param
    for folder, noise in {"truth": 0.0, "good": 0.1, "poor": 0.6}.items():
        for video in range(4):
            valid = np.ones(T, bool)
            if folder == "truth":
                valid[10:15] = False
            write_labels(TASKS[task], tmp_path / folder / f"v{video}.txt", labels(task, video, noise, 1), valid)
    return task, tmp_path


def test_scores_of_a_folder_are_those_of_the_measures(data):
    task, folder = data
    out = run("evaluate", "--task", task, "--truth", folder / "truth", "--pred", folder / "good", "--json", folder / "s.json")
    pairs = [
        (read_labels(TASKS[task], folder / "truth" / f"v{i}.txt"), read_labels(TASKS[task], folder / "good" / f"v{i}.txt"))
        for i in range(4)
    ]
    videos = {str(i): (truth, prediction, valid) for i, ((truth, valid), (prediction, _)) in enumerate(pairs)}
    want = metrics.pooled(TASKS[task], videos)
    (found,) = json.loads((folder / "s.json").read_text()).values()
    for key, value in want.items():
        assert found[task][key] == (None if np.isnan(value) else pytest.approx(value, abs=1e-12))
    assert found[task]["frames"] == 4 * (T - 5)
    assert f"{want[TASKS[task].measure]:.3f}" in out
    low, high = found[task]["intervals"][TASKS[task].measure]
    assert low < want[TASKS[task].measure] < high


def test_two_systems_are_compared_on_the_same_videos(data):
    task, folder = data
    two = ["--pred", folder / "good", "--pred", folder / "poor"]
    out = run("evaluate", "--task", task, "--truth", folder / "truth", *two, "--csv", folder / "s.csv")
    line = next(line for line in out.splitlines() if " less " in line)
    assert f"{folder / 'good'} less {folder / 'poor'}: +0." in line
    assert "paired, 4 videos" in line
    rows = list(csv.DictReader((folder / "s.csv").read_text().splitlines()))
    own = {row["system"]: float(row["value"]) for row in rows if row["figure"] == TASKS[task].measure}
    difference = own[str(folder / "good")] - own[str(folder / "poor")]
    assert f"{difference:+.3f}" in line


def test_a_system_is_named_once(data):
    task, folder = data
    (folder / "link").symlink_to("good")
    for again in (folder / "good", folder / "poor" / ".." / "good", folder / "link"):
        said = fault("evaluate", "--task", task, "--truth", folder / "truth", "--pred", folder / "good", "--pred", again)
        assert said == f"evaluate: want each system once, got --pred {again} again; give another folder, or leave it out"


def test_rows_beyond_a_prediction_are_counted_aloud(data):
    task, folder = data
    ask = ("evaluate", "--task", task, "--truth", folder / "truth", "--pred", folder / "good", "--json", folder / "s.json")
    assert "annotated rows" not in run(*ask)
    (found,) = json.loads((folder / "s.json").read_text()).values()
    assert found[task]["beyond"] == {}
    for video, rows in {"v0": 3, "v2": 1}.items():
        values, valid = read_labels(TASKS[task], folder / "good" / f"{video}.txt")
        write_labels(TASKS[task], folder / "good" / f"{video}.txt", values[:-rows], valid[:-rows])
    line = f"{folder / 'good'}: 4 annotated rows lie beyond the end of the prediction and do not count (v0: 3, v2: 1)"
    assert line in run(*ask).splitlines()
    (found,) = json.loads((folder / "s.json").read_text()).values()
    assert found[task]["beyond"] == {"v0": 3, "v2": 1}


def test_figures_and_rows_go_to_files_of_their_own(data):
    task, folder = data
    ask = ("evaluate", "--task", task, "--truth", folder / "truth", "--pred", folder / "good")
    said = fault(*ask, "--json", folder / "s", "--csv", folder / "truth" / ".." / "s")
    assert said.startswith(f"evaluate: want two files, got {folder / 's'} for --json and for --csv")
    assert not (folder / "s").exists()


def test_what_evaluate_is_asked_for_must_make_sense(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"tasks": ["expr", "va"]}}))
    assert "want --task one of va, expr, got 'au'" in fault("evaluate", "--task", "au", "--run", tmp_path)
    assert "want --task one of va, expr, au, got 'mtl'; for a task of your own give --config SETTINGS" in fault(
        "evaluate", "--task", "mtl", "--truth", tmp_path, "--pred", tmp_path
    )
    assert "want either --truth and --pred, or --run" in fault("evaluate", "--truth", tmp_path)
    assert "want either --truth and --pred, or --run" in fault("evaluate", "--truth", tmp_path, "--pred", tmp_path, "--run", tmp_path)


def test_a_submission_is_made_and_found_fit_and_a_changed_one_is_not(data):
    task, folder = data
    head = {"va": "valence,arousal", "expr": TASKS["expr"].header, "au": TASKS["au"].header}[task]
    rows = [f"v{video}/{frame:05d}.jpg," for video in (2, 0) for frame in range(1, T + 2)]  # one frame more than was predicted
    template = folder / "template.txt"
    template.write_text("\n".join([f"image_location,{head}", *rows]) + "\n")
    out = run("submit", "--template", template, "--pred", folder / "good", "--out", folder / "sent")
    archive = Path(out.splitlines()[-1])
    assert archive.is_file()
    flat = folder / "sent" / f"{task}_predictions.txt"
    lines = flat.read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [row.rstrip(",") for row in rows]
    values = np.array([[float(x) for x in line.split(",")[1:]] for line in lines[1:]])
    want = [np.concatenate([own, own[-1:]]) for own in (read_labels(TASKS[task], folder / "good" / f"v{v}.txt")[0] for v in (2, 0))]
    np.testing.assert_array_equal(values, np.concatenate(want))  # bit by bit at the written precision; the last frame is the nearest's
    assert run("submit-check", flat, "--template", template).strip().endswith("fit to send")
    flat.write_text("\n".join([*lines[:5], *lines[6:]]) + "\n")
    result = CliRunner().invoke(main.app, ["submit-check", str(flat), "--template", str(template)])
    assert result.exit_code == 2
    assert "v2/00005.jpg" in result.output


def test_submit_wants_a_run_or_a_folder(tmp_path):
    assert "want either --run or --pred" in fault("submit", "--template", tmp_path / "t.txt", "--out", tmp_path / "o")


def test_a_table_shows_brackets_and_long_names_as_they_are(capsys):
    name = "weights/" + "long_" * 30 + "[gpu].pth"
    print_table("a [b]", ("name", "n"), [(name, "1")])
    out = capsys.readouterr().out
    assert "a [b]" in out
    assert name in "".join(line.split("│")[1].strip() for line in out.splitlines() if "│" in line and "─" not in line)
