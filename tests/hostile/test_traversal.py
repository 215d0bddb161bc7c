"""What others wrote (records, indexes, runs, links in a shared cache) makes nothing be written or deleted where it should not be."""

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from small_run import Run

from affpipe.cli import main
from affpipe.core.errors import InputError, ManifestError, StoreError, WeightsError
from affpipe.core.stage import Context
from affpipe.core.tasks.table import VA
from affpipe.data import manifest
from affpipe.jobs.predict import predict
from affpipe.plan.config import parse
from affpipe.plan.plan import Plan
from affpipe.results import publish, published, runs
from affpipe.results.submission import make_submission
from affpipe.store import cache as caches
from affpipe.store import streams
from affpipe.store.index import Entry, read_index, write_index
from affpipe.store.streams import Header
from affpipe.system import disk
from affpipe.system.weights import records
from affpipe.system.weights.pin import checkpoint, pin
from affpipe.system.weights.records import RECORD, WeightsRecord

KEY, IDENTITY = "0123456789ab", "fedcba9876543210"
LEADING_AWAY = ["../x", "../../../x", "a/../../x", "/tmp/x", "..", ".", "", "a//b", "a\\..\\x", "a\nb", "./x", 3, None, ["x"]]


def content(folder: Path) -> dict[str, bytes | str]:
    """Everything below a folder, links as what they point to."""
    return {
        str(path.relative_to(folder)): f"-> {path.readlink()}" if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


@contextmanager
def untouched(*folders: Path) -> Iterator[None]:
    before = [content(folder) for folder in folders]
    yield
    assert [content(folder) for folder in folders] == before


# ---- weights ----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path) -> Path:
    folder = tmp_path / "work/weights/mine"
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"\0")
    records.record(folder, name="mine", source="a friend")
    return folder


def alter(record: Path, **said: object) -> None:
    record.write_text(json.dumps(json.loads(record.read_text()) | said))


def context(tmp_path: Path, weights: str) -> Context:
    (tmp_path / "work").mkdir(exist_ok=True)
    feature = {"encoder": "wavlm", "weights": weights}
    settings = {"features": {"wavlm": feature}, "models": {"voice": {"kind": "chunk_asp", "reads": "wavlm"}}, "publish": "voice"}
    places = {name: str(tmp_path / "work" / name) for name in ("cache", "weights")}
    return Plan(parse(settings | places), []).context("wavlm")


@pytest.mark.parametrize("name", LEADING_AWAY, ids=repr)
def test_a_record_whose_name_or_files_lead_elsewhere_is_refused_and_pins_nothing(tmp_path, weights, name):
    """The name becomes that of a file in the cache."""
    for said in ({"name": name}, {"sha256": {str(name): "0" * 64}} if isinstance(name, str) else {"sha256": name}):
        records.record_path(weights).unlink()
        records.record(weights, name="mine", source="a friend")
        alter(weights / RECORD, **said)
        with untouched(tmp_path), pytest.raises(WeightsError, match="does not read as a record") as raised:
            checkpoint(context(tmp_path, "mine"))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "said", [{"sha256": {"model.bin": "../x"}}, {"sha256": {"model.bin": 3}}, {"random": "no"}, {"source": 1}], ids=repr
)
def test_a_record_of_other_kinds_of_values_is_refused(weights, said):
    alter(weights / RECORD, **said)
    with pytest.raises(WeightsError, match="does not read as a record"):
        records.read_record(weights)


@pytest.mark.parametrize("name", ["../x.pt", "a/../../x.pt", "{tmp}/x.pt", "..", "."])
def test_weights_lie_below_their_folder(tmp_path, name):
    """A record would be written beside the file, and a pin under its name."""
    (tmp_path / "work/weights").mkdir(parents=True)
    (tmp_path / "x.pt").write_bytes(b"\0")
    (tmp_path / "work/x.pt").write_bytes(b"\0")
    with untouched(tmp_path), pytest.raises(WeightsError, match=r"want weights below .*weights, got .*; put them there, or set `weights`"):
        checkpoint(context(tmp_path, name.format(tmp=tmp_path)))


