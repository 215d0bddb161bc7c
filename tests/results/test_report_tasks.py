"""The report of runs of expressions and action units beside valence and arousal, and of runs with folds."""

import re
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
from pages import Reader, cells, drawing, section
from small_run import KNOWN, LAG, SETTINGS, Run, T

from affpipe.core.tasks.table import ACTION_UNITS, EXPRESSIONS, TASKS
from affpipe.results import evaluate
from affpipe.results.report import palette, timeline

ALL = ("va", "expr", "au")
STREAMS = {**{f"t{i}": "train" for i in range(4)}, "v1": "validation", "v22": "validation", "v333": "validation", "p1": "predict"}
OWN = {"t1": {"expr": "validation"}, "v1": {"au": "train"}}
FOLDS = 3
VALIDATION = {"va": ("v1", "v22", "v333"), "expr": ("t1", "v1", "v22", "v333"), "au": ("v22", "v333")}
UNITS_AT = 2 + len(EXPRESSIONS)  # of a row of outputs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    cross = {"folds": FOLDS, "use": "per_target"}
    return Run(tmp_path_factory.mktemp("run"), streams=STREAMS, own=OWN, tasks=ALL, cross_validation=cross)


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return run.page()


def part(page: str, task: str) -> str:
    """What the section of scores holds of a task."""
    return re.search(rf'<div id="scores-{task}">(.*?)(?=<div id="scores-|$)', section(page, "scores"), re.S).group(1)


