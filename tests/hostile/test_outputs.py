"""What a person names to be written: links, pipes and devices stay what they are, and what takes no more is one line."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from affpipe.core.errors import InputError, StoreError
from affpipe.core.tasks.table import VA
from affpipe.data.annotations import write_labels
from affpipe.data.importers import folder as own_videos
from affpipe.data.importers.write_manifest import make
from affpipe.jobs import predict
from affpipe.results.submission import make_submission
from affpipe.system import outputs
from affpipe.system.weights.convert import convert

ROOT = Path(__file__).resolve().parents[2]
FULL = "got No space left on device; free space (`affpipe cache gc` shows what no run uses), then run again"


def device(path: Path, minor: int) -> Path:
    """A device of its own like /dev/null (3) or /dev/full (7)."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        path.open("w").close()
    except OSError:
        pytest.skip("devices cannot be made here")
    return path


def affpipe(*words: object, unbuffered: bool = False, **options) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1" if unbuffered else ""}
    return subprocess.run(
        [sys.executable, "-m", "affpipe", *map(str, words)], env=env, text=True, check=False, **{"stderr": subprocess.PIPE, **options}
    )


@pytest.fixture
def scored(tmp_path) -> tuple[object, ...]:
    """Words of a command that scores three videos."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        truth = np.round(rng.uniform(-1, 1, (40, 2)), 6)
        write_labels(VA, tmp_path / "truth" / f"{name}.txt", truth, np.ones(40, bool))
        write_labels(VA, tmp_path / "pred" / f"{name}.txt", truth / 2, np.ones(40, bool))
    return "evaluate", "--truth", tmp_path / "truth", "--pred", tmp_path / "pred"


# ---- what stands there ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path, there):
    target, link = tmp_path / "more" / "x.txt", tmp_path / "link"
    target.parent.mkdir()
    if there:
        target.write_text("before")
    link.symlink_to("more/x.txt")
    outputs.write_text(link, "after\n")
    assert (link.readlink(), target.read_text()) == (Path("more/x.txt"), "after\n")
    assert sorted(path.name for path in target.parent.iterdir()) == ["x.txt"]


def test_a_pipe_gets_the_text_and_stays_one(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    outputs.write_text(pipe, "one\ntwo\n")
    reader.join(10)
    assert got == ["one\ntwo\n"]
    assert pipe.is_fifo()


def test_a_device_takes_the_text_and_stays_one(tmp_path):
    null = device(tmp_path / "null", 3)
    (tmp_path / "link").symlink_to("null")
    for path in (null, tmp_path / "link"):
        outputs.write_text(path, "text\n")
    assert null.is_char_device()
    with pytest.raises(InputError, match="null: want a file to write, got a device of that name; move it away, or choose another place"):
        outputs.place(null)


def test_a_device_that_takes_no_more_is_one_line(tmp_path):
    full = device(tmp_path / "full", 7)
    with pytest.raises(StoreError) as caught:
        outputs.write_text(full, "text\n")
    assert str(caught.value) == f"{full}: want to write to it, got No space left on device; choose another place"
    assert full.is_char_device()


@pytest.mark.parametrize("what", ["a folder", "a pipe", "a socket", "a link to itself"])
def test_what_is_no_file_is_refused_where_a_file_is_to_be(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    match what:
        case "a folder":
            Path("x").mkdir()
        case "a pipe":
            os.mkfifo("x")
        case "a link to itself":
            Path("x").symlink_to("x")
        case "a socket":
            with socket.socket(socket.AF_UNIX) as end:
                end.bind("x")
    with pytest.raises(InputError, match=f"x: want a file to write, got {what} of that name; move it away"):
        outputs.place(Path("x"))
    before = os.lstat("x").st_ino
    if what != "a pipe":
        with pytest.raises(InputError, match=f"got {what} of that name"):
            outputs.write_text(Path("x"), "text")
    assert os.lstat("x").st_ino == before


def test_standard_output_gets_figures_after_what_was_printed(scored, tmp_path):
    piped = affpipe(*scored, "--json", "/dev/stdout", stdout=subprocess.PIPE)
    assert (piped.returncode, piped.stderr) == (0, "")
    table, _, figures = piped.stdout.partition("\n{\n")
    assert "constant per video" in table
    assert json.loads("{" + figures)[str(tmp_path / "pred")]["va"]["frames"] == 120
    with (tmp_path / "said").open("w") as file:
        assert affpipe(*scored, "--json", "/dev/stdout", stdout=file).returncode == 0
    assert (tmp_path / "said").read_text() == piped.stdout


# ---- every command that writes where a person says ---------------------------------------------------------------------------------------


def test_a_checkpoint_is_converted_to_where_a_link_leads(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pt")
    (tmp_path / "link.safetensors").symlink_to("new.safetensors")
    convert(tmp_path / "a.pt", tmp_path / "link.safetensors")
    assert (tmp_path / "link.safetensors").is_symlink()
    assert (tmp_path / "new.safetensors").stat().st_size > 12


def test_a_manifest_goes_to_where_a_link_leads_and_replaces_no_pipe(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.mp4").write_bytes((ROOT / "tests" / "conftest.py").read_bytes())
    (tmp_path / "link.csv").symlink_to("m.csv")
    (tmp_path / "link_audit.csv").symlink_to("audit.csv")

    def write(out: Path) -> None:
        make(own_videos.collect(data, "", 0.2), out, progress=lambda *_: None)

    write(tmp_path / "link.csv")
    assert (tmp_path / "m.csv").read_text().startswith("stream_id,video")
    assert (tmp_path / "audit.csv").is_file()
    assert (tmp_path / "link.csv").is_symlink()
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match=r"pipe\.csv: want a file to write, got a pipe"):
        write(tmp_path / "pipe.csv")
    os.mkfifo(tmp_path / "new_audit.json")
    with pytest.raises(InputError, match=r"new_audit\.json: want a file to write, got a pipe"):
        write(tmp_path / "new.csv")
    assert not (tmp_path / "new.csv").exists()


@pytest.fixture
def template(tmp_path) -> Path:
    rows = "".join(f"a/{frame:05d}.jpg,\n" for frame in range(1, 41))
    (tmp_path / "template.txt").write_text(f"image_location,valence,arousal\n{rows}")
    return tmp_path / "template.txt"


def test_a_submission_goes_to_where_links_lead_and_replaces_no_device(scored, template, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    out.mkdir()
    other.mkdir()
    for name in ("va_submission.zip", "va_predictions.txt", "va"):
        (out / name).symlink_to(other / name)
    for _ in range(2):  # into nothing, then over what is there
        make_submission.make(VA, template, tmp_path / "pred", out)
        assert all((out / name).is_symlink() for name in ("va_submission.zip", "va_predictions.txt", "va"))
        assert sorted(path.name for path in other.iterdir()) == ["va", "va_predictions.txt", "va_submission.zip"]
        assert [path.name for path in (other / "va").iterdir()] == ["a.txt"]
    (out / "va_submission.zip").unlink()
    os.mkfifo(out / "va_submission.zip")
    with pytest.raises(InputError, match=r"va_submission\.zip: want a file to write, got a pipe"):
        make_submission.make(VA, template, tmp_path / "pred", out)


@pytest.mark.parametrize("name", ["va", "va_submission.zip", "va_predictions.txt"])
def test_a_submission_goes_to_no_link_that_leads_to_itself(scored, template, tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(name)
    with pytest.raises(InputError, match=rf"out/{name}: want a .*, got a link to itself"):
        make_submission.make(VA, template, tmp_path / "pred", tmp_path / "out")


def test_predictions_replace_no_pipe(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x" * 5000)
    os.mkfifo(tmp_path / "a.png")
    rows, failed = predict._rows([tmp_path / "a.mp4"], "largest", tmp_path)
    assert rows == []
    assert failed == [f"{tmp_path / 'a.png'}: want a file to write, got a pipe of that name; move it away, or choose another place"]
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.csv").symlink_to("elsewhere.csv")
    assert predict._files("a", tmp_path) == (tmp_path / "elsewhere.csv", tmp_path / "a.png", tmp_path / "a.json")


# ---- what takes no more -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unbuffered", [True, False])
def test_standard_output_that_takes_no_more_is_one_line(scored, tmp_path, unbuffered):
    full = device(tmp_path / "full", 7)
    for words in (scored, ["schema"], ["--version"]):
        with full.open("w") as file:
            done = affpipe(*words, unbuffered=unbuffered, stdout=file)
        assert (done.returncode, done.stderr) == (2, f"affpipe: standard output: want to use it, {FULL}\n")
    with full.open("w") as file:
        help = affpipe("--help", unbuffered=unbuffered, stdout=file)
        fault = affpipe("evaluate", "--truth", tmp_path / "none", "--pred", tmp_path, stdout=subprocess.PIPE, stderr=file)
    assert (help.returncode, help.stderr.count("\n")) == (2, 1)
    assert "No space left on device" in help.stderr
    assert (fault.returncode, fault.stdout) == (2, "")


@pytest.mark.parametrize("unbuffered", [True, False])
def test_who_reads_no_further_is_no_fault(unbuffered):
    for words in (["schema"], ["--version"]):
        end, start = os.pipe()
        os.close(end)
        done = affpipe(*words, unbuffered=unbuffered, stdout=start)
        os.close(start)
        assert (done.returncode, done.stderr) == (1, "")


def test_closed_streams_are_nobodys_to_tell(scored, tmp_path):
    command = f"{sys.executable} -m affpipe {' '.join(map(str, scored))} --json {tmp_path / 's.json'}"
    done = subprocess.run(f"{command} >&- 2>{tmp_path / 'said'}", shell=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert (done.returncode, (tmp_path / "said").read_text()) == (0, "")
    assert (tmp_path / "s.json").is_file()


@pytest.fixture
def small(tmp_path) -> list[str]:
    """Words before those of python, which may write no file above 512 bytes then."""
    return ["bash", "-c", 'ulimit -f 1; exec "$@"', "-", sys.executable]


ONE_SECOND = """
from affpipe.cli.main import main
from affpipe.data.demo.clips import Clip
from affpipe.data.demo.render import render

