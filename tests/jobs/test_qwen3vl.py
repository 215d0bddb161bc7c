"""Qwen3-VL: six embeddings and a description of every clip, whatever stands beside it, as the library's own classes give them."""

import shutil
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from clips import write
from safetensors.torch import load_file, save_file

from affpipe.core.axis import FrameAxis, segments
from affpipe.core.errors import InputError, WeightsError
from affpipe.data.manifest import Row
from affpipe.encoders.qwen3vl import network as qwen3vl
from affpipe.encoders.qwen3vl import worker
from affpipe.encoders.qwen3vl.network import EMBEDDINGS, Behaviour
from affpipe.encoders.qwen3vl.spec import QWEN3VL
from affpipe.encoders.running import half
from affpipe.encoders.tiny_weights import make_tiny
from affpipe.media.picture import decode
from affpipe.plan.config import overlay, parse
from affpipe.plan.plan import Plan
from affpipe.store import streams
from affpipe.store.item_streams import Job
from affpipe.store.streams import Stream

ROOT = Path(__file__).resolve().parents[2]
CPU = {"device": torch.device("cpu"), "dtype": torch.float32}
PIXELS = {"min_pixels": 32 * 32, "max_pixels": 64 * 64}
PROMPT = "How do they feel?"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make_tiny(out := tmp_path_factory.mktemp("weights"))
    return out


@pytest.fixture(scope="module")
def clips() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Clips of different lengths, sizes and rates, one frame and odd counts among them; the last: the first's shape, a longer text."""
    rng = np.random.default_rng(3)
    shapes = [(16, 48, 80), (5, 90, 60), (1, 36, 64), (16, 48, 80), (4, 30, 200), (16, 48, 80)]
    frames = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    return frames, [100.0 + np.arange(len(clip)) * step for clip, step in zip(frames, (0.25, 0.1, 1, 0.04, 0.5, 20), strict=True)]


def _load(tiny: Path, **settings) -> qwen3vl.Qwen3VL:
    return qwen3vl.load(tiny / "qwen3vl-tiny", **(CPU | {"prompt": PROMPT} | PIXELS | settings))


def _stacked(found: Behaviour) -> np.ndarray:
    """(6, N, D)."""
    return np.stack(found[:6])


def _alone(encoder: qwen3vl.Qwen3VL, clips) -> np.ndarray:
    return np.concatenate([_stacked(encoder.extract([clip], [times])) for clip, times in zip(*clips, strict=True)], axis=1)


def test_the_stream_offers_what_the_encoder_gives() -> None:
    assert ("values", *EMBEDDINGS[1:]) == QWEN3VL.offers
    assert EMBEDDINGS[0] == "multimodal_last"


def test_published_prompt_is_one_line() -> None:
    prompt = qwen3vl.published_prompt()
    assert "\n" not in prompt
    assert prompt.startswith("You are an expert in multimodal affect analysis.")
    assert "mixed or ambiguous affect" in prompt
    assert prompt.endswith("always end with a period.")


# --- thinning and grouping ----------------------------------------------------------------------------------------------------------


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


def test_alike_by_hand() -> None:
    assert qwen3vl.alike("abacaab", 3) == [[0, 2, 4], [5], [1, 6], [3]]
    assert qwen3vl.alike("", 3) == []


def test_pool_by_hand() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [8.0]], [[4.0], [4.0], [1.0]]])
    seen = torch.tensor([[True, True, False], [False, True, True]])
    want = [[8, 1], [4, 3], [(26 / 3) ** 0.5, 2**0.5], [3, 1], [2, 2.5], [1, 1.5]]
    np.testing.assert_allclose(qwen3vl.pool(hidden, seen)[..., 0], want, rtol=1e-6)
    one = qwen3vl.pool(hidden[:, :1], seen[:1, :1].expand(2, 1))[..., 0]
    assert one.tolist() == [[1, 4], [1, 4], [0, 0]] * 2


def test_pool_adds_up_in_float32() -> None:
    """In bfloat16 a sum of ones stays at 256."""
    ones = torch.ones(1, 5000, 2, dtype=torch.bfloat16)
    mean = qwen3vl.pool(ones, torch.ones(1, 5000, dtype=torch.bool))
    assert mean.dtype == torch.float32
    assert mean[1].tolist() == mean[4].tolist() == [[1.0, 1.0]]
    assert mean[[2, 5]].abs().max() == 0


