"""Names for everything: keys from settings, members from the manifest. The Snakefile imports this module; it imports nothing heavy.

There are two kinds of jobs. *Apply* turns media or streams into streams; a job is one stage and shard, and loads its network once. *Fit*
turns streams and labels into a model. A stage's key hashes its spec, its code (a revision, and the package of a part that is not our own)
and the keys that it reads. A model's key also hashes the labels and streams on which it is fitted. Shards are formed within two groups,
`fit` (train and validation) and `rest`, so a video to predict never touches training.
"""

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from affpipe.core.errors import ManifestError, StoreError
from affpipe.core.item import Item, Row
from affpipe.core.stage import Context, Fits, Stage, UndeclaredError
from affpipe.data import overlaps
from affpipe.data.manifest import check_images, fold_groups, read_curation
from affpipe.data.overlaps import OFFICIAL, Member, Overlap
from affpipe.encoders.table import ENCODERS
from affpipe.faces import images
from affpipe.media.identity import fingerprint
from affpipe.models.part import ModelPart
from affpipe.models.table import MODELS
from affpipe.models.terms.part import TermPart
from affpipe.models.terms.table import TERMS
from affpipe.plan import added
from affpipe.plan.settings import Settings
from affpipe.plan.stages import STAGES
from affpipe.store.item_streams import ItemStreams, Job, Place
from affpipe.store.streams import FIT, MODEL, file_name
from affpipe.store.written import Form
from affpipe.system.files import read_bytes

# Raised by hand, like revisions of stages and models, when code changes what a run publishes: files, or how values come from streams.
RESULTS = 4

APPLY = "affpipe.models.workers:stage"  # applies a fitted model of any kind


