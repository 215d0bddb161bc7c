"""Own videos and annotations to a manifest: which files belong together, in which partition they are, and files that are in the way."""

import hashlib
import json
from pathlib import Path

import affwild2_tree as tree
import numpy as np
import pytest

from affpipe.core.errors import ManifestError, SettingsError
from affpipe.data import manifest
from affpipe.data.importers import folder, write_manifest
from affpipe.data.importers.collection import Collection
from affpipe.data.importers.write_manifest import Made, make

SHORT = 8
VIDEOS = (
    "Testing/carl.mp4",
    "Train/eva.mkv",
    "a/same.mp4",
    "b/same.mp4",
    "dev/test_set/dora.avi",
    "odd (1).mp4",
    "sets/Val/ben.mp4",
    "talks/anna.MP4",
    "talks/duo.mp4",
    "train_set/lone.mp4",
    "x.mp4",
)


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("own") / "data"
    for n, name in enumerate(VIDEOS):
        codec = tree.AVI if name.endswith("avi") else {"options": {"crf": str(20 + n)}}
        tree.video(root / name, count=SHORT, **codec)
    tree.labels(root / "Train/eva.txt", "au", SHORT)
    tree.labels(root / "dev/eva.txt", "va", SHORT)
    tree.labels(root / "notes/ben.txt", "va", SHORT, invalid=2)
    tree.labels(root / "notes/duo_left.txt", "expr", SHORT)
    tree.labels(root / "notes/development/duo.txt", "expr", SHORT, shift=1)
    tree.labels(root / "notes/more/ben.txt", "va", SHORT, invalid=1)
    tree.labels(root / "notes/gone.txt", "va", SHORT)
    (root / "x.txt").write_text("x, y\n1,2\n")
    (root / "talks/anna.txt").write_bytes("valence,arousal\n0,0\n".encode("utf-16"))
    (root / "readme.txt").write_text("Videos of my own.\n")
    tree.images(root / "cropped_aligned/eva", 1, 2, 4)
    return root


def test_every_video_is_a_row_with_its_annotations(own, tmp_path):
    made = make(folder.collect(own, "train"), tmp_path / "m.csv", progress=quiet)
    assert made.manifest.read_text() == (
        "stream_id,video,subject,partition,va,expr,au,images,au_partition\n"
        "anna,talks/anna.MP4,largest,predict,,,,,\n"
        "ben,sets/Val/ben.mp4,largest,validation,notes/ben.txt,,,,\n"  # the folder of the video says it
        "carl,Testing/carl.mp4,largest,test,,,,,\n"
        "dora,dev/test_set/dora.avi,largest,test,,,,,\n"  # the nearest folder
        "duo,talks/duo.mp4,right,validation,,notes/development/duo.txt,,,\n"
        "duo_left,talks/duo.mp4,left,train,,notes/duo_left.txt,,,\n"  # --partition
        "eva,Train/eva.mkv,largest,validation,dev/eva.txt,,Train/eva.txt,cropped_aligned/eva,train\n"
        "lone,train_set/lone.mp4,largest,predict,,,,,\n"
        "odd _1_,odd (1).mp4,largest,predict,,,,,\n"
        "same,a/same.mp4,largest,predict,,,,,\n"
        "x,x.mp4,largest,predict,,,,,\n"
    )
    assert len(manifest.read(made.manifest, own)) == made.streams == 11
    assert [(f.kind, f.where, f.streams) for f in made.audit.findings] == [
        ("missing video", "notes/gone.txt", ()),
        ("two annotations", "ben", ("ben",)),
        *(("no annotation", name, (name.replace("(", "_").replace(")", "_"),)) for name in ("anna", "lone", "odd (1)", "same", "x")),
        ("overlap", "talks/duo.mp4", ("duo", "duo_left")),
        ("same name", "a/same.mp4", ("same",)),
        ("not read", "talks/anna.txt", ()),
        ("not read", "x.txt", ()),
    ]
    said = {f.where: f.text for f in made.audit.findings}
    assert said["x.txt"].startswith("want the header of va, expr, au in line 1, as the file is named as a stream, got 'x, y'; ")
    assert said["ben"] == "va: notes/ben.txt is taken, not notes/more/ben.txt"
    assert said["talks/duo.mp4"].startswith(
        "expr: want a video in train or in validation, got it in both (train: duo_left; validation: duo)"
    )
    row = next(line for line in made.audit_csv.read_text().splitlines() if line.startswith("eva,"))
    assert row == "eva,validation,,train,Train/eva.mkv,8,decoded,25,96,64,no,8,0,0,,,,8,0,0,3,1,4,1,"
    assert "official" not in json.loads(made.audit_json.read_text())["counts"][0]
    assert made.audit.table()[0][-1] == "invalid"