def test_weights_in_a_folder_below_are_pinned_within_the_cache(tmp_path):
    path = tmp_path / "work/weights/theirs/v2/x.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\0")
    for _ in range(2):
        assert checkpoint(context(tmp_path, "theirs/v2/x.pt")) == (path, ())
    assert (tmp_path / "work/cache/weights/theirs/v2/x.pt.json").is_file()


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"digest": 1}', "[" * 100_000], ids=lambda text: text[:9])
def test_a_pin_that_others_wrote_is_refused_in_one_line(tmp_path, text):
    disk.write_text(tmp_path / "cache/weights/mine.json", text)
    with pytest.raises(WeightsError, match="want the weights") as raised:
        pin(tmp_path / "cache", WeightsRecord("mine", False, "", "", {}))
    assert "\n" not in str(raised.value)


# ---- the store --------------------------------------------------------------------------------------------------------------------------


def put(folder: Path, id: str = "one") -> Path:
    """A stream in a folder of a key."""
    rows, path = np.arange(3.0), folder / streams.file_name(id.rpartition("/")[2], IDENTITY)
    header = Header("mesh", KEY, id, IDENTITY, {}, 1, {}, Fraction(25))
    streams.write(path, header, values=rows[:, None], start_s=rows, end_s=rows + 1, valid=rows >= 0)
    return path


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A folder of somebody, with what `verify` and `gc` would take for damage and rubbish in a cache."""
    folder = tmp_path / "elsewhere"
    (folder / "mesh" / KEY / "shards").mkdir(parents=True)
    for name in ("package.json", "x.h5", "x.flac", f"mesh/{KEY}/x.h5", f"mesh/{KEY}/shards/tsconfig.json", f"{KEY}/x.h5", ".x.0a1b.part"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    return folder


LINKS = {  # link in the cache -> what it leads to
    "a stage": ("mesh", "mesh"),
    "a key": (f"frames/{KEY}", f"mesh/{KEY}"),
    "a key to the top": (f"frames/{KEY}", "."),
    "the shards": (f"frames/{KEY}/shards", "."),
    "the shards of a sound folder": (f"frames/{KEY}/shards", f"mesh/{KEY}/shards"),
}


@pytest.mark.parametrize("case", LINKS)
def test_verify_and_gc_stay_in_the_cache(tmp_path, elsewhere, monkeypatch, capsys, case):
    link, target = LINKS[case]
    cache = tmp_path / "cache"
    (cache / link).parent.mkdir(parents=True, exist_ok=True)
    (cache / link).symlink_to(elsewhere / target, target_is_directory=True)
    with untouched(elsewhere):
        assert list(caches.verify(cache)) == []
        for folder in caches.folders(cache):
            assert folder.path.resolve().is_relative_to(cache)
        assert caches.links(cache) == [cache / link]
        monkeypatch.setattr(sys, "argv", ["affpipe", "cache", "verify", "--cache", str(cache)])
        with pytest.raises(SystemExit) as left:
            main.main()
        assert not left.value.code
        assert f"{cache / link}: a link, not followed" in capsys.readouterr().out


def test_gc_deletes_what_nobody_uses_and_nothing_behind_a_link(tmp_path, elsewhere, monkeypatch, capsys):
    run = Run(tmp_path)
    cache = tmp_path / "cache"
    put(cache / "mesh" / KEY)
    (cache / "mesh" / KEY / "photos").symlink_to(elsewhere, target_is_directory=True)
    (cache / "faces").mkdir(exist_ok=True)
    (cache / "faces" / KEY).symlink_to(elsewhere, target_is_directory=True)
    (cache / "old").symlink_to(elsewhere, target_is_directory=True)
    (cache / "mesh" / "photo-albums").mkdir()  # as long as a key
    monkeypatch.setattr("affpipe.jobs.start.plan_of", lambda paths: run.plan)
    monkeypatch.setattr(sys, "argv", ["affpipe", "cache", "gc", "--yes", "--days", "0"])
    with untouched(elsewhere), pytest.raises(SystemExit) as left:
        main.main()
    assert not left.value.code
    said = capsys.readouterr().out
    assert not (cache / "mesh" / KEY).exists()
    assert (cache / "mesh" / "photo-albums").is_dir()
    assert all(f"{cache / link}: a link, not followed" in said for link in ("old", f"faces/{KEY}"))


def test_a_cache_that_is_itself_a_link_is_a_cache(tmp_path):
    damaged, sound = put(tmp_path / "disk/mesh" / KEY), put(tmp_path / "disk/mesh" / KEY, "two")
    damaged.write_bytes(b"\0")
    (tmp_path / "cache").symlink_to(tmp_path / "disk", target_is_directory=True)
    ((path, _),) = caches.verify(tmp_path / "cache")
    assert path.name == damaged.name
    assert not damaged.exists()
    assert sound.exists()


def test_a_stream_that_is_a_link_goes_without_what_it_leads_to(tmp_path, elsewhere):
    folder = tmp_path / "cache/mesh" / KEY
    folder.mkdir(parents=True)
    (folder / "a.01234567.h5").symlink_to(elsewhere / "x.h5")
    (folder / ".b.0a1b.part").symlink_to(elsewhere / "gone")  # to nothing
    with untouched(elsewhere):
        assert [path.name for path, _ in caches.verify(tmp_path / "cache")] == ["a.01234567.h5"]


@pytest.mark.parametrize("id", ["../../../x", "/tmp/x"])
def test_a_stream_that_calls_itself_a_path_is_deleted_and_nothing_else(tmp_path, elsewhere, id):
    path = put(tmp_path / "cache/mesh" / KEY, id)
    with untouched(elsewhere):
        ((found, why),) = caches.verify(tmp_path / "cache")
    assert found == path
    assert "want the stream of its name" in why


@pytest.mark.parametrize("file", ["../../../elsewhere/x.h5", "/etc/passwd", "shards/x", ".", "..", 3, None], ids=repr)
def test_an_index_names_files_beside_it(tmp_path, elsewhere, file):
    path = tmp_path / "cache/mesh" / KEY / "shards/fit000-0.json"
    write_index(path, {"one": Entry("done", file)})
    with pytest.raises(StoreError, match="want an index of streams, got the entry") as raised:
        read_index(path)
    assert "\n" not in str(raised.value)
    with untouched(elsewhere):
        assert [found for found, _ in caches.verify(tmp_path / "cache")] == [path]


# ---- runs -------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return Run(tmp_path_factory.mktemp("run"))


def record(run: Run, folder: Path, **said: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(publish.record(run.plan) | said))
    return folder


@pytest.mark.parametrize("key", ["../../../x", "/tmp/x", "", "x", KEY + "/..", KEY.upper(), 3, None], ids=repr)
def test_the_key_of_a_model_is_a_key(run, tmp_path, key):
    """It names a folder of the cache, in which `affpipe predict` writes."""
    models = publish.record(run.plan)["models"]
    with pytest.raises(InputError, match="want the record of a finished run, got") as raised:
        runs.read_run(record(run, tmp_path / "r", models=models | {"face": key}))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("models", [{}, {"face": KEY}, [], None, {"face": KEY, "voice": KEY, "fused": KEY, "../x": KEY}], ids=repr)
def test_the_models_of_a_run_are_those_of_its_settings(run, tmp_path, models):
    with pytest.raises(InputError, match="want the record of a finished run, got"):
        runs.read_run(record(run, tmp_path / "r", models=models))


def test_a_run_whose_cache_is_no_cache_of_it_is_written_nowhere(run, tmp_path):
    """A run's record says where its cache is: a record from elsewhere may name any folder."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "notes.txt").write_text("mine")
    settings = publish.record(run.plan)["settings"] | {"cache": str(home)}
    video = tmp_path / "a.mp4"
    video.write_bytes(b"\0")
    with untouched(home), pytest.raises(InputError, match=r"want the cache in which its models were fitted, got no .*home/face/"):
        predict([video], record(run, tmp_path / "r", settings=settings), tmp_path / "out", subject="largest", progress=print, done=[])
    assert not (tmp_path / "out").exists()


