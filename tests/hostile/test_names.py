"""Files and folders of any name: nothing of a name is run, lost or mistaken for another's."""

import csv
import html
import json
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from clips import Sound, write
from small_run import Run

from affpipe.core.errors import InputError, ManifestError, SettingsError
from affpipe.data import manifest
from affpipe.data.importers import folder
from affpipe.data.importers.write_manifest import make
from affpipe.jobs import predict
from affpipe.jobs.workers import start
from affpipe.plan import config
from affpipe.plan.plan import Plan
from affpipe.results.publish import record
from affpipe.store import streams
from affpipe.store.index import Entry, read_index
from affpipe.store.streams import Stream
from affpipe.system import disk

ROOT = Path(__file__).resolve().parents[2]
MARK = "ran"  # what any of these names would make, were it run
NAMES = (
    "two words",
    "-rf",
    "--help",
    f"it's $(touch {MARK})",
    f"`touch {MARK}`",
    f'a"; touch {MARK}; "b',
    f"x & touch {MARK} & y",
    f"| touch {MARK} #",
    "<in> {wildcard} {{x}} %s \\n *?[a] !! ~",
    unicodedata.normalize("NFC", "café"),
    unicodedata.normalize("NFD", "señor"),
    "日本語",
    "a:b",
    "..a",  # hidden, so refused below
)
FRAMES = 4
CACHE = f'ca che\'s "q" $(touch {MARK}) `touch {MARK}`; touch {MARK} & é [a] *? %s #'


def film(path: Path, frames: int = FRAMES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, count=frames, sound=Sound(length_s=0.2, click_s=[0.1]))


def annotate(path: Path, frames: int = FRAMES) -> None:
    path.write_text("valence,arousal\n" + "0.1,0.2\n" * frames, encoding="utf-8")


def table(path: Path, names: list[str]) -> Path:
    """A manifest of videos of these names, numbered, each with an annotation named as it is."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["stream_id", "video", "partition", "va"])
        rows.writerows([f"s{i}", f"{n}.mp4", ("train", "validation")[i % 2], f"{n}.txt"] for i, n in enumerate(names))
    return path


# ---- the workflow -----------------------------------------------------------------------------------------------------------------------


def test_the_workflow_runs_on_names_and_folders_of_any_kind(tmp_path):
    """Snakemake's command lines, jobs and store: a stream of each kind for each video, and nothing that a name would have run."""
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    names = list(NAMES[:-1])
    data = f"da ta's $(touch {MARK})"
    for i, name in enumerate(names):
        film(tmp_path / data / f"{name}.mp4", FRAMES + i)
        annotate(tmp_path / data / f"{name}.txt", FRAMES + i)
    rows = table(tmp_path / f"m; touch {MARK}.csv", names)
    (tmp_path / "disk").mkdir()
    (tmp_path / CACHE).symlink_to("disk", target_is_directory=True)  # a cache on another disk
    over = {"name": "odd", "shards": 1, "cache": CACHE, "results": f"re's $(touch {MARK})", "weights": f"w's $(touch {MARK})"}
    (tmp_path / "over.json").write_text(json.dumps(over | {"manifest": rows.name, "data_root": data}))
    command = ["-m", "snakemake", "--cores", "1", "--configfile", "config.yaml", "over.json", "--until", "apply_audio", "apply_labels"]
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(tmp_path.rglob(MARK))
    for stage, suffix in {"frames": "h5", "audio": "flac", "labels": "h5"}.items():
        (key,) = (tmp_path / "disk" / stage).iterdir()
        (index,) = (key / "shards").iterdir()
        entries = read_index(index)
        assert {entry.status for entry in entries.values()} == {"done"}
        assert set(entries) == ({f"s{i}" for i in range(len(names))} if stage == "labels" else set(names))
        assert {path.name for path in key.glob(f"*.{suffix}")} == {entry.file for entry in entries.values()}
    for path in (tmp_path / "disk/frames").glob("*/*.h5"):
        with Stream(path) as stream:
            assert len(stream) == FRAMES + names.index(stream.attributes["id"])


@pytest.mark.parametrize("path", ["a{b", "{wildcard}", "a\nb", "tab\t", "nul\0", ""])
def test_paths_that_the_workflow_would_read_otherwise_are_refused(path):
    for name in ("cache", "results"):
        with pytest.raises(SettingsError, match=rf"settings: {name}: want a path without braces and control characters, got") as raised:
            config.parse(config.overlay(config.read_yaml(ROOT / "config.yaml"), {name: path}))
        assert "\n" not in str(raised.value)


# ---- one video --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES[:-1])
def test_a_video_of_any_name_is_a_row_whose_streams_can_be_written_and_read(tmp_path, name, monkeypatch):
    """As `affpipe predict` takes it: a path of the user, here relative."""
    monkeypatch.chdir(tmp_path)
    film(tmp_path / f"{name}.mp4")
    row = predict._row(Path(f"{name}.mp4"), "largest")
    assert row.video_id == name
    plan = Plan(
        config.parse(config.read_yaml(ROOT / "config.yaml")), [row], model_keys=dict.fromkeys(("face", "behaviour", "voice"), "0" * 12)
    )
    for stage in ("frames", "audio"):
        (item,) = plan.items(stage)
        job = plan.job(stage, item)
        start(plan.context(stage))(job)
        assert [path.name for path in job.path.parent.iterdir()] == [job.path.name]
        assert streams.check(job.path, key=plan.key(stage), identity=item.identity, deep=True)["id"] == name
    assert not list(tmp_path.rglob(MARK))


