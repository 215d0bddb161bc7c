"""The frame axis: windows cover and invert, segments cover, alignment follows timestamps."""

import csv
from fractions import Fraction

import numpy as np
import pytest

from affpipe.core.align import align, nearest, pool, sources
from affpipe.core.axis import NEAREST, NONE, OBSERVED, FrameAxis, frames_in, segments
from affpipe.core.errors import InputError
from affpipe.models.windows import merge, split

FPS = Fraction(25)


def regular(frames: int, fps: Fraction = FPS, start_s: float = 0.0) -> FrameAxis:
    return FrameAxis(start_s + np.arange(frames) / float(fps), fps)


def uneven(rng: np.random.Generator, frames: int) -> np.ndarray:
    return np.cumsum(rng.uniform(0.01, 0.2, frames))


# ---- axis -------------------------------------------------------------------------------------------------------------------------------


def test_a_frame_lasts_until_the_next_and_the_last_one_a_nominal_frame():
    axis = FrameAxis(np.array([0.5, 0.6, 1.0]), Fraction(30000, 1001))
    assert len(axis) == 3
    assert axis.start_s == 0.5
    assert axis.end_s == pytest.approx(1.0 + 1001 / 30000, abs=1e-12)
    np.testing.assert_allclose(axis.ends_s, [0.6, 1.0, axis.end_s])
    assert axis.ends_s.dtype == np.float64


@pytest.mark.parametrize(
    "times",
    [np.zeros(0), np.zeros((2, 2)), np.array([0.0, 0.0]), np.array([1.0, 0.5]), np.array([0.0, np.nan]), np.arange(3), np.float32([0, 1])],
)
def test_an_axis_that_is_none_is_refused(times):
    with pytest.raises(InputError, match="FrameAxis: want"):
        FrameAxis(times, FPS)


def test_a_rate_must_be_positive():
    with pytest.raises(InputError, match="fps above 0"):
        FrameAxis(np.array([0.0]), Fraction(0))


# ---- split and merge --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", ["shifted", "truncated"])
@pytest.mark.parametrize(("length", "stride"), [(1, 1), (4, 4), (5, 2), (8, 3), (20, 7), (60, 60)])
def test_merging_what_was_split_gives_it_back_at_every_length(length, stride, tail):
    for n in range(1, 61):
        rows = np.random.default_rng(n).normal(size=(n, 3))
        starts = split(n, length=length, stride=stride, tail=tail)
        windows = np.zeros((len(starts), length, 3))
        for window, start in zip(windows, starts, strict=True):
            piece = rows[start : start + length]
            window[: len(piece)] = piece
        merged = merge(windows, starts, n)
        np.testing.assert_allclose(merged, rows, rtol=1e-12, atol=1e-12)
        covered = {int(i) for start in starts for i in range(start, min(start + length, n))}
        assert covered == set(range(n))
        assert len(set(starts.tolist())) == len(starts)
        assert (np.diff(starts) <= stride).all()


def test_the_tail_has_a_window_of_its_own():
    assert split(400, length=400, stride=150).tolist() == [0]
    assert split(401, length=400, stride=150).tolist() == [0, 1]
    assert split(700, length=400, stride=150).tolist() == [0, 150, 300]
    assert split(1000, length=400, stride=150).tolist() == [0, 150, 300, 450, 600]
    assert split(1001, length=400, stride=150).tolist() == [0, 150, 300, 450, 600, 601]
    assert split(3, length=400, stride=150).tolist() == [0]


@pytest.mark.parametrize(("length", "stride"), [(16, 8), (16, 16), (5, 2), (1, 1)])
def test_a_truncated_tail_ends_with_the_last_row_and_starts_by_its_stride(length, stride):
    """The public code's ranges: from the first row on, until one reaches the end."""
    for n in range(1, 80):
        ranges, start = [], 0
        while True:
            ranges.append((start, min(start + length, n)))
            if ranges[-1][1] == n:
                break
            start += stride
        starts = split(n, length=length, stride=stride, tail="truncated")
        assert [(a, min(a + length, n)) for a in starts.tolist()] == ranges
        lengths = np.minimum(length, n - starts)
        windows = [np.arange(a, a + rows, dtype=float)[:, None] for a, rows in zip(starts, lengths, strict=True)]
        assert merge(windows, starts, n).ravel().tolist() == list(range(n))


def test_overlaps_are_averaged_and_what_lies_beyond_the_end_is_dropped():
    windows = np.array([[[1.0], [2.0], [3.0]], [[5.0], [7.0], [99.0]]])
    assert merge(windows, np.array([0, 2]), 4).ravel().tolist() == [1.0, 2.0, 4.0, 7.0]


def test_merge_is_the_mean_of_a_plain_loop_bit_by_bit():
    """Windows of any lengths, in any order, and past the end."""
    rng = np.random.default_rng(0)
    starts = [*rng.permutation(60).tolist(), 0, 55, 60, 70]
    windows = [rng.normal(size=(int(rows), 2)).astype(np.float32) for rows in rng.integers(1, 9, len(starts))]
    total, count = np.zeros((60, 2)), [0] * 60
    for window, start in zip(windows, starts, strict=True):
        for i, row in enumerate(window):
            if start + i < 60:
                total[start + i] += row
                count[start + i] += 1
    np.testing.assert_array_equal(merge(windows, starts, 60), total / np.array(count)[:, None])


