"""Behaviour embeddings of video segments by Qwen3-VL: one forward pass over the frames and a prompt, six vectors kept.

Source: Team RAS, sec. 3.2 and Figure 2. Its prompt is behaviour_prompt.txt: a parameter of the published system, quoted as it stands in the
paper ("mixed or ambiguous"; the published code has "mixed/ambiguous"). A clip is the uniformly thinned frames of one segment.

Both settings of the paper come from the last hidden layer of that pass, after its final norm:

- multimodal: all tokens of the chat (video, prompt, generation prompt). "last" is the paper's embedding.
- visual: the video tokens. Attention is causal: they have seen the frames and none of the prompt. "last" is the last one of them.

"mean" and "std" (of the population) are taken over the same tokens, in float32 whatever the network's precision.

The published code looks for visual tokens by name. It finds the marks that open and close each pair of frames, since its tokenizer has no
name for the video tokens between them. With `marks` these marks are pooled as visual: "last" is the mark that ends the last pair, a text
token one place after the last video token; "mean" and "std" are taken over the marks alone (that code sums in bfloat16 and adds 1e-6 to the
variance).

Clips of one shape run together, and among these only rows with equally many tokens (the timestamps are part of the text). So nothing is
padded, and a row depends on its own clip alone. The norm bounds every value by sqrt(D) times its largest weight. So the huge activations
inside such models never get out, and the results fit into float16 unless the weights are damaged.

Descriptions, if wanted, continue from the keys and values of the same pass. They are greedy, where the checkpoint's own settings would draw
words at random. They are made one clip at a time, since in half precision the size of a batch can change the choice of a word.

Departures. The published code cuts 4 s files and samples 4 frames a second by file position; here the frames come with their timestamps,
and the prompt shows these, counted from the clip's first frame. It resizes twice, to multiples of 28 and then of 32 pixels, each frame
between 100352 and 602112 pixels; here frames are resized once, to multiples of 32, with the bounds as settings. transformers 5 leaves a
second pair of vision marks round the whole video, which neither the model's training nor transformers 4 had; it is removed before
tokenisation.
"""

import threading
from collections.abc import Hashable, Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from affpipe.core.errors import InputError, WeightsError
from affpipe.system.compat import ensure_torchvision, quiet_transformers
from affpipe.system.standins import TRANSFORMERS, lightly
from affpipe.system.weights.declared_sizes import numbers, stored, unfilled
from affpipe.system.weights.reading import UNREADABLE, first_line, read_json

ensure_torchvision()
lightly("transformers.models.qwen3_vl.modeling_qwen3_vl", TRANSFORMERS)

from transformers import AutoProcessor, Cache, Qwen3VLConfig, Qwen3VLForConditionalGeneration  # noqa: E402
from transformers.image_utils import SizeDict  # noqa: E402
from transformers.video_utils import VideoMetadata  # noqa: E402

NAME = "qwen3vl"  # in settings and messages

VisualTokens = Literal["video", "marks"]
FRAMES = 16  # most frames in a clip
THINNEST = 200  # largest ratio of the sides: the processor refuses a longer picture
SIDE = 32  # pixels: one video token covers 32 x 32 pixels of two frames
LACKING = 2  # a checkpoint with at least half of its numbers is loaded, so that the error can name what it lacks
ENDS = ("<|im_end|>", "<|endoftext|>")  # either ends a turn


class Behaviour(NamedTuple):
    """Outputs for N clips, in order: six embeddings (N, D) float32, and N descriptions, empty if none were wanted."""

    multimodal_last: np.ndarray
    multimodal_mean: np.ndarray
    multimodal_std: np.ndarray
    visual_last: np.ndarray
    visual_mean: np.ndarray
    visual_std: np.ndarray
    descriptions: list[str]


EMBEDDINGS = Behaviour._fields[:6]


def published_prompt() -> str:
    """Return the prompt of Figure 2."""
    return resources.files("affpipe.encoders.qwen3vl").joinpath("behaviour_prompt.txt").read_text(encoding="utf-8").strip()