# --- embeddings ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [2, 3, 6])
def test_rows_are_independent_of_the_batch(tiny: Path, clips, batch_size: int) -> None:
    encoder = _load(tiny, batch_size=batch_size)
    alone = _alone(encoder, clips)
    assert alone.shape == (6, 6, encoder.dim)
    assert alone.dtype == np.float32
    assert np.abs(alone[:, 0] - alone[:, 3]).max(axis=1).min() > 0.01  # rows do differ
    np.testing.assert_allclose(_stacked(encoder.extract(*clips)), alone, atol=1e-5)
    np.testing.assert_allclose(_stacked(encoder.extract(clips[0][::-1], clips[1][::-1])), alone[:, ::-1], atol=1e-5)


def test_several_threads_may_call_it_at_the_same_time(tiny: Path, clips) -> None:
    encoder = _load(tiny, description_tokens=3)
    work = [([clip], [times]) for clip, times in zip(*clips, strict=True)]
    alone = [encoder.extract(*clip) for clip in work]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda clip: encoder.extract(*clip), work))
    np.testing.assert_array_equal(*(np.stack([_stacked(found) for found in each]) for each in (alone, together)))
    assert [found.descriptions for found in alone] == [found.descriptions for found in together]


def test_what_runs_together_is_of_one_size(tiny: Path, clips, monkeypatch: pytest.MonkeyPatch) -> None:
    """No padding: the first and the fourth clip alone have shape and length of text in common."""
    encoder, batches = _load(tiny, batch_size=8), []
    forward = encoder.model.forward

    def spy(**inputs):
        assert inputs["attention_mask"].all()
        batches.append(len(inputs["input_ids"]))
        return forward(**inputs)

    monkeypatch.setattr(encoder.model, "forward", spy)
    encoder.extract(*clips)
    assert batches == [2, 1, 1, 1, 1]


def test_nothing_comes_of_nothing(tiny: Path) -> None:
    encoder = _load(tiny)
    found = encoder.extract([], [])
    assert _stacked(found).shape == (6, 0, encoder.dim)
    assert found.descriptions == []


def _inputs_by_hand(encoder: qwen3vl.Qwen3VL, frames: np.ndarray) -> dict[str, torch.Tensor]:
    """The chat spelled out: 48 x 80 rounds to 64 x 64 (half to even), 2 x 2 tokens for each of 8 pairs of frames, with its mean time."""
    pairs = "".join(f"<{0.125 + 0.5 * i:.1f} seconds><|vision_start|>{'<|video_pad|>' * 4}<|vision_end|>" for i in range(8))
    chat = f"<|im_start|>user\n{pairs}{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
    tokens = torch.tensor([encoder.processor.tokenizer(chat)["input_ids"]])
    video = torch.from_numpy(frames).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(video, size=(64, 64), mode="bicubic", antialias=True)  # 8-bit arithmetic
    # Patches: pairs of frames, 2 x 2 blocks of 2 x 2 patches of 16 x 16 pixels, [-1, 1].
    split = (resized / 127.5 - 1).reshape(8, 2, 3, 2, 2, 16, 2, 2, 16)
    patches = split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(8 * 16, -1)
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "mm_token_type_ids": 2 * (tokens == encoder.processor.video_token_id),
        "pixel_values_videos": patches,
        "video_grid_thw": torch.tensor([[8, 4, 4]]),
    }


def _whole(tiny: Path) -> qwen3vl.Qwen3VLForConditionalGeneration:
    return qwen3vl.Qwen3VLForConditionalGeneration.from_pretrained(tiny / "qwen3vl-tiny", dtype=torch.float32).eval()


