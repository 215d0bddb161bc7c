"""A video in several of train, validation and test of one task, under whatever names: told wherever a manifest is read with its media."""

from pathlib import Path

import affwild2_tree as tree
import clips
import pytest
from bad_case import SETTINGS
from fakes.workspace import Workspace
from pages import Reader, section
from small_run import Run

from affpipe.core.alike import told
from affpipe.core.errors import ManifestError
from affpipe.core.tasks.table import TASKS
from affpipe.data import manifest, overlaps
from affpipe.data.importers import affwild2
from affpipe.data.importers.manifest_check import Report, check
from affpipe.data.importers.write_manifest import make
from affpipe.data.overlaps import Member, Overlap
from affpipe.jobs import start
from affpipe.jobs.doctor import examine

HEAD = "stream_id,video,partition,va,subject,va_partition,expr_partition,expr,overlap"
ROWS = 12
VA = "va: want a video in train or in validation, got it in both"


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> bytes:
    return clips.write(tmp_path_factory.mktemp("clip") / "a.mp4", count=ROWS).read_bytes()


@pytest.fixture
def folder(tmp_path, clip) -> Path:
    """Videos a, b, c of different bytes, and `twin`, which is a under another name; labels of both tasks, and further ones of va."""
    for name in "abc":
        (tmp_path / f"{name}.mp4").write_bytes(clips.apart(clip, name))
    (tmp_path / "twin.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    for task in ("va", "expr"):
        tree.labels(tmp_path / f"{task}.txt", task, ROWS)
    for number, name in enumerate(["b", "c", "right", "none"]):
        text = "-5,-5\n" if name == "none" else f"0.1,0.{number}\n"
        (tmp_path / f"{name}.txt").write_text("valence,arousal\n" + text * ROWS)
    (tmp_path / "my.yaml").write_text(SETTINGS.format(tmp_path))
    return tmp_path


def given(folder: Path, *rows: str) -> Path:
    path = folder / "data_manifest.csv"
    path.write_text("\n".join([HEAD, *(row + "," * (HEAD.count(",") - row.count(",")) for row in rows)]) + "\n")
    return folder


def checked(folder: Path, media: str = "") -> Report:
    return check(folder / "data_manifest.csv", folder, media=media, progress=quiet)


def planned(folder: Path):
    return start.plan_of([folder / "my.yaml"])


LEAK = "a,a.mp4,train,va.txt", "t,twin.mp4,validation,va.txt"
SIDES = "l,a.mp4,train,va.txt,left", "r,a.mp4,validation,right.txt,right"
REST = "b,b.mp4,train,b.txt", "c,c.mp4,validation,c.txt"


@pytest.mark.parametrize(
    ("rows", "said", "numbered"),
    [
        (LEAK, "(train: a (a.mp4); validation: t (twin.mp4))", "(train: row 2 (a.mp4); validation: row 3 (twin.mp4))"),
        (SIDES, "(train: l; validation: r)", "(train: row 2; validation: row 3)"),
    ],
)
def test_it_is_a_fault_of_the_check_of_the_run_and_of_doctor(folder, rows, said, numbered):
    given(folder, *rows, *REST)
    line = f"{folder / 'a.mp4'}: {VA} {said}"
    for media in ("", "quick", "full"):
        report = checked(folder, media)
        assert report.faults == [f"{folder / 'data_manifest.csv'}: {folder / 'a.mp4'}: {VA} {numbered}; move one"]
        assert report.warnings == []
    with pytest.raises(ManifestError) as caught:
        planned(folder)
    assert str(caught.value) == f"{folder / 'data_manifest.csv'}: {line}; move one"
    found = [f for f in examine.examine([folder / "my.yaml"], media=False) if f.check == "manifest" and f.level == "fault"]
    assert [(f.found, f.remedy) for f in found] == [(line, "move one")]


@pytest.mark.parametrize(
    "rows",
    [
        ("a,a.mp4,train,va.txt", "t,twin.mp4,train,va.txt"),
        ("a,a.mp4,validation,va.txt", "t,twin.mp4,validation,va.txt"),
        ("a,a.mp4,test,va.txt", "t,twin.mp4,test,va.txt"),
        ("a,a.mp4,train,va.txt", "t,twin.mp4,predict,"),
        ("a,a.mp4,train,va.txt", "t,twin.mp4,predict,right.txt"),
        ("a,a.mp4,train,va.txt,,,test,expr.txt",),
        ("a,a.mp4,train,va.txt,,,validation,expr.txt",),  # one stream, two tasks
        ("a,a.mp4,train,va.txt", "t,twin.mp4,train,,,,validation,expr.txt"),
        ("a,a.mp4,train,va.txt", "t,twin.mp4,train,va.txt,,train,validation,expr.txt"),
    ],
)
def test_what_is_none_is_not_told(folder, rows):
    given(folder, *rows, *REST)
    assert (checked(folder).faults, checked(folder).warnings) == ([], [])
    assert planned(folder).overlaps == []


def test_the_partition_of_the_task_counts(folder):
    given(folder, "a,a.mp4,train,va.txt", "t,twin.mp4,train,va.txt,,validation", *REST)
    with pytest.raises(ManifestError, match=r"va: want a video in train or in validation, .*train: a \(a\.mp4\); validation: t"):
        planned(folder)
    given(folder, "a,a.mp4,train,va.txt,,,train,expr.txt", "t,twin.mp4,train,va.txt,,,validation,expr.txt", *REST)
    assert planned(folder).overlaps == []  # the run is one of va alone
    (fault,) = checked(folder).faults
    assert "expr: want a video in train or in validation" in fault


def test_every_overlap_is_told_by_the_check_and_the_first_by_the_run(folder):
    (folder / "more.mp4").write_bytes((folder / "b.mp4").read_bytes())
    given(folder, *LEAK, *REST, "m,more.mp4,validation,va.txt")
    assert [fault.split(": ")[1] for fault in checked(folder).faults] == [str(folder / "a.mp4"), str(folder / "b.mp4")]
    with pytest.raises(ManifestError, match=r"twin\.mp4\)\); move one \(and 1 more: see affpipe manifest check\)"):
        planned(folder)


# ---- test -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "where"),
    [
        (("a,a.mp4,train,va.txt", "t,twin.mp4,test,va.txt"), "train"),
        (("a,a.mp4,train,va.txt", "t,twin.mp4,test"), "train"),  # others may have its labels
        (("a,a.mp4,validation,va.txt", "t,twin.mp4,test"), "validation"),
        (("a,a.mp4,train,va.txt", "t,twin.mp4,train,right.txt,,test"), "train"),
    ],
)
def test_a_test_that_was_fitted_on_or_chosen_by_is_a_warning_everywhere(folder, rows, where):
    given(folder, *rows, *REST)
    m, video, text = folder / "data_manifest.csv", folder / "a.mp4", f"va: want a video in {where} or in test, got it in both"
    for media in ("", "quick"):
        report = checked(folder, media)
        assert report.faults == []
        assert report.warnings == [f"{m}: {video}: {text} ({where}: row 2 (a.mp4); test: row 3 (twin.mp4)); move one"]
    plan = planned(folder)  # it is not refused
    line = f"{video}: {text} ({where}: a (a.mp4); test: t (twin.mp4))"
    assert start.caution(plan) == f"{m}: {line}; move one"
    told = [f for f in examine.examine([folder / "my.yaml"], media=False) if f.check == "manifest" and f.level != "fine"]
    assert [(f.level, f.found, f.remedy) for f in told] == [("warning", line, "move one")]


