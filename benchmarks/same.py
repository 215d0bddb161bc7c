"""Does a refactoring change a figure? Two commits run the same workflows on the same data; then all that they made is compared.

`python -m benchmarks.same BEFORE [AFTER]` (AFTER is HEAD unless given; what is not committed has no part in it) makes a checkout of each
in a temporary folder and runs there what `make demo` runs, then recipes, in turn: a recipe before, the same recipe after. Both use the
interpreter that runs this, with the checkout as PYTHONPATH, and nothing but its command lines. BEFORE renders the data and writes the tiny
weights, once for both; each arm has a cache and results of its own. Then a line a comparison, see `benchmarks/contents.py`: keys; streams,
dataset by dataset, and fitted models, tensor by tensor, to the last bit; results, byte by byte. Exit status 1 if anything is unlike that
must not be.

`--over` goes further: AFTER runs once more, on a copy of BEFORE's cache, and neither an apply nor a fit may be left to do. Keys of the
first runs are told by the first comparison; this one says that a cache of today holds.

Numerical libraries get one thread (OMP_NUM_THREADS and the like) in both arms; a job sets its own number, which its rule gives it, and
which is the same in both. `--data` names a folder with `demo` and `weights`, of an earlier call that was kept, or of `make demo`.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import yaml

from benchmarks.contents import Comparison, compare, ignored

ROOT = Path(__file__).resolve().parents[1]
BASE = "config.yaml"
RECIPES = ("recipes/ras-demo.yaml", "recipes/ras-demo.yaml+recipes/ras-code-demo.yaml", "recipes/au-demo.yaml", "recipes/expr-demo.yaml")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
DATA = ("demo", "weights")
MADE = (".h5", ".flac", ".safetensors")  # a stream or a model; the workflow may touch what it tracks beside them
LAST = 15  # lines of a command that failed


class Arm:
    """A checkout of a commit, and what runs there."""

    def __init__(self, folder: Path, commit: str, cores: int):
        self.folder, self.commit, self.cores = folder, commit, cores
        self.log = folder.with_suffix(".log")
        folder.mkdir()
        archive = subprocess.run(["git", "-C", ROOT, "archive", commit], stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        self.environment = os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": str(folder)}
        found = Path(self.python("-c", "import affpipe; print(affpipe.__file__)").strip())
        if not found.is_relative_to(folder):
            sys.exit(f"same: want the package of {folder}, got {found}; take the other one out of the environment")

    def python(self, *command: str, fails: bool = False) -> str:
        """Run Python in the checkout, return what it prints; what it says otherwise goes to the arm's log."""
        with self.log.open("a") as log:
            done = subprocess.run(
                [sys.executable, *command],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                check=False,
            )
            log.write(done.stdout)
        if done.returncode and not fails:
            last = "\n".join(self.log.read_text().splitlines()[-LAST:])
            sys.exit(f"same: {self.folder.name}: python {' '.join(command)} ended with {done.returncode}:\n{last}")
        return done.stdout + (f"exit status {done.returncode}\n" if done.returncode else "")

    def workflow(self, recipe: str, *options: str) -> str:
        """Run the workflow of a recipe; "" is that of config.yaml alone."""
        files = ("--configfile", BASE, *recipe.split("+")) if recipe else ()
        return self.python("-m", "snakemake", "--cores", str(self.cores), *files, *options)

    def whole(self, recipe: str) -> None:
        """Run the workflow, and keep among the results what `evaluate` prints of it."""
        self.workflow(recipe, "--quiet", "rules")
        name = self.name(recipe)
        (self.folder / f"results/{name}.txt").write_text(self.python("-m", "affpipe", "evaluate", "--run", f"results/{name}", fails=True))

    def name(self, recipe: str) -> str:
        """Name of the run: the last that a settings file gives."""
        files = (self.folder / file for file in (BASE, *filter(None, recipe.split("+"))))
        return [found["name"] for file in files if "name" in (found := yaml.safe_load(file.read_text()))][-1]

    def has(self, recipe: str) -> bool:
        return all((self.folder / file).is_file() for file in filter(None, recipe.split("+")))


def planned(text: str) -> dict[str, int]:
    """Rule -> jobs, from the table of a dry run."""
    found = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", text, flags=re.MULTILINE)}
    return {rule: count for rule, count in found.items() if rule not in ("all", "total")}