def test_the_library_called_by_hand_gives_the_same(tiny: Path, clips) -> None:
    """Chat, tokens and patches made here, through the library's own generation class, pooled in plain numpy."""
    encoder = _load(tiny)
    inputs = _inputs_by_hand(encoder, clips[0][0])
    with torch.inference_mode():
        hidden = _whole(tiny)(**inputs, output_hidden_states=True).hidden_states[-1][0].numpy().astype(np.float64)
    seen = hidden[inputs["input_ids"][0].numpy() == encoder.processor.video_token_id]
    assert len(seen) == 32
    want = {
        f"{setting}_{name}": value
        for setting, rows in (("multimodal", hidden), ("visual", seen))
        for name, value in {
            "last": rows[-1],
            "mean": rows.sum(axis=0) / len(rows),
            "std": np.sqrt(((rows - rows.mean(axis=0)) ** 2).sum(axis=0) / len(rows)),
        }.items()
    }
    found = encoder.extract([clips[0][0]], [clips[1][0]])._asdict()
    for name in EMBEDDINGS:
        np.testing.assert_allclose(found[name][0], want[name], atol=1e-5, err_msg=name)


def test_marks_in_place_of_the_video_s_tokens(tiny: Path, clips) -> None:
    """`visual_last` is the row of the last end-of-vision mark, behind the last video token; mean and deviation are of the marks alone."""
    encoder = _load(tiny, visual_tokens="marks")
    inputs = _inputs_by_hand(encoder, clips[0][0])
    tokens = inputs["input_ids"][0].tolist()
    start, end = encoder.processor.tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>"])
    last = max(i for i, token in enumerate(tokens) if token == end)
    assert tokens[last - 1] == encoder.processor.video_token_id
    assert last == max(i for i, token in enumerate(tokens) if token == encoder.processor.video_token_id) + 1
    with torch.inference_mode():
        hidden = _whole(tiny)(**inputs, output_hidden_states=True).hidden_states[-1][0].numpy().astype(np.float64)
    marks = np.stack([hidden[i] for i, token in enumerate(tokens) if token in (start, end)])
    assert len(marks) == 2 * 8  # two a pair of frames
    found, usual = (e.extract([clips[0][0]], [clips[1][0]]) for e in (encoder, _load(tiny)))
    np.testing.assert_allclose(found.visual_last[0], hidden[last], atol=1e-5)
    np.testing.assert_allclose(found.visual_mean[0], marks.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.visual_std[0], marks.std(axis=0), atol=1e-5)
    for name in EMBEDDINGS:
        same = np.array_equal(found._asdict()[name], usual._asdict()[name])
        assert same == name.startswith("multimodal"), name


def test_marks_hang_on_no_other_clip(tiny: Path, clips) -> None:
    encoder = _load(tiny, visual_tokens="marks", batch_size=3)
    np.testing.assert_allclose(_stacked(encoder.extract(*clips)), _alone(encoder, clips), atol=1e-5)


def test_only_what_is_multimodal_has_read_the_prompt(tiny: Path, clips) -> None:
    one, two = (_stacked(_load(tiny, prompt=p).extract(clips[0][:1], clips[1][:1])) for p in ("A", "Something else entirely, and longer."))
    np.testing.assert_allclose(one[3:], two[3:], atol=1e-5)
    assert np.abs(one[:3] - two[:3]).max(axis=(1, 2)).min() > 0.01


def test_every_frame_and_relative_time_count(tiny: Path, clips) -> None:
    encoder = _load(tiny)
    frames, times = clips[0][0], clips[1][0]
    changed = []
    for i in range(16):
        changed.append(frames.copy())
        changed[-1][i] = 255 - changed[-1][i]
    found = _stacked(encoder.extract([frames] * 3, [times, times + 1000, times[0] + 4 * (times - times[0])]))
    same, shifted, slower = found.transpose(1, 0, 2)
    np.testing.assert_allclose(shifted, same, atol=1e-5)
    assert (np.abs(slower - same).max(axis=1) > 1e-3).all()
    each = _stacked(encoder.extract(changed, [times] * 16))
    assert (np.abs(each - same[:, None]).max(axis=2) > 1e-4).all()


def test_one_frame_has_one_token(tiny: Path) -> None:
    found = _load(tiny).extract([np.full((1, 32, 32, 3), 80, np.uint8)], [np.zeros(1)])
    np.testing.assert_array_equal(found.visual_last, found.visual_mean)
    assert (found.visual_std == 0).all()


def test_bfloat16_is_close(tiny: Path, clips) -> None:
    whole, half = _stacked(_load(tiny).extract(*clips)), _stacked(_load(tiny, dtype=torch.bfloat16).extract(*clips))
    assert half.dtype == np.float32
    cosine = (whole * half).sum(axis=2) / np.linalg.norm(whole, axis=2) / np.linalg.norm(half, axis=2)
    assert cosine.min() > 0.999


