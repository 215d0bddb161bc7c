"""Mutated media files through the product: does one end a job, or hang it?

`python -m benchmarks.fuzz [--files 15000] [--seed 0] [--minutes M] [--quick]` makes small clips in several formats, damages a copy of one
for each number, and gives it to the stages `frames` (probe and frame axis), a decode of every picture as `faces` has it, and `audio`, as
jobs do: through `apply.apply` and into a store. Every second file is damaged only behind the bytes that its first frame was decoded from.
A file and its damage are functions of seed and number. What came of a file is a line in benchmarks/out/fuzz/; a run that was stopped goes
on where it was. Exit status 1 if a file ended a job, hung, or took its process with it.
"""

import argparse
import json
import logging
import os
import platform
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from affpipe.core.errors import MediaError
from affpipe.core.stage import Context
from affpipe.data.manifest import Row
from affpipe.faces import workers as face_stages
from affpipe.jobs import apply
from affpipe.media import workers
from affpipe.media.picture.decode import frames as decode
from affpipe.plan.config import parse
from affpipe.plan.plan import Plan
from affpipe.store.index import Entry
from affpipe.store.item_streams import Job, Worker
from affpipe.system.processes import Late, in_processes, share_imports

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
import clips

OUT = Path("benchmarks/out/fuzz")
QUICK = 60  # files
IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where files are tried: each costs a dozen flushes
HANG_S = 60.0  # of a file; the slowest sound one takes a fraction of a second
MEMORY = 8 << 30  # bytes of address space of a process: what a file may ask for before it counts as one that ends a job
SETTINGS = {
    "features": {"mesh": {"encoder": "mesh"}, "wavlm": {"encoder": "wavlm"}},
    "models": {"face": {"kind": "transformer", "reads": "mesh"}, "voice": {"kind": "chunk_asp", "reads": "wavlm"}},
    "publish": "face",
}
KEYS = {"crf": "4", "g": "8"}  # of H.264: much to damage, and places to begin again
FAST = {"movflags": "faststart"}
FORMATS = {  # name of the clip -> how it is written
    "fast.mp4": {"sound": clips.Sound(length_s=2.4), "container_options": FAST, "options": KEYS},
    "late.mp4": {"sound": clips.Sound(length_s=2.4), "options": KEYS},  # its index stands behind
    "pieces.mp4": {"sound": clips.Sound(length_s=2.4), "container_options": {"movflags": "frag_keyframe+empty_moov"}, "options": KEYS},
    "h264.mkv": {"sound": clips.Sound(length_s=2.4, codec="libmp3lame"), "options": KEYS},
    "vp8.webm": {"sound": clips.Sound(length_s=2.4, codec="libopus", sample_rate_hz=48000), "codec": "libvpx"},
    "mpeg4.avi": {"sound": clips.Sound(length_s=2.4, codec="pcm_s16le"), "codec": "mpeg4", "time_base": clips.Fraction(1, 25)},
    "mjpeg.mov": {"sound": clips.Sound(length_s=2.4, codec="pcm_s16le"), "codec": "mjpeg", "pixels": "yuvj420p"},
    "mpeg2.ts": {"sound": clips.Sound(length_s=2.4, codec="mp2"), "codec": "mpeg2video", "time_base": clips.Fraction(1, 25)},
}
FRAMES = 60
OUTCOMES = ("as if sound", "used, damage said", "refused", "foreign exception, its item's alone", "used, other frames, nothing said")
FAULTS = ("ended the job", "hung", "took its process with it")


@dataclass(frozen=True)
class Clip:
    """A sound clip. behind: bytes up to which a decoder has to read for the first frame; what lies behind may be damaged alone."""

    path: Path
    behind: int


@dataclass(frozen=True)
class Task:
    """One file to make and try."""

    number: int
    seed: int
    clips: tuple[Clip, ...]


def bits(data: bytearray, first: int, draw: random.Random) -> None:
    """Flip 1 to 64 bits."""
    for _ in range(draw.choice((1, 2, 8, 64))):
        data[draw.randrange(first, len(data))] ^= 1 << draw.randrange(8)


