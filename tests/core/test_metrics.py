"""Measures against their definitions, loops and torchmetrics; pooling, videos, baselines."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from affpipe.core.errors import InputError
from affpipe.core.tasks.concordance import ccc, ccc_of_moments, moments
from affpipe.core.tasks.f1 import confusion, unit_counts
from affpipe.core.tasks.metrics import (
    constant_baseline,
    label_counts,
    majority_baseline,
    majority_row,
    pooled,
    scores,
    within_video,
)
from affpipe.core.tasks.table import ACTION_UNITS, AU, EXPR, EXPRESSIONS, TASKS, VA

ALL = tuple(TASKS)


def pair(n, seed=0, offset=0.3):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(-1, 1, n)
    return truth, 0.6 * truth + offset + 0.2 * rng.standard_normal(n)


def video(n, seed, level=0.0, task="va"):
    """Labels, half of the frames' predictions drawn anew, most frames valid."""
    rng = np.random.default_rng(seed)
    if task == "va":
        truth = level + 0.2 * rng.standard_normal((n, 2))
        return truth, truth + 0.3 * rng.standard_normal((n, 2)), rng.random(n) > 0.2
    shape, values = (n, len(TASKS[task].columns)), len(EXPRESSIONS) if task == "expr" else 2
    truth, other = (rng.integers(values, size=shape).astype(float) for _ in range(2))
    return truth, np.where(rng.random(shape) < 0.5, truth, other), rng.random(n) > 0.2


def f1_by_loop(truth, prediction):
    """Exact F1 of one class from sequences of True and False; None for 0 / 0."""
    tp = fp = fn = 0
    for t, p in zip(truth, prediction, strict=True):
        tp, fp, fn = tp + (t and p), fp + (p and not t), fn + (t and not p)
    return Fraction(2 * int(tp), 2 * int(tp) + int(fp) + int(fn)) if tp + fp + fn else None


def by_loop(task, truth, prediction):
    """All F1 figures of expr or au, and accuracy, in exact fractions."""
    if task == "expr":
        names, columns = EXPRESSIONS, [(truth[:, 0] == c, prediction[:, 0] == c) for c in range(8)]
    else:
        names, columns = ACTION_UNITS, [(truth[:, i] == 1, prediction[:, i] == 1) for i in range(12)]
    each = {f"f1_{name}": f1_by_loop(*column) for name, column in zip(names, columns, strict=True)}
    known = [value for value in each.values() if value is not None]
    right = sum(int(t == p) for row in zip(truth, prediction, strict=True) for t, p in zip(*row, strict=True))
    return {"f1": sum(known) / len(known) if known else Fraction(1), "accuracy": Fraction(right, truth.size), **each}


def same(got, want):
    """Figures equal to 1e-12, and NaN where there is none."""
    assert list(got) == list(want)
    for key, value in want.items():
        assert np.isnan(got[key]) if value is None else abs(got[key] - float(value)) < 1e-12, key


# ---- valence and arousal ----------------------------------------------------------------------------------------------------------------


def test_a_value_worked_by_hand():
    # means 2 and 3, variances 2/3 and 8/3, covariance 4/3: (2 * 4/3) / (2/3 + 8/3 + 1) = 8/13
    assert ccc(np.array([1, 2, 3]), np.array([1, 3, 5])) == pytest.approx(8 / 13, abs=1e-15)


@pytest.mark.parametrize("n", [2, 5, 1000])
def test_ccc_matches_its_definition(n):
    truth, prediction = pair(n)
    (var_t, cov), (_, var_p) = np.cov(truth, prediction, bias=True)
    want = 2 * cov / (var_t + var_p + (truth.mean() - prediction.mean()) ** 2)
    assert ccc(truth, prediction) == pytest.approx(want, abs=1e-12)
    assert ccc_of_moments(moments(truth, prediction)) == pytest.approx(want, abs=1e-12)