def test_results_are_cleared_of_links_and_not_of_what_they_lead_to(tmp_path, elsewhere):
    (tmp_path / "r").mkdir()
    made = Run(tmp_path / "r")
    made.index()
    publish.publish(made.plan, made.entries)
    out = tmp_path / "r/results/small"
    (out / "report.html").unlink()
    (out / "report.html").symlink_to(elsewhere / "package.json")
    (out / ".publishing").symlink_to(elsewhere, target_is_directory=True)
    (out / "models/old").symlink_to(elsewhere, target_is_directory=True)  # no run's
    with untouched(elsewhere):
        publish.publish(made.plan, made.entries)
        assert not any((out / name).is_symlink() for name in ("report.html", ".publishing"))
        assert (out / "models/old").is_symlink()
        (out / "models").rename(tmp_path / "moved")
        (out / "models").symlink_to(elsewhere, target_is_directory=True)
        with pytest.raises(InputError, match="models: want a folder of the results, got a link"):
            publish.publish(made.plan, made.entries)


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x", ""], ids=repr)
def test_a_list_of_published_files_names_files_below_it(tmp_path, elsewhere, name):
    """What it names would be removed."""
    (tmp_path / "r").mkdir()
    (tmp_path / "r/files.txt").write_text(f"{published.HEAD}\n{name}\n")
    with untouched(tmp_path), pytest.raises(InputError, match=r"files\.txt: want paths of files below this folder") as raised:
        published.files(tmp_path / "r")
    assert "\n" not in str(raised.value)


