"""Write docs/settings.md from the settings models: `python docs/make_settings.py`. tests/docs/test_docs.py holds the two together.

Types, defaults and limits are read from the models. What a setting means is its description there, or else its line in MEANING below.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types as limits
from pydantic.fields import FieldInfo

from affpipe.core.section import Section
from affpipe.data.settings import OWN_TASKS
from affpipe.encoders import table as encoders
from affpipe.faces.settings import Faces, Landmarks, Mouth, Speech, Subject
from affpipe.media.settings import Audio, Frames, Vad
from affpipe.models import table as models
from affpipe.models.settings import DECODE_FIELDS, Decode, SequenceModel, TaskDecode
from affpipe.models.terms import table as terms
from affpipe.models.training_settings import LOSS_FIELDS, Augment, AULoss, ExprLoss, Loss, Smooth, TaskLoss, Training, VALoss
from affpipe.plan.settings import CrossValidation, LateFusion, PublishedRow, Reference, Settings

PAGE = Path(__file__).with_name("settings.md")
HEAD = """\
# Settings

Made by `python docs/make_settings.py` from the sections of the package; do not edit.

Settings are YAML files laid over each other, the later one winning key by key, and the result over the defaults below:
`snakemake --cores 2 --configfile config.yaml my.yaml`. An unknown key, a wrong type or a value out of range ends the run before any
job, in one line that names the key and what is allowed.