def test_a_run_is_started_with_the_first_such_test_and_a_count(folder):
    (folder / "more.mp4").write_bytes((folder / "b.mp4").read_bytes())
    given(folder, "a,a.mp4,train,va.txt", "t,twin.mp4,test", *REST, "m,more.mp4,test")
    assert start.caution(planned(folder)).endswith("test: t (twin.mp4)); move one (and 1 more: see affpipe manifest check)")
    given(folder, "a,a.mp4,train,va.txt,,,,,official", "t,twin.mp4,test,,,,,,official", *REST)
    assert start.caution(planned(folder)) == ""
    assert checked(folder).warnings[0].endswith("; as official lists have it")


def test_the_workflow_says_it_once_when_it_starts(tmp_path):
    made = Workspace(tmp_path / "run", {"clip1": "train", "clip4": "validation", "clip5": "test"}, recipe="shards: 1\n")
    (tmp_path / "run/data/clip5.mp4").write_bytes((tmp_path / "run/data/clip1.mp4").read_bytes())
    text = made.snakemake("--until", "apply_frames")
    line = "va: want a video in train or in test, got it in both (train: clip1 (clip1.mp4); test: clip5 (clip5.mp4)); move one"
    assert [own for own in text.splitlines() if "want a video" in own] == [f"affpipe: data_manifest.csv: data/clip1.mp4: {line}"]


