"""What tests/test_extending.py runs in processes of their own, where the parts of docs/extending.md are installed.

`python extending_jobs.py plan|run|own SETTINGS ...`; what is found is printed as JSON.
"""

import json
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

FEATURE, SOUND, HEAD, FUSION = "brightness", "loudness", "light", "both"


def quiet(*_: object) -> None:
    """No progress."""


def plan(*settings: str) -> dict:
    """What planning knows of the parts; no network is imported for it."""
    from affpipe.jobs import estimate, resources, start
    from affpipe.jobs.durations import Length, Lengths
    from affpipe.plan import config

    made = start.plan_of([Path(path) for path in settings])
    heavy = [name for name in ("torch", "cv2", "av", "mediapipe") if name in sys.modules]
    lengths = Lengths({row.video_id: Length(25, 1.0, True, "given") for row in made.rows})
    parts = estimate.of(made, lengths)
    return {
        "names": made.names,
        "keys": {name: made.key(name) for name in (FEATURE, SOUND, HEAD, FUSION)},
        "needs": {name: resources.of_apply(made, name).mem_mb for name in (FEATURE, SOUND, HEAD, FUSION)}
        | {f"fit {name}": resources.of_fit(made, name).mem_mb for name in (HEAD, FUSION)},
        "estimate": {part.name: [part.items, part.time_basis, part.disk] for part in parts},
        "schema": sorted(config.schema()["$defs"]),
        "heavy": heavy,
    }


def run(*settings: str) -> dict:
    """Every job of the workflow in its order, in this process."""
    from affpipe.jobs import start, status
    from affpipe.jobs.apply import apply_shard
    from affpipe.jobs.fit import fit_model
    from affpipe.jobs.publish import publish_run
    from affpipe.results import runs

    made = start.plan_of([Path(path) for path in settings])
    start.start(made)
    frozen = runs.frozen_path(made.settings)
    for name in made.names:
        for fold in made.fits(name) if name in made.settings.models else ():
            fit_model(frozen, name, Path(made.fitted(name, fold)), fold=fold, threads=1, progress=quiet)
        for index in made.indexes(name):
            apply_shard(frozen, Path(index), threads=1, progress=quiet)
    publish_run(frozen, Path(made.published()))
    found = {}
    for name in (FEATURE, SOUND, HEAD, FUSION):
        for item in made.items(name):
            if not made.stream(name, item).exists():  # of what is not heard there is none
                continue
            with made.streams(item).open(name) as stream:
                names = ("values", "prediction") if name in (HEAD, FUSION) else ("values",)
                found[f"{name} {item.id}"] = [[n, list(stream.rows(n).shape), bool(np.isfinite(stream.rows(n)).all())] for n in names]
    stands = status.of(made)
    return {"streams": found, "published": stands.published, "status": [[s.name, s.missing, s.failed] for s in stands.stages]}


