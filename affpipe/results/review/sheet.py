"""The sheet: one self-contained HTML page. The template escapes everything that users named.

Its size is bounded. At most LANES tracks of a video are drawn, those in question first, each with at most THUMBS faces of SIDE pixels
(about 2 kB each in the page). The other plausible tracks are listed in words; the short and small ones are counted.
"""

import base64
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from affpipe import __version__
from affpipe.core.errors import StoreError
from affpipe.faces.crop import cut, decode_jpeg, encode_jpeg
from affpipe.results import report
from affpipe.results.report.series import marks, time_ticks
from affpipe.results.review.candidates import AMBIGUOUS, Track
from affpipe.results.review.collect import Missing, StreamView, VideoView
from affpipe.store.streams import Stream

HERE = Path(__file__).parent
SIDE, MARGIN, QUALITY = 64, 0.2, 60  # a thumbnail's side in pixels, margin as a part of the box on each side, JPEG quality
THUMBS = 8  # thumbnails per track
LANES = 8  # tracks drawn per video
LISTED = 30  # tracks given in words
AXIS = 940  # pixels of the time axis on a page of 1280
BARS = 200  # marks of a track at most
HUES = ("#0063a5", "#c24a00", "#00805c", "#7a3f8f")  # one per stream of a video
QUIET = "#9aa5b1"


@dataclass(frozen=True)
class Lane:
    """A drawn track.

    Attributes:
        thumbs: (percent of the axis at its middle, data URI, seconds) each.
        bars: (SVG path on 1000 x 8, colour, opacity) each.
    """

    id: int
    frames: int
    share: float
    side: float
    score: float
    plausible: bool
    taken_by: list[tuple[str, str]]
    thumbs: list[tuple[float, str, float]]
    bars: list[tuple[str, str, float]]


@dataclass(frozen=True)
class Block:
    """A video on the sheet."""

    id: str
    seconds: float
    frames: int
    streams: list[tuple[StreamView, str]]
    lanes: list[Lane]
    ticks: list[tuple[float, str]]
    listed: list[str]
    unlisted: int
    short: int

    @property
    def order(self) -> tuple[bool, float, str]:
        """Sort key: decisions at fault first, then the most ambiguous; those that a person decided last."""
        open_ = [_urgency(view) for view, _ in self.streams if view.status != "decided"]
        return not open_, -max(open_, default=0.0), self.id

    @property
    def status(self) -> str:
        return next((s for s in ("fault", "ambiguous", "decided") if any(view.status == s for view, _ in self.streams)), "clear")


def _urgency(view: StreamView) -> float:
    return 2.0 if view.status == "fault" else view.ambiguity


