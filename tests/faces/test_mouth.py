"""Mouth opening: geometry, rules, windows, and the authors' published windows row by row."""

import csv
import os
from fractions import Fraction

import numpy as np
import pytest

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import InputError, ManifestError, SettingsError
from affpipe.faces.mouth import (
    FACE_OVAL,
    INNER_LIPS,
    frame_windows,
    inner_lip_area,
    opening,
    smooth,
    windows,
)
from affpipe.faces.mouth_files import COLUMNS, parity_windows, to_csv


def flags(text: str) -> np.ndarray:
    return np.array([c == "#" for c in text])


def ring(points: tuple[int, ...], radius_x: float, radius_y: float, into: np.ndarray) -> None:
    angle = np.linspace(0, 2 * np.pi, len(points), endpoint=False)
    into[list(points)] = np.stack([radius_x * np.cos(angle), radius_y * np.sin(angle), np.zeros_like(angle)], axis=1)


@pytest.fixture
def face() -> np.ndarray:
    """A face oval of radii 3 and 4 round lips of radii 1 and 0.5, as regular polygons with as many corners as the rings."""
    points = np.random.default_rng(0).normal(size=(478, 3)).astype(np.float32)
    ring(FACE_OVAL, 3, 4, points)
    ring(INNER_LIPS, 1, 0.5, points)
    return points


def polygon(n: int) -> float:
    return n / 2 * np.sin(2 * np.pi / n)


def test_area_is_the_share_of_the_polygons(face):
    want = 1 * 0.5 * polygon(len(INNER_LIPS)) / (3 * 4 * polygon(len(FACE_OVAL)))
    assert inner_lip_area(face[None])[0] == pytest.approx(want, rel=1e-6)


def test_area_ignores_place_scale_and_turn_of_the_picture(face):
    turn = np.array([[np.cos(0.7), np.sin(0.7), 0], [-np.sin(0.7), np.cos(0.7), 0], [0, 0, 1]])
    moved = (face @ turn * 37 + [500, 900, 3]).astype(np.float32)
    assert inner_lip_area(moved[None])[0] == pytest.approx(inner_lip_area(face[None])[0], rel=1e-4)


def test_area_of_no_face_is_nan_and_of_no_rows_is_empty(face):
    area = inner_lip_area(np.stack([face, np.full_like(face, np.nan), face]))
    assert area.dtype == np.float32
    assert np.isnan(area).tolist() == [False, True, False]
    assert inner_lip_area(np.empty((0, 478, 3), np.float32)).shape == (0,)
    with pytest.raises(InputError, match=r"want landmarks \(T, 478, 3\), got \(478, 3\)"):
        inner_lip_area(face)


def test_opening_finds_speech_and_neither_rest_nor_a_still_smile():
    rng = np.random.default_rng(1)
    rest, smile = np.full(150, 0.0002), np.full(150, 0.035)
    speech = 0.008 + 0.008 * np.sin(2 * np.pi * 5 * np.arange(150) / 30)
    area = np.concatenate([rest, speech, smile]) + rng.normal(0, 0.0002, 450)
    open_ = opening(area, np.ones(450, bool))
    assert not open_[:130].any()
    assert open_[155:280].all()
    assert not open_[320:].any()  # the smile appears at 300 and moves the mouth for half a second


@pytest.mark.parametrize(("level", "want"), [(0.0003, False), (0.02, True)])
def test_opening_of_one_kind_throughout(level, want):
    area = level * (1 + np.sin(2 * np.pi * 5 * np.arange(300) / 30))
    assert (opening(area, np.ones(300, bool)) == want).all()


def test_opening_counts_frames_and_ignores_what_is_absent():
    speech = 0.008 + 0.008 * np.sin(2 * np.pi * 5 * np.arange(300) / 30)
    present = np.ones(300, bool)
    present[100:160] = False
    area = np.where(present, speech, np.nan)
    open_ = opening(area, present)
    assert open_.tolist() == present.tolist()
    assert not opening(np.full(10, np.nan), np.zeros(10, bool)).any()
    assert opening(np.empty(0), np.empty(0, bool)).shape == (0,)