def own(settings: str, annotation: str) -> dict:
    """A stage, a loss and an annotation format, as the copy of the package has them."""
    import torch

    import affpipe
    from affpipe.core.errors import InputError
    from affpipe.core.tasks.table import VA
    from affpipe.data.annotations import read_labels
    from affpipe.data.manifest import Row
    from affpipe.encoders.table import ENCODERS
    from affpipe.jobs import workers
    from affpipe.models.terms.build import training_loss
    from affpipe.models.training_settings import Loss
    from affpipe.plan import config
    from affpipe.plan.plan import Plan

    parsed = config.load([Path(settings)])
    video = Path(settings).with_name("v.mp4")
    video.write_bytes(b"v" * 99)
    rows = [Row("v", video, "largest", "predict")]
    before = Plan(parsed, rows).names
    ENCODERS["mesh"] = replace(ENCODERS["mesh"], reads=("motion",))
    made = Plan(parsed, rows)
    (item,) = made.items("motion")
    times = np.array([0, 0.5, 1.0, 2.0])
    ends = {"start_s": times, "end_s": np.append(times[1:], 3.0)}
    box = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [5, 0, 15, 10], [5, 20, 15, 30]], np.float32)
    seen = np.array([True, True, False, True])
    subject = made.job("subject", item)
    subject.write(subject.header(Fraction(2)), values=box, row=np.arange(4, dtype=np.int32), valid=seen, **ends)
    workers.start(made.context("motion"))(made.job("motion", item))
    with made.streams(item).open("motion") as stream:
        motion, known = stream.rows().tolist(), stream.valid.tolist()

    target, labelled = np.zeros((1, 4, 2), np.float32), np.array([True, True, True, False])[None, :, None]
    prediction = torch.tensor([[[0.0, 0.0], [0.05, 0.0], [1.0, 0.0], [9.0, 9.0]]], requires_grad=True)
    from affpipe.core.tasks.smoothing import smooth
    from affpipe.models.training_settings import Smooth

    impulse, frames = np.array([[0.0], [0], [1], [0], [0]]), Smooth(filter="gaussian", valence_frames=3).valence_frames
    weights = {"valence_weight": 0, "arousal_weight": 0, "huber_weight": 2}
    term = training_loss({"va": VA}, Loss(va=weights), target, labelled)
    value = term(prediction, torch.from_numpy(target), torch.from_numpy(labelled))
    value.backward()
    values, valid = read_labels(VA, Path(annotation))
    from affpipe.core import align
    from affpipe.core.tasks.table import TASKS
    from affpipe.jobs.failures import check_failures
    from affpipe.models import windows
    from affpipe.results import evaluate
    from affpipe.store.index import Entry

    rng = np.random.default_rng(0)
    videos = {f"v{i}": (rng.uniform(-1, 1, (30, 2)), rng.uniform(-1, 1, (30, 2)), np.arange(30) > 3) for i in range(4)}
    scores = evaluate.score(VA, videos)
    sums = np.sum([VA.sums(*(x[valid] for x in (truth, prediction))) for truth, prediction, valid in videos.values()], axis=0)
    steps = 1e-5 * np.maximum(1, np.abs(sums)) * np.eye(len(sums))
    by_steps = (VA.atoms(sums + steps)[0] - VA.atoms(sums - steps)[0]) / (2 * steps.diagonal()[:, None])  # (S, A)
    named = config.parse(json.loads(made.settings.model_dump_json()) | {"tasks": ["engagement", "va"], "on_error": "few"})
    entries = {str(i): Entry("failed", reason="gone") if i < 2 else Entry("done", "x", 1) for i in range(20)}
    few = Plan(named, rows)
    check_failures(few, "frames", entries)
    try:
        check_failures(few, "frames", entries | {"2": Entry("failed", reason="gone")})
        stops = False
    except InputError:
        stops = True
    cut = windows.split(23, length=7, stride=3)
    sequence = rng.normal(size=(23, 2))
    uneven = windows.merge([np.full((3, 1), 0.0), np.full((3, 1), 1.0)], [0, 1], 4)
    covered = align.align(np.array([[0.0], [1.0]]), np.ones(2, bool), np.array([0, 0.5]), np.array([1, 1.5]), np.array([0.25, 0.6, 0.75]))
    return {
        "package": str(Path(affpipe.__file__).parent),
        "names": [before, made.names],
        "motion": [motion, known],
        "loss": [value.item(), prediction.grad[0, 3].tolist()],
        "specs": [Loss().va.spec() == {k: v for k, v in Loss().va.model_dump().items() if k != "huber_weight"}, Loss(va=weights).va.spec()],
        "smoothed": smooth(impulse, np.ones(5, bool), filter="gaussian", frames=(frames,))[:, 0].tolist(),
        "labels": [values.tolist(), valid.tolist()],
        "tasks": {name: [task.header, task.chance_columns] for name, task in few.tasks.items()},
        "known": list(TASKS),
        "figures": {name: scores[name] for name in ("ccc_valence", "ccc", "pearson")},
        "truth": [np.concatenate([part[i][part[2]] for part in videos.values()]).tolist() for i in (0, 1)],
        "interval": scores["intervals"]["pearson"],
        "slopes": float(np.abs(by_steps.T - VA.atoms(sums[None])[1][0]).max()),
        "table": [len(evaluate.table(VA, {"a": scores})[0]), len(VA.table_head), evaluate.table(VA, {"a": scores})[0][-1]],
        "few": stops,
        "merged": [float(np.abs(windows.merge([sequence[a : a + 7] for a in cut], cut, 23) - sequence).max()), uneven[:, 0].tolist()],
        "covered": covered[0][:, 0].tolist(),
    }


if __name__ == "__main__":
    print(json.dumps({"plan": plan, "run": run, "own": own}[sys.argv[1]](*sys.argv[2:])))