class Sheet:
    """Page under construction: `add` draws a video, `html` gives the page."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []

    def add(self, video: VideoView) -> None:
        """Draw a video."""
        self._blocks.append(_block(video))

    def html(self, name: str, missing: list[Missing], dropped: list[str], *, decisions: str, command: str) -> str:
        """Return the page, ambiguous videos first.

        Args:
            name: name of the run. missing: streams without faces. dropped: decisions that no longer hold.
            decisions: path of the file to edit. command: command that makes what is missing.
        """
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        css = (Path(report.__file__).parent / "page.css", HERE / "sheet.css")
        blocks = sorted(self._blocks, key=lambda b: b.order)
        views = [(view, number) for number, block in enumerate(blocks, 1) for view, _ in block.streams]
        return environment.get_template("sheet.html.jinja").render(
            css=Markup("\n".join(path.read_text(encoding="utf-8") for path in css)),
            name=name,
            date=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            version=__version__,
            blocks=blocks,
            queue=sorted((v for v in views if v[0].status in ("fault", "ambiguous")), key=lambda v: (-_urgency(v[0]), v[0].id)),
            count={s: sum(view.status == s for view, _ in views) for s in ("fault", "ambiguous", "decided", "clear")},
            streams=len(views),
            missing=missing,
            dropped=dropped,
            decisions=decisions,
            command=command,
            threshold=AMBIGUOUS,
            side=SIDE,
        )


def _block(video: VideoView) -> Block:
    streams = list(zip(video.streams, cycle(HUES), strict=False))
    asked = {int(t) for view, _ in streams for t in (*view.rule.tracks, *(view.choice.tracks if view.choice else ()))}
    shown = [t for t in video.found if t.plausible or t.id in asked] or video.found
    shown = sorted(shown, key=lambda t: (t.id not in asked, -t.area * len(t.rows)))
    first, last = float(video.start_s[0]), float(video.end_s[-1])
    with Stream(video.file) as crops:
        lanes = [_lane(video, crops, track, streams) for track in sorted(shown[:LANES], key=lambda t: t.id)]
    rest = shown[LANES:]
    return Block(
        video.id,
        last - first,
        video.faces.frames,
        streams,
        lanes,
        [(100 * (t - first) / (last - first), label) for t, label in time_ticks(first, last, 8)],
        [_words(video, track) for track in rest[:LISTED]],
        max(0, len(rest) - LISTED),
        len(video.found) - len(shown),
    )


def _lane(video: VideoView, crops: Stream, track: Track, streams: list[tuple[StreamView, str]]) -> Lane:
    faces = video.faces
    left = np.zeros(faces.frames, bool)
    left[faces.frame[track.rows]] = True
    taken_by, bars = [], []
    for view, hue in streams:
        if view.choice is None:
            continue
        used = np.isin(view.choice.row, track.rows)
        if used.any():
            taken_by.append((view.id, hue))
            bars += _bars(video, used & left, hue)
            left &= ~used
    return Lane(
        track.id,
        len(track.rows),
        len(track.rows) / faces.frames,
        track.side,
        track.score,
        track.plausible,
        taken_by,
        _thumbs(video, crops, track),
        bars + _bars(video, left, QUIET),
    )


def _bars(video: VideoView, flags: np.ndarray, hue: str) -> list[tuple[str, str, float]]:
    first, last = video.start_s[0], video.end_s[-1]
    out = []
    for share, spans in marks(flags, video.start_s, video.end_s, BARS).items():
        scaled = 1000 * (spans - first) / (last - first)
        path = "".join(f"M{a:.1f} 0h{max(b - a, 1):.1f}v8h{-max(b - a, 1):.1f}z" for a, b in scaled)
        out.append((path, hue, share))
    return out


def _thumbs(video: VideoView, crops: Stream, track: Track) -> list[tuple[float, str, float]]:
    """Return faces of a track, spread evenly over the time in which it was seen, as many as fit side by side."""
    faces, first, last = video.faces, float(video.start_s[0]), float(video.end_s[-1])
    at = video.start_s[faces.frame[track.rows]]
    room = (SIDE + 6) * (last - first) / AXIS  # seconds that a thumbnail covers
    count = min(THUMBS, max(1, int((at[-1] - at[0]) / room)))
    middles = at[0] + (at[-1] - at[0]) * (np.arange(count) + 0.5) / count
    out, latest = [], -np.inf
    for i in np.unique(np.abs(at[None] - middles[:, None]).argmin(axis=1)):
        if at[i] - latest >= 0.9 * room:
            latest = at[i]
            out.append((100 * (at[i] - first) / (last - first), _thumb(crops, int(track.rows[i]), faces.box[track.rows[i]]), float(at[i])))
    return out


def _thumb(crops: Stream, row: int, box: np.ndarray) -> str:
    """Return a face as a data URI, cut closer than the stored crop."""
    crop_box = crops.rows("crop_box", row, row + 1)[0]
    try:
        image = decode_jpeg(crops.blob("crop", row))
    except StoreError as error:
        raise StoreError(f"{crops.path}: row {row}: {error}") from None
    inner = (box.reshape(2, 2) - crop_box[:2]) * (len(image) / (crop_box[2] - crop_box[0]))
    face, _ = cut(image, inner.ravel(), MARGIN, SIDE)
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(face, QUALITY)).decode()


def _words(video: VideoView, track: Track) -> str:
    frame = video.faces.frame[track.rows]
    return f"{track.id} ({len(frame)} frames, {video.start_s[frame[0]]:.1f}\u2013{video.end_s[frame[-1]]:.1f} s, {track.side:.0f} px)"
