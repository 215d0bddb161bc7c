"""CCC against its definition, numpy's covariance and torchmetrics; pooling, videos, the constant baseline."""

import numpy as np
import pytest
import torch

from affpipe.errors import InputError
from affpipe.metrics import ccc, constant_baseline, pooled, va_scores, within_video


def pair(n, seed=0, offset=0.3):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(-1, 1, n)
    return truth, 0.6 * truth + offset + 0.2 * rng.standard_normal(n)


def video(n, seed, level=0.0):
    rng = np.random.default_rng(seed)
    truth = level + 0.2 * rng.standard_normal((n, 2))
    return truth, truth + 0.3 * rng.standard_normal((n, 2)), rng.random(n) > 0.2


def test_a_value_worked_by_hand():
    # means 2 and 3, variances 2/3 and 8/3, covariance 4/3: (2 * 4/3) / (2/3 + 8/3 + 1) = 8/13
    assert ccc(np.array([1, 2, 3]), np.array([1, 3, 5])) == pytest.approx(8 / 13, abs=1e-15)


@pytest.mark.parametrize("n", [2, 5, 1000])
def test_ccc_matches_its_definition(n):
    truth, prediction = pair(n)
    (var_t, cov), (_, var_p) = np.cov(truth, prediction, bias=True)
    want = 2 * cov / (var_t + var_p + (truth.mean() - prediction.mean()) ** 2)
    assert ccc(truth, prediction) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("n", [5, 1000])
def test_ccc_agrees_with_torchmetrics(n):
    from torchmetrics.regression import ConcordanceCorrCoef

    # torchmetrics divides variances and covariance by n - 1: its value is ours for a squared offset that is n / (n - 1) times as large.
    truth, prediction = pair(n)
    offset = prediction.mean() - truth.mean()
    theirs = ConcordanceCorrCoef().set_dtype(torch.float64)
    shifted = torch.from_numpy(prediction + offset * (np.sqrt(n / (n - 1)) - 1))
    assert ccc(truth, prediction) == pytest.approx(float(theirs(shifted, torch.from_numpy(truth))), abs=1e-12)


def test_ccc_of_itself_is_one_at_five_points():
    x = np.array([0.1, -0.4, 0.3, 0.9, -1.0])
    assert ccc(x, x) == 1
    assert ccc(x, -x) == pytest.approx(2 * -np.var(x) / (2 * np.var(x) + 4 * x.mean() ** 2), abs=1e-15)


def test_ccc_is_symmetric_and_falls_with_an_offset_and_a_scale():
    truth, prediction = pair(50)
    assert ccc(truth, prediction) == pytest.approx(ccc(prediction, truth), abs=1e-15)
    assert ccc(truth, truth + 0.1) < 1
    assert ccc(truth, truth * 0.9) < 1
    assert ccc(truth * 3 + 1, prediction * 3 + 1) == pytest.approx(ccc(truth, prediction), abs=1e-12)


def test_ccc_of_constants():
    constant, other = np.full(7, 0.1), np.arange(7.0)
    assert ccc(constant, constant) == 1
    assert ccc(constant, np.full(7, 0.2)) == 0
    assert ccc(constant, other) == 0
    assert ccc(other, constant) == 0
    assert ccc([0.5], [0.5]) == 1
    assert ccc([0.5], [0.4]) == 0


def test_ccc_keeps_its_precision_far_from_zero():
    truth, prediction = pair(1000)
    assert ccc(truth + 1e6, prediction + 1e6) == pytest.approx(ccc(truth, prediction), abs=1e-8)
    assert ccc(truth.astype(np.float32), truth.astype(np.float32) + np.float32(0)) == 1


def test_ccc_refuses_what_has_no_value():
    with pytest.raises(InputError, match="n >= 1"):
        ccc([], [])
    with pytest.raises(InputError, match=r"\(2,\) and \(3,\)"):
        ccc([1, 2], [1, 2, 3])
    with pytest.raises(InputError, match="want finite values"):
        ccc([1, 2], [1, np.nan])


