"""Files that declare more than they hold: each is refused in one line, before memory or time is spent on it.

Checkpoints that unfold are in test_checkpoints.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import h5py
import numpy as np
import pytest
import torch
from clips import write as write_clip
from limits import bounded, refused
from PIL import Image
from safetensors.torch import save_file
from small_run import SETTINGS

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import InputError, ManifestError, MediaError, SettingsError, StoreError, WeightsError
from affpipe.data.annotation_files import forms
from affpipe.encoders.qwen3vl import network as qwen3vl
from affpipe.encoders.tiny_weights import make_tiny
from affpipe.encoders.wavlm import network as wavlm
from affpipe.encoders.wavlm import within
from affpipe.faces import crop, images
from affpipe.jobs.start import frozen
from affpipe.media import reader
from affpipe.media.picture.decode import frames as decode
from affpipe.media.probe import probe
from affpipe.models import encoder_layers, predictor
from affpipe.plan.config import parse
from affpipe.store import cache as caches
from affpipe.store import streams
from affpipe.store.flac import read_flac, write_flac
from affpipe.store.index import read_index
from affpipe.store.streams import Header, Stream
from affpipe.system import jsonfile
from affpipe.system.disk import alone
from affpipe.system.weights import network_sizes
from affpipe.system.weights.reading import read_json

KEY, IDENTITY = "0123456789ab", "fedcba9876543210"
HEADER = Header("mesh", KEY, "one", IDENTITY, {}, 1, {}, Fraction(25))
CPU = {"device": torch.device("cpu"), "dtype": torch.float32}


# ---- streams ----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "cache" / "mesh" / KEY / streams.file_name("one", IDENTITY)
    rows = np.arange(40.0)
    streams.write(
        path,
        HEADER,
        values=rows[:, None].astype(np.float32),
        start_s=rows,
        end_s=rows + 1,
        valid=rows > 3,
        crop=[b"x" * int(i) for i in rows],
    )
    return path


def unwritten(file: h5py.File, rows: int = 1 << 40) -> None:
    """Rows that were never written read as zeros, however many."""
    for name in streams.ROWS:
        file[name].resize(rows, axis=0)
    file.attrs["rows"] = rows


def compressed(file: h5py.File) -> None:
    del file["values"]
    file.create_dataset(
        "values", (40, 100_000), np.float32, chunks=(40, 100_000), compression="gzip", data=np.zeros((40, 100_000), np.float32)
    )


def elsewhere(file: h5py.File) -> None:
    """The rows of another file of the disk, raw."""
    raw = Path(file.filename).with_name("secret")
    raw.write_bytes(bytes(160))
    del file["values"]
    file.create_dataset("values", (40, 1), np.float32, external=[(str(raw), 0, h5py.h5f.UNLIMITED)])


def linked(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        other["values"] = np.zeros((40, 1), np.float32)
    del file["values"]
    file["values"] = h5py.ExternalLink("other.h5", "/values")


def soft(file: h5py.File) -> None:
    del file["values"]
    file["values"] = h5py.SoftLink("/valid")


def virtual(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        other["values"] = np.zeros((40, 1), np.float32)
    layout = h5py.VirtualLayout((40, 1), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "values", (40, 1))
    del file["values"]
    file.create_virtual_dataset("values", layout)


def of_any_length(file: h5py.File) -> None:
    file.create_dataset("more", (40,), h5py.vlen_dtype(np.uint8), chunks=(40,))


def of_text(file: h5py.File) -> None:
    file.create_dataset("more", (40,), h5py.string_dtype(), chunks=(40,))


def of_references(file: h5py.File) -> None:
    file.create_dataset("more", (40,), h5py.ref_dtype, chunks=(40,))


def of_parts(file: h5py.File) -> None:
    file.create_dataset("more", (40,), np.dtype([("a", "f4"), ("b", "(9999,)f4")]), chunks=(40,))


def group(file: h5py.File) -> None:
    file.create_group("more")


def one_chunk(file: h5py.File) -> None:
    """A row in a chunk of two gigabytes."""
    file.create_dataset("more", (1,), np.uint8, chunks=(2 << 30,), maxshape=(None,), fletcher32=True)


def many(file: h5py.File) -> None:
    """Each fits in the file, all together do not."""
    for i in range(100):
        file.create_dataset(f"more{i}", (2000,), np.uint8, chunks=(2000,), fletcher32=True)


BOMBS = {
    unwritten: "bytes in a file of",
    compressed: "values, which is compressed",
    elsewhere: "values, which does not lie in chunks of this file",
    linked: "values, a link to elsewhere",
    soft: "values, a link to elsewhere",
    virtual: "values, which does not lie in chunks of this file",
    of_any_length: "more of object, which are no numbers",
    of_text: "more of object, which are no numbers",
    of_references: "more of object, which are no numbers",
    of_parts: "which are no numbers",
    group: "more, which is no dataset",
    one_chunk: "bytes in a file of",
    many: "bytes in a file of",
}


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__)
def test_a_stream_that_is_no_plain_numbers_in_its_own_file_is_refused_when_it_is_opened(path, bomb):
    with h5py.File(path, "r+", libver="v110") as file:
        bomb(file)
    for call in (
        lambda: Stream(path),
        lambda: streams.attributes(path),
        lambda: streams.check(path, key=KEY, identity=IDENTITY, deep=True),
    ):
        refused(call, StoreError, f"{path}: want a whole stream, got", BOMBS[bomb], streams.REPAIR)
    ((found, _),) = [fault for fault in caches.verify(path.parents[2]) if fault[0] == path]
    assert not found.exists()


def test_rows_that_were_never_written_are_found_where_there_is_room_for_them(path):
    """Within the size of the file they cost nothing, but they are no values: `cache verify` looks at every chunk."""
    with h5py.File(path, "r+", libver="v110") as file:
        for name in streams.ROWS:
            file[name].resize(300, axis=0)
        file.attrs["rows"] = 300
        file.create_dataset("room", data=np.zeros(20_000, np.uint8), chunks=(20_000,), fletcher32=True)
    with Stream(path) as stream:
        assert len(stream) == 300
    refused(lambda: streams.check(path, key=KEY, identity=IDENTITY, deep=True), StoreError, "of which", "are there")


def test_attributes_that_lead_deeper_and_deeper_are_refused(path):
    with h5py.File(path, "r+", libver="v110") as file:
        file.attrs["affpipe"] = "[" * 50_000
    refused(lambda: Stream(path), StoreError, "lists within lists without end")


def hollow(file: h5py.File) -> None:
    """Rows that have their place in the file, which was never filled: the file is a terabyte long and takes a few blocks of the disk."""
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_chunk((1 << 37,))
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    for name in ("start_s", "end_s", "valid"):
        del file[name]
        h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple((1 << 37,)), early)


def test_a_file_of_a_terabyte_that_takes_a_few_blocks_is_refused(path):
    with h5py.File(path, "r+", libver="v110") as file:
        hollow(file)
    assert path.stat().st_size > 1 << 38
    assert path.stat().st_blocks < 1000
    for call in (
        lambda: Stream(path),
        lambda: streams.attributes(path),
        lambda: streams.check(path, key=KEY, identity=IDENTITY, deep=True),
    ):
        refused(call, StoreError, f"{path}: want a whole stream, got", "bytes on the disk", streams.REPAIR)


def test_a_stream_of_zeros_is_read_where_the_disk_leaves_zeros_out(path):
    """A minute without a face: 1500 rows of 4096 zeros, of which a file system that compresses stores nothing but the times."""
    rows = np.arange(1500.0)
    streams.write(path, HEADER, values=np.zeros((1500, 4096), np.float32), start_s=rows, end_s=rows + 1, valid=rows < 0)
    holes = path.with_name("holes.h5")
    subprocess.run(["cp", "--sparse=always", str(path), str(holes)], check=True)
    assert holes.stat().st_blocks * 512 < 200_000
    with Stream(holes) as stream:
        assert not stream.rows().any()


NO_RATES = ["1e10000000", "1e400", "9" * 5000, "1/0", "-25", "0", "25.0", "nan", None, 25, ["25"]]


@pytest.mark.parametrize("fps", NO_RATES, ids=lambda fps: str(fps)[:12])
def test_a_frame_rate_that_is_none_is_refused_before_it_is_worked_out(path, fps):
    with h5py.File(path, "r+", libver="v110") as file:
        file.attrs["affpipe"] = json.dumps(json.loads(file.attrs["affpipe"]) | {"fps": fps})
    with Stream(path) as stream, bounded(seconds=0.5), pytest.raises(StoreError, match="want a whole stream, got") as raised:
        FrameAxis(stream.start_s, stream.fps)
    assert "\n" not in str(raised.value)


AXES = {
    "a year": ([0.0, 3e7], Fraction(25)),
    "a day and a bit": ([0.0, 24 * 3600.0], Fraction(25)),
    "a clock beyond all clocks": ([1e300, 2e300], Fraction(25)),
    "a last frame of a year": ([0.0], Fraction(1, 30_000_000)),
    "a billion frames a second": ([0.0], Fraction(10**9)),
}


@pytest.mark.parametrize("case", AXES)
def test_an_axis_that_would_make_millions_of_windows_is_refused(case):
    times, fps = AXES[case]
    refused(lambda: FrameAxis(np.array(times), fps), InputError, "FrameAxis: want")


@pytest.mark.parametrize("times", [[0.0, 24 * 3600 - 0.04], [95443.7], [1.7e9, 1.7e9 + 1], [-3.0, 0.0]], ids=str)
def test_the_longest_video_and_the_clocks_of_broadcasts_are_axes(times):
    assert len(FrameAxis(np.array(times), Fraction(25))) == len(times)


def test_a_stored_frame_time_of_a_year_is_damage(small_plan):
    """15 million windows would be cut, in any job that reads it: it says which file has to be made again."""
    plan = small_plan("a")
    job = plan.job("frames", plan.items("frames")[0])
    times = np.array([0.0, 3e7])
    job.write(job.header(Fraction(25)), values=np.zeros((2, 1), np.float32), start_s=times, end_s=times + 1, valid=times < 1)
    refused(job.axis, StoreError, str(job.path), "want the times of a video")
    with pytest.raises(StoreError) as raised:
        job.axis()
    assert raised.value.damaged == job.path


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def test_a_pipe_in_the_cache_is_not_waited_for(path, tmp_path):
    pipe(path)
    for call in (lambda: Stream(path), lambda: streams.attributes(path)):
        refused(call, StoreError, "want a stored stream, got a pipe")
    pipe(tmp_path / "x.flac")
    refused(lambda: streams.attributes(tmp_path / "x.flac"), StoreError, "want a stored audio track, got", "a pipe")
    refused(lambda: read_index(path), StoreError, "want an index of streams")
    pipe(tmp_path / "fit.lock")

    def lock() -> None:
        with alone(tmp_path / "fit.lock"):
            pass

    refused(lock, StoreError, "want a lock file, got a pipe")


# ---- text -------------------------------------------------------------------------------------------------------------------------------


def sparse(path: Path, size: int = 1 << 40) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize("make", [sparse, lambda path: path.write_text("[" * 100_000), lambda path: path.symlink_to("/dev/zero")])
def test_an_index_settings_or_a_record_of_absurd_size_or_depth_are_refused(tmp_path, make):
    path = tmp_path / "x.json"
    make(path)
    refused(lambda: read_index(path), StoreError, "want an index of streams, got")
    refused(lambda: frozen(path), SettingsError, "want resolved settings, got")
    if not path.is_symlink():
        refused(lambda: read_json("who", path), WeightsError, "is damaged")


def test_json_is_read_up_to_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonfile, "LARGEST", 10)
    (tmp_path / "x.json").write_text('"12345678"')
    assert jsonfile.read(tmp_path / "x.json") == "12345678"
    (tmp_path / "x.json").write_text('"123456789"')
    with pytest.raises(ValueError, match="more than"):
        jsonfile.read(tmp_path / "x.json")


# ---- annotation files --------------------------------------------------------------------------------------------------------------------

LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
DOCTYPES = {
    "entities that unfold": f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><x>&l11;</x>',
    "one that is long": f'<!DOCTYPE x [<!ENTITY l "{"ha" * 50_000}">]><x>{"&l;" * 50_000}</x>',
    "another file": '<!DOCTYPE x [<!ENTITY l SYSTEM "file:///etc/hostname">]><x>&l;</x>',
    "an address": '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><x/>',
    "of parameters": '<!DOCTYPE x [<!ENTITY % l SYSTEM "file:///etc/hostname">%l;]><x/>',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("case", DOCTYPES)
def test_an_elan_file_that_declares_entities_is_refused_before_any_is_read(tmp_path, case, encoding):
    path = tmp_path / "a.eaf"
    path.write_bytes(DOCTYPES[case].encode(encoding))
    refused(lambda: forms.read(path), ManifestError, f"{path}: want a file without a DOCTYPE, got one; save it in ELAN again")


def eaf(*parts: str) -> bytes:
    slots = '<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="b" TIME_VALUE="9"/></TIME_ORDER>'
    return f"<ANNOTATION_DOCUMENT>{slots}{''.join(parts)}</ANNOTATION_DOCUMENT>".encode()


OWN = '<ALIGNABLE_ANNOTATION ANNOTATION_ID="0" TIME_SLOT_REF1="a" TIME_SLOT_REF2="b"/>'
LARGE = {  # name -> file name, content, what the line says
    "an entity without a declaration": ("a.eaf", eaf("&l;"), "line 1: want an ELAN file (XML), got undefined entity"),
    "references without end": (
        "a.eaf",
        eaf(
            f'<TIER TIER_ID="x">{OWN}',
            *(f'<REF_ANNOTATION ANNOTATION_ID="{i + 1}" ANNOTATION_REF="{i}"/>' for i in range(50_000)),
            "</TIER>",
        ),
        "want times of annotation 65, got a reference that leads to none",
    ),
    "tiers without end": ("a.eaf", eaf(*(f'<TIER TIER_ID="{i}{"x" * 200}"/>' for i in range(20_000))), " and 19988 more; name one of them"),
    "more intervals than a number holds": (
        "a.TextGrid",
        b'"ooTextFile" "TextGrid" 0 1 <exists> 1 "IntervalTier" "x" 0 1 1e999 0 1 "y"',
        "want the start of interval 2 of tier 'x', got the end of the file",
    ),
    "quotes": ("a.TextGrid", b'"ooTextFile" "TextGrid" 0 1 <exists> ' + b'"' * 2_000_001, "want the number of tiers, got"),
    "a text without end": ("a.TextGrid", b'"ooTextFile" "TextGrid" 0 1 <exists> 1 "' + b"a" * 10_000_000, "want the class of tier 1, got"),
    "a cell": ("a.csv", b"start,end,value\n0,1," + b"x" * 10_000_000, "got field larger than field limit"),
    "columns": ("a.csv", b"start,end," + b"x," * 1_000_000 + b"\n", "want start,end,value, got no value in"),
}


@pytest.mark.parametrize("case", LARGE)
def test_an_annotation_file_takes_little_more_than_its_size(tmp_path, case):
    name, content, said = LARGE[case]
    (tmp_path / name).write_bytes(content)
    refused(lambda: forms.read(tmp_path / name), ManifestError, said)
    with pytest.raises(ManifestError) as raised:
        forms.read(tmp_path / name)
    assert len(str(raised.value)) < 3000


def test_tags_of_an_elan_file_that_say_nothing_are_not_kept(tmp_path):
    path = tmp_path / "a.eaf"
    path.write_bytes(eaf("<x>" * 200_000, "</x>" * 200_000, "<x y='z'/>" * 500_000, f'<TIER TIER_ID="x">{OWN}</TIER>'))
    with bounded():
        assert len(forms.read(path)) == 0  # its one annotation has no value


# ---- sound ------------------------------------------------------------------------------------------------------------------------------


def test_a_track_that_declares_hours_beyond_its_bytes_is_refused(tmp_path):
    path = tmp_path / "x.flac"
    write_flac(path, [np.zeros(16000, np.float32)], 16000, "{}")
    data = bytearray(path.read_bytes())
    data[21] |= 0x0F  # the number of samples: 36 bits of the first block
    data[22:26] = b"\xff" * 4
    path.write_bytes(data)
    for call in (lambda: read_flac(path), lambda: read_flac(path, 0, 10)):
        refused(call, MediaError, "68719476735 samples declared in a file that holds at most")
    refused(lambda: streams.attributes(path), StoreError, "want a stored audio track, got")


@pytest.mark.parametrize("seconds", [0.01, 1, 600])
def test_silence_is_no_bomb(tmp_path, seconds):
    """Nothing is shorter in FLAC."""
    write_flac(tmp_path / "x.flac", [np.zeros(int(16000 * seconds), np.float32)], 16000, "{}")
    assert len(read_flac(tmp_path / "x.flac")) == int(16000 * seconds)


# ---- pictures ---------------------------------------------------------------------------------------------------------------------------


def jpeg(side: int = 64, **how: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)).save(out, "JPEG", **how)
    return out.getvalue()


def declare(data: bytes, height: int, width: int) -> bytes:
    """The JPEG with another size in its header."""
    at = next(i for i in range(len(data)) if data[i] == 0xFF and data[i + 1] in crop.FRAME)
    return data[: at + 5] + height.to_bytes(2) + width.to_bytes(2) + data[at + 9 :]


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"quality": 5}, {"exif": bytes(2000)}, {"icc_profile": bytes(70_000)}], ids=str)
@pytest.mark.parametrize("side", [1, 112, 300])
def test_the_size_of_a_picture_is_read_from_its_header(side, how):
    assert crop.jpeg_size(jpeg(side, **how)) == (side, side)
    assert crop.decode_jpeg(jpeg(side, **how)).shape == (side, side, 3)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe0\0\0" * 99, b"\x89PNG" * 9]
)
def test_what_has_no_header_has_no_size(data):
    assert crop.jpeg_size(data) is None
    with pytest.raises(StoreError, match="are no image"):
        crop.decode_jpeg(data)


@pytest.mark.parametrize("size", [(50_000, 50_000), (32_000, 32_000), (crop.LARGEST_SIDE + 1, 1), (1, 65_535)])
def test_a_picture_that_declares_gigabytes_is_not_decoded(tmp_path, size):
    (tmp_path / "1.jpg").write_bytes(declare(jpeg(), *size))
    refused(lambda: crop.decode_jpeg((tmp_path / "1.jpg").read_bytes()), StoreError, f"got {size[1]}x{size[0]}")
    with bounded():
        assert crop.read_square(tmp_path / "1.jpg") is None  # a damaged image: a frame without a face, named in the log


def test_a_png_of_gigabytes_is_refused_by_its_kind(tmp_path):
    data = cv2.imencode(".png", np.zeros((12_000, 12_000), np.uint8))[1].tobytes()
    assert len(data) < 1 << 20
    (tmp_path / "1.jpg").write_bytes(data)
    refused(lambda: crop.decode_jpeg(data), StoreError, "are no image")
    with bounded():
        assert crop.read_square(tmp_path / "1.jpg") is None
    (tmp_path / "2.png").write_bytes(data)
    refused(lambda: images.numbered(tmp_path), MediaError, "want JPEG images (.jpg, .jpeg), got .png")


def test_an_image_that_never_ends_is_not_read(tmp_path):
    """Planning reads three of a folder: a pipe, a device, a file of a terabyte in a few blocks."""
    path = tmp_path / "1.jpg"
    for make, said in ((os.mkfifo, "got a pipe"), (lambda path: path.symlink_to("/dev/zero"), "got a device"), (sparse, "got more")):
        make(path)
        for call in (lambda: images.fingerprint(tmp_path), lambda: crop.read_square(path)):
            refused(call, MediaError, f"{path}: want an image of at most 64 MB", said)
        path.unlink()


def test_a_picture_of_a_thousand_scans_is_not_decoded():
    data = jpeg(progressive=True)
    first = data.index(crop.SCAN)
    bomb = data[:first] + data[first : data.index(crop.SCAN, first + 2)] * 1000 + data[first:]
    refused(lambda: crop.decode_jpeg(bomb), StoreError, "100 scans")


# ---- videos -----------------------------------------------------------------------------------------------------------------------------


def black(path: Path, side: int) -> Path:
    """A video of one black frame, a few kilobytes however large."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("png", rate=25)
        stream.width = stream.height = side
        stream.pix_fmt = "gray"
        frame = av.VideoFrame(side, side, "gray")
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.pts = 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return path


