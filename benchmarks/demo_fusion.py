"""Does fusion help where the face is hidden? The demo's fusion beside its members, on labelled frames with a face and without one.

`python -m benchmarks.demo_fusion` works in the folder of `make demo`, with its data, weights and store: only models are fitted. With
cross-validation every labelled stream is predicted by fits that did not learn from it, and an interval over videos has all of them to draw
from. A frame has a face where the mesh has a row for it.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

from affpipe.core.tasks.metrics import Video
from affpipe.core.tasks.table import VA
from affpipe.data import manifest
from affpipe.models.targets import frame_labels
from affpipe.plan import config
from affpipe.plan.plan import Plan
from affpipe.results import evaluate
from affpipe.results.frames import frames_of

DATA, OUT, FOLDS = Path("demo"), Path("benchmarks/out/demo_fusion"), 3
FACE, FUSED, MESH = "face", "fused", "mesh"
WITHOUT, WITH, ALL = "without a face", "with a face", "all labelled frames"
Videos = dict[str, Video]


def run(*recipes: Path) -> Plan:
    """Fit what is not fitted of the settings laid over `config.yaml`; its plan."""
    layers = [Path("config.yaml"), *recipes]
    subprocess.run([sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", "--configfile", *map(str, layers)], check=True)
    settings = config.load(layers)
    return Plan(settings, manifest.read(Path(settings.manifest), Path(settings.data_root)))


def videos(plan: Plan, model: str, partitions: tuple[str, ...]) -> dict[str, Videos]:
    """Truth, prediction and counted frames of each labelled stream of the partitions, by the kind of frames."""
    out: dict[str, Videos] = {WITHOUT: {}, WITH: {}, ALL: {}}
    for item in plan.items("labels"):
        if item.row.partition in partitions:
            truth, known = frame_labels(plan.streams(item), plan.tasks)[VA.name]
            with plan.streams(item).open(MESH) as mesh:
                face = mesh.valid
            prediction = frames_of(plan, model, item)[1].values[VA.name]
            for kind, here in ((WITHOUT, ~face), (WITH, face), (ALL, np.ones_like(face))):
                out[kind][item.id] = truth, prediction, known & here
    return out


def main() -> None:
    """Both runs, the default one and the cross-validated; print and keep their figures."""
    OUT.mkdir(parents=True, exist_ok=True)
    recipe = OUT / "folds.yaml"
    recipe.write_text(f"name: demo-fusion\ncross_validation: {{folds: {FOLDS}, use: ensemble}}\n")
    measure, found = VA.measure, {}
    plan = run(recipe)
    each = {model: videos(plan, model, ("train", "validation")) for model in plan.settings.models}
    source = {row.stream_id: plan.sources[row.video_id] for row in plan.rows}
    frames = {kind: sum(int(known.sum()) for *_, known in of.values()) for kind, of in each[FACE].items()}
    share = frames[WITHOUT] / frames[ALL]
    print(f"{frames[ALL]} labelled frames of {len(each[FACE][ALL])} streams, {share:.1%} without a face")
    for kind in (WITHOUT, WITH, ALL):
        figures = {model: evaluate.score(VA, of[kind], source=source)[measure] for model, of in each.items()}
        less = evaluate.compare(VA, each[FUSED][kind], each[FACE][kind], source=source)["pooled"][measure]
        found[kind] = {"frames": frames[kind], "models": figures, "fused less face": less}
        own = "  ".join(f"{model} {figure:.3f}" for model, figure in figures.items())
        print(f"{kind:<20} {own}   fused less face {less['difference']:+.3f}, 95 % {less['low']:+.3f} to {less['high']:+.3f}")
    whole = videos(run(), FACE, ("validation",))
    found["default run, validation"] = {kind: evaluate.score(VA, of)[measure] for kind, of in whole.items()}
    print(f"default run, validation, face alone with a face: {found['default run, validation'][WITH]:.3f}")
    about = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(), "folds": FOLDS}
    (OUT / "demo_fusion.json").write_text(json.dumps(about | {"share without a face": share, "figures": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
