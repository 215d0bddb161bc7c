"""Smoothing equals a plain loop and keeps what a filter must keep."""

import numpy as np
import pytest

from affpipe.errors import InputError
from affpipe.smoothing import smooth

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
