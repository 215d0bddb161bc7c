"""Decoders equal plain loops; thresholds are the best there are; what is not valid is never read."""

import math

import numpy as np
import pytest

from affpipe.core.errors import InputError
from affpipe.core.tasks.classes import softmax
from affpipe.core.tasks.smoothing import smooth
from affpipe.core.tasks.table import AU, EXPR, VA
from affpipe.core.tasks.task import Decoding
from affpipe.core.tasks.thresholds import best_thresholds, present
from affpipe.core.tasks.units import sigmoid


def logits_of(classes, rng):
    """(T, 8) logits whose greatest is that of the class, at least 1 above the others, around any level."""
    out = rng.uniform(-3, 3, (len(classes), 8))
    out[np.arange(len(classes)), classes] = 4 + rng.random(len(classes))
    return out + rng.uniform(-50, 50, (len(classes), 1))


def f1(probabilities, truth, threshold):
    """F1 of one unit by its definition, in counts."""
    true = false = missed = 0
    for p, t in zip(probabilities.tolist(), truth.tolist(), strict=True):
        true += p >= threshold and t >= 0.5
        false += p >= threshold and t < 0.5
        missed += p < threshold and t >= 0.5
    return 2 * true / (2 * true + false + missed) if true else 0.0


def rows(n, seed=0, levels=None):
    rng = np.random.default_rng(seed)
    probabilities = rng.random((n, 12))
    if levels:
        probabilities = np.round(probabilities * levels) / levels
    truth = (rng.random((n, 12)) < probabilities * rng.uniform(0.1, 1, 12)).astype(np.float64)
    return probabilities, truth, rng.random(n) < 0.8


@pytest.mark.parametrize("filter", ["mean", "median"])
def test_values_are_smoothed_and_then_clipped(filter):
    raw, valid = np.random.default_rng(0).uniform(-3, 3, (60, 2)), np.random.default_rng(1).random(60) < 0.9
    out = VA.decode(raw, valid, Decoding(filter, (5, 9)))[0]
    np.testing.assert_array_equal(out, np.clip(smooth(raw, valid, filter=filter, frames=(5, 9)), -1, 1))
    early = smooth(np.clip(raw, -1, 1), valid, filter=filter, frames=(5, 9))
    assert filter == "median" or not np.allclose(out, early)
    assert np.abs(out).max() == 1


def test_values_without_a_filter_are_clipped_alone():
    raw = np.array([[0.25, -1.5], [3, 0.5]], np.float32)
    out = VA.decode(raw, np.ones(2, bool), Decoding("none", (5, 9)))[0]
    np.testing.assert_array_equal(out, [[0.25, -1], [1, 0.5]])
    assert out.dtype == np.float64
    assert raw[1, 0] == 3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("filter", ["none", "median", "mode"])
def test_a_frame_has_the_class_of_its_greatest_logit(filter, dtype):
    rng = np.random.default_rng(2)
    classes, valid = rng.integers(0, 8, 90), rng.random(90) < 0.8
    logits = logits_of(classes, rng).astype(dtype)
    logits[~valid] = np.nan
    out = EXPR.decode(logits, valid, Decoding(filter, (1,)))[0][:, 0]
    np.testing.assert_array_equal(out, np.where(valid, classes, -1))
    assert out.dtype == np.float64


@pytest.mark.parametrize("junk", [np.nan, np.inf, -9.0])
@pytest.mark.parametrize("filter", ["median", "mode"])
def test_expressions_are_filtered_within_runs(filter, junk):
    rng = np.random.default_rng(0)
    classes = np.repeat([4, 1, 4, 0, 2, 6], [9, 2, 9, 3, 10, 10])
    valid = classes != 0  # a gap, with class 4 before and 2 behind
    logits = logits_of(classes, rng)
    logits[~valid] = junk
    out = EXPR.decode(logits, valid, Decoding(filter, (5,)))[0][:, 0]
    np.testing.assert_array_equal(out, np.repeat([4, -1, 2, 6], [20, 3, 10, 10]))


def test_equal_logits_are_the_lowest_class():
    np.testing.assert_array_equal(EXPR.decode(np.zeros((3, 8)), np.ones(3, bool), Decoding("none", (1,)))[0][:, 0], 0)


def test_no_frames_have_no_labels():
    none = np.zeros(0, bool)
    assert VA.decode(np.zeros((0, 2)), none, Decoding("mean", (3, 3)))[0].shape == (0, 2)
    for filter in ("none", "median", "mode"):
        assert EXPR.decode(np.zeros((0, 8)), none, Decoding(filter, (11,)))[0][:, 0].shape == (0,)
    assert softmax(np.zeros((0, 8))).shape == (0, 8)
    assert present(sigmoid(np.zeros((0, 12))), np.full(12, 0.5)).shape == (0, 12)