def cut(data: bytearray, first: int, draw: random.Random) -> None:
    """Drop the end."""
    del data[draw.randrange(first, len(data)) :]


def overwrite(data: bytearray, first: int, draw: random.Random) -> None:
    """Put zeros, ones or noise over a block."""
    start, size = _block(data, first, draw)
    data[start : start + size] = draw.choice((bytes(size), b"\xff" * size, draw.randbytes(size)))


def swap(data: bytearray, first: int, draw: random.Random) -> None:
    """Exchange two blocks."""
    (a, size), (b, _) = _block(data, first, draw), _block(data, first, draw)
    size = min(size, abs(b - a), len(data) - max(a, b))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def _block(data: bytearray, first: int, draw: random.Random) -> tuple[int, int]:
    start = draw.randrange(first, len(data))
    return start, min(draw.choice((4, 16, 64, 512, 4096)), len(data) - start)


MUTATIONS: dict[str, Callable[[bytearray, int, random.Random], None]] = {"bits": bits, "cut": cut, "overwrite": overwrite, "swap": swap}


def make(folder: Path) -> tuple[Clip, ...]:
    """The sound clips, by name."""
    made = []
    for name, how in FORMATS.items():
        options = {**how.get("container_options", {}), "fflags": "+bitexact"}  # no random numbers, no dates
        made.append(_clip(clips.write(folder / name, count=FRAMES, **{**how, "container_options": options})))
    return tuple(made)


def _clip(path: Path) -> Clip:
    with av.open(str(path)) as container:
        behind = 0
        for packet in container.demux(container.streams.video[0]):
            behind = max(behind, (packet.pos or 0) + packet.size)
            if packet.decode():
                break
    size = path.stat().st_size
    return Clip(path, min(behind, size - 1))


def damage(task: Task) -> tuple[str, str, bool, bytes]:
    """Name of the clip, mutation, whether it lies behind the first frame, and the bytes of a task's file."""
    draw = random.Random(f"{task.seed} {task.number}")
    clip, kind, behind = draw.choice(task.clips), draw.choice(list(MUTATIONS)), task.number % 2 == 1
    data = bytearray(clip.path.read_bytes())
    MUTATIONS[kind](data, clip.behind if behind else 0, draw)
    return clip.path.name, kind, behind, bytes(data)


def attempt(task: Task) -> dict[str, object]:
    """Make a file, give it to the stages, and say what came of it."""
    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    name, kind, behind, data = damage(task)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="affpipe-fuzz-", dir=IN_MEMORY) as place:
        folder = Path(place)
        video = folder / f"a{Path(name).suffix}"
        video.write_bytes(data)
        try:
            outcome, reason = stages(video, folder)
        except Exception as error:
            outcome, reason = FAULTS[0], f"{type(error).__name__}: {error}"
    said = {"clip": name, "mutation": kind, "behind": behind, "outcome": outcome, "reason": reason[:200]}
    return {"number": task.number, **said, "seconds": round(time.monotonic() - begun, 3)}


def stages(video: Path, folder: Path) -> tuple[str, str]:
    """What became of a video, and why."""
    if not video.stat().st_size:  # the plan refuses it
        return OUTCOMES[2], "empty"
    plan = Plan(parse(SETTINGS | {"cache": str(folder / "cache")}), [Row("a", video, "largest", "predict")])
    entries: dict[str, dict[str, Entry]] = {}
    for name, start in {"frames": face_stages.frames, "faces": pictures, "audio": workers.audio}.items():
        entries[name] = apply.apply(plan, name, plan.items(name), entries, start, lambda *_: None)
    failed = [entry.reason for of in entries.values() for entry in of.values() if entry.status == "failed"]
    foreign = [reason for reason in failed if "want a file that it gets through" in reason]
    if foreign or failed:
        return (OUTCOMES[3], foreign[0]) if foreign else (OUTCOMES[2], failed[0])
    with plan.streams(plan.items("faces")[0]).open("frames") as stream:
        faults = stream.attributes["extra"]["video"]["faults"]
    silent = "; ".join(entry.reason for entry in entries["audio"].values())
    other = f"{len(stream)} of {FRAMES} frames" if len(stream) != FRAMES else ""
    said = "; ".join(filter(None, [*faults, silent, other]))
    return OUTCOMES[1 if faults or silent else 4 if other else 0], said


