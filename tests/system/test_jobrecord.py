"""Records of jobs: what they say while a job runs, after it, and when it was killed."""

import os
import subprocess
import sys
import time

import pytest

from affpipe.core.errors import MediaError
from affpipe.system import job_record
from affpipe.system.job_record import JobRecord, recording


def test_a_job_that_ends_well_is_done(tmp_path):
    path = tmp_path / "logs/x.json"
    with recording(path, JobRecord("apply_frames", "fit000", "k", total=3)) as record:
        assert JobRecord.read(path).state == "running"
        record.done = 3
    found = JobRecord.read(path)
    assert (found.state, found.done, found.total, found.pid) == ("done", 3, 3, os.getpid())
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize("error", [MediaError("a.mp4: damaged"), ZeroDivisionError("a.mp4: damaged"), KeyboardInterrupt("a.mp4: damaged")])
def test_a_job_that_fails_says_why(tmp_path, error):
    path = tmp_path / "x.json"
    with pytest.raises(type(error)), recording(path, JobRecord("apply_frames")):
        raise error
    found = JobRecord.read(path)
    assert found.state == "failed"
    assert found.reason.endswith("a.mp4: damaged")


def test_a_job_whose_process_is_gone_was_killed(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    path = tmp_path / "x.json"
    JobRecord("apply_frames", pid=int(done.stdout)).write(path)
    assert JobRecord.read(path).state == "killed"


def test_a_job_on_another_node_lives_as_long_as_it_gives_signs(tmp_path):
    path = tmp_path / "x.json"
    JobRecord("apply_frames", host="elsewhere", pid=1).write(path)
    assert JobRecord.read(path).state == "running"
    silent = JobRecord.read(path)
    silent.updated = time.time() - job_record.SILENT_S - 1
    assert not silent.alive()


def test_a_running_job_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(job_record, "BEAT_S", 0.01)
    path = tmp_path / "x.json"
    with recording(path, JobRecord("apply_frames")) as record:
        first, record.done = JobRecord.read(path), 7
        end = time.monotonic() + 10
        while JobRecord.read(path).done != 7 and time.monotonic() < end:
            time.sleep(0.01)
        assert JobRecord.read(path).done == 7
        assert JobRecord.read(path).updated > first.updated


def test_a_record_that_cannot_be_read_is_none(tmp_path):
    assert JobRecord.read(tmp_path / "none.json") is None
    (tmp_path / "x.json").write_text('{"job": "a", "of_another_version": 1}')
    assert JobRecord.read(tmp_path / "x.json") is None
