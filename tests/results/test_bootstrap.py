"""Intervals over videos against a slow copy of the method from weighted formulas, and what intervals must keep."""

import numpy as np
import pytest

from affpipe.core.errors import InputError
from affpipe.core.tasks import metrics
from affpipe.core.tasks.table import AU, EXPR, TASKS, VA
from affpipe.results import bootstrap
from affpipe.results.bootstrap import difference, interval

ALL = tuple(TASKS)


def video(task, n, rng, quality=0.6):
    """Labels of slow change about a level of the video; `quality` of the frames predicted from the truth."""
    k = len(TASKS[task].columns)
    if task == "va":
        truth = np.clip(0.3 * rng.standard_normal((1, 2)) + 0.2 * rng.standard_normal((n, 2)), -1, 1)
        return truth, np.clip(quality * truth + 0.1 + 0.1 * rng.standard_normal((n, 2)), -1, 1), rng.random(n) > 0.1
    weights = rng.dirichlet(np.ones(8 if task == "expr" else 2))
    truth, other = (rng.choice(len(weights), size=(n, k), p=weights).astype(float) for _ in range(2))
    return truth, np.where(rng.random((n, k)) < quality, truth, other), rng.random(n) > 0.1


def some(task, n=8, seed=0, quality=0.6):
    rng = np.random.default_rng(seed)
    return {f"v{i}": video(task, int(rng.integers(5, 40)), rng, quality) for i in range(n)}


def other_system(task, videos, seed=1, quality=0.3):
    """Another prediction of the same truth."""
    rng, out = np.random.default_rng(seed), {}
    for name, (truth, _, valid) in videos.items():
        drawn = rng.permutation(truth)
        guess = 0.5 * truth + 0.2 * drawn if task == "va" else np.where(rng.random(truth.shape) < quality, truth, drawn)
        out[name] = (truth, guess, valid)
    return out


def weighted(task, videos, weights):
    """The challenge's figure where each video's frames count `weights` times."""
    w = np.concatenate([np.full(v[2].sum(), x) for v, x in zip(videos.values(), weights, strict=True)])
    truth, guess = (np.concatenate([v[i][v[2]] for v in videos.values()]) for i in range(2))
    if task == "va":
        each = []
        for t, p in zip(truth.T, guess.T, strict=True):
            (var_t, cov), (_, var_p) = np.cov(t, p, aweights=w, ddof=0)
            each.append(2 * cov / (var_t + var_p + (np.average(t, weights=w) - np.average(p, weights=w)) ** 2))
        return np.mean(each)
    if task == "expr":
        truth, guess = (x == np.arange(8) for x in (truth, guess))
    hits, totals = w @ (truth * guess), w @ truth + w @ guess
    return np.mean(2 * hits[totals > 0] / totals[totals > 0])


def slow(figure, n, drawn, z):
    """The method of the module, resample by resample, with derivatives by differences; figure: weights (n,) -> number."""
    scale, back = (np.arctanh, np.tanh) if z else (lambda x: x, lambda x: x)
    bend = (lambda x: 1 / (1 - x**2)) if z else (lambda x: 1)
    ones = np.ones(n)
    estimate = figure(ones)
    left = np.array([figure(ones - one) for one in np.eye(n)])
    error = np.sqrt((n - 1) / n * np.sum((left - left.mean()) ** 2)) * bend(estimate)
    pivots = []
    for row in drawn:
        w = np.bincount(row, minlength=n).astype(float)
        value = figure(w)
        influence = np.array([(figure(w + 1e-6 * one) - figure(w - 1e-6 * one)) / 2e-6 for one in np.eye(n) * (w > 0)])
        spread = np.sqrt(np.sum(w * influence**2)) * bend(value)
        pivots.append((scale(value) - scale(estimate)) / max(spread, 0.1 * error))
    return [back(scale(estimate) - np.quantile(pivots, q) * error) for q in (0.975, 0.025)]