def test_merge_refuses_a_hole():
    with pytest.raises(InputError, match="row 2 of 5 is covered by no window"):
        merge(np.ones((2, 2, 1)), np.array([0, 3]), 5)


@pytest.mark.parametrize(("n", "length", "stride"), [(0, 4, 2), (5, 4, 0), (5, 4, 5), (5, 0, 0)])
def test_split_refuses_what_would_leave_gaps(n, length, stride):
    with pytest.raises(InputError, match=r"split: want .* got"):
        split(n, length=length, stride=stride)


# ---- segments ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duration", [0.04, 1.0, 3.96, 4.0, 4.0001, 5.9, 6.0, 6.04, 8.0, 60.0, 601.37])
@pytest.mark.parametrize(("length", "hop"), [(4.0, 2.0), (4.0, 4.0), (1.0, 0.1), (3.0, 2.9)])
@pytest.mark.parametrize("start", [0.0, 0.08, 1234.567])
def test_segments_cover_the_axis_and_the_first_to_reach_the_end_is_the_last(duration, length, hop, start):
    end = start + duration
    cut = segments(start, end, length_s=length, hop_s=hop)
    assert cut[0, 0] == start
    assert cut[-1, 1] == pytest.approx(end, abs=1e-6)
    np.testing.assert_allclose(np.diff(cut[:, 0]), hop, rtol=1e-9)
    assert (cut[1:, 0] <= cut[:-1, 1] + 1e-9).all()  # no gap
    np.testing.assert_allclose(cut[:-1, 1] - cut[:-1, 0], length, rtol=1e-9)
    assert (cut[:-1, 1] < end).all()  # only the last reaches the end
    assert 0 < cut[-1, 1] - cut[-1, 0] <= length + 1e-9


def test_the_end_of_a_regular_axis_brings_no_extra_segment():
    """100 frames at 25 fps end at 4.000000x s: rounding of the last timestamp must not add a segment."""
    for frames, fps in [(100, Fraction(25)), (120, Fraction(30)), (1200, Fraction(30)), (240, Fraction(60))]:
        axis = regular(frames, fps)
        count = max(1, round((frames / float(fps) - 4) / 2) + 1)
        assert len(segments(axis.start_s, axis.end_s, length_s=4, hop_s=2)) == count


@pytest.mark.parametrize(("end", "length", "hop"), [(0.0, 4, 2), (-1.0, 4, 2), (5.0, 4, 5), (5.0, 4, 0), (5.0, 0, 0)])
def test_segments_refuse_what_would_leave_gaps(end, length, hop):
    with pytest.raises(InputError, match=r"segments: want"):
        segments(0.0, end, length_s=length, hop_s=hop)


