"""One item's fault is never the end of the others: exceptions of libraries, of the machine, of the code; terminals, locks, names."""

import errno
import fcntl
import importlib
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from one_stage import Stage, apply, rows
from small_run import Run

from affpipe.cli import main
from affpipe.core.errors import AbsentError, InputError, MediaError, PartError, StoreError
from affpipe.core.stage import Context
from affpipe.data.importers import facts
from affpipe.jobs import apply as jobs
from affpipe.jobs import durations, predict
from affpipe.jobs.doctor import videos as doctor_videos
from affpipe.models.predictor import model_path
from affpipe.plan.plan import Plan
from affpipe.results.publish import record
from affpipe.store import streams
from affpipe.store.index import Entry
from affpipe.store.item_streams import Job, Worker
from affpipe.system import disk, faults, processes
from affpipe.system.job_record import JobRecord, recording


@pytest.fixture
def plan(small_plan) -> Plan:
    return small_plan("abcdef")


class Broken(Stage):
    """A stage in which some items end in an exception of a library, each raised by the line of its own function."""

    def __init__(self, ends: dict[str, Callable[[], None]]):
        super().__init__()
        self.ends = ends

    def work(self, job: Job) -> None:
        self.seen.append(job.item.id)
        self.ends.get(job.item.id, lambda: None)()
        rows(job)


def of_opencv() -> None:
    cv2.cvtColor(np.zeros((0, 0, 3), np.uint8), cv2.COLOR_RGB2BGR)


def of_numpy() -> None:
    np.zeros(3).reshape(2, 2)


def of_python() -> None:
    raise ZeroDivisionError("one; two\nthree")


def end(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


# ---- an item's -------------------------------------------------------------------------------------------------------------------------


def test_an_exception_of_a_library_is_a_failure_of_its_item_and_the_others_are_made(plan, caplog):
    caplog.set_level(logging.INFO, logger="affpipe")
    stage = Broken({"b": of_opencv, "d": of_numpy, "e": of_python})
    made = apply(plan, "frames", stage)
    assert stage.seen == list("abcdef")
    assert [entry.status for entry in made.values()] == ["done", "failed", "done", "failed", "failed", "done"]
    assert "b.mp4: frames: want a file that it gets through, got cv2.error: OpenCV(" in made["b"].reason
    assert "got ValueError: cannot reshape array of size 3 into shape (2,2) (test_isolation:" in made["d"].reason
    assert "got ZeroDivisionError: one, two three (test_isolation:" in made["e"].reason
    for entry in made.values():
        assert "\n" not in entry.reason
        assert entry.reason.count("; ") == (entry.status == "failed")  # before the remedy, where the ledger cuts
    assert "Traceback" in caplog.text
    assert "frames: e: what ended it:" in caplog.text


def test_the_record_of_the_job_has_the_reasons(plan):
    record = JobRecord("apply_frames")
    jobs.apply(plan, "frames", plan.items("frames"), {}, Broken({"b": of_python}), lambda *_: None, record)
    assert (record.failed, record.made, list(record.faults)) == (1, 5, ["b"])


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_lose_no_other_item_either(plan, threads):
    stage = Broken({"a": of_python, "d": of_numpy})
    made = jobs.apply(plan, "frames", plan.items("frames"), {}, stage, lambda *_: None, threads=threads)
    assert [entry.status for entry in made.values()] == ["failed", "done", "done", "failed", "done", "done"]
    assert sorted(stage.seen) == list("abcdef")


def test_the_place_of_an_exception_is_its_module_and_not_one_of_many_files_of_a_name(tmp_path, monkeypatch):
    package = tmp_path / "their_package/loud"
    package.mkdir(parents=True)
    (package / "worker.py").write_text("def work(job):\n    raise RuntimeError('my code broke here')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError) as caught:
        importlib.import_module("their_package.loud.worker").work(None)
    assert faults.words(caught.value) == "RuntimeError: my code broke here (their_package.loud.worker:2)"
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile("1 / 0", "/somewhere/made_up.py", "exec"), {})
    assert faults.words(caught.value) == "ZeroDivisionError: division by zero (made_up.py:1)"


def test_a_long_text_is_cut_and_no_reason_has_more_than_one_line():
    try:
        raise ValueError("x\n" * 4000)
    except ValueError as error:
        words = faults.words(error)
    assert len(words) < faults.TEXT + 80
    assert "\n" not in words


# ---- the machine's ---------------------------------------------------------------------------------------------------------------------

OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})  # torch's, by name


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 90 GiB"),
        OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        StoreError("x.h5: want a whole stream, got half"),
    ],
)
def test_a_fault_of_the_machine_stops_the_job(plan, error, threads):
    with pytest.raises(type(error)):
        jobs.apply(plan, "frames", plan.items("frames"), {}, Broken({"b": end(error)}), lambda *_: None, threads=threads)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE])