@pytest.mark.parametrize("task", ALL)
def test_an_interval_equals_the_slow_way(task):
    videos, key = some(task), TASKS[task].measure
    drawn = np.random.default_rng(3).integers(8, size=(100, 8))
    want = slow(lambda w: weighted(task, videos, w), 8, drawn, z=True)
    assert interval(TASKS[task], videos, seed=3, draws=100)[key] == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("task", ALL)
def test_a_difference_equals_the_slow_way(task):
    a, key = some(task), TASKS[task].measure
    b = other_system(task, a)
    drawn = np.random.default_rng(5).integers(8, size=(100, 8))
    want = slow(lambda w: weighted(task, a, w) - weighted(task, b, w), 8, drawn, z=False)
    found = difference(TASKS[task], a, b, seed=5, draws=100)[key]
    assert (found.low, found.high) == pytest.approx(want, abs=1e-6)
    assert found.estimate == pytest.approx(metrics.pooled(TASKS[task], a)[key] - metrics.pooled(TASKS[task], b)[key], abs=1e-12)


@pytest.mark.parametrize("task", ALL)
def test_sums_give_the_figures_of_metrics(task):
    videos = some(task, n=20)
    for of, want in (("pooled", metrics.pooled(TASKS[task], videos)), ("within_video", metrics.within_video(TASKS[task], videos).scores)):
        sums = bootstrap.sums_of(TASKS[task], videos, of)
        assert sums.keys == TASKS[task].figures
        np.testing.assert_allclose(sums.at(sums.rows.sum(axis=0, keepdims=True))[0][0], list(want.values()), atol=1e-12)


@pytest.mark.parametrize("task", ALL)
@pytest.mark.parametrize("of", ["pooled", "within_video"])
def test_slopes_are_derivatives(task, of):
    sums = bootstrap.sums_of(TASKS[task], some(task, n=20), of)
    total = sums.rows.sum(axis=0, keepdims=True)
    _, slopes = sums.at(total)
    for j, step in enumerate(np.eye(total.shape[1]) * 1e-3):
        change = (sums.at(total + step)[0] - sums.at(total - step)[0])[0] / 2e-3
        np.testing.assert_allclose(slopes[0, :, j], change, atol=1e-7)


@pytest.mark.parametrize("task", ALL)
def test_intervals_lie_about_the_estimate_and_within_range(task):
    videos = some(task, n=20)
    for of, figures in (
        ("pooled", metrics.pooled(TASKS[task], videos)),
        ("within_video", metrics.within_video(TASKS[task], videos).scores),
    ):
        for key, limits in interval(TASKS[task], videos, seed=0, of=of, draws=500).items():
            assert (-1 if task == "va" else 0) <= limits[0] < figures[key] < limits[1] <= 1
            assert {type(x) for x in limits} == {float}


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    rows = np.array([VA.sums(*video("va", 30, rng)[:2]) for _ in range(6000)])
    sums = bootstrap.pooled(VA, rows, ("ccc",))
    truth = sums.at(rows.sum(axis=0, keepdims=True))[0][0, 0]
    found = [bootstrap.intervals_of(bootstrap.pooled(VA, part, ("ccc",)), seed=0, draws=200)["ccc"] for part in np.split(rows, 200)]
    assert 0.9 <= np.mean([low <= truth <= high for low, high in found]) <= 0.99


@pytest.mark.parametrize("task", ALL)
def test_draws_depend_on_the_seed_alone(task, monkeypatch):
    videos = some(task)
    first = interval(TASKS[task], videos, seed=7, draws=300)
    assert interval(TASKS[task], videos, seed=7, draws=300) == first
    assert interval(TASKS[task], videos, seed=8, draws=300) != first
    monkeypatch.setattr(bootstrap, "CELLS", 2000)  # many small parts
    for key, limits in interval(TASKS[task], videos, seed=7, draws=300).items():
        assert limits == pytest.approx(first[key], abs=1e-12)