# ---- tables -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["..", "../x", "../../x", "/tmp/x", "a/b", "", ".x", "a\0b", "a\\b"], ids=repr)
def test_a_template_names_no_file_elsewhere(tmp_path, name):
    """Its streams become files of the submission, and are looked for among the predictions."""
    (tmp_path / "pred").mkdir()
    (tmp_path / "template.txt").write_text(f"image_location,valence,arousal\n{name}/00001.jpg,\n")
    with untouched(tmp_path), pytest.raises(ManifestError, match=r"line 2: want a row like video/00001\.jpg"):
        make_submission.make(VA, tmp_path / "template.txt", tmp_path / "pred", tmp_path / "out", missing="default")


@pytest.mark.parametrize("name", ["..", "../x", "/tmp/x", "a/b"])
def test_a_manifest_and_a_curation_name_no_file_elsewhere(tmp_path, name):
    (tmp_path / "a.mp4").write_bytes(b"\0")
    (tmp_path / "m.csv").write_text(f"stream_id,video,partition\n{name},a.mp4,predict\n")
    with pytest.raises(ManifestError, match="row 2: want a stream_id of at most"):
        manifest.read(tmp_path / "m.csv", tmp_path)
    (tmp_path / "m.csv").write_text("stream_id,video,partition\na,a.mp4,predict\n")
    (tmp_path / "c.csv").write_text(f"stream_id,tracks\n{name},0\n")
    with pytest.raises(ManifestError, match="row 2: want a stream_id of the manifest"):
        manifest.read_decisions(tmp_path / "c.csv", manifest.read(tmp_path / "m.csv", tmp_path))


def test_every_file_of_every_stream_lies_in_the_folder_of_its_key(tmp_path):
    """Whatever a video may be called."""
    names = ["a..b", "..a", "~", "con", "a b", "-rf", "q\"u'o", "$(x)", "c:d", "back\\slash", "%2e%2e%2f", "é"]
    with (tmp_path / "m.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["stream_id", "video", "partition"])
        for i, name in enumerate(names):
            (tmp_path / f"{name}.mp4").write_bytes(name.encode() * 9)
            table.writerow([f"s{i}", f"{name}.mp4", "predict"])
    rows = [row for _, row in manifest.scan(tmp_path / "m.csv", tmp_path)[0]]
    assert len(rows) == len(names) - 1  # what begins with a dot is hidden
    settings = {"features": {"mesh": {"encoder": "mesh"}}, "models": {"face": {"kind": "transformer", "reads": "mesh"}}, "publish": "face"}
    plan = Plan(parse(settings | {"cache": str(tmp_path / "cache")}), rows)
    for name in plan.names:
        for item in plan.items(name):
            path = plan.stream(name, item)
            assert path.parent == plan.folder(name)
            assert path.resolve() == path
