"""Aff-Wild2 to manifest and audit: a tree with every oddity once, test sets in all their guises, and the laws behind."""

import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path

import affwild2_tree as tree
import pytest
from affwild2_tree import AUDIT, FINDINGS, FRAMES, MANIFEST, SHORT

from affpipe.core.errors import ManifestError, SettingsError
from affpipe.core.tasks.table import TASKS
from affpipe.data import manifest
from affpipe.data.demo.clips import HEADER
from affpipe.data.importers import affwild2, duplicates, facts
from affpipe.data.importers.collection import Stream, partition_columns, place, whose
from affpipe.data.importers.write_manifest import Made, make
from affpipe.data.manifest import Row, own_partitions
from affpipe.media.identity import fingerprint


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tree.build(tmp_path_factory.mktemp("affwild2") / "data")


@pytest.fixture(scope="module")
def made(root) -> Made:
    return make(affwild2.collect(root), root.parent / "out/data_manifest.csv", progress=quiet)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


# ---- Aff-Wild2 --------------------------------------------------------------------------------------------------------------------------


def test_the_manifest_has_a_row_a_stream_that_has_its_video(made):
    assert made.manifest.read_text() == MANIFEST
    assert (made.streams, made.old) == (22, None)


def test_the_manifest_gives_each_task_its_own_sets(made, root):
    rows = manifest.read(made.manifest, root)
    sets = {  # written down by hand from the tree, missing videos left out
        ("va", "train"): "1-30-1280x720,10-60-1280x720,10-60-1280x720_right,broken,duet_left,few,most,solo_left,too few,too many",
        ("va", "validation"): "turned,vary,video2,video2_left,video59",
        ("va", "test"): "t1,t2,t3,t4",
        ("expr", "train"): "10-60-1280x720,duet_right",
        ("expr", "validation"): "1-30-1280x720,both",
        ("expr", "test"): "t2,t3",
        ("au", "train"): "again,few,solo_left,t1",
        ("au", "validation"): "",
        ("au", "test"): "t3,t4",
    }
    for (task, partition), ids in sets.items():
        if partition == "test":
            found = [row.stream_id for row in rows if row.partition_of(task) == "test"]
        else:
            found = [row.stream_id for row in rows if row.labelled([task], partition)]
        assert ",".join(found) == ids, (task, partition)


def test_the_audit_has_a_row_a_stream(made):
    """Notes are compared as kinds; what they say is in FINDINGS."""
    rows = table(made.audit_csv.read_text())
    kinds = {(f.kind, id) for f in made.audit.findings for id in f.streams}
    for row, wanted in zip(rows, table(AUDIT), strict=True):
        said = [f.kind for f in made.audit.findings if row["stream"] in f.streams]
        assert row["note"].count(": ") >= len(said)
        assert "|".join(said) == wanted["note"]
        assert {k: v for k, v in row.items() if k != "note"} == {k: v for k, v in wanted.items() if k != "note"}
    assert all(any(kind in row["note"] for row in rows if row["stream"] == id) for kind, id in kinds)


def test_all_findings_are_told_once(made):
    found = [(f.kind, f.where, f.text) for f in made.audit.findings]
    assert [f[:2] for f in found] == [f[:2] for f in FINDINGS]
    for (_, where, text), (*_, part) in zip(found, FINDINGS, strict=True):
        assert part in text, where
    assert [where for _, where, text in found if "one video twice" in text] == ["solo_left"]


def test_the_summary_counts_videos_and_streams_beside_the_official_numbers(made):
    head, rows = made.audit.table()
    assert head == ("task", "partition", "videos", "streams", "label rows", "invalid", "official")
    assert rows[:4] == [
        ("va", "train", "9", "13", "686", "10 (1.5%)", "356"),  # 5 * 60 + 11 + 62 + 10 + 63 + 4 * 60; 0 + 1 + 2 + 3 + 4
        ("va", "validation", "4", "5", "300", "31 (10.3%)", "76"),
        ("va", "test", "4", "4", "60", "60 (100.0%)", "162"),
        ("va", "all", "17", "22", "1046", "101 (9.7%)", "594"),
    ]
    assert [row[-1] for row in rows[4:]] == ["not known"] * 3 + ["548"] + ["not known"] * 4
    lines = made.audit.lines()
    assert lines[0] == "va: label rows minus decoded frames: -50 to +3, equal in 11 of 15 streams"
    assert lines[3:7] == ["missing video: 3", *(f"  {f.where}: {f.text}" for f in made.audit.findings[:3])]