def test_a_video_of_absurd_size_is_refused_before_a_frame_is_decoded(tmp_path):
    path = black(tmp_path / "x.mov", 10_000)
    assert path.stat().st_size < 1 << 20
    for call in (
        lambda: probe(path),
        lambda: probe(path, backend="decord"),
        lambda: next(decode(path)),
        lambda: next(decode(path, backend="decord")),
    ):
        refused(call, MediaError, str(path))


def test_a_size_that_the_container_tells_is_told(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "x.mp4", count=3)
    monkeypatch.setattr(reader, "LARGEST_PIXELS", 96 * 64 - 1)
    refused(lambda: probe(path), MediaError, "want frames of at most 6143 pixels, got 96x64; scale the video down")


def test_frames_that_are_larger_than_the_container_says_are_not_decoded(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "x.mp4", count=3)
    monkeypatch.setattr(reader, "LIMITS", {"max_pixels": "1000"})
    refused(lambda: probe(path), MediaError, "no decodable frame of at most")


def test_the_largest_video_that_is_sold_is_let_pass(tmp_path):
    with av.open(str(black(tmp_path / "x.mov", 7680))) as container:
        assert container.streams.video[0].width == 7680
    assert probe(tmp_path / "x.mov").width == 7680


def test_the_limit_on_memory_bites():
    """Else the tests above would pass whatever happens."""
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfrom limits import ROOM, bounded\nwith bounded(): bytes(2 * ROOM)"
    done = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parents[1] / "helpers")], capture_output=True, text=True)
    assert "MemoryError" in done.stderr


