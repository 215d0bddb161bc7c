"""Smoothing equals a plain loop and keeps what a filter must keep."""

import statistics

import numpy as np
import pytest

from affpipe.core.errors import InputError
from affpipe.core.tasks.smoothing import smooth, smooth_classes

FILTERS = ("mean", "median")


def plain(values: np.ndarray, valid: np.ndarray, filter: str, frames: tuple[int, ...]) -> np.ndarray:
    """The definition, frame by frame: neighbours beyond the run are its outermost frame."""
    out = values.copy()
    for t in np.flatnonzero(valid):
        first = last = t
        while first > 0 and valid[first - 1]:
            first -= 1
        while last < len(valid) - 1 and valid[last + 1]:
            last += 1
        for c, size in enumerate(frames):
            near = [values[min(max(k, first), last), c] for k in range(t - size // 2, t + size // 2 + 1)]
            out[t, c] = np.mean(near) if filter == "mean" else np.median(near)
    return out


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("frames", [(1, 3), (9, 11), (5, 61), (201, 7)])
@pytest.mark.parametrize("length", [1, 2, 7, 60])
def test_equals_a_plain_loop(filter: str, frames: tuple[int, int], length: int) -> None:
    rng = np.random.default_rng(length)
    values = rng.uniform(-1, 1, (length, 2))
    for valid in (np.ones(length, bool), rng.random(length) < 0.8, np.zeros(length, bool)):
        np.testing.assert_allclose(
            smooth(values, valid, filter=filter, frames=frames), plain(values, valid, filter, frames), atol=1e-13, rtol=0
        )


@pytest.mark.parametrize("filter", FILTERS)
def test_a_constant_stays_and_the_length_is_kept(filter: str) -> None:
    for length in (1, 4, 50):
        values = np.tile([0.3, -0.7], (length, 1))
        out = smooth(values, np.ones(length, bool), filter=filter, frames=(5, 99))
        assert out.shape == values.shape
        assert out.dtype == np.float64
        np.testing.assert_allclose(out, values, atol=1e-14, rtol=0)


@pytest.mark.parametrize("filter", FILTERS)
def test_a_window_of_one_is_the_identity(filter: str) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (30, 2))
    np.testing.assert_array_equal(smooth(values, np.ones(30, bool), filter=filter, frames=(1, 1)), values)


@pytest.mark.parametrize("filter", FILTERS)
def test_a_ramp_keeps_its_interior(filter: str) -> None:
    values = np.linspace(-1, 1, 41)[:, None].repeat(2, axis=1)
    out = smooth(values, np.ones(41, bool), filter=filter, frames=(7, 11))
    np.testing.assert_allclose(out[5:-5], values[5:-5], atol=1e-14, rtol=0)


def test_median_removes_a_spike_that_the_mean_spreads() -> None:
    values = np.zeros((21, 1))
    values[10] = 1
    valid = np.ones(21, bool)
    assert not smooth(values, valid, filter="median", frames=(3,)).any()
    spread = smooth(values, valid, filter="mean", frames=(5,))[:, 0]
    np.testing.assert_allclose(spread[8:13], 0.2, atol=1e-15)
    assert np.abs(spread).sum() == pytest.approx(1)


@pytest.mark.parametrize("filter", FILTERS)
def test_nothing_moves_in_time(filter: str) -> None:
    t = np.arange(101)
    values = np.stack([np.exp(-(((t - 37) / 12) ** 2)), (t >= 60) * 1.0], axis=1)
    valid = np.ones(101, bool)
    out = smooth(values, valid, filter=filter, frames=(9, 9))
    top = np.flatnonzero(out[:, 0] > out[:, 0].max() - 1e-12)  # a median flattens a peak
    assert (top[0] + top[-1]) / 2 == 37
    assert (out[:, 1] > 0.5).argmax() == 60
    backwards = smooth(values[::-1], valid, filter=filter, frames=(9, 9))[::-1]
    np.testing.assert_allclose(out, backwards, atol=1e-13, rtol=0)


@pytest.mark.parametrize("filter", FILTERS)
def test_frames_without_a_value_stay_and_part_the_series(filter: str) -> None:
    values = np.concatenate([np.full((10, 2), 0.5), np.full((3, 2), np.nan), np.full((10, 2), -0.5)])
    valid = ~np.isnan(values[:, 0])
    np.testing.assert_allclose(smooth(values, valid, filter=filter, frames=(5, 21)), values, atol=1e-15)


def test_rounding_does_not_grow_with_the_series() -> None:
    values = np.random.default_rng(1).uniform(-1, 1, (400_000, 1))
    out = smooth(values, np.ones(len(values), bool), filter="mean", frames=(11,))
    assert np.abs(out[-1000:] - plain(values[-1100:], np.ones(1100, bool), "mean", (11,))[100:]).max() < 1e-12


def test_what_does_not_fit_is_refused() -> None:
    values, valid = np.zeros((5, 2)), np.ones(5, bool)
    with pytest.raises(InputError, match=r"want a filter of \['mean', 'median'\], got 'gauss'"):
        smooth(values, valid, filter="gauss", frames=(3, 3))
    with pytest.raises(InputError, match=r"want odd lengths, which have a middle, got \[3, 4\]"):
        smooth(values, valid, filter="mean", frames=(3, 4))
    with pytest.raises(InputError, match=r"got \(5, 2\), bool \(4,\) and \[3, 3\]"):
        smooth(values, valid[:4], filter="mean", frames=(3, 3))


CLASS_FILTERS = ("median", "mode")


def plain_classes(classes: np.ndarray, valid: np.ndarray, filter: str, size: int) -> np.ndarray:
    out = classes.copy()
    for t in np.flatnonzero(valid):
        first = last = t
        while first > 0 and valid[first - 1]:
            first -= 1
        while last < len(valid) - 1 and valid[last + 1]:
            last += 1
        near = [int(classes[min(max(k, first), last)]) for k in range(t - size // 2, t + size // 2 + 1)]
        if filter == "median":
            out[t] = statistics.median(near)
        else:
            tied = statistics.multimode(near)
            out[t] = classes[t] if classes[t] in tied else min(tied)
    return out


@pytest.mark.parametrize("filter", CLASS_FILTERS)
@pytest.mark.parametrize("size", [1, 3, 11, 201])
@pytest.mark.parametrize("length", [0, 1, 2, 7, 150])
def test_classes_equal_a_plain_loop(filter: str, size: int, length: int) -> None:
    rng = np.random.default_rng(length)
    classes = rng.integers(0, 8, length)
    for valid in (np.ones(length, bool), rng.random(length) < 0.8, np.zeros(length, bool)):
        marked = np.where(valid, classes, -1)
        out = smooth_classes(marked, valid, filter=filter, frames=size)
        np.testing.assert_array_equal(out, plain_classes(marked, valid, filter, size))
        assert out.dtype == np.int64


@pytest.mark.parametrize("filter", CLASS_FILTERS)
@pytest.mark.parametrize("junk", [-1, 7, 1000])
def test_classes_of_invalid_frames_never_count(filter: str, junk: int) -> None:
    rng = np.random.default_rng(0)
    classes, valid = rng.integers(0, 8, 80), rng.random(80) < 0.7
    want = smooth_classes(classes, valid, filter=filter, frames=5)
    out = smooth_classes(np.where(valid, classes, junk), valid, filter=filter, frames=5)
    np.testing.assert_array_equal(out[valid], want[valid])
    assert (out[~valid] == junk).all()


def test_a_median_of_names_may_be_a_name_that_nobody_said() -> None:
    # Disgust (2) twice and Neutral (0) twice about one Anger (1): the middle number is Anger's
    classes, valid = np.array([0, 2, 1, 0, 2]), np.ones(5, bool)
    assert smooth_classes(classes, valid, filter="median", frames=5)[2] == 1
    assert smooth_classes(classes, valid, filter="mode", frames=5)[2] == 0


def test_a_tie_goes_to_the_frame_itself_or_else_to_the_lowest() -> None:
    valid = np.ones(3, bool)
    np.testing.assert_array_equal(smooth_classes(np.array([5, 3, 4]), valid, filter="mode", frames=3), [5, 3, 4])
    classes = np.array([6, 6, 1, 2, 2])
    assert smooth_classes(classes, np.ones(5, bool), filter="mode", frames=5)[2] == 2
    assert smooth_classes(classes[::-1], np.ones(5, bool), filter="mode", frames=5)[2] == 2


def test_of_two_classes_median_and_mode_are_one() -> None:
    classes, valid = np.random.default_rng(3).choice([2, 7], 200), np.random.default_rng(4).random(200) < 0.9
    both = [smooth_classes(classes, valid, filter=filter, frames=11) for filter in CLASS_FILTERS]
    np.testing.assert_array_equal(*both)


@pytest.mark.parametrize("filter", CLASS_FILTERS)
def test_a_short_flicker_goes_and_a_boundary_stays(filter: str) -> None:
    classes = np.repeat([0, 3, 0, 6], [20, 5, 20, 20])
    out = smooth_classes(classes, np.ones(65, bool), filter=filter, frames=11)
    np.testing.assert_array_equal(out, np.repeat([0, 6], [45, 20]))


def test_the_mode_does_not_depend_on_the_names() -> None:
    rng = np.random.default_rng(5)
    classes, names = rng.integers(0, 8, 300), rng.permutation(8)
    out, renamed = (smooth_classes(c, np.ones(300, bool), filter="mode", frames=5) for c in (classes, names[classes]))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(classes, 2, mode="edge"), 5)
    clear = np.array([len(set(statistics.multimode(w))) == 1 for w in windows.tolist()])
    assert clear.sum() > 50
    np.testing.assert_array_equal(names[out[clear]], renamed[clear])


def test_classes_that_do_not_fit_are_refused() -> None:
    classes, valid = np.zeros(5, np.int64), np.ones(5, bool)
    with pytest.raises(InputError, match=r"want a filter of \['median', 'mode'\], got 'mean'"):
        smooth_classes(classes, valid, filter="mean", frames=3)
    for frames in (0, 4):
        with pytest.raises(InputError, match=f"want an odd length, which has a middle, got {frames}"):
            smooth_classes(classes, valid, filter="mode", frames=frames)
    with pytest.raises(InputError, match=r"got float64 \(5,\) and bool \(5,\)"):
        smooth_classes(classes / 1, valid, filter="mode", frames=3)
    with pytest.raises(InputError, match=r"want classes >= 0 where valid, got -1; mark such frames invalid"):
        smooth_classes(classes - 1, valid, filter="mode", frames=3)
