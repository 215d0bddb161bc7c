"""Settings of what is predicted: official tasks by name, and tasks of one's own, each with its labels."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, TypeAdapter, model_validator

from affpipe.core.section import Name, Section, after, later
from affpipe.core.tasks.classes import Classes
from affpipe.core.tasks.dimensions import Dimensions
from affpipe.core.tasks.table import TASKS
from affpipe.core.tasks.task import GAP_S, Task
from affpipe.core.tasks.units import Units
from affpipe.data.annotation_files import tables

RESERVED = ("stream_id", "video", "partition", "subject", "person", "images", "overlap", "video_track", "audio_track")  # in manifests
FIXED = ("frame", "time_s", "source")  # columns of each prediction table
TIMES = (*tables.TIME, *tables.START, *tables.END)  # columns of label files
LARGEST, NARROWEST = 1e6, 0.01  # of the numbers of a dimension, and of its range: files have six decimals
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9_](?:[A-Za-z0-9_ .+-]*[A-Za-z0-9_.+-])?$", max_length=40)]
TIER = later("", description="tier to read of annotation files with tiers; not given: the one with the task's name")


class OwnTask(Section):
    """Settings that all tasks of one's own share. Their labels stand in the manifest's column of that name."""

    name: Name = Field(description="name of the task: a column of the manifest, a folder of the results")
    title: str = after("", pattern=r"^[^\x00-\x1f\x7f]*$", max_length=80, description="title for people; not given: the name")
    gap_s: float = later(GAP_S, gt=0, description="greatest gap between two values of a time series that is interpolated")

    def task(self) -> Task:
        """Make the task."""
        raise NotImplementedError


class OwnDimensions(OwnTask):
    """A task of numbers, as valence and arousal are."""

    dimensions: dict[Label, tuple[float, float]] = Field(min_length=1, description="name -> least and greatest value")
    tier: str = TIER
    invalid: float = Field(-5, description="mark of a frame without a label in annotation files")

    @model_validator(mode="after")
    def _ranges(self):
        _once("dimensions", tuple(self.dimensions))
        if self.tier and len(self.dimensions) > 1:
            raise ValueError(f"tier: want none, as each of several dimensions has its own, by its name, got {self.tier!r}; take it out")
        for name, (low, high) in self.dimensions.items():
            if not low < high:
                raise ValueError(f"dimensions.{name}: want the least value first, got [{low:g}, {high:g}]")
            if max(-low, high) > LARGEST or max(low, -high) > LARGEST or high - low < NARROWEST:
                want = f"numbers from {-LARGEST:.0f} to {LARGEST:.0f}, {NARROWEST:g} or more apart"
                raise ValueError(f"dimensions.{name}: want {want}, got [{low:g}, {high:g}]; write the labels in another unit")
            if low <= self.invalid <= high:
                raise ValueError(f"invalid: want a mark outside of [{low:g}, {high:g}], where no label of {name} is, got {self.invalid:g}")
        return self

    def task(self) -> Dimensions:
        return Dimensions(self.name, self.title or self.name, self.invalid, "", self.tier, self.gap_s, ranges=dict(self.dimensions))


class OwnClasses(OwnTask):
    """A task with one of several classes, as expressions are."""

    classes: tuple[Label, ...] = Field(min_length=2, max_length=64, description="names, in the order of their numbers")
    tier: str = TIER
    invalid: int = Field(-1, lt=0, description="mark of a frame without a label in annotation files")

    @model_validator(mode="after")
    def _apart(self):
        _once("classes", self.classes)
        for number, name in enumerate(self.classes):
            if tables.number(name) not in (None, number):
                raise ValueError(f"classes: want no name that is another class's number, got {name!r} for {number}; rename it")
        return self

    def task(self) -> Classes:
        return Classes(self.name, self.title or self.name, self.invalid, "", self.tier, self.gap_s, column=self.name, names=self.classes)


class OwnUnits(OwnTask):
    """A task with a yes or no for each of several units, as action units are."""

    units: tuple[Label, ...] = Field(min_length=1, max_length=64, description="names, in the order of columns")
    invalid: int = Field(-1, lt=0, description="mark of a frame without a label in annotation files")

    @model_validator(mode="after")
    def _apart(self):
        _once("units", self.units)
        return self

    def task(self) -> Units:
        return Units(self.name, self.title or self.name, self.invalid, gap_s=self.gap_s, names=self.units)


def _once(where: str, names: tuple[str, ...]) -> None:
    lower = [name.lower() for name in names]
    if twice := [name for i, name in enumerate(names) if lower[i] in lower[:i]]:
        raise ValueError(f"{where}: want each name once, whatever its case, got {twice[0]!r} again")


OWN_TASKS: dict[str, type[OwnTask]] = {"dimensions": OwnDimensions, "classes": OwnClasses, "units": OwnUnits}


def _which(value: Any) -> str | None:
    """Return the form of an entry of `tasks`: "name" for an official one, or the key by which a section of one's own is recognised."""
    if isinstance(value, str):
        return "name"
    keys = value.keys() if isinstance(value, dict) else type(value).model_fields if isinstance(value, OwnTask) else ()
    return next((form for form in OWN_TASKS if form in keys), None)


AnyTask = Annotated[
    Annotated[Literal[*TASKS], Tag("name")]
    | Annotated[OwnDimensions, Tag("dimensions")]
    | Annotated[OwnClasses, Tag("classes")]
    | Annotated[OwnUnits, Tag("units")],
    Discriminator(_which),
]


def task_table(tasks: tuple[AnyTask, ...]) -> dict[str, Task]:
    """Return name -> task: official ones in the order of their table, then one's own by name, so that one set of tasks has one order.

    Raises ValueError for a task that is named twice, or two tasks with a column of one name, which they would share in prediction tables.
    """
    own = {task.name: task.task() for task in sorted((t for t in tasks if not isinstance(t, str)), key=lambda t: t.name)}
    names = [task if isinstance(task, str) else task.name for task in tasks]
    if len(set(names)) < len(names):
        raise ValueError(f"want each task once, got {names}")
    for name in own:
        if name in TASKS:
            raise ValueError(f"want another name than that of an official task, got {name}; rename it")
        if name in RESERVED or name.endswith("_partition"):
            raise ValueError(f"want another name than that of a column of the manifest, got {name}; rename it")
    out = {name: task for name, task in TASKS.items() if name in names} | own
    columns = dict.fromkeys(FIXED, "")  # column, in small letters -> the task that has it
    for name, task in out.items():
        for column in (*task.columns, *task.chance_columns):
            if column.lower() in columns:
                first = columns[column.lower()]
                got = {"": f"in {name}, where each table has it", name: f"twice in {name}"}.get(first, f"in {first} and {name}")
                raise ValueError(f"want names that a prediction table has once, got {column!r} {got}; rename one")
            columns[column.lower()] = name
        if taken := [column for column in task.columns if column.lower() in TIMES]:
            raise ValueError(f"want other names than the columns of times in label files, got {taken[0]!r} in {name}; rename it")
    return out


def parse_tasks(value: Any) -> dict[str, Task]:
    """Parse name -> task from the setting `tasks` in JSON types; ValueError if it is none."""
    return task_table(TypeAdapter(tuple[AnyTask, ...]).validate_python(value))
