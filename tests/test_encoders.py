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

from affpipe.encoders import logmel, qwen3vl, wavlm
from affpipe.encoders.specs import ENCODERS
from affpipe.errors import InputError, WeightsError
from affpipe.weights.tiny import make_tiny

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}
PIXELS = {"min_pixels": 32 * 32, "max_pixels": 64 * 64}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("weights")
    make_tiny(out)
    return out


def test_specs_need_no_torch() -> None:
    code = "import sys; from affpipe.encoders import specs; print(sorted(specs.ENCODERS), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['logmel', 'mesh', 'qwen3vl', 'wavlm'] False"
    assert all(name == spec.name and spec.revision >= 1 for name, spec in ENCODERS.items())


# --- thinning -----------------------------------------------------------------------------------------------------------------------


def test_thin_by_hand() -> None:
    assert qwen3vl.thin(31).tolist() == list(range(0, 31, 2))
    assert qwen3vl.thin(11, count=3).tolist() == [0, 5, 10]
    assert qwen3vl.thin(7, count=1).tolist() == [3]
    assert qwen3vl.thin(0).tolist() == []


@pytest.mark.parametrize("count", [2, 5, 16])
def test_thin_laws(count: int) -> None:
    for n in range(1, 200):
        index = qwen3vl.thin(n, count=count)
        assert len(index) == min(n, count)
        if n > count:
            assert (index[0], index[-1]) == (0, n - 1)
            gap = np.diff(index)
            assert gap.min() >= 1
            assert gap.max() - gap.min() <= 1
        else:
            assert index.tolist() == list(range(n))


def test_thin_refuses() -> None:
    with pytest.raises(InputError, match="want n >= 0"):
        qwen3vl.thin(-1)


# --- Qwen3-VL -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Clips of different lengths, sizes and rates, one frame and odd counts among them."""
    rng = np.random.default_rng(3)
    shapes = [(16, 48, 80), (5, 90, 60), (1, 36, 64), (16, 48, 80), (4, 30, 200)]
    frames = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    return frames, [100.0 + np.arange(len(clip)) * step for clip, step in zip(frames, (0.25, 0.1, 1, 0.04, 0.5), strict=True)]


def _qwen(tiny: Path, setting: qwen3vl.Setting = "multimodal", **settings) -> qwen3vl.Qwen3VL:
    return qwen3vl.load(tiny / "qwen3vl-tiny", **CPU, **({"setting": setting, "prompt": "How do they feel?"} | PIXELS | settings))


@pytest.mark.parametrize("setting", ["multimodal", "visual"])
def test_qwen_rows_are_independent_of_the_batch(tiny: Path, clips, setting: qwen3vl.Setting) -> None:
    encoder = _qwen(tiny, setting)
    frames, times = clips
    alone = np.concatenate([encoder.extract([c], [t]) for c, t in zip(frames, times, strict=True)])
    assert alone.shape == (5, encoder.dim)
    assert alone.dtype == np.float32
    assert np.abs(alone[0] - alone[3]).max() > 0.01  # rows do differ
    for batch_size in (2, 3, 5):
        encoder.batch_size = batch_size
        np.testing.assert_allclose(encoder.extract(frames, times), alone, atol=1e-5)
        np.testing.assert_allclose(encoder.extract(frames[::-1], times[::-1]), alone[::-1], atol=1e-5)
    assert encoder.extract([], []).shape == (0, encoder.dim)


def test_qwen_is_the_library_called_by_hand(tiny: Path, clips) -> None:
    """The chat spelled out, tokenised and run through the library's own generation class."""
    encoder, seen = _qwen(tiny), _qwen(tiny, "visual")
    frames, times = clips[0][0], clips[1][0]
    inputs = encoder._inputs(frames, times)
    # 48 x 80 rounds to 64 x 64 (half to even): 2 x 2 tokens for each of 8 pairs of frames, each shown with its mean time.
    pairs = "".join(f"<{0.125 + 0.5 * i:.1f} seconds><|vision_start|>{'<|video_pad|>' * 4}<|vision_end|>" for i in range(8))
    chat = f"<|im_start|>user\n{pairs}How do they feel?<|im_end|>\n<|im_start|>assistant\n"
    assert encoder.processor.tokenizer.decode(inputs["input_ids"][0]) == chat

    whole = qwen3vl.Qwen3VLForConditionalGeneration.from_pretrained(tiny / "qwen3vl-tiny", dtype=torch.float32).eval()
    with torch.inference_mode():
        hidden = whole(**{k: v for k, v in inputs.items() if k != "video_metadata"}, output_hidden_states=True).hidden_states[-1][0]
    last_video = max(i for i, token in enumerate(inputs["input_ids"][0]) if token == encoder.processor.video_token_id)
    np.testing.assert_allclose(encoder.extract([frames], [times])[0], hidden[-1], atol=1e-5)
    np.testing.assert_allclose(seen.extract([frames], [times])[0], hidden[last_video], atol=1e-5)