def test_numbers_and_findings_are_in_the_json_too(made, root):
    found = json.loads(made.audit_json.read_text())
    assert (found["videos"], found["streams"], found["frames_are"], found["root"]) == (22, 26, "decoded", str(root))
    assert found["rows_minus_frames"]["va"] == {"min": -50, "max": 3, "streams": {"-50": 1, "-49": 1, "+0": 11, "+2": 1, "+3": 1}}
    assert found["rows_minus_frames"]["expr"] == {"min": 0, "max": 3, "streams": {"+0": 4, "+3": 1}}
    assert found["counts"][1] == {
        "task": "va",
        "partition": "validation",
        "videos": 4,
        "streams": 5,
        "rows": 300,
        "invalid": 31,
        "invalid_share": 31 / 300,
        "official": 76,
    }
    assert [(kind, f["where"]) for kind, told in found["findings"].items() for f in told] == [f[:2] for f in FINDINGS]


def test_a_quick_audit_counts_packets_and_says_so(made, root, tmp_path):
    quick = make(affwild2.collect(root), tmp_path / "m.csv", quick=True, progress=quiet)
    assert quick.manifest.read_text() == MANIFEST
    rows = table(quick.audit_csv.read_text())
    assert {row["counted"] for row in rows} == {"packets", ""}
    own = ("counted", "note")
    for row, full in zip(rows, table(made.audit_csv.read_text()), strict=True):
        assert {k: v for k, v in row.items() if k not in own} == {k: v for k, v in full.items() if k not in own}
    assert json.loads(quick.audit_json.read_text())["frames_are"] == "packets"
    assert not any("one video twice" in f.text for f in quick.audit.findings)  # nothing was decoded


def test_numbers_that_agree_with_the_official_ones_are_not_told(root, tmp_path):
    """Either may: the number of videos or that of streams."""
    official = {("va", "train"): 13, ("va", "validation"): 4, ("va", "test"): 5, ("expr", "test"): 2}
    made = make(replace(affwild2.collect(root), official=official), tmp_path / "m.csv", quick=True, progress=quiet)
    assert [f.where for f in made.audit.findings if f.kind == "count"] == ["va test"]


def test_one_task_alone(root, tmp_path):
    alone = make(affwild2.collect(root, ["au"]), tmp_path / "m.csv", quick=True, progress=quiet)
    rows = table(alone.manifest.read_text())
    assert list(rows[0]) == ["stream_id", "video", "subject", "partition", "au", "images"]
    assert [(row["stream_id"], row["partition"]) for row in rows] == [
        ("again", "train"),
        ("few", "train"),
        ("solo_left", "train"),
        ("t1", "train"),
        ("t3", "test"),
        ("t4", "test"),
    ]


