"""What `affpipe manifest folder` takes for a video, and for an annotation: no video is passed over unsaid, no prediction is a truth."""

import json
from pathlib import Path

import affwild2_tree as tree
import av
import numpy as np
import pytest

from affpipe.core.errors import ManifestError
from affpipe.data.importers import folder, listing
from affpipe.media import containers

HEADER = "valence,arousal\n"
TRUTH = HEADER + "0.25,-0.5\n0.3,0.1\n"
PREDICTED = HEADER + "0.250000,-0.500000\n-0.300000,0.100000\n"
ASKED = (".mp4", ".MTS", ".m2ts", ".ts", ".3gp", ".vob", ".mxf", ".dv", ".ogv", ".asf", ".f4v", ".Mov", ".rmvb", ".dvr-ms")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> bytes:
    return tree.video(tmp_path_factory.mktemp("clip") / "c.mp4", count=5).read_bytes()


def put(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def told(root: Path) -> tuple[dict[str, dict[str, str]], list[tuple[str, str]]]:
    """Stream -> its annotations, and kind and place of each finding."""
    found = folder.collect(root, validation_share=0)
    return {s.id: s.labels for s in found.streams}, [(f.kind, f.where) for f in found.findings if f.kind != "split"]


# ---- videos -----------------------------------------------------------------------------------------------------------------------------


def test_a_video_of_any_usual_suffix_is_a_stream(tmp_path, clip):
    put(tmp_path, {f"c{n}{suffix}": clip + suffix.encode() for n, suffix in enumerate(ASKED)})
    streams, findings = told(tmp_path)
    assert len(streams) == len(ASKED)
    assert findings == []


def test_suffixes_are_in_one_list_lower_case_and_each_once():
    assert {suffix.lower() for suffix in ASKED} <= set(containers.VIDEOS)
    assert len(set(containers.VIDEOS)) == len(containers.VIDEOS)
    assert all(suffix[0] == "." and suffix == suffix.lower() for suffix in containers.VIDEOS)
    assert not set(containers.VIDEOS) & set(containers.OTHERS)


@pytest.mark.parametrize("name", ["b.dat", "b", "b.mp4.part", "b.lrv", "b.bin"])
def test_a_video_under_another_suffix_is_a_finding(tmp_path, clip, name):
    streams, findings = told(put(tmp_path, {"a.mp4": clip, name: clip + b"2"}))
    assert list(streams) == ["a"]
    assert findings == [("not read", name)]


CODECS = {"ogg": "libvpx", "webm": "libvpx", "ivf": "libvpx", "dv": "dvvideo", "gif": "gif", "flv": "flv"}
FORMS = (*CODECS, "matroska", "avi", "mpegts", "mpeg", "asf", "mxf", "nut", "mov", "3gp")


@pytest.mark.parametrize("form", FORMS)
def test_every_container_is_known_by_its_first_bytes(tmp_path, form):
    path, pix = tmp_path / "x.unknown", {"gif": "rgb8"}.get(form, "yuv420p")
    with av.open(str(path), "w", format=form) as out:
        stream = out.add_stream(CODECS.get(form, "mpeg4" if form == "3gp" else "mpeg2video"), rate=25)
        stream.width, stream.height, stream.pix_fmt = *((720, 576) if form == "dv" else (96, 64)), pix
        black = av.VideoFrame(stream.width, stream.height, pix)
        for plane in black.planes:
            plane.update(bytes(plane.buffer_size))
        for i in range(12):
            black.pts = i
            out.mux(stream.encode(black))
        out.mux(stream.encode(None))
    assert containers.hidden_video(path)


def test_what_holds_no_moving_picture_is_none(tmp_path, clip):
    put(tmp_path, {"a.md": "# words\n", "a.bin": bytes(range(256)) * 4, "a.mov": clip, "a.jpg": clip, "empty": b"", "a.ogx": b"OggS" * 200})
    sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
    sound.sample_rate = 16000
    with av.open(str(tmp_path / "a.m4b"), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=16000, layout="mono")
        out.mux([*stream.encode(sound), *stream.encode(None)])
    assert [path.name for path in tmp_path.iterdir() if containers.hidden_video(path)] == []


def test_a_folder_of_videos_under_other_suffixes_alone_says_so(tmp_path, clip):
    with pytest.raises(ManifestError, match=r"want videos \(\.mp4, .*\) somewhere below, got none \(a\.dat: holds a video"):
        told(put(tmp_path, {"a.dat": clip}))


def test_what_macos_leaves_is_neither_video_nor_annotation(tmp_path, clip):
    files = {"a.mp4": clip, "a.txt": TRUTH, "._a.mp4": b"\0\5\26\7", "._a.txt": b"\0\5\26\7", ".DS_Store": b"\0"}
    files |= {"__MACOSX/._a.mp4": b"\0\5\26\7", "__MACOSX/a.mp4": clip, "x/__MACOSX/a.txt": TRUTH}
    assert told(put(tmp_path, files)) == ({"a": {"va": "a.txt"}}, [])


# ---- predictions ------------------------------------------------------------------------------------------------------------------------


RUN = json.dumps({"affpipe": "0.1.0", "run": "0" * 12, "settings": {"name": "demo"}, "models": {}, "workspace": "."})


def test_the_results_of_a_run_are_left_out_as_a_whole(tmp_path, clip):
    files = {"a.mp4": clip, "results/demo/run.json": RUN, "results/demo/official/va/a.txt": PREDICTED, "results/demo/any/a.txt": PREDICTED}
    assert told(put(tmp_path, files)) == ({"a": {}}, [("not read", "results/demo")])


def test_a_truth_beside_the_results_of_a_run_is_the_one_that_counts(tmp_path, clip):
    files = {"a.mp4": clip, "b.mp4": clip + b"1", "z/a.txt": TRUTH, "m/run.json": RUN, "m/official/va/a.txt": PREDICTED}
    assert told(put(tmp_path, files)) == ({"a": {"va": "z/a.txt"}, "b": {}}, [("not read", "m")])


@pytest.mark.parametrize(
    "where", ["official/va", "copied/official/va", "models/face/va", "late_fusion/va/predictions", "late_fusion/predictions"]
)
def test_predictions_copied_from_a_run_are_told_by_their_folders(tmp_path, clip, where):
    assert told(put(tmp_path, {"a.mp4": clip, f"{where}/a.txt": TRUTH})) == ({"a": {}}, [("not read", f"{where}/a.txt")])


def test_a_submission_is_no_truth(tmp_path, clip):
    files = {"a.mp4": clip, "out/va/a.txt": PREDICTED, "out/va_predictions.txt": "x", "out/va_submission.zip": b"x"}
    assert told(put(tmp_path, files)) == ({"a": {}}, [("not read", "out/va/a.txt")])


@pytest.mark.parametrize("where", ["va", "labels/va", "official", "official/train", "models/va"])
def test_other_folders_may_hold_annotations(tmp_path, clip, where):
    assert told(put(tmp_path, {"a.mp4": clip, f"{where}/a.txt": TRUTH}))[0] == {"a": {"va": f"{where}/a.txt"}}


def test_of_two_annotations_the_one_that_a_run_may_have_written_is_not_taken(tmp_path, clip):
    for first, second, taken in ((PREDICTED, TRUTH, "2/a.txt"), (TRUTH, PREDICTED, "1/a.txt"), (TRUTH, TRUTH + "0,0\n", "1/a.txt")):
        put(tmp_path, {"a.mp4": clip, "1/a.txt": first, "2/a.txt": second})
        found = folder.collect(tmp_path, validation_share=0)
        assert found.streams[0].labels == {"va": taken}
        (said,) = [f.text for f in found.findings if f.kind == "two annotations"]
        assert said.startswith(f"va: {taken} is taken, not ")
        assert said.endswith("whose numbers are as a run of affpipe writes them") == (PREDICTED in (first, second))


def test_six_decimals_alone_make_no_prediction_of_a_truth(tmp_path, clip):
    assert told(put(tmp_path, {"a.mp4": clip, "a.txt": PREDICTED}))[0] == {"a": {"va": "a.txt"}}


def test_the_results_of_a_run_are_no_folder_of_videos(tmp_path, clip):
    with pytest.raises(
        ManifestError, match=r"want a folder of videos, got the results of a run \(run\.json\); give the one with the videos"
    ):
        told(put(tmp_path, {"a.mp4": clip, "run.json": RUN}))


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"run": 1}'])
def test_a_run_json_of_another_program_is_no_run(tmp_path, clip, content):
    assert not listing.is_run(put(tmp_path, {"a.mp4": clip, "a.txt": TRUTH, "run.json": content}))
    assert told(tmp_path) == ({"a": {"va": "a.txt"}}, [])
