"""Scores of files against truth."""

import json
from pathlib import Path

import numpy as np
import pytest

from affpipe import evaluate
from affpipe.errors import InputError, ManifestError
from affpipe.formats import write_labels

KEYS = ("ccc_valence", "ccc_arousal", "ccc")


def ccc(t: np.ndarray, p: np.ndarray) -> float:
    """By the definition, with numpy's covariance."""
    c = np.cov(t, p, bias=True)
    return float(2 * c[0, 1] / (c[0, 0] + c[1, 1] + (t.mean() - p.mean()) ** 2))


@pytest.fixture
def data(tmp_path) -> tuple[Path, Path, dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Two streams in folders truth and pred, and what is in them."""
    rng, streams = np.random.default_rng(0), {}
    for name, level in (("one", 0.4), ("two", -0.4)):
        truth = np.round(np.clip(rng.normal(level, 0.1, (60, 2)), -1, 1), 6)
        guess = np.round(np.clip(truth + rng.normal(0, 0.1, (60, 2)), -1, 1), 6)
        valid = rng.random(60) < 0.8
        write_labels("va", tmp_path / "truth" / f"{name}.txt", truth, valid)
        write_labels("va", tmp_path / "pred" / f"{name}.txt", guess, np.ones(60, bool))
        streams[name] = (truth, guess, valid)
    return tmp_path / "truth", tmp_path / "pred", streams


def test_the_truth_scores_one(data):
    truth, _, _ = data
    scores = evaluate.score(evaluate.folders(truth, truth))
    assert [scores[k] for k in KEYS] == [1.0, 1.0, 1.0]
    assert [scores["within_video"][k] for k in KEYS] == [1.0, 1.0, 1.0]
    assert scores["constant"]["ccc"] < 1


def test_scores_follow_the_definition(data):
    truth, pred, streams = data
    scores = evaluate.score(evaluate.folders(truth, pred))
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


def test_a_hand_worked_score():
    """Truth 0, 1; prediction 0, 0.5: covariance 1/8, variances 1/4 and 1/16, means 1/4 apart: 2/8 / (5/16 + 1/16) = 2/3."""
    video = (np.array([[0.0, 0], [1, 1]]), np.array([[0.0, 0], [0.5, 1]]), np.ones(2, bool))
    scores = evaluate.score({"a": video})
    assert scores["ccc_valence"] == pytest.approx(2 / 3, abs=1e-12)
    assert scores["ccc_arousal"] == 1.0
    assert scores["ccc"] == pytest.approx(5 / 6, abs=1e-12)
    assert scores["constant"] == {"ccc_valence": 0.0, "ccc_arousal": 0.0, "ccc": 0.0}


def test_a_video_of_one_frame_counts_in_the_pooled_figure_alone():
    rng = np.random.default_rng(1)
    long = (rng.uniform(-1, 1, (9, 2)), rng.uniform(-1, 1, (9, 2)), np.ones(9, bool))
    short = (np.zeros((3, 2)), np.ones((3, 2)), np.array([False, True, False]))
    scores = evaluate.score({"long": long, "short": short})
    assert scores["left_out"] == ("short",)
    assert set(scores["videos"]) == {"long"}
    assert scores["frames"] == 10
    assert scores["ccc"] != pytest.approx(scores["within_video"]["ccc"])


def test_what_is_invalid_in_the_truth_may_be_anything_in_the_prediction(data):
    truth, pred, streams = data
    before = evaluate.score(evaluate.folders(truth, pred))
    for name, (_, guess, valid) in streams.items():
        write_labels("va", pred / f"{name}.txt", np.where(valid[:, None], guess, 0.99), valid)
    assert evaluate.score(evaluate.folders(truth, pred)) == before


def test_a_frame_left_out_is_refused_where_the_truth_has_a_value(data):
    truth, pred, streams = data
    _, guess, valid = streams["one"]
    given = np.ones(60, bool)
    hole = int(np.flatnonzero(valid)[5])
    given[hole] = False
    write_labels("va", pred / "one.txt", guess, given)
    with pytest.raises(ManifestError) as caught:
        evaluate.folders(truth, pred)
    assert str(caught.value).startswith(f"{pred / 'one.txt'}: line {hole + 2}: want a value where")
    assert "predict every frame" in str(caught.value)


@pytest.mark.parametrize("change", [-3, 2])
def test_lengths_may_differ_by_a_few_frames(data, change):
    truth, pred, streams = data
    _, guess, valid = streams["one"]
    other = guess[:change] if change < 0 else np.concatenate([guess, np.zeros((change, 2))])
    write_labels("va", pred / "one.txt", other, np.ones(len(other), bool))
    shared = min(60, 60 + change)
    values, prediction, counted = evaluate.folders(truth, pred)["one"]
    np.testing.assert_allclose(prediction, guess[:shared], atol=1e-9)
    np.testing.assert_array_equal(counted, valid[:shared])
    assert len(values) == shared


def test_a_prediction_that_ends_long_before_the_annotation_is_refused(data):
    truth, pred, _ = data
    write_labels("va", truth / "one.txt", np.zeros((200, 2)), np.ones(200, bool))
    with pytest.raises(ManifestError, match=r"one\.txt: want a row a frame, got 60 rows where .* annotates 140 more"):
        evaluate.folders(truth, pred)


def test_a_figure_that_does_not_exist_is_null():
    one = (np.zeros((1, 2)), np.ones((1, 2)), np.ones(1, bool))
    text = evaluate.to_json(evaluate.score({"one": one}))
    assert json.loads(text)["within_video"]["ccc"] is None


def test_every_truth_file_wants_its_prediction(data):
    truth, pred, _ = data
    (pred / "extra.txt").write_text("not read")
    assert set(evaluate.folders(truth, pred)) == {"one", "two"}
    (pred / "two.txt").unlink()
    with pytest.raises(InputError, match=r"pred: want a prediction for each of 2 truth files, got none for two\.txt"):
        evaluate.folders(truth, pred)


def test_folders_must_be_there_and_hold_files(data, tmp_path):
    truth, pred, _ = data
    with pytest.raises(InputError, match=r"none: want a folder of official text files, got none"):
        evaluate.folders(tmp_path / "none", pred)
    with pytest.raises(InputError, match=r"none: want a folder"):
        evaluate.folders(truth, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: want official text files \(\*\.txt\), got none"):
        evaluate.folders(tmp_path / "empty", pred)


def test_a_truth_without_a_valid_frame_has_no_score():
    with pytest.raises(InputError, match="want at least one valid frame in the truth"):
        evaluate.score({"a": (np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(3, bool))})


def test_a_table_has_a_row_a_system_and_the_constant_last(data):
    truth, pred, _ = data
    ours, perfect = evaluate.score(evaluate.folders(truth, pred)), evaluate.score(evaluate.folders(truth, truth))
    rows = evaluate.table({"ours": ours, "perfect": perfect})
    assert [row[0] for row in rows] == ["ours", "perfect", "constant per video"]
    assert {len(row) for row in rows} == {len(evaluate.TABLE_HEAD)}
    assert rows[0][3] == f"{ours['ccc']:.3f}"
    assert rows[0][6] == f"{ours['within_video']['ccc']:.3f}"
    assert rows[1][1:] == ("1.000",) * 6
    assert rows[2][3] == f"{ours['constant']['ccc']:.3f}"
    with pytest.raises(InputError, match="want at least one scored system"):
        evaluate.table({})


def test_json_keeps_every_digit(data):
    truth, pred, _ = data
    scores = evaluate.score(evaluate.folders(truth, pred))
    assert json.loads(evaluate.to_json(scores))["ccc"] == scores["ccc"]
