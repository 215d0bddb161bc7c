"""Settings that YAML, or Python, would take for something else than is written: each is refused by one line, and what is plain is read."""

import json
from pathlib import Path

import pytest

from affpipe.core.errors import SettingsError
from affpipe.plan import literals
from affpipe.plan.config import load, parse
from affpipe.plan.yaml_file import read_yaml

ROOT = Path(__file__).resolve().parents[2]


def loaded(tmp_path, text: str):
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return load([ROOT / "config.yaml", path])


REFUSED = {
    # a decimal comma between braces is a key without a value
    "audio: {offset_s: 0,1}": "want YAML, got 'offset_s: 0,1', which YAML takes for two keys (write decimals with a point) in line 1",
    "models: {face: {dropout: 0,3}}": "got 'dropout: 0,3', which YAML takes for two keys",
    "audio: {sample_rate_hz: 16,000}": "got 'sample_rate_hz: 16,000', which YAML takes for two keys",
    "speech: {min_open_ratio: 0,4, min_coverage: 0,5}": "got 'min_open_ratio: 0,4', which YAML takes for two keys",
    "audio:\n  offset_s: 0,1": "audio.offset_s: want a number, got '0,1'; write decimals with a point",
    "shards: '1,000'": "shards: want a number, got '1,000'; write decimals with a point, and nothing between thousands",
    # misspelt keys and names without a value
    "ocr:": "ocr: unknown key",
    "faces: {min_scor: }": "faces.min_scor: unknown key",
    "models: {face: {training: {epoch: }}}": "models.face.training.epoch: unknown key",
    "features: {mehs: null}": "features.mehs: want null for a name of the files before it, of which it takes one out, got another "
    "(they have mesh, qwen3vl, wavlm); mend the name, or leave it out",
    "models: {behavour: }": "models.behavour: want null for a name of the files before it",
    "reference: {source: s, rows: {face: {label: a}, voise: }}": "reference.rows.voise: want null for a name of the files before it",
    # yes is no number, and a number no yes
    "models: {face: {training: {epochs: yes}}}": "models.face.training.epochs: want a number, got true (YAML reads yes, no",
    "models: {face: {training: {learning_rate: on}}}": "models.face.training.learning_rate: want a number, got true",
    "audio: {offset_s: off}": "audio.offset_s: want a number, got false",
    "models: {face: {training: {ema_decay: yes}}}": "models.face.training.ema_decay: want a number, got true",
    "features: {wavlm: {layer: yes}}": "features.wavlm.layer: want a number, got true",
    "models: {voice: {window: yes}}": "models.voice.window: want a number, got true",
    "models: {voice: {cache_frozen: false, augment: {noise_snr_db: [no, 25]}}}": "augment.noise_snr_db: want a number, got false",
    "models: {face: {standardise: 1}}": "models.face.standardise: want true or false, got 1; write one of them",
    "models: {face: {standardise: 0.0}}": "models.face.standardise: want true or false, got 0.0",
    "models: {face: {standardise: t}}": "models.face.standardise: want true or false, got 't'",
    # numbers that YAML 1.1 has, and nobody means
    "shards: 010": "want YAML, got 010, which YAML takes for 8 (leave the zero in front out) in line 1; mend the file",
    "shards: 08": "shards: want a number in plain digits, got '08'",
    "shards: 1:30": "got 1:30, which YAML takes for a number to the base of 60 (write seconds, or put it between quotes)",
    "audio: {offset_s: 1:30.5}": "got 1:30.5, which YAML takes for a number to the base of 60",
    "name: 010": "got 010, which YAML takes for 8",
    "audio: {offset_s: 1.0e-400}": "got 1.0e-400, which is 0 to a computer (write 0, or a larger number)",
    "audio: {offset_s: 1e-400}": "audio.offset_s: want a number that is not too small for a computer, got 1e-400",
    "audio: {offset_s: 1e400}": "audio.offset_s: want a finite number, got '1e400'",
    "audio: {offset_s: 1.0e+400}": "audio.offset_s: want a finite number, got inf",
    "audio: {offset_s: nan}": "audio.offset_s: want a number in plain digits, got 'nan'",
    "shards: ' 3 '": "shards: want a number in plain digits, got ' 3 '",
    "shards: '1_0'": "shards: want a number in plain digits, got '1_0'",
    "shards: '\u0663'": "shards: want a number in plain digits",
    # keys that are no text to YAML
    "models: {no: {kind: transformer, reads: mesh}}": "got the key 'no', which YAML takes for true or false (put it between quotes)",
    "3: 4": "got the key '3', which YAML takes for a number",
    "2024-01-01: 4": "got the key '2024-01-01', which YAML takes for a date",
    "~: 4": "got the key '~', which YAML takes for nothing",
    # what stands twice
    "faces: {<<: [{every: 2}, {every: 3}]}": "got the key 'every' from two merged mappings in line 1",
    "faces: {every: 2, 'every': 3}": "got the key 'every' again",
    # a list for one value, and one value for a list
    "shards: [3]": "shards: want a valid integer, got [3]",
    "tasks: va": "tasks: want a list, got 'va'",
    "tasks: va, expr": "tasks: want a list, got 'va, expr'",
    "models: {fused: {reads: face}}": "models.fused.reads: want a list, got 'face'",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_can_be_misread_is_refused_by_one_line_that_shows_it(tmp_path, text):
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, text)
    said = str(caught.value)
    assert REFUSED[text] in said
    assert "my.yaml: " in said
    assert "; " in said
    assert said.isprintable()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        (".5", 0.5),
        ("+.5", 0.5),
        ("-3", -3.0),
        ("1e-4", 1e-4),  # text to YAML 1.1
        ("1.0e-4", 1e-4),
        ("2.", 2.0),
        ("'0.25'", 0.25),  # as `--config` gives it
        ("0", 0.0),
        ("0e-5", 0.0),
        ("0.0", 0.0),
    ],
)
def test_a_number_in_plain_digits_is_that_number(tmp_path, text, value):
    assert loaded(tmp_path, f"audio: {{offset_s: {text}}}").audio.offset_s == value


