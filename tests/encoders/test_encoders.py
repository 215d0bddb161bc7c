"""Encoders: each row answers its own input, whatever stands beside it, and agrees with an independent formula."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from affpipe.core.errors import InputError, WeightsError
from affpipe.encoders.logmel import network as logmel
from affpipe.encoders.qwen3vl import network as qwen3vl
from affpipe.encoders.table import ENCODERS
from affpipe.encoders.tiny_weights import make_tiny
from affpipe.encoders.wavlm import network as wavlm

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("weights")
    make_tiny(out)
    return out


def test_specs_need_no_torch() -> None:
    code = "import sys; from affpipe.encoders.table import ENCODERS; print(sorted(ENCODERS), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['grada', 'logmel', 'mesh', 'qwen3vl', 'wavlm'] False"
    assert all(name == spec.name and spec.revision >= 1 for name, spec in ENCODERS.items())


# --- checkpoints --------------------------------------------------------------------------------------------------------------------


def test_checkpoints_that_do_not_read(tiny: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        return shutil.copytree(tiny / name, tmp_path / f"copy{len(list(tmp_path.iterdir()))}")

    def refused(load: Callable[[Path], object], folder: Path, message: str) -> None:
        with pytest.raises(WeightsError, match=message):
            load(folder)

    def qwen(folder: Path) -> object:
        return qwen3vl.load(folder, **CPU, min_pixels=32 * 32, max_pixels=64 * 64)

    def wav(folder: Path) -> object:
        return wavlm.load(folder, **CPU)

    for load, name, said in ((qwen, "qwen3vl-tiny", "does not load"), (wav, "wavlm-tiny", "does not read as weights")):
        cut = copy(name) / "model.safetensors"
        cut.write_bytes(cut.read_bytes()[:9000])
        refused(load, cut.parent, f"{said} .*; (fetch|get)")
        halved = copy(name) / "config.json"
        halved.write_text('{"model_type": ')
        refused(load, halved.parent, r"config\.json is damaged")
    junk = copy("wavlm-tiny")
    (junk / "model.safetensors").unlink()
    (junk / "pytorch_model.bin").write_bytes(b"junk")
    refused(wav, junk, "does not read as weights")
    refused(qwen, tmp_path / "nowhere", r"qwen3vl: no .*nowhere.config\.json; fetch")
    refused(qwen, tiny / "wavlm-tiny", "want a Qwen3-VL checkpoint, got model_type 'wavlm'")
    refused(wav, tiny / "qwen3vl-tiny", "want a WavLM checkpoint, got model_type 'qwen3_vl'")


# --- WavLM --------------------------------------------------------------------------------------------------------------------------

SAMPLES = 8000


@pytest.fixture(scope="module")
def speech() -> tuple[np.ndarray, np.ndarray]:
    """Six rows, two of them full, one too short for a frame, one empty; past each end lie NaNs."""
    rng = np.random.default_rng(5)
    lengths = np.array([SAMPLES, 4321, 399, SAMPLES, 0, 4321])
    rows = rng.normal(0, 0.1, (6, SAMPLES)).astype(np.float32)
    rows[np.arange(SAMPLES) >= lengths[:, None]] = np.nan
    return rows, lengths


def _group_norm_model() -> wavlm.WavLM:
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "conv_dim": (8,) * 7}
    config = wavlm.WavLMConfig(**small, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, feat_extract_norm="group")
    return wavlm.WavLM(wavlm.WavLMModel(config), device=torch.device("cpu"), scale=None)


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_wavlm_rows_know_neither_padding_nor_neighbours(tiny: Path, speech, norm: str) -> None:
    encoder = wavlm.load(tiny / "wavlm-tiny", **CPU) if norm == "layer" else _group_norm_model()
    rows, lengths = speech
    out = encoder.extract(rows, lengths)
    assert out.shape == (6, encoder.frame_count(SAMPLES), encoder.dim)
    assert out.dtype == np.float32
    for row, waveform, length in zip(out, rows, lengths, strict=True):
        frames = encoder.frame_count(int(length))
        assert (row[frames:] == 0).all()
        if frames:
            alone = encoder.extract(waveform[None, :length], np.array([length]))[0]
            np.testing.assert_allclose(row[:frames], alone, atol=1e-5)
    for batch_size in (1, 2, 6):
        encoder.batch_size = batch_size
        np.testing.assert_allclose(encoder.extract(rows, lengths), out, atol=1e-5)
    assert encoder.extract(rows[:0], lengths[:0]).shape == (0, encoder.frame_count(SAMPLES), encoder.dim)


def test_wavlm_is_the_library_called_by_hand(tiny: Path, speech) -> None:
    rows, _ = speech
    by_hand = wavlm.WavLMModel.from_pretrained(tiny / "wavlm-tiny").eval()
    with torch.inference_mode():
        hidden = by_hand(torch.from_numpy(rows[:1]), output_hidden_states=True)
        closed = by_hand.encoder.layer_norm(hidden.hidden_states[3])
    full = np.array([SAMPLES])
    np.testing.assert_allclose(wavlm.load(tiny / "wavlm-tiny", **CPU).extract(rows[:1], full), hidden.last_hidden_state, atol=1e-5)
    np.testing.assert_allclose(closed, hidden.last_hidden_state, atol=1e-5)
    for layer in range(4):
        got = wavlm.load(tiny / "wavlm-tiny", **CPU, layer=layer).extract(rows[:1], full)
        np.testing.assert_allclose(got, hidden.hidden_states[layer], atol=1e-5)
    with pytest.raises(InputError, match="want layer from 0 to 3"):
        wavlm.load(tiny / "wavlm-tiny", **CPU, layer=4)


def test_wavlm_frames(tiny: Path) -> None:
    encoder = wavlm.load(tiny / "wavlm-tiny", **CPU)
    assert [encoder.frame_count(n) for n in (0, 399, 400, 719, 720, 16000, 64000)] == [0, 0, 1, 1, 2, 49, 199]
    # A click at sample 3200 is heard, by the convolutions, in the frames whose 400 samples hold it.
    rows = np.zeros((2, SAMPLES), np.float32)
    rows[1, 3200] = 1
    with torch.inference_mode():
        still, click = encoder.model.feature_extractor(torch.from_numpy(rows)).transpose(1, 2)
    assert torch.nonzero((still - click).abs().amax(dim=1)).ravel().tolist() == [9, 10]


def test_wavlm_own_scale_forgets_gain_and_offset(tiny: Path, speech) -> None:
    rows, full = speech[0][:1], np.array([SAMPLES])
    own, plain = (wavlm.load(tiny / "wavlm-tiny", **CPU, normalise=n) for n in ("waveform", "checkpoint"))
    np.testing.assert_allclose(own.extract(3 * rows + 0.5, full), own.extract(rows, full), atol=1e-3)
    standard = (rows - rows.mean()) / rows.std()
    np.testing.assert_allclose(own.extract(rows, full), plain.extract(standard, full), atol=1e-3)
    assert np.isfinite(own.extract(np.zeros_like(rows), full)).all()


def _folder(path: Path, weights: dict[str, torch.Tensor], **files: dict) -> Path:
    path.mkdir()
    save_file(weights, path / "model.safetensors")
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def test_wavlm_reads_the_flag_of_the_feature_extractor(tiny: Path, tmp_path: Path, speech) -> None:
    source, rows, full = tiny / "wavlm-tiny", speech[0][:1], np.array([SAMPLES])
    config = json.loads((source / "config.json").read_text())
    folder = _folder(tmp_path / "w", load_file(source / "model.safetensors"), config=config, preprocessor_config={"do_normalize": True})
    want = wavlm.load(source, **CPU, normalise="waveform").extract(rows, full)
    np.testing.assert_array_equal(wavlm.load(folder, **CPU).extract(rows, full), want)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    np.testing.assert_array_equal(wavlm.load(folder, **CPU).extract(rows, full), want)


def test_wavlm_loads_odyssey(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speech) -> None:
    source, rows, full = tiny / "wavlm-tiny", speech[0][:1], np.array([SAMPLES])
    config = json.loads((source / "config.json").read_text())
    monkeypatch.setattr(wavlm, "LARGE", config)
    old = {new: name for name, new in wavlm.RENAMED.items()}
    weights = {}
    for key, value in load_file(source / "model.safetensors").items():
        for new, name in old.items():
            key = key.replace(new, name)
        weights[f"ssl_model.{key}"] = value
    assert any(key.endswith("weight_g") for key in weights)
    heads = {"pool_model.sap_linear.weight": torch.ones(2), "ser_model.out.0.bias": torch.ones(3)}
    published = {"model_type": "ser", "mean": -0.01, "std": 0.2}
    folder = _folder(tmp_path / "odyssey", weights | heads, config=published)

    plain = wavlm.load(source, **CPU)
    np.testing.assert_allclose(wavlm.load(folder, **CPU).extract(rows, full), plain.extract((rows + 0.01) / (0.2 + 1e-6), full), atol=1e-4)
    same = wavlm.load(folder, **CPU, normalise="waveform").extract(rows, full)
    np.testing.assert_allclose(same, wavlm.load(source, **CPU, normalise="waveform").extract(rows, full), atol=1e-5)

    lacking = dict(weights)
    del lacking["ssl_model.encoder.layers.0.attention.q_proj.weight"]
    for i, (bad, key) in enumerate([(lacking, "Missing.*q_proj"), (weights | {"ssl_model.extra": torch.ones(1)}, "Unexpected.*extra")]):
        with pytest.raises(WeightsError, match=key):
            wavlm.load(_folder(tmp_path / f"bad{i}", bad, config=published), **CPU)
    with pytest.raises(WeightsError, match="lacks mean and std"):
        wavlm.load(_folder(tmp_path / "scaleless", weights, config={}), **CPU)


def test_wavlm_refuses(tiny: Path, tmp_path: Path, speech) -> None:
    encoder, (rows, lengths) = wavlm.load(tiny / "wavlm-tiny", **CPU), speech
    for bad in (rows.astype(np.float64), rows[0]):
        with pytest.raises(InputError, match=r"want float32 \(N, S\)"):
            encoder.extract(bad, lengths)
    for bad in (lengths + 1, lengths[:2], lengths.astype(float)):
        with pytest.raises(InputError, match="integer lengths from 0 to 8000"):
            encoder.extract(rows, bad)
    with pytest.raises(InputError, match="want finite samples"):
        encoder.extract(rows, np.full(6, SAMPLES))
    with pytest.raises(WeightsError, match=r"holds neither model\.safetensors nor pytorch_model\.bin"):
        wavlm.load(tmp_path, **CPU)


# --- log-mel ------------------------------------------------------------------------------------------------------------------------


def _log_mel_by_loops(x: np.ndarray, rate: int, bands: int) -> np.ndarray:
    """One 400-sample frame: the transform as a sum, the triangles point by point."""
    n = len(x)
    tapered = x * 0.5 * (1 - np.cos(2 * np.pi * np.arange(n) / n))
    bins = np.arange(257)
    magnitude = np.abs(np.exp(-2j * np.pi * np.outer(bins, np.arange(n)) / 512) @ tapered)

    def mel(hz: float) -> float:
        return 2595 * np.log10(1 + hz / 700)

    edges = [mel(125) + (mel(7500) - mel(125)) * i / (bands + 1) for i in range(bands + 2)]
    out = []
    for low, peak, high in zip(edges, edges[1:], edges[2:], strict=False):
        total = 0.0
        for k in bins:
            at = mel(k * rate / 512)
            if low < at < high:
                total += magnitude[k] * ((at - low) / (peak - low) if at <= peak else (high - at) / (high - peak))
        out.append(np.log(total + 0.01))
    return np.array(out)


def test_logmel_agrees_with_plain_loops() -> None:
    x = np.random.default_rng(2).normal(0, 0.1, (2, 1000)).astype(np.float32)
    out = logmel.LogMel().extract(x, np.array([1000, 1000]))
    assert out.shape == (2, 4, 64)
    for row in range(2):
        for frame in range(4):
            want = _log_mel_by_loops(x[row, frame * 160 : frame * 160 + 400].astype(np.float64), 16000, 64)
            # The rounded constants of the two mel formulas differ by 1e-5 or so.
            np.testing.assert_allclose(out[row, frame], want, atol=1e-3)


@pytest.mark.parametrize("hz", [300.0, 440.0, 1000.0, 3500.0, 7000.0])
def test_logmel_finds_a_tone(hz: float) -> None:
    x = np.sin(2 * np.pi * hz * np.arange(16000) / 16000).astype(np.float32)[None]
    peaks = logmel.LogMel().extract(x, np.array([16000]))[0].argmax(axis=1)

    def mel(f: float) -> float:
        return 2595 * np.log10(1 + f / 700)

    want = (mel(hz) - mel(125)) / (mel(7500) - mel(125)) * 65 - 1  # in bands, peak of band 0 at one edge from the start
    assert np.abs(peaks - want).max() <= 1


def test_logmel_finds_a_click() -> None:
    x = np.zeros((1, 16000), np.float32)
    x[0, 8000] = 1
    out = logmel.LogMel().extract(x, np.array([16000]))[0]
    assert out.shape == (98, 64)
    heard = np.flatnonzero(out.max(axis=1) > np.log(0.011))
    # Frame j covers samples 160 j to 160 j + 400; at the first sample of a frame its window is zero.
    assert heard.tolist() == [48, 49]
    np.testing.assert_allclose(out[~np.isin(np.arange(98), heard)], np.log(0.01), atol=1e-6)


def test_logmel_rows_know_neither_padding_nor_neighbours(speech) -> None:
    rows, lengths = speech
    encoder = logmel.LogMel()
    out = encoder.extract(rows, lengths)
    for row, waveform, length in zip(out, rows, lengths, strict=True):
        frames = encoder.frame_count(int(length))
        assert (row[frames:] == 0).all()
        np.testing.assert_allclose(row[:frames], encoder.extract(waveform[None, :length], np.array([length]))[0, :frames], atol=1e-6)
    np.testing.assert_array_equal(logmel.LogMel(batch_size=1).extract(rows, lengths), out)
    assert encoder.extract(rows[:0], lengths[:0]).shape == (0, encoder.frame_count(SAMPLES), 64)
    assert encoder.extract(rows[:, :100], np.full(6, 100)).shape == (6, 0, 64)


def test_logmel_refuses(speech) -> None:
    rows, lengths = speech
    with pytest.raises(InputError, match=r"want float32 \(N, S\)"):
        logmel.LogMel().extract(rows.astype(np.float64), lengths)
    with pytest.raises(InputError, match="integer lengths"):
        logmel.LogMel().extract(rows, lengths + 1)
    with pytest.raises(InputError, match="max_hz <= 8000"):
        logmel.LogMel(max_hz=9000)
