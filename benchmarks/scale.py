"""What grows with the number of streams, and how: `python -m benchmarks.scale [--streams 60 200 600] [--minutes 15]`.

The real workflow with its real stages, on as many videos as asked for, all alike: one rendered clip of two seconds (24 frames), which
a few bytes at its end make another video each time. No checkpoints, so that networks are small beside what is around them: frames, audio,
faces in every fifth frame, subject, landmarks, mouth, speech, mesh, logmel, two heads and their fusion of two epochs each. Two shards a
group, however many streams: jobs grow, and not their number.

Each size runs from nothing in a folder of its own, which is removed afterwards. Its figures go to benchmarks/out/scale.json when it is
through, and what is there is not run again (--again runs all). A size that would take longer than is left of --minutes, going by those
before, is left out. All three take about 12 minutes on two cores with nothing else running.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from affpipe.data.demo.clips import Clip
from affpipe.data.demo.render import render_clip
from affpipe.system.job_record import JobRecord
from benchmarks.planning import videos
from benchmarks.speed.__main__ import machine

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks/out/scale.json"
CORES = 2
CLIP = Clip("clip", "train", 2, Fraction(12), (256, 256))
FILES = ("config.yaml", "scale.yaml")
TIMES = ("run, s", "CPU, s", "plan, s", "nothing to do, s", "publish, s")
HEAD = ("streams", *TIMES, "MB: apply, fit, any", "cache, MB", "files", "a stream more")
RECIPE = """
name: scale
data_root: data
shards: 2
faces: {every: 5}
features: {qwen3vl: null, wavlm: null, logmel: {encoder: logmel}}
models:
  behaviour: null
  face: {window: 24, stride: 24, training: {epochs: 2}}
  voice: {reads: logmel, speech_only: false, training: {epochs: 2}}
  fused: {reads: [face, voice], window: 24, stride: 24, training: {epochs: 2}}