def thin(n: int, *, count: int = FRAMES) -> np.ndarray:
    """Return the indices of at most `count` of n frames, evenly spaced, first and last included (of several, rounded half to even).

    The result is (min(n, count),) int64, strictly increasing. A single one is the middle frame.
    """
    if n < 0 or count < 1:
        raise InputError(f"thin: want n >= 0 and count >= 1, got n={n}, count={count}")
    if n <= count:
        return np.arange(n)
    if count == 1:
        return np.array([n // 2])
    return np.rint(np.linspace(0, n - 1, count)).astype(np.int64)


def pool(hidden: Tensor, seen: Tensor) -> Tensor:
    """Compute last, mean and standard deviation over all tokens, then over the visual ones, in the order of `EMBEDDINGS`.

    Args:
        hidden: (B, L, D) of any precision, without padding.
        seen: (B, L) bool, True for visual tokens, equally many in each row.

    Returns:
        (6, B, D) float32.
    """
    hidden = hidden.float()
    pooled = []
    for tokens in (hidden, hidden[seen].unflatten(0, (len(hidden), -1))):  # (B, L, D), (B, V, D)
        std, mean = torch.std_mean(tokens, dim=1, correction=0)
        pooled += [tokens[:, -1], mean, std]
    return torch.stack(pooled)


def alike(keys: Iterable[Hashable], size: int) -> list[list[int]]:
    """Group indices with equal keys, at most `size` in a group. Every index occurs once, in order within its key."""
    groups: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    return [group[i : i + size] for group in groups.values() for i in range(0, len(group), size)]


class Qwen3VL:
    """Qwen3-VL encoder; `dim` is the width of its embeddings. Several threads may call it at the same time."""

    def __init__(
        self,
        model: Qwen3VLForConditionalGeneration,
        processor: AutoProcessor,
        *,
        device: torch.device,
        min_pixels: int,
        max_pixels: int,
        prompt: str,
        description_tokens: int = 0,
        visual_tokens: VisualTokens = "video",
        batch_size: int = 4,
    ):
        """Take over a model and its processor.

        Args:
            min_pixels, max_pixels: bounds on the pixels of one frame after resizing to multiples of 32. No side gets shorter than 32,
                whatever the upper bound.
            description_tokens: most tokens of a description. Above 0, clips are also described.
        """
        if not SIDE**2 <= min_pixels <= max_pixels:
            raise InputError(f"{NAME}: want {SIDE**2} <= min_pixels <= max_pixels, got {min_pixels} and {max_pixels}")
        self.model = model.model.eval().to(device)
        # Kept only to give words: hidden states do not need it. If not tied to the input embedding, it is a tenth of the weights.
        self.head = model.lm_head.eval().to(device) if description_tokens else None
        self.processor = processor
        self.device, self.description_tokens, self.batch_size = device, description_tokens, batch_size
        self.min_pixels, self.max_pixels = min_pixels, max_pixels
        self.dim: int = model.config.text_config.hidden_size
        self.text = self._chat(prompt)
        p = processor
        visual = {"video": [p.video_token_id], "marks": [p.vision_start_token_id, p.vision_end_token_id]}[visual_tokens]
        self.visual = torch.tensor(visual, device=device)
        self.ends = set(processor.tokenizer.convert_tokens_to_ids(ENDS))
        self._alone = threading.Lock()  # tokenizers and networks of transformers are not thread-safe

    @torch.inference_mode()
    def extract(self, clips: Sequence[np.ndarray], times_s: Sequence[np.ndarray]) -> Behaviour:
        """Embed N clips, in order, and describe them if wanted.

        Args:
            clips: each (n, H, W, 3) uint8 RGB with 1 to 16 frames; n, H and W may differ between clips.
            times_s: each (n,) seconds of those frames, increasing; only differences count.

        Raises InputError for anything else.
        """
        if len(clips) != len(times_s):
            raise InputError(f"{NAME}: want times for every clip, got {len(clips)} clips and {len(times_s)} rows of times")
        for clip, times in zip(clips, times_s, strict=True):
            self._check(clip, times)
        pooled = np.empty((len(EMBEDDINGS), len(clips), self.dim), np.float32)
        texts = [""] * len(clips)
        with self._alone:
            for group in alike([clip.shape for clip in clips], self.batch_size):
                rows = [self._inputs(clips[i], times_s[i]) for i in group]
                for same in alike([row["input_ids"].shape[1] for row in rows], self.batch_size if self.head is None else 1):
                    hidden, seen, cache = self.forward([rows[j] for j in same])
                    places = [group[j] for j in same]
                    pooled[:, places] = pool(hidden, seen).cpu()
                    if self.head is not None:
                        texts[places[0]] = self._describe(hidden, cache)
        return Behaviour(*pooled, texts)

    def forward(self, rows: Sequence[dict[str, Tensor]]) -> tuple[Tensor, Tensor, Cache | None]:
        """Return the last hidden layer (B, L, D), which of its tokens are visual (B, L), and, for a description, keys and values."""

        def batch(key: str) -> Tensor:
            return torch.cat([row[key] for row in rows]).to(self.device)

        tokens = batch("input_ids")  # (B, L): rows of one length
        out = self.model(
            input_ids=tokens,
            attention_mask=batch("attention_mask"),
            mm_token_type_ids=batch("mm_token_type_ids"),
            pixel_values_videos=batch("pixel_values_videos").to(self.model.dtype),
            video_grid_thw=batch("video_grid_thw"),
            use_cache=self.head is not None,
        )
        return out.last_hidden_state, torch.isin(tokens, self.visual), out.past_key_values

    def _describe(self, hidden: Tensor, cache: Cache) -> str:
        """Generate the network's answer to the chat whose (1, L, D) hidden states, keys and values are given."""
        said: list[int] = []
        while len(said) < self.description_tokens:
            if said:
                token = torch.tensor([said[-1:]], device=self.device)
                hidden = self.model(input_ids=token, past_key_values=cache, use_cache=True).last_hidden_state
            word = int(self.head(hidden[:, -1]).argmax())
            if word in self.ends:
                break
            said.append(word)
        return self.processor.tokenizer.decode(said, skip_special_tokens=True).strip()

    def _check(self, clip: np.ndarray, times: np.ndarray) -> None:
        if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[3] != 3 or not 1 <= len(clip) <= FRAMES or 0 in clip.shape:
            raise InputError(
                f"{NAME}: want uint8 (n, H, W, 3) with n from 1 to {FRAMES}, got {clip.dtype} {clip.shape}; thin the frames first"
            )
        height, width = clip.shape[1:3]
        if max(height, width) > THINNEST * min(height, width):
            long = f"at most {THINNEST} times as long as wide"
            raise InputError(f"{NAME}: want pictures {long}, got {width}x{height}; cut the video, or leave behaviour out for it")
        if times.shape != (len(clip),) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise InputError(f"{NAME}: want {len(clip)} finite, increasing times, got {times.shape} {times}")

    def _chat(self, prompt: str) -> str:
        """Render the chat as text. The whole video is one pad token without vision marks of its own."""
        turn = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": prompt}]}
        text = self.processor.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
        p = self.processor
        return text.replace(f"{p.vision_start_token}{p.video_token}{p.vision_end_token}", p.video_token, 1)

    def _inputs(self, clip: np.ndarray, times: np.ndarray) -> dict[str, Tensor]:
        """Prepare the tokens and patches of one clip, independently of the other clips in the batch."""
        if len(clip) == 1:  # a token spans two frames
            clip, times = clip.repeat(2, axis=0), times.repeat(2)
        # With one "frame a second" the index of a frame is its time.
        seconds = VideoMetadata(total_num_frames=len(clip), fps=1.0, frames_indices=(times - times[0]).tolist())
        return self.processor(
            text=[self.text],
            videos=[self._resized(torch.from_numpy(clip).to(self.device))],
            video_metadata=[seconds],
            do_sample_frames=False,
            do_resize=False,
            cap_pixels_per_frame=False,
            device=self.device,
            return_tensors="pt",
        )

    def _resized(self, clip: Tensor) -> Tensor:
        """Resize (n, H, W, 3) uint8 to (n, 3, h, w) within the bounds, with the processor's own function.

        The processor would first separate the colours. The bytes are the same, but pixels with their colours side by side take half of the
        time.
        """
        processor = self.processor.video_processor
        size = SizeDict(shortest_edge=self.min_pixels * len(clip), longest_edge=self.max_pixels * len(clip))
        sides = {"factor": SIDE, "temporal_factor": processor.temporal_patch_size}
        return processor.resize(clip.permute(0, 3, 1, 2)[None], size=size, resample=processor.resample, **sides)[0]


def _check_sizes(folder: Path) -> None:
    """Raise ValueError if the configuration asks for more numbers or layers than the files have. transformers would make them up."""
    have = stored(sorted(folder.glob("*.safetensors")))
    config = Qwen3VLConfig.from_pretrained(folder, local_files_only=True)
    try:
        with unfilled(len(have)):
            model = Qwen3VLForConditionalGeneration(config)
    except (LookupError, TypeError, ArithmeticError, AttributeError) as error:
        raise ValueError(f"sizes that make no network: {first_line(error)}") from None
    model.tie_weights()
    if (declared := numbers(p.shape for p in model.parameters())) > LACKING * (there := numbers(have.values())):  # tied ones once
        raise ValueError(f"{declared} numbers declared, {there} there")


def load(
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    min_pixels: int,
    max_pixels: int,
    prompt: str | None = None,
    description_tokens: int = 0,
    visual_tokens: VisualTokens = "video",
    batch_size: int = 4,
) -> Qwen3VL:
    """Load the encoder with the weights in a local folder; prompt None is the published one. bfloat16 on a GPU, float32 on a CPU.

    Raises WeightsError if the folder is no whole Qwen3-VL checkpoint.
    """
    remedy = "fetch the weights again, or correct the path"
    kind = read_json(NAME, folder / "config.json").get("model_type")
    if kind != "qwen3_vl":
        raise WeightsError(f"{NAME}: {folder}: want a Qwen3-VL checkpoint, got model_type {kind!r}; correct the path")
    try:
        with quiet_transformers():
            _check_sizes(folder)
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model, report = Qwen3VLForConditionalGeneration.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=dtype, output_loading_info=True
            )
    except UNREADABLE as error:
        raise WeightsError(f"{NAME}: {folder} does not load ({first_line(error)}); {remedy}") from error
    for fault, keys in report.items():
        if keys:
            raise WeightsError(f"{NAME}: {folder}: {len(keys)} {fault}, the first {min(map(str, keys))}; {remedy}")
    return Qwen3VL(
        model,
        processor,
        device=device,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        prompt=published_prompt() if prompt is None else prompt,
        description_tokens=description_tokens,
        visual_tokens=visual_tokens,
        batch_size=batch_size,
    )