def test_spread_is_the_standard_deviation_of_the_frames_round_each():
    rng = np.random.default_rng(2)
    area, present = rng.uniform(0, 0.01, 80), rng.random(80) < 0.8
    spread = np.zeros(80)
    for t in range(80):
        near = np.arange(max(t - 5, 0), min(t + 5, 80))
        spread[t] = np.std(area[near[present[near]]]) if present[near].any() else 0
    want = present & (spread > np.clip(spread[present].mean(), 0.0015, 0.004))
    assert opening(area, present, smooth_frames=10).tolist() == want.tolist()


def test_opening_refuses_bad_input():
    with pytest.raises(InputError, match="finite area"):
        opening(np.array([0.1, np.nan]), np.ones(2, bool))
    with pytest.raises(InputError, match="smooth_frames >= 2, got 1"):
        opening(np.zeros(2), np.ones(2, bool), smooth_frames=1)
    with pytest.raises(SettingsError, match="none or ras2026, got 'x'"):
        opening(np.zeros(2), np.ones(2, bool), compat="x")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("........", "........"),
        ("##......", "........"),  # a burst at the edge goes as well
        (".###....", ".###...."),
        ("#.#.....", "###....."),  # the gap is filled before bursts are judged
        ("###..###", "###..###"),
        ("..###.##", "..######"),
        (".##..##.", "........"),
    ],
)
def test_smooth_with_gaps_of_one_and_bursts_of_two(before, after):
    assert smooth(flags(before), 10, gap_s=0.1, burst_s=0.2).tolist() == flags(after).tolist()


def test_smooth_rounds_half_to_even_and_acts_on_one_frame_at_least():
    ten = "##########"
    # .15 s at 30 fps are 4.5 frames: 4.
    assert smooth(flags(f"{ten}....{ten}"), 30).all()
    assert not smooth(flags(f"{ten}.....{ten}"), 30)[10:15].any()
    assert smooth(flags("#.."), 1, gap_s=0, burst_s=0).tolist() == [False] * 3
    assert smooth(flags(f"{ten}....{ten}"), Fraction(30000, 1001)).all()


def test_windows_measure_the_time_that_frames_are_shown():
    axis = FrameAxis(np.array([0.0, 0.5, 0.6, 2.0]), Fraction(10))  # shown .5, .1, 1.4 and .1 s
    spans = np.array([[0.0, 1.0], [0.5, 2.1], [1.0, 3.0], [-1.0, 1.0]])
    table = windows(flags("#.#."), flags("###."), axis, spans, min_open_ratio=0.5, min_coverage=0.9)
    np.testing.assert_allclose(table.open_s, [0.9, 1.4, 1.0, 0.9], atol=1e-12)
    np.testing.assert_allclose(table.coverage, [1.0, 1.5 / 1.6, 0.5, 0.5], atol=1e-12)
    assert table.retained.tolist() == [True, True, False, False]
    with pytest.raises(InputError, match="end_s > start_s"):
        windows(flags("#.#."), flags("###."), axis, np.array([[1.0, 1.0]]))
    with pytest.raises(InputError, match=r"\(4,\) as the frame axis, got \(3,\)"):
        windows(flags("#.#"), flags("###"), axis, spans)


def test_time_windows_agree_with_frame_windows_at_a_constant_rate():
    rng = np.random.default_rng(3)
    open_, present = rng.random(250) < 0.3, rng.random(250) < 0.85
    start = np.arange(0, 150, 50)
    by_frame = frame_windows(open_, present, np.full(3, 25.0), start, start + 100, min_open_ratio=0.25)
    by_time = windows(open_, present, FrameAxis(np.arange(250) / 25, Fraction(25)), np.stack([start, start + 100], axis=1) / 25)
    np.testing.assert_allclose(by_time.open_s, by_frame.open_s, atol=1e-9)
    np.testing.assert_allclose(by_time.coverage, by_frame.coverage, atol=1e-9)
    assert by_time.retained.tolist() == by_frame.retained.tolist()


def test_the_limit_itself_is_enough():
    open_ = np.arange(120) < 30  # a quarter of four seconds
    axis = FrameAxis(np.arange(120) * 1001 / 30000, Fraction(30000, 1001))
    assert windows(open_, np.ones(120, bool), axis, np.array([[0.0, axis.end_s]])).retained.tolist() == [True]
    one = np.array([0]), np.array([120])
    assert frame_windows(open_, np.ones(120, bool), np.array([29.97]), *one, min_open_ratio=0.25).retained.tolist() == [True]
    with pytest.raises(InputError, match="one of min_open_s and min_open_ratio"):
        frame_windows(open_, open_, np.array([30.0]), *one)


