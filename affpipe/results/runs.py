"""The runs that use a cache, and the folders that each needs there, so that freeing one run's leftovers removes nothing of another.

A cache knows a run by a file, `<cache>/runs/<digest>.json`: where it was started, where its results are, the keys that it names. The file
is written when the run starts, and each of its jobs touches it. It counts for KEEP_DAYS days; after that the results count, as long as they
exist. So neither an abandoned run nor its frozen settings keep anything forever.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from affpipe.core.errors import AffpipeError, StoreError
from affpipe.plan import config
from affpipe.plan.plan import Plan, digest
from affpipe.plan.settings import Settings
from affpipe.results import published
from affpipe.store.streams import KEY
from affpipe.system import disk, jsonfile

KEEP_DAYS = 30  # days since the last job of a run that has published nothing


@dataclass(frozen=True)
class Claim:
    """A claim on folders of a cache.

    Attributes:
        who: the claimant, for people. give_up: what to delete to end the claim.
        keys: keys of the folders.
        stages: names of folders of which it keeps all: settings alone do not tell the keys of models.
    """

    who: str
    give_up: str
    keys: frozenset[str]
    stages: frozenset[str] = frozenset()

    def keeps(self, stage: str, key: str) -> bool:
        """Tell whether it keeps the folder `<stage>/<key>`."""
        return key in self.keys or stage in self.stages


@dataclass(frozen=True)
class Record:
    """The file of a run. Folders are named twice, from the root and from the cache: one of them holds if the other has moved."""

    path: Path
    run: str
    host: str
    settings: str
    workspace: tuple[Path, Path]
    results: tuple[Path, Path]
    keys: frozenset[str]

    @property
    def days(self) -> float:
        """Days since the run, or its last job, started."""
        return (time.time() - self.path.stat().st_mtime) / disk.DAY_S

    def gone(self) -> str:
        """Return why the run no longer counts by this file; "" while it does."""
        if not any(folder.is_dir() for folder in self.workspace):
            here = self.host == socket.gethostname()  # folders of another machine may be invisible from here
            return f"{self.workspace[0]} is gone" if here else ""
        return f"no job of it for {self.days:.0f} days" if self.days > KEEP_DAYS else ""


def frozen_path(settings: Settings) -> Path:
    """Return the path of resolved settings for jobs to read; the name carries their content."""
    return Path(settings.cache) / "settings" / f"{digest(settings.model_dump(mode='json'))}.json"


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Lock a cache, so that no run starts on it and nobody else frees it while a block runs."""
    with disk.alone(cache / "runs" / "lock"):
        yield


def register(plan: Plan) -> None:
    """Write the file of a run, or only touch it if it has the same content already."""
    places = {"workspace": Path.cwd(), "results": plan.results.absolute()}
    found = {
        "run": plan.settings.name,
        "host": socket.gethostname(),
        "settings": frozen_path(plan.settings).stem,
        **{name: [str(path), os.path.relpath(path, plan.cache)] for name, path in places.items()},
        "keys": sorted({plan.key(name) for name in plan.names}),
    }
    with alone(plan.cache):
        disk.write_text(_path(plan), json.dumps(found, indent=1) + "\n")


def touch(plan: Plan) -> None:
    """Record that a job of the run is at work."""
    with suppress(FileNotFoundError):
        os.utime(_path(plan))


def _path(plan: Plan) -> Path:
    return plan.cache / "runs" / f"{digest([str(plan.results.absolute()), frozen_path(plan.settings).stem])}.json"


