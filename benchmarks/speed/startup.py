"""The start of the command line: how long until a person reads the help, and until a job knows that there is nothing to do.

- help. reference: a script that imports at its top what its parts need (torch, transformers, OpenCV), as published code does, and prints
  help of argparse. ours: `affpipe --help`. floor: `python -c pass`.
- job. ours: `affpipe job apply` for a shard whose streams are all in the store: settings, manifest, fingerprints, a look into each stream,
  index. floor: `python -c pass`.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np

from affpipe.core.stage import Context
from affpipe.jobs import apply, start
from affpipe.plan.config import load
from affpipe.store.item_streams import Job, Worker
from benchmarks.planning import FILES, prepare
from benchmarks.speed.arms import DisagreeError, Row, take_turns

GOAL_S = 0.3
STREAMS = 60
SCRIPT = """
import argparse
import cv2
import numpy
import torch
import transformers
parser = argparse.ArgumentParser(description="Talking-face videos in, per-frame affect predictions out.")
parser.add_argument("--config")
parser.parse_args(["--help"])
"""


def rows(*, quick: bool) -> list[Row]:
    """Help, and a job without work."""
    return [_help(1 if quick else 7), _job(1 if quick else 7)]


def _help(rounds: int) -> Row:
    arms = {"reference": python("-c", SCRIPT), "ours": python("-m", "affpipe", "--help"), "floor": python("-c", "pass")}

    def compare(outputs: Mapping[str, Any]) -> str:
        if any("--help" not in outputs[name] for name in ("reference", "ours")):
            raise DisagreeError(str(outputs))
        return "help of each"

    costs, outputs = take_turns(arms, units=1, rounds=rounds, compare=compare)
    return Row("affpipe --help", "start", costs, "seconds by the clock", costs["ours"].wall_ms / 1000, GOAL_S, outputs, at_most=True)


def _job(rounds: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        workspace = prepare(Path(folder) / "startup", STREAMS)
        with chdir(workspace.folder):
            plan = start.plan_from(load([Path(name) for name in FILES]))
            shard = max(plan.shards, key=lambda shard: len(plan.shards[shard]))
            items = plan.items("frames", shard)
            apply.apply(plan, "frames", items, {}, stage, lambda *_: None)
            settings = start.freeze(plan.settings)
            index = Path(plan.index("frames", shard))
            job = ("-m", "affpipe", "job", "apply", "--settings", str(settings), "--index", str(index))

            def compare(_: Mapping[str, Any]) -> str:
                if len(apply.read_entries(plan, ["frames"], [shard])["frames"]) != len(items):
                    raise DisagreeError(f"{index}: want {len(items)} streams")
                return "the index names all streams"

            costs, outputs = take_turns({"ours": python(*job), "floor": python("-c", "pass")}, units=1, rounds=rounds, compare=compare)
    what = f"a job that finds its {len(items)} streams made"
    return Row(what, "job", costs, "seconds by the clock", costs["ours"].wall_ms / 1000, None, outputs, at_most=True)


def stage(context: Context) -> Worker:
    """Streams of a minute of video."""

    def work(job: Job) -> None:
        times = np.arange(1500) / 25
        job.write(job.header(25), values=np.ones((1500, 1), np.float32), start_s=times, end_s=times + 0.04, valid=np.ones(1500, bool))

    return work


def python(*arguments: str) -> Callable[[], str]:
    """An arm: python with these arguments and this package, whose output is read."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}

    def arm() -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    return arm