def pictures(_: Context) -> Worker:
    """Every picture decoded, as `faces` has it, in place of a network that looks at them."""

    def work(job: Job) -> None:
        axis = job.axis()
        count = sum(1 for _ in decode(job.video))
        if count != len(axis):
            raise MediaError(f"{job.video}: want {len(axis)} frames as when it was probed, got {count}; the file changed: run again")
        none = np.zeros(0)
        job.write(job.header(axis.fps), values=np.zeros((0, 4), np.float32), start_s=none, end_s=none, valid=none.astype(bool))

    return work


def trials(tasks: list[Task], processes: int, limit_s: float, hang_s: float) -> Iterator[tuple[Task, object]]:
    """Tasks and their lines. One that took too long is tried again at the end, alone, with ten times the time: a machine may be busy."""
    late, end_s = [], time.monotonic() + limit_s
    for task, found in in_processes(attempt, tasks, processes=processes, limit_s=limit_s, each_s=hang_s):
        if found == Late():
            late.append(task)
        else:
            yield task, found
    yield from in_processes(attempt, late, processes=1, limit_s=max(0.0, end_s - time.monotonic()), each_s=10 * hang_s)


def lost(task: Task, how: Late) -> dict[str, object]:
    """The line of a file whose process is gone, or was killed as it took too long."""
    name, kind, behind, _ = damage(task)
    said = {"number": task.number, "clip": name, "mutation": kind, "behind": behind}
    return {**said, "outcome": FAULTS[2 if how.gone else 1], "reason": "", "seconds": 0.0}


def known(path: Path, files: int) -> dict[int, dict]:
    """Lines of an earlier run, by number; one that a stop has cut short is left out."""
    out = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if found["number"] < files:
            out[found["number"]] = found
    return out


def main() -> None:
    """Try files, or go on, and print what came of all so far."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=15000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e6, help="then stop; the same command goes on")
    parser.add_argument("--hang-s", type=float, default=HANG_S)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} files, and nothing is kept")
    chosen = parser.parse_args()
    files = QUICK if chosen.quick else chosen.files
    share_imports()
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / ("quick.jsonl" if chosen.quick else f"seed{chosen.seed}.jsonl")
    if chosen.quick:
        path.unlink(missing_ok=True)
    done = known(path, files)
    with tempfile.TemporaryDirectory() as folder, path.open("a") as out:
        sound = make(Path(folder))
        rest = [Task(number, chosen.seed, sound) for number in range(files) if number not in done]
        for task, found in trials(rest, chosen.processes, 60 * chosen.minutes, chosen.hang_s):
            done[task.number] = line = lost(task, found) if isinstance(found, Late) else found
            out.write(json.dumps(line) + "\n")
            out.flush()
            if len(done) % 500 == 0:
                print(f"{len(done)} of {files}: {dict(Counter(own['outcome'] for own in done.values()))}", flush=True)
    tell(list(done.values()), chosen.seed)
    sys.exit(int(any(line["outcome"] in FAULTS for line in done.values())))


def tell(lines: list[dict], seed: int) -> None:
    """Print counts by outcome, and write them."""
    print(f"{'':<36} anywhere  behind the first frame")
    table = {}
    for outcome in (*OUTCOMES, *FAULTS):
        of = Counter(line["behind"] for line in lines if line["outcome"] == outcome)
        table[outcome] = [of[False], of[True]]
        print(f"{outcome:<36} {of[False]:>8} {of[True]:>8}")
    for line in lines:
        if line["outcome"] in (OUTCOMES[3], *FAULTS):
            print(json.dumps(line))
    slowest = max((line["seconds"] for line in lines), default=0)
    print(f"{len(lines)} files, the slowest {slowest:.1f} s")
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(), "av": av.__version__}
    found = {**machine, "seed": seed, "files": len(lines), "slowest_s": slowest, "outcomes": table}
    (OUT / "fuzz.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