def test_the_demo_layout_gives_the_demo_s_own_manifest(tmp_path):
    names = {"a": "Train_Set", "b": "Train_Set", "c_left": "Validation_Set", "c_right": "Validation_Set"}
    lines = [HEADER]
    for name, part in names.items():
        tree.labels(tmp_path / f"annotations/{TASKS['va'].folder}/{part}/{name}.txt", "va", SHORT)
        video, _, side = name.partition("_")
        own = {task: "" for task in TASKS} | {"va": f"annotations/{TASKS['va'].folder}/{part}/{name}.txt"}
        cells = [own[c] for c in HEADER.split(",")[4:]]
        lines.append(",".join([name, f"videos/{video}.mp4", side or "largest", part.split("_")[0].lower(), *cells]))
    tree.template(tmp_path / f"annotations/{TASKS['va'].folder}/test_template.txt", "valence,arousal", d=SHORT)
    tree.labels(tmp_path / "truth/Test_Set/d.txt", "va", SHORT)
    lines.append(",".join(["d", "videos/d.mp4", "largest", "test", *[""] * len(HEADER.split(",")[4:])]))
    for n, name in enumerate("abcd"):  # no two of the same bytes
        tree.video(tmp_path / f"videos/{name}.mp4", count=SHORT, options={"crf": str(20 + n)})
    made = make(affwild2.collect(tmp_path), tmp_path / "data_manifest.csv", progress=quiet)
    wanted = [dict(zip(HEADER.split(","), line.split(","), strict=True)) for line in lines[1:]]
    columns = ["stream_id", "video", "subject", "partition", "va"]
    assert made.manifest.read_text().splitlines() == [",".join(columns), *(",".join(row[c] for c in columns) for row in wanted)]


def test_a_folder_without_annotations_or_videos_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"no such place: want a folder of videos, got none"):
        affwild2.collect(tmp_path / "no such place")
    tree.labels(tmp_path / "VA_Set/Train_Set/a.txt", "va", 3)
    with pytest.raises(ManifestError, match=r"want videos \(\.mp4, .*\) somewhere below, got none"):
        affwild2.collect(tmp_path)
    tree.video(tmp_path / "b.mp4", count=2)
    with pytest.raises(ManifestError, match="want annotations below AU_Detection_Challenge, got none"):
        affwild2.collect(tmp_path, ["va", "au"])
    with pytest.raises(SettingsError, match="want --task one of va, expr, au, got 'mtl'"):
        affwild2.collect(tmp_path, ["mtl"])
    with pytest.raises(ManifestError, match="want videos named as the streams, got none for 1"):
        make(affwild2.collect(tmp_path), tmp_path / "m.csv", progress=quiet)
    assert not (tmp_path / "m.csv").exists()


LISTED = "want a file name that says the task (va, expr, au), got another"


@pytest.mark.parametrize(
    ("name", "content", "streams", "finding"),
    [
        ("VA_Set/Test_Set/b.txt", "", {"va": "b"}, ""),
        ("VA_Set/test/b.TXT", "\n \n", {"va": "b"}, ""),
        ("VA_Set/Testing_Set/b.txt", "valence,arousal\n0,0\n", {"va": "b"}, ""),
        ("VA_Set/Test_Set/b_left.txt", "b\n", {"va": "b_left"}, ""),  # named as a stream, so a (broken) annotation
        ("VA_Set/Test_Set/all.txt", "b\nc_left.avi\nd.txt\n", {"va": "b,c_left,d"}, ""),
        ("VA_Set/Test_Set/all.txt", "b\n../c\n", {"va": "b"}, "line 2: want the name of a stream, got '../c'"),
        ("VA_Set/template.txt", "image_location,valence,arousal\nb/00001.jpg,\n", {"va": "b"}, ""),
        ("VA_Set/template.txt", "image\nx/b/00001.jpg,0,0\nc/00001.jpg\n", {"va": "b,c"}, ""),
        ("VA_Set/template.txt", "image_location,expression\nb/00001.jpg,\n", {"expr": "b"}, ""),  # its header knows better
        (
            "VA_Set/template.txt",
            "image_location,,\nb/1.jpg,\n2.jpg,\n",
            {"va": "b"},
            "want rows `stream/00001.jpg,...`, got 1 of another form",
        ),
        ("x/ABAW_Test_Set.txt", "image_location, Valence, Arousal\nb/1.jpg,\n", {"va": "b"}, ""),
        ("x/ABAW_AU_test_set_sample.txt", "image_location\nb/1.jpg,\n", {"au": "b"}, ""),
        ("x/ABAW_test_set_sample.txt", "image_location\nb/1.jpg,\n", {}, "want a template of va, expr, au, got 'image_location'"),
        ("Expression_Recognition_Challenge_test_set_release.txt", "b\nc\n", {"expr": "b,c"}, ""),
        ("Valence_Arousal_Estimation_Challenge_test_set_release.txt", "b\n", {"va": "b"}, ""),
        ("MTL_Challenge_test_set_release.txt", "b\n", {}, LISTED),
        ("MTL_VA_test_set_release.txt", "b\n", {}, LISTED),
        ("VA_and_AU_test_set.txt", "b\n", {}, LISTED),
        ("x/template.txt", "image_location,valence,arousal\nb/1.jpg,\n", {}, ""),  # anything might be called so
        ("VA_Set/readme.txt", "b\n", {}, ""),
        ("AU test set/b.txt", "b\n", {}, ""),
        ("VA_Set/Test_Set/b.txt", b"\xff\xfeb", {}, "want a text file in UTF-8, got"),
    ],
)
def test_where_the_test_set_is_known_from(tmp_path, name, content, streams, finding):
    (tmp_path / "b.mp4").write_bytes(b"b")
    tree.labels(tmp_path / "VA_Set/Train_Set/a.txt", "va", 1)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = affwild2.collect(tmp_path)
    tests = {task: ",".join(s.id for s in found.streams if s.partitions.get(task) == "test") for task in TASKS}
    assert {task: ids for task, ids in tests.items() if ids} == streams
    told = [f for f in found.findings if f.kind == "not read"]
    assert [f.where for f in told] == ([name] if finding else [])
    assert all(f.text.startswith(finding) and "\n" not in f.text for f in told)


