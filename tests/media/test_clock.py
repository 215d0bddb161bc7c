"""When frames are shown: stamps as they are where they are sound, mended where they are not, on made-up stamps and on files."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import clips
import numpy as np
import pytest

from affpipe.core.errors import MediaError
from affpipe.media import clock
from affpipe.media.picture import decode
from affpipe.media.probe import _frame_s, probe

TICK = Fraction(1, 100)
FPS = 25  # four ticks a frame
TRUE = np.arange(0, 240, 4)  # of 60 frames


def mended(pts: Sequence, dts: Sequence | None = None, **more) -> clock.Times:
    dts = [None] * len(pts) if dts is None else dts
    plain = [[None if s is None else int(s) for s in own] for own in (pts, dts)]
    return clock.times(clock.Stamps(TICK, pts=plain[0], dts=plain[1], **more), 1 / FPS)


@pytest.mark.parametrize(
    ("ticks", "want", "repaired"),
    [
        ((None, 10, None, None, 22, 40), (6, 10, 14, 18, 22, 40), 3),
        # Of a doubled stamp the first frame keeps it, the other lies between its neighbours.
        ((0, 4, 4, 8, 12, 16), (0, 4, 6, 8, 12, 16), 1),
        ((0, 4, 4, 4, 16, 20), (0, 4, 8, 12, 16, 20), 2),
        ((0, 4, 8, 6, 16), (0, 4, 8, 12, 16), 1),
        # One stamp far ahead moves none of those after it.
        ((0, 4, 900, 12, 16, 20), (0, 4, 8, 12, 16, 20), 1),
        ((900, 4, 8, 12), (0, 4, 8, 12), 1),
        # A clock that starts anew goes on a frame after the old one, and keeps its own intervals.
        ((500, 504, 0, 4, 10), (500, 504, 508, 512, 518), 3),
        ((500, 504, 0, 4, 0, 4), (500, 504, 508, 512, 516, 520), 4),
        ((None, None, None), (0, 4, 8), 3),
        ((None,), (0,), 1),
    ],
)
def test_bad_stamps_are_mended_and_counted(ticks, want, repaired):
    found = mended(ticks)
    assert found.times_s.tolist() == pytest.approx([t / 100 for t in want])
    assert (found.repaired, found.by_dts) == (repaired, False)


@pytest.mark.parametrize("own", [slice(20, 24), slice(26, 30), slice(0, 3), slice(55, 60), slice(20, 21)])
@pytest.mark.parametrize("value", ["first", "last"])
def test_a_burst_of_one_stamp_is_spread_as_its_dts_are(own, value):
    """Whether the burst repeats the stamp of its first frame or of its last one: without dts nothing would tell."""
    pts = TRUE.copy()
    pts[own] = pts[own][0 if value == "first" else -1]
    found = mended(pts, TRUE + 8)
    assert found.times_s.tolist() == [t / 100 for t in TRUE.tolist()]
    assert (found.repaired, found.by_dts) == (len(pts[own]) - 1, False)


def test_uneven_frames_between_bad_stamps_keep_their_intervals():
    true = np.cumsum([0, *np.random.default_rng(0).integers(2, 9, 59)])
    pts = true.copy()
    pts[30:40] = pts[30]
    found = mended(pts, true - 8)
    assert found.times_s == pytest.approx(true / 100)
    assert found.repaired == 9


def test_sound_stamps_are_the_times_to_the_bit_whatever_the_dts():
    for tick in (Fraction(1, 90000), Fraction(1001, 30000), Fraction(1, 1000)):
        pts = np.cumsum(np.random.default_rng(1).integers(1, 5000, 50)).tolist()
        found = clock.times(clock.Stamps(tick, pts=pts, dts=[7] * 50), 0.04)
        assert found.times_s.tolist() == [p * tick.numerator / tick.denominator for p in pts]
        assert (found.repaired, found.by_dts) == (0, False)


def test_where_many_stamps_are_wrong_dts_are_the_clock():
    pts = TRUE.copy()
    pts[1::2] -= 8
    found = mended(pts, [*TRUE[:-2], None, None])
    assert found.times_s == pytest.approx(TRUE / 100)
    assert (found.repaired, found.by_dts) == (30, True)
    assert not mended(pts, np.full(60, 3)).by_dts  # these do not rise


def test_times_rise_strictly_whatever_the_stamps():
    rng = np.random.default_rng(2)
    for _ in range(300):
        n = int(rng.integers(1, 30))
        pts = rng.integers(0, 40, n).astype(object)
        pts[rng.random(n) < 0.2] = None
        dts = None if rng.random() < 0.5 else np.cumsum(rng.integers(0, 9, n))
        assert (np.diff(mended(pts, dts, numbers=rng.integers(0, 60, n).tolist() if rng.random() < 0.3 else []).times_s) > 0).all()


# ---- files ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"bf": "3"}),
        ("libx264", {"bf": "0"}),
        ("libx264", {"bf": "8", "b-adapt": "0", "refs": "4"}),
        ("mpeg4", {"bf": "2"}),
        ("mpeg4", {}),
        ("mjpeg", {}),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 40])
def test_frames_of_avi_lie_where_they_are_numbered(tmp_path, codec, options, count):
    """AVI has no pts; frame i of a clip at 25 a second is shown at i / 25, where its sound is."""
    info = probe(clips.write(tmp_path / "x.avi", codec=codec, options=options, count=count, time_base=Fraction(1, 25)))
    assert info.axis.times_s.tolist() == [i / 25 for i in range(count)]
    assert not info.variable_rate
    assert info.fps == 25
    assert info.times_by_dts == bool(info.repaired_times)
    if (codec, options, count) == ("libx264", {"bf": "3"}, 40):
        assert info.faults == ("22 of 40 timestamps not those of showing, taken from the order of decoding",)


@pytest.mark.parametrize("bframes", [0, 2])
def test_damage_within_an_avi_moves_no_frame_behind_it(tmp_path, bframes):
    whole = clips.write(tmp_path / "a.avi", options={"g": "10", "bf": str(bframes)}, time_base=Fraction(1, 25))
    path = clips.damage(whole, tmp_path / "b.avi", "video", slice(12, 16))
    shown = [clips.number(image) for _, _, image in decode.frames(path)]
    off = np.abs(probe(path).axis.times_s - np.array(shown) / 25)
    assert 40 < len(shown) < 50
    assert shown[:10] == list(range(10))
    assert shown[-29:] == list(range(21, 50))
    assert (off[[*range(10), *range(-29, 0)]] < 1e-9).all()


def test_a_file_that_took_dts_for_pts_lies_where_it_belongs(tmp_path):
    """ASF stores one stamp a packet, and FFmpeg's writer the dts."""
    info = probe(clips.write(tmp_path / "x.asf", options={"bf": "3"}, time_base=Fraction(1, 1000)))
    assert info.axis.times_s.tolist() == [i / 25 for i in range(50)]
    assert info.times_by_dts