def test_a_track_of_its_own_makes_no_other_video(folder):
    given(folder, "a,a.mp4,train,va.txt", "t,twin.mp4,validation,va.txt", *REST)
    path = folder / "data_manifest.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"{head},video_track", *(f"{row},{'0' if row.startswith('t,') else ''}" for row in rows)]) + "\n")
    with pytest.raises(ManifestError, match=r"train: a \(a\.mp4\); validation: t"):
        planned(folder)


# ---- annotations that contradict each other ---------------------------------------------------------------------------------------------


def test_one_annotation_of_two_videos_is_a_warning(folder):
    (folder / "copy.txt").write_bytes((folder / "b.txt").read_bytes())
    m, b, copy = folder / "data_manifest.csv", folder / "b.txt", folder / "copy.txt"
    for text in (b, copy):
        given(folder, "b,b.mp4,train,b.txt", f"c,c.mp4,validation,{text.name}")
        for media in ("", "quick"):
            assert checked(folder, media).warnings == [
                f"{m}: row 3: {text}: va: want an annotation of its own for c.mp4 (largest, validation), got the bytes of {b}, which row 2 "
                "has for b.mp4 (largest, train); name its own, or keep one row if both are one video"
            ]


def test_one_annotation_of_both_sides_of_a_video_is_a_warning(folder):
    given(folder, "l,a.mp4,train,va.txt,left", "r,a.mp4,train,va.txt,right", *REST)
    (warning,) = checked(folder).warnings
    assert "want an annotation of its own for a.mp4 (right, train), got the bytes of" in warning


def test_two_annotations_of_one_face_are_a_warning(folder):
    given(folder, "a,a.mp4,train,va.txt", "t,twin.mp4,train,right.txt", *REST)
    m, here, there = folder / "data_manifest.csv", folder / "right.txt", folder / "va.txt"
    for media in ("", "quick"):
        assert checked(folder, media).warnings == [
            f"{m}: row 3: {here}: va: want one annotation for one face, got another than {there} of row 2, "
            "as twin.mp4 has the content of a.mp4; keep one row"
        ]


@pytest.mark.parametrize(
    "rows",
    [
        ("a,a.mp4,train,va.txt,left", "t,twin.mp4,train,right.txt,right"),  # two faces
        ("a,a.mp4,train,none.txt", "t,twin.mp4,train,right.txt"),  # nothing is said of one
        ("b,b.mp4,train,none.txt", "c,c.mp4,validation,none.txt", "x,a.mp4,train,va.txt", "y,twin.mp4,train,va.txt"),
    ],
)
def test_annotations_that_can_all_be_right_are_not_told(folder, rows):
    given(folder, *rows)
    assert checked(folder).warnings == []


def test_many_alike_are_one_line_with_a_count(folder, clip):
    names = ["ann", "bob", "cid", "dot", "eve"]
    rows = []
    for number, name in enumerate(names):
        for copy in (name, f"{name}-too"):
            (folder / f"{copy}.mp4").write_bytes(clips.apart(clip, name))
            (folder / f"{copy}.txt").write_text("valence,arousal\n" + f"0.{number},0.{len(copy)}\n" * ROWS)
        rows += [f"{name},{name}.mp4,train,{name}.txt", f"{name}-too,{name}-too.mp4,train,{name}-too.txt"]
        rows += [f"{name}-test,{name}-test.mp4,test,"]
        (folder / f"{name}-test.mp4").write_bytes(clips.apart(clip, name))
        rows += [f"{name}-slip,{name}-slip.mp4,train,{name}.txt"]
        (folder / f"{name}-slip.mp4").write_bytes(clips.apart(clip, f"{name} slip"))
    given(folder, *rows)
    warnings = checked(folder).warnings
    assert len(warnings) == 15
    assert [line.rpartition(" (")[2] for line in told(warnings, more="--all")] == ["and 4 more like it: --all)"] * 3


# ---- official lists ---------------------------------------------------------------------------------------------------------------------


def test_what_official_lists_have_so_is_a_warning(folder):
    marked = [f"{row},,,,,official" for row in LEAK]
    given(folder, *marked, *REST)
    report = checked(folder)
    assert report.faults == []
    (warning,) = report.warnings
    assert warning.endswith("(train: row 2 (a.mp4); validation: row 3 (twin.mp4)); as official lists have it")
    assert [found.official for found in planned(folder).overlaps] == [True]
    found = [f for f in examine.examine([folder / "my.yaml"], media=False) if f.check == "manifest" and f.level == "warning"]
    assert [f.remedy for f in found] == ["as official lists have it"]