def test_two_templates_that_ask_for_different_rows_are_told(tmp_path):
    (tmp_path / "b.mp4").write_bytes(b"b")
    tree.template(tmp_path / "VA_Set/one.txt", "valence,arousal", b=3, c=2)
    tree.template(tmp_path / "VA_Set/two.txt", "valence,arousal", b=4, c=2)
    found = affwild2.collect(tmp_path)
    assert [s.asked for s in found.streams] == [{"va": 3}, {"va": 2}]
    told = [f for f in found.findings if f.kind == "two annotations"]
    assert [(f.where, f.text) for f in told] == [("b", "va: VA_Set/two.txt asks for 4 rows, another template for 3: the latter is taken")]


def test_a_second_face_that_only_another_task_knows(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    tree.labels(tmp_path / "VA_Set/Train_Set/a.txt", "va", 1)
    tree.labels(tmp_path / "VA_Set/Train_Set/b.txt", "va", 1)
    tree.labels(tmp_path / "EXPR_Set/Validation_Set/a_right.txt", "expr", 1)
    tree.template(tmp_path / "AU_Set/template.txt", TASKS["au"].header, b_left=1)
    found = affwild2.collect(tmp_path, ["va"])
    assert [(s.id, s.subject, s.partitions) for s in found.streams] == [("a", "left", {"va": "train"}), ("b", "right", {"va": "train"})]


# ---- laws -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["a"], {"a": "largest"}),
        (["a_left"], {"a_left": "left"}),
        (["a_left", "a_right"], {"a_left": "left", "a_right": "right"}),
        (["a", "a_right"], {"a": "left", "a_right": "right"}),
        (["a", "a_left"], {"a": "right", "a_left": "left"}),
        (["a", "a_left", "a_right"], {"a": "largest", "a_left": "left", "a_right": "right"}),
        (["b_left", "b"], {"b_left": "largest"}),  # a video of its own; b has none
        (["c_left_right"], {}),
        (["b_left_right", "b_left"], {"b_left_right": "right", "b_left": "left"}),
        (["_left", "A", "a_Left"], {}),
    ],
)
def test_whose_face_a_name_means(names, wanted):
    found = whose(names, {"a": "x/a.mp4", "b_left": "b_left.avi"})
    assert {name: face for name, (_, face) in found.items()} == wanted
    assert all(video == ("b_left.avi" if name.startswith("b") else "x/a.mp4") for name, (video, _) in found.items())