def test_probabilities_equal_their_formulas():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (20, 8))
    want = [[math.exp(x) / sum(map(math.exp, row)) for x in row] for row in logits.tolist()]
    np.testing.assert_allclose(softmax(logits), want, rtol=1e-12)
    np.testing.assert_allclose(softmax(logits + 500), want, rtol=1e-9)
    units = rng.normal(0, 4, (20, 12))
    np.testing.assert_allclose(sigmoid(units), [[1 / (1 + math.exp(-x)) for x in row] for row in units.tolist()], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_probabilities_of_huge_logits_are_safe(dtype):
    size = 6e4 if dtype == np.float16 else 1e30
    logits = np.zeros((2, 8), dtype)
    logits[0, 3], logits[1] = size, -size
    out = softmax(logits)
    np.testing.assert_array_equal(out[0], np.arange(8) == 3)
    np.testing.assert_allclose(out[1], 1 / 8)
    np.testing.assert_array_equal(sigmoid(np.tile(np.array([size, -size], dtype), (1, 6))), [[1, 0] * 6])
    assert out.dtype == sigmoid(np.zeros((1, 12), dtype)).dtype == (np.float64 if dtype == np.float64 else np.float32)


def test_a_unit_is_there_from_its_threshold_on():
    thresholds = np.linspace(0.1, 0.9, 12)
    probabilities = np.stack([thresholds, np.nextafter(thresholds, 0), np.nextafter(thresholds, 1), np.full(12, np.nan)])
    out = present(probabilities, thresholds)
    np.testing.assert_array_equal(out, np.array([1, 0, 1, 0])[:, None].repeat(12, axis=1))
    assert out.dtype == np.float64


@pytest.mark.parametrize(("n", "levels"), [(1, None), (2, None), (40, None), (40, 3), (90, 7), (90, 1)])
def test_no_threshold_has_a_greater_f1(n, levels):
    probabilities, truth, valid = rows(n, seed=n, levels=levels)
    valid[0] = True
    best = best_thresholds(probabilities, truth, valid)
    for unit in range(12):
        p, t = probabilities[valid, unit], truth[valid, unit]
        tried = {x: f1(p, t, x) for x in (0.5, 0.0, *p, *np.nextafter(p, 2))}
        got = f1(p, t, best[unit])
        assert got == max(tried.values())
        assert got >= tried[0.5]
        if not t.any():
            assert best[unit] == 0.5


def one(probabilities, truth, **rest):
    """best_thresholds of one unit; the others have no label."""
    p, t = np.zeros((len(truth), 12)), np.zeros((len(truth), 12))
    p[:, 4], t[:, 4] = probabilities, truth
    out = best_thresholds(p, t, np.ones(len(truth), bool), **rest)
    assert (np.delete(out, 4) == 0.5).all()
    return out[4]


def test_thresholds_worked_by_hand():
    assert one([0.1, 0.3, 0.7, 0.9], [0, 0, 1, 1]) == 0.5
    assert one([0.1, 0.2, 0.4, 0.9], [0, 1, 0, 1]) == pytest.approx(0.15)  # 2 of 3 right: 4/5; from 0.65 on: 2/3
    assert one([0.3, 0.6], [1, 1]) == pytest.approx(0.15)  # all: midway between 0 and the lowest
    assert one([0.0, 0.6], [1, 0]) == 0
    assert one([0.2, 0.2, 0.8], [1, 0, 0]) == pytest.approx(0.1)  # equal probabilities stay together
    assert one([0.2, 0.4], [0.5, 0.4]) == pytest.approx(0.1)  # a label of 0.5 is positive, one of 0.4 is not


def test_of_equal_f1_the_threshold_nearest_one_half_is_taken():
    # from 0.9 on: 1 of 1 right, 2 missed: 2 / (1 + 3); from 0.1 on: 3 of 9 right: 6 / (9 + 3): both 1/2, and so is 2 of 5: 4 / (5 + 3)
    probabilities = [0.9, 0.62, 0.62, 0.62, 0.61, 0.1, 0.1, 0.1, 0.09]
    truth = [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert [f1(np.array(probabilities), np.array(truth), x) for x in (0.76, 0.355, 0.05)] == [0.5] * 3
    assert one(probabilities, truth) == pytest.approx(0.355)
    # of two as near the lower: from 0.75 on 1 of 1 right, 2 / (1 + 3), from 0.25 on 2 of 5, 4 / (5 + 3)
    probabilities, truth = [0.875, 0.625, 0.625, 0.625, 0.375, 0.125], [1, 0, 0, 0, 1, 1]
    for grid in ([0.75, 0.25], [0.25, 0.75]):
        assert one(probabilities, truth, grid=np.array(grid)) == 0.25


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_neighbouring_numbers_are_parted(dtype):
    for level in (0.5, 0.3, 1.0, 6e-5):
        upper = dtype(level)
        lower = np.nextafter(upper, dtype(0))
        p = np.full((2, 12), lower)
        p[1] = upper
        truth = np.zeros((2, 12))
        truth[1] = 1
        best = best_thresholds(p, truth, np.ones(2, bool))
        np.testing.assert_array_equal(present(p, best), truth)


def test_invalid_rows_never_move_a_threshold():
    probabilities, truth, valid = rows(70)
    want = best_thresholds(probabilities[valid], truth[valid], np.ones(valid.sum(), bool))
    for junk in (np.nan, -1.0, 80.0):
        probabilities[~valid] = truth[~valid] = junk
        np.testing.assert_array_equal(best_thresholds(probabilities, truth, valid), want)
    order = np.random.default_rng(9).permutation(70)
    np.testing.assert_array_equal(best_thresholds(probabilities[order], truth[order], valid[order]), want)
    np.testing.assert_array_equal(best_thresholds(probabilities, truth, np.zeros(70, bool)), 0.5)


def test_a_grid_is_searched_alone():
    probabilities, truth, valid = rows(90, seed=5)
    grid = np.array([0.7, 0.2, 0.45, 1.0])
    best = best_thresholds(probabilities, truth, valid, grid=grid)
    for unit in range(12):
        tried = {x: f1(probabilities[valid, unit], truth[valid, unit], x) for x in grid}
        near = [x for x in grid if tried[x] == max(tried.values())]
        assert best[unit] == min(near, key=lambda x: (abs(x - 0.5), x))
    assert one([0.1, 0.2], [1, 0], grid=np.array([0.9, 0.75, 0.25, 0.3])) == 0.3  # F1 is 0 everywhere


def test_many_distinct_values_are_searched_whole():
    # Labels true with probability p, p uniform: F1 from t on is (1 - t²) / (1 - t + 1/2), greatest, 3 - √5, at t = (3 - √5) / 2
    rng = np.random.default_rng(0)
    probabilities = rng.random((200_000, 12), dtype=np.float32)
    truth = (rng.random((200_000, 12)) < probabilities).astype(np.float32)
    best = best_thresholds(probabilities, truth, np.ones(200_000, bool))
    np.testing.assert_allclose(best, (3 - math.sqrt(5)) / 2, atol=0.05)  # the top is flat: a draw moves it by N^(-1/3)
    labels = present(probabilities, best)
    figure = 2 * (labels * truth).sum(axis=0) / (labels.sum(axis=0) + truth.sum(axis=0))
    np.testing.assert_allclose(figure, 3 - math.sqrt(5), atol=0.005)


def test_what_does_not_fit_is_refused():
    ok = np.ones(3, bool)
    with pytest.raises(InputError, match=r"va: want \(T, 2\), got \(3, 8\)"):
        VA.decode(np.zeros((3, 8)), ok, Decoding("none", (1, 1)))
    with pytest.raises(InputError, match=r"expr: want valid bool \(T,\) for \(3, 8\), got int64 \(3,\)"):
        EXPR.decode(np.zeros((3, 8)), ok.astype(np.int64), Decoding("none", (1,)))
    with pytest.raises(InputError, match="expr: want numbers at valid frames, got NaN"):
        EXPR.decode(np.full((3, 8), np.nan), ok, Decoding("mode", (3,)))
    with pytest.raises(InputError, match=r"want a filter of \['median', 'mode'\], got 'mean'"):
        EXPR.decode(np.zeros((3, 8)), ok, Decoding("mean", (3,)))
    with pytest.raises(InputError, match=r"au: want \(T, 12\), got \(3, 8\)"):
        AU.decode(np.zeros((3, 8)), ok, Decoding())
    with pytest.raises(InputError, match=r"present: want \(T, 11\), got \(3, 12\)"):
        present(np.zeros((3, 12)), np.full(11, 0.5))
    with pytest.raises(InputError, match=r"want probabilities of unit 0 in \[0, 1\] at valid rows; give no logits"):
        best_thresholds(np.full((3, 12), 4.0), np.ones((3, 12)), ok)
    with pytest.raises(InputError, match=r"want truth of unit 0 in \[0, 1\]"):
        best_thresholds(np.zeros((3, 12)), np.full((3, 12), -1), ok)
    with pytest.raises(InputError, match=r"want a grid \(G,\) with G >= 1, got \(0,\)"):
        best_thresholds(np.zeros((3, 12)), np.zeros((3, 12)), ok, grid=np.zeros(0))