def read_run(folder: Path) -> tuple[Settings, dict[str, str]]:
    """Read settings and model keys of a published run, with paths relative to here; InputError if the folder holds no record of one."""
    found = published.read(folder)
    try:
        settings, models, workspace = found["settings"], found["models"], folder / found["workspace"]
        if set(models) != set(settings["models"]) or not all(KEY.fullmatch(key) for key in models.values()):
            raise ValueError("models without a key each")
        here = {name: os.path.relpath(workspace / settings[name]) for name in ("cache", "weights", "results", "manifest", "data_root")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise published.unreadable(folder, error) from None
    return config.parse({**settings, **here}, where=str(folder / published.RECORD)), models


def records(cache: Path) -> list[Record]:
    """Read the files of all runs; StoreError if one does not read."""
    out = []
    for path in sorted((cache / "runs").glob("*.json")):
        try:
            found = jsonfile.read(path)
            places = {name: (Path(found[name][0]), cache / found[name][1]) for name in ("workspace", "results")}
            texts = [found[name] for name in ("run", "host", "settings")]
            if not all(isinstance(text, str) for text in texts):
                raise ValueError("names that are none")
            out.append(Record(path, *texts, **places, keys=frozenset(key for key in found["keys"] if KEY.fullmatch(key))))
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            what = getattr(error, "strerror", None) or error
            raise StoreError(f"{path}: want the file of a run, got {what}; delete it if you know that run to be over") from None
    return out


def results_of(plan: Plan, known: list[Record]) -> list[Path]:
    """Return every folder of results to which a run of the cache may have published: beside this run's, and beside those of the others."""
    parents = {plan.results.absolute().parent, *(place.parent for record in known for place in record.results)}
    folders = (folder for parent in parents if parent.is_dir() for folder in parent.iterdir() if folder.is_dir())
    return sorted({folder.resolve() for folder in folders})


def claims(plan: Plan) -> tuple[list[Claim], dict[Path, str]]:
    """Return all claims on a plan's cache: the plan's own first, then those of published runs, then those of started runs.

    Also returned are the files of runs that no longer count, each with the reason. Raises an error if it is unknown what somebody uses.
    """
    known = records(plan.cache)
    out = [Claim("these settings", "", frozenset(plan.key(name) for name in plan.names))]
    for folder in results_of(plan, known):
        if published.known(folder) and (folder / published.RECORD).exists() and (keys := _published(plan.cache, folder, known)):
            out.append(Claim(f"the run published in {folder}", f"{folder}", keys))
    gone = {record.path: reason for record in known if (reason := record.gone())}
    for record in known:
        if record.path not in gone:
            out.append(Claim(f"the run {record.run} of {record.workspace[0]}, {record.days:.0f} days ago", f"{record.path}", record.keys))
    for path in sorted((plan.cache / "settings").glob("*.json")):  # from a version of affpipe that wrote no files of runs
        if path.stem not in {record.settings for record in known} and time.time() - path.stat().st_mtime < KEEP_DAYS * disk.DAY_S:
            out.append(_of_settings(path))
    return out, gone


def _published(cache: Path, folder: Path, known: list[Record]) -> frozenset[str]:
    """Return the keys of a published run; none if it uses another cache. If it cannot be read, they are those that it was started with."""
    try:
        settings, models = read_run(folder)
    except AffpipeError:
        started = [record.keys for record in known if folder in (place.resolve() for place in record.results)]
        if not started:
            raise
        return frozenset().union(*started)
    if Path(settings.cache).resolve() != cache.resolve() and Path(settings.cache).exists():
        return frozenset()
    plan = Plan(settings, [], model_keys=models)
    return frozenset(plan.key(name) for name in plan.names)


def _of_settings(path: Path) -> Claim:
    try:
        settings = config.parse(jsonfile.read(path), where=str(path))
    except (AffpipeError, OSError, ValueError) as error:
        raise StoreError(f"{path}: want the settings of a run, got {error}; delete it if you know that run to be over") from None
    plan = Plan(settings, [], model_keys=dict.fromkeys(settings.models, ""))
    keys = frozenset(plan.key(name) for name in plan.names if name not in settings.models)
    return Claim(f"a run of {path}", str(path), keys, frozenset(settings.models))