def test_a_spent_disk_or_table_of_files_stops_the_job_whichever_file_it_was(plan, number):
    error = OSError(number, os.strerror(number), "/elsewhere/x")
    with pytest.raises(StoreError, match=rf"frames: b: want to use it, got {os.strerror(number)}; "):
        apply(plan, "frames", Broken({"b": end(error)}))


def test_a_disk_that_does_not_read_is_the_machines_in_the_store_and_the_items_elsewhere(plan):
    words = os.strerror(errno.EIO)
    within = OSError(errno.EIO, words, str(plan.cache / "frames/x.h5"))
    with pytest.raises(StoreError, match=f"got {words}"):
        apply(plan, "frames", Broken({"b": end(within)}))
    made = apply(plan, "frames", Broken({"b": end(OSError(errno.EIO, words, "/videos/b.mp4"))}))
    assert [id for id, entry in made.items() if entry.status == "failed"] == ["b"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("threads", [1, 3])
def test_an_interrupt_amid_an_item_stops_always(plan, error, threads):
    with pytest.raises(type(error)):
        jobs.apply(plan, "frames", plan.items("frames"), {}, Broken({"b": end(error)}), lambda *_: None, threads=threads)


# ---- the code's ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_three_like_ends_at_the_beginning_of_a_larger_job_are_a_bug_and_stop_it(plan, threads):
    stage = Broken(dict.fromkeys("abcdef", of_python))
    with pytest.raises(ZeroDivisionError) as caught:
        jobs.apply(plan, "frames", plan.items("frames"), {}, stage, lambda *_: None, threads=threads)
    assert 3 <= len(stage.seen) < 3 + threads
    (note,) = caught.value.__notes__
    assert "the first 3 items all ended so, and no file is at fault: ZeroDivisionError: one, two three (test_isolation:" in note


@pytest.mark.parametrize(
    "ends",
    [
        {"b": of_python, "c": of_python, "d": of_python},  # not the first three
        {"a": of_python, "b": of_numpy, "c": of_python},  # of two types
        {"a": of_python, "b": end(ZeroDivisionError()), "c": of_python},  # at two lines
        dict.fromkeys("abcdef", end(MediaError("x.mp4: want a video, got none"))),  # affpipe's own
        {"a": of_python, "b": end(AbsentError("b.mp4: no sound")), "c": of_python, "d": of_python},
    ],
)
def test_all_else_is_the_items_fault(plan, ends):
    stage = Broken(ends)
    made = apply(plan, "frames", stage)
    assert stage.seen == list("abcdef")
    assert {id for id, entry in made.items() if entry.status != "done"} == set(ends)


@pytest.mark.parametrize("names", ["a", "ab", "abc"])
def test_a_job_of_three_marks_its_items_and_goes_on(small_plan, names):
    made = apply(small_plan(names), "frames", Broken(dict.fromkeys(names, of_python)))
    assert {entry.status for entry in made.values()} == {"failed"}
    assert len(made) == len(names)


def test_a_bug_of_a_part_ends_a_command_in_its_traceback_and_a_line(monkeypatch, capsys, caplog):
    def app() -> None:
        raise PartError("mesh: want this,\ngot that; mend it")

    monkeypatch.setattr(main, "app", app)
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 1
    assert capsys.readouterr().err == "affpipe: mesh: want this,\\ngot that; mend it\n"
    assert caplog.records[0].exc_info[0] is PartError


def test_a_bug_of_a_part_is_the_reason_in_the_record_of_its_job(tmp_path):
    record = JobRecord("apply_mesh")
    with pytest.raises(PartError), recording(tmp_path / "x.json", record):
        raise PartError("mesh: want this, got that; mend it")
    assert JobRecord.read(tmp_path / "x.json").reason == "mesh: want this, got that; mend it"


# ---- disks -----------------------------------------------------------------------------------------------------------------------------


def test_a_folder_where_a_file_should_go_is_said_in_a_line(tmp_path):
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(StoreError, match=r"table\.csv: want to write it, got Is a directory; a folder has that name: move it away"):
        disk.write_text(tmp_path / "table.csv", "a,b\n")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_a_file_where_a_folder_should_go_is_said_in_a_line(tmp_path):
    (tmp_path / "out").write_text("")
    for path in (tmp_path / "out/a.csv", tmp_path / "out/deeper/a.csv"):
        with pytest.raises(StoreError, match=r"want a folder to write to, got .*; a file stands where a folder should"):
            disk.write_text(path, "a,b\n")
    with pytest.raises(StoreError, match="a file stands where a folder should"), disk.alone(tmp_path / "out/x.lock"):
        pass


def test_what_ffmpeg_says_of_damaged_data_is_no_fault_of_the_disk_that_is_written_to(tmp_path):
    import av

    with pytest.raises(av.error.PermissionError), disk.telling(tmp_path / "x.h5"):
        raise av.error.PermissionError(errno.EPERM, "Operation not permitted")
    with pytest.raises(StoreError, match="No space left"), disk.telling(tmp_path / "x.h5"):
        raise av.error.OSError(errno.ENOSPC, "No space left on device")


def test_streams_are_written_and_read_where_there_are_no_locks(plan, monkeypatch, tmp_path, caplog):
    """A lock that another holds stands for one that the file system refuses: HDF5 must not ask for it."""
    made = apply(plan, "frames", Stage())
    path = plan.stream("frames", plan.items("frames")[0])
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert made["a"] == Entry("done", path.name, 3)
        with streams.Stream(path) as stream:
            assert len(stream) == 3

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with disk.alone(tmp_path / "fit.lock"):
        pass
    assert "this file system has no locks (No locks available); going on without" in caplog.text


# ---- terminals -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_a_character_gets_its_number(tmp_path, encoding):
    """Of a name on standard output, on standard error, and in a table."""
    name = tmp_path / "видео.csv"
    name.write_text("stream_id,video,partition\n")
    done = subprocess.run(
        [sys.executable, "-m", "affpipe", "manifest", "check", str(name)],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(main.__file__).parents[1])},
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, 2)
    assert b"Traceback" not in done.stderr
    assert rb"\u0432\u0438\u0434\u0435\u043e.csv" in done.stdout