def test_what_has_no_annotation_is_to_be_predicted_and_what_has_is_split(own):
    found = folder.collect(own)
    drawn = {"train", "validation"}
    assert {s.id: s.otherwise for s in found.streams if not s.partitions} == {
        **dict.fromkeys(["anna", "lone", "odd _1_", "same", "x"], "predict"),
        **dict.fromkeys(["carl", "dora"], "test"),
    }
    assert {s.id: s.partitions for s in found.streams if s.id in ("ben", "eva")} == {
        "ben": {"va": "validation"},
        "eva": {"au": "train", "va": "validation"},
    }
    assert next(s for s in found.streams if s.id == "duo_left").partitions["expr"] in drawn


def labelled(root: Path, videos: dict[str, bytes], *streams: str) -> Path:
    """A folder of files that pass for videos, with an annotation for each of their streams."""
    for name, content in videos.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
        for suffix in streams or ("",):
            tree.labels((root / name).with_name(f"{Path(name).stem}{suffix}.txt"), "va", 1)
    return root


def drawn(found: Collection) -> dict[str, str]:
    return {stream.id: stream.partitions["va"] for stream in found.streams}


def test_the_split_hangs_on_each_video_s_content_alone(tmp_path):
    rng = np.random.default_rng(0)
    videos = {f"v{n}.mp4": rng.bytes(20) for n in range(400)}
    found = drawn(folder.collect(labelled(tmp_path / "one", videos)))
    for name, content in videos.items():  # the definition: identity's digest as a fraction of 1
        digest = hashlib.sha256(f"{len(content)}:".encode() + content).hexdigest()
        assert found[Path(name).stem] == ("validation" if int(digest[:16], 16) / 16**16 < 0.2 else "train")
    share = sum(p == "validation" for p in found.values()) / 400
    assert abs(share - 0.2) < 4 * (0.2 * 0.8 / 400) ** 0.5
    few = dict(list(videos.items())[:50])
    moved = {f"deep/w{name}": content for name, content in few.items()}
    again = drawn(folder.collect(labelled(tmp_path / "two", moved | {"copy.mp4": few["v3.mp4"]})))
    assert all(again[f"w{Path(name).stem}"] == found[Path(name).stem] for name in few)
    assert again["copy"] == found["v3"]
    larger = drawn(folder.collect(tmp_path / "one", validation_share=0.5))
    assert all(larger[id] == "validation" for id, partition in found.items() if partition == "validation")
    assert set(drawn(folder.collect(tmp_path / "one", "test")).values()) == {"test"}


def test_the_streams_of_a_video_stay_together(tmp_path):
    videos = {f"v{n}.mp4": f"video {n}".encode() for n in range(40)}
    found = drawn(folder.collect(labelled(tmp_path, videos, "_left", "_right")))
    assert len(found) == 80
    assert all(found[f"v{n}_left"] == found[f"v{n}_right"] for n in range(40))
    assert set(found.values()) == {"train", "validation"}


def test_a_split_that_leaves_a_part_empty_is_told(tmp_path):
    labelled(tmp_path, {"a.mp4": b"a"})
    for share, part in ((0.0001, "train"), (0.9999, "validation")):
        finding = folder.collect(tmp_path, validation_share=share).findings[0]
        assert (finding.kind, finding.text.partition(";")[0]) == ("split", f"all 1 labelled videos fell into {part}")
    assert folder.collect(tmp_path, validation_share=0).findings == []  # as asked for