def stamped(source: Path, target: Path, pts: dict[int, int]) -> Path:
    """A copy of a file in which some packets say another pts, in ticks."""
    with av.open(str(source)) as a, av.open(str(target), "w") as b:
        track = b.add_stream_from_template(a.streams.video[0])
        for packet in a.demux(a.streams.video[0]):
            if packet.size:
                packet.pts = pts.get(packet.pts, packet.pts)
                packet.stream = track
                b.mux(packet)
    return target


def test_a_burst_in_a_file_lies_where_it_belongs(tmp_path):
    """Frames 20 to 24 say that they are shown with frame 24; mp4 keeps dts as they are."""
    whole = clips.write(tmp_path / "a.mp4", options={"bf": "0"}, time_base=Fraction(1, 12800))
    info = probe(stamped(whole, tmp_path / "b.mp4", {512 * i: 512 * 24 for i in range(20, 24)}))
    assert info.axis.times_s.tolist() == [i / 25 for i in range(50)]
    assert info.faults == ("4 of 50 timestamps missing or not increasing, repaired",)


def test_without_stamps_or_a_rate_there_are_no_times():
    said = clock.Stamps(TICK, pts=[0, 4, 4], dts=[0, 4, 4])
    video = SimpleNamespace(path="x.mp4", stamps=said, stream=SimpleNamespace(average_rate=None, guessed_rate=None))
    with pytest.raises(MediaError, match=r"x.mp4: want timestamps that rise or a frame rate, got neither; remux the video"):
        _frame_s(video)
    said.pts[2] = 5
    assert _frame_s(video) == 0.0