render.__kwdefaults__["clips"] = (Clip("one", "train", 1),)
main()
"""


@pytest.mark.parametrize("what", ["windows", "figures", "weights", *(pytest.param(x, marks=pytest.mark.slow) for x in ("demo", "tiny"))])
def test_a_file_that_may_not_grow_is_one_line(scored, small, tmp_path, what):
    out = tmp_path / "out" / "x.safetensors"
    out.parent.mkdir()
    program = ["-m", "affpipe"] if what != "demo" else ["-c", ONE_SECOND]  # with a whole set to draw it takes a minute
    match what:
        case "windows":
            (tmp_path / "masks").mkdir()
            (tmp_path / "masks" / "a.csv").write_text("frame,mouth_open\n" + "".join(f"{i},1\n" for i in range(1, 101)))
            (tmp_path / "w.csv").write_text("stream,start_frame,end_frame,fps\n" + "a,0,100,25\n" * 200)
            words = ["mouth", "windows", "--openmouth", tmp_path / "masks", "--windows", tmp_path / "w.csv", "--out", out]
        case "figures":
            words = [*scored, "--json", out]
        case "weights":
            torch.save({"a": torch.arange(9999.0)}, tmp_path / "a.pt")
            words = ["weights", "convert", tmp_path / "a.pt", out]
        case "demo":
            words = ["demo", "render", out, "--jobs", "1"]
        case "tiny":
            words = ["weights", "tiny", out]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*small, *program, *map(str, words)], env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("affpipe: ")
    assert done.stderr.count("\n") == 1
    assert str(out.parent) in done.stderr
    assert "got File too large; raise the limit on the size of files (ulimit -f), or choose another place" in done.stderr
    if what != "tiny":
        assert list(out.parent.iterdir()) == []