def test_figures_wanted_are_those_of_all():
    videos = some("au")
    every = interval(AU, videos, seed=1, draws=200)
    wanted = interval(AU, videos, seed=1, draws=200, keys=["f1_AU4", "f1"])
    assert list(wanted) == ["f1_AU4", "f1"]
    assert all(limits == pytest.approx(every[key], abs=1e-12) for key, limits in wanted.items())


def test_a_higher_level_is_wider():
    narrow, wide = (interval(VA, some("va"), seed=0, level=level)["ccc"] for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize("task", ALL)
def test_one_video_has_no_interval(task):
    videos = some(task, n=1)
    for of in ("pooled", "within_video"):
        assert interval(TASKS[task], videos, seed=0, of=of) == dict.fromkeys(TASKS[task].figures)
        assert interval(TASKS[task], {}, seed=0, of=of) == dict.fromkeys(TASKS[task].figures)
    found = difference(TASKS[task], videos, other_system(task, videos), seed=0)
    key = TASKS[task].measure
    assert (found[key].low, found[key].high) == (None, None)
    assert found[key].estimate == pytest.approx(
        metrics.pooled(TASKS[task], videos)[key] - metrics.pooled(TASKS[task], other_system(task, videos))[key], abs=1e-12
    )


@pytest.mark.parametrize("task", ALL)
def test_videos_without_valid_frames_and_invalid_frames_do_not_count(task):
    videos = some(task)
    want = interval(TASKS[task], videos, seed=2, draws=200)
    for truth, prediction, valid in videos.values():
        truth[~valid] = prediction[~valid] = np.nan
    k = len(TASKS[task].columns)
    videos["none"] = (np.full((4, k), np.nan), np.full((4, k), np.nan), np.zeros(4, bool))
    assert interval(TASKS[task], videos, seed=2, draws=200) == want
    first = {"v0": videos["v0"], "none": videos["none"]}
    assert interval(TASKS[task], first, seed=2) == dict.fromkeys(TASKS[task].figures)


def test_within_videos_one_of_a_single_frame_does_not_count():
    videos = some("va")
    want = interval(VA, videos, seed=2, of="within_video", draws=200)
    short = {**videos, "short": (np.zeros((2, 2)), np.ones((2, 2)), np.array([True, False]))}
    found = interval(VA, short, seed=2, of="within_video", draws=200)
    assert all(found[key] == pytest.approx(want[key], abs=1e-12) for key in want)  # moments are taken about another mean
    assert interval(VA, short, seed=2, draws=200) != interval(VA, videos, seed=2, draws=200)


def test_a_class_of_one_video_has_no_interval():
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=(6, 20, 1)).astype(float)
    guess = np.where(rng.random(truth.shape) < 0.7, truth, 2.0)
    truth[0, :5], guess[0, :5] = 6, 6
    truth[1, :4], truth[2, :4] = 5, 5  # never predicted right
    found = interval(EXPR, {str(i): (t, g, np.ones(20, bool)) for i, (t, g) in enumerate(zip(truth, guess, strict=True))}, seed=0)
    assert found["f1_Surprise"] is None
    assert found["f1_Sadness"] is None
    assert found["f1_Other"] is None  # never occurs
    assert all(found[key] is not None for key in ("f1", "accuracy", "f1_Neutral", "f1_Anger", "f1_Disgust"))


@pytest.mark.parametrize("task", ALL)
def test_perfect_predictions_have_no_spread(task):
    videos = {name: (truth, truth, valid) for name, (truth, _, valid) in some(task).items()}
    assert interval(TASKS[task], videos, seed=0) == dict.fromkeys(TASKS[task].figures)


