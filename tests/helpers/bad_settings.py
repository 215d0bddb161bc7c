"""Twenty settings files that are not as they should be: `my.yaml` in a folder."""

from collections.abc import Callable
from pathlib import Path

from bad_case import Case, find_faces, plan

BOMB = "a0: &a0 [lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))


def also(text: str | bytes) -> Callable[[Path], object]:
    """Add this to the settings."""

    def make(folder: Path) -> None:
        with (folder / "my.yaml").open("ab") as file:
            file.write(text if isinstance(text, bytes) else text.format(folder).encode())

    return make


def instead(old: str, new: str) -> Callable[[Path], object]:
    """Replace words of the settings."""
    return lambda folder: (folder / "my.yaml").write_text((folder / "my.yaml").read_text().replace(old, new))


def cache_file(folder: Path) -> None:
    (folder / "cache").write_text("a file\n")


def manifest_folder(folder: Path) -> None:
    (folder / "data_manifest.csv").unlink()
    (folder / "data_manifest.csv").mkdir()


def bomb(folder: Path) -> None:
    (folder / "my.yaml").write_text(BOMB)


def none(folder: Path) -> None:
    (folder / "my.yaml").unlink()


FUSED = "models: {{face: {{kind: transformer, reads: mesh}}, fused: {{kind: dcmmoe, reads: [face, {0}]}}}}"
MODELS = "models: {face: {kind: transformer, reads: mesh}}"
SETTINGS = [
    Case(name, "settings", make, give, "refused", says, todo)
    for name, make, give, says, todo in [
        ("no file", none, plan, "my.yaml: want a readable settings file, got No such file or directory", "correct the path"),
        ("an unknown key", also("faces: {{score: 0.3}}\n"), plan, "faces.score: unknown key; allowed: source, detector", "correct the key"),
        ("a word for a number", instead("shards: 1", "shards: many"), plan, "shards: want a valid integer", "give a number"),
        (
            "a number out of range",
            also("faces: {{min_score: 2}}\n"),
            plan,
            "faces.min_score: want a number less than or equal to 1",
            "mend it",
        ),
        (
            "a number that is none",
            also("audio: {{offset_s: .nan}}\n"),
            plan,
            "audio.offset_s: want a finite number, got nan",
            "give a number",
        ),
        (
            "an unknown kind of model",
            instead("transformer", "lstm"),
            plan,
            "models.face.kind: want one of transformer, mamba",
            "[models.md](models.md) has the kinds",
        ),
        (
            "a fusion that reads itself",
            instead(MODELS, FUSED.format("fused")),
            plan,
            "models.fused.reads: want one of ['face']",
            "name a model",
        ),
        (
            "a fusion of one model",
            instead(MODELS, FUSED.format("face").replace("face, ", "")),
            plan,
            "models.fused.reads: want",
            "name two",
        ),
        (
            "a class called yes",
            also("tasks: [{{name: mood, classes: [yes, no]}}]\n"),
            plan,
            "my.yaml: tasks.0.classes.0: want text, got true; put it between quotes",
            "YAML reads yes, no, on and off as true or false",
        ),
        (
            "a mark that may be a label",
            also("tasks: [{{name: trust, dimensions: {{trust: [-10, 10]}}}}]\n"),
            plan,
            "my.yaml: tasks.0: invalid: want a mark outside of [-10, 10], where no label of trust is, got -5",
            "`invalid: -99`",
        ),
        (
            "a task called as a column of the manifest",
            also("tasks: [{{name: person, classes: [ann, ben]}}]\n"),
            plan,
            "my.yaml: tasks: want another name than that of a column of the manifest, got person",
            "take another name",
        ),
        (
            "two tasks with a column of one name",
            also("tasks: [au, {{name: pain, units: [au1, lips]}}]\n"),
            plan,
            "my.yaml: tasks: want names that a prediction table has once, got 'au1' in au and pain",
            "call the unit something else",
        ),
        (
            "a loss of a task that the run does not have",
            instead(MODELS, "models: {face: {kind: transformer, reads: mesh, training: {loss: {tasks: {mood: {gamma: 1}}}}}}"),
            plan,
            "my.yaml: models.face.training.loss.tasks: want a task of the run among [], got 'mood'",
            "name it in `tasks`, or correct the name",
        ),
        (
            "windows that leave gaps",
            also("speech: {{length_s: 2, hop_s: 4}}\n"),
            plan,
            "speech: want hop_s of at most length_s, got 4.0 > 2.0",
            "what lies between two windows would never be looked at",
        ),
        ("publishing an unknown model", instead("publish: face", "publish: fused"), plan, "publish: want one of ['face']", "name a model"),
        ("a name with a slash", also("name: my/run\n"), plan, "name: want text to match pattern", "letters, digits and . _ -"),
        ("a key twice", also("shards: 4\n"), plan, "my.yaml: want YAML, got the key 'shards' again in line", "leave one of them"),
        ("tabs", also("faces:\n\tmin_score: 0.3\n"), plan, "my.yaml: want YAML, got found character", "indent by spaces"),
        (
            "bytes that are not UTF-8",
            also(b"name: caf\xe9\n"),
            plan,
            "my.yaml: want a readable settings file, got bytes",
            "save it as UTF-8",
        ),
        (
            "an object of Python",
            also("name: !!python/object/apply:os.system [ls]\n"),
            plan,
            "my.yaml: want YAML, got could not determine a constructor for the tag",
            "nothing is run: settings are data",
        ),
        (
            "ten lines that stand for a billion values",
            bomb,
            plan,
            "my.yaml: want YAML, got more than 100000 values, aliases written out,",
            "write out what you mean",
        ),
        (
            "a date that is none",
            also("name: 2024-13-45\n"),
            plan,
            "my.yaml: want YAML, got a value that is none (month must be in",
            "quote it",
        ),
        (
            "a manifest that is a folder",
            manifest_folder,
            plan,
            "data_manifest.csv: want a readable CSV file, got Is a directory",
            "name the file",
        ),
        ("a cache that is a file", cache_file, plan, "cache: want a folder, got a file at cache", "name a folder, or move the file away"),
        (
            "weights that are not there",
            also("faces: {{detector: yolo}}\n"),
            find_faces,
            "weights/yolov8n-face.pt: want weights, got nothing",
            "no weights come with affpipe: [models.md](models.md) says where they are",
        ),
    ]
]
