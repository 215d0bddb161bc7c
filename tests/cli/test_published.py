"""A folder of results: nothing in it goes but what a run published, and half a publication is none."""

import json
import os
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_run import Run
from typer.testing import CliRunner

from affpipe.cli import main
from affpipe.core.errors import AffpipeError, InputError
from affpipe.jobs import failures
from affpipe.jobs.predict import predict
from affpipe.results import ledger, published
from affpipe.results import publish as publishing
from affpipe.results.publish import publish
from affpipe.results.runs import read_run
from affpipe.results.submission import make_submission
from affpipe.system import disk
from affpipe.system.job_record import JobRecord

OWN = ("notes.txt", "predictions/mine.csv", "models/mine/va/v1.txt", "official/va/mine.txt", "late_fusion/mine.csv", "by_video/mine.csv")


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    monkeypatch.setattr("affpipe.results.report.page.time", SimpleNamespace(strftime=lambda *_: "today", gmtime=lambda: None))
    made = Run(tmp_path)
    made.index()
    return made


def command(*words: str) -> str:
    with pytest.raises(AffpipeError) as raised:
        CliRunner().invoke(main.app, words, catch_exceptions=False)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# ---- files of others ---------------------------------------------------------------------------------------------------------------------


def test_publishing_removes_what_it_published_and_nothing_else(run, tmp_path):
    out = tmp_path / "results/small"
    publish(run.plan, run.entries)
    for name in OWN:
        disk.write_text(out / name, "mine")
    (out / "published").mkdir()
    (out / "published/notes.json").write_text("mine")
    before = content(out)
    run.entries["fused"]["t+1"] = run.entries["voice"]["t+1"] = run.entries["voice"]["p1"]  # it is predicted no more
    publish(run.plan, run.entries)
    after = content(out)
    gone = {"predictions/t+1.csv", "official/va/t+1.txt", "models/voice/va/t+1.txt"}
    assert before.keys() - after.keys() == gone
    assert after.keys() <= before.keys()
    assert {after[name] for name in (*OWN, "published/notes.json")} == {b"mine"}
    head, *listed = (out / "files.txt").read_text().splitlines()
    assert head == published.HEAD
    assert {*listed, "files.txt", "run.json", "published/notes.json", *OWN} == after.keys()


def test_a_folder_of_somebody_is_refused_in_one_line_before_anything_is_made(run, tmp_path):
    out = tmp_path / "results/small"
    disk.write_text(out / "thesis.tex", "mine")
    disk.write_text(out / "predictions/v1.csv", "mine")
    before = content(out)
    for publishes in (lambda: publish(run.plan, run.entries), lambda: ledger.write(run.plan, [])):
        with pytest.raises(InputError) as raised:
            publishes()
        shutil.rmtree(out / "published", ignore_errors=True)  # the lock
        assert str(raised.value).startswith(f"{out}: want a new folder for results, or that of a run, got one that holds predictions and")
        assert "\n" not in str(raised.value)
        assert content(out) == before


@pytest.mark.parametrize(
    ("name", "text"),
    [("files.txt", "thesis.tex\n"), ("files.txt", ""), ("run.json", "{}"), ("run.json", '{"run": 1, "settings": {}}'), ("run.json", "")],
)
def test_a_list_or_a_record_of_another_program_makes_no_folder_ones_own(run, tmp_path, name, text):
    out = tmp_path / "results/small"
    disk.write_text(out / "thesis.tex", "mine")
    disk.write_text(out / "predictions/v1.csv", "mine")
    disk.write_text(out / name, text)
    before = content(out)
    with pytest.raises(InputError, match="want a new folder for results, or that of a run, got one that holds "):
        publish(run.plan, run.entries)
    assert content(out) == before
    assert not published.known(out)


def test_a_file_that_stands_where_one_would_be_published_is_refused_and_nothing_is_replaced(run, tmp_path):
    out = tmp_path / "results/small"
    publish(run.plan, run.entries)
    published.withdraw(out, {"report.html"})
    (out / "report.html").write_text("mine")
    before = content(out)
    with pytest.raises(InputError, match=r"report\.html: want a place for a file of the results, got one that no run published; move it"):
        publish(run.plan, run.entries)
    assert content(out) == before
    (out / "report.html").unlink()
    (out / "report.html/mine").mkdir(parents=True)
    with pytest.raises(InputError, match=r"report\.html: want a place for a file of the results, got a folder; move it away"):
        publish(run.plan, run.entries)
    assert content(out) == {name: data for name, data in before.items() if name != "report.html"}


def test_results_of_a_version_that_made_no_list_are_published_over(run, tmp_path):
    out = tmp_path / "results/small"
    publish(run.plan, run.entries)
    sound = content(out)
    (out / "files.txt").unlink()
    publish(run.plan, run.entries)
    assert content(out) == sound


