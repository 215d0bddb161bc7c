"""What a run made, part by part, and in what two runs differ: streams, models and results, by files alone.

Nothing of the package is imported: a run may be of another commit, whose modules lie elsewhere. What is known to vary between two runs of
one commit is in VARIES, LEFT_OUT and MAY_DIFFER, each with its reason, and nowhere else.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import soundfile

VARIES = {  # keys of headers and of run.json
    "created": "when a stream was written",
    "affpipe": "the version of the package",
    "settings": "of run.json: compared where they lie, in cache/settings",
}
LEFT_OUT = {  # not compared
    r"cache/runs/.*": "where a run was started, and on which machine",
    r"(.*/)?\..*": "hidden files: locks, and what is being written",
}
MAY_DIFFER = {"pages": "they say when they were made", "settings": "a default may be new; keys say what alters values"}
KEY = r"cache/[^/]+/[0-9a-f]{12}"
KINDS = {  # the first that fits; what fits none is compared too, byte for byte
    "streams": rf"{KEY}/[^/]+\.h5",
    "sound": rf"{KEY}/[^/]+\.flac",
    "models": rf"{KEY}/.*\.safetensors",
    "records of fits": rf"{KEY}/fit[^/]*\.json",
    "indexes": rf"{KEY}/shards/[^/]+\.json",
    "settings": r"cache/settings/[^/]+\.json",
    "pages": r".*\.html",
    "results": r"results/.*",
}
WANTED = ("streams", "models", "results")  # two runs that made none of them are not the same: nothing was compared
TOLD = 3  # differences that a line names
Parts = dict[str, str]  # part of a file -> its digest


@dataclass(frozen=True)
class Comparison:
    """One line: what was compared, how much of it there is, what is unlike, and why that does no harm, if so."""

    what: str
    count: int
    unlike: list[str]
    harmless: str = ""

    @property
    def wrong(self) -> bool:
        return bool(self.unlike) and not self.harmless

    def __str__(self) -> str:
        more = "; …" if len(self.unlike) > TOLD else ""
        grade = f"unlike, as they may be ({self.harmless})" if self.harmless else "UNLIKE"
        said = f"{len(self.unlike)} {grade}: {'; '.join(self.unlike[:TOLD])}{more}" if self.unlike else "equal"
        return f"{self.what:<32} {self.count:>5}  {said}"


def parts(path: Path) -> Parts:
    """What a file holds: datasets and attributes of a stream, samples of sound, tensors of a model, lines of a text, bytes of the rest."""
    match path.suffix:
        case ".h5":
            return _stream(path)
        case ".flac":
            with soundfile.SoundFile(path) as file:
                form = f"{file.samplerate} {file.channels} {file.subtype}"
                return {"samples": _digest(form.encode() + file.read(dtype="int32").tobytes())} | _told("comment", file.comment)
        case ".safetensors":
            return _model(path.read_bytes())
        case ".csv" | ".json" | ".txt":
            data = path.read_bytes()
            if path.name in ("run.json", "fit.json"):
                return _told("", data.decode())
            return {f"line {number}": _digest(line) for number, line in enumerate(data.split(b"\n"), 1)}
    return {"bytes": _digest(path.read_bytes())}


def compare(before: Path, after: Path) -> list[Comparison]:
    """Hold what lies in `cache` and `results` of one folder against that of another."""
    ours, theirs = _files(before), _files(after)
    keys = [{found[0] for name in files if (found := re.match(rf"{KEY}(?=/)", name))} for files in (ours, theirs)]
    out = [Comparison("keys", len(keys[0]), _only(*keys) or ([] if keys[0] else ["there are none"]))]
    for kind in (*KINDS, "other files"):
        names = [{name for name, of in files.items() if of == kind} for files in (ours, theirs)]
        unlike = _only(*names)
        for name in sorted(names[0] & names[1]):
            unlike += differences(name, parts(before / name), parts(after / name))
        if kind in WANTED and not names[0]:
            unlike.append("there are none")
        out.append(Comparison(kind, len(names[0]), unlike, MAY_DIFFER.get(kind, "")))
    return out


def differences(name: str, ours: Parts, theirs: Parts) -> list[str]:
    """Parts of a file that are not the same, by name."""
    shared = [f"{name}: {part}" for part in ours if part in theirs and ours[part] != theirs[part]]
    return shared + [f"{name}: {said}" for said in _only(set(ours), set(theirs))]


def ignored() -> list[str]:
    """What is not compared, or may differ, a line each."""
    lines = [f"`{key}` in headers of streams and in run.json: {why}" for key, why in VARIES.items()]
    lines += [f"{pattern}: {why}" for pattern, why in LEFT_OUT.items()]
    return lines + [f"{kind} are compared, and may differ: {why}" for kind, why in MAY_DIFFER.items()]


def _files(folder: Path) -> dict[str, str]:
    """Files of cache and results -> their kind."""
    found = (path for place in ("cache", "results") for path in sorted((folder / place).rglob("*")) if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in found)
    kept = (name for name in names if not any(re.fullmatch(pattern, name) for pattern in LEFT_OUT))
    return {name: next((kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, name)), "other files") for name in kept}


def _only(ours: set[str], theirs: set[str]) -> list[str]:
    return [f"{name} only before" for name in sorted(ours - theirs)] + [f"{name} only after" for name in sorted(theirs - ours)]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _array(values: Any) -> str:
    """Digest of type, shape and bits; strings of any length by what they say, since their bytes are addresses."""
    array = np.asarray(values)
    data = repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
    return _digest(f"{array.dtype} {array.shape} ".encode() + data)


def _told(name: str, text: str) -> Parts:
    """Keys of a JSON object, but for those that vary; any other text whole."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        return {name: _digest(text.encode())}
    return {f"{name}.{key}".lstrip("."): _digest(json.dumps(value).encode()) for key, value in found.items() if key not in VARIES}


def _stream(path: Path) -> Parts:
    out: Parts = {}

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            out[name] = _array(item[()])
        for key, value in item.attrs.items():
            at = f"{name}@{key}"
            out.update(_told(at, value) if isinstance(value, str) else {at: _array(value)})

    with h5py.File(path, "r") as file:
        add("", file)
        file.visititems(add)
    return out


def _model(data: bytes) -> Parts:
    """Tensors and notes of a safetensors file: eight bytes with the length of a JSON header, the header, the data."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    out: Parts = {}
    for key, value in header.pop("__metadata__", {}).items():
        out |= _told(f"note {key}", value)
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        out[name] = _digest(f"{tensor['dtype']} {tensor['shape']} ".encode() + data[start + begin : start + end])
    return out