def test_ccc_matches_exact_fractions():
    truth, prediction = pair(200)
    t, p = [Fraction(x) for x in truth], [Fraction(x) for x in prediction]
    mean_t, mean_p = sum(t) / 200, sum(p) / 200
    cov = sum((x - mean_t) * (y - mean_p) for x, y in zip(t, p, strict=True))
    spread = sum((x - mean_t) ** 2 for x in t) + sum((y - mean_p) ** 2 for y in p) + 200 * (mean_t - mean_p) ** 2
    assert abs(ccc(truth, prediction) - float(2 * cov / spread)) < 1e-14


@pytest.mark.usefixtures("with_torchvision")
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


def test_ccc_of_moments_follows_the_rules_for_constants():
    constant, other = np.full(7, 0.1), np.arange(7.0)
    cases = [(constant, constant), (constant, constant + 0.1), (constant, other), (other, constant), (other, other)]
    summed = np.stack([moments(t, p) for t, p in cases] + [np.zeros(6)])
    np.testing.assert_allclose(ccc_of_moments(summed), [1, 0, 0, 0, 1, np.nan], atol=1e-14)


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


def test_va_scores_name_their_columns():
    truth, prediction, valid = video(40, seed=1)
    found = scores(VA, truth, prediction, valid)
    assert found["ccc_valence"] == ccc(truth[valid, 0], prediction[valid, 0])
    assert found["ccc_arousal"] == ccc(truth[valid, 1], prediction[valid, 1])
    assert found["ccc"] == (found["ccc_valence"] + found["ccc_arousal"]) / 2


# ---- expressions and action units -------------------------------------------------------------------------------------------------------


def test_expression_scores_worked_by_hand():
    # Neutral 0 0 0 1 | 0 0 3 1: tp 2, fn 1, F1 4/5; Anger (1) 1; Fear (3) guessed once, F1 0; the mean is over these three.
    found = scores(EXPR, np.array([[0.0], [0], [0], [1]]), np.array([[0.0], [0], [3], [1]]), np.ones(4, bool))
    assert found["f1_Neutral"] == pytest.approx(4 / 5, abs=1e-15)
    assert (found["f1_Anger"], found["f1_Fear"], found["accuracy"]) == (1, 0, 0.75)
    assert np.isnan(found["f1_Disgust"])
    assert found["f1"] == pytest.approx((4 / 5 + 1 + 0) / 3, abs=1e-15)


def test_unit_scores_worked_by_hand():
    # AU1: tp 1, fp 1, fn 1: F1 1/2. AU2: all missed: 0. The rest never occurs. 3 of 48 cells are wrong: AU1 two, AU2 one.
    truth, prediction = np.zeros((4, 12)), np.zeros((4, 12))
    truth[:2, 0], prediction[1:3, 0], truth[3, 1] = 1, 1, 1
    found = scores(AU, truth, prediction, np.ones(4, bool))
    assert (found["f1_AU1"], found["f1_AU2"], found["f1"], found["accuracy"]) == (0.5, 0, 0.25, 45 / 48)
    assert all(np.isnan(found[f"f1_{unit}"]) for unit in ACTION_UNITS[2:])


@pytest.mark.parametrize("task", ["expr", "au"])
@pytest.mark.parametrize("n", [1, 3, 7, 500])
def test_f1_equals_exact_counts_in_a_loop(task, n):
    for seed in range(5):
        truth, prediction, _ = video(n, seed, task=task)
        same(scores(TASKS[task], truth, prediction, np.ones(n, bool)), by_loop(task, truth, prediction))


def test_rare_classes_and_units_equal_the_loop_too():
    rng = np.random.default_rng(3)
    for task, draw in (("expr", lambda n: rng.choice(8, size=(n, 1), p=[0.7, 0.29, 0.01, 0, 0, 0, 0, 0])), ("au", None)):
        for n in (2, 20, 200):
            truth, prediction = (draw(n) if draw else (rng.random((n, 12)) < 0.02) for _ in range(2))
            same(
                scores(TASKS[task], truth, prediction, np.ones(n, bool)), by_loop(task, np.asarray(truth, int), np.asarray(prediction, int))
            )


