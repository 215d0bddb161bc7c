"""Settings: defaults, refusals of one line that say what is allowed, what counts in a key, the schema."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import recipe_layers
import yaml

from affpipe.core.errors import SettingsError
from affpipe.core.extensions import others
from affpipe.core.section import Section, later, speed
from affpipe.plan import config, yaml_file
from affpipe.plan.config import Settings, load, overlay, parse

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "workflow/schemas/config.schema.json"
SMALL = {"features": {"mesh": {"encoder": "mesh"}}, "models": {"face": {"kind": "transformer", "reads": "mesh"}}, "publish": "face"}


@pytest.fixture(scope="module")
def default() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "config.yaml").read_text())


# ---- what loads -------------------------------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_paper():
    s = parse(SMALL)
    face = s.models["face"]
    assert (face.layers, face.heads, face.window, face.stride, face.positions) == (5, 16, 400, 150, "sinusoidal")
    assert (face.training.learning_rate, face.training.weight_decay, face.training.batch_size) == (1e-4, 0.01, 8)
    assert (s.speech.length_s, s.speech.hop_s, s.speech.min_open_ratio, s.speech.min_coverage) == (4.0, 2.0, 0.25, 0.80)
    assert (s.mouth.gap_s, s.mouth.burst_s) == (0.15, 0.20)
    assert s.audio.sample_rate_hz == 16000


def test_the_default_run_loads():
    s = load([ROOT / "config.yaml"])
    assert list(s.models) == ["face", "behaviour", "voice", "fused"]
    assert s.models["fused"].reads == ("face", "behaviour", "voice")
    assert s.device == "cpu"


def test_every_recipe_loads_under_a_name_of_its_own():
    names = [load([ROOT / "config.yaml"]).name, *(recipe_layers.load(recipe).name for recipe in recipe_layers.RECIPES)]
    assert len(set(names)) == len(names)


def test_settings_survive_the_trip_through_json(default):
    s = parse(default)
    assert parse(json.loads(json.dumps(s.model_dump(mode="json")))) == s


# ---- what does not ----------------------------------------------------------------------------------------------------------------------


TRANSFORMER = {"kind": "transformer", "reads": "mesh"}
RAAV = {"kind": "raav", "reads": ["face", "behaviour"], "audio": "voice"}
BAD = {
    "unknown at the top": ({"shard": 3}, ["shard: unknown key", "allowed: name, tasks, manifest"]),
    "unknown in a section": ({"audio": {"rate": 1}}, ["audio.rate: unknown key", "allowed: sample_rate_hz, offset_s"]),
    "unknown in a feature": ({"features": {"mesh": {"dim": 1}}}, ["features.mesh.dim: unknown key", "allowed: encoder"]),
    "unknown in a model": ({"models": {"face": {"layer": 1}}}, ["models.face.layer: unknown key", "layers, heads"]),
    "unknown in training": ({"models": {"face": {"training": {"lr": 1}}}}, ["models.face.training.lr: unknown key", "learning_rate"]),
    "unknown in loss": (
        {"models": {"face": {"training": {"loss": {"va": {"mae": 1}}}}}},
        ["models.face.training.loss.va.mae: unknown", "mae_weight"],
    ),
    "other encoder's key": ({"features": {"qwen3vl": {"layer": 3}}}, ["features.qwen3vl.layer: unknown key", "allowed: length_s"]),
    "unknown encoder": ({"features": {"mesh": {"encoder": "dino"}}}, ["features.mesh.encoder", "mesh, grada, qwen3vl, wavlm", "'dino'"]),
    "an encoder of a package that is gone": (
        {"features": {"mesh": {"encoder": "loudness"}}},
        ["features.mesh.encoder: want one of mesh, ", ", got 'loudness'; correct it, or install the package that adds it"],
    ),
    "unknown term": (
        {"models": {"face": {"training": {"terms": [{"term": "jerk"}]}}}},
        ["models.face.training.terms.0.term: want one of asymmetric, got 'jerk'; correct it, or install the package that adds it"],
    ),
    "unknown in a term": (
        {"models": {"face": {"training": {"terms": [{"term": "asymmetric", "gamma": 2}]}}}},
        ["models.face.training.terms.0.gamma: unknown key; allowed: weight, term, task, gamma_present, gamma_absent, margin"],
    ),
    "yes for a number of a term": (
        {"models": {"face": {"training": {"terms": [{"term": "asymmetric", "weight": True}]}}}},
        ["models.face.training.terms.0.weight: want a number, got true"],
    ),
    "unknown kind": (
        {"models": {"face": {"kind": "lstm"}}},
        ["models.face.kind", "transformer, mamba, chunk_asp, dcmmoe", "'lstm'; correct it, or"],
    ),
    "no kind": ({"models": {"new": {"reads": "mesh"}}}, ["models.new.kind: want one of transformer", "got None; name one of them"]),
    "a model that is none": ({"models": {"face": 3}}, ["models.face: want settings as `key: value`, got 3"]),
    "a section that is none": ({"audio": 5}, ["audio: want settings as `key: value`, got 5"]),
    "features as a list": ({"features": ["mesh"]}, ["features: want settings as `key: value`, got ['mesh']"]),
    "no reads": ({"models": {"new": {"kind": "mamba"}}}, ["models.new.reads: missing"]),
    "text for a number": ({"shards": "many"}, ["shards", "integer", "'many'"]),
    "number for a text": ({"manifest": 5}, ["manifest: want text, got 5; put it between quotes"]),
    "below the range": ({"shards": 0}, ["shards", "greater than or equal to 1", "got 0"]),
    "above the range": ({"faces": {"jpeg_quality": 101}}, ["faces.jpeg_quality", "less than or equal to 100", "got 101"]),
    "a seed beyond 32 bits": ({"seed": 2**32}, ["seed", "less than 4294967296"]),
    "no finite number": ({"speech": {"length_s": float("inf")}}, ["speech.length_s", "finite"]),
    "one of several": ({"device": "tpu"}, ["device", "'cpu' or 'cuda'", "'tpu'"]),
    "a name with a slash": ({"name": "a/b"}, ["name: ", "'a/b'"]),
    "a name that leaves": ({"name": "../x"}, ["name: ", "'../x'"]),
    "a feature name for no file": ({"features": {"My Mesh": {"encoder": "logmel"}}}, ["features.My Mesh: ", "pattern"]),
    "hop beyond length": ({"speech": {"hop_s": 9}}, ["speech: want hop_s of at most length_s, got 9.0 > 4.0"]),
    "pixels turned round": ({"features": {"qwen3vl": {"min_pixels": 10**6}}}, ["features.qwen3vl: want min_pixels of at most max_pixels"]),
    "stride beyond window": ({"models": {"face": {"stride": 101}}}, ["models.face: want stride of at most window, got 101 > 100"]),
    "heads that do not divide": (
        {"models": {"face": {"heads": 3}}},
        ["models.face: want hidden that is a multiple of heads, got 64 and 3"],
    ),
    "reads an unknown feature": ({"models": {"face": {"reads": "mash"}}}, ["models.face.reads: want one of", "'mesh'", "'mash'"]),
    "fuses a feature": ({"models": {"fused": {"reads": ["face", "mesh"]}}}, ["models.fused.reads: want one of", "'face'", "got 'mesh'"]),
    "fuses itself": ({"models": {"fused": {"reads": ["face", "fused"]}}}, ["models.fused.reads: want one of", "got 'fused'"]),
    "fuses one": ({"models": {"fused": {"reads": ["face"]}}}, ["models.fused.reads", "at least 2"]),
    "weighs one twice": ({"late_fusion": {"members": ["face", "face"]}}, ["late_fusion.members: a model is named twice"]),
    "fuses one twice": ({"models": {"fused": {"reads": ["face", "face"]}}}, ["models.fused.reads: a model is named twice"]),
    "audio model on faces": ({"models": {"voice": {"reads": "mesh"}}}, ["models.voice.reads: chunk_asp wants windows of audio", "'mesh'"]),
    "face model on audio": ({"models": {"face": {"reads": "wavlm"}}}, ["models.face.reads: transformer wants one vector a row", "'wavlm'"]),
    "speech on another grid": ({"features": {"wavlm": {"hop_s": 1}}}, ["models.voice: speech_only wants", "(4.0, 1.0) and (4.0, 2.0)"]),
    "a feature named like a stage": ({"features": {"faces": {"encoder": "logmel"}}}, ["features.faces: the name is that of a stage"]),
    "a model named like a stage": ({"models": {"mouth": TRANSFORMER}}, ["models.mouth: the name is that of a stage or feature"]),
    "a model named like a feature": ({"models": {"mesh": TRANSFORMER}}, ["models.mesh: the name is that of a stage or feature"]),
    "one feature under two names": ({"features": {"m": {"encoder": "mesh"}}}, ["features.m: the same as features.mesh"]),
    "WavLM at another rate": ({"audio": {"sample_rate_hz": 22050}}, ["features.wavlm: wavlm hears 16000 Hz", "22050"]),
    "publishes an unknown model": ({"publish": "fusd"}, ["publish: want one of", "'fused'", "'fusd'"]),
    "a loss of nothing": (
        {"models": {"face": {"training": {"loss": {"va": {"valence_weight": 0, "arousal_weight": 0}}}}}},
        ["want a weight that is"],
    ),
    "a plateau that warms up": (
        {"models": {"face": {"training": {"warmup_epochs": 2}}}},
        ["warmup_epochs: only cosine and constant warm up"],
    ),
    "nothing but warm-up": (
        {"models": {"face": {"training": {"schedule": "cosine", "warmup_epochs": 20}}}},
        ["warmup_epochs: want fewer than epochs, got 20 of 20"],
    ),
    "windows shorter than a row": (
        {"features": {"wavlm": {"length_s": 0.02, "hop_s": 0.02}}, "models": {"voice": {"speech_only": False}}},
        ["features.wavlm: length_s: WavLM hears nothing in less than 0.025 s, got 0.02"],
    ),
    "hears an unknown model": (
        {"models": {"raav": RAAV | {"audio": "voicy"}}},
        ["models.raav.audio: want one of", "'voice'", "got 'voicy'"],
    ),
    "hears a fusion": ({"models": {"raav": RAAV | {"audio": "fused"}}}, ["models.raav.audio: want one of", "got 'fused'"]),
    "a model without a prior": ({"models": {"raav": RAAV | {"priors": [1.0]}}}, ["models.raav: priors: want a positive one for each of"]),
    "the other encoder's dataset": (
        {"models": {"behaviour": {"dataset": "emotion"}}},
        ["models.behaviour.dataset: want one of", "'emotion'"],
    ),
    "noise turned round": (
        {"models": {"voice": {"cache_frozen": False, "augment": {"noise_snr_db": [25, 8]}}}},
        ["models.voice.augment: noise_snr_db: want the lower figure first"],
    ),
    "an even filter": ({"models": {"face": {"smooth": {"valence_frames": 4}}}}, ["models.face.smooth.valence_frames: want an odd number"]),
    "one fold": ({"cross_fit": 1}, ["cross_fit: want 0 (off) or at least 2 folds, got 1"]),
    "another task": ({"tasks": ["mtl"]}, ["tasks.0", "'va', 'expr' or 'au'", "'mtl'"]),
    "no task": ({"tasks": []}, ["tasks", "at least 1 item"]),
    "a task twice": ({"tasks": ["va", "expr", "va"]}, ["tasks: want each task once, got ['va', 'expr', 'va']"]),
    "two kinds of folds": ({"cross_fit": 3, "cross_validation": {}}, ["cross_fit and cross_validation exclude each other", "got 3 and 5"]),
    "smoothing of focal": (
        {"models": {"face": {"training": {"loss": {"expr": {"kind": "focal", "label_smoothing": 0.1}}}}}},
        ["models.face.training.loss.expr: label_smoothing: only cross_entropy has it, got 0.1 with focal; set 0"],
    ),
    "an even filter of classes": (
        {"models": {"face": {"decode": {"expression_frames": 4}}}},
        ["decode.expression_frames: want an odd number"],
    ),
    "a key that is no text": ({3: 4}, ["3: want keys to be strings, got 3; mend it"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_setting_is_one_line_with_its_place_and_what_is_allowed(default, case):
    change, said = BAD[case]
    with pytest.raises(SettingsError) as caught:
        parse(overlay(default, change), where="my.yaml")
    text = str(caught.value)
    assert text.startswith("my.yaml: ")
    assert "\n" not in text
    assert len(text) < 400
    for words in said:
        assert words in text


@pytest.mark.parametrize("key", ["publish", "features", "models"])
def test_what_has_no_default_must_be_given(default, key):
    with pytest.raises(SettingsError, match=f"{key}: missing; give it a value"):
        parse({k: v for k, v in default.items() if k != key})


def test_every_fault_is_named_at_once(default):
    with pytest.raises(SettingsError, match=r"^settings: device: .*; shards: .*; audio\.rate: unknown key"):
        parse(overlay(default, {"shards": 0, "device": "tpu", "audio": {"rate": 1}}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name: a\nshards: [1, 2\naudio: x\n", "in line 3"),
        (b"name: a\n\tshards: 2\n", "in line 2"),
        (b"- name\n- shards\n", "want settings as `key: value`, got list"),
        (b"just words", "want settings as `key: value`, got str"),
        (b"name: \xff\xfe", "want a readable settings file"),
        (b"name: !!python/object:os.system x\n", "want YAML"),
        (b"name: a\nname: b\n", "want YAML, got the key 'name' again in line 2; mend the file"),
        (b"audio: {offset_s: 1, offset_s: 2}\n", "want YAML, got the key 'offset_s' again in line 1; mend the file"),
        (b"audio: &a {offset_s: *a}\n", "want YAML, got an alias of what it is part of in line 1; mend the file"),
        (b"name: " + b"[" * 2000 + b"]" * 2000, "want YAML, got values nested too deep to read; mend the file"),
        (b"seed: " + b"9" * 5000, "want YAML, got a value that is none (Exceeds the limit (4300 digits)"),
        (b"name: 2024-13-45\n", "want YAML, got a value that is none (month must be in 1..12); put it between quotes"),
        (b"name: a\0b\n", "want YAML, got unacceptable character #x0000: special characters are not allowed"),
        (b"name: a\n---\nname: b\n", "want YAML, got another document in line 2; mend the file"),
    ],
)
def test_a_file_that_is_no_settings_file_is_one_line(tmp_path, content, said):
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load([path])
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert said in text
    assert "\n" not in text


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.yaml: want a readable settings file, got No such file.*check --config"):
        load([tmp_path / "none.yaml"])


def test_an_empty_file_changes_nothing(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert load([ROOT / "config.yaml", tmp_path / "empty.yaml"]) == load([ROOT / "config.yaml"])


def test_settings_do_not_change_once_made(default):
    with pytest.raises(ValueError, match="frozen"):
        parse(default).shards = 3


# ---- overlay ----------------------------------------------------------------------------------------------------------------------------


LAYERS = [
    {"a": 1, "deep": {"x": 1, "list": [1, 2]}},
    {"a": 2, "deep": {"y": {"z": 3}}},
    {"deep": {"x": None, "y": {"w": 4}, "list": [3]}, "b": "new"},
    {},
]


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("second", range(4))
@pytest.mark.parametrize("third", range(4))
def test_it_does_not_matter_which_layers_are_joined_first(first, second, third):
    a, b, c = LAYERS[first], LAYERS[second], LAYERS[third]
    assert overlay(overlay(a, b), c) == overlay(a, overlay(b, c))


def test_later_layers_win_key_by_key_and_lists_are_replaced():
    got = overlay(overlay(LAYERS[0], LAYERS[1]), LAYERS[2])
    assert got == {"a": 2, "deep": {"x": None, "y": {"z": 3, "w": 4}, "list": [3]}, "b": "new"}
    assert LAYERS[0] == {"a": 1, "deep": {"x": 1, "list": [1, 2]}}  # no layer is altered


def test_nothing_laid_over_or_under_changes_nothing():
    for layer in LAYERS:
        assert overlay(layer, {}) == overlay({}, layer) == overlay(layer, layer) == layer


# ---- keys -------------------------------------------------------------------------------------------------------------------------------


UNKEYED = {
    "umask",
    "features.qwen3vl.batch_size",
    "features.wavlm.batch_size",
    "faces.batch_size",
    "subject.curation",
    "late_fusion",
    "reference",
}
UNKEYED |= {
    f"models.{m}.smooth.{f}" for m in ("face", "behaviour", "voice", "fused") for f in ("filter", "valence_frames", "arousal_frames")
}
UNKEYED |= {
    f"models.{m}.decode.{f}"
    for m in ("face", "behaviour", "voice", "fused")
    for f in ("expression_filter", "expression_frames", "au_frames", "au_thresholds")
}


def leaves(data: Any, path: str = "") -> set[str]:
    if not isinstance(data, dict):
        return {path}
    return {leaf for key, value in data.items() for leaf in leaves(value, f"{path}.{key}" if path else key)}


def late(section: Section, path: str = "") -> set[str]:
    """Leaves of the settings that were added later and have their default."""
    out: set[str] = set()
    for name, field in type(section).model_fields.items():
        value, here = getattr(section, name), f"{path}{name}"
        if (field.json_schema_extra or {}).get("later") and value == field.default:
            out |= leaves(value.model_dump(mode="json") if isinstance(value, Section) else value, here)
        elif isinstance(value, Section):
            out |= late(value, f"{here}.")
        elif isinstance(value, dict):
            out |= {leaf for key, own in value.items() if isinstance(own, Section) for leaf in late(own, f"{here}.{key}.")}
    return out


def test_a_spec_leaves_out_what_alters_no_stream_and_nothing_else(default):
    s = parse(default)
    assert leaves(s.model_dump(mode="json")) - leaves(s.spec()) == UNKEYED | late(s)
    assert leaves(s.spec()) < leaves(s.model_dump(mode="json"))
    assert s.features["wavlm"].spec() == s.spec()["features"]["wavlm"]


class Part(Section):
    size: int = 1
    batch: int = speed(8)


class Whole(Section):
    parts: tuple[Part, ...] = (Part(), Part(size=2))
    named: dict[str, list[Part]] = {"a": [Part()]}  # noqa: RUF012 - pydantic copies it
    weights: dict[str, float] = {"x": 0.5}  # noqa: RUF012 - pydantic copies it
    place: Path = Path("here")
    new: float | None = later(0.5)
    inner: Part = later(Part())


def test_a_spec_goes_into_lists_and_mappings_of_sections_and_of_plain_values():
    own = {"parts": [{"size": 1}, {"size": 2}], "named": {"a": [{"size": 1}]}, "weights": {"x": 0.5}, "place": "here"}
    assert Whole().spec() == own
    assert Whole(parts=(Part(batch=2), Part(size=2, batch=3)), named={"a": [Part(batch=4)]}).spec() == own
    assert Whole(named={"a": []}, weights={}).spec() == own | {"named": {"a": []}, "weights": {}}


def test_a_setting_added_later_is_in_the_spec_only_where_it_is_not_its_default():
    assert Whole(new=0.5, inner=Part(size=1)).spec() == Whole().spec()
    assert Whole(new=None).spec() == Whole().spec() | {"new": None}
    assert Whole(inner=Part(size=3, batch=9)).spec() == Whole().spec() | {"inner": {"size": 3}}


# ---- schema -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(others(), reason="the schema on disk is of our own parts, packages of others are installed")
def test_the_schema_on_disk_is_that_of_the_code():
    assert json.loads(SCHEMA.read_text()) == config.schema(), "run `affpipe schema > workflow/schemas/config.schema.json`"


def test_the_schema_accepts_the_default_run_and_the_recipes(default):
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(default, schema)
    for recipe in recipe_layers.RECIPES:
        jsonschema.validate(recipe_layers.load(recipe).model_dump(mode="json"), schema)  # what the Snakefile validates


@pytest.mark.parametrize("case", ["unknown at the top", "unknown in training", "text for a number", "below the range", "no kind"])
def test_the_schema_refuses_what_the_code_refuses(default, case):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(overlay(default, BAD[case][0]), json.loads(SCHEMA.read_text()))


def test_every_setting_of_the_sections_has_a_default():
    """Sections stand in config.yaml only where the default run departs from the code."""
    assert {name for name, field in Settings.model_fields.items() if field.is_required()} == {"features", "models", "publish"}


def test_a_key_set_to_null_is_as_if_it_had_never_been_set():
    data = {"features": {"mesh": {"encoder": "mesh"}, "logmel": {"encoder": "logmel"}}, "publish": "face"}
    data["models"] = {"face": {"kind": "transformer", "reads": "mesh"}, "voice": {"kind": "chunk_asp", "reads": "logmel"}}
    over = {"features": {"logmel": None}, "models": {"voice": None, "face": {"dropout": None}}}
    found = parse(overlay(data, over))
    assert list(found.models) == ["face"]
    assert list(found.features) == ["mesh"]
    assert found == parse({**data, "features": {"mesh": {"encoder": "mesh"}}, "models": {"face": data["models"]["face"]}})


def test_aliases_count_as_often_as_they_stand(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("a: &a {x: 1}\nb: &b [*a, *a]\nc: [*b, *b]\n")
    assert config.read_yaml(path)["c"] == [[{"x": 1}] * 2] * 2
    assert yaml_file._count_values(yaml.compose(path.read_text()), {}) == 1 + 3 + 3 + 7 + 15  # root, keys, a, b, c
    path.write_text("a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)))
    with pytest.raises(SettingsError, match=r"want YAML, got more than 100000 values, aliases written out, in line 6; mend the file"):
        load([path])
