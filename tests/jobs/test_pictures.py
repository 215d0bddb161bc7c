"""Pictures as a player shows them: square pixels, whole pictures, ordinary range, the colours that the file says."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import clips
import numpy as np
import pytest

from affpipe.core.errors import MediaError
from affpipe.data.importers import facts, manifest_check
from affpipe.faces import workers as face_stages
from affpipe.faces.crop import decode_jpeg
from affpipe.faces.detect import Detection
from affpipe.jobs.doctor import videos
from affpipe.media.declared import declared
from affpipe.media.picture import decode, hdr, shown
from affpipe.media.pictures import pictures
from affpipe.media.probe import probe
from affpipe.store.streams import Stream

F = Fraction


def seen(path: Path, **how) -> list[np.ndarray]:
    return [image for _, _, image in decode.frames(path, **how)]


# ---- the shape of pixels ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", decode.BACKENDS)
@pytest.mark.parametrize(
    ("ratio", "degrees", "size"),
    [
        (F(4, 3), 0, (128, 64)),
        (F(2, 3), 0, (64, 64)),
        (F(4, 3), 90, (64, 128)),
        (F(4, 3), 180, (128, 64)),
        (F(4, 3), 270, (64, 128)),
        (F(1), 90, (64, 96)),
    ],
)
def test_pixels_are_made_square_before_the_picture_is_turned(tmp_path, backend, ratio, degrees, size):
    path = clips.write(tmp_path / "x.mp4", count=12, ratio=ratio, rotation_deg=degrees)
    info, images = probe(path, backend=backend), seen(path, backend=backend)
    assert (info.width, info.height, info.stored_width, info.stored_height, info.pixel_ratio) == (*size, 96, 64, ratio)
    assert {image.shape for image in images} == {(*size[::-1], 3)}
    assert [clips.number(np.rot90(image, -degrees // 90)) for image in images] == list(range(12))
    assert all(np.array_equal(a, b) for a, b in zip(images, seen(path), strict=True))
    words = f"pixels {ratio} as wide as high: 96x64 resampled to {round(96 * ratio)}x64"
    assert info.treated == declared(path, first_frame=True).treated == ((words,) if ratio != 1 else ())
    assert info.faults == ()


def test_a_place_in_the_picture_is_where_it_is_shown(tmp_path):
    """A spot drawn at a place of the shown picture, squeezed, stored, read again: at that place within half a pixel."""
    grid = np.mgrid[:120, :160]
    spot = 255 * np.exp(-((grid[1] - 100) ** 2 + (grid[0] - 40) ** 2) / 200)
    squeezed = spot.reshape(120, 80, 2).mean(axis=2)
    write(tmp_path / "x.mp4", [squeezed] * 3, ratio=F(2))
    image = seen(tmp_path / "x.mp4")[1][..., 0].astype(float)
    assert image.shape == (120, 160)
    x, y = ((image * axis).sum() / image.sum() for axis in grid[::-1])
    assert (x, y) == pytest.approx((100, 40), abs=0.5)
    assert np.abs(image - spot).mean() < 2


@pytest.mark.parametrize("ratio", [None, F(1), F(1280, 1281), F(404, 405)])
def test_square_pixels_stay_as_they_are_stored(tmp_path, ratio):
    path = clips.write(tmp_path / "x.mp4", count=3, size=(320, 64), ratio=ratio)
    with av.open(str(path)) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.array_equal(stored, seen(path))
    assert probe(path).treated == ()


def declare(source: Path, target: Path, across: int, down: int) -> Path:
    """A copy of an mp4 whose header gives another shape of pixels."""
    data = bytearray(source.read_bytes())
    at = data.index(b"pasp") + 4
    data[at : at + 8] = struct.pack(">II", across & 0xFFFFFFFF, down)
    target.write_bytes(data)
    return target


def test_the_containers_word_goes_before_the_codecs(tmp_path):
    source = clips.write(tmp_path / "a.mp4", count=3, ratio=F(4, 3))
    assert probe(declare(source, tmp_path / "b.mp4", 3, 2)).width == 144
    for across, down in ((0, 1), (1, 0), (-4, 3)):  # no ratio at all: FFmpeg passes over it
        assert probe(declare(source, tmp_path / "b.mp4", across, down)).width == 128


@pytest.mark.parametrize("ratio", [F(1, 1000), F(11, 2), F(1000)])
def test_a_ratio_that_cannot_be_is_not_believed_and_said(tmp_path, ratio):
    path = declare(clips.write(tmp_path / "a.mp4", count=3, ratio=F(4, 3)), tmp_path / "b.mp4", ratio.numerator, ratio.denominator)
    info = probe(path)
    assert (info.width, info.height) == (96, 64)
    assert info.faults == (f"pixels said to be {ratio} as wide as high, taken as square",)


@pytest.mark.parametrize("ratios", [(F(4, 3), F(1)), (None, F(4, 3))])
def test_a_change_of_the_shape_is_an_error(tmp_path, ratios):
    parts = [clips.write(tmp_path / f"{i}.ts", count=10, ratio=ratio).read_bytes() for i, ratio in enumerate(ratios)]
    (tmp_path / "b.ts").write_bytes(b"".join(parts))
    with pytest.raises(
        MediaError, match=rf"want pixels of one shape, got {ratios[0] or 'none'} then {ratios[1]} near frame \d+; re-encode"
    ):
        probe(tmp_path / "b.ts")


def test_a_shown_picture_may_be_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("affpipe.media.reader.LARGEST_PIXELS", 96 * 64)
    path = clips.write(tmp_path / "x.mp4", count=3, ratio=F(2))
    with pytest.raises(MediaError, match=r"want pictures of at most 6144 pixels, got 192x64; scale the video down"):
        probe(path)


def test_shown_size_by_hand():
    upright, left = (1, 0, 0, 1), (0, -1, 1, 0)
    assert shown.shown_size((720, 576), F(16, 15), upright) == (768, 576)
    assert shown.shown_size((720, 480), F(8, 9), left) == (480, 640)
    assert shown.shown_size((1, 9), F(1, 5), upright) == (1, 9)
    assert [shown.believed(r) for r in (None, F(5), F(1, 5), F(6), F(-1), F(0))] == [1, 5, F(1, 5), 1, 1, 1]


# ---- interlaced pictures ----------------------------------------------------------------------------------------------------------------


def bar(step: int) -> np.ndarray:
    """(72, 96) grey picture of a bar that has moved so many steps of two pixels."""
    image = np.full((72, 96), 60.0)
    image[12:60, 8 + 2 * step : 24 + 2 * step] = 200
    return image


def woven(i: int) -> np.ndarray:
    """Frame i of an interlaced clip: the lower lines are of step 2 i, the upper ones, half a frame later, of the next."""
    image = bar(2 * i)
    image[::2] = bar(2 * i + 1)[::2]
    return image


INTERLACED = {"flags": "+ildct+ilme", "x264-params": "bff=1"}


@pytest.fixture(scope="module")
def interlaced(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("interlaced") / "x.mp4", [woven(i) for i in range(12)], options=INTERLACED)


def test_interlaced_pictures_are_made_whole_one_for_each_frame(interlaced):
    got = list(decode.frames(interlaced))
    assert [(i, t) for i, t, _ in got] == [(i, i / 25) for i in range(12)]
    for i, _, image in got:
        assert np.abs(image[..., 0] - bar(2 * i)).mean() < 2  # of the earlier half, sharp
        assert np.abs(image[..., 0] - bar(2 * i + 1)).mean() > 2.5
    info = probe(interlaced)
    assert (info.interlaced, info.treated) == (12, ("interlaced pictures made whole",))


def test_wanted_frames_of_interlaced_pictures_are_those_of_the_whole_pass(interlaced):
    whole = seen(interlaced)
    for wanted in ([0], [3, 4, 9], [11]):
        got = list(decode.frames(interlaced, wanted=np.array(wanted)))
        assert [i for i, _, _ in got] == wanted
        assert all(np.array_equal(image, whole[i]) for i, _, image in got)


def test_interlaced_pictures_may_stay_as_they_are(interlaced):
    for i, image in enumerate(seen(interlaced, deinterlace=False)):
        assert np.abs(image[..., 0] - woven(i)).mean() < 1.5
    assert probe(interlaced, deinterlace=False).treated == ("interlaced pictures left as they are",)
    assert len(seen(interlaced, deinterlace=False, backend="decord")) == 12


def test_decord_refuses_interlaced_pictures(interlaced):
    for call in (lambda: seen(interlaced, backend="decord"), lambda: probe(interlaced, backend="decord")):
        with pytest.raises(MediaError, match="decord: want whole pictures, got interlaced ones; use the pyav backend"):
            call()


def test_only_frames_that_are_marked_are_changed(tmp_path):
    """Two parts in one file, one of them interlaced, and of other pixels: frames of the first stay byte for byte."""
    whole = write(tmp_path / "a.ts", [bar(i) for i in range(6)])
    mixed = write(tmp_path / "b.ts", [woven(i) for i in range(6)], options=INTERLACED, pixels="yuv422p")
    for name, parts in (("c.ts", (whole, mixed)), ("d.ts", (mixed, whole))):
        (tmp_path / name).write_bytes(b"".join(part.read_bytes() for part in parts))
        got, stored = seen(tmp_path / name), seen(tmp_path / name, deinterlace=False)
        assert len(got) == 12
        same = [np.array_equal(a, b) for a, b in zip(got, stored, strict=True)]
        assert same == ([True] * 6 + [False] * 6 if parts[0] is whole else [False] * 6 + [True] * 6)


# ---- high dynamic range -----------------------------------------------------------------------------------------------------------------

PATCHES = np.array([[0.8, 0.5, 0.35], [0.2, 0.2, 0.6], [0.7, 0.7, 0.7], [0.1, 0.4, 0.1], [0.6, 0.1, 0.1], [0.0, 0.0, 0.0], [0.3, 0.3, 0.3]])
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # linear BT.709 to BT.2020 (BT.2087)


def pq(light: np.ndarray) -> np.ndarray:
    y = (light / 10000) ** (1305 / 8192)
    return ((107 / 128 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)


def hlg(light: np.ndarray) -> np.ndarray:
    """The signal that shows this light on a display of 1000 cd/m2."""
    own = light / 1000
    luma = own @ [0.2627, 0.6780, 0.0593]
    scene = own * np.where(luma > 0, np.maximum(luma, 1e-12) ** (1 / 1.2 - 1), 0)[..., None]
    low = np.sqrt(3 * np.minimum(scene, 1 / 12))
    return np.where(scene <= 1 / 12, low, 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073)


@pytest.mark.parametrize(("transfer", "signal"), [(hdr.PQ, pq), (hdr.HLG, hlg)])
def test_colours_of_high_range_are_those_that_were_meant(tmp_path, transfer, signal):
    """Patches of BT.709 whose white is at 120 cd/m2: up to 92 cd/m2 the curve is straight, and the code is gamma 2.4 of light over 203."""
    light = 120 * PATCHES**2.4
    path = write_hdr(tmp_path / "x.mp4", signal(light @ TO_2020.T), transfer)
    want = 255 * (light / 203) ** (1 / 2.4)
    assert np.abs(patches(seen(path)[1]) - want).max() < 4
    assert np.abs(patches(seen(path, tone_map=False)[1]) - want).max() > 20
    info = probe(path)
    assert (info.high_range, info.treated) == ({hdr.NAMES[transfer]: 3}, (f"HDR ({hdr.NAMES[transfer]}) mapped to ordinary range",))
    assert probe(path, tone_map=False).treated == (f"HDR ({hdr.NAMES[transfer]}) left as it is",)
    for call in (lambda: seen(path, backend="decord"), lambda: probe(path, backend="decord")):
        with pytest.raises(MediaError, match=rf"decord: want ordinary range, got HDR \({hdr.NAMES[transfer]}\); use the pyav backend"):
            call()


def test_the_curve_is_that_of_the_recommendation():
    light = np.array([0.0, 0.1, 1, 10, 50, 90, 100, 203, 500, 1000, 4000])
    got = hdr.curve(light)
    assert got[:6] == pytest.approx(light[:6], abs=0.05)
    assert (np.diff(got[:10]) > 0).all()
    assert got[[9, 10]] == pytest.approx([203, 203], abs=1e-6)
    assert got[7] == pytest.approx(159, abs=0.5)  # worked by hand: E1 .7724, KS .6586, T .3333, E2 .7387
    assert hdr.pq_light(pq(light)) == pytest.approx(light, abs=1e-6)


def test_high_range_keeps_hues_and_greys():
    grey = np.linspace(0, 1, 50)
    image = np.rint(65535 * np.repeat(grey[None, :, None], 3, axis=2)).astype(np.uint16)
    for transfer in hdr.NAMES:
        got = hdr.to_sdr(image, transfer, 9)[0]
        assert (np.ptp(got.astype(int), axis=1) <= 1).all()
        assert (np.diff(got[:, 1].astype(int)) >= 0).all()
        assert (got[0, 1], got[-1, 1]) == (0, 255)


def test_primaries_that_are_not_said_are_those_of_the_standard(tmp_path):
    signal = pq(120 * PATCHES**2.4 @ TO_2020.T)
    plain, other = (write_hdr(tmp_path / f"{p}.mp4", signal, hdr.PQ, primaries=p) for p in (9, 2))
    assert np.array_equal(seen(plain)[1], seen(other)[1])
    with pytest.raises(MediaError, match=r"want HDR of BT\.2020, P3 or BT\.709, got primaries number 4; re-encode the video"):
        seen(write_hdr(tmp_path / "x.mp4", signal, hdr.PQ, primaries=4))
    assert hdr.to_bt709(1) * hdr.WHITE == pytest.approx(np.eye(3), abs=1e-6)
    assert hdr.to_bt709(9) * hdr.WHITE == pytest.approx(np.linalg.inv(TO_2020), abs=2e-3)


# ---- colours ----------------------------------------------------------------------------------------------------------------------------

# Number of H.273 -> weights of red and blue in the luma.
MATRICES = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "yuv420p10le", "yuv422p10le"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_colours_are_those_that_the_file_means(tmp_path, pixels, full, matrix):
    path = write_yuv(tmp_path / "x.mp4", PATCHES, MATRICES[matrix], full, pixels, colorspace=matrix, color_range=1 + full)
    for backend in decode.BACKENDS if "10" not in pixels else ("pyav",):
        assert np.abs(patches(seen(path, backend=backend)[1]) - 255 * PATCHES).max() < 4


def test_decord_refuses_more_than_eight_bits(tmp_path):
    path = write_yuv(tmp_path / "x.mp4", PATCHES, MATRICES[1], False, "yuv420p10le", colorspace=1, color_range=1)
    for call in (lambda: seen(path, backend="decord"), lambda: probe(path, backend="decord")):
        with pytest.raises(MediaError, match="decord: want 8 bits a colour, got yuv420p10le; use the pyav backend"):
            call()


@pytest.mark.parametrize("backend", decode.BACKENDS)
@pytest.mark.parametrize("matrix", [8, 10, 14])
def test_colours_that_cannot_be_read_are_refused(tmp_path, backend, matrix):
    path = write_yuv(tmp_path / "x.mp4", PATCHES, (0.299, 0.114), False, "yuv420p", colorspace=matrix, color_range=1)
    for call in (lambda: seen(path, backend=backend), lambda: probe(path, backend=backend)):
        with pytest.raises(
            MediaError, match=r"want colours of BT.601, 709 or 2020, got (YCgCo|BT.2020 of constant luminance|ICtCp); re-enc"
        ):
            call()


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "off"),
    [
        ("alpha.mov", "qtrle", "argb", 0),
        ("rgb.mp4", "libx264rgb", "rgb24", 1),
        ("grey.mkv", "ffv1", "gray", 0),
        ("few.gif", "gif", "rgb8", 1),
    ],
)
def test_other_pixels_give_their_colours(tmp_path, name, codec, pixels, off):
    """Transparency is left out, grey is full range, a palette has the colours that it has."""
    image = np.repeat(np.rint(255 * PATCHES).astype(np.uint8), 16, axis=0)[None].repeat(64, axis=0)
    if pixels == "gray":
        image[:] = image[..., :1]
    if pixels == "rgb8":  # 8 levels of red and green, 4 of blue
        image = np.dstack([image[..., 0] // 36 * 36, image[..., 1] // 36 * 36, image[..., 2] // 85 * 85])
    with av.open(str(tmp_path / name), "w") as out:
        video = out.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = image.shape[1], image.shape[0], pixels
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(image[..., 0] if pixels == "gray" else image, format="gray" if pixels == "gray" else "rgb24")
            frame = frame.reformat(format=pixels)
            frame.pts, frame.time_base = i, F(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    assert np.abs(patches(seen(tmp_path / name)[1]) - image[0, 8::16]).max() <= off


@pytest.mark.parametrize("size", [(97, 65), (31, 33), (7, 5)])
def test_odd_sizes_keep_every_pixel(tmp_path, size):
    path = write(tmp_path / "x.mkv", [np.full(size[::-1], 150.0)] * 2, pixels="yuv444p")
    assert seen(path)[1].shape == (*size[::-1], 3)
    assert np.abs(seen(path)[1].astype(int) - 150).max() <= 2


# ---- where it is said -------------------------------------------------------------------------------------------------------------------


def test_the_stage_says_what_was_done_and_others_see_those_pictures(tmp_path, small_plan, caplog):
    plan = small_plan(["a"])
    item = plan.items("frames")[0]
    write(item.row.video, [woven(i) for i in range(6)], options=INTERLACED, ratio=F(4, 3))
    plan = type(plan)(plan.settings, plan.rows)
    job = plan.job("frames", plan.items("frames")[0])
    with caplog.at_level("INFO", "affpipe"):
        face_stages.frames(plan.context("frames"))(job)
    with Stream(job.path) as stream:
        video = stream.attributes["extra"]["video"]
    assert (video["width"], video["height"], video["stored_width"], video["pixel_ratio"], video["interlaced"]) == (128, 72, 96, "4/3", 6)
    assert video["treated"] == ["pixels 4/3 as wide as high: 96x72 resampled to 128x72", "interlaced pictures made whole"]
    assert all(text in caplog.text for text in video["treated"])
    other = plan.job("faces", plan.items("faces")[0])
    got = list(pictures(other, other.axis()))
    assert [(i, t) for i, t, _ in got] == [(i, i / 25) for i in range(6)]
    assert np.array_equal([image for *_, image in got], seen(item.row.video))


def test_stages_see_frames_at_the_times_of_the_axis(tmp_path, small_plan):
    plan = small_plan(["a"], frames={"deinterlace": False, "tone_map": False})
    item = plan.items("frames")[0]
    avi = clips.write(tmp_path / "x.avi", count=20, options={"bf": "3"}, time_base=F(1, 25))
    item.row.video.write_bytes(avi.read_bytes())
    plan = type(plan)(plan.settings, plan.rows)
    job = plan.job("frames", plan.items("frames")[0])
    face_stages.frames(plan.context("frames"))(job)
    other = plan.job("faces", plan.items("faces")[0])
    got = list(pictures(other, other.axis(), np.array([3, 17])))
    assert [(i, t, clips.number(image)) for i, t, image in got] == [(3, 3 / 25, 3), (17, 17 / 25, 17)]


def test_a_manifests_check_names_what_is_done(tmp_path):
    write(tmp_path / "a.mp4", [woven(i) for i in range(4)], options=INTERLACED, ratio=F(4, 3))
    (tmp_path / "m.csv").write_text("stream_id,video,partition\na,a.mp4,predict\n")
    for media in ("quick", "full"):
        found = manifest_check.check(tmp_path / "m.csv", tmp_path, media=media, progress=lambda *_: None)
        said = [line.partition("a.mp4: ")[2] for line in found.warnings]
        assert said == ["pixels 4/3 as wide as high: 96x72 resampled to 128x72", "interlaced pictures made whole"]
        assert facts.video(tmp_path / "a.mp4", media == "quick").width == 128


def test_doctor_counts_videos_whose_pictures_are_changed(tmp_path):
    plain, odd = clips.write(tmp_path / "a.mp4", count=5), clips.write(tmp_path / "b.mp4", count=5, ratio=F(2))
    for paths, said in (([plain], False), ([plain, odd], True)):
        _, found = videos.check(paths, 60.0)
        assert ("1 of other pixels, HDR or interlaced" in found[-1].found) == said


def test_boxes_and_crops_are_of_the_shown_picture(small_plan, monkeypatch):
    """A detector that boxes what is bright: the box is twice as wide as stored, and the crop has what lies in it."""

    class Bright:
        def detect(self, images: list[np.ndarray]) -> list[list[Detection]]:
            found = [np.argwhere(image[..., 0] > 130) for image in images]
            return [[Detection(np.array([*f.min(0)[::-1], *(f.max(0)[::-1] + 1)], np.float32), 0.9)] for f in found]

    stored = np.full((72, 96), 40.0)
    stored[20:60, 30:50] = 220
    plan = small_plan(["a"], faces={"crop_margin": 0.0})
    write(plan.items("frames")[0].row.video, [stored] * 4, ratio=F(2))
    plan = type(plan)(plan.settings, plan.rows)
    monkeypatch.setattr(face_stages, "_detector", lambda context: (Bright(), ()))
    face_stages.frames(plan.context("frames"))(plan.job("frames", plan.items("frames")[0]))
    job = plan.job("faces", plan.items("faces")[0])
    face_stages.faces(plan.context("faces"))(job)
    with Stream(job.path) as stream:
        assert stream.rows() == pytest.approx(np.array([[60, 20, 100, 60]] * 4), abs=1)
        crop = decode_jpeg(stream.blob("crop", 0))
        assert crop.shape == pytest.approx((40, 40, 3), abs=1)
        assert crop[3:-3, 3:-3].min() > 190


# ---- clips ------------------------------------------------------------------------------------------------------------------------------


def write(
    path: Path,
    images: Sequence[np.ndarray],
    *,
    options: dict[str, str] | None = None,
    ratio: Fraction | None = None,
    pixels: str = "yuv420p",
) -> Path:
    """A clip of (H, W) grey pictures, at 25 a second."""
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as out:
        video = out.add_stream("libx264", rate=25, options={"crf": "4", **(options or {})})
        video.height, video.width = images[0].shape
        video.pix_fmt = pixels
        video.codec_context.thread_count = 1
        if ratio:
            video.codec_context.sample_aspect_ratio = ratio
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.rint(image).astype(np.uint8)[..., None].repeat(3, axis=2), format="rgb24")
            frame.pts, frame.time_base = i, F(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def write_yuv(path: Path, colours: np.ndarray, luma: tuple[float, float], full: bool, pixels: str, **marks: int) -> Path:
    """Three frames of patches of (N, 3) RGB colours in [0, 1], by the textbook's formula; marks are those of the stream."""
    r, g, b = np.repeat(colours, 16, axis=0).T
    kr, kb = luma
    y = kr * r + (1 - kr - kb) * g + kb * b
    chroma = (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)
    bits = 10 if "10" in pixels else 8
    top, scale = 2**bits - 1, 2 ** (bits - 8)
    levels = [y * top if full else (16 + 219 * y) * scale, *(c * top + 128 * scale if full else (128 + 224 * c) * scale for c in chroma)]
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"crf": "2"})
        video.width, video.height, video.pix_fmt = len(r), 64, pixels
        for name, value in marks.items():
            setattr(video.codec_context, name, value)
        for i in range(3):
            frame = av.VideoFrame(len(r), 64, pixels)
            for plane, line in zip(frame.planes, levels, strict=True):
                kind = np.uint8 if bits == 8 else np.uint16
                rows = np.zeros((plane.height, plane.line_size // kind().itemsize), kind)
                rows[:, : plane.width] = np.rint(line[:: len(r) // plane.width]).astype(kind)
                plane.update(rows.tobytes())
            frame.pts, frame.time_base = i, F(1, 25)
            for name, value in marks.items():
                setattr(frame, name, value)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def write_hdr(path: Path, signal: np.ndarray, transfer: int, *, primaries: int = 9) -> Path:
    marks = {"colorspace": 9, "color_range": 1, "color_trc": transfer, "color_primaries": primaries}
    return write_yuv(path, signal, MATRICES[9], False, "yuv444p10le", **marks)


def patches(image: np.ndarray) -> np.ndarray:
    """(N, 3) colours in the middle of each patch."""
    return image[len(image) // 2, 8::16].astype(float)