@pytest.mark.parametrize("task", ALL)
@pytest.mark.parametrize("of", ["pooled", "within_video"])
def test_a_difference_changes_sign_with_the_order(task, of):
    a = some(task)
    b = other_system(task, a)
    there, back = difference(TASKS[task], a, b, seed=4, of=of), difference(TASKS[task], b, a, seed=4, of=of)
    for key, found in back.items():
        assert there[key] == pytest.approx((-found.estimate, -found.high, -found.low), abs=1e-9)
    assert difference(TASKS[task], a, dict(reversed(b.items())), seed=4, of=of) == there
    same = difference(TASKS[task], a, a, seed=4, of=of)
    assert set(same.values()) == {(0.0, None, None)}


def test_what_the_videos_share_cancels_in_a_difference():
    a = some("va", n=30)
    rng = np.random.default_rng(9)
    b = {name: (t, np.clip(p + 0.02 * rng.standard_normal(p.shape), -1, 1), v) for name, (t, p, v) in a.items()}
    low, high = interval(VA, a, seed=0)["ccc"]
    found = difference(VA, a, b, seed=0)["ccc"]
    assert found.high - found.low < 0.2 * (high - low)


def test_errors_say_what_to_do():
    a = some("va")
    with pytest.raises(InputError, match="at least 100 draws and a level in"):
        interval(VA, a, seed=0, draws=99)
    with pytest.raises(InputError, match=r"level in \(0, 1\), got 2000 and 95"):
        interval(VA, a, seed=0, level=95)
    with pytest.raises(InputError, match="want figures of va, ccc_valence, ccc_arousal, ccc, got f1"):
        interval(VA, a, seed=0, keys=["ccc", "f1"])
    fewer = dict(list(a.items())[:-1])
    with pytest.raises(InputError, match="difference: want two systems on the same videos, got 8 and 7, of which v7 in one alone"):
        difference(VA, a, fewer, seed=0)
    truth, prediction, valid = a["v3"]
    with pytest.raises(InputError, match="want the same truth for both systems, got other valid frames or labels of v3"):
        difference(VA, a, {**a, "v3": (truth, prediction, ~valid)}, seed=0)


# ---- streams of one film ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["va", "expr", "au"])
@pytest.mark.parametrize("of", ["pooled", "within_video"])
def test_streams_of_one_film_are_drawn_together(task, of):
    """Pooled, two streams of a film are as one video of both; alone in its film each stream is as without any source."""
    rng = np.random.default_rng(0)
    width, most = {"va": (2, 1), "expr": (1, 7), "au": (12, 1)}[task]

    def video(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        truth = rng.uniform(-1, 1, (n, width)) if task == "va" else rng.integers(0, most + 1, (n, width)).astype(float)
        return truth, np.where(rng.random((n, width)) < 0.6, truth, np.roll(truth, 1, axis=0)), np.ones(n, bool)

    videos = {f"v{i}": video(50 + i) for i in range(8)}
    alone = bootstrap.interval(TASKS[task], videos, seed=1, of=of, draws=200, source={name: name for name in videos})
    assert alone == bootstrap.interval(TASKS[task], videos, seed=1, of=of, draws=200)
    films = {"v0": "a", "v1": "a", "v2": "b", "v3": "b"}
    together = bootstrap.interval(TASKS[task], videos, seed=1, of=of, draws=200, source=films)
    assert together != alone
    if of == "pooled":
        joined = {f: tuple(np.concatenate(x) for x in zip(*(videos[v] for v in films if films[v] == f), strict=True)) for f in ("a", "b")}
        joined |= {name: own for name, own in videos.items() if name not in films}
        want = bootstrap.interval(TASKS[task], joined, seed=1, of=of, draws=200)
        for key, limits in together.items():
            assert limits == (None if want[key] is None else pytest.approx(want[key], abs=1e-9))
    assert set(bootstrap.interval(TASKS[task], videos, seed=1, of=of, source=dict.fromkeys(videos, "one")).values()) == {None}