A setting is part of the key of the stage that it alters, and through it of the keys of all that read that stage: changing it makes
those streams anew under another name and leaves the old ones in the store. Where the last column says *no key*, the setting changes
where, how fast or by which job a value is made, not the value.
"""


def _by_kind(fields: Mapping[str, Collection[str]]) -> str:
    """Which settings of a further task each kind of tasks has."""
    own = {kind: [name for name in TaskLoss.model_fields | TaskDecode.model_fields if name in of] for kind, of in fields.items()}
    return "; ".join(f"of {kind} {', '.join(f'`{name}`' for name in names) or 'none'}" for kind, names in own.items())


SECTIONS = {  # heading -> (model, base whose rows are not repeated, where it stands in a settings file)
    "The run": (Settings, None, "At the top level."),
    **{
        f"A task of your own: {kind}": (own, None, "One of `tasks`, beside the official ones or alone; [data.md](data.md) has examples.")
        for kind, own in OWN_TASKS.items()
    },
    "frames": (Frames, None, ""),
    "audio": (Audio, None, ""),
    "vad": (Vad, None, ""),
    "faces": (Faces, None, ""),
    "subject": (Subject, None, ""),
    "landmarks": (Landmarks, None, ""),
    "mouth": (Mouth, None, ""),
    "speech": (Speech, None, ""),
    **{f"Feature {s.name}": (s.settings, None, f"`features.NAME` with `encoder: {s.name}`.") for s in encoders.PARTS},
    "All models": (SequenceModel, None, "`models.NAME` of every kind; a kind's own defaults follow below."),
    **{f"Model {p.name}": (p.settings, SequenceModel, f"`models.NAME` with `kind: {p.name}`.") for p in models.PARTS},
    "training": (Training, None, "`models.NAME.training`."),
    "loss": (Loss, None, "`models.NAME.training.loss`."),
    "loss of va": (VALoss, None, "`models.NAME.training.loss.va`."),
    "loss of expr": (ExprLoss, None, "`models.NAME.training.loss.expr`."),
    "loss of au": (AULoss, None, "`models.NAME.training.loss.au`."),
    "loss of a further task": (
        TaskLoss,
        None,
        f"`models.NAME.training.loss.tasks.TASK`. Every kind has `weight`; {_by_kind(LOSS_FIELDS)}. A setting of another kind is refused.",
    ),
    **{f"Term {p.name}": (p.settings, None, f"One of `models.NAME.training.terms`, with `term: {p.name}`.") for p in terms.PARTS},
    "augment": (Augment, None, "`models.NAME.augment`, of `chunk_asp`."),
    "smooth": (Smooth, None, "`models.NAME.smooth`. Changes what is published, and no model."),
    "decode": (Decode, None, "`models.NAME.decode`. Changes what is published, and no model."),
    "decode of a further task": (
        TaskDecode,
        None,
        f"`models.NAME.decode.tasks.TASK`: {_by_kind(DECODE_FIELDS)}. Changes what is published, and no model.",
    ),
    "cross_validation": (CrossValidation, None, "`use` changes what is published, and no model."),
    "late_fusion": (LateFusion, None, "Changes what is published, and no model."),
    "reference": (Reference, None, "A published table that the report prints beside the run's figures."),
    "A row of reference": (PublishedRow, None, "`reference.rows.MODEL`."),
}
NO_KEY = {"name", "manifest", "data_root", "cache", "results", "weights", "device", "shards", "on_error"}  # of the run
MEANING = {
    "Settings.cross_validation": "every model fitted once more without each fold, see below; none: not done",
    "Settings.manifest": "CSV of the streams, see data.md",
    "Settings.data_root": "folder that paths in the manifest start from",
    "Settings.cache": "folder of the store",
    "Settings.results": "folder of results",
    "Settings.weights": "folder of checkpoints",
    "Settings.device": "where networks run; a GPU that is chosen and missing is an error",
    "Settings.seed": "seed of fitting: first weights, order of windows, dropout",
    "Settings.on_error": "a stream that cannot be made stops its job after the others are done, or is left out with its reason",
    "Settings.features": "named features, each with an encoder, see below",
    "Settings.models": "named models, each with a kind and with what it reads, see below",
    "Frames.backend": "decoder; frames of both are equal, decord refuses what it would get wrong",
    "Audio.sample_rate_hz": "sample rate of the stored track",
    "Faces.detector": "which detector",
    "Faces.min_score": "least score of a face",
    "Faces.min_iou": "least overlap of a face with its track's last box",
    "Faces.max_gap_frames": "frames that a track survives without a face",
    "Faces.jpeg_quality": "JPEG quality of kept crops",
    "Subject.curation": "CSV of stream_id and tracks, see curation.md; its rows are part of the identity of the streams they name",
    "Mouth.compat": "rule for an open mouth: ours, or the published one",
    "Mouth.smooth_frames": "frames looked at together",
    "Mouth.gap_s": "closed gaps up to this long are filled",
    "Mouth.burst_s": "open runs up to this long are removed",
    "length_s": "length of a window or segment",
    "hop_s": "time from the start of one to the start of the next",
    "Speech.min_open_ratio": "least share of a window with an open mouth",
    "Speech.min_coverage": "least share of a window in which the mouth was seen",
    "encoder": "which encoder",
    "kind": "which kind of model",
    "term": "which term",
    "task": "task whose outputs and labels it takes",
    "weights": "folder below the setting `weights`",
    "weights_revision": "commit of these weights, or first digits, 12 at least, of their digest (`affpipe weights show` has both): others "
    "of that name are refused, and the key tells them apart; none: the first that the cache saw",
    "dtype": "precision of the network",
    "batch_size": "segments or windows per forward pass",
    "LogMel.mels": "bands",
    "LogMel.frame_s": "length of a frame",
    "LogMel.step_s": "time from frame to frame",
    "hidden": "hidden width, and width of the embedding",
    "dropout": "dropout rate, in training only",
    "layers": "layers of the stack (dcmmoe: of each expert)",
    "heads": "attention heads; they divide hidden",
    "feedforward": "width of the feed-forward nets",
    "positions": "positions added to the inputs of attention: once, in every layer, or not at all",
    "MambaModel.state": "state size",
    "MambaModel.kernel": "width of the convolution, rows",
    "MambaModel.head_hidden": "width of the regression head",
    "ChunkModel.window": "a row is an audio window of its own",
    "ChunkModel.stride": "a row is an audio window of its own",
    "ChunkModel.chunks": "predictions per window, in equal parts of its length",
    "ChunkModel.attention_hidden": "width of the pooling attention",
    "reads": "feature that it reads",
    "Settings.late_fusion": "weighted means of the models' predictions beside them, see below; none: not made",
    "Settings.reference": "a published table, see below; none: not printed",
    "Faces.batch_size": "frames per pass of the detector",
    "Fusion.reads": "models that it fuses; the first is the lead and says how a frame was observed",
    "Fusion.fill": "what is absent stays masked",
    "RAAVModel.latents": "latents that read the sound of a window",
    "RAAVModel.window_s": "length of a sequence, `level: window`",
    "RAAVModel.hop_s": "time from the start of one to the start of the next, `level: window`",
    "Augment.noise_probability": "chance of white noise",
    "Augment.noise_snr_db": "least and most signal to noise, dB",
    "Augment.gain_probability": "chance of another loudness",
    "Augment.band_probability": "chance of a band limit",
    "Augment.reverb_probability": "chance of a room",
    "Smooth.filter": "moving average, moving median, or nothing",
    "Smooth.valence_frames": "frames that the filter covers, odd",
    "Smooth.arousal_frames": "frames that the filter covers, odd",
    "Reference.source": "where the table is from",
    "PublishedRow.label": "name of the row",
    "PublishedRow.valence": "CCC of valence",
    "PublishedRow.arousal": "CCC of arousal",
    "PublishedRow.mean": "their mean",
    "PublishedRow.test": "mean CCC on the test set",
    "Training.epochs": "greatest number of epochs",
    "Training.batch_size": "windows per batch",
    "Training.learning_rate": "learning rate of AdamW, at the start",
    "Training.weight_decay": "weight decay of AdamW",
    "Training.plateau_factor": "learning rate times this on a plateau of validation CCC",
    "Training.plateau_patience": "epochs without a better CCC before that",
    "Training.stop_patience": "epochs without a better CCC before the end",
    "Loss.va_weight": "weight of the loss of valence and arousal in the sum over the run's tasks",
    "Loss.expr_weight": "weight of the loss of expressions",
    "Loss.au_weight": "weight of the loss of action units",
    "ExprLoss.kind": "which loss",
    "CrossValidation.folds": "of the training videos; the streams of a video, or of a person that the manifest names, are in one",
    "VALoss.valence_weight": "of 1 - CCC of valence",
    "VALoss.arousal_weight": "of 1 - CCC of arousal",
    "Errors.mae_weight": "of the mean absolute error",
    "Errors.mse_weight": "of the mean squared error",
}


def page() -> str:
    """The whole page."""
    return HEAD + "".join(_section(title, *about) for title, about in SECTIONS.items())


def _section(title: str, model: type[Section], base: type[Section] | None, place: str) -> str:
    words = " ".join(filter(None, ((model.__doc__ or "").strip(), place)))
    rows = [_row(model, name, field) for name, field in _own(model, base)]
    lines = ["| setting | type | default | allowed | meaning |", "| --- | --- | --- | --- | --- |", *rows]
    return f"\n## {title}\n\n{words}\n\n" + "\n".join(lines) + "\n"


def _own(model: type[Section], base: type[Section] | None) -> list[tuple[str, FieldInfo]]:
    """Fields that the base lacks or has otherwise."""
    known = base.model_fields if base else {}
    return [(n, f) for n, f in model.model_fields.items() if n not in known or repr(f) != repr(known[n])]


def _row(model: type[Section], name: str, field: FieldInfo) -> str:
    kind, allowed = _type(field)
    default = "required" if field.is_required() else "see below" if _is_section(field) else _yaml(field.default)
    meaning = "see below" if _is_section(field) else _meaning(model, name)
    unkeyed = not (field.json_schema_extra or {}).get("keyed", True) and name != "curation"  # which is in no key, yet alters values
    no_key = unkeyed or (model is Settings and name in NO_KEY)
    meaning = meaning.replace("<", "&lt;")
    return f"| `{name}` | {kind} | {default} | {allowed} | {meaning}{' (*no key*)' if no_key else ''} |"


def _meaning(model: type[Section], name: str) -> str:
    """The description of a setting, of its class or of the nearest base that has one; else its line in MEANING."""
    for cls in model.__mro__:
        field = getattr(cls, "model_fields", {}).get(name)
        said = (field and field.description) or MEANING.get(f"{cls.__name__}.{name}")
        if said:
            return said
    return MEANING[name]


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, Section)


def _type(field: FieldInfo) -> tuple[str, str]:
    """Type and limits of a setting, in words."""
    kind, bounds = field.annotation, _bounds(field.metadata, " characters" if field.annotation is str else "")
    if get_origin(kind) is Literal:
        return "word" if isinstance(get_args(kind)[0], str) else "number", ", ".join(map(str, get_args(kind)))
    if _is_section(field):
        return "section", ""
    optional = type(None) in get_args(kind)
    kind = next(a for a in get_args(kind) if a is not type(None)) if optional else kind
    word = {str: "text", int: "whole number", float: "number", bool: "true or false"}.get(kind)
    if get_origin(kind) is tuple:
        words = _words(kind)
        of_sections = "list of words and sections" if words else "list of sections"
        word = "list of numbers" if float in get_args(kind) else of_sections if _holds_sections(kind) else "list of names"
        bounds = "; ".join(filter(None, (", ".join(words), bounds)))
    elif get_origin(kind) is dict:
        of = _type(FieldInfo.from_annotation(get_args(kind)[1]))[0]
        word = f"name: {'section' if of == 'name' else of}"
    elif isinstance(kind, type) and issubclass(kind, Section):
        word = "section"
    return (word or "name") + (" or none" if optional else ""), bounds


def _holds_sections(kind: Any) -> bool:
    """Whether a tuple is of sections: of one, or of any of several, whatever parts other packages add."""
    return any((isinstance(part, type) and issubclass(part, Section)) or _holds_sections(part) for part in get_args(kind))


def _words(kind: Any) -> tuple[str, ...]:
    """Words that an entry of a tuple may be."""
    return next((get_args(part) for part in _parts(kind) if get_origin(part) is Literal), ())


def _parts(kind: Any) -> Iterator[Any]:
    for part in get_args(kind):
        yield part
        yield from _parts(part) if get_origin(part) is not Literal else ()


def _bounds(metadata: list[Any], of: str = "") -> str:
    signs = {limits.Ge: ("≥", "ge"), limits.Gt: (">", "gt"), limits.Le: ("≤", "le"), limits.Lt: ("<", "lt")}
    said = [f"{sign} {getattr(m, name)}" for m in metadata for cls, (sign, name) in signs.items() if isinstance(m, cls)]
    said += [f"at least {m.min_length}" for m in metadata if isinstance(m, limits.MinLen)]
    said += [f"at most {m.max_length}{of}" for m in metadata if isinstance(m, limits.MaxLen)]
    said += [f"`{m.pattern}`" for m in metadata if getattr(m, "pattern", None)]
    return ", ".join(said)


def _yaml(value: Any) -> str:
    return "none" if value in (None, "") else str(value).lower() if isinstance(value, bool) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