def test_values_are_bounded_by_the_final_norm(tiny: Path, clips) -> None:
    """Whatever the layers do: a thousandfold residual stream leaves values within sqrt(D) times the norm's largest weight."""
    encoder = _load(tiny)
    norm = encoder.model.language_model.norm
    bound = encoder.dim**0.5 * norm.weight.abs().max().item()
    norm.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 1e6,))
    found = _stacked(encoder.extract(*clips))
    assert 0.2 * bound < np.abs(found).max() <= bound * (1 + 1e-5)


@pytest.mark.parametrize("shape", [(16, 360, 640), (15, 640, 360), (2, 100, 100), (1, 720, 1280), (7, 60, 400)])
def test_the_pixel_cap_is_kept(tiny: Path, shape: tuple[int, int, int]) -> None:
    encoder = _load(tiny, min_pixels=32 * 32, max_pixels=10 * 32 * 32)
    inputs = encoder._inputs(np.zeros((*shape, 3), np.uint8), np.arange(shape[0]) / 4)
    pairs, rows, columns = inputs["video_grid_thw"][0].tolist()
    assert pairs == (shape[0] + 1) // 2
    assert 1 <= rows * columns // 4 <= 10
    assert (inputs["input_ids"] == encoder.processor.video_token_id).sum() == pairs * rows * columns // 4


@pytest.mark.parametrize("shape", [(16, 360, 640), (1, 333, 517), (5, 64, 64), (2, 31, 40)])
def test_patches_are_those_of_the_library_to_the_bit(tiny: Path, shape: tuple[int, int, int]) -> None:
    """Resized here, before the library has sorted colours."""
    encoder = _load(tiny, min_pixels=20 * 32 * 32, max_pixels=40 * 32 * 32)
    clip = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    got = encoder._inputs(clip, np.arange(len(clip)) / 4)
    pair = clip.repeat(2, axis=0) if len(clip) == 1 else clip
    size = {"shortest_edge": encoder.min_pixels * len(pair), "longest_edge": encoder.max_pixels * len(pair)}
    want = encoder.processor.video_processor([pair], do_sample_frames=False, size=size, cap_pixels_per_frame=False, return_tensors="pt")
    for name in ("pixel_values_videos", "video_grid_thw"):
        assert torch.equal(got[name], want[name])


def test_other_input_is_refused(tiny: Path) -> None:
    encoder, clip, times = _load(tiny), np.zeros((3, 40, 40, 3), np.uint8), np.arange(3.0)
    for bad in (clip.astype(np.float32), clip[0], clip[..., :1], clip[:0], np.zeros((17, 40, 40, 3), np.uint8)):
        with pytest.raises(InputError, match=r"qwen3vl: want uint8 \(n, H, W, 3\) with n from 1 to 16"):
            encoder.extract([bad], [np.arange(float(len(bad)))])
    for bad in (np.zeros((1, 801, 4, 3), np.uint8), np.zeros((1, 4, 801, 3), np.uint8)):  # 200 times are the processor's limit
        with pytest.raises(InputError, match=r"qwen3vl: want pictures at most 200 times as long as wide, got (4x801|801x4); cut the video"):
            encoder.extract([bad], [np.zeros(1)])
    for bad in (times[:2], times[::-1], np.array([0, 1, np.nan])):
        with pytest.raises(InputError, match="want 3 finite, increasing times"):
            encoder.extract([clip], [bad])
    with pytest.raises(InputError, match="got 1 clips and 2 rows"):
        encoder.extract([clip], [times, times])
    with pytest.raises(InputError, match="min_pixels <= max_pixels"):
        _load(tiny, max_pixels=10)


# --- descriptions -------------------------------------------------------------------------------------------------------------------