@pytest.mark.parametrize("name", ["new\nline", "car\rriage", "tab\t", "bell\a", "esc\x1b[2J", "..a", ".hidden", "line\u2028"])
def test_names_that_no_line_can_show_are_refused_in_one(tmp_path, name):
    path = tmp_path / f"{name}.mp4"
    path.write_bytes(b"\0")
    with pytest.raises(ManifestError, match="want a file name in UTF-8 without control characters that starts with no dot") as raised:
        predict._row(path, "largest")
    assert str(raised.value).isprintable()


# ---- names that are one to some file systems --------------------------------------------------------------------------------------------

CAFE = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
TWINS = [("Talk", "talk"), ("STRASSE", "straße"), tuple(CAFE), (CAFE[0], CAFE[1].upper())]


@pytest.mark.parametrize("twins", TWINS, ids=ascii)
def test_videos_whose_names_are_one_where_case_and_form_are_ignored_are_refused(tmp_path, twins):
    """Their streams would be one file, and the second would have the first one's values, were the two of one content."""
    for i, name in enumerate(twins):
        film(tmp_path / f"{name}.mp4", FRAMES + i)
        annotate(tmp_path / f"{name}.txt")
    said = r"row 3: want files of different names, got .* of row 2 .one name where case and the form of accents are ignored.; rename one"
    with pytest.raises(ManifestError, match=said):
        manifest.read(table(tmp_path / "m.csv", list(twins)), tmp_path)


def test_streams_whose_ids_are_one_where_case_is_ignored_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(b"\0")
    (tmp_path / "m.csv").write_text("stream_id,video,partition\nTalk,a.mp4,predict\ntalk,b.mp4,predict\n")
    said = r"row 3: want each stream_id once, got 'talk' as in row 2 .'Talk' there: one name where case is ignored.; rename one"
    with pytest.raises(ManifestError, match=said):
        manifest.read(tmp_path / "m.csv", tmp_path)


@pytest.mark.parametrize("twins", TWINS, ids=ascii)
def test_a_folder_that_holds_such_names_gives_a_manifest_of_one_and_tells_the_other(tmp_path, twins):
    for i, name in enumerate(twins):
        film(tmp_path / "data" / f"{name}.mp4", FRAMES + i)
    film(tmp_path / "data/other.mp4")
    made = make(folder.collect(tmp_path / "data"), tmp_path / "m.csv", progress=lambda what, done, total: None)
    videos = [row.video.name for row in manifest.read(made.manifest, tmp_path / "data")]
    assert len(videos) == 2
    assert "other.mp4" in videos
    (finding,) = [finding for finding in made.audit.findings if finding.kind in ("left out", "same name")]
    if finding.kind == "left out":
        assert "differs in more than case or the form of accents" in finding.text
    else:  # in either form of accents it is one name
        assert finding.text == f"{twins[1]}.mp4 is taken, not {twins[0]}.mp4; remove or rename all but one"


def test_new_videos_of_such_names_are_refused_before_anything_is_made(tmp_path):
    run = Run(tmp_path)
    videos = [film(tmp_path / "x" / name) for name in ("Talk.mp4", "talk.mp4")]
    results = tmp_path / "results/small"
    disk.write_text(results / "run.json", json.dumps(record(run.plan)))
    with pytest.raises(InputError, match=r"want videos of different names, got .*Talk\.mp4, .*talk\.mp4; give each once, or rename one"):
        predict.predict(videos, results, tmp_path / "out", subject="largest", progress=print, done=[])


# ---- making a manifest ------------------------------------------------------------------------------------------------------------------


def test_a_folder_of_odd_names_becomes_a_manifest_that_reads_back(tmp_path):
    names = [name for name in NAMES if not name.startswith("..")]
    for i, name in enumerate(names):
        film(tmp_path / "data" / f"{name}.mp4", FRAMES + i)
        annotate(tmp_path / "data" / f"{name}.txt", FRAMES + i)
    command = [sys.executable, "-m", "affpipe", "manifest", "folder", "data", "--out", "m.csv", "--quick", "--jobs", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = manifest.read(tmp_path / "m.csv", tmp_path / "data")
    taken = {row.video_id for row in rows}
    audit = json.loads((tmp_path / "m_audit.json").read_text(encoding="utf-8"))
    told = {finding["where"] for finding in audit["findings"].get("left out", [])}
    assert taken | told == set(names)  # none is lost without a word
    assert all(row.labels["va"].stem == row.video_id for row in rows)
    assert not list(tmp_path.rglob(MARK))


# ---- the report -------------------------------------------------------------------------------------------------------------------------


def test_names_are_shown_in_the_report_and_run_nothing(tmp_path):
    """A reason names the video, a model's settings what a recipe says."""
    evil = "\"><img src=x onerror=alert(1)>'</script><script>alert(2)</script>.mp4"
    run = Run(tmp_path, reference={"source": evil, "rows": {"face": {"label": evil}}})
    run.entries["audio"]["p1"] = Entry("failed", reason=f"{evil}: want a readable video, got none")
    page = run.page()
    assert evil not in page
    assert not re.search(r"<(img|script)[^>]*alert", page)
    assert html.escape(evil, quote=False).partition("</")[0].replace('"', "&#34;")[:20] in page
