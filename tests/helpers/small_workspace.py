"""A folder with the workflow, a small rendered data set and tiny weights: what tests of whole runs start from."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest
from fakes import workspace as fakes
from shared import made_once

from affpipe.data.demo.clips import PAL, SQUARE, WHOLE, Absence, Clip, manifest_text
from affpipe.data.demo.render import render

ROOT = Path(__file__).resolve().parents[2]
CLIPS = (
    Clip("one", "train", 6, PAL, SQUARE),
    Clip("pair", "train", 6, PAL, people=2),
    Clip("three", "validation", 6, WHOLE, SQUARE, variable=True, absences=(Absence(2.0, 3.5),)),
    Clip("four", "test", 6, PAL, SQUARE, audio=False),
)
RECIPE = """
name: small
shards: 1
models:
  face: {fill: nearest, training: {epochs: 3}}
  behaviour: {training: {epochs: 2}}
  voice: {speech_only: false, training: {epochs: 2}}
  fused: {training: {epochs: 2}}
"""
LOADED = (  # besides what jobs of fakes import: networks, and what fits them
    *("affpipe.faces.follow", "affpipe.faces.landmarks", "mediapipe.python.solutions.face_mesh", "affpipe.media.picture.decode"),
    *(f"affpipe.encoders.{name}.network" for name in ("mesh", "grada", "qwen3vl", "wavlm", "logmel")),
    *("affpipe.media.sound.voice", "affpipe.models.fit", "affpipe.models.workers", "affpipe.jobs.predict"),
)


class Workspace:
    """A folder with the workflow, a rendered data set and tiny weights; `recipe` is laid over the demo's settings.

    A folder that has a Snakefile already is taken as it is, a copy of another workspace for instance. With `forks` affpipe and Snakemake,
    and the jobs that they start, are forks of a process that has imported what they import, which is most of what they do here.
    """

    def __init__(self, folder: Path, clips: tuple[Clip, ...] = CLIPS, recipe: str = RECIPE, *, forks: bool = False):
        self.folder, self.forks = folder, forks
        if (folder / "Snakefile").exists():
            return
        for name in ("Snakefile", "config.yaml"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "workflow", folder / "workflow")
        (folder / "small.yaml").write_text(recipe)
        (folder / "data_manifest.csv").write_text(manifest_text(clips))
        render(folder / "demo", clips=clips, jobs=2)
        self.run("-m", "affpipe", "weights", "tiny", "weights")

    def run(self, *command: str, fails: bool = False, folder: Path | None = None) -> subprocess.CompletedProcess:
        environment = dict(os.environ)
        if self.forks:
            paths = os.pathsep.join(map(str, (fakes.SITE, ROOT)))
            environment |= {"PYTHONPATH": paths, "AFFPIPE_FORKS": fakes.server(*fakes.LOADED, *LOADED)}
        done = subprocess.run(
            [sys.executable, *command], cwd=folder or self.folder, env=environment, capture_output=True, text=True, timeout=1200
        )
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done

    def snakemake(self, *options: str, fails: bool = False, over: tuple[str, ...] = ()) -> str:
        files = "config.yaml", "small.yaml", *over
        done = self.run("-m", "snakemake", "--cores", "2", "--configfile", *files, *options, fails=fails)
        return done.stdout + done.stderr

    def planned(self, *options: str, over: tuple[str, ...] = ()) -> dict[str, int]:
        """Jobs that a dry run lists, rule -> count; over: further settings files."""
        text = self.snakemake("--dry-run", *options, over=over)
        assert "Traceback" not in text
        rows = re.findall(r"^(apply_\w+|fit_\w+|publish)\s+(\d+)$", text, flags=re.MULTILINE)
        return {rule: int(count) for rule, count in rows}

    def made(self, stage: str) -> int:
        """Streams that the jobs of a stage say they made, over all logs."""
        logs = (self.folder / "logs" / "small" / f"apply_{stage}").glob("*.log")
        return sum(int(n) for log in logs for n in re.findall(rf"{stage}: (\d+) made", log.read_text()))


def finished(factory: pytest.TempPathFactory) -> Workspace:
    """A copy of a workspace whose run is through, where all further processes are forks; the run itself is made once in a test session."""

    def make(folder: Path) -> None:
        Workspace(folder).snakemake()

    folder = factory.mktemp("finished") / "workspace"
    subprocess.run(["cp", "-a", made_once(factory, "small", make), folder], check=True)
    return Workspace(folder, forks=True)


def times_of(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
