"""Media are opened as themselves: no list is followed, no protocol asked, no pipe waited for, whatever a file is named or says."""

import os
import shutil
import socket
import threading
from functools import partial
from pathlib import Path

import av
import clips
import pytest
from limits import refused

from affpipe.core.errors import MediaError, SettingsError
from affpipe.media import containers, opening
from affpipe.media.declared import declared
from affpipe.media.picture import decode
from affpipe.media.probe import probe
from affpipe.media.reader import open_media
from affpipe.system import device

LISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
    "hls after spaces": "\ufeff \n#EXTM3U\n#EXTINF:1,\n{}\n",
    "ffconcat": "ffconcat version 1.0\nfile '{}'\n",
    "pls": "[playlist]\nFile1={}\nNumberOfEntries=1\n",
    "asx": '<asx version="3.0"><entry><ref href="{}"/></entry></asx>',
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{}</BaseURL></MPD>',
    "imf": '<?xml version="1.0"?><am:AssetMap xmlns:am="http://www.smpte-ra.org/schemas/429-9/2007/AM">{}</am:AssetMap>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na={}\n",
}


@pytest.fixture
def film(tmp_path) -> Path:
    return clips.write(tmp_path / "film.mp4", count=3)


@pytest.fixture
def address():
    """An address of this machine, and how often it was asked."""
    asked: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)

        def serve() -> None:
            try:
                while True:
                    asked.append(server.accept()[0].close())
            except OSError:
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x.ts", asked
        thread.join()


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_files_is_refused_before_anything_in_it_is_opened(tmp_path, film, address, kind):
    """What it names is a pipe that never answers, an address that counts, or a film that would play."""
    url, asked = address
    os.mkfifo(tmp_path / "pipe.ts")
    path = tmp_path / "x.mp4"
    asks = (probe, declared, lambda path: next(decode.frames(path)), lambda path: next(decode.frames(path, backend="decord")))
    for named in (tmp_path / "pipe.ts", url, film):
        path.write_text(LISTS[kind].format(named))
        for ask in asks:
            refused(partial(ask, path), MediaError, f"{path}: want a video, got a list of files")
    assert not asked


@pytest.mark.parametrize("kind", ["ffconcat", "hls", "dash"])
def test_a_list_that_is_not_known_by_its_beginning_is_none_of_the_forms_that_are_opened(tmp_path, film, monkeypatch, kind):
    monkeypatch.setattr(opening, "LISTS", opening.re.compile(b"nothing begins like this"))
    os.mkfifo(tmp_path / "pipe.ts")
    for suffix in (".mp4", ".m3u8", ".ffconcat", ".mpd"):
        path = tmp_path / f"x{suffix}"
        path.write_text(LISTS[kind].format(tmp_path / "pipe.ts"))
        with pytest.raises(MediaError) as raised, open_media(path):
            pass
        assert "\n" not in str(raised.value)


def test_a_sequence_of_pictures_named_by_a_pattern_is_not_opened(tmp_path):
    """FFmpeg takes a name with %d for all files that it fits."""
    from PIL import Image

    for name in ("1.png", "2.png", "%d.png"):
        Image.fromarray(clips.picture(3)).save(tmp_path / name)
    with pytest.raises(MediaError, match="want a"), open_media(tmp_path / "%d.png"):
        pass


def test_names_of_the_forms_are_those_of_this_ffmpeg():
    """A name that it does not know allows nothing, without a word."""
    known = {name for form in av.formats_available if av.ContainerFormat(form).is_input for name in form.split(",")}
    assert set(opening.FORMS) <= known
    assert not set(opening.FORMS) & {"concat", "hls", "dash", "imf", "sdp", "rtsp", "rtp", "image2", "lavfi", "x11grab", "vobsub"}


def test_every_form_that_this_ffmpeg_knows_by_a_suffix_of_a_video_is_opened():
    known = {form: av.ContainerFormat(form) for form in av.formats_available}
    asked = {suffix[1:] for suffix in containers.VIDEOS}
    own = {form for form, found in known.items() if found.is_input and asked & found.extensions}
    assert {"avi", "mpegts", "dhav", "mjpeg"} <= own
    assert [form for form in sorted(own) if not set(form.split(",")) & set(opening.FORMS)] == []


PROTOCOLS = [
    "file:secret.mp4",
    "http:/127.0.0.1/x.mp4",
    "concat:secret.mp4|secret.mp4",
    "data:,x.mp4",
    "subfile,,start,0,end,9,,:secret.mp4",
    "-",
]


@pytest.mark.parametrize("backend", ["pyav", "decord"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_name_that_is_a_protocol_to_some_library_is_the_file_of_that_name(tmp_path, monkeypatch, backend, name):
    """Relative, as in a manifest whose data_root is empty."""
    monkeypatch.chdir(tmp_path)
    shutil.move(clips.write(tmp_path / "own.mp4", count=3), Path("own"))
    clips.write(tmp_path / "secret.mp4", count=7)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    shutil.move("own", name)
    assert len(list(decode.frames(Path(name), backend=backend))) == 3
    assert len(probe(Path(name), backend=backend).axis) == 3


def test_every_library_gets_the_whole_path(tmp_path, monkeypatch, film):
    import decord

    given = []
    monkeypatch.chdir(tmp_path)
    usual, decords = av.open, decord.VideoReader
    monkeypatch.setattr(av, "open", lambda path, **how: given.append((path, how.get("options"))) or usual(path, **how))
    monkeypatch.setattr(decord, "VideoReader", lambda path, **how: given.append((path, None)) or decords(path, **how))
    list(decode.frames(Path(film.name), backend="decord"))
    *ours, (last, _) = given
    assert {path for path, _ in ours} == {f"file:{film}"}
    assert last == str(film)
    for _, how in ours:
        assert how["protocol_whitelist"] == "file"
        assert "hls" not in how["format_whitelist"].split(",")


# ---- locks ------------------------------------------------------------------------------------------------------------------------------


def test_a_lock_of_a_device_that_is_none_is_said_and_not_waited_for(tmp_path, monkeypatch):
    """In the folder for temporary files anyone may put a pipe under the name of the lock, or a link to a file of the user's."""
    for name in (*device.JOB_IDS, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(device.tempfile, "gettempdir", lambda: str(tmp_path))
    path = tmp_path / device.re.sub("[^A-Za-z0-9.-]", "_", f"affpipe-gpu-{socket.gethostname()}-0")
    path = path.with_name(path.name + ".lock")
    os.mkfifo(path)
    refused(lambda: device._take(["0"], ""), SettingsError, f"device: want a lock file {path}, got a pipe; remove it")
    path.unlink()
    (tmp_path / "mine").write_text("mine")
    path.symlink_to(tmp_path / "mine")
    refused(lambda: device._take(["0"], ""), SettingsError, f"device: want a lock file {path}, got")
    path.unlink()
    path.mkdir()
    refused(lambda: device._take(["0"], ""), SettingsError, f"device: want a lock file {path}, got a folder")