def pooled(task: str) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) truth and prediction of the valid frames of all validation streams of a task, as `small_run` makes them."""
    truth = [Run.labels(task, id) for id in VALIDATION[task]]
    late = [np.roll(values, LAG, axis=0) for values in truth]
    return tuple(np.concatenate([values[KNOWN] for values in of]) for of in (truth, late))


# ---- scores -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ALL)
def test_every_task_has_its_table_of_systems_and_videos(run: Run, page: str, task: str) -> None:
    rows = cells(part(page, task))
    scores = {model: own[task] for model, own in run.scores.items()}
    own = scores["fused"]
    many = len(VALIDATION[task])
    size = [f"{many} of {many}", str(many * KNOWN.sum()), "82.1 %"]
    want = [["–" if cell == "-" else cell for cell in row] for row in evaluate.table(TASKS[task], scores)]
    shown = [["fused published" if cell == "fused" else cell for cell in row] + (size if row[0] in scores else ["–"] * 3) for row in want]
    assert [row for row in rows if row in shown] == shown
    assert [row[0] for row in shown[3:]] == {"va": ["constant per video"]}.get(task, ["majority per video", "majority in training"])
    low, high = own["intervals"]["ccc" if task == "va" else "f1"]
    assert f"{low:.3f} to {high:.3f}" in next(row for row in rows if row and row[0] == "fused published")
    for id in VALIDATION[task]:
        keys = ("ccc_valence", "ccc_arousal", "ccc") if task == "va" else ("f1", "accuracy")
        assert [id, *(f"{own['videos'][id][key]:.3f}" for key in keys), "140"] in rows


def test_classes_have_their_shares_and_confusion(run: Run, page: str) -> None:
    truth, guess = (values[:, 0].astype(int) for values in pooled("expr"))
    rows = {row[0]: row for row in cells(part(page, "expr")) if row and row[0] in EXPRESSIONS}
    matrix = drawing(page, "confusion of expression")
    tips = [e.find("title").text for e in matrix.iter("rect")]
    for i, name in enumerate(EXPRESSIONS):
        own, predicted = truth == i, guess == i
        hits = (own & predicted).sum()
        f1 = f"{2 * hits / (own.sum() + predicted.sum()):.3f}" if own.any() else "–"
        interval = run.scores["fused"]["expr"]["intervals"][f"f1_{name}"]
        limits = "–" if interval is None else "{:.3f} to {:.3f}".format(*interval)
        assert rows[name] == [name, f1, limits, f"{100 * own.mean():.1f} %", f"{100 * predicted.mean():.1f} %"]
        want = [f"{name} predicted as {other}: {(own & (guess == j)).sum()} of {own.sum()} frames" for j, other in enumerate(EXPRESSIONS)]
        assert tips[8 * i : 8 * i + 8] == want
    outlined = [k for k, e in enumerate(matrix.iter("rect")) if "right" in e.get("class").split()]
    assert outlined == list(range(0, 64, 9))  # where truth and prediction agree
    fills = [e.get("fill") for e in matrix.iter("rect")]
    assert set(fills[56:]) == {"#ffffff"}  # no frame is of the class Other
    lightness = [palette.luminance(fill) for fill in fills[:8]]
    counts = [int(((truth == 0) & (guess == j)).sum()) for j in range(8)]
    assert np.argmax(counts) == np.argmin(lightness) == 0


def test_units_have_their_rates_and_the_thresholds_that_were_used(run: Run, page: str) -> None:
    truth, guess = pooled("au")
    guess[:, 0], guess[:, 1] = 0, 1  # as `small_run` has them
    rows = {row[0]: row for row in cells(part(page, "au")) if len(row) == 6 and row[0] in ACTION_UNITS}
    for i, unit in enumerate(ACTION_UNITS):
        fold = next(k for k in range(FOLDS) if (UNITS_AT + i + k) % 3 == 2)  # the best one, see `Run.fold_scores`
        want = [f"{100 * of[:, i].mean():.1f} %" for of in (truth, guess)]
        assert rows[unit][3:] == [*want, f"{run.thresholds(fold)[i]:.3f}"]
    assert rows["AU1"][1] == "0.000"
    bars = drawing(page, "frames in which a unit is present")
    widths = [float(e.get("width")) for e in bars.iter("rect")]
    rates = np.stack([truth.mean(axis=0), guess.mean(axis=0)], axis=1).ravel()
    np.testing.assert_allclose(widths, np.maximum(rates * widths[3], 0.6), atol=0.06)  # AU2 is always predicted


@pytest.mark.parametrize(
    ("more", "threshold", "words"),
    [
        ({}, None, "chosen on these very streams, so its F1 here is optimistic"),
        ({"cross_validation": {"folds": 2, "use": "whole"}}, None, "chosen on these very streams, so its F1 here is optimistic"),
        ({"cross_validation": {"folds": 2}}, (0, 1), "the mean of those that are best on the folds held out"),
        ({"decode": {"au_thresholds": "half"}}, "half", "A unit is present from a probability of one half on."),
    ],
)
def test_page_says_where_thresholds_are_from(tmp_path: Path, more: dict, threshold: tuple | str | None, words: str) -> None:
    voice = SETTINGS["models"]["voice"] | ({"decode": more.pop("decode")} if "decode" in more else {})
    run = Run(tmp_path, streams=STREAMS, tasks=["au"], models={"voice": voice}, publish="voice", **more)
    html = section(run.page(), "scores")
    assert words in re.sub(r"\s+", " ", Reader(html).text)
    want = [0.5] * 12 if threshold == "half" else np.mean([run.thresholds(fold) for fold in threshold or (None,)], axis=0)
    assert [row[5] for row in cells(html) if len(row) == 6 and row[0] in ACTION_UNITS] == [f"{t:.3f}" for t in want]


def test_differences_from_the_published_model_stand_beside_the_scores(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert "less published" not in run.page()
    run.scores["face"]["va"] = run.scores["face"]["va"] | {"less_published": {"difference": -0.0123, "low": -0.04, "high": 0.01}}
    run.scores["voice"]["va"] = run.scores["voice"]["va"] | {"less_published": {"difference": 0.5, "low": None, "high": None}}
    rows = {row[0]: row[-4] for row in cells(section(run.page(), "scores")) if len(row) == 12}
    assert rows == {
        **{"face": "−0.012 (−0.040 to +0.010)", "voice": "+0.500", "fused published": "–", "constant per video": "–"},
    }


def test_histograms_hold_every_frame(run: Run, page: str) -> None:
    bars = [e for e in drawing(page, "distribution of valence and arousal").iter("rect")]
    shares = [float(re.search(r"truth ([\d.]+) %", bar.find("title").text).group(1)) for bar in bars]
    counts = run.scores["fused"]["va"]["distributions"]["truth"]
    np.testing.assert_allclose(shares, 100 * np.array(counts["valence"] + counts["arousal"]) / (3 * KNOWN.sum()), atol=0.051)
    assert len(bars) == 40
    heights = np.array([float(bar.get("height")) for bar in bars[:20]])
    np.testing.assert_allclose(heights / heights.max(), np.array(shares[:20]) / max(shares[:20]), atol=0.02)


# ---- partitions, folds, curves ----------------------------------------------------------------------------------------------------------


def test_partitions_of_a_task_are_told_where_they_differ(run: Run, page: str) -> None:
    rows = cells(section(page, "summary"))
    by_task = [row for row in rows if len(row) == 7 and row[0] in ("train", "validation", "predict")]
    assert by_task == [
        ["train", "4", "4", "3", "3", "5", "5"],
        ["validation", "3", "3", "4", "4", "2", "2"],
        ["predict", "1", "0", "1", "0", "1", "0"],
    ]
    streams = {row[0]: row[1] for row in rows if len(row) == 7}
    assert streams["t1"] == "train, expr: validation"
    assert streams["v1"] == "validation, au: train"
    assert streams["v22"] == "validation"


def test_partitions_of_one_task_are_not_repeated(tmp_path: Path) -> None:
    assert "Partitions by task" not in Run(tmp_path).page()


def test_folds_show_every_fit(run: Run, page: str) -> None:
    rows = cells(section(page, "folds"))
    in_fold = {k: sum(run.plan.fold("face", i) == k for i in run.plan.items("face")) for k in range(FOLDS)}
    assert sum(in_fold.values()) == 5  # t0 … t3, and v1 for its units
    for first, model in enumerate(("face", "voice", "fused")):
        own = rows[2 + first * (FOLDS + 2) :][: FOLDS + 2]
        for k in range(FOLDS):
            scores = [f"{s:.3f}" for i in range(3) for s in (0.4 + 0.1 * i + 0.01 * (k + 1), 0.3 + 0.1 * i + 0.02 * (k + 1))]
            name = model if k == 0 else ""
            assert own[k] == [name, f"without fold {k}", str(5 - in_fold[k]), str(in_fold[k]), "2 of 3", *scores]
        assert own[FOLDS] == ["", "on all", "5", "–", "2 of 3", "–", "0.300", "–", "0.400", "–", "0.500"]
        each = [
            [base + step * (k + 1) for k in range(FOLDS)] for i in range(3) for base, step in ((0.4 + 0.1 * i, 0.01), (0.3 + 0.1 * i, 0.02))
        ]
        assert own[FOLDS + 1] == ["", "mean ± spread", "", "", "", *(f"{mean(x):.3f} ± {stdev(x):.3f}" for x in each)]
    text = Reader(section(page, "folds")).text
    assert "validation streams of one task that train another: t1, v1." in text


def test_folds_name_the_fold_of_each_target(page: str) -> None:
    rows = [row for row in cells(section(page, "folds")) if len(row) == 4]
    outputs = {"valence": 0, "arousal": 1, "expression": 2} | {unit: UNITS_AT + i for i, unit in enumerate(ACTION_UNITS)}
    want = {name: f"fold {next(k for k in range(FOLDS) if (i + k) % 3 == 2)} (0.500)" for name, i in outputs.items()}
    assert rows == [[name, *[fold] * 3] for name, fold in want.items()]


@pytest.mark.parametrize("use", ["whole", "ensemble"])
def test_folds_say_whose_predictions_are_published(tmp_path: Path, use: str) -> None:
    page = Run(tmp_path, streams=STREAMS, cross_validation={"folds": 2, "use": use}).page()
    text = Reader(section(page, "folds")).text
    assert {"whole": "fit on all training streams", "ensemble": "mean of the folds' fits"}[use] in text
    assert "Fold of each target" not in text
    assert "train another" not in text
    assert '<a href="#folds">' in page


def test_without_folds_there_is_no_section_of_them(tmp_path: Path) -> None:
    assert "#folds" not in Run(tmp_path).page()


def test_learning_curves_say_what_the_score_is(tmp_path: Path, page: str) -> None:
    one, many = Run(tmp_path).page(), page
    titles = [[t.text for t in drawing(of, "learning curves of face").iter("text") if t.get("class") == "name"] for of in (one, many)]
    assert titles == [["training loss", "validation CCC"], ["training loss", "validation score"]]
    text = re.sub(r"\s+", " ", Reader(section(many, "learning")).text)
    assert "the mean of the tasks' measures: CCC (valence and arousal), macro F1 (expression), mean F1 (action units)" in text
    assert "valence and arousal 0.400, expression 0.500, action units 0.600" in text


# ---- streams over time ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stream", "tasks"), [("t1", {"expr"}), ("v1", {"va", "expr"}), ("v22", {"va", "expr", "au"})])
def test_stream_is_shown_for_the_tasks_that_it_validates(page: str, stream: str, tasks: set[str]) -> None:
    kinds = {e.get("class") for e in drawing(page, f"of {stream} over time").iter("path")}
    found = {"va": "line" in kinds, "expr": "class prediction" in kinds, "au": "unit prediction" in kinds}
    assert {task for task, there in found.items() if there} == tasks


def bars(element) -> list[tuple[float, float]]:
    """Left and right end of each bar of a path."""
    return [(float(a), float(a) + float(w)) for a, w in re.findall(r"M([\d.]+),[\d.]+h([\d.]+)", element.get("d"))]


def at_x(frame: int) -> float:
    return timeline.LEFT + frame / T * (timeline.WIDTH - timeline.LEFT - timeline.RIGHT)


def test_class_strips_are_the_labels_and_predictions_of_frames(page: str) -> None:
    figure = drawing(page, "of v22 over time")
    for of, classes, known in (
        ("truth", Run.labels("expr", "v22")[:, 0], KNOWN),
        ("prediction", np.roll(Run.labels("expr", "v22")[:, 0], LAG), np.ones(T, bool)),
    ):
        paths = {e.find("title").text: e for e in figure.iter("path") if e.get("class") == f"class {of}"}
        assert list(paths) == list(EXPRESSIONS[:7])  # nothing is of the last
        for number, name in enumerate(EXPRESSIONS[:7]):
            assert paths[name].get("fill") == palette.CLASSES[name]
            frames = np.flatnonzero((classes == number) & known)
            runs = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
            np.testing.assert_allclose(bars(paths[name]), [(at_x(r[0]), at_x(r[-1] + 1)) for r in runs], atol=0.11)


def test_unit_rows_leave_frames_without_a_label_blank(page: str) -> None:
    paths = list(drawing(page, "of v22 over time").iter("path"))
    tracks = {e.find("title").text: bars(e) for e in paths if e.get("class") == "track"}
    np.testing.assert_allclose(tracks["AU4, truth"], [(at_x(0), at_x(50)), (at_x(60), at_x(T))], atol=0.11)
    np.testing.assert_allclose(tracks["AU4, prediction"], [(at_x(0), at_x(T))], atol=0.11)
    marks = {e.find("title").text: bars(e) for e in paths if e.get("class", "").startswith("unit ")}
    assert "AU1, prediction" not in marks  # never
    np.testing.assert_allclose(marks["AU2, prediction"], [(at_x(0), at_x(T))], atol=0.11)
    frames = np.flatnonzero((Run.labels("au", "v22")[:, 11] > 0) & KNOWN)
    runs = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
    np.testing.assert_allclose(marks["AU26, truth"], [(at_x(r[0]), at_x(r[-1] + 1)) for r in runs], atol=0.11)


@pytest.mark.parametrize("task", ["expr", "au"])
def test_a_run_may_be_without_valence(tmp_path: Path, task: str) -> None:
    page = Run(tmp_path, tasks=[task]).page()
    kinds = {e.get("class") for e in drawing(page, "of v1 over time").iter()}
    assert not {"line valence", "away"} & kinds
    assert "CCC" not in Reader(page).text.replace("loss: ccc", "")
    assert {"expr": "macro F1", "au": "mean F1"}[task] in Reader(section(page, "learning")).text
    assert len(re.findall("Scores on the validation streams", page)) == 1
    assert "<script" not in page