def test_descriptions_are_the_librarys_greedy_ones(tiny: Path, clips) -> None:
    encoder = _load(tiny, description_tokens=9, batch_size=4)
    inputs = _inputs_by_hand(encoder, clips[0][0])
    with torch.inference_mode():
        said = _whole(tiny).generate(**inputs, do_sample=False, max_new_tokens=9, pad_token_id=0)
    words = said[0, inputs["input_ids"].shape[1] :]
    assert len(words) == 9
    found = encoder.extract(*clips)
    assert found.descriptions[0] == encoder.processor.tokenizer.decode(words, skip_special_tokens=True).strip() != ""
    assert len(set(found.descriptions)) > 3  # of six clips
    alone = [encoder.extract([clip], [times]).descriptions[0] for clip, times in zip(*clips, strict=True)]
    assert found.descriptions == alone
    np.testing.assert_allclose(_stacked(found), _stacked(_load(tiny).extract(*clips)), atol=1e-5)


def test_a_description_stops_where_the_turn_ends(tiny: Path, clips) -> None:
    encoder = _load(tiny, description_tokens=9)
    first = clips[0][:1], clips[1][:1]
    said: list[int] = []
    encoder.head.register_forward_hook(lambda module, inputs, out: said.append(int(out.argmax())))
    encoder.extract(*first)
    assert len(said) == 9
    stop = next(i for i, word in enumerate(said) if i and word not in said[:i])
    encoder.ends = {said[stop]}
    assert encoder.extract(*first).descriptions == [encoder.processor.tokenizer.decode(said[:stop], skip_special_tokens=True).strip()]
    assert len(said) == 9 + stop + 1
    assert encoder.processor.tokenizer.convert_ids_to_tokens(sorted(_load(tiny).ends)) == ["<|endoftext|>", "<|im_end|>"]


def test_without_descriptions_the_head_is_not_kept(tiny: Path, clips) -> None:
    encoder = _load(tiny)
    assert encoder.head is None
    assert encoder.extract(*clips).descriptions == [""] * 6


# --- checkpoints --------------------------------------------------------------------------------------------------------------------