def test_an_error_of_the_system_that_names_a_file_is_one_line(monkeypatch, capsys):
    def app() -> None:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), "out/table.csv")

    monkeypatch.setattr(main, "app", app)
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 2
    said = "affpipe: out/table.csv: want to use it, got Is a directory; a folder has that name: move it away, or choose another place\n"
    assert capsys.readouterr().err == said


def test_a_file_that_is_not_there_is_a_bug_where_nobody_asked_for_it(monkeypatch):
    def app() -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "x")

    monkeypatch.setattr(main, "app", app)
    with pytest.raises(FileNotFoundError):
        main.main()


# ---- videos of the user ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path, monkeypatch) -> tuple[Path, Run]:
    """The folder of a finished run whose stages are fakes: each writes rows of the right form, but for a video named `strip`."""
    run = Run(tmp_path)
    results = tmp_path / "results/small"
    disk.write_text(results / "run.json", json.dumps(record(run.plan)))
    for model in run.plan.settings.models:
        model_path(run.plan.folder(model)).write_bytes(b"")

    plans, real = [], predict.Plan
    monkeypatch.setattr(predict, "Plan", lambda *args, **more: plans.append(real(*args, **more)) or plans[-1])

    def start(context: Context) -> Worker:
        fake = Run.__new__(Run)
        fake.plan, fake.demo, fake.random, fake.sounds, fake.tracks = plans[-1], (), (), {}, {}

        def work(job: Job) -> None:
            if context.name == "mesh" and job.item.id == "strip":
                of_python()
            if job.path.suffix == ".flac":
                raise AbsentError(f"{job.video}: no sound")
            fake._write(job.name, job.item)

        return work

    monkeypatch.setattr(predict.workers, "start", start)
    return results, run


def film(path: Path, content: bytes = b"a film") -> Path:
    path.write_bytes(content)
    return path


