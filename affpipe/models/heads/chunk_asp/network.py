"""Chunk-wise attentive statistics pooling: one prediction for each second of an audio window.

After "Team RAS in 10th ABAW Competition", sec. 3.3. The rows of a window are cut into equal temporal chunks. Each chunk is pooled to a
weighted mean and a weighted standard deviation (attentive statistics pooling, Okabe et al., 2018: one weight per row). A shared head of
norm, dropout and linear layers predicts each chunk. Ours: the presence mask. The GELU between the two linear layers and the dropout after
the scorer's tanh are the public code's. The last layer of its scorer has no bias, which a softmax ignores. It adds the floor to the
variance; here the floor is a minimum.

Cut `equal`: chunk i holds rows [i·n, (i+1)·n) with n = ceil(F / chunks). Rows are evenly spaced in time, so the borders are too, and the
last chunk takes the rest. WavLM returns 199 rows for 4 s, since the convolutions drop the tail that does not fill a row (20 ms). Then n =
50, the borders are at exactly 1, 2 and 3 s, and the last chunk has 49 rows. Cut `rounded` is the public code's: the borders are i·F /
chunks, rounded half to even, which gives 50, 50, 49 and 50 rows.
Shapes: B windows, F rows a window, C chunks, D input width, H hidden width, O outputs.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affpipe.core.errors import InputError
from affpipe.core.tensors import check_stream, keep

Cut = Literal["equal", "rounded"]
VARIANCE_FLOOR = 1e-6  # below it the standard deviation is constant: the square root has no finite slope at zero


class AttentiveStatistics(nn.Module):
    """Weighted mean and standard deviation over the present rows of a set."""

    def __init__(self, dim: int, *, hidden: int, dropout: float = 0.0):
        super().__init__()
        bounded = nn.Sequential(nn.Tanh(), nn.Dropout(dropout))  # one part, so that no setting changes the names of the weights
        self.score = nn.Sequential(nn.Linear(dim, hidden), bounded, nn.Linear(hidden, 1))

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Map (..., F, D), (..., F) bool to (..., 2 D): mean, then standard deviation."""
        scores = self.score(x).squeeze(-1)  # (..., F)
        # finfo.min, not -inf: softmax over a set with nothing present would be NaN.
        weights = scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(dim=-1).unsqueeze(-1)  # (..., F, 1)
        mean = (weights * x).sum(dim=-2)  # (..., D)
        variance = (weights * (x - mean.unsqueeze(-2)).square()).sum(dim=-2)
        return torch.cat((mean, variance.clamp(min=VARIANCE_FLOOR).sqrt()), dim=-1)


class ChunkHead(nn.Module):
    """Head that pools the rows of each chunk and predicts it with layers that all chunks share."""

    def __init__(
        self,
        dim: int,
        *,
        chunks: int = 4,
        cut: Cut = "equal",
        hidden: int,
        attention_hidden: int,
        attention_dropout: float = 0.0,
        dropout: float,
        outputs: int = 2,
    ):
        super().__init__()
        self.dim, self.chunks, self.cut = dim, chunks, cut
        self.pool = AttentiveStatistics(dim, hidden=attention_hidden, dropout=attention_dropout)
        self.embed = nn.Sequential(nn.LayerNorm(2 * dim), nn.Dropout(dropout), nn.Linear(2 * dim, hidden), nn.GELU())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, outputs))

    def forward(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Predict every chunk.

        Args:
            x: (B, F, D); values in absent rows change nothing.
            present: (B, F) bool.

        Returns:
            prediction: (B, C, O), unbounded, zero in chunks without a present row.
            embedding: (B, C, H), zero in chunks without a present row.

        Raises InputError if F rows leave a chunk empty.
        """
        check_stream("ChunkHead", x, present, self.dim)
        counts = self._rows(x.shape[1])
        x, present = _chunks(keep(x, present), counts), _chunks(present, counts)  # (B, F, D) -> (B, C, n, D), (B, F) -> (B, C, n)
        any_present = present.any(dim=-1)  # (B, C)
        embedding = keep(self.embed(self.pool(x, present)), any_present)  # (B, C, 2 D) -> (B, C, H)
        return keep(self.head(embedding), any_present), embedding

    def _rows(self, rows: int) -> list[int]:
        """Return the number of rows of each chunk of a window; InputError if one has none."""
        if self.cut == "equal":
            n = math.ceil(rows / self.chunks)
            borders = [min(i * n, rows) for i in range(self.chunks + 1)]
        else:
            borders = [round(i * rows / self.chunks) for i in range(self.chunks + 1)]
        counts = [b - a for a, b in pairwise(borders)]
        if 0 in counts:
            want = f"{self.chunks} {self.cut} chunks"
            raise InputError(f"ChunkHead: want rows that fill {want}, got {rows}; use a longer window or fewer chunks")
        return counts


def _chunks(x: Tensor, counts: list[int]) -> Tensor:
    """Cut (B, F, ...) into chunks of `counts` rows: (B, C, n, ...), n the largest; shorter chunks are padded with zeros."""
    n, beside = max(counts), (0, 0) * (x.ndim - 2)
    return torch.stack([F.pad(part, (*beside, 0, n - part.shape[1])) for part in x.split(counts, dim=1)], dim=1)
