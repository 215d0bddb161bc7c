"""recipes/ras.yaml holds every number of the paper, ras-code those of the public code; the demo recipes are their graphs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from recipe_layers import ROOT, load

from affpipe.encoders.qwen3vl.network import published_prompt
from affpipe.plan.settings import Settings

FACE, VISUAL, MULTIMODAL, AUDIO = "grada_transformer", "qwen_visual_mamba", "qwen_multimodal_mamba", "wavlm_chunks"
FUSIONS = ("dcmmoe_face_audio", "dcmmoe_face_visual_audio", "dcmmoe_face_multimodal_audio")
RAAV = "raav_face_multimodal_audio"


@pytest.fixture(scope="module")
def ras() -> Settings:
    return load("ras")


@pytest.fixture(scope="module")
def code() -> Settings:
    return load("ras-code")


def at(settings, path: str):
    """The value at a dotted path of settings."""
    for part in path.split("."):
        settings = settings[part] if isinstance(settings, dict) else getattr(settings, part)
    return settings


PAPER = {  # section, path, value
    # 3.1 Face model
    ("3.1", "faces.detector", "yolo"),
    ("3.1", "faces.every", 1),
    ("3.1", "features.grada.side", 240),
    ("3.1", f"models.{FACE}.reads", "grada"),
    ("3.1", f"models.{FACE}.fill", "nearest"),
    # 3.2 Behaviour description models
    ("3.2", "features.qwen.weights", "qwen3-vl-4b"),
    ("3.2", "features.qwen.frames", 16),
    ("3.2", f"models.{VISUAL}.dataset", "visual_last"),
    ("3.2", f"models.{MULTIMODAL}.dataset", "values"),
    # 3.3 Audio model
    ("3.3", "audio.sample_rate_hz", 16000),
    ("3.3", "features.odyssey.weights", "odyssey"),
    ("3.3", "features.odyssey.length_s", 4.0),
    ("3.3", "features.odyssey.hop_s", 2.0),
    ("3.3", "speech.length_s", 4.0),
    ("3.3", "speech.hop_s", 2.0),
    ("3.3", "features.odyssey.trained_layers", 4),
    ("3.3", f"models.{AUDIO}.chunks", 4),
    # 4.2 Experimental setup: the face model and DCMMOE
    *(("4.2", f"models.{name}.window", 400) for name in (FACE, *FUSIONS)),
    *(("4.2", f"models.{name}.stride", 150) for name in (FACE, *FUSIONS)),
    *(("4.2", f"models.{name}.layers", 5) for name in (FACE, *FUSIONS)),
    *(("4.2", f"models.{name}.heads", 16) for name in (FACE, *FUSIONS)),
    *(("4.2", f"models.{name}.training.learning_rate", 1e-4) for name in (FACE, *FUSIONS)),
    *(("4.2", f"models.{name}.training.batch_size", 8) for name in (FACE, *FUSIONS)),
    *(("4.2", f"models.{name}.training.weight_decay", 0.01) for name in (FACE, *FUSIONS)),
    *(("4.2", f"models.{name}.training.schedule", "plateau") for name in (FACE, *FUSIONS)),
    # 4.2 the Mamba models
    *(("4.2", f"models.{name}.window", 16) for name in (VISUAL, MULTIMODAL)),
    *(("4.2", f"models.{name}.stride", 8) for name in (VISUAL, MULTIMODAL)),
    *(("4.2", f"models.{name}.state", 8) for name in (VISUAL, MULTIMODAL)),
    *(("4.2", f"models.{name}.head_hidden", 512) for name in (VISUAL, MULTIMODAL)),
    *(("4.2", f"models.{name}.dropout", 0.2) for name in (VISUAL, MULTIMODAL)),
    *(("4.2", f"models.{name}.training.batch_size", 8) for name in (VISUAL, MULTIMODAL)),
    ("4.2", f"models.{VISUAL}.layers", 4),
    ("4.2", f"models.{VISUAL}.hidden", 128),
    ("4.2", f"models.{VISUAL}.kernel", 3),
    ("4.2", f"models.{VISUAL}.training.learning_rate", 1e-4),
    ("4.2", f"models.{VISUAL}.training.weight_decay", 1e-4),
    ("4.2", f"models.{MULTIMODAL}.layers", 12),
    ("4.2", f"models.{MULTIMODAL}.hidden", 256),
    ("4.2", f"models.{MULTIMODAL}.kernel", 5),
    ("4.2", f"models.{MULTIMODAL}.training.learning_rate", 3e-4),
    ("4.2", f"models.{MULTIMODAL}.training.weight_decay", 1e-3),
    # 4.2 the audio model
    ("4.2", f"models.{AUDIO}.training.epochs", 50),
    ("4.2", f"models.{AUDIO}.training.batch_size", 8),
    ("4.2", f"models.{AUDIO}.training.backbone_learning_rate", 5e-6),
    ("4.2", f"models.{AUDIO}.training.learning_rate", 2e-4),
    ("4.2", f"models.{AUDIO}.training.weight_decay", 0.01),
}
PUBLIC_CODE = {  # path, value: where the paper is silent
    ("seed", 42),
    ("mouth.gap_s", 0.15),
    ("mouth.burst_s", 0.20),
    ("speech.min_open_ratio", 0.25),
    ("speech.min_coverage", 0.80),
    ("features.qwen.dtype", "bfloat16"),
    ("features.qwen.min_pixels", 100352),
    ("features.qwen.max_pixels", 602112),
    ("features.odyssey.normalise", "waveform"),
    (f"models.{FACE}.feedforward", 256),
    (f"models.{FACE}.training.plateau_factor", 0.1),
    (f"models.{FACE}.training.plateau_patience", 5),
    (f"models.{FACE}.training.stop_patience", 15),
    (f"models.{FACE}.training.loss.va.over", "window"),
    (f"models.{VISUAL}.training.stop_patience", 12),
    (f"models.{VISUAL}.training.loss.va.over", "batch"),
    (f"models.{AUDIO}.training.loss.va.valence_weight", 0.7),
    (f"models.{AUDIO}.training.loss.va.arousal_weight", 0.3),
    (f"models.{AUDIO}.training.loss.va.mse_weight", 0.1),
    (f"models.{AUDIO}.training.ema_decay", 0.998),
    (f"models.{AUDIO}.training.clip_norm", 1.0),
    (f"models.{AUDIO}.training.stop_patience", 6),
    (f"models.{AUDIO}.training.plateau_factor", 0.5),
    (f"models.{AUDIO}.training.plateau_patience", 2),
    (f"models.{AUDIO}.training.plateau_groups", "head"),
    (f"models.{AUDIO}.dropout", 0.2),
    (f"models.{AUDIO}.attention_dropout", 0.2),
    (f"models.{AUDIO}.speech_only", "training"),
    (f"models.{AUDIO}.expand", "linear"),
    (f"models.{AUDIO}.training.plateau_threshold", 5e-4),
    (f"models.{AUDIO}.training.plateau_least_rate", 1e-7),
    *((f"models.{name}.training.schedule", "constant") for name in (VISUAL, MULTIMODAL, RAAV)),
    *((f"models.{name}.training.clip_norm", None) for name in (FACE, VISUAL, MULTIMODAL, *FUSIONS)),
    *((f"models.{name}.training.score", "frames") for name in (FACE, VISUAL, MULTIMODAL, AUDIO, *FUSIONS, RAAV)),
    *((f"models.{name}.training.precision", "mixed") for name in (AUDIO, RAAV)),
    *((f"models.{name}.training.seed", 0) for name in (AUDIO, RAAV)),
    *((f"models.{name}.training.epochs", 100) for name in (FACE, VISUAL, MULTIMODAL, *FUSIONS)),
    *((f"models.{name}.start", "xavier") for name in (VISUAL, MULTIMODAL)),
    *((f"models.{name}.tail", "truncated") for name in (VISUAL, MULTIMODAL)),
    ("features.qwen.hop_s", 2.0),
    (f"models.{RAAV}.hop_s", 2.0),
    (f"models.{RAAV}.audio_rows", "window"),
    (f"models.{RAAV}.speech_only", "training"),
    (f"models.{RAAV}.min_open_s", 1.0),
    (f"models.{RAAV}.min_coverage", 0.8),
    (f"models.{RAAV}.training.clip_norm", 1.0),
    (f"models.{RAAV}.training.score_smooth.valence_frames", 7),
    (f"models.{RAAV}.training.score_smooth.arousal_frames", 13),
    (f"models.{RAAV}.feedforward", 1024),
    (f"models.{RAAV}.dropout", 0.1),
    (f"models.{RAAV}.training.epochs", 50),
    (f"models.{RAAV}.training.stop_patience", 6),
    (f"models.{RAAV}.training.weight_decay", 0.01),
    (f"models.{AUDIO}.hidden", 256),
    (f"models.{AUDIO}.attention_hidden", 128),
    (f"models.{FUSIONS[2]}.dropout", 0.1),
    (f"models.{RAAV}.priors", (0.85, 0.15)),
    (f"models.{RAAV}.latents", 4),
    (f"models.{RAAV}.layers", 1),
    (f"models.{RAAV}.heads", 4),
    (f"models.{RAAV}.inputs", "embedding_and_prediction"),
    (f"models.{RAAV}.window_s", 4.0),
    (f"models.{RAAV}.smooth.valence_frames", 9),
    (f"models.{RAAV}.smooth.arousal_frames", 11),
    (f"models.{RAAV}.training.learning_rate", 5e-5),
    (f"models.{RAAV}.training.batch_size", 8),
    (f"models.{RAAV}.training.loss.va.valence_weight", 0.7),
    (f"models.{RAAV}.training.loss.va.mse_weight", 0.01),
}
LIKE_A_LAYER = {  # of the public code's attention layers
    "heads": 8,
    "activation": "gelu",
    "dropout_on": "residual",
    "positions": "every_layer",
    "position_dropout": 0.1,
    "second_residual": True,
    "start": "multihead",
}
AS_CODE = {  # path, value of ras-code: the public code where it differs from the paper
    ("features.qwen.visual_tokens", "marks"),
    *((f"models.{name}.{key}", value) for name in (FACE, *FUSIONS) for key, value in LIKE_A_LAYER.items()),
    (f"models.{FACE}.embedding", "head"),
    *((f"models.{name}.block", "ras2026") for name in (VISUAL, MULTIMODAL)),
    (f"models.{AUDIO}.cut", "rounded"),
    (f"models.{AUDIO}.cache_frozen", False),
    (f"models.{AUDIO}.frozen_mode", "train"),
    (f"models.{AUDIO}.augment.noise_probability", 0.6),
    *((f"models.{name}.kind", "cross_attention") for name in FUSIONS),
    *((f"models.{name}.inputs", "embedding_and_prediction") for name in FUSIONS),
    *((f"models.{name}.query", FACE) for name in FUSIONS),
    (f"models.{FUSIONS[0]}.context", AUDIO),
    *((f"models.{name}.fill", "nearest") for name in FUSIONS),
    (f"models.{RAAV}.compat", "ras2026"),
}
TABLE_1 = {  # V, A, mean, test
    FACE: (0.5869, 0.6508, 0.6189, 0.54),
    VISUAL: (0.2499, 0.5515, 0.4007, None),
    MULTIMODAL: (0.4290, 0.6480, 0.5385, None),
    AUDIO: (0.3415, 0.4636, 0.4025, None),
    FUSIONS[0]: (0.6252, 0.6671, 0.6461, 0.58),
    FUSIONS[1]: (0.5647, 0.6797, 0.6222, None),
    FUSIONS[2]: (0.6100, 0.6875, 0.6487, 0.61),
    RAAV: (0.6078, 0.7073, 0.6576, 0.62),
}


@pytest.mark.parametrize(("section", "path", "value"), sorted(PAPER, key=str))
def test_every_number_of_the_paper_is_in_the_recipe(ras, section, path, value):
    assert at(ras, path) == value


@pytest.mark.parametrize(("path", "value"), sorted(PUBLIC_CODE, key=str))
def test_where_the_paper_is_silent_the_public_code_speaks(ras, path, value):
    assert at(ras, path) == value


@pytest.mark.parametrize(("path", "value"), sorted(AS_CODE, key=str))
def test_where_the_two_differ_the_other_recipe_is_the_public_code(code, path, value):
    assert at(code, path) == value


def test_but_for_what_it_names_the_public_codes_recipe_is_the_papers(ras, code):
    def leaves(data: object, path: str = "") -> dict[str, object]:
        if not isinstance(data, dict) or not data:
            return {path: data}
        return {leaf: value for key, own in data.items() for leaf, value in leaves(own, f"{path}.{key}" if path else key).items()}

    found, paper = (leaves(s.model_dump(mode="json")) for s in (code, ras))
    named = {path for path, _ in AS_CODE} | {f"models.{name}.{key}" for name in FUSIONS for key in ("context", "query")} | {"name"}
    both = {path for path in found.keys() & paper.keys() if found[path] != paper[path]}
    assert both <= named
    own = {path for path in found.keys() ^ paper.keys() if not path.startswith(f"models.{AUDIO}.augment")}
    assert own <= named


def test_every_one_of_them_is_written_in_the_recipe_and_is_no_default(ras):
    """A default may change; what the paper gives must not change with it. Those of the stages audio and every are the exception."""
    import yaml

    text = yaml.safe_load((ROOT / "recipes/ras.yaml").read_text())
    for path in [p for _, p, _ in PAPER] + [p for p, _ in PUBLIC_CODE]:
        if path in ("audio.sample_rate_hz", *(f"models.{n}.training.schedule" for n in FUSIONS)):
            continue
        at(text, path)


def test_the_eight_systems_of_table_1_are_models_of_one_run(ras):
    assert list(ras.models) == list(TABLE_1)
    rows = {name: (r.valence, r.arousal, r.mean, r.test) for name, r in ras.reference.rows.items()}
    assert rows == TABLE_1
    for valence, arousal, mean, _ in TABLE_1.values():
        assert abs((valence + arousal) / 2 - mean) <= 1.01e-4  # the paper's rounding
    assert ras.models[FUSIONS[0]].members == (FACE, AUDIO)
    assert ras.models[FUSIONS[1]].members == (FACE, VISUAL, AUDIO)
    assert ras.models[FUSIONS[2]].members == (FACE, MULTIMODAL, AUDIO)
    assert ras.models[RAAV].members == (FACE, MULTIMODAL, AUDIO)
    assert ras.models[RAAV].level == "window"
    assert ras.publish == RAAV


def test_the_prompt_is_that_of_figure_2(papers):
    text = " ".join(next(papers.glob("000_*.txt")).read_text().split())
    assert " ".join(published_prompt().split()) in text


def test_it_asks_for_a_gpu_and_the_published_weights_and_reads_no_demo(ras):
    assert ras.device == "cuda"
    assert not any("tiny" in feature.weights for feature in ras.features.values())
    assert set(ras.features) == {"grada", "qwen", "odyssey"}


def test_the_demo_recipe_is_the_same_graph(ras):
    demo = load("ras-demo")

    def graph(settings: Settings) -> dict:
        own = ("dataset", "level")
        return {name: (m.kind, m.reads, m.members, *(getattr(m, f, None) for f in own)) for name, m in settings.models.items()}

    assert graph(demo) == graph(ras)
    assert graph(load("ras-code-demo")) == graph(load("ras-code"))
    assert {n: f.encoder for n, f in demo.features.items()} == {n: f.encoder for n, f in ras.features.items()}
    assert demo.reference == ras.reference
    assert demo.publish == ras.publish
    assert demo.features["odyssey"].trained_layers > 0


def test_cross_fit_is_off_as_published_and_on_where_recommended(ras):
    best = load("ras-recommended")
    assert (ras.cross_fit, best.cross_fit) == (0, 5)
    assert (ras.late_fusion, best.late_fusion is not None) == (None, True)
    assert (best.vad.model, best.mouth.compat) == ("silero", "none")
    same = {name: model.spec() for name, model in best.models.items()}
    assert same == {name: model.spec() for name, model in ras.models.items()}


STREAMS = {"train": 356, "validation": 76, "test": 162}  # of the valence and arousal task


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A made-up tree of as many streams as the task has, and a copy of the workflow."""
    folder = tmp_path_factory.mktemp("corpus")
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("workflow", "recipes"):
        shutil.copytree(ROOT / name, folder / name)
    lines, number = ["stream_id,video,partition,va"], 0
    (folder / "data").mkdir()
    for partition, count in STREAMS.items():
        for _ in range(count):
            (folder / f"data/v{number}.mp4").write_bytes(f"video {number} ".encode() * 20)
            labels = f"v{number}.txt" if partition != "test" else ""
            if labels:
                (folder / "data" / labels).write_text("valence,arousal\n0.1,0.2\n")
            lines.append(f"v{number},v{number}.mp4,{partition},{labels}")
            number += 1
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("recipes", [["ras"], ["ras", "ras-code"]], ids=lambda names: names[-1])
def test_the_whole_corpus_is_planned_as_the_recipes_header_says(corpus, recipes):
    """No quicker test sees that Snakemake plans every rule of these graphs."""
    files = ["config.yaml", *(f"recipes/{name}.yaml" for name in recipes)]
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", "--configfile", *files]
    run = subprocess.run([*command, "--config", "manifest=m.csv", "data_root=data"], cwd=corpus, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    jobs = int(re.search(r"^total\s+(\d+)", run.stdout + run.stderr, re.M)[1])
    said = re.search(r"([\d,]+) jobs", (ROOT / f"recipes/{recipes[-1]}.yaml").read_text())[1]
    assert jobs == int(said.replace(",", ""))
