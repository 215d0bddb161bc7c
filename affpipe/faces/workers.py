"""Workers of the stages that look for faces: the frame axis, faces, subject, landmarks, mouth, speech.

The frame axis is among them since faces decide which of several video tracks is meant.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from affpipe.core.axis import FrameAxis, segments
from affpipe.core.errors import MediaError
from affpipe.core.stage import Context
from affpipe.faces import images
from affpipe.faces.crop import cut, decode_jpeg, encode_jpeg, read_square
from affpipe.faces.detect import Detector, MediaPipeDetector
from affpipe.faces.mouth import inner_lip_area, opening, smooth, voice_ratio, windows, with_voice
from affpipe.faces.subject import choose, choose_tracks
from affpipe.faces.track import Tally, Tracker
from affpipe.faces.which import share_with_face
from affpipe.media.pictures import pictures
from affpipe.media.probe import probe
from affpipe.media.tracks import named, video_track
from affpipe.store.item_streams import Job, Worker, blank, blocks
from affpipe.store.streams import Stream, Writer
from affpipe.system.files import sha256
from affpipe.system.weights.pin import checkpoint, hold
from affpipe.system.weights.records import record

BLOCK = 256  # faces or frames between two writes, which are held in memory
BOX = ("left", "top", "right", "bottom")
NAMED = 3  # most damaged images that a message names

log = logging.getLogger("affpipe")


def frames(context: Context) -> Worker:
    """Make the worker that writes the timestamps of every frame that decodes: values (T, 1) float32, seconds for which a frame is shown.

    The attributes describe the file. The log also reports damage in the file and what is done to its pictures, since a stream is made all
    the same. It also reports which of several video tracks was taken; the attribute `video.track` records it for whoever decodes pictures
    on this axis.
    """

    def work(job: Job) -> None:
        s = context.settings
        track = video_track(job.video, named(job.item.row.video_track, s.video_track), faces=share_with_face)
        info = probe(job.video, backend=s.backend, track=track and track.index, deinterlace=s.deinterlace, tone_map=s.tone_map)
        axis = info.axis
        for fault in info.faults:
            log.warning("frames: %s: %s; look whether it plays as it should", job.video, fault)
        for done in info.treated:
            log.info("frames: %s: %s", job.video, done)
        if track.said:
            log.warning("frames: %s: %s", job.video, track.said)
        chosen = {"track": track.facts(), **({"said": [track.said]} if track.said else {})}
        read = {"sha256": sha256(job.video)}  # just decoded, so still cached; `stale` compares the file with it
        header = job.header(axis.fps, columns=("duration_s",), video={**info.facts(), **chosen, **read})
        shown = (axis.ends_s - axis.times_s).astype(np.float32)[:, None]
        job.write(header, values=shown, start_s=axis.times_s, end_s=axis.ends_s, valid=np.ones(len(axis), bool))

    return work


def faces(context: Context) -> Worker:
    """Make the worker that writes every face, a row a face: values (N, 4) float32, box xyxy in pixels.

    More datasets: frame, track, score, crop (JPEG), crop_box and detected. With `every` above 1, `detected` is False for a box interpolated
    between two detections of its track (crops are always real pixels). The header's `tracks` summarizes each track.
    """
    return _of_images() if context.settings.source == "images" else _of_video(context)


def _of_video(context: Context) -> Worker:
    """Make the worker for faces that a detector finds and a tracker follows."""
    from affpipe.faces.follow import follow

    s = context.settings
    detector, random = _detector(context)

    def rows(job: Job, axis: FrameAxis, count: list[int]) -> Iterator[dict]:
        # Frames between detections are no gap.
        tracker = Tracker(min_iou=s.min_iou, min_similarity=s.min_similarity, max_gap_frames=s.max_gap_frames + s.every - 1)
        video = pictures(job, axis)
        for index, image, found in follow(video, detector, tracker, every=s.every, batch_size=s.batch_size):
            count[0] = index + 1
            for face in found:
                crop, crop_box = cut(image, face.box, s.crop_margin, s.crop_side)
                yield {**vars(face), "frame": index, "crop": encode_jpeg(crop, s.jpeg_quality), "crop_box": crop_box}

    def work(job: Job) -> None:
        axis = job.axis()
        count = [0]  # frames seen
        with job.writing(job.header(axis.fps, random=random, columns=BOX)) as out:
            _write(out, rows(job, axis, count), axis)
            if count[0] != len(axis):
                raise MediaError(f"{job.video}: want {len(axis)} frames as when it was probed, got {count[0]}; the file changed: run again")

    return work


def _detector(context: Context) -> tuple[Detector, tuple[str, ...]]:
    """Return the detector of the settings, and the names of its weights if they are random."""
    s = context.settings
    if s.detector == "mediapipe":
        return MediaPipeDetector(model=s.model, min_score=s.min_score), ()
    path, random = checkpoint(context)
    from affpipe.faces.yolo.detector import YoloDetector
    from affpipe.system.device import pick

    device = pick(context.device)
    sizes = {"image_side": s.image_side, "batch_size": s.batch_size}
    return YoloDetector(path, device=device, min_score=s.min_score, nms_iou=s.nms_iou, **sizes), random


def _of_images() -> Worker:
    """Make the worker for the stream's own images, each the one face of its frame.

    box and crop_box are the whole image; crop is the file, byte for byte. The header's `images` counts the files, those `beyond` the
    video's last frame, and those `damaged`, whose frames have no face; it names the first damaged ones.
    """

    def work(job: Job) -> None:
        axis, folder = job.axis(), job.item.row.images
        files = images.numbered(folder)
        within = {number: path for number, path in files.items() if number <= len(axis)}
        damaged: list[str] = []
        with job.writing(job.header(axis.fps, columns=BOX)) as out:
            _write(out, _image_rows(within, damaged), axis)
            beyond, named = len(files) - len(within), ", ".join(damaged[:NAMED]) + (", ..." if len(damaged) > NAMED else "")
            counts = {"files": len(files), "beyond": beyond, "damaged": len(damaged)}
            out.extra["images"] = {**counts, "first_damaged": damaged[:NAMED]}
            if files and len(damaged) == len(within):
                raise MediaError(
                    f"{folder}: want JPEG images of frames 1 to {len(axis)}, got {len(files)} files, {beyond} of them beyond and "
                    f"{len(damaged)} damaged{f' ({named})' if named else ''}; check the folder"
                )
        if damaged:
            lost = f"{len(damaged)} of {len(files)} images in {folder} are damaged ({named})"
            log.warning("%s: %s: %s: these frames have no face", job.name, job.item.id, lost)

    return work


def _image_rows(files: dict[int, Path], damaged: list[str]) -> Iterator[dict]:
    """Yield a row an image; add the names of those that do not decode to `damaged`."""
    for number, path in files.items():
        found = read_square(path)
        if found is None:
            damaged.append(path.name)
            continue
        data, side = found
        whole = np.array([0, 0, side, side], np.float32)
        yield {"frame": number - 1, "track": 0, "score": 1.0, "detected": True, "box": whole, "crop_box": whole, "crop": data}


def _write(out: Writer, rows: Iterable[dict], axis: FrameAxis) -> None:
    """Append rows a block at a time, and summarize their tracks. Without rows the stream has none."""
    block: list[dict] = []
    tally = Tally()
    _append(out, block, axis.times_s, axis.ends_s)
    for row in rows:
        tally.add(row["track"], row["frame"], row["box"], row["score"])
        block.append(row)
        if len(block) == BLOCK:
            _append(out, block, axis.times_s, axis.ends_s)
            block.clear()
    if block:
        _append(out, block, axis.times_s, axis.ends_s)
    out.extra["tracks"] = tally.tracks()


def _append(out: Writer, block: list[dict], start_s: np.ndarray, end_s: np.ndarray) -> None:
    n = len(block)
    frame = np.array([row["frame"] for row in block], np.int64)
    out.append(
        values=np.array([row["box"] for row in block], np.float32).reshape(n, 4),
        start_s=start_s[frame],
        end_s=end_s[frame],
        valid=np.ones(n, bool),
        frame=frame,
        track=np.array([row["track"] for row in block], np.int64),
        score=np.array([row["score"] for row in block], np.float32),
        detected=np.array([row["detected"] for row in block], bool),
        crop_box=np.array([row["crop_box"] for row in block], np.int32).reshape(n, 4),
        crop=[row["crop"] for row in block],
    )


def subject(context: Context) -> Worker:
    """Make the worker that writes the subject in every frame: values (T, 4) float32, box; valid where seen.

    `row` (T,) int64 is the row in the stream `faces` (-1: not seen). Images always show the subject, so every one is taken, however few
    there are.
    """
    of_images = context.see("faces").source == "images"

    def work(job: Job) -> None:
        axis = job.axis()
        with job.open("frames") as video, job.open("faces") as found:
            width = video.attributes["extra"]["video"]["width"]
            frame, track, box = found.rows("frame"), found.rows("track"), found.rows()
        if of_images:
            choice = choose_tracks(frame, track, tracks=tuple(np.unique(track).tolist()), frames=len(axis))
            choice = replace(choice, reason=f"images: a face in {len(frame)} of {len(axis)} frames")
        elif job.item.tracks is None:
            choice = choose(frame, track, box, rule=job.item.row.subject, frames=len(axis), width=width)
        else:
            choice = choose_tracks(frame, track, tracks=job.item.tracks, frames=len(axis))
        seen = choice.row >= 0
        values = blank(len(axis), (4,))
        values[seen] = box[choice.row[seen]]
        header = job.header(axis.fps, columns=BOX, tracks=[int(t) for t in choice.tracks], reason=choice.reason)
        job.write(header, values=values, start_s=axis.times_s, end_s=axis.ends_s, valid=seen, row=choice.row)

    return work


def landmarks(context: Context) -> Worker:
    """Make the worker of FaceMesh on the subject's crops: values (T, 478, 3) float32 in crop pixels, valid where a mesh was found."""
    from affpipe.faces.landmarks import POINTS, FaceMesh

    model = context.settings.model
    mesh = FaceMesh(model)
    if model != "bundled":
        found = record(Path(model), name=Path(model).name, source="a path in the settings", remembered=True)
        hold(context.cache, Path(model), found, context.settings.weights_revision)

    def work(job: Job) -> None:
        with job.open("subject") as who, job.open("faces") as found, job.writing(job.header(who.fps)) as out:
            row = who.rows("row")
            for block in blocks(len(row), BLOCK):
                values, valid = blank(len(row[block]), (POINTS, 3)), np.zeros(len(row[block]), bool)
                seen = np.flatnonzero(row[block] >= 0)
                for i, crop in zip(seen, found.blobs("crop", row[block][seen]), strict=True):
                    points = mesh.landmarks(decode_jpeg(crop))
                    if points is not None:
                        values[i], valid[i] = points, True
                out.append(values=values, start_s=who.start_s[block], end_s=who.end_s[block], valid=valid)

    return work