@pytest.mark.parametrize("value", ["true", "false", "yes", "no", "on", "off", "True", "OFF"])
@pytest.mark.parametrize("quote", ["", "'"])
def test_a_flag_is_one_of_the_words_for_it(tmp_path, value, quote):
    found = loaded(tmp_path, f"models: {{face: {{standardise: {quote}{value}{quote}}}}}")
    assert found.models["face"].standardise is (value.lower() in ("true", "yes", "on"))


def test_other_ways_to_write_a_whole_number_stand_for_it(tmp_path):
    for text, seed in (("0x10", 16), ("0b11", 3), ("16_000", 16000), ("42.0", 42), ("'7'", 7), ("0", 0)):
        assert loaded(tmp_path, f"seed: {text}").seed == seed


def test_a_name_in_quotes_may_be_a_word_of_yaml(tmp_path):
    text = "models: {'no': {kind: transformer, reads: mesh, heads: 4, hidden: 64}}"
    assert "no" in loaded(tmp_path, text).models
    assert loaded(tmp_path, "name: '010'").name == "010"


def test_a_merge_is_overridden_by_a_key_beside_it(tmp_path):
    assert loaded(tmp_path, "faces: {<<: {every: 3, crop_side: 100}, every: 2}").faces.model_dump() | {"every": 2, "crop_side": 100} == (
        loaded(tmp_path, "faces: {every: 2, crop_side: 100}").faces.model_dump()
    )
    assert loaded(tmp_path, "faces: {<<: [{every: 3}, {crop_side: 100}]}").faces.every == 3


def test_a_name_may_be_taken_out_again(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text("models: {voice: null, fused: null}\npublish: face\n")
    assert list(load([ROOT / "config.yaml", tmp_path / "a.yaml", tmp_path / "b.yaml"]).models) == ["face", "behaviour"]


def test_every_misread_value_is_named_at_once_and_beside_the_other_faults(tmp_path):
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, "shards: yes\nseed: '08'\ndevice: tpu\nmodels: {face: {standardise: 2, dropout: 3}}\n")
    said = str(caught.value)
    for path in ("shards", "seed", "device", "models.face.standardise", "models.face.dropout"):
        assert said.count(f"{path}: want") == 1


def test_a_byte_order_mark_is_passed_over_and_utf16_is_named(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_bytes(b"\xef\xbb\xbfshards: 3\n")
    assert read_yaml(path) == {"shards": 3}
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        bom = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
        path.write_bytes(bom + "shards: 3\n".encode(encoding))
        with pytest.raises(SettingsError, match="want a readable settings file, got UTF-16; save it as text in UTF-8"):
            read_yaml(path)


def test_what_a_run_freezes_is_read_back_as_it_was():
    found = load([ROOT / "config.yaml"])
    assert parse(json.loads(json.dumps(found.model_dump(mode="json")))) == found


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_recipe_has_what_can_be_misread(recipe):
    under = [recipe.with_stem(recipe.stem.replace("-code", ""))] if "-code" in recipe.stem else []  # laid over the recipe of the paper
    load([ROOT / "config.yaml", *under, recipe])


def test_kinds_are_those_of_the_annotation():
    assert literals.kinds(int | None) == {int}
    assert literals.kinds(tuple[float, float]) == {float}
    assert literals.kinds(bool) == {bool}
    assert literals.kinds(dict[str, float]) == set()