def test_loading_says_nothing(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _load(tiny, description_tokens=2).extract([np.zeros((2, 40, 40, 3), np.uint8)], [np.arange(2.0)])
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_with_a_hole_is_refused(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "qwen3vl-tiny", tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.language_model.layers.0.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"1 missing_keys, the first .*layers\.0\.mlp\.up_proj"):
        qwen3vl.load(tmp_path, **CPU, **PIXELS)


# --- the stage ----------------------------------------------------------------------------------------------------------------------

FPS, FRAMES = 25, 120


@pytest.fixture
def plan(tiny: Path, tmp_path: Path) -> Plan:
    write(tmp_path / "a.mp4", count=FRAMES, fps=FPS)
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    section = {"length_s": 2, "hop_s": 1, "frames": 4, "describe": True, "description_tokens": 5, **PIXELS}
    given = {"cache": str(tmp_path / "cache"), "weights": str(tiny), "features": {"qwen3vl": section}}
    settings = parse(overlay(yaml.safe_load((ROOT / "config.yaml").read_text()), given))
    return Plan(settings, [Row("a", tmp_path / "a.mp4", "largest", "predict")])


def _worked(plan: Plan, batch_size: int) -> Job:
    section = plan.settings.features["qwen3vl"].model_copy(update={"batch_size": batch_size})
    plan.settings.features["qwen3vl"] = section
    (item,) = plan.items("qwen3vl")
    axis, frames = _axis(), plan.job("frames", item)
    streams.write(
        frames.path,
        frames.header(axis.fps),
        values=np.full((FRAMES, 1), 1 / FPS),
        start_s=axis.times_s,
        end_s=axis.ends_s,
        valid=np.ones(FRAMES, bool),
    )
    job = plan.job("qwen3vl", item)
    worker.qwen3vl(plan.context("qwen3vl"))(job)
    return job


def _axis() -> FrameAxis:
    return FrameAxis(np.arange(FRAMES) / FPS, FPS)


def test_the_stream_holds_every_embedding_and_the_text(plan: Plan, tiny: Path) -> None:
    job = _worked(plan, batch_size=3)
    s = plan.settings.features["qwen3vl"]
    axis = _axis()
    cut = segments(axis.start_s, axis.end_s, length_s=s.length_s, hop_s=s.hop_s)
    video = {index: image for index, _, image in decode.frames(job.video)}
    first = [[int(i) for i in np.flatnonzero((axis.times_s >= a) & (axis.times_s < b))] for a, b in cut]
    picks = [[own[i] for i in qwen3vl.thin(len(own), count=4)] for own in first]
    encoder = _load(tiny, prompt=None, description_tokens=5)
    want = encoder.extract([np.stack([video[i] for i in pick]) for pick in picks], [axis.times_s[pick] for pick in picks])
    with Stream(job.path) as stream:
        assert len(stream) == len(cut) > 3
        np.testing.assert_array_equal(stream.start_s, cut[:, 0])
        np.testing.assert_array_equal(stream.end_s, cut[:, 1])
        assert stream.valid.all()
        assert stream.attributes["random"] == ["qwen3vl-tiny"]
        for name, values in zip(QWEN3VL.offers, want[:6], strict=True):
            rows = stream.rows(name)
            assert rows.dtype == np.float16
            np.testing.assert_allclose(rows, values, rtol=2e-3, atol=1e-3, err_msg=name)
        assert [stream.blob("description", i).decode() for i in range(len(cut))] == want.descriptions


def test_the_stage_pools_what_the_setting_says(plan: Plan) -> None:
    streams = []
    for tokens in ("video", "marks"):
        plan.settings.features["qwen3vl"] = plan.settings.features["qwen3vl"].model_copy(update={"visual_tokens": tokens})
        plan.key.cache_clear()
        plan.context.cache_clear()
        with Stream(_worked(plan, batch_size=3).path) as stream:
            streams.append({name: stream.rows(name) for name in QWEN3VL.offers} | {"key": stream.attributes["key"]})
    one, other = streams
    assert one.pop("key") != other.pop("key")
    for name in one:
        assert np.array_equal(one[name], other[name]) == (not name.startswith("visual")), name


def test_a_value_beyond_float16_names_the_video() -> None:
    job = SimpleNamespace(name="behaviour", item=SimpleNamespace(id="clip7"))
    good = np.array([[65504.0, -1e-3]], np.float32)
    assert half(job, "visual_std", good).tolist() == [[65504.0, np.float16(-1e-3)]]
    for bad in (7e4, np.inf, np.nan):
        with pytest.raises(WeightsError, match=r"behaviour: clip7: want visual_std finite and within 65504, got (70000|inf|nan); fetch"):
            half(job, "visual_std", np.array([[1.0, bad]], np.float32))


def test_frames_are_let_go_when_no_later_segment_wants_them() -> None:
    """Of 40 s of video at most two segments' frames live at once: the one being cut and what the next shares with it."""
    axis = FrameAxis(np.arange(1000) / FPS, FPS)
    alive: list[weakref.ref] = []
    most = 0

    def fake(wanted: np.ndarray) -> Iterator[tuple[int, float, np.ndarray]]:
        nonlocal most
        for index in wanted.tolist():
            image = np.full((2, 2, 3), index % 256, np.uint8)
            alive.append(weakref.ref(image))
            most = max(most, sum(ref() is not None for ref in alive))
            yield index, index / FPS, image

    cut = segments(axis.start_s, axis.end_s, length_s=4.0, hop_s=2.0)
    got = list(worker._clips(fake, axis, cut, 16))
    assert len(got) == len(cut) == 19
    assert all(clip.shape == (16, 2, 2, 3) for clip, _ in got)
    for (clip, times), (start, _) in zip(got, cut, strict=True):
        np.testing.assert_array_equal(clip[:, 0, 0, 0], np.rint(times * FPS).astype(int) % 256)
        assert times[0] == start
    assert most <= 2 * 16


def test_a_segment_within_a_gap_gets_the_frame_before_it() -> None:
    def see(wanted: np.ndarray) -> Iterator[tuple[int, float, np.ndarray]]:
        return ((i, 0.0, np.full((1, 1, 3), i, np.uint8)) for i in wanted.tolist())

    axis = FrameAxis(np.array([0.0, 1.0, 2.0, 9.0, 9.5]), 1)
    got = list(worker._clips(see, axis, np.array([[0.0, 2.5], [3.0, 5.0], [5.0, 9.2], [9.2, 12.0]]), 16))
    assert [clip[:, 0, 0, 0].tolist() for clip, _ in got] == [[0, 1, 2], [2], [3], [4]]
    assert [times.tolist() for _, times in got] == [[0.0, 1.0, 2.0], [2.0], [9.0], [9.5]]