def over(before: Arm, arm: Arm, recipes: list[str]) -> list[Comparison]:
    """Run an arm on a copy of what another made, with Snakemake's notes on it; only publishing may be left to do."""
    shutil.copytree(before.folder / "cache", arm.folder / "cache")  # times of files included
    notes = Path(".snakemake/metadata")
    if (before.folder / notes).is_dir():
        shutil.copytree(before.folder / notes, arm.folder / notes)
    out = []
    for recipe in recipes:
        jobs = planned(arm.workflow(recipe, "--dry-run"))
        again = [f"{rule} {count}" for rule, count in jobs.items() if rule != "publish"]
        if "publish" not in jobs:  # nothing is published there yet
            again.append("no job `publish` in the plan, so it was not understood")
        out.append(Comparison(f"none but publish: {arm.name(recipe)}", sum(jobs.values()), again))
        arm.whole(recipe)
    files = [path.relative_to(before.folder) for path in sorted((before.folder / "cache").rglob("*")) if path.suffix in MADE]
    times = {name: (before.folder / name).stat().st_mtime_ns for name in files}
    again = [str(name) for name in files if not (arm.folder / name).exists() or (arm.folder / name).stat().st_mtime_ns != times[name]]
    return [*out, Comparison("streams, models: made anew", len(files), again), *compare(before.folder, arm.folder)]


def told(title: str, found: list[Comparison]) -> bool:
    """Print a table of comparisons; whether one of them is wrong."""
    print(f"\n{title}", *found, sep="\n", flush=True)
    return any(line.wrong for line in found)


def asked(arms: list[Arm], recipes: list[str] | None) -> list[str]:
    """Recipes that both commits have, config.yaml first; one that a person named must be there."""
    out, names = [], set()
    for recipe in ("", *(RECIPES if recipes is None else recipes)):
        lacking = [arm.commit for arm in arms if not arm.has(recipe)]
        if lacking and recipes is not None:
            sys.exit(f"same: want {recipe} in both commits, got none in {', '.join(lacking)}; leave it out")
        if lacking:
            print(f"{recipe}: left out, since {', '.join(lacking)} has none", flush=True)
            continue
        if (name := arms[0].name(recipe)) in names:
            sys.exit(f"same: want a name of its own for each recipe, got {name} again in {recipe}; its results would replace the others")
        names.add(name)
        out.append(recipe)
    return out


def work(place: Path, chosen: argparse.Namespace) -> bool:
    """Run both arms, print what differs; whether something does that must not."""
    commits = {"before": chosen.before, "after": chosen.after} | ({"over": chosen.after} if chosen.over else {})
    arms = {name: Arm(place / name, commit, chosen.cores) for name, commit in commits.items()}
    before, after = arms["before"], arms["after"]
    recipes = asked([before, after], chosen.recipes)
    data = chosen.data or before.folder
    if chosen.data is None:
        before.python("-m", "affpipe", "demo", "render", "demo", "--jobs", str(chosen.cores))
        before.python("-m", "affpipe", "weights", "tiny", "weights")
    for arm in arms.values():
        for name in DATA:
            if arm.folder != data:
                shutil.copytree(data / name, arm.folder / name)
    for recipe in recipes:
        for arm in (before, after):
            begun = time.monotonic()
            arm.whole(recipe)
            print(f"{arm.name(recipe):<14} {arm.folder.name:<7} {time.monotonic() - begun:6.0f} s", flush=True)
    print("\nnot compared, or no fault if unlike:", *ignored(), sep="\n  ")
    wrong = told(f"{chosen.before} and {chosen.after}, each with a cache of its own", compare(before.folder, after.folder))
    if chosen.over:
        wrong |= told(f"{chosen.after} on the cache of {chosen.before}", over(before, arms["over"], recipes))
    return wrong


def main() -> None:
    """Read the command line, work in a folder, end with 1 if anything differs that must not."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.same", description=__doc__.splitlines()[0])
    options.add_argument("before")
    options.add_argument("after", nargs="?", default="HEAD")
    options.add_argument("--recipes", nargs="*", help="after config.yaml; one that is laid over another: A+B; none: config.yaml alone")
    options.add_argument("--over", action="store_true", help="run AFTER on a copy of BEFORE's cache too: nothing may be made anew")
    options.add_argument("--data", type=Path, help="folder with demo and weights, in place of rendering them")
    options.add_argument("--keep", type=Path, help="a new folder to work in, which stays")
    options.add_argument("--cores", type=int, default=2)
    chosen = options.parse_args()
    for name in ("before", "after"):
        command = ["git", "-C", ROOT, "rev-parse", "--verify", "--short", f"{getattr(chosen, name)}^{{commit}}"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.returncode:
            options.error(f"want a commit, got {getattr(chosen, name)!r}: {found.stderr.strip()}")
        setattr(chosen, name, found.stdout.strip())
    if chosen.data and not all((chosen.data / name).is_dir() for name in DATA):
        options.error(f"want {' and '.join(DATA)} in {chosen.data}")
    if chosen.keep:
        if chosen.keep.exists():
            options.error(f"want a new folder to keep, got {chosen.keep}, which is there")
        chosen.keep.mkdir(parents=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no workflow goes on in a folder that is gone
    with nullcontext(chosen.keep) if chosen.keep else tempfile.TemporaryDirectory() as place:
        sys.exit(int(work(Path(place).resolve(), chosen)))


if __name__ == "__main__":
    main()