def test_qwen_visual_has_not_read_the_prompt(tiny: Path, clips) -> None:
    frames, times = clips
    other = "Something else entirely, and longer."
    visual, multimodal = ([_qwen(tiny, s, prompt=p).extract(frames[:1], times[:1]) for p in ("A", other)] for s in ("visual", "multimodal"))
    np.testing.assert_allclose(*visual, atol=1e-5)
    assert np.abs(multimodal[0] - multimodal[1]).max() > 0.01


def test_qwen_sees_every_frame_and_relative_time(tiny: Path, clips) -> None:
    encoder = _qwen(tiny)
    frames, times = clips[0][0], clips[1][0]
    changed = []
    for i in range(16):
        changed.append(frames.copy())
        changed[-1][i] = 255 - changed[-1][i]
    same, shifted, slower = encoder.extract([frames] * 3, [times, times + 1000, times[0] + 4 * (times - times[0])])
    np.testing.assert_allclose(shifted, same, atol=1e-5)
    assert np.abs(slower - same).max() > 1e-3
    assert (np.abs(encoder.extract(changed, [times] * 16) - same).max(axis=1) > 1e-4).all()


@pytest.mark.parametrize("shape", [(16, 360, 640), (15, 640, 360), (2, 100, 100), (1, 720, 1280), (7, 60, 400)])
def test_qwen_keeps_the_pixel_cap(tiny: Path, shape: tuple[int, int, int]) -> None:
    encoder = _qwen(tiny, min_pixels=32 * 32, max_pixels=10 * 32 * 32)
    inputs = encoder._inputs(np.zeros((*shape, 3), np.uint8), np.arange(shape[0]) / 4)
    pairs, rows, columns = inputs["video_grid_thw"][0].tolist()
    assert pairs == (shape[0] + 1) // 2
    assert 1 <= rows * columns // 4 <= 10
    assert (inputs["input_ids"] == encoder.processor.video_token_id).sum() == pairs * rows * columns // 4


def test_qwen_refuses(tiny: Path) -> None:
    encoder, clip, times = _qwen(tiny), np.zeros((3, 40, 40, 3), np.uint8), np.arange(3.0)
    for bad in (clip.astype(np.float32), clip[0], clip[..., :1], clip[:0], np.zeros((17, 40, 40, 3), np.uint8)):
        with pytest.raises(InputError, match=r"qwen3vl: want uint8 \(n, H, W, 3\) with n from 1 to 16"):
            encoder.extract([bad], [np.arange(float(len(bad)))])
    for bad in (times[:2], times[::-1], np.array([0, 1, np.nan])):
        with pytest.raises(InputError, match="want 3 finite, increasing times"):
            encoder.extract([clip], [bad])
    with pytest.raises(InputError, match="got 1 clips and 2 rows"):
        encoder.extract([clip], [times, times])
    with pytest.raises(InputError, match="min_pixels <= max_pixels"):
        _qwen(tiny, max_pixels=10)


def test_qwen_loads_without_a_word(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _qwen(tiny).extract([np.zeros((2, 40, 40, 3), np.uint8)], [np.arange(2.0)])
    assert capfd.readouterr() == ("", "")


def test_qwen_refuses_a_checkpoint_with_a_hole(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "qwen3vl-tiny", tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.language_model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"1 missing_keys, the first .*layers\.1\.mlp\.up_proj"):
        qwen3vl.load(tmp_path, **CPU, setting="visual", **PIXELS)


def test_checkpoints_that_do_not_read(tiny: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        return shutil.copytree(tiny / name, tmp_path / f"copy{len(list(tmp_path.iterdir()))}")

    def refused(load: Callable[[Path], object], folder: Path, message: str) -> None:
        with pytest.raises(WeightsError, match=message):
            load(folder)

    def qwen(folder: Path) -> object:
        return qwen3vl.load(folder, **CPU, setting="visual", **PIXELS)

    def wav(folder: Path) -> object:
        return wavlm.load(folder, **CPU)

    for load, name, said in ((qwen, "qwen3vl-tiny", "does not load"), (wav, "wavlm-tiny", "are damaged")):
        cut = copy(name) / "model.safetensors"
        cut.write_bytes(cut.read_bytes()[:9000])
        refused(load, cut.parent, f"{said} .*; fetch")
        halved = copy(name) / "config.json"
        halved.write_text('{"model_type": ')
        refused(load, halved.parent, r"config\.json is damaged")
    junk = copy("wavlm-tiny")
    (junk / "model.safetensors").unlink()
    (junk / "pytorch_model.bin").write_bytes(b"junk")
    refused(wav, junk, "are damaged")
    refused(qwen, tmp_path / "nowhere", r"qwen3vl: no .*nowhere.config\.json; fetch")
    refused(qwen, tiny / "wavlm-tiny", "want a Qwen3-VL checkpoint, got model_type 'wavlm'")
    refused(wav, tiny / "qwen3vl-tiny", "want a WavLM checkpoint, got model_type 'qwen3_vl'")


def test_published_prompt_is_one_line() -> None:
    prompt = qwen3vl.published_prompt()
    assert "\n" not in prompt
    assert prompt.startswith("You are an expert in multimodal affect analysis.")
    assert "mixed or ambiguous affect" in prompt
    assert prompt.endswith("always end with a period.")


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