def test_units_that_never_occur_agree_everywhere():
    nothing = np.zeros((5, 12))
    found = scores(AU, nothing, nothing, np.ones(5, bool))
    assert (found["f1"], found["accuracy"]) == (1, 1)
    assert all(np.isnan(found[f"f1_{unit}"]) for unit in ACTION_UNITS)
    one = nothing.copy()
    one[2, 5] = 1
    assert scores(AU, nothing, one, np.ones(5, bool))["f1"] == 0


@pytest.mark.parametrize("task", ALL)
def test_perfect_agreement_scores_one(task):
    truth, _, valid = video(60, seed=4, task=task)
    found = scores(TASKS[task], truth, truth, valid)
    assert list(found) == list(TASKS[task].figures)
    assert {value for value in found.values() if not np.isnan(value)} == {1.0}
    assert TASKS[task].measure in found


def test_confusion_has_truth_in_rows():
    matrix = confusion(np.array([0.0, 0, 2, 7]), np.array([0.0, 1, 1, 7]), 8)
    assert matrix.shape == (8, 8)
    assert matrix.dtype == np.int64
    assert matrix.sum() == 4
    assert matrix[0, 0] == matrix[0, 1] == matrix[2, 1] == matrix[7, 7] == 1


def test_unit_counts_add_up_to_the_frames():
    truth, prediction, _ = video(50, seed=6, task="au")
    counts = unit_counts(truth, prediction)
    assert counts.shape == (12, 4)
    assert counts.dtype == np.int64
    t, p = truth[:, 3], prediction[:, 3]
    assert counts[3].tolist() == [((t == a) & (p == b)).sum() for a, b in ((1, 1), (0, 1), (1, 0), (0, 0))]
    assert (counts.sum(axis=1) == 50).all()


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.uint8])
def test_class_numbers_may_be_of_any_number_type(dtype):
    for task in ("expr", "au"):
        truth, prediction, valid = video(30, seed=7, task=task)
        got = scores(TASKS[task], truth.astype(dtype), prediction.astype(dtype), valid)
        np.testing.assert_equal(got, scores(TASKS[task], truth, prediction, valid))


# ---- sets of videos ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ALL)
@pytest.mark.parametrize("junk", [-5.0, 1e300, np.nan, np.inf])
def test_invalid_frames_never_count(task, junk):
    truth, prediction, valid = video(40, seed=1, task=task)
    want = scores(TASKS[task], truth[valid], prediction[valid], np.ones(valid.sum(), bool))
    level = pooled(TASKS[task], constant_baseline(TASKS[task], {"a": (truth, prediction, valid)}))
    truth[~valid] = prediction[~valid] = junk
    spoilt = {"a": (truth, prediction, valid)}
    np.testing.assert_equal(scores(TASKS[task], truth, prediction, valid), want)
    np.testing.assert_equal(pooled(TASKS[task], spoilt), want)
    np.testing.assert_equal(within_video(TASKS[task], spoilt).scores, want)
    np.testing.assert_equal(pooled(TASKS[task], constant_baseline(TASKS[task], spoilt)), level)


@pytest.mark.parametrize("task", ALL)
def test_pooled_is_one_sequence_in_any_order(task):
    videos = {name: video(n, seed=n, level=n / 100, task=task) for name, n in (("a", 30), ("b", 50), ("c", 10))}
    parts = [np.concatenate(column) for column in zip(*videos.values(), strict=True)]
    np.testing.assert_equal(pooled(TASKS[task], videos), scores(TASKS[task], *parts))
    backwards = pooled(TASKS[task], dict(reversed(videos.items())))
    assert backwards == pytest.approx(pooled(TASKS[task], videos), abs=1e-12)


@pytest.mark.parametrize("task", ALL)
def test_within_video_means_over_videos_and_counts_the_rest(task):
    a, b, short, empty = (video(n, seed, task=task) for n, seed in ((30, 1), (300, 2), (5, 3), (5, 4)))
    short[2][:] = [True, False, False, False, False]
    empty[2][:] = False
    result = within_video(TASKS[task], {"a": a, "short": short, "b": b, "empty": empty})
    assert result.left_out == ("short", "empty")
    assert list(result.table) == ["a", "b"]
    np.testing.assert_equal(result.table["b"], scores(TASKS[task], *b) | {"frames": b[2].sum()})
    for key, value in result.scores.items():
        assert value == pytest.approx((scores(TASKS[task], *a)[key] + scores(TASKS[task], *b)[key]) / 2, abs=1e-15)