# ---- fitted models ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [{"mesh": 1 << 40}, {"mesh": 1 << 70}, {"mesh": -1}, {"mesh": "6"}, {}, 3, None], ids=str)
def test_a_model_of_another_size_than_its_record_is_not_built(tmp_path, dims):
    settings = parse(SETTINGS).models["face"]
    made, path = predictor.Predictor(settings, {"mesh": 6}, outputs=2), tmp_path / "model.safetensors"
    predictor.save(path, made, {"key": KEY})
    assert predictor.load(path, KEY, settings, torch.device("cpu"))[1]["dims"] == {"mesh": 6}
    made.dims = dims
    predictor.save(path, made, {"key": KEY})
    refused(lambda: predictor.load(path, KEY, settings, torch.device("cpu")), StoreError, "want the network of its record, got another")


@pytest.mark.parametrize("text", ["[" * 100_000, "3", "[]", "{}", '{"key": ["0123456789ab"]}'], ids=lambda text: text[:9])
def test_a_record_of_a_model_that_is_none_is_damage(tmp_path, text):
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"affpipe": text})
    refused(lambda: predictor.read_record(tmp_path / "model.safetensors", KEY), StoreError, "run the workflow again")


BACKBONES = {
    "wide layers": ({"config": {"hidden_size": 1 << 15, "intermediate_size": 1 << 17, "num_attention_heads": 16}, "layers": 4}, None),
    "many layers": ({"config": {}, "layers": 10**6}, "got 1000000 layers"),
    "no number of layers": ({"config": {}, "layers": "4"}, "want a record of 4 trained layers"),
    "no sizes": ({"layers": 4}, "want a record of 4 trained layers"),
    "sizes that are none": ({"config": {"hidden_size": -1}, "layers": 4}, "want a record of 4 trained layers"),
    "heads that do not divide": ({"config": {"num_attention_heads": 7}, "layers": 4}, "want a record of 4 trained layers"),
    "a list": ([1], "want a record of 4 trained layers"),
}


