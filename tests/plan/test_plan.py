"""The plan: keys change exactly where values do, shards and members follow content."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from affpipe.core.errors import ManifestError, StoreError
from affpipe.core.tasks.table import VA
from affpipe.data import manifest
from affpipe.media.identity import fingerprint
from affpipe.models.table import MODELS
from affpipe.plan import plan as planning
from affpipe.plan.config import overlay, parse
from affpipe.plan.plan import Plan, canonical, digest
from affpipe.plan.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
FEATURES, FITTED = ["mesh", "qwen3vl", "wavlm"], ["face", "behaviour", "voice", "fused"]
ALL = [*(name for name in STAGES if name != "vad"), *FEATURES, *FITTED]
ROWS = [
    ("one", "one", "", "train", "one"),
    ("two_left", "two", "left", "train", "two_left"),
    ("two_right", "two", "right", "validation", "two_right"),
    ("three", "three", "", "validation", "three"),
    ("four", "four", "", "test", ""),
]


class Data:
    """A data folder that a test alters, and plans made of it."""

    def __init__(self, folder: Path):
        self.folder, self.rows = folder, list(ROWS)
        for name in ("one", "two", "three", "four", "five"):
            (folder / f"{name}.mp4").write_bytes(name.encode() * 100)
        for row in ROWS:
            if row[4]:
                (folder / f"{row[4]}.txt").write_text(f"{VA.header}\n0.1,0.2\n")

    def plan(self, change: dict[str, Any] | None = None, **options: Any) -> Plan:
        table = "".join(f"{i},{v}.mp4,{s},{p},{a + '.txt' if a else ''}\n" for i, v, s, p, a in self.rows)
        (self.folder / "m.csv").write_text("stream_id,video,subject,partition,va\n" + table)
        settings = parse(overlay(overlay(DEFAULT, {"cache": str(self.folder / "cache"), "shards": 3}), change or {}))
        return Plan(settings, manifest.read(self.folder / "m.csv", self.folder), **options)


@pytest.fixture
def data(tmp_path) -> Data:
    return Data(tmp_path)


def keys(plan: Plan) -> dict[str, str]:
    return {name: plan.key(name) for name in plan.names}


def changed(before: Plan, after: Plan) -> set[str]:
    return {name for name in ALL if before.key(name) != after.key(name)}


def members(plan: Plan) -> dict[tuple[str, str], str]:
    return {(name, shard): plan.members(name, shard) for name in plan.names for shard in plan.shards}


# ---- what the settings alter ------------------------------------------------------------------------------------------------------------


AFTER_FACES = {"faces", "subject", "landmarks", "mouth", "speech", "mesh", "face", "voice", "fused"}
EFFECTS = {
    "batch size of an encoder": ({"features": {"wavlm": {"batch_size": 2}}}, set()),
    "device": ({"device": "cuda"}, set()),
    "name and places": ({"name": "x", "results": "r", "weights": "w"}, set()),
    "shards": ({"shards": 7}, set()),
    "what happens on faults": ({"on_error": "skip"}, set()),
    "what is published": ({"publish": "face"}, set()),
    "audio offset": ({"audio": {"offset_s": 0.1}}, {"audio", "wavlm", "voice", "fused"}),
    "decoder": ({"frames": {"backend": "decord"}}, set(ALL)),
    "video track": ({"frames": {"video_track": 1}}, set(ALL)),
    "sound track": ({"audio": {"audio_track": 1}}, {"audio", "wavlm", "voice", "fused"}),
    "face detection": ({"faces": {"min_score": 0.6}}, AFTER_FACES),
    "landmarks": ({"landmarks": {"model": "x.task"}}, AFTER_FACES - {"faces", "subject"}),
    "mouth": ({"mouth": {"gap_s": 0.2}}, {"mouth", "speech", "voice", "fused"}),
    "speech": ({"speech": {"min_coverage": 0.7}}, {"speech", "voice", "fused"}),
    "voice hears all": ({"models": {"voice": {"speech_only": False}}}, {"voice", "fused"}),
    "qwen pixels": ({"features": {"qwen3vl": {"max_pixels": 20000}}}, {"qwen3vl", "behaviour", "fused"}),
    "weights of an encoder": ({"features": {"wavlm": {"weights": "wavlm-large"}}}, {"wavlm", "voice", "fused"}),
    "precision of an encoder": ({"features": {"wavlm": {"dtype": "bfloat16"}}}, {"wavlm", "voice", "fused"}),
    "one head's learning rate": ({"models": {"face": {"training": {"learning_rate": 2e-3}}}}, {"face", "fused"}),
    "fusion": ({"models": {"fused": {"layers": 2}}}, {"fused"}),
    "order of the fused models": ({"models": {"fused": {"reads": ["voice", "behaviour", "face"]}}}, {"fused"}),
    "seed": ({"seed": 1}, set(FITTED)),
    "smoothing": ({"models": {"fused": {"smooth": {"filter": "mean", "valence_frames": 5}}}}, set()),
    "late fusion": ({"late_fusion": {"largest": 2}}, set()),
    "a published table": ({"reference": {"source": "x", "rows": {"fused": {"label": "y"}}}}, set()),
    "folds": ({"cross_fit": 2}, set(FITTED)),
    "another feature": ({"features": {"logmel": {"encoder": "logmel"}}}, set()),
    "another model": ({"models": {"more": {"kind": "mamba", "reads": "mesh"}}}, set()),
}


@pytest.mark.parametrize("what", EFFECTS)
def test_a_setting_changes_the_keys_of_what_it_alters_and_no_other(data, what):
    change, effect = EFFECTS[what]
    assert changed(data.plan(), data.plan(change)) == effect


def test_either_of_two_features_of_one_encoder_moves_the_key_of_what_reads_both(data, monkeypatch):
    one = Plan.reads
    monkeypatch.setattr(Plan, "reads", lambda self, name: ("frames", "wavlm", "second") if name == "voice" else one(self, name))
    second = {"encoder": "wavlm", "weights": "wavlm-tiny", "layer": 1}

    def voice(change: dict[str, Any]) -> str:
        plan = data.plan(overlay({"features": {"second": second}}, {"features": change}))
        assert set(plan.inputs("voice")) == {"frames", "wavlm wavlm", "wavlm second", "speech"}
        return plan.key("voice")

    assert len({voice({}), voice({"second": {"layer": 2}}), voice({"wavlm": {"normalise": "waveform"}})}) == 3
    assert data.plan({"features": {"second": second}}).inputs("fused").keys() == {"frames", "face", "behaviour", "voice"}


@pytest.mark.parametrize(
    ("track", "moved"),
    [("video_track", set(ALL)), ("audio_track", {"audio", "wavlm", "voice", "fused"})],
)
def test_a_track_named_in_the_manifest_makes_its_own_streams_anew_and_no_other(data, track, moved):
    """Of one video: of the others, and of what it has no part in, the identities stay."""
    before = data.plan()
    rows = [replace(row, **{track: 1}) if row.video_id == "two" else row for row in before.rows]
    after = Plan(before.settings, rows)
    assert changed(before, after) == set(FITTED)  # a model is fitted on what it was fitted on
    for name in ALL:
        pairs = zip(before.items(name), after.items(name), strict=True)
        assert {a.row.video_id for a, b in pairs if a.identity != b.identity} == ({"two"} if name in moved else set()), name
    for name in ALL:  # what a stage reads is found under the identity that its maker gave it
        for item in after.items(name):
            for read in after.reads(name):
                assert after.item(read, item) in after.items(read)
    assert before.published() != after.published()
    two = next(row for row in before.rows if row.video_id == "two")
    assert (before.numbering(two) == after.numbering(two)) == (track == "audio_track")  # curation of faces holds on


@pytest.mark.parametrize("what", ["smoothing", "late fusion", "a published table", "what is published"])
def test_what_is_made_of_predictions_is_published_anew(data, what):
    assert data.plan().published() != data.plan(EFFECTS[what][0]).published()


def test_voice_activity_is_a_stage_where_it_is_set_and_alters_speech_and_what_hangs_on_it(data):
    without, with_vad = data.plan(), data.plan({"vad": {"model": "silero"}})
    assert "vad" not in without.names
    assert with_vad.names.index("audio") < with_vad.names.index("vad") < with_vad.names.index("speech")
    assert with_vad.reads("speech") == ("mouth", "vad")
    assert changed(without, with_vad) == {"speech", "voice", "fused"}


def test_the_sample_rate_changes_what_hears_it(data):
    with_logmel = {"features": {"logmel": {"encoder": "logmel"}}, "models": {"voice": {"reads": "logmel"}}}
    base = overlay(DEFAULT, with_logmel)
    base["features"] = {k: v for k, v in base["features"].items() if k != "wavlm"}  # it hears one rate only
    plans = [Plan(parse(base | {"audio": {"sample_rate_hz": rate}}), data.plan().rows) for rate in (16000, 22050)]
    assert {n for n in plans[0].names if plans[0].key(n) != plans[1].key(n)} == {"audio", "logmel", "voice", "fused"}


def test_each_revision_counts_in_its_key(data, monkeypatch):
    before = keys(data.plan())
    for stage in ("audio", "landmarks"):
        monkeypatch.setitem(STAGES, stage, replace(STAGES[stage], revision=STAGES[stage].revision + 1))
        assert data.plan().key(stage) != before[stage]
    monkeypatch.setitem(MODELS, "mamba", replace(MODELS["mamba"], revision=99))
    assert data.plan().key("behaviour") != before["behaviour"]


def test_all_keys_differ_and_are_twelve_digits(data):
    found = keys(data.plan()).values()
    assert len(set(found)) == len(ALL)
    assert all(len(key) == 12 and set(key) <= set("0123456789abcdef") for key in found)


def test_a_feature_by_another_name_keeps_its_folder(data):
    renamed = overlay(DEFAULT, {"models": {"face": {"reads": "geometry"}}})
    renamed["features"] = {"geometry" if k == "mesh" else k: v for k, v in renamed["features"].items()}
    base, other = data.plan(), Plan(parse(renamed), data.plan().rows)
    assert other.kind("geometry") == base.kind("mesh") == "mesh"
    assert other.key("geometry") == base.key("mesh")
    assert other.folder("geometry").parts[-2:] == base.folder("mesh").parts[-2:]


def test_a_digest_is_of_the_value_not_of_its_order():
    assert digest({"a": 1, "b": [1, "é"]}) == digest({"b": [1, "é"], "a": 1})
    assert digest({"a": [1, 2]}) != digest({"a": [2, 1]})
    assert len(digest(1, 16)) == 16


# ---- what the data alter ----------------------------------------------------------------------------------------------------------------


def test_a_video_to_predict_touches_neither_models_nor_fitting(data):
    before = data.plan()
    data.rows.append(("five", "five", "", "predict", ""))
    after = data.plan()
    assert changed(before, after) == set()
    for name in ALL:
        assert after.indexes(name, "fit") == before.indexes(name, "fit")
        assert len(set(after.indexes(name)) - set(before.indexes(name))) == (name != "labels")  # it has none
    assert after.run != before.run


def test_labels_alter_models_alone(data):
    before = data.plan()
    keys(before)  # read from disk when first asked for
    (data.folder / "one.txt").write_text(f"{VA.header}\n0.1,0.3\n")
    after = data.plan()
    assert changed(before, after) == set(FITTED)
    assert {name for (name, _), held in members(after).items() if held not in members(before).values()} == {"labels"}


def test_labels_that_do_not_fit_alter_nothing(data):
    data.rows[-1] = ("four", "four", "", "test", "one")
    before = keys(data.plan())
    data.rows[-1] = ("four", "four", "", "test", "three")
    assert keys(data.plan()) == before


def test_moving_a_stream_between_train_and_validation_alters_models_alone(data):
    before = data.plan()
    data.rows[0] = ("one", "one", "", "validation", "one")
    after = data.plan()
    assert changed(before, after) == set(FITTED)
    assert members(after) == members(before)
    assert after.shards == before.shards


def test_a_replaced_video_alters_its_own_identity(data):
    before = data.plan()
    identities = {name: {i.id: i.identity for i in before.items(name)} for name in ALL}
    held = members(before)
    (data.folder / "four.mp4").write_bytes(b"another")
    after = data.plan()
    assert changed(before, after) == set()  # it fits no model
    for name in ALL:
        now = {i.id: i.identity for i in after.items(name)}
        assert {id for id in now if now[id] != identities[name][id]} == ({"four"} if name != "labels" else set())  # it has none
    shard = next(s for s, videos in after.shards.items() if "four" in videos)
    assert {place for place in held if members(after)[place] != held[place]} == {(name, shard) for name in ALL if name != "labels"}


def test_a_replaced_video_that_models_are_fitted_on_alters_them(data):
    before = data.plan()
    keys(before)
    (data.folder / "one.mp4").write_bytes(b"another")
    assert changed(before, data.plan()) == set(FITTED)


def test_a_touched_or_moved_video_alters_nothing(data):
    before = data.plan()
    held = members(before)
    (data.folder / "more").mkdir()
    (data.folder / "four.mp4").rename(data.folder / "more" / "four.mp4")
    data.rows[-1] = ("four", "more/four", "", "test", "")
    after = data.plan()
    assert changed(before, after) == set()
    assert members(after) == held
    assert after.run == before.run


def test_another_choice_of_subject_alters_that_stream_alone(data):
    before = data.plan()
    data.rows[-1] = ("four", "four", "left", "test", "")
    after = data.plan()
    assert changed(before, after) == set()
    differ = {n for n in ALL if {i.id: i.identity for i in after.items(n)} != {i.id: i.identity for i in before.items(n)}}
    assert differ == {n for n in ALL if before.level(n) == "stream"}


def test_curation_alters_the_streams_that_it_names(data):
    before = data.plan()
    held, keys_before = members(before), keys(before)
    path = data.folder / "tracks.csv"
    path.write_text("stream_id,tracks\nfour,2 0\n")
    after = data.plan({"subject": {"curation": str(path)}})
    assert keys(after) == keys_before
    assert {i.id: i.tracks for i in after.items("subject")} == dict.fromkeys(("one", "two_left", "two_right", "three")) | {"four": (0, 2)}
    shard = next(s for s, videos in after.shards.items() if "four" in videos)
    stream_level = {n for n in ALL if before.level(n) == "stream"}
    assert {place for place in held if members(after)[place] != held[place]} == {(name, shard) for name in stream_level}
    path.write_text("stream_id,tracks\none,0\n")  # a stream that models are fitted on
    assert changed(before, data.plan({"subject": {"curation": str(path)}})) == set(FITTED)


def test_curation_of_another_manifest_is_refused_but_does_not_concern_new_videos(data):
    path = data.folder / "tracks.csv"
    path.write_text("stream_id,tracks\nfour,2\n")
    curated = {"subject": {"curation": str(path)}}
    models = {m: data.plan(curated).key(m) for m in FITTED}
    data.rows = [("five", "five", "", "predict", "")]
    with pytest.raises(ManifestError, match=r"tracks\.csv: row 2: want a stream_id of the manifest, got 'four'"):
        data.plan(curated)
    new = data.plan(curated, model_keys=models)
    assert {m: new.key(m) for m in FITTED} == models
    assert new.items("subject")[0].tracks is None


def test_the_order_of_rows_does_not_matter(data):
    before = data.plan()
    data.rows.reverse()
    after = data.plan()
    assert keys(after) == keys(before)
    assert members(after) == members(before)
    assert after.run == before.run


# ---- shards, items, paths ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 3, 50, 1000])
def test_every_item_is_in_one_shard_of_its_group(data, shards):
    plan = data.plan({"shards": shards})
    for name in ALL:
        found = [i.id for shard in plan.shards for i in plan.items(name, shard)]
        assert sorted(found) == sorted(i.id for i in plan.items(name))
        assert len(set(found)) == len(found)
    for shard, videos in plan.shards.items():
        assert int(shard[-3:]) < shards
        for video in videos:
            assert shard.startswith("fit") == any(row.fits for row in plan.rows if row.video_id == video)
    both = [s for s in plan.shards if {"two_left", "two_right"} & {i.id for i in plan.items("mesh", s)}]
    assert len(both) == 1


def test_other_videos_do_not_move_a_video_to_another_shard(data):
    before = data.plan()
    data.rows = [row for row in data.rows if row[0] != "one"]
    after = data.plan()
    place = {v: s for s, videos in before.shards.items() for v in videos}
    assert all(place[v] == s for s, videos in after.shards.items() for v in videos)


def test_levels_and_what_is_read(data):
    plan = data.plan()
    assert [i.id for i in plan.items("faces")] == ["four", "one", "three", "two"]
    assert [i.id for i in plan.items("mesh")] == ["four", "one", "three", "two_left", "two_right"]
    assert {n for n in ALL if plan.level(n) == "video"} == {"frames", "audio", "faces", "qwen3vl", "wavlm"}
    assert plan.reads("fused") == ("frames", "face", "behaviour", "voice")
    assert plan.reads("voice") == ("frames", "wavlm")
    assert plan.learns("voice") == ("frames", "wavlm", "speech", "labels")  # the mouth chooses windows in training alone
    assert plan.reads("face") == ("frames", "mesh")
    seen: set[str] = set()
    for name in plan.names:  # an order in which everything can be made
        assert set(plan.reads(name)) <= seen
        seen.add(name)


def test_two_streams_share_the_files_of_their_video(data):
    plan = data.plan()
    left, right = (next(i for i in plan.items("mesh") if i.id == id) for id in ("two_left", "two_right"))
    assert plan.stream("faces", left) == plan.stream("faces", right)
    assert plan.stream("mesh", left) != plan.stream("mesh", right)
    video = plan.item("frames", left)
    assert plan.stream("audio", left) == plan.folder("audio") / f"two.{video.identity[:8]}.flac"
    assert plan.stream("mesh", left) == data.folder / "cache" / "mesh" / plan.key("mesh") / f"two_left.{left.identity[:8]}.h5"


def test_paths_that_the_workflow_names(data):
    plan = data.plan()
    shard = next(iter(plan.shards))
    assert plan.index("mesh", shard) == f"{data.folder}/cache/mesh/{plan.key('mesh')}/shards/{shard}-{plan.members('mesh', shard)}.json"
    assert plan.fitted("face") == f"{data.folder}/cache/face/{plan.key('face')}/fit.json"
    assert plan.published() == f"results/demo/published/{plan.run}.json"
    assert sorted(plan.indexes("mesh")) == sorted(plan.indexes("mesh", "fit") + plan.indexes("mesh", "rest"))


def test_an_index_names_its_stage_and_shard(data):
    plan = data.plan()
    for name in plan.names:
        for shard in plan.shards:
            assert plan.of_index(Path(plan.index(name, shard))) == (name, shard)


def test_a_job_of_a_stage_looks_at_the_videos_of_its_shard_alone(data, monkeypatch):
    whole, looked = data.plan(), []
    monkeypatch.setattr(planning, "fingerprint", lambda path: looked.append(path.stem) or fingerprint(path))
    for name in ("frames", "speech", "wavlm"):
        for shard, videos in whole.shards.items():
            plan, index = data.plan(), Path(whole.index(name, shard))
            looked.clear()
            assert plan.of_index(index) == (name, shard)
            for item in plan.items(name, shard):
                assert all(plan.stream(read, item).name.startswith(item.id) for read in (name, *plan.reads(name)))
            assert sorted(looked) == videos


def test_two_names_of_one_feature_have_one_index(data):
    """What a recipe calls a feature is no part of what its jobs are told."""
    plan = data.plan()
    features = {"qwen3vl": None, "other": DEFAULT["features"]["qwen3vl"]}
    other = data.plan({"features": features, "models": {"behaviour": {"reads": "other"}}})
    for shard in plan.shards:
        index = Path(plan.index("qwen3vl", shard))
        assert other.of_index(index) == ("other", shard)


def test_a_job_planned_for_other_members_stops(data):
    before = data.plan()
    shard = next(s for s in before.shards if s.startswith("rest"))
    index = Path(before.index("mesh", shard))
    (data.folder / "four.mp4").write_bytes(b"another")
    with pytest.raises(StoreError, match=f"{shard}-.*: want the index of a shard of this run, got another: manifest .*run again"):
        data.plan().of_index(index)
    with pytest.raises(StoreError, match="want the index of a shard of this run"):
        before.of_index(index.with_name("fit999-0123456789ab.json"))


HEAVY = ("torch", "transformers", "mediapipe", "cv2", "av", "lightning", "scipy", "decord", "ultralytics")


def test_planning_imports_nothing_heavy():
    code = f"import sys, affpipe.plan.plan; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_the_snakefile_imports_loads_no_network_library():
    heavy = tuple(m for m in HEAVY if m != "scipy")
    code = f"import sys, affpipe.jobs.start; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_items_of_a_shard_are_those_of_its_videos_in_order(data):
    plan = data.plan()
    for name in plan.names:
        whole = plan.items(name)
        for shard, videos in plan.shards.items():
            assert plan.items(name, shard) == [item for item in whole if item.row.video_id in videos]
        assert sorted(item.id for shard in plan.shards for item in plan.items(name, shard)) == [item.id for item in whole]


# ---- what a run publishes ---------------------------------------------------------------------------------------------------------------


def test_the_key_of_a_run_follows_all_that_it_publishes(data):
    first = data.plan()
    runs = {"first": first.run}
    runs["another model"] = data.plan({"publish": "face"}).run
    data.rows[-1] = ("four", "four", "", "predict", "")
    runs["another partition"] = data.plan().run
    data.rows[-1] = ("four", "four", "right", "test", "")
    runs["another subject"] = data.plan().run
    data.rows[-1] = ROWS[-1]
    runs["another model setting"] = data.plan({"models": {"fused": {"layers": 2}}}).run
    assert data.plan({"name": "x", "device": "cuda"}).run == first.run
    (data.folder / "four.mp4").write_bytes(b"another")
    runs["another video"] = data.plan().run
    assert len(set(runs.values())) == len(runs), runs


def test_canonical_text_is_one_for_one_value():
    assert canonical({"b": [1, 2.5], "a": "ä"}) == canonical({"a": "ä", "b": [1, 2.5]}) == '{"a":"ä","b":[1,2.5]}'


# ---- what is planned is read ------------------------------------------------------------------------------------------------------------

ALONE = {
    "face": ["frames", "labels", "faces", "subject", "landmarks", "mesh", "face"],
    "behaviour": ["frames", "labels", "qwen3vl", "behaviour"],
    "voice": ["frames", "labels", "audio", "faces", "subject", "landmarks", "mouth", "speech", "wavlm", "voice"],
}


def alone(model: str, **change: Any) -> dict[str, Any]:
    models = {name: None for name in FITTED if name != model}
    return {"models": models | ({model: change} if change else {}), "publish": model}


@pytest.mark.parametrize("model", ALONE)
def test_a_model_alone_plans_what_it_reads_and_nothing_else(data, model):
    plan = data.plan(alone(model))
    assert plan.names == ALONE[model]
    whole = data.plan()
    assert all(plan.key(name) == whole.key(name) for name in plan.names)
    assert plan.unread == [name for name in FEATURES if name not in plan.names]


def test_speech_windows_and_the_mouth_are_planned_for_a_model_that_keeps_to_them_alone(data):
    every = {"vad": {"model": "silero"}}
    assert data.plan(alone("voice", speech_only=False) | every).names == ["frames", "labels", "audio", "wavlm", "voice"]
    assert data.plan(alone("voice") | every).names == [
        *["frames", "labels", "audio", "vad", "faces", "subject", "landmarks", "mouth", "speech", "wavlm", "voice"]
    ]


def test_every_planned_stage_is_read_by_a_later_one_or_is_a_model_or_what_results_are_held_against(data):
    for change in ({}, {"vad": {"model": "silero"}}, *map(alone, ALONE)):
        plan = data.plan(change)
        reads = {name: plan.learns(name) if name in plan.settings.models else plan.reads(name) for name in plan.names}
        read = {read for found in reads.values() for read in found} | {"frames", "labels", *plan.settings.models}
        assert set(plan.names) == read
        for place, name in enumerate(plan.names):
            assert set(plan.reads(name)) <= set(plan.names[:place])


def test_a_feature_that_no_model_reads_is_not_made_and_is_named(data):
    plan = data.plan({"features": {"logmel": {"encoder": "logmel"}}})
    assert "logmel" not in plan.names
    assert plan.unread == ["logmel"]
    assert data.plan().unread == []