def test_a_class_counts_within_the_videos_that_have_it():
    ok = np.ones(4, bool)
    with_anger = (np.array([[0.0], [1], [1], [1]]), np.array([[0.0], [1], [0], [0]]), ok)
    without = (np.zeros((4, 1)), np.zeros((4, 1)), ok)
    result = within_video(EXPR, {"with": with_anger, "without": without})
    assert result.scores["f1_Anger"] == scores(EXPR, *with_anger)["f1_Anger"] == 0.5
    assert result.scores["f1_Neutral"] == (0.5 + 1) / 2
    assert result.scores["f1"] == (0.5 + 1) / 2
    assert np.isnan(result.scores["f1_Other"])


@pytest.mark.parametrize("task", ALL)
def test_within_video_without_a_usable_video_has_no_score(task):
    nothing = np.zeros((3, len(TASKS[task].columns)))
    result = within_video(TASKS[task], {"a": (nothing, nothing, np.zeros(3, bool))})
    assert result.table == {}
    assert np.isnan(list(result.scores.values())).all()


# ---- baselines --------------------------------------------------------------------------------------------------------------------------


def test_constant_baseline_predicts_each_video_by_its_own_mean():
    videos = {name: video(n, seed=n, level=level) for name, n, level in (("a", 30, -0.5), ("b", 50, 0.1), ("c", 20, 0.6))}
    means = {name: (t, np.tile(t[v].mean(axis=0), (len(t), 1)), v) for name, (t, _, v) in videos.items()}
    found = pooled(VA, constant_baseline(VA, videos))
    assert found == pytest.approx(pooled(VA, means), abs=1e-12)
    assert found["ccc"] > 0.8  # levels differ by far more than frames do
    assert within_video(VA, constant_baseline(VA, videos)).scores == {"ccc_valence": 0, "ccc_arousal": 0, "ccc": 0}


def test_constant_baseline_worked_by_hand():
    # truth 0, 2 | 4, 6 and levels 1, 1 | 5, 5: variances 5 and 4, covariance 4, equal means: 8 / 9
    truth = np.array([[0, 0], [2, 2], [4, 4], [6, 6]], float)
    ok = np.ones(2, bool)
    videos = constant_baseline(VA, {"a": (truth[:2], truth[:2], ok), "b": (truth[2:], truth[2:], ok), "none": (truth[:2], truth[:2], ~ok)})
    assert pooled(VA, videos)["ccc"] == pytest.approx(8 / 9, abs=1e-15)


@pytest.mark.parametrize("task", ["expr", "au"])
def test_constant_baseline_predicts_each_video_by_its_most_frequent_value(task):
    k = len(TASKS[task].columns)
    column = np.array([1.0, 0, 1, 1, 0])
    videos = {
        "a": (np.tile(column[:, None], k), np.ones((5, k)), np.ones(5, bool)),
        "b": (np.zeros((3, k)), np.ones((3, k)), np.ones(3, bool)),
    }
    found = constant_baseline(TASKS[task], videos)
    assert (found["a"][1] == 1).all()
    assert (found["b"][1] == 0).all()
    tie = (videos["a"][0], videos["a"][1], np.array([True, True, False, False, False]))
    assert (constant_baseline(TASKS[task], {"tie": tie})["tie"][1] == 0).all()


@pytest.mark.parametrize("task", ALL)
def test_baselines_do_not_read_predictions(task):
    videos = {name: video(20, seed=seed, task=task) for name, seed in (("a", 1), ("b", 2))}
    unread = {name: (t, np.full_like(p, np.nan), v) for name, (t, p, v) in videos.items()}
    np.testing.assert_equal(constant_baseline(TASKS[task], unread), constant_baseline(TASKS[task], videos))
    if task != "va":
        row = np.ones(len(TASKS[task].columns))
        np.testing.assert_equal(majority_baseline(TASKS[task], unread, row), majority_baseline(TASKS[task], videos, row))