@pytest.mark.parametrize("case", BACKBONES)
def test_a_model_whose_record_declares_layers_that_it_does_not_have_takes_no_memory(tmp_path, monkeypatch, case):
    """A record of 208 bytes; the layers of the settings have gigabytes."""
    record, said = BACKBONES[case]
    monkeypatch.setattr(encoder_layers, "_wants", lambda context: (4, True))
    monkeypatch.setattr(encoder_layers, "_module", lambda context: within)
    settings, path = parse(SETTINGS).models["face"], tmp_path / "model.safetensors"
    predictor.save(path, predictor.Predictor(settings, {"mesh": 6}, outputs=2), {"key": KEY, "backbone": record})
    face = SimpleNamespace(name="face", settings=settings)
    encoder_layers.again(face, {"config": {"hidden_size": 48}, "layers": 4})  # transformers is imported by now
    if said:
        refused(lambda: encoder_layers.again(face, predictor.read_record(path, KEY)["backbone"]), StoreError, said)
        return

    def load() -> None:
        made = encoder_layers.again(face, predictor.read_record(path, KEY)["backbone"])
        predictor.load(path, KEY, settings, torch.device("cpu"), made)

    refused(load, StoreError, "want the network of its record, got another")


# ---- published networks -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    make_tiny(folder)
    return folder


