"""A small workspace with the real workflow and fake encoders: a whole run takes seconds, and says what work it did."""

import atexit
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import soundfile

from affpipe.core.tasks.table import VA
from affpipe.data.annotations import write_labels

ROOT = Path(__file__).resolve().parents[3]
SITE = Path(__file__).with_name("site")
POLL_S = 0.02
FRAMES = 24  # of every fake video, as site/fake_workers.py has them
VIDEOS = {"clip1": "train", "clip2": "train", "clip3": "train", "clip4": "validation", "clip5": "test", "clip6": "predict"}
RECIPE = "name: run\ndata_root: data\nshards: 2\n"
LOADED = (  # before a process is forked: what the workflow and jobs of fakes import
    *("snakemake.cli", "snakemake.executors.local", "snakemake.report"),
    *("h5py", "soundfile", "safetensors.numpy", "scipy.stats", "jinja2", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("affpipe.cli.main", "affpipe.cli.console", "affpipe.jobs.start", "affpipe.jobs.failures", "affpipe.jobs.resources"),
    *("affpipe.jobs.fitting", "affpipe.data.workers", "affpipe.store.flac", "affpipe.results.publish"),
)


class Workspace:
    """A folder with the workflow, fake videos, labels and a manifest, in which every process has fakes for encoders and fits.

    What a process is to do amid an item is said with `amid`; what was done since the last `forget` is in `loads`, `videos` and `fits`.

    Args:
        folder: made if it is not there; otherwise taken as it is, a copy of another workspace for instance.
        videos: video -> partition; those of train and validation get labels.
        recipe: settings laid over the repository's config.yaml and RECIPE.
        cores: of the workflow.
    """

    def __init__(self, folder: Path, videos: Mapping[str, str] = VIDEOS, *, recipe: str = "", cores: int = 1):
        self.folder, self.cores, self.events = folder, cores, folder / "events"
        if folder.exists():
            return
        (folder / "data").mkdir(parents=True)
        for name in ("Snakefile", "config.yaml"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "workflow", folder / "workflow")
        (folder / "base.yaml").write_text(RECIPE)
        self.settings(recipe)
        self.manifest(videos)

    def copy_package(self) -> Path:
        """Give the workspace its own copy of the package, the one that runs from now on; return its folder."""
        return shutil.copytree(ROOT / "affpipe", self.folder / "affpipe", ignore=shutil.ignore_patterns("__pycache__"))

    def copy(self, folder: Path) -> "Workspace":
        """A copy of all that is here, times of files included."""
        subprocess.run(["cp", "-a", str(self.folder), str(folder)], check=True)
        return Workspace(folder, cores=self.cores)

    # -- what may change --

    def settings(self, recipe: str) -> None:
        """Lay these settings, YAML, over config.yaml and RECIPE."""
        (self.folder / "recipe.yaml").write_text(recipe or "{}\n")

    def manifest(self, videos: Mapping[str, str]) -> None:
        """Write a manifest of these videos, video -> partition, and what is not there yet of their files."""
        lines = ["stream_id,video,partition,va"]
        for video, partition in videos.items():
            if not (self.folder / f"data/{video}.mp4").exists():
                self.film(video)
            labels = f"{video}.txt" if partition in ("train", "validation") else ""
            if labels and not (self.folder / "data" / labels).exists():
                self.annotate(video)
            lines.append(f"{video},{video}.mp4,{partition},{labels}")
        (self.folder / "data_manifest.csv").write_text("\n".join(lines) + "\n")

    def film(self, video: str, take: int = 1) -> None:
        """Write some hundred bytes as a video; another take has others."""
        (self.folder / f"data/{video}.mp4").write_bytes(hashlib.shake_256(f"{video} {take}".encode()).digest(300))

    def annotate(self, video: str, scale: float = 1.0) -> None:
        """Write labels of valence and arousal; another scale gives others."""
        phase = np.arange(FRAMES) / 4 + int(hashlib.sha256(video.encode()).hexdigest(), 16) % 7
        values = scale * np.stack([np.sin(phase), 0.5 * np.cos(phase)], axis=1)
        write_labels(VA, self.folder / f"data/{video}.txt", values, np.ones(FRAMES, bool))

    # -- running --

    def start(self, *command: str) -> subprocess.Popen:
        """Start python with these arguments here; output goes to `output.txt`.

        In tests affpipe and Snakemake, and the jobs that they start, are forks of a server that has imported all of the package
        (server.py), but for a workspace with a package of its own.
        """
        fresh = (self.folder / "affpipe").exists() or "PYTEST_VERSION" not in os.environ
        paths = os.pathsep.join(map(str, (SITE, self.folder, ROOT)))  # a copy of the package in the folder goes first
        environment = os.environ | {
            "PYTHONPATH": paths,
            "AFFPIPE_FAKES": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "",
        }  # a job is a start
        if not fresh:
            environment["AFFPIPE_FORKS"] = server(*LOADED, AFFPIPE_FAKES="")
        with (self.folder / "output.txt").open("w") as out:
            return subprocess.Popen([sys.executable, *command], cwd=self.folder, env=environment, stdout=out, stderr=subprocess.STDOUT)

    def run(self, *command: str, fails: bool = False) -> str:
        """Run python with these arguments here; return its output."""
        code = self.start(*command).wait(timeout=300)
        text = (self.folder / "output.txt").read_text()
        assert (code != 0) is fails, text
        return text

    def workflow(self, *options: str) -> tuple[str, ...]:
        """Arguments of python that run the workflow; options come after the settings files, so that a file may be added to these."""
        return "-m", "snakemake", "--cores", str(self.cores), "--configfile", "config.yaml", "base.yaml", "recipe.yaml", *options

    def snakemake(self, *options: str, fails: bool = False) -> str:
        """Run the workflow; return its output."""
        return self.run(*self.workflow(*options), fails=fails)

    def planned(self, *options: str) -> dict[str, int]:
        """Jobs that a dry run lists, rule -> count."""
        return jobs_of(self.snakemake(*options, "--dry-run"))

    def amid(self, **wanted: Any) -> None:
        """Say what happens amid items from now on: `delay_s`, `hold`, `fault`, see site/fake_events.py; nothing said, nothing happens."""
        (self.folder / "fakes.json").write_text(json.dumps(wanted))

    def wait_for(self, place: str, running: subprocess.Popen) -> None:
        """Return once a place that is to be held is reached."""
        while not (self.events / "held" / place).exists():
            assert running.poll() is None, (self.folder / "output.txt").read_text()
            time.sleep(POLL_S)

    def go_on(self, place: str) -> None:
        """Let a held item go on."""
        path = self.events / "go" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    # -- what was done --

    def forget(self) -> None:
        """Count from here."""
        shutil.rmtree(self.events, ignore_errors=True)

    def loads(self) -> Counter:
        """Stage -> workers started, each of which loads its networks."""
        return Counter(line.split()[0] for line in self._lines("loads"))

    def videos(self) -> Counter:
        """Stage -> videos or streams that a worker began, also those that it did not finish."""
        return Counter(line.split()[0] for line in self._lines("begun"))

    def fits(self) -> Counter:
        """Model, or model and fold -> fits begun."""
        return Counter(self._lines("fits"))

    def _lines(self, what: str) -> list[str]:
        path = self.events / what
        return path.read_text().splitlines() if path.exists() else []

    # -- what there is --

    def values(self, cache: Path | None = None) -> dict[str, str]:
        """File -> digest: the published predictions byte by byte, and of every stream of the store its values, not when it was made."""
        cache = cache or self.folder / "cache"
        files = sorted(p for kind in ("predictions", "official") for p in self.folder.glob(f"results/*/{kind}/**/*") if p.is_file())
        out = {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        streams = sorted(path for path in cache.glob("*/*/*.*") if path.suffix in (".h5", ".flac") and not path.name.startswith("."))
        return out | {f"cache/{path.relative_to(cache)}": _values(path) for path in streams}

    def left_over(self, cache: Path | None = None) -> list[Path]:
        """Temporary files in store and results."""
        folders = (cache or self.folder / "cache", self.folder / "results")
        return sorted(
            path for folder in folders for path in folder.rglob("*") if path.name.startswith(".") or path.suffix in (".part", ".tmp")
        )


@cache
def server(*loaded: str, **environment: str) -> str:
    """The socket of a server of forks that has imported these modules; it goes when this process goes."""
    place = f"{tempfile.mkdtemp(prefix='forks')}/socket"  # its name has to be short
    started = subprocess.Popen(
        [sys.executable, SITE.with_name("server.py"), place, *loaded],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (SITE, ROOT))), "OMP_NUM_THREADS": "1"} | environment,
    )
    assert started.stdout
    assert started.stdout.readline() == "ready\n"

    def end() -> None:
        assert started.stdin
        started.stdin.close()
        started.wait()
        shutil.rmtree(Path(place).parent)

    atexit.register(end)
    return place


def jobs_of(text: str) -> dict[str, int]:
    """Rule -> jobs, from the table that Snakemake prints of a plan before a run, or in place of it."""
    assert "Traceback" not in text
    return {rule: int(count) for rule, count in re.findall(r"^(apply_\w+|fit_\w+|publish)\s+(\d+)$", text, flags=re.MULTILINE)}


def _values(path: Path) -> str:
    """Digest of a stream's data."""
    if path.suffix == ".flac":
        return hashlib.sha256(soundfile.read(path, dtype="int16")[0].tobytes()).hexdigest()
    found = hashlib.sha256()
    with h5py.File(path, "r") as file:
        for name in sorted(file):
            found.update(f"{name} {file[name].dtype} {file[name].shape}".encode() + file[name][:].tobytes())
    return found.hexdigest()