def test_published_masks_follow_from_the_published_areas(parity):
    total = 0
    for path in sorted((parity / "openmouth").glob("*.csv")):
        rows = list(csv.DictReader(path.read_text().splitlines()))
        number = np.array([int(r["frame"]) for r in rows])
        area, present = np.full(number.max() + 1, np.nan), np.zeros(number.max() + 1, bool)
        area[number], present[number] = [float(r["surface_area_mouth"]) for r in rows], True
        want = np.array([r["mouth_open"] == "1" for r in rows])
        assert opening(area, present, compat="ras2026")[number].tolist() == want.tolist(), path.name
        total += len(rows)
    assert total == 45768


def test_published_windows_are_reproduced_byte_for_byte(parity):
    rows = parity_windows(parity / "openmouth", parity / "windows.csv", "ras2026")
    assert len(rows) == 833
    assert to_csv(rows).encode() == (parity / "windows.csv").read_bytes()


@pytest.fixture
def table(tmp_path):
    """Write masks and a table of windows; returns their paths."""

    def write(
        mask: str = "".join(f"{i:05d},1\n" for i in range(1, 121)), rows: str = "a,0,120,30\n", head="stream,start_frame,end_frame,fps"
    ):
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / "masks" / "a.csv").write_text("frame,mouth_open\n" + mask)
        (tmp_path / "windows.csv").write_text(f"{head}\n{rows}")
        return tmp_path / "masks", tmp_path / "windows.csv"

    return write


def test_own_counting_takes_frame_1_as_index_0(table):
    (own,) = parity_windows(*table(), "none")
    (ras,) = parity_windows(*table(), "ras2026")
    assert tuple(own) == COLUMNS
    assert (own["open_sec"], own["coverage_ratio"], own["use_for_audio"]) == (4.0, 1.0, True)
    assert (ras["open_sec"], ras["coverage_ratio"], ras["use_for_audio"]) == (119 / 30, 119 / 120, True)
    assert (own["start_time"], own["end_time"]) == (0.0, 4.0)


def test_a_short_window_needs_a_share_here_and_a_second_there(table):
    files = table(rows="a,90,120,40\n")
    assert [parity_windows(*files, c)[0]["use_for_audio"] for c in ("none", "ras2026")] == [True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": "b,0,120,30\n"}, r"windows\.csv, line 2: no .*b\.csv for stream 'b'"),
        ({"rows": "a,0,120,30\na,5,5,30\n"}, r"windows\.csv, line 3: want end_frame > start_frame, got 5 to 5"),
        ({"rows": "a,0,12x,30\n"}, r"windows\.csv, line 2: end_frame: want a whole number >= 0, got '12x'"),
        ({"rows": "a,0,120\n"}, r"windows\.csv, line 2: fps: want a rate > 0, got None"),
        ({"rows": "../a,0,120,30\n"}, r"windows\.csv, line 2: stream: want the name of a stream"),
        ({"head": "stream,start_frame,end_frame,rate"}, r"windows\.csv: want columns .* fps not there"),
        ({"mask": "00001,1\n00000,1\n"}, r"a\.csv, line 3: frame: want a frame number from 1, got '00000'"),
        ({"mask": "00001,1\n00002,2\n"}, r"a\.csv, line 3: mouth_open: want 0 or 1, got '2'"),
        ({"mask": "00001,1\n00002,1\n00001,0\n"}, r"a\.csv, line 4: frame 1 stands here a second time"),
    ],
)
def test_faulty_files_are_named_with_line(table, change, message):
    with pytest.raises(ManifestError, match=message):
        parity_windows(*table(**change), "none")


def test_other_faults(table, tmp_path):
    with pytest.raises(SettingsError, match="none or ras2026, got 'ras'"):
        parity_windows(*table(), "ras")
    with pytest.raises(ManifestError, match=r"nothing\.csv: want a readable CSV file, got No such file or directory; check the path"):
        parity_windows(tmp_path, tmp_path / "nothing.csv", "none")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ManifestError, match=r"pipe\.csv: want a readable CSV file, got a pipe; check the path"):
        parity_windows(tmp_path, tmp_path / "pipe.csv", "none")
    masks, windows_csv = table(mask="")
    assert parity_windows(masks, windows_csv, "none")[0]["coverage_ratio"] == 0