def test_names_that_become_one_are_not_both_taken(tmp_path):
    for name in ("a(b.mp4", "a)b.mp4", "-dash.mp4", "é.mp4", 'x, "y"/z.mp4'):
        tree.video(tmp_path / name, count=2)
    made = make(folder.collect(tmp_path), tmp_path / "m.csv", progress=quiet)
    rows = [(row.stream_id, row.video.relative_to(tmp_path).as_posix()) for row in manifest.read(made.manifest, tmp_path)]
    assert rows == [("_", "é.mp4"), ("_-dash", "-dash.mp4"), ("a_b", "a(b.mp4"), ("z", 'x, "y"/z.mp4')]
    assert [(f.where, f.streams) for f in made.audit.findings if f.kind == "left out"] == [("a)b", ("a)b",))]


def test_names_that_no_table_can_hold_are_told(tmp_path):
    tree.video(tmp_path / "a.mp4", count=2)
    for name in ("new\nline.mp4", "tab\t/b.mp4", "tab\t/c.txt", " blank/d.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    made = make(folder.collect(tmp_path), tmp_path / "m.csv", progress=quiet)
    assert [row.stream_id for row in manifest.read(made.manifest, tmp_path)] == ["a"]
    kinds = {f.where: f.kind for f in made.audit.findings}
    assert kinds == {"'new\\nline.mp4'": "not read", "'tab\\t'": "not read", "d": "left out", " blank/d.mp4": "unusable video"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partition": "Train"}, "want --partition one of train, validation, test, predict, got 'Train'"),
        ({"validation_share": 1}, r"want --validation-share in \[0, 1\), got 1"),
        ({"validation_share": -0.1}, "got -0.1"),
    ],
)
def test_options_out_of_range_are_refused(own, options, said):
    with pytest.raises(SettingsError, match=said):
        folder.collect(own, **options)


def test_a_folder_without_videos_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("valence,arousal\n")
    with pytest.raises(ManifestError, match="somewhere below, got none; give the folder that holds them"):
        folder.collect(tmp_path)


# ---- files in the way -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path) -> Path:
    tree.video(tmp_path / "data/a.mp4", count=3)
    return tmp_path / "data"


def test_a_manifest_that_says_something_else_is_never_lost(small, tmp_path):
    out = tmp_path / "m.csv"

    def again(**options) -> Made:
        return make(folder.collect(small), out, progress=quiet, **options)

    text = again().manifest.read_text()
    stamp = out.stat().st_mtime_ns
    assert again().old is None  # the same: left as it is
    assert out.stat().st_mtime_ns == stamp
    for n, name in enumerate(["m.csv.old", "m.csv.old2", "m.csv.old3"]):
        out.write_text(text + f"# {n}\n")
        with pytest.raises(ManifestError, match=r"m\.csv: want no other file in its place, got one that differs; give another --out, or"):
            again()
        assert out.read_text() == text + f"# {n}\n"
        made = again(force=True)
        assert (made.old, out.read_text()) == (tmp_path / name, text)
    assert [(tmp_path / f"m.csv.old{n}").read_text()[-4:] for n in ("", 2, 3)] == ["# 0\n", "# 1\n", "# 2\n"]
    with pytest.raises(ManifestError, match=r"want a file to write, got a folder; give a file name, as in .*data_manifest\.csv"):
        make(folder.collect(small), small, progress=quiet)


def test_what_would_not_read_back_is_not_written(small, tmp_path):
    out = tmp_path / "m.csv"
    out.write_text("mine\n")
    with pytest.raises(ManifestError, match="want a video file, got no"):
        write_manifest.write(out, "stream_id,video,partition\na,lost.mp4,predict\n", small, force=True)
    assert out.read_text() == "mine\n"
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["data", "m.csv"]


def test_an_audit_that_is_stopped_leaves_the_manifest(small, tmp_path):
    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(folder.collect(small), tmp_path / "m.csv", progress=stop)
    assert manifest.read(tmp_path / "m.csv", small)[0].stream_id == "a"
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["data", "m.csv"]
