"""Behaviour embedding of video segments by Qwen3-VL: one forward pass over the frames and a prompt, one hidden state kept.

Source: Team RAS, sec. 3.2 and Figure 2, whose prompt is behaviour_prompt.txt: a parameter of the published system, quoted as it stands in
the paper ("mixed or ambiguous"; the published code has "mixed/ambiguous"). A clip is the uniformly thinned frames of one segment.

- multimodal: the last hidden layer at the last token of the chat (video, prompt, generation prompt).
- visual: the last hidden layer at the last video token. Attention is causal, so it has seen all frames and none of the prompt. The
  published code takes the mark that ends the video, one token later, which is a text token.

Departures. The published code cuts 4 s files and samples 4 frames a second by file position; here the frames come with their timestamps,
and those, counted from the clip's first frame, are what the prompt shows. It resizes twice, to multiples of 28 and then of 32 pixels, each
frame between 100352 and 602112 pixels; here once, to multiples of 32, with the bounds as settings. transformers 5 leaves a second pair of
vision marks round the whole video, which neither the model's training nor transformers 4 had; it is taken off before tokenisation.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from affpipe.compat import ensure_torchvision, quiet_transformers
from affpipe.encoders.specs import QWEN3VL
from affpipe.errors import InputError, WeightsError
from affpipe.weights.files import UNREADABLE, first_line, read_json

ensure_torchvision()

from transformers import AutoProcessor, Qwen3VLForConditionalGeneration  # noqa: E402
from transformers.video_utils import VideoMetadata  # noqa: E402

FRAMES = 16  # in a clip, at most
SIDE = 32  # pixels: one video token covers 32 x 32 of them, in two frames

Setting = Literal["multimodal", "visual"]


def published_prompt() -> str:
    """The prompt of Figure 2."""
    return resources.files("affpipe.encoders").joinpath("behaviour_prompt.txt").read_text(encoding="utf-8").strip()


def thin(n: int, *, count: int = FRAMES) -> np.ndarray:
    """Indices of at most `count` of n frames, evenly spaced, first and last included (of several, rounded half to even).

    (min(n, count),) int64, strictly increasing; one alone is the middle frame.
    """
    if n < 0 or count < 1:
        raise InputError(f"thin: want n >= 0 and count >= 1, got n={n}, count={count}")
    if n <= count:
        return np.arange(n)
    if count == 1:
        return np.array([n // 2])
    return np.rint(np.linspace(0, n - 1, count)).astype(np.int64)


class Qwen3VL:
    """The encoder; `dim` is the width of its embeddings."""

    spec = QWEN3VL

    def __init__(
        self,
        model: Qwen3VLForConditionalGeneration,
        processor: AutoProcessor,
        *,
        device: torch.device,
        setting: Setting,
        min_pixels: int,
        max_pixels: int,
        prompt: str,
        batch_size: int = 4,
    ):
        """Bounds are pixels of one frame after resizing to multiples of 32; no side gets shorter than 32, whatever the upper one says."""
        if not SIDE**2 <= min_pixels <= max_pixels:
            raise InputError(f"{self.spec.name}: want {SIDE**2} <= min_pixels <= max_pixels, got {min_pixels} and {max_pixels}")
        # The language-model head, a tenth of the weights, is not needed for hidden states.
        self.model = model.model.eval().to(device)
        self.processor = processor
        self.device, self.setting, self.batch_size = device, setting, batch_size
        self.min_pixels, self.max_pixels = min_pixels, max_pixels
        self.dim: int = model.config.text_config.hidden_size
        self.text = self._chat(prompt)

    def extract(self, clips: Sequence[np.ndarray], times_s: Sequence[np.ndarray]) -> np.ndarray:
        """Embed N clips as (N, dim) float32, in order.

        Args:
            clips: each (n, H, W, 3) uint8 RGB with 1 to 16 frames; n, H and W may differ between clips.
            times_s: each (n,) seconds of those frames, increasing; only differences count.

        Raises InputError for anything else.
        """
        if len(clips) != len(times_s):
            raise InputError(f"{self.spec.name}: want times for every clip, got {len(clips)} clips and {len(times_s)} rows of times")
        for clip, times in zip(clips, times_s, strict=True):
            self._check(clip, times)
        out = np.empty((len(clips), self.dim), np.float32)
        for i in range(0, len(clips), self.batch_size):
            batch = slice(i, i + self.batch_size)
            rows = [self._inputs(clip, times) for clip, times in zip(clips[batch], times_s[batch], strict=True)]
            out[batch] = self._embed(rows)
        return out

    def _check(self, clip: np.ndarray, times: np.ndarray) -> None:
        if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[3] != 3 or not 1 <= len(clip) <= FRAMES or 0 in clip.shape:
            raise InputError(
                f"{self.spec.name}: want uint8 (n, H, W, 3) with n from 1 to {FRAMES}, got {clip.dtype} {clip.shape}; thin the frames first"
            )
        if times.shape != (len(clip),) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise InputError(f"{self.spec.name}: want {len(clip)} finite, increasing times, got {times.shape} {times}")

    def _chat(self, prompt: str) -> str:
        """The chat as text, the whole video standing as one pad token without vision marks of its own."""
        turn = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": prompt}]}
        text = self.processor.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
        p = self.processor
        return text.replace(f"{p.vision_start_token}{p.video_token}{p.vision_end_token}", p.video_token, 1)

    def _inputs(self, clip: np.ndarray, times: np.ndarray) -> dict[str, Tensor]:
        """Tokens and patches of one clip, alone: what else is in the batch has no part in it."""
        if len(clip) == 1:  # a token spans two frames
            clip, times = clip.repeat(2, axis=0), times.repeat(2)
        # One "frame a second" makes the index of a frame its time.
        seconds = VideoMetadata(total_num_frames=len(clip), fps=1.0, frames_indices=(times - times[0]).tolist())
        return self.processor(
            text=[self.text],
            videos=[clip],
            video_metadata=[seconds],
            do_sample_frames=False,
            size={"shortest_edge": self.min_pixels * len(clip), "longest_edge": self.max_pixels * len(clip)},
            cap_pixels_per_frame=False,
            device=self.device,
            return_tensors="pt",
        )

    @torch.inference_mode()
    def _embed(self, rows: list[dict[str, Tensor]]) -> np.ndarray:
        def padded(key: str) -> Tensor:  # on the right, where causal attention never looks back from
            return pad_sequence([row[key][0] for row in rows], batch_first=True).to(self.device)  # (B, L)

        tokens, present = padded("input_ids"), padded("attention_mask")
        hidden = self.model(
            input_ids=tokens,
            attention_mask=present,
            mm_token_type_ids=padded("mm_token_type_ids"),
            pixel_values_videos=torch.cat([row["pixel_values_videos"] for row in rows]).to(self.device, self.model.dtype),
            video_grid_thw=torch.cat([row["video_grid_thw"] for row in rows]).to(self.device),
            use_cache=False,
        ).last_hidden_state  # (B, L, D)
        counts = present if self.setting == "multimodal" else tokens == self.processor.video_token_id
        place = torch.arange(tokens.shape[1], device=self.device)
        last = torch.where(counts.bool(), place, -1).amax(dim=1)  # (B,)
        return hidden[torch.arange(len(rows), device=self.device), last].float().cpu().numpy()


def load(
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    setting: Setting,
    min_pixels: int,
    max_pixels: int,
    prompt: str | None = None,
    batch_size: int = 4,
) -> Qwen3VL:
    """The encoder with the weights in a local folder; prompt None is the published one. bfloat16 on a GPU, float32 on a CPU.

    Raises WeightsError where the folder is no whole Qwen3-VL checkpoint.
    """
    remedy = "fetch the weights again, or correct the path"
    kind = read_json(QWEN3VL.name, folder / "config.json").get("model_type")
    if kind != "qwen3_vl":
        raise WeightsError(f"{QWEN3VL.name}: {folder}: want a Qwen3-VL checkpoint, got model_type {kind!r}; correct the path")
    try:
        with quiet_transformers():
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model, report = Qwen3VLForConditionalGeneration.from_pretrained(
                folder, local_files_only=True, dtype=dtype, output_loading_info=True
            )
    except UNREADABLE as error:
        raise WeightsError(f"{QWEN3VL.name}: {folder} does not load ({first_line(error)}); {remedy}") from error
    for fault, keys in report.items():
        if keys:
            raise WeightsError(f"{QWEN3VL.name}: {folder}: {len(keys)} {fault}, the first {min(map(str, keys))}; {remedy}")
    return Qwen3VL(
        model,
        processor,
        device=device,
        setting=setting,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        prompt=published_prompt() if prompt is None else prompt,
        batch_size=batch_size,
    )
