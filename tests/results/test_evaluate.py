"""Scores of files against truth, with intervals and baselines, and the tables and files made of them."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from affpipe.core.errors import InputError, ManifestError
from affpipe.core.tasks import metrics
from affpipe.core.tasks.table import ACTION_UNITS, AU, EXPR, EXPRESSIONS, TASKS, VA
from affpipe.data.annotations import write_labels
from affpipe.results import bootstrap, caveats, evaluate

ALL = tuple(TASKS)
CCC = ("ccc_valence", "ccc_arousal", "ccc")


def ccc(t: np.ndarray, p: np.ndarray) -> float:
    """By the definition, with numpy's covariance."""
    c = np.cov(t, p, bias=True)
    return float(2 * c[0, 1] / (c[0, 0] + c[1, 1] + (t.mean() - p.mean()) ** 2))


def labels(task: str, rng: np.random.Generator, level: float, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Truth, and a prediction that is often right."""
    if task == "va":
        truth = np.round(np.clip(rng.normal(level, 0.1, (n, 2)), -1, 1), 6)
        return truth, np.round(np.clip(truth + rng.normal(0, 0.1, (n, 2)), -1, 1), 6)
    values, shape = 8 if task == "expr" else 2, (n, len(TASKS[task].columns))
    truth, other = (rng.integers(values, size=shape).astype(float) for _ in range(2))
    return truth, np.where(rng.random((n, 1)) < 0.6, truth, other)


def made(task: str, folder: Path) -> tuple[Path, Path, dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Three streams in folders truth and pred, and what is in them."""
    rng, streams = np.random.default_rng(0), {}
    for name, level in (("one", 0.4), ("two", -0.4), ("three", 0.1)):
        truth, guess = labels(task, rng, level)
        valid = rng.random(60) < 0.8
        write_labels(TASKS[task], folder / "truth" / f"{name}.txt", truth, valid)
        write_labels(TASKS[task], folder / "pred" / f"{name}.txt", guess, np.ones(60, bool))
        streams[name] = (truth, guess, valid)
    return folder / "truth", folder / "pred", streams


@pytest.fixture
def data(tmp_path) -> tuple[Path, Path, dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Valence and arousal; see `made`."""
    return made("va", tmp_path)


# ---- files ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ALL)
def test_folders_are_read_as_they_were_written(task, tmp_path):
    truth, pred, streams = made(task, tmp_path)
    videos = evaluate.folders(TASKS[task], truth, pred)
    assert set(videos) == set(streams)
    for name, (values, guess, valid) in streams.items():
        np.testing.assert_array_equal(videos[name][0][valid], values[valid])
        np.testing.assert_array_equal(videos[name][1], guess)
        np.testing.assert_array_equal(videos[name][2], valid)


def test_what_is_invalid_in_the_truth_may_be_anything_in_the_prediction(data):
    truth, pred, streams = data
    before = metrics.pooled(VA, evaluate.folders(VA, truth, pred))
    for name, (_, guess, valid) in streams.items():
        write_labels(VA, pred / f"{name}.txt", np.where(valid[:, None], guess, 0.99), valid)
    assert metrics.pooled(VA, evaluate.folders(VA, truth, pred)) == before


@pytest.mark.parametrize(("task", "mark"), [("va", -5), ("expr", -1), ("au", -1)])
def test_a_frame_left_out_is_refused_where_the_truth_has_a_value(task, mark, tmp_path):
    truth, pred, streams = made(task, tmp_path)
    _, guess, valid = streams["one"]
    given = np.ones(60, bool)
    hole = int(np.flatnonzero(valid)[5])
    given[hole] = False
    write_labels(TASKS[task], pred / "one.txt", guess, given)
    with pytest.raises(ManifestError) as caught:
        evaluate.folders(TASKS[task], truth, pred)
    assert str(caught.value).startswith(f"{pred / 'one.txt'}: line {hole + 2}: want a value where")
    assert str(caught.value).endswith(f"got {mark}; predict every frame")


@pytest.mark.parametrize("change", [-3, 2])
def test_lengths_may_differ_by_a_few_frames(data, change):
    truth, pred, streams = data
    _, guess, valid = streams["one"]
    other = guess[:change] if change < 0 else np.concatenate([guess, np.zeros((change, 2))])
    write_labels(VA, pred / "one.txt", other, np.ones(len(other), bool))
    shared = min(60, 60 + change)
    values, prediction, counted = evaluate.folders(VA, truth, pred)["one"]
    np.testing.assert_allclose(prediction, guess[:shared], atol=1e-9)
    np.testing.assert_array_equal(counted, valid[:shared])
    assert len(values) == shared


def test_a_prediction_that_ends_long_before_the_annotation_is_refused(data):
    truth, pred, _ = data
    write_labels(VA, truth / "one.txt", np.zeros((200, 2)), np.ones(200, bool))
    with pytest.raises(ManifestError, match=r"one\.txt: want a row a frame, got 60 rows where .* annotates 140 more"):
        evaluate.folders(VA, truth, pred)


def test_a_prediction_that_goes_on_long_after_the_annotation_is_refused(data):
    truth, pred, _ = data
    write_labels(VA, pred / "one.txt", np.zeros((300, 2)), np.ones(300, bool))
    with pytest.raises(ManifestError) as caught:
        evaluate.folders(VA, truth, pred)
    said = (
        f"{pred / 'one.txt'}: want at most 50 rows more than {truth / 'one.txt'} has, got 300 for 60; look whether both are of one video, "
    )
    assert str(caught.value) == f"{said}or fetch the annotation again"


@pytest.mark.parametrize(("frames", "more", "fits"), [(110, 0, True), (111, 0, False), (10, 50, True), (9, 51, False)])
def test_as_many_rows_may_lie_beyond_on_either_side(tmp_path, frames, more, fits):
    write_labels(VA, tmp_path / "truth" / "one.txt", np.zeros((60, 2)), np.ones(60, bool))
    write_labels(VA, tmp_path / "pred" / "one.txt", np.zeros((frames, 2)), np.ones(frames, bool))
    beyond: dict[str, int] = {}
    if fits:
        evaluate.folders(VA, tmp_path / "truth", tmp_path / "pred", beyond=beyond)
        assert beyond == ({"one": more} if more else {})
    else:
        with pytest.raises(ManifestError, match="50 rows more" if frames > 60 else "annotates 51 more"):
            evaluate.folders(VA, tmp_path / "truth", tmp_path / "pred")


def test_every_truth_file_wants_its_prediction(data):
    truth, pred, _ = data
    (pred / "extra.txt").write_text("not read")
    assert set(evaluate.folders(VA, truth, pred)) == {"one", "two", "three"}
    (pred / "two.txt").unlink()
    with pytest.raises(InputError, match=r"pred: want a prediction for each of 3 truth files, got none for two\.txt"):
        evaluate.folders(VA, truth, pred)


def test_folders_must_be_there_and_hold_files(data, tmp_path):
    truth, pred, _ = data
    with pytest.raises(InputError, match=r"none: want a folder of official text files, got none"):
        evaluate.folders(VA, tmp_path / "none", pred)
    with pytest.raises(InputError, match=r"none: want a folder"):
        evaluate.folders(VA, truth, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: want official text files \(\*\.txt\), got none"):
        evaluate.folders(VA, tmp_path / "empty", pred)


# ---- scores -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ALL)
def test_the_truth_scores_one(task, tmp_path):
    truth, _, _ = made(task, tmp_path)
    scores = evaluate.score(TASKS[task], evaluate.folders(TASKS[task], truth, truth))
    measure = TASKS[task].measure
    assert scores[measure] == scores["within_video"][measure] == 1
    assert scores["intervals"][measure] is None
    assert scores["constant"][measure] < 1


def test_scores_follow_the_definition(data):
    truth, pred, streams = data
    scores = evaluate.score(VA, evaluate.folders(VA, truth, pred))
    t, p = (np.concatenate([s[i][s[2]] for s in streams.values()]) for i in range(2))
    assert scores["ccc_valence"] == pytest.approx(ccc(t[:, 0], p[:, 0]), abs=1e-12)
    assert scores["ccc_arousal"] == pytest.approx(ccc(t[:, 1], p[:, 1]), abs=1e-12)
    assert scores["ccc"] == pytest.approx((scores["ccc_valence"] + scores["ccc_arousal"]) / 2, abs=1e-12)
    each = [np.mean([ccc(s[0][s[2], i], s[1][s[2], i]) for i in range(2)]) for s in streams.values()]
    assert scores["within_video"]["ccc"] == pytest.approx(np.mean(each), abs=1e-12)
    assert scores["videos"]["one"]["ccc"] == pytest.approx(each[0], abs=1e-12)
    assert scores["videos"]["one"]["frames"] == streams["one"][2].sum()
    assert scores["frames"] == len(t)
    means = np.concatenate([np.broadcast_to(s[0][s[2]].mean(axis=0), (s[2].sum(), 2)) for s in streams.values()])
    assert scores["constant"]["ccc_valence"] == pytest.approx(ccc(t[:, 0], means[:, 0]), abs=1e-12)
    assert scores["constant"]["within_video"] == dict.fromkeys(CCC, 0.0)


@pytest.mark.parametrize("task", ALL)
def test_a_score_holds_what_measures_and_intervals_say(task, tmp_path):
    _, _, streams = made(task, tmp_path)
    scores = evaluate.score(TASKS[task], streams, draws=300, seed=5)
    within = metrics.within_video(TASKS[task], streams)
    assert {key: scores[key] for key in TASKS[task].figures} == metrics.pooled(TASKS[task], streams)
    assert scores["within_video"] == within.scores
    assert scores["videos"] == within.table
    for name, of in (("intervals", "pooled"), ("within_intervals", "within_video")):
        want = bootstrap.interval(TASKS[task], streams, seed=5, of=of, draws=300)
        assert scores[name] == {key: list(limits) for key, limits in want.items()}
    constant = metrics.constant_baseline(TASKS[task], streams)
    assert scores["constant"] == metrics.pooled(TASKS[task], constant) | {
        "within_video": metrics.within_video(TASKS[task], constant).scores
    }
    assert ("confusion" in scores) == (task == "expr")
    assert "majority" not in scores
    assert json.loads(json.dumps(scores)) == scores  # plain types


def test_a_hand_worked_score():
    """Truth 0, 1; prediction 0, 0.5: covariance 1/8, variances 1/4 and 1/16, means 1/4 apart: 2/8 / (5/16 + 1/16) = 2/3."""
    video = (np.array([[0.0, 0], [1, 1]]), np.array([[0.0, 0], [0.5, 1]]), np.ones(2, bool))
    scores = evaluate.score(VA, {"a": video})
    assert scores["ccc_valence"] == pytest.approx(2 / 3, abs=1e-12)
    assert scores["ccc_arousal"] == 1.0
    assert scores["ccc"] == pytest.approx(5 / 6, abs=1e-12)
    assert scores["constant"] == {**dict.fromkeys(CCC, 0.0), "within_video": dict.fromkeys(CCC, 0.0)}
    assert scores["intervals"] == scores["within_intervals"] == dict.fromkeys(CCC)


def test_a_hand_worked_majority():
    """Truth 4 4 4 0 | 0 0: all 4 is right in 3 of 6; F1 of Happiness 6/9, of Neutral 0. By video, 4 and 0: 5 of 6, F1 6/7 and 4/5."""
    truth = {"a": np.array([[4.0], [4], [4], [0]]), "b": np.zeros((2, 1))}
    videos = {name: (t, t, np.ones(len(t), bool)) for name, t in truth.items()}
    scores = evaluate.score(EXPR, videos, majority=np.array([4.0]))
    assert scores["majority"]["accuracy"] == 1 / 2
    assert scores["majority"]["f1"] == pytest.approx((6 / 9 + 0) / 2, abs=1e-15)
    assert scores["majority"]["within_video"]["f1"] == pytest.approx((3 / 7 + 0) / 2, abs=1e-15)
    assert scores["constant"]["accuracy"] == pytest.approx(5 / 6, abs=1e-15)
    assert scores["constant"]["f1"] == pytest.approx((6 / 7 + 4 / 5) / 2, abs=1e-15)
    assert scores["constant"]["within_video"]["f1"] == pytest.approx((3 / 7 + 1) / 2, abs=1e-15)


def test_distributions_of_values():
    truth = np.array([[-1.0, 0.05], [1, 0.05], [0.99, -0.05]])
    guess = np.array([[-1.4, 0], [0.31, 0], [7, 0]])
    found = evaluate.score(VA, {"a": (truth, guess, np.ones(3, bool))})["distributions"]
    assert [len(found[which][column]) for which in ("truth", "prediction") for column in ("valence", "arousal")] == [20] * 4
    assert {i: n for i, n in enumerate(found["truth"]["valence"]) if n} == {0: 1, 19: 2}
    assert {i: n for i, n in enumerate(found["truth"]["arousal"]) if n} == {9: 1, 10: 2}
    assert {i: n for i, n in enumerate(found["prediction"]["valence"]) if n} == {0: 1, 13: 1, 19: 1}  # beyond the range: outer bins


def test_distributions_of_classes_and_units():
    truth, guess, valid = np.array([[0.0], [3], [3], [7]]), np.array([[3.0], [3], [3], [1]]), np.array([True, True, True, False])
    scores = evaluate.score(EXPR, {"a": (truth, guess, valid)})
    assert scores["distributions"]["truth"] == {**dict.fromkeys(EXPRESSIONS, 0), "Neutral": 1, "Fear": 2}
    assert scores["distributions"]["prediction"] == {**dict.fromkeys(EXPRESSIONS, 0), "Fear": 3}
    assert np.array(scores["confusion"]).sum() == 3
    assert (scores["confusion"][0][3], scores["confusion"][3][3]) == (1, 2)
    units = np.zeros((4, 12))
    units[:2, 2] = 1
    found = evaluate.score(AU, {"a": (units, 1 - units, valid)})["distributions"]
    assert found["truth"] == pytest.approx({**dict.fromkeys(ACTION_UNITS, 0.0), "AU4": 2 / 3})
    assert found["prediction"] == pytest.approx({**dict.fromkeys(ACTION_UNITS, 1.0), "AU4": 1 / 3})


def test_a_video_of_one_frame_counts_in_the_pooled_figure_alone():
    rng = np.random.default_rng(1)
    long = (rng.uniform(-1, 1, (9, 2)), rng.uniform(-1, 1, (9, 2)), np.ones(9, bool))
    short = (np.zeros((3, 2)), np.ones((3, 2)), np.array([False, True, False]))
    scores = evaluate.score(VA, {"long": long, "short": short})
    assert scores["left_out"] == ["short"]
    assert set(scores["videos"]) == {"long"}
    assert scores["frames"] == 10
    assert scores["ccc"] != pytest.approx(scores["within_video"]["ccc"])
    assert scores["intervals"]["ccc"] is not None
    assert scores["within_intervals"]["ccc"] is None


def test_a_truth_without_a_valid_frame_has_no_score():
    with pytest.raises(InputError, match="want at least one valid frame in the truth"):
        evaluate.score(VA, {"a": (np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(3, bool))})


@pytest.mark.parametrize("task", ALL)
def test_a_comparison_is_the_paired_difference(task, tmp_path):
    _, _, streams = made(task, tmp_path)
    rng = np.random.default_rng(8)
    other = {name: (t, rng.permutation(p), v) for name, (t, p, v) in streams.items()}
    found = evaluate.compare(TASKS[task], streams, other, draws=200, seed=3)
    assert found["videos"] == 3
    for of in ("pooled", "within_video"):
        want = bootstrap.difference(TASKS[task], streams, other, seed=3, of=of, draws=200)
        for key in TASKS[task].figures:
            row = found[of][key]
            assert row["difference"] == row["a"] - row["b"] == pytest.approx(want[key].estimate, abs=1e-12)
            assert (row["low"], row["high"]) == (want[key].low, want[key].high)
    measure = TASKS[task].measure
    assert found["pooled"][measure]["a"] == metrics.pooled(TASKS[task], streams)[measure]
    assert found["within_video"][measure]["b"] == metrics.within_video(TASKS[task], other).scores[measure]
    assert json.loads(json.dumps(found)) == found


# ---- tables and files -------------------------------------------------------------------------------------------------------------------


def test_a_table_has_a_row_a_system_and_the_constant_last(data):
    truth, pred, _ = data
    ours, perfect = (evaluate.score(VA, evaluate.folders(VA, truth, guess)) for guess in (pred, truth))
    rows = evaluate.table(VA, {"ours": ours, "perfect": perfect})
    assert [row[0] for row in rows] == ["ours", "perfect", "constant per video"]
    assert {len(row) for row in rows} == {len(VA.table_head)}
    low, high = ours["intervals"]["ccc"]
    within = [f"{ours['within_video'][key]:.3f}" for key in CCC]
    assert rows[0][1:] == (*(f"{ours[key]:.3f}" for key in CCC), f"{low:.3f} to {high:.3f}", *within)
    assert rows[1][1:] == ("1.000",) * 3 + ("-",) + ("1.000",) * 3
    assert rows[2][1:] == (*(f"{ours['constant'][key]:.3f}" for key in CCC), "-", *("0.000",) * 3)
    with pytest.raises(InputError, match="want at least one scored system"):
        evaluate.table(VA, {})


@pytest.mark.parametrize("task", ["expr", "au"])
def test_a_table_of_classes_has_both_majorities_last(task, tmp_path):
    _, _, streams = made(task, tmp_path)
    scores = evaluate.score(TASKS[task], streams, majority=np.ones(len(TASKS[task].columns)))
    rows = evaluate.table(TASKS[task], {"ours": scores})
    assert [row[0] for row in rows] == ["ours", "majority per video", "majority in training"]
    low, high = scores["intervals"]["f1"]
    cells = {name: [f"{of['f1']:.3f}", f"{of['within_video']['f1']:.3f}"] for name, of in (("ours", scores), ("last", scores["majority"]))}
    middle = [[f"{of['accuracy']:.3f}"] if task == "expr" else [] for of in (scores, scores["majority"])]
    assert list(rows[0][1:]) == [cells["ours"][0], f"{low:.3f} to {high:.3f}", *middle[0], cells["ours"][1]]
    assert list(rows[2][1:]) == [cells["last"][0], "-", *middle[1], cells["last"][1]]
    assert {len(row) for row in rows} == {len(TASKS[task].table_head)}
    assert len(evaluate.table(TASKS[task], {"ours": evaluate.score(TASKS[task], streams)})) == 2


def test_a_figure_that_does_not_exist_is_null_in_json_and_a_dash_in_a_table():
    one = (np.zeros((1, 2)), np.ones((1, 2)), np.ones(1, bool))
    scores = {"ours": {"va": evaluate.score(VA, {"one": one})}}
    read = json.loads(evaluate.to_json(scores))
    assert read["ours"]["va"]["within_video"]["ccc"] is None
    for figures in (scores["ours"]["va"], read["ours"]["va"]):
        assert evaluate.table(VA, {"ours": figures})[0][-3:] == ("-", "-", "-")


def test_json_keeps_every_digit(data):
    truth, pred, _ = data
    scores = evaluate.score(VA, evaluate.folders(VA, truth, pred))
    assert json.loads(evaluate.to_json({"ours": {"va": scores}}))["ours"]["va"] == scores


def test_csv_by_video(tmp_path):
    _, _, streams = made("expr", tmp_path)
    classes = streams["two"][0]
    classes[classes == 3] = streams["two"][1][streams["two"][1] == 3] = 0  # no Fear in this one
    scores = evaluate.score(EXPR, streams)
    rows = list(csv.DictReader(io.StringIO(evaluate.per_video_csv(EXPR, {"ours": scores, "again": scores}))))
    assert [(row["system"], row["video"]) for row in rows] == [(s, v) for s in ("ours", "again") for v in ("one", "two", "three")]
    assert list(rows[0]) == ["system", "video", "frames", *EXPR.figures]
    assert rows[1]["f1_Fear"] == ""
    assert float(rows[1]["f1"]) == scores["videos"]["two"]["f1"]
    assert int(rows[1]["frames"]) == streams["two"][2].sum()


def test_csv_of_a_run_names_each_figure_by_its_path(tmp_path):
    run = {}
    for task in ALL:
        _, _, streams = made(task, tmp_path / task)
        majority = None if task == "va" else np.zeros(len(TASKS[task].columns))
        run[task] = evaluate.score(TASKS[task], streams, majority=majority, draws=200)
    rows = list(csv.DictReader(io.StringIO(evaluate.to_csv({"ours": run}))))
    assert list(rows[0]) == ["system", "task", "figure", "value", "low", "high", *caveats.COLUMNS]
    assert {row[name] for row in rows for name in caveats.COLUMNS} == {""}  # nothing is known of folders
    found = {(row["task"], row["figure"]): row for row in rows}
    assert len(found) == len(rows) == 3 * 4 + 10 * 6 + 14 * 6  # figures by paths
    for task in ALL:
        key = TASKS[task].measure
        row = found[task, key]
        assert [float(row[name]) for name in ("value", "low", "high")] == [run[task][key], *run[task]["intervals"][key]]
        row = found[task, f"within_video.{key}"]
        assert [float(row["value"]), float(row["low"])] == [run[task]["within_video"][key], run[task]["within_intervals"][key][0]]
        assert float(found[task, f"constant.within_video.{key}"]["value"]) == run[task]["constant"]["within_video"][key]
        assert found[task, f"constant.{key}"]["low"] == ""
    assert float(found["au", "majority.f1"]["value"]) == run["au"]["majority"]["f1"]
    assert ("va", "majority.ccc") not in found