def told(folder: Path, **more: object) -> Path:
    """The folder with other sizes in its configuration; those of a part are laid over the part."""
    said = json.loads((folder / "config.json").read_text())
    for name, value in more.items():
        said[name] = said[name] | value if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(said))
    return folder


QWEN = {
    "a vocabulary of 20 million": {"text_config": {"vocab_size": 20_000_000}},
    "wide layers": {"text_config": {"hidden_size": 1 << 14, "intermediate_size": 1 << 16}},
    "many layers": {"text_config": {"num_hidden_layers": 100_000}},
    "many layers of seeing": {"vision_config": {"depth": 100_000}},
    "wide layers of seeing": {"vision_config": {"hidden_size": 1 << 14}},
    "a large patch": {"vision_config": {"patch_size": 1 << 12}},
}


@pytest.mark.parametrize("case", QWEN)
def test_qwen_of_other_sizes_than_its_files_is_refused_before_it_is_built(tiny, tmp_path, case):
    folder = told(shutil.copytree(tiny / "qwen3vl-tiny", tmp_path / "q"), **QWEN[case])
    refused(lambda: qwen3vl.load(folder, **CPU, min_pixels=32 * 32, max_pixels=64 * 64), WeightsError, f"{folder} does not load (")


WAVLM = {
    "3000 layers": {"num_hidden_layers": 3000},
    "wide layers": {"hidden_size": 1 << 15, "intermediate_size": 1 << 17},
    "many buckets": {"num_buckets": 1 << 33},
    "many adapters": {"add_adapter": True, "num_adapter_layers": 100_000},
    "sizes that make no network": {"num_attention_heads": 7},
}


@pytest.mark.parametrize("case", WAVLM)
def test_wavlm_of_other_sizes_than_its_file_is_refused_before_it_is_built(tiny, tmp_path, case):
    folder = told(shutil.copytree(tiny / "wavlm-tiny", tmp_path / "w"), **WAVLM[case])
    refused(lambda: wavlm.load(folder, **CPU), WeightsError, f"{folder} does not fit its config")


@pytest.mark.parametrize("length", [2**62, 2**31, 10**6])
def test_the_header_of_safetensors_is_held_against_its_file_where_sizes_are_asked_too(tmp_path, length):
    (tmp_path / "model.safetensors").write_bytes(length.to_bytes(8, "little") + b"[" * 200_000)
    refused(lambda: network_sizes.network(tmp_path, "wavlm"), WeightsError, "want a safetensors file")