def test_all_streams_of_the_video_must_be_marked(folder):
    given(folder, f"{LEAK[0]},,,,,official", LEAK[1], *REST)
    assert len(checked(folder).faults) == 1


def test_another_word_is_refused(folder):
    given(folder, f"{LEAK[0]},,,,,yes", *REST)
    with pytest.raises(ManifestError, match="row 2: want overlap official or nothing, got 'yes'; mend the cell"):
        planned(folder)


def test_the_importer_of_a_data_set_marks_what_its_lists_have_so(tmp_path, clip):
    challenge = TASKS["va"].folder
    for name, part in {
        "x": "Train_Set",
        "y": "Validation_Set",
        "z": "Train_Set",
        "p_left": "Train_Set",
        "p_right": "Validation_Set",
    }.items():
        tree.labels(tmp_path / f"{challenge}/{part}/{name}.txt", "va", ROWS)
    for name, mark in {"x": "1", "y": "1", "z": "2", "p": "3"}.items():
        (tmp_path / f"{name}.mp4").write_bytes(clips.apart(clip, mark))
    made = make(affwild2.collect(tmp_path), tmp_path / "m.csv", quick=True, progress=quiet)
    rows = {row.stream_id: row for row in manifest.read(made.manifest, tmp_path)}
    assert {id: row.overlap for id, row in rows.items()} == {
        "p_left": "official",
        "p_right": "official",
        "x": "official",
        "y": "official",
        "z": "",
    }
    told = {f.where: f.text for f in made.audit.findings if f.kind == "overlap"}
    assert set(told) == {"p.mp4", "x.mp4"}
    assert all(text.endswith("; as official lists have it") for text in told.values())
    assert check(made.manifest, tmp_path, progress=quiet).faults == []


# ---- by itself --------------------------------------------------------------------------------------------------------------------------


def test_groups_are_by_content_and_by_person_and_task():
    members = [
        Member("a", "1/a.mp4", "X", {"va": "train", "au": "train"}, "Ann"),
        Member("b", "0/b.mp4", "X", {"va": "validation", "au": "train"}, "Bob"),
        Member("c", "c.mp4", "Y", {"va": "validation"}, "Ann"),
        Member("d", "d.mp4", "", {"va": "validation"}),
        Member("e", "e.mp4", "", {"va": "train"}),
        Member("f", "f.mp4", "Y", {"va": "test", "au": "predict"}),
        Member("g", "g.mp4", "X", {"au": "predict"}),
    ]
    assert [(o.task, o.what, o.where, o.ids) for o in overlaps.of(members)] == [
        ("va", "video", "0/b.mp4", ("a", "b")),
        ("va", "person", "Ann", ("a", "c")),
        ("va", "video", "c.mp4", ("c", "f")),
    ]
    everywhere = [Member(p[0], f"{p}.mp4", "X", {"va": p}) for p in ("test", "predict", "validation", "train")]
    (found,) = overlaps.of(everywhere)
    assert found.text == (
        "va: want a video in train or in validation or in test, got it in all "
        "(train: t (train.mp4); validation: v (validation.mp4); test: t (test.mp4)); move one"
    )
    assert found.refused


def test_the_report_says_what_official_lists_have_so(tmp_path):
    made = Run(tmp_path)
    assert "In train and in validation" not in made.page()
    pairs = [(Member(f"a{i}", f"x{i}.mp4", "X", {}, "", True), Member(f"b{i}", f"y{i}.mp4", "X", {}, "", True)) for i in range(7)]
    twins = [Overlap("va", "video", a.video, {"train": (a,), "validation": (b,)}) for a, b in pairs]
    made.plan.__dict__["overlaps"] = twins
    text = Reader(section(made.page(), "summary")).text
    assert "In train and in validation: 7 videos. The scores of their validation streams are of what models were fitted on." in text
    assert "x0.mp4: va: want a video in train or in validation, got it in both (train: a0 (x0.mp4); validation: b0 (y0.mp4))" in text
    assert "and 2 more: affpipe manifest check names them all" in text
    assert "In test" not in text
    made.plan.__dict__["overlaps"] = [Overlap("va", "video", "x.mp4", {"train": pairs[0][:1], "test": pairs[0][1:]})]
    text = Reader(section(made.page(), "summary")).text
    assert "In test and in train or validation: 1 video. A score of its test streams says nothing of videos that are new." in text
    assert "x.mp4: va: want a video in train or in test, got it in both (train: a0 (x0.mp4); test: b0 (y0.mp4))" in text
    assert "In train and in validation" not in text