def canonical(obj: Any) -> str:
    """Return one text for one value: JSON with sorted keys and no spaces."""
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(obj: Any, length: int = 12) -> str:
    """Return the hexadecimal SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(obj).encode()).hexdigest()[:length]


def _number(video: str) -> int:
    """Return a number for a video on which no other video has any influence."""
    return int(hashlib.sha256(video.encode()).hexdigest(), 16)


def _copies(rows: Sequence[Row], sources: Mapping[str, str]) -> dict[str, str]:
    """Return stream -> its video, for the videos that have several names."""
    several = {source for video, source in sources.items() if video != source}
    return {row.stream_id: sources[row.video_id] for row in rows if sources[row.video_id] in several}


class Plan:
    """Settings and manifest rows as stages, keys, shards and paths.

    Args:
        model_keys: keys of models fitted earlier, for a manifest without rows to fit on (`affpipe predict`).
    """

    def __init__(self, settings: Settings, rows: Sequence[Row], *, model_keys: Mapping[str, str] | None = None):
        self.settings, self.rows, self.tasks = settings, list(rows), settings.task_table
        self.cache = Path(settings.cache)
        self.model_keys = dict(model_keys or {})
        if settings.faces.source == "images":
            check_images(self.rows, Path(settings.manifest))
        heads = [name for name, model in settings.models.items() if not model.members]
        fusions = [name for name in settings.models if name not in heads]
        wanted = self._read_by(["frames", "labels", *settings.models])  # results hold frames against labels
        self.names = [name for name in (*STAGES, *settings.features, *heads, *fusions) if name in wanted]  # each after what it reads
        curation = settings.subject.curation if model_keys is None else None  # it names streams of the manifest fitted on
        self._curated = read_curation(Path(curation), self.rows, self.numbering) if curation else {}
        self.shards: dict[str, list[str]] = {}  # shard -> video ids
        fit_videos = {row.video_id for row in self.rows if row.fits}
        for video in sorted({row.video_id for row in self.rows}):
            number = _number(video) % settings.shards
            self.shards.setdefault(f"{'fit' if video in fit_videos else 'rest'}{number:03d}", []).append(video)
        self.shards = dict(sorted(self.shards.items()))

    # -- stages --

    def _read_by(self, names: Sequence[str]) -> set[str]:
        """Return these stages and all that they, or the fits of models, read, directly or not."""
        out: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in out:
                out.add(name)
                waiting += self.learns(name) if name in self.settings.models else self.reads(name)
        return out

    @property
    def unread(self) -> list[str]:
        """Features of the settings that are not made, since no model reads them."""
        within = {model.within for model in self.settings.models.values()}  # these run within a model
        return [name for name in self.settings.features if name not in self.names and name not in within]

    def stage(self, name: str) -> Stage | None:
        """Return the declaration of a stage or of the encoder of a feature; None for a model."""
        if name in self.settings.features:
            return ENCODERS[self.settings.features[name].encoder]
        return STAGES.get(name)

    @cache  # noqa: B019 - a plan lives as long as its process
    def context(self, name: str) -> Context:
        """Return the context of a stage or model."""
        s, stage = self.settings, self.stage(name)
        sees = stage.sees if stage else (*self._streams(name), *filter(None, (s.models[name].within,)))
        sections = {seen: self._section(seen) for seen in sees}
        where = self.tasks, s.device, Path(s.weights), self.cache
        if stage is None:
            return Context(name, s.models[name], self.reads(name), sections, *where, APPLY, fits=self._fits(name))
        context = Context(name, self._section(name), (), sections, *where, stage.worker, stage.origin)
        return replace(context, reads=added.reads(stage, context))

    def _section(self, name: str) -> Any:
        """Return the settings of a stage, feature or model; None for labels, which have none."""
        return self.settings.features.get(name) or self.settings.models.get(name) or getattr(self.settings, name, None)

    def _fits(self, name: str) -> Fits:
        beside = self.folds(name) if self.settings.cross_validation else 0
        return Fits(self.key(name), lambda fold: self.model(name, fold), partial(self.fold, name), beside)

    def level(self, name: str) -> str:
        """Return "video", "stream", or "label" for streams that have an annotation for a task of the run."""
        stage = self.stage(name)
        if stage is None:
            return "stream"
        return stage.level(self.context(name)) if callable(stage.level) else stage.level

    @cache  # noqa: B019 - as above
    def reads(self, name: str) -> tuple[str, ...]:
        """Return the stages whose streams `name` reads. For a model they come without its context, whose key depends on them."""
        stage = self.stage(name)
        if stage is not None:
            return self.context(name).reads
        return ("frames", *self._streams(name), *(("speech",) if self.settings.models[name].by_mouth(False) else ()))

    def _streams(self, model: str) -> tuple[str, ...]:
        """Return the streams from which a model takes its rows."""
        settings = self.settings.models[model]
        return settings.members or (("audio",) if settings.within else (settings.reads,))

    def learns(self, model: str) -> tuple[str, ...]:
        """Return the stages whose streams a fit of `model` reads: those that it is applied to, and those that choose and label its rows."""
        settings = self.settings.models[model]
        chooses = settings.by_mouth(True) and not settings.by_mouth(False)
        return (*self.reads(model), *(("speech",) if chooses else ()), "labels")

    def spec(self, name: str) -> dict[str, Any]:
        """Return the part of the settings that alters the stage's values."""
        if name == "labels":
            return {"tasks": self.settings.task_specs}
        if name in STAGES:
            section = self._section(name)
            return section.spec() if section else {}
        if name in self.settings.features:
            return self.settings.features[name].spec()
        model, out = self.settings.models[name], {"seed": self.seed(name), "tasks": self.settings.task_specs}
        if self.folds(name):
            out["cross_validation" if self.settings.cross_validation else "cross_fit"] = self.folds(name)
        if model.within:  # it runs the encoder itself
            out["encoder"] = [self.settings.features[model.within].spec(), *self.code(model.within)]
        return model.spec() | out

    def kind(self, name: str) -> str:
        """Return the name of a stage's folder: the encoder of a feature (recipes may name the feature differently), else its own."""
        return self.settings.features[name].encoder if name in self.settings.features else name

    def revision(self, name: str) -> int:
        """Return the integer that is raised by hand when code changes values."""
        return self._parts(name)[0].revision

    def _parts(self, name: str) -> list[Stage | ModelPart | TermPart]:
        """Return the declarations of the code behind a stage, feature or model: its own, then those of the terms of its loss."""
        if name not in self.settings.models:
            return [self.stage(name)]
        model = self.settings.models[name]
        return [MODELS[model.kind], *(TERMS[term.term] for term in model.training.terms)]

    def code(self, name: str) -> list[Any]:
        """Return what a key hashes of code: revision and, unless the part is our own, package; for a model also its terms', in order."""
        own, *terms = ([part.revision, *([part.origin.package] if part.origin else [])] for part in self._parts(name))
        return [*own, *([terms] if terms else [])]

    def packages(self, name: str) -> dict[str, str]:
        """Return the other packages whose code has a part in what a stage, feature or model makes, with their versions."""
        within = self.settings.models[name].within if name in self.settings.models else ""
        parts = [*self._parts(name), *(self._parts(within) if within else [])]
        return {part.origin.package: part.origin.version for part in parts if part.origin}

    @cache  # noqa: B019 - a plan lives as long as its process
    def key(self, name: str) -> str:
        """Return the key of the streams that applying `name` writes; for a model, of the model itself."""
        if name in self.model_keys:
            return self.model_keys[name]
        if name not in self.settings.models:
            return digest([self.kind(name), self.spec(name), *self.code(name), self.inputs(name)])
        copies = _copies(self._training, self._sources(self._training)) if self.folds(name) else {}  # they share a fold
        return digest(["", self.spec(name), *self.code(name), self.inputs(name), self.labels, *([copies] if copies else [])])

    def inputs(self, name: str) -> dict[str, str]:
        """Return the keys of the streams that `name`, or the fit of a model, reads, by kind; several of one kind by kind and name."""
        reads = [read for read in self.learns(name) if read != "labels"] if name in self.settings.models else self.reads(name)
        kinds = [self.kind(read) for read in reads]
        return {kind if kinds.count(kind) == 1 else f"{kind} {read}": self.key(read) for kind, read in zip(kinds, reads, strict=True)}

    @cached_property
    def labels(self) -> str:
        """Digest of all that models are fitted on: streams, their identities, partitions and annotation files."""
        tasks, fits = self.tasks, [self._item("label", id, True) for id, row in self._rows["label"].items() if row.fits]
        return digest([[i.id, i.identity, [i.row.partition_of(task) for task in tasks], i.row.person] for i in fits])

    # -- fits --

    def folds(self, model: str) -> int:
        """Return the folds in which a model is fitted besides its fit on all training streams; with cross-fit 0 if no fusion reads it."""
        if self.settings.cross_validation:
            return self.settings.cross_validation.folds
        return self.settings.cross_fit if self.fused(model) else 0

    def seed(self, model: str) -> int:
        """Return the seed of a model's fits."""
        own = self.settings.models[model].training.seed
        return self.settings.seed if own is None else own

    def fused(self, model: str) -> bool:
        """Tell whether a fusion reads the model."""
        return any(model in m.members for m in self.settings.models.values())

    def fits(self, model: str) -> list[int | None]:
        """Return the fits of a model: None for the one on all training streams, then the number of each fold that a fit leaves out."""
        return [None, *range(self.folds(model))]

    def fold(self, model: str, item: Item) -> int | None:
        """Return the fold of a training stream, whose fit was made without it; None for other streams, and without cross-fit."""
        return self._fold.get(item.row.video_id) if self.folds(model) and item.row.labelled(self.tasks, "train") else None

    @cached_property
    def scored(self) -> str:
        """The partition whose labelled streams are scored: validation; in a cross-validated run without any, train.

        Each training stream is then predicted by the fit without its fold.
        """
        some = any(row.labelled(self.tasks, "validation") for row in self.rows)
        return "validation" if some or not self.settings.cross_validation else "train"

    @cached_property
    def _training(self) -> list[Row]:
        """Rows that a model of the run learns from."""
        return [row for row in self.rows if row.labelled(self.tasks, "train")]

    @property
    def _split(self) -> int:
        """Folds of the training streams; 0 without."""
        return self.settings.cross_validation.folds if self.settings.cross_validation else self.settings.cross_fit

    @cached_property
    def _groups(self) -> list[list[str]]:
        """Training videos that share a fold: those with the same content, and those of one person if the manifest names one."""
        sources = self._sources(self._training)
        return fold_groups(self._training, lambda row: sources[row.video_id])

    def check_folds(self) -> None:
        """Raise ManifestError unless each fold has something to train on."""
        if self._split and len(self._groups) < self._split:
            raise ManifestError(
                f"{self.settings.manifest}: want a video (or person) of partition train for each of {self._split} folds, "
                f"got {len(self._groups)}; set fewer"
            )
        cross = self.settings.cross_validation
        if cross and cross.use == "per_target" and self.scored != "validation":
            raise ManifestError(
                f"{self.settings.manifest}: want rows of partition validation, by which use: per_target chooses, got none; "
                "move streams there, or set use: ensemble"
            )

    @cached_property
    def _fold(self) -> dict[str, int]:
        """Training video -> fold."""
        sizes, out = [0] * self._split, {}
        for group in sorted(self._groups, key=lambda videos: (-len(videos), _number(videos[0]))):  # largest first, each into the smallest
            fold = sizes.index(min(sizes))
            sizes[fold] += len(group)
            out |= dict.fromkeys(group, fold)
        return out

    @cached_property
    def overlaps(self) -> list[Overlap]:
        """Videos that a task of the run has in several partitions, under whatever names."""
        tasks, out = self.tasks, []
        for row in self.rows:
            own = {task: row.partition_of(task) for task in tasks if task in row.labels or row.partition_of(task) == "test"}
            content = self._content(row.video_id) if own else ""
            out.append(Member(row.stream_id, str(row.video), content, own, official=row.overlap == OFFICIAL))
        return overlaps.of(out)

    @cached_property
    def sources(self) -> dict[str, str]:
        """Video -> itself, or the first of several names with the same content. Rules that keep videos apart go by it."""
        return self._sources(self.rows)

    def _sources(self, rows: Sequence[Row]) -> dict[str, str]:
        """Return the same as `sources` for these rows: no other file is read."""
        content = {video: self._content(video) for video in sorted({row.video_id for row in rows})}
        first = {found: video for video, found in reversed(content.items())}
        return {video: first[found] for video, found in content.items()}

    # -- items --

    @cached_property
    def _rows(self) -> dict[str, dict[str, Row]]:
        """Level -> id -> its (first) row of the manifest, by id."""
        videos = {row.video_id: row for row in reversed(self.rows)}
        streams = {row.stream_id: row for row in self.rows}
        labels = {id: row for id, row in streams.items() if any(task in self.tasks for task in row.labels)}
        return {level: dict(sorted(rows.items())) for level, rows in (("video", videos), ("stream", streams), ("label", labels))}

    @cache  # noqa: B019 - as above
    def hears(self, name: str) -> bool:
        """Tell whether the output of a stage depends on sound."""
        return name == "audio" or any(self.hears(read) for read in self.reads(name))

    def _item(self, level: str, id: str, heard: bool = False) -> Item:
        """Return an item. heard: True for a stage that depends on sound, which matters if a row names the audio track."""
        return self._made(level, id, heard and self._rows[level][id].audio_track is not None)

    @cache  # noqa: B019 - as above
    def _made(self, level: str, id: str, heard: bool) -> Item:
        """Return an item, made when it is first needed: this reads its files, and a job need not read those of other shards."""
        row = self._rows[level][id]
        if level == "video":
            return Item(id, self._of_video(row, heard, self._content(id)), row)
        if level == "label":
            return Item(id, self._of_labels(self._item("stream", id, heard)), row)
        return Item(id, self._of_stream(row, heard), row, self._curated.get(id))

    @cache  # noqa: B019 - as above
    def _content(self, video: str) -> str:
        """Return the fingerprint of a file's content, whichever of its tracks are used."""
        return fingerprint(self._rows["video"][video].video)

    def _of_video(self, row: Row, heard: bool, content: str) -> str:
        tracks = {"video": row.video_track, "audio": row.audio_track if heard else None}
        named = {kind: track for kind, track in tracks.items() if track is not None}
        return digest([content, named], 16) if named else content

    def _of_stream(self, row: Row, heard: bool) -> str:
        tracks = self._curated.get(row.stream_id)
        choice = [self._item("video", row.video_id, heard).identity, row.subject if tracks is None else tracks]
        if self.settings.faces.source == "images":
            choice.append(images.fingerprint(row.images))
        return digest(choice, 16)

    def _of_labels(self, stream: Item) -> str:
        files = {task: path for task, path in stream.row.labels.items() if task in self.tasks}
        found = {task: read_bytes(path, "annotation file", ManifestError, "check the path") for task, path in files.items()}
        content = {task: hashlib.sha256(data).hexdigest() for task, data in found.items()}
        return digest([stream.identity, content], 16)

    def identity_now(self, name: str, item: Item) -> str:
        """Return the identity of an item of stage `name` by the files as they are now; the old one if the stage reads streams alone."""
        if self.level(name) == "label":
            return self._of_labels(self._item("stream", item.id, self.hears(name)))
        if self.level(name) == "video":
            return self._of_video(item.row, self.hears(name), fingerprint(item.row.video))
        return self._of_stream(item.row, False) if name == "faces" else item.identity

    def numbering(self, row: Row) -> str:
        """Return the name of the detection to which a row's track numbers belong, by settings and content.

        It is ASCII, and Excel does not take it for a number.
        """
        return f"faces/{self.key('faces')}/{self._item('video', row.video_id).identity[:8]}"

    def items(self, name: str, shard: str | None = None) -> list[Item]:
        """Return the items that stage `name` processes, in a shard or in all."""
        level = self.level(name)
        ids = self._rows[level] if shard is None else self._shard_ids(level)[shard]
        return [self._item(level, id, self.hears(name)) for id in ids]

    @cache  # noqa: B019 - as above; a plan of hundreds of streams calls this thousands of times
    def _shard_ids(self, level: str) -> dict[str, list[str]]:
        """Return shard -> ids of its items, in order."""
        shard_of = {video: shard for shard, videos in self.shards.items() for video in videos}
        out: dict[str, list[str]] = {shard: [] for shard in self.shards}
        for id, row in self._rows[level].items():
            out[shard_of[row.video_id]].append(id)
        return out

    def item(self, name: str, other: Item) -> Item:
        """Return the item of stage `name` that belongs to an item of another stage; KeyError for level "label" if it has none."""
        level = self.level(name)
        return self._item(level, other.row.video_id if level == "video" else other.id, self.hears(name))

    def labelled(self, item: Item) -> bool:
        """Tell whether a stream has an annotation for a task of the run."""
        return item.id in self._rows["label"]

    def members(self, name: str, shard: str) -> str:
        """Return the digest of the items of a shard, as stage `name` sees them."""
        return self._members(self.level(name), self.hears(name), shard)

    @cache  # noqa: B019 - as above
    def _members(self, level: str, heard: bool, shard: str) -> str:
        return digest([[i.id, i.identity] for i in (self._item(level, id, heard) for id in self._shard_ids(level)[shard])])

    # -- streams --

    def streams(self, item: Item) -> ItemStreams:
        """Return all streams of an item, for readers of a run's output."""
        return ItemStreams(item, lambda read: self._place(read, item))

    def job(self, name: str, item: Item, stop: threading.Event | None = None) -> Job:
        """Return one item of a stage or model, with its own stream and those that it declares, and no others. stop: see `Job`."""
        stage = self.stage(name)
        may = {name, *(self.reads(name) + stage.opens if stage else self.learns(name))}

        def place(read: str) -> Place:
            if read not in may:
                where = "declare it in its `reads` or `opens`"
                raise UndeclaredError(f"{name}: opens the stream of {read}, which it does not declare; {where}")
            return self._place(read, item)

        facts = {"stage": self.kind(name), "spec": self.spec(name), "revision": self.revision(name), "inputs": self.inputs(name)}
        facts["packages"] = self.packages(name)
        own = Place(self.stream(name, item), self.key(name), item.identity)
        encoder = name in self.settings.features
        form = Form(stage.offers, stage.rows) if encoder else Form(ordered=stage is not None)
        frames = self._place("frames", item) if encoder and stage.axis == "frames" else None
        return Job(self.context(name), item, place, own, facts, lambda: self.identity_now(name, item) == item.identity, form, frames, stop)

    def _place(self, name: str, item: Item) -> Place:
        return Place(self.stream(name, item), self.key(name), self.item(name, item).identity)

    # -- paths --

    def logs(self, rule: str) -> Path:
        """Return the folder of the logs of a rule's jobs."""
        return Path("logs") / self.settings.name / rule

    def record(self, name: str, shard: str) -> Path:
        """Return the file with the state of the job of a stage and shard; see `affpipe.system.job_record`."""
        return self.logs(f"apply_{name}") / f"{Path(self.index(name, shard)).stem}.json"

    def record_of_fit(self, model: str, fold: int | None = None) -> Path:
        """Return the file with the state of a fit's job."""
        return self.logs(f"fit_{model}") / f"{self.key(model)}{'' if fold is None else f'-{fold}'}.json"

    def folder(self, name: str) -> Path:
        """Return `<cache>/<stage>/<key>`."""
        return self.cache / self.kind(name) / self.key(name)

    def stream(self, name: str, item: Item) -> Path:
        """Return the file of the stream that stage `name` makes of an item (given as any stage's item of the same video and stream)."""
        own = self.item(name, item)
        return self.folder(name) / file_name(own.id, own.identity, ".flac" if name == "audio" else ".h5")

    def index(self, name: str, shard: str) -> str:
        """Return the file that records the outcome of a shard's items."""
        return f"{self.folder(name)}/shards/{shard}-{self.members(name, shard)}.json"

    def indexes(self, name: str, group: str = "") -> list[str]:
        """Return the indexes of all shards of a group (`fit`, `rest`, or both) that hold anything for the stage."""
        return [self.index(name, shard) for shard in self.shards if shard.startswith(group) and self.items(name, shard)]

    def fitted(self, model: str, fold: int | None = None) -> str:
        """Return the file that records that a model was fitted, on all training streams or without a fold of them."""
        return f"{self.folder(model)}/{'' if fold is None else f'fold{fold}/'}{FIT}"

    def model(self, model: str, fold: int | None = None) -> Path:
        """Return the path of the weights of a fit."""
        return Path(self.fitted(model, fold)).with_name(MODEL)

    @cached_property
    def run(self) -> str:
        """Key of what a run publishes."""
        heard = any(self.hears(name) for name in self.names)
        parts = [self.key(m) for m in sorted(self.settings.models)] + [self._members("stream", heard, s) for s in self.shards]
        tasks, rows = self.tasks, sorted(self.rows, key=lambda r: r.stream_id)
        partitions = [[row.stream_id, row.partition, [row.partition_of(task) for task in tasks]] for row in rows]
        parts += [[i.id, i.identity] for i in (self._item("label", id, heard) for id in self._rows["label"])]
        s = self.settings
        later = [s.publish, {name: [model.smooth.spec(), model.decode.spec()] for name, model in s.models.items()}]
        later += [section and section.spec() for section in (s.late_fusion, s.reference)]
        copies = _copies(rows, self.sources)  # halves and intervals hold them together
        titles = {name: task.title for name, task in tasks.items() if task.title != name and not task.folder}  # of tasks of one's own
        more = [part for part in (copies, titles) if part]
        return digest([RESULTS, parts, partitions, later, s.cross_validation and s.cross_validation.use, *more])

    @property
    def results(self) -> Path:
        """Folder of the results."""
        return Path(self.settings.results) / self.settings.name

    def published(self) -> str:
        """Return the file that records that the results of this run are complete."""
        return f"{self.settings.results}/{self.settings.name}/published/{self.run}.json"

    def of_index(self, index: Path) -> tuple[str, str]:
        """Return the stage and shard of an index by its name; StoreError if the manifest changed after the workflow was planned."""
        shard = index.stem.partition("-")[0]
        for name in self.names:
            if shard in self.shards and Path(self.index(name, shard)) == index:
                return name, shard
        raise StoreError(
            f"{index}: want the index of a shard of this run, got another: manifest or videos changed after planning; run again"
        )