def _area(mesh: Stream, block: slice) -> np.ndarray:
    points = np.where(mesh.valid[block, None, None], mesh.rows("values", block.start, block.stop), np.nan)
    return inner_lip_area(points)


def mouth(context: Context) -> Worker:
    """Make the worker of the mouth per frame: values (T, 2) float32, inner-lip area (as part of the face) and open (0 or 1).

    A row is valid where the mesh was found.
    """
    s = context.settings

    def work(job: Job) -> None:
        with job.open("landmarks") as mesh:
            valid, fps, start_s, end_s = mesh.valid, mesh.fps, mesh.start_s, mesh.end_s
            area = np.concatenate([_area(mesh, block) for block in blocks(len(mesh), BLOCK)])
        open_ = opening(area, valid, smooth_frames=s.smooth_frames, compat=s.compat)
        open_ = smooth(open_, float(fps), gap_s=s.gap_s, burst_s=s.burst_s)
        values = np.stack([np.nan_to_num(area), open_], axis=1).astype(np.float32)
        job.write(job.header(fps, columns=("area", "open")), values=values, start_s=start_s, end_s=end_s, valid=valid)

    return work


def speech(context: Context) -> Worker:
    """Make the worker that writes windows of the mouth stream: values (W, 3) float32, open_s, coverage, retained (0 or 1).

    With `vad` there is a fourth column, the part of the window with a voice.
    """
    s, vad = context.settings, context.see("vad")

    def work(job: Job) -> None:
        axis = job.axis()
        with job.open("mouth") as lips:
            open_, seen, fps = lips.rows()[:, 1] > 0, lips.valid, lips.fps
        spans = segments(axis.start_s, axis.end_s, length_s=s.length_s, hop_s=s.hop_s)
        table = windows(open_, seen, axis, spans, min_open_ratio=s.min_open_ratio, min_coverage=s.min_coverage)
        columns = {"open_s": table.open_s, "coverage": table.coverage, "retained": table.retained}
        if vad.model != "none":
            with job.open("vad") as voice:
                voiced = voice.rows()[:, 0] >= vad.min_probability
                ratio = voice_ratio(voiced, voice.start_s, voice.end_s, spans)
            keep = with_voice(table.retained, ratio, min_voice_ratio=s.min_voice_ratio, combine=s.combine)
            columns |= {"retained": keep, "voice": ratio}
        values = np.stack(list(columns.values()), axis=1).astype(np.float32)
        header = job.header(fps, columns=tuple(columns))
        job.write(header, values=values, start_s=spans[:, 0], end_s=spans[:, 1], valid=np.ones(len(spans), bool))

    return work