def test_the_ledger_of_a_stopped_run_is_its_own(run, tmp_path, monkeypatch):
    out, plan = tmp_path / "results/small", run.plan
    record = JobRecord("apply_mesh", plan.item("mesh", plan.items("mesh")[0]).id, plan.key("mesh"), "failed")
    shard = next(shard for shard in plan.shards if plan.items("mesh", shard))
    record.faults = {plan.items("mesh", shard)[0].id: "x.mp4: want a video, got none; mend it"}
    path = tmp_path / plan.record("mesh", shard)
    monkeypatch.chdir(tmp_path)
    record.write(path)
    failures.stopped(plan)
    assert content(out).keys() == {"failures.csv", "files.txt", "published/lock"}
    publish(plan, run.entries)
    assert {"failures.csv", "run.json"} <= content(out).keys()


# ---- half a publication ------------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """As if the process ended here."""


def killed_at(monkeypatch, n: int, run: Run) -> int:
    """Publish, and end at the n-th thing that is done to the folder; return how many were done."""
    done = 0
    real = {os.replace: "replace", Path.unlink: "unlink"}

    def counted(original):
        def step(*args, **kwargs):
            nonlocal done
            if n == done and ".publishing" not in str(args[-1]):
                raise Killed
            done += ".publishing" not in str(args[-1])
            return original(*args, **kwargs)

        return step

    with monkeypatch.context() as patch:
        for original, name in real.items():
            patch.setattr(os if name == "replace" else Path, name, counted(original))
        try:
            publish(run.plan, run.entries)
        except Killed:
            return n
    return done


def test_a_publication_that_is_cut_short_anywhere_is_whole_or_none(run, tmp_path, monkeypatch):
    """Either the old state, or the new one, or a folder that every reader refuses; and one more publication makes it whole."""
    out = tmp_path / "results/small"
    publish(run.plan, run.entries)
    old = content(out)
    late = run.entries["fused"]["t+1"], run.entries["voice"]["p1"]
    states, n, seen = [], 0, set()
    while True:
        run.entries["fused"]["t+1"] = late[1]
        finished = killed_at(monkeypatch, n, run) < n
        found = content(out)
        if "run.json" not in found:
            seen.add("half")
            assert "got a run that is not published whole; run the workflow, which publishes it anew" in refusal(out)
        else:
            seen.add("old" if found["report.html"] == old["report.html"] else "new")
            states.append({name: data for name, data in found.items() if not name.startswith(".") and name != published.FILES})
        run.entries["fused"]["t+1"] = late[0]
        publish(run.plan, run.entries)
        disk.sweep(out)  # as the job does: what is half written is of a process that is gone
        assert {name: data for name, data in content(out).items() if not name.startswith(".")} == old
        if finished:
            break
        n += 1 if n < 6 else 17
    assert seen == {"old", "half", "new"}
    assert len({tuple(sorted(state.items())) for state in states}) == 2  # whole ones: nothing of the one in the other


def refusal(out: Path) -> str:
    with pytest.raises(InputError) as raised:
        read_run(out)
    return str(raised.value)


def test_evaluate_submit_and_predict_take_no_half_publication(run, tmp_path):
    out = tmp_path / "results/small"
    publish(run.plan, run.entries)
    (tmp_path / "template.txt").write_text("image_location,valence,arousal\nt+1/00001.jpg,\n")
    (out / "run.json").unlink()
    want = f"{out}/run.json: want the record of a finished run, got a run that is not published whole; run the workflow, which"
    assert command("evaluate", "--run", str(out)).startswith(want)
    assert command("submit", "--run", str(out), "--template", str(tmp_path / "template.txt"), "--out", str(tmp_path / "o")).startswith(want)
    assert not (tmp_path / "o").exists()
    with pytest.raises(InputError) as raised:
        predict([tmp_path / "x.mp4"], out, tmp_path / "o", subject="largest", progress=print, done=[])
    assert str(raised.value).startswith(want)


def test_submit_and_evaluate_take_no_run_that_changes_while_it_is_read(run, tmp_path, monkeypatch):
    out = tmp_path / "results/small"
    publish(run.plan, run.entries)
    (tmp_path / "template.txt").write_text("image_location,valence,arousal\nt+1/00001.jpg,\n")
    record = json.loads((out / "run.json").read_text())

    def meanwhile(real):
        def read(*args, **kwargs):
            (out / "run.json").write_text(json.dumps(record | {"run": "of another state"}))
            return real(*args, **kwargs)

        return read

    want = f"{out}: want one state of the run, got another while it was read; run the same command again"
    with monkeypatch.context() as patch:
        patch.setattr("affpipe.results.submission.make_submission._cells", meanwhile(make_submission._cells))
        assert command("submit", "--run", str(out), "--template", str(tmp_path / "template.txt"), "--out", str(tmp_path / "o")) == want
    assert not (tmp_path / "o").exists()
    (out / "run.json").write_text(json.dumps(record))
    monkeypatch.setattr("affpipe.results.publish.read_scores", meanwhile(publishing.read_scores))
    assert command("evaluate", "--run", str(out)) == want


def test_one_publishes_to_a_folder_at_a_time(tmp_path):
    order = []

    def second():
        with published.alone(tmp_path / "r"):
            order.append("second")

    with published.alone(tmp_path / "r"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