"""


@dataclass(frozen=True)
class Size:
    """What a run of so many streams costs.

    Attributes:
        run_s, cpu_s: of the whole run, by the clock and of all cores.
        plan_s: of `snakemake -n` beforehand; again_s: of `snakemake` when there is nothing to do; publish_s: of the job that publishes.
        apply_mb, fit_mb, most_mb: memory of the largest apply job, of the largest fit, of the largest process of all.
        cache_mb, files: of the cache. stage_s: stage -> seconds of work on its items, without the start of its jobs.
    """

    streams: int
    run_s: float
    cpu_s: float
    plan_s: float
    again_s: float
    publish_s: float
    apply_mb: float
    fit_mb: float
    most_mb: float
    cache_mb: float
    files: int
    stage_s: Mapping[str, float]


def prepare(folder: Path, streams: int) -> None:
    """A folder with the workflow, so many videos and their labels."""
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    (folder / "scale.yaml").write_text(RECIPE)
    render_clip(folder, CLIP, seed=7)
    clip, labels = (folder / CLIP.video).read_bytes(), (folder / CLIP.streams[0].labels("va")).read_text()
    (folder / "data").mkdir()
    lines = ["stream_id,video,partition,va"]
    for number, (name, partition) in enumerate(videos(streams).items()):
        (folder / f"data/{name}.mp4").write_bytes(clip + other(number))
        known = f"{name}.txt" if partition in ("train", "validation") else ""
        if known:
            (folder / "data" / known).write_text(labels)
        lines.append(f"{name},{name}.mp4,{partition},{known}")
    (folder / "data_manifest.csv").write_text("\n".join(lines) + "\n")


def other(number: int) -> bytes:
    """A box of MP4 that players pass over: length, type, content."""
    content = number.to_bytes(8)
    return (8 + len(content)).to_bytes(4) + b"free" + content


def workflow(*options: str) -> tuple[float, float, float]:
    """Run the workflow here; return seconds by the clock and of a CPU, and MB of its largest process."""
    command = [sys.executable, "-m", "snakemake", "--cores", str(CORES), "--quiet", "all", "--configfile", *FILES, *options]
    begun = time.monotonic()
    with Path("output.txt").open("w") as out:
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=out, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(Path("output.txt").read_text())
    return time.monotonic() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def measure(folder: Path, streams: int) -> Size:
    """Prepare and run one size."""
    prepare(folder, streams)
    with chdir(folder):
        plan_s, _, _ = workflow("--dry-run")
        run_s, cpu_s, most_mb = workflow()
        again_s, _, _ = workflow()
        records = [record for path in Path("logs/scale").glob("*/*.json") if (record := JobRecord.read(path))]
        (published,) = Path("logs/scale/publish").glob("*.tsv")
        publish_s = float(published.read_text().splitlines()[1].split("\t")[0])
        files = [path for path in Path("cache").rglob("*") if path.is_file()]
        cache_mb = sum(path.stat().st_size for path in files) / 1e6
    apply, fit = ([r for r in records if r.job.startswith(kind)] for kind in ("apply_", "fit_"))
    stage_s: dict[str, float] = {}
    for record in apply:
        name = record.job.removeprefix("apply_")
        stage_s[name] = round(stage_s.get(name, 0) + record.working_s, 2)
    apply_mb, fit_mb = (max(record.peak_mb for record in found) for found in (apply, fit))
    seconds = [round(value, 1) for value in (run_s, cpu_s, plan_s, again_s, publish_s)]
    return Size(streams, *seconds, *(round(value) for value in (apply_mb, fit_mb, most_mb)), round(cache_mb, 1), len(files), stage_s)


def table(sizes: list[Size]) -> str:
    """A row a size in Markdown; of what should grow in proportion, also what a stream more costs since the size before."""
    rows = [HEAD, ("---",) * len(HEAD)]
    for before, size in zip([None, *sizes], sizes, strict=False):
        seconds = map(str, (size.run_s, size.cpu_s, size.plan_s, size.again_s, size.publish_s))
        memory = ", ".join(str(mb) for mb in (size.apply_mb, size.fit_mb, size.most_mb))
        rows.append((str(size.streams), *seconds, memory, str(size.cache_mb), str(size.files), more(before, size) if before else ""))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def more(a: Size, b: Size) -> str:
    """What each stream costs that one size has more than another."""
    n = b.streams - a.streams
    mb, files, planned = b.cache_mb - a.cache_mb, b.files - a.files, b.again_s - a.again_s
    return f"{(b.cpu_s - a.cpu_s) / n:.2f} CPU s, {mb / n:.2f} MB, {files / n:.1f} files, {1000 * planned / n:.1f} ms to plan"


def expected_s(known: Mapping[int, float], streams: int) -> float:
    """Seconds that a run of so many streams may take, by the line through the two largest that are known, or in proportion to one."""
    sizes = sorted(known)[-2:]
    if len(sizes) < 2:
        return sum(known[size] * streams / size for size in sizes)
    a, b = sizes
    return known[b] + (known[b] - known[a]) * (streams - b) / (b - a)


def main() -> None:
    """Run what is missing, print all."""
    options = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    options.add_argument("--streams", type=int, nargs="+", default=[60, 200, 600])
    options.add_argument("--minutes", type=float, default=15, help="no size is begun that would take longer")
    options.add_argument("--again", action="store_true", help="also what benchmarks/out/scale.json has")
    chosen = options.parse_args()
    until = time.monotonic() + 60 * chosen.minutes
    found: dict[str, Any] = json.loads(OUT.read_text())["sizes"] if OUT.exists() and not chosen.again else {}
    for streams in sorted(chosen.streams):
        if str(streams) not in found:
            takes_s = expected_s({int(name): size["run_s"] for name, size in found.items() if int(name) < streams}, streams)
            if time.monotonic() + takes_s > until:
                print(f"{streams} streams would take about {takes_s / 60:.0f} minutes: left out", file=sys.stderr)
                continue
            with tempfile.TemporaryDirectory() as folder:
                found[str(streams)] = asdict(measure(Path(folder), streams))
            OUT.parent.mkdir(parents=True, exist_ok=True)
            OUT.write_text(json.dumps({"machine": machine(), "sizes": found}, indent=1) + "\n")
    print(table([Size(**found[name]) for name in sorted(found, key=int)]))


if __name__ == "__main__":
    main()