def test_majority_of_training_labels():
    one, two = np.array([[3.0], [3], [4], [7]]), np.array([[4.0], [4], [9]])
    counts = label_counts(EXPR, one, np.ones(4, bool)) + label_counts(EXPR, two, np.array([True, True, False]))
    assert counts.tolist() == [[0, 0, 0, 2, 3, 0, 0, 1]]
    assert majority_row(counts).tolist() == [4]
    units = np.zeros((3, 12))
    units[:2, 1] = units[0, 2] = 1
    assert majority_row(label_counts(AU, units, np.ones(3, bool))).tolist() == [0, 1, *[0] * 10]
    assert majority_row(label_counts(AU, units[:2], np.ones(2, bool))).tolist() == [0, 1, *[0] * 10]  # AU4: one of two, the smaller


def test_majority_baseline_worked_by_hand():
    # All Happiness (4) where 3 of 4 are: its F1 6/7, Neutral's 0, the others have none.
    truth = np.array([[4.0], [4], [4], [0]])
    found = pooled(EXPR, majority_baseline(EXPR, {"a": (truth, truth, np.ones(4, bool))}, np.array([4.0])))
    assert found["f1"] == pytest.approx(3 / 7, abs=1e-15)
    assert found["accuracy"] == 0.75


def test_majority_needs_classes_and_labels():
    frames = np.zeros((2, 2)), np.zeros((2, 2)), np.ones(2, bool)
    with pytest.raises(InputError, match="majority_baseline: want a task of classes"):
        majority_baseline(VA, {"a": frames}, np.zeros(2))
    with pytest.raises(InputError, match="label_counts: want a task of classes"):
        label_counts(VA, frames[0], frames[2])
    with pytest.raises(InputError, match=r"majority_row: want counts \(K, values\) of at least one labelled frame"):
        majority_row(label_counts(EXPR, np.zeros((3, 1)), np.zeros(3, bool)))
    with pytest.raises(InputError, match=r"want a row \(12,\) for au, got \(1,\)"):
        majority_baseline(AU, {}, np.zeros(1))


# ---- checks -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "k"), [("va", 2), ("expr", 1), ("au", 12)])
def test_shapes_are_checked(task, k):
    with pytest.raises(InputError, match=rf"clip: want truth and prediction \(T, {k}\) and valid bool \(T,\), got \(3, {k}\), \(4, {k}\)"):
        pooled(TASKS[task], {"clip": (np.zeros((3, k)), np.zeros((4, k)), np.ones(3, bool))})
    with pytest.raises(InputError, match=rf"got \(3, 5\), \(3, {k}\)"):
        pooled(TASKS[task], {"clip": (np.zeros((3, 5)), np.zeros((3, k)), np.ones(3, bool))})
    with pytest.raises(InputError, match="int64"):
        scores(TASKS[task], np.zeros((3, k)), np.zeros((3, k)), np.ones(3, int))
    with pytest.raises(InputError, match="at least one valid frame, got none in 0 videos"):
        pooled(TASKS[task], {})
    with pytest.raises(InputError, match="any frames valid"):
        scores(TASKS[task], np.zeros((3, k)), np.zeros((3, k)), np.zeros(3, bool))


@pytest.mark.parametrize(
    ("task", "bad", "want"),
    [("va", np.nan, "finite values"), ("va", np.inf, "finite values"), ("au", 2, "0 or 1"), ("au", 0.5, "0 or 1"), ("au", np.nan, "0 or 1")]
    + [("expr", bad, "a class 0 to 7") for bad in (8, -1, 2.5, np.nan, np.inf)],
)
@pytest.mark.parametrize("which", [0, 1])
def test_values_are_checked(task, bad, want, which):
    parts = [np.zeros((6, len(TASKS[task].columns))) for _ in range(2)]
    valid = np.array([True, False, True, True, True, True])
    parts[which][4, -1] = bad
    message = f"clip: want {want} in the {('truth', 'prediction')[which]} of valid frames, got {bad:g} at index 4; mend"
    with pytest.raises(InputError, match=message):
        within_video(TASKS[task], {"clip": (*parts, valid)})