def test_a_stream_between_a_left_and_a_right_one_is_told():
    streams = {name: Stream(name) for name in ("a", "a_left", "b", "b_left", "c")}
    told = place(streams, {name: f"{name}.mp4" for name in "abc"}, ["a_right"])
    assert [(f.kind, f.where, f.streams) for f in told] == [("whose face", "a", ("a",))]
    assert told[0].text.startswith("a.mp4 has streams of its left and right face too")
    assert {s.id: s.subject for s in streams.values()} == {"a": "largest", "a_left": "left", "b": "right", "b_left": "left", "c": "largest"}


def test_partition_columns_give_each_task_its_sets_whatever_the_partitions():
    choices = ("", "train", "validation", "test")
    for own in itertools.product(choices, repeat=3):
        said = {task: p for task, p in zip(TASKS, own, strict=True) if p}
        if not said:
            continue
        partition, others = partition_columns(Stream("s", partitions=said), tuple(TASKS))
        labels = {task: Path("x") for task, p in said.items() if p != "test"}
        row = Row("s", Path("v.mp4"), "largest", partition, labels, others)
        assert set(others) <= {column.removesuffix("_partition") for column in own_partitions().values()}
        for task in TASKS:
            assert bool(row.labelled([task], "train")) == (said.get(task) == "train")
            assert bool(row.labelled([task], "validation")) == (said.get(task) == "validation")
            assert (row.partition_of(task) == "test") == (said.get(task) == "test")
        assert row.fits == bool(labels)
        if len(said) == 3 and len(set(own)) == 1:
            assert others == {}


@pytest.mark.parametrize(
    "name", ["video1 (1)", "Video1", "video1_copy", "video1 - Copy", "video1 - Copy (2)", "Copy of video1", "VIDEO 1", "video1-copy2"]
)
def test_names_that_a_copy_has_are_similar(name):
    assert duplicates.similar(["video1", name, "video2", "video11", "video1_left"]) == [sorted(["video1", name])]


@pytest.mark.parametrize("name", ["video1_right", "video1-2", "video10", "copycat", "video1_1"])
def test_names_that_mean_another_are_not(name):
    assert duplicates.similar(["video1", name]) == []


def test_same_bytes_are_found_by_content_alone(tmp_path):
    block = bytes(range(256)) * 8000  # two megabytes; a difference that lies between what their identity is of
    for name, content in {
        "a": block,
        "b": block,
        "c": block[:80_000] + b"!" + block[80_001:],
        "d": b"",
        "e": b"",
        "f": block[:-1],
    }.items():
        (tmp_path / name).write_bytes(content)
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "c")
    assert duplicates.same_bytes(tmp_path, "abcdef") == [["a", "b"]]
    assert duplicates.alike(tmp_path, ["a", "b"])
    assert not duplicates.alike(tmp_path, ["a", "c"])
    assert not duplicates.alike(tmp_path, ["a", "none"])


@pytest.mark.parametrize("hidden", [5, 10])
def test_a_quick_look_passes_over_what_an_edit_list_hides(tmp_path, hidden):
    path = tree.video(tmp_path / "a.mp4", start_s=-hidden / 25)
    assert facts.video(path, quick=True) == facts.video(path, quick=False)
    assert facts.video(path, quick=True).frames == FRAMES - hidden


def test_processes_measure_what_one_does(root):
    paths = [root / "batch1/duet.mp4", root / "batch2/turned.mov", root / "batch1/broken.mp4"]
    seen: list[tuple[str, int, int]] = []
    found = facts.videos(paths, quick=False, jobs=2, progress=lambda *told: seen.append(told))
    assert found == facts.videos(paths, quick=False, jobs=1, progress=quiet)
    assert seen == [("videos", done, 3) for done in range(4)]
    assert (found[paths[0]].frames, found[paths[1]].frames, found[paths[2]].frames) == (FRAMES, FRAMES, 0)
    assert str(paths[2]) in found[paths[2]].error
