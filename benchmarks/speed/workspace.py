"""A folder in which stages run as in the workflow: a manifest of one film, settings with every stage, tiny weights."""

import subprocess
import sys
from pathlib import Path

from affpipe.jobs import start
from affpipe.plan import config
from affpipe.plan.plan import Plan
from benchmarks.speed import inputs

FEATURES = {
    "mesh": {"encoder": "mesh"},
    "grada": {"encoder": "grada", "weights": "grada-tiny", "side": 64},
    "qwen3vl": {"encoder": "qwen3vl", "weights": "qwen3vl-tiny", "max_pixels": 9216},
    "wavlm": {"encoder": "wavlm", "weights": "wavlm-tiny"},
    "logmel": {"encoder": "logmel"},
}
SETTINGS = {
    "shards": 1,
    "vad": {"model": "silero"},
    "features": FEATURES,
    "models": {"voice": {"kind": "chunk_asp", "reads": "wavlm"}},
    "publish": "voice",
}


def tiny_weights(folder: Path) -> None:
    """Write tiny random checkpoints of every network."""
    subprocess.run([sys.executable, "-m", "affpipe", "weights", "tiny", str(folder)], check=True, stdout=subprocess.DEVNULL)


def workspace(folder: Path, film: Path, weights: Path) -> Plan:
    """The plan of a film, and of the shortest one as something to validate with, in a new folder; its settings are frozen."""
    folder.mkdir()
    films = {"train": film, "validation": inputs.film(1, inputs.SMALL, fps=10)}
    lines = [f"{partition},{path.resolve()},{partition},labels.txt" for partition, path in films.items()]
    (folder / "data_manifest.csv").write_text("\n".join(["stream_id,video,partition,va", *lines]) + "\n")
    (folder / "labels.txt").write_text("valence,arousal\n0,0\n")
    places = {"manifest": "data_manifest.csv", "data_root": "", "cache": "cache", "results": "results"}
    places = {name: str(folder / place) for name, place in places.items()} | {"weights": str(weights)}
    settings = config.parse(SETTINGS | places)
    start.freeze(settings)
    return start.plan_from(settings)