def test_segments_are_the_published_windows(parity):
    """The authors' own table of 4 s windows every 2 s: same counts, starts and ends, in frames of each stream's rate."""
    with (parity / "windows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    streams: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        streams.setdefault(row["stream"], []).append(row)
    assert len(streams) == 14
    for stream, table in streams.items():
        fps, last = float(table[0]["fps"]), int(table[-1]["end_frame"])
        cut = segments(0.0, last / fps, length_s=4.0, hop_s=2.0)
        assert len(cut) == len(table), stream
        published = np.array([[int(r["start_frame"]), int(r["end_frame"])] for r in table])
        np.testing.assert_allclose(cut * fps, published, atol=0.51, err_msg=stream)  # theirs are rounded to frames


# ---- across rates -----------------------------------------------------------------------------------------------------------------------


def test_a_frame_belongs_to_a_row_from_its_start_until_before_its_end():
    times = np.array([0.0, 1.0, 2.0, 3.0])
    first, stop = frames_in(times, np.array([0.0, 1.0, 1.5]), np.array([1.0, 3.0, 1.9]))
    assert (first.tolist(), stop.tolist()) == ([0, 1, 2], [1, 3, 2])
    values, covered = align(np.array([[7.0]]), np.array([True]), np.array([1.0]), np.array([3.0]), times)
    assert covered.tolist() == [False, True, True, False]
    assert values.ravel().tolist() == [0.0, 7.0, 7.0, 0.0]


def test_align_means_the_valid_rows_that_cover_a_frame():
    rng = np.random.default_rng(3)
    times, rows = uneven(rng, 80), 25
    start = np.sort(rng.uniform(-1, times[-1], rows))
    end = start + rng.uniform(0, 2, rows)
    values, valid = rng.normal(size=(rows, 2, 3)), rng.random(rows) < 0.7
    values[~valid] = np.nan  # what an invalid row holds must not matter
    got, covered = align(values, valid, start, end, times)
    assert got.shape == (80, 2, 3)
    assert got.dtype == np.float32
    for i, t in enumerate(times):
        inside = [r for r in range(rows) if valid[r] and start[r] <= t < end[r]]
        assert covered[i] == bool(inside)
        np.testing.assert_allclose(got[i], np.mean(values[inside], axis=0) if inside else np.zeros((2, 3)), atol=1e-6)


def test_pool_means_the_valid_frames_of_an_interval():
    rng = np.random.default_rng(4)
    times, valid = uneven(rng, 90), rng.random(90) < 0.6
    values = rng.normal(size=(90, 2))
    values[~valid] = np.nan
    start = rng.uniform(-1, times[-1], 30)
    end = start + rng.uniform(-0.2, 1.5, 30)  # an interval may be empty
    got, known = pool(values, valid, *frames_in(times, start, end))
    for r in range(30):
        inside = valid & (times >= start[r]) & (times < end[r])
        assert known[r] == inside.any()
        np.testing.assert_allclose(got[r], values[inside].mean(axis=0) if inside.any() else [0, 0], atol=1e-6)


def test_a_known_event_falls_on_its_frames_of_a_variable_rate_axis():
    """A row for [2, 2.5) s marks the frames shown then, however the frames are spaced."""
    times = np.array([0.0, 0.04, 1.9, 1.99, 2.0, 2.1, 2.49, 2.5, 2.51, 9.0])
    start = np.arange(0, 10, 0.5)
    event = (start == 2.0).astype(np.float64)[:, None]
    got, covered = align(event, np.ones(20, bool), start, start + 0.5, times)
    assert covered.all()
    assert np.flatnonzero(got.ravel()).tolist() == [4, 5, 6]


def test_a_constant_stays_constant_there_and_back():
    rng = np.random.default_rng(5)
    times = uneven(rng, 200)
    cut = segments(times[0], times[-1] + 0.04, length_s=4.0, hop_s=1.5)
    valid = rng.random(len(cut)) < 0.8
    frames, covered = align(np.full((len(cut), 2), 0.3), valid, cut[:, 0], cut[:, 1], times)
    np.testing.assert_allclose(frames[covered], 0.3, atol=1e-7)
    rows, known = pool(frames, covered, *frames_in(times, cut[:, 0], cut[:, 1]))
    assert known[valid].all()
    np.testing.assert_allclose(rows[known], 0.3, atol=1e-7)


def test_align_undoes_pool_for_rows_that_are_frames():
    axis = FrameAxis(uneven(np.random.default_rng(6), 50), FPS)
    values, valid = np.random.default_rng(7).normal(size=(50, 2)), np.arange(50) % 3 > 0
    rows, known = pool(values, valid, *frames_in(axis.times_s, axis.times_s, axis.ends_s))
    back, covered = align(rows, known, axis.times_s, axis.ends_s, axis.times_s)
    np.testing.assert_array_equal(covered, valid)
    np.testing.assert_allclose(back[valid], values[valid].astype(np.float32))


def test_disjoint_rows_survive_align_then_pool():
    times = uneven(np.random.default_rng(8), 300)
    cut = segments(times[0], times[-1] + 0.04, length_s=2.0, hop_s=2.0)
    values = np.random.default_rng(9).normal(size=(len(cut), 3))
    frames, covered = align(values, np.ones(len(cut), bool), cut[:, 0], cut[:, 1], times)
    rows, known = pool(frames, covered, *frames_in(times, cut[:, 0], cut[:, 1]))
    assert covered.all()
    np.testing.assert_allclose(rows[known], values[known], atol=1e-6)


def test_a_stream_without_rows_covers_nothing():
    none = np.zeros(0)
    values, covered = align(np.zeros((0, 3)), np.zeros(0, bool), none, none, np.arange(4.0))
    assert values.shape == (4, 3)
    assert not covered.any()
    rows, known = pool(np.zeros((4, 2)), np.zeros(4, bool), *frames_in(np.arange(4.0), none, none))
    assert rows.shape == (0, 2)
    assert known.shape == (0,)


# ---- filling ----------------------------------------------------------------------------------------------------------------------------


def test_the_nearest_row_is_the_earlier_one_on_a_tie():
    assert nearest(np.array([0, 1, 0, 1, 0, 0, 0, 1, 0], bool)).tolist() == [1, 1, 1, 3, 3, 3, 7, 7, 7]
    assert nearest(np.array([1, 0, 0, 0, 1], bool)).tolist() == [0, 0, 0, 4, 4]  # row 2 is as near to 0 as to 4
    assert nearest(np.zeros(3, bool)).tolist() == [-1, -1, -1]


def test_nearest_agrees_with_a_search_by_hand():
    rng = np.random.default_rng(10)
    for _ in range(50):
        valid = rng.random(rng.integers(1, 40)) < 0.3
        want = [min(np.flatnonzero(valid), key=lambda j: (abs(i - j), j), default=-1) for i in range(len(valid))]
        assert nearest(valid).tolist() == want


def test_sources_say_how_a_row_was_had():
    assert sources(np.array([True, False])).tolist() == [OBSERVED, NEAREST]
    assert sources(np.array([False, False])).tolist() == [NONE, NONE]