def test_a_video_that_cannot_be_used_costs_predict_nothing_but_itself(finished, tmp_path):
    results, _ = finished
    out, done = tmp_path / "out", []
    (out / "taken.csv").mkdir(parents=True)
    names = ("good", "strip", "empty", "lost", "taken", ".hidden", "other")
    videos = [film(tmp_path / f"{name}.mp4", b"" if name == "empty" else name.encode()) for name in names]
    videos[3].unlink()
    with pytest.raises(MediaError) as caught:
        predict.predict(videos, results, out, subject="largest", progress=lambda *_: None, done=done)
    assert sorted(path.name for path in out.iterdir()) == [
        "good.csv",
        "good.json",
        "good.png",
        "other.csv",
        "other.json",
        "other.png",
        "taken.csv",
    ]
    assert [found.table.stem for found in done] == ["good", "other"]
    for said in (
        "empty.mp4: want a media file, got an empty one",
        "lost.mp4: want a video file, got nothing",
        "taken.csv: want a file to write, got a folder of that name; move it away, or choose another place",
        ".hidden.mp4': want a file name",
        "strip.mp4: mesh: want a file that it gets through, got ZeroDivisionError: one, two three",
    ):
        assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_predict_says_all_that_is_wrong_where_no_video_can_be_used(finished, tmp_path):
    results, _ = finished
    with pytest.raises(MediaError, match=r"a\.mp4: want a video file, got nothing.*b\.mp4: want a media file, got an empty one"):
        predict.predict(
            [tmp_path / "a.mp4", film(tmp_path / "b.mp4", b"")], results, tmp_path / "out", subject="left", progress=print, done=[]
        )
    assert not (tmp_path / "out").exists()


def test_a_table_that_cannot_be_drawn_costs_predict_nothing_but_itself(finished, tmp_path, monkeypatch):
    results, _ = finished
    real = predict.report.trajectories

    def draw(path: Path, id: str, *series: object) -> None:
        if id == "a":
            of_numpy()
        real(path, id, *series)

    monkeypatch.setattr(predict.report, "trajectories", draw)
    videos, done = [film(tmp_path / f"{name}.mp4", name.encode()) for name in "ab"], []
    with pytest.raises(MediaError, match=r"a\.mp4: predict: want a file that it gets through, got ValueError: cannot reshape"):
        predict.predict(videos, results, tmp_path / "out", subject="largest", progress=lambda *_: None, done=done)
    assert [found.table.stem for found in done] == ["b"]


# ---- looking at many videos ------------------------------------------------------------------------------------------------------------


def broken_at(path: Path, *_: object, **__: object) -> object:
    """In place of a look at a video: an exception of a library, or the end of the process."""
    if path.stem == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if path.stem == "odd":
        of_numpy()
    raise MediaError(f"{path}: looked at")


def test_a_video_that_ends_in_an_exception_is_a_fault_of_its_own_in_every_look(monkeypatch, small_plan):
    monkeypatch.setattr(facts, "video_track", broken_at)
    assert facts.video(Path("odd.mp4"), False).error.startswith("odd.mp4: want a file that it gets through, got ValueError: cannot reshape")
    monkeypatch.setattr(doctor_videos, "declared", broken_at)
    assert "got ValueError" in doctor_videos.look(Path("odd.mp4"))
    monkeypatch.setattr("affpipe.media.declared.declared", broken_at)
    plan = small_plan(["odd", "b"])
    with pytest.raises(InputError, match="want a video that opens, got none"):
        durations.of(plan)


@pytest.mark.parametrize("look", [facts.video, doctor_videos.look])
def test_a_machine_that_is_spent_ends_a_look(monkeypatch, look):
    def spent(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(facts, "video_track", spent)
    monkeypatch.setattr(doctor_videos, "declared", spent)
    with pytest.raises(MemoryError):
        look(Path("a.mp4"), *((False,) if look is facts.video else ()))


def test_a_decoder_that_takes_its_process_with_it_costs_an_audit_one_video(monkeypatch):
    fork = multiprocessing.get_context("fork")  # quick, and what is patched here is so there
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda _: fork)
    monkeypatch.setattr(facts, "video_track", broken_at)
    found = facts.videos([Path(f"{name}.mp4") for name in ("dies", "a", "odd", "b")], quick=False, jobs=2, progress=lambda *_: None)
    assert found[Path("dies.mp4")].error == "dies.mp4: want a readable video, got one that ends the process that decodes it; take it out"
    assert found[Path("a.mp4")].error == "a.mp4: looked at"
    assert "got ValueError" in found[Path("odd.mp4")].error
    assert found[Path("b.mp4")].error == "b.mp4: looked at"