@pytest.mark.parametrize("junk", [-5.0, 1e300, np.nan, np.inf])
def test_invalid_frames_never_count(junk):
    truth, prediction, valid = video(40, seed=1)
    want = va_scores(truth[valid], prediction[valid], np.ones(valid.sum(), bool))
    truth[~valid] = prediction[~valid] = junk
    assert va_scores(truth, prediction, valid) == want
    assert pooled({"a": (truth, prediction, valid)}) == want
    assert within_video({"a": (truth, prediction, valid)}).scores == want
    assert constant_baseline({"a": (truth, prediction, valid)}) == {"ccc_valence": 0, "ccc_arousal": 0, "ccc": 0}


def test_va_scores_name_their_columns():
    truth, prediction, valid = video(40, seed=1)
    scores = va_scores(truth, prediction, valid)
    assert scores["ccc_valence"] == ccc(truth[valid, 0], prediction[valid, 0])
    assert scores["ccc_arousal"] == ccc(truth[valid, 1], prediction[valid, 1])
    assert scores["ccc"] == (scores["ccc_valence"] + scores["ccc_arousal"]) / 2


def test_pooled_is_one_sequence_in_any_order():
    videos = {name: video(n, seed=n, level=n / 100) for name, n in (("a", 30), ("b", 50), ("c", 10))}
    parts = [np.concatenate(column) for column in zip(*videos.values(), strict=True)]
    assert pooled(videos) == va_scores(*parts)
    backwards = pooled(dict(reversed(videos.items())))
    assert backwards == pytest.approx(pooled(videos), abs=1e-12)


def test_within_video_means_over_videos_and_counts_the_rest():
    a, b, short, empty = video(30, seed=1), video(300, seed=2), video(5, seed=3), video(5, seed=4)
    short[2][:] = [True, False, False, False, False]
    empty[2][:] = False
    result = within_video({"a": a, "short": short, "b": b, "empty": empty})
    assert result.left_out == ("short", "empty")
    assert list(result.table) == ["a", "b"]
    assert result.table["b"] == va_scores(*b) | {"frames": b[2].sum()}
    for key, value in result.scores.items():
        assert value == pytest.approx((va_scores(*a)[key] + va_scores(*b)[key]) / 2, abs=1e-15)


def test_within_video_without_a_usable_video_has_no_score():
    result = within_video({"a": (np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(3, bool))})
    assert result.table == {}
    assert np.isnan(list(result.scores.values())).all()


def test_constant_baseline_predicts_each_video_by_its_own_mean():
    videos = {name: video(n, seed=n, level=level) for name, n, level in (("a", 30, -0.5), ("b", 50, 0.1), ("c", 20, 0.6))}
    means = {name: (t, np.tile(t[v].mean(axis=0), (len(t), 1)), v) for name, (t, _, v) in videos.items()}
    assert constant_baseline(videos) == pytest.approx(pooled(means), abs=1e-12)
    unread = {name: (t, np.full_like(p, np.nan), v) for name, (t, p, v) in videos.items()}
    assert constant_baseline(unread) == constant_baseline(videos)
    assert constant_baseline(videos)["ccc"] > 0.8  # levels differ by far more than frames do


def test_constant_baseline_worked_by_hand():
    # truth 0, 2 | 4, 6 and levels 1, 1 | 5, 5: variances 5 and 4, covariance 4, equal means: 8 / 9
    truth = np.array([[0, 0], [2, 2], [4, 4], [6, 6]], float)
    ok = np.ones(2, bool)
    scores = constant_baseline({"a": (truth[:2], truth[:2], ok), "b": (truth[2:], truth[2:], ok), "none": (truth[:2], truth[:2], ~ok)})
    assert scores["ccc"] == pytest.approx(8 / 9, abs=1e-15)


def test_shapes_are_checked():
    with pytest.raises(InputError, match=r"clip: want truth and prediction \(T, 2\) and valid bool \(T,\), got \(3, 2\), \(4, 2\)"):
        pooled({"clip": (np.zeros((3, 2)), np.zeros((4, 2)), np.ones(3, bool))})
    with pytest.raises(InputError, match="int64"):
        va_scores(np.zeros((3, 2)), np.zeros((3, 2)), np.ones(3, int))
    with pytest.raises(InputError, match="at least one valid frame, got none in 0 videos"):
        pooled({})
    with pytest.raises(InputError, match="any frames valid"):
        va_scores(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(3, bool))
